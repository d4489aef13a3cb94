"""Which way a file from elsewhere comes in: ONNX, a zip of the BioImage Model Zoo, or not at all."""

from __future__ import annotations

import zipfile
from pathlib import Path

from bouton.errors import DataError
from bouton.learn.card import PICKLE_SUFFIXES, is_pickle, missing, pickled
from bouton.learn.exchange_bioimage import import_bioimage
from bouton.learn.exchange_onnx import Given, import_onnx


def import_file(path: str | Path, given: Given) -> dict[str, bytes]:
    """Return the files of the model's folder that a file becomes: name -> bytes.

    Raises
    ------
    DataError
        The file is missing, damaged, a pickle or something else that bouton does not open.
    SpecError
        A package is not installed, or something must be given.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise missing(path, error) from None
    zipped = path.suffix == ".zip" or zipfile.is_zipfile(path)
    if path.suffix in PICKLE_SUFFIXES or (is_pickle(data[:16]) and not zipped):
        raise pickled(path)
    if zipped:
        return import_bioimage(path, given)
    if path.suffix in {".h5", ".hdf5", ".keras"}:
        raise DataError(
            "a Keras file, which can hold code", where=str(path), expected="ONNX, or a zip of the BioImage Model Zoo",
            fix="whoever trusts it may export it to ONNX; then import that",
        )  # fmt: skip
    return import_onnx(data, path, given)
