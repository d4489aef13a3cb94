"""The BioImage Model Zoo (https://bioimage.io, doi:10.1101/2022.06.07.495102) out and in.

An export is a zip with ``rdf.yaml`` (format 0.5), the network as ONNX, a test image with what the network makes of it,
and the model's own two files as attachments, from which :func:`import_bioimage` restores it byte for byte. Of foreign
models only ONNX is taken: the other formats of weights are pickles or code. Nothing is ever fetched from the network.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bouton.errors import DataError, SpecError
from bouton.geometry import NM, ZYX
from bouton.learn.card import CARD, WEIGHTS, Card, parse_card
from bouton.learn.exchange_onnx import IMAGE, OPSET, PROBABILITIES, Given, import_onnx, onnx_bytes
from bouton.learn.info import ModelInfo
from bouton.learn.package import read_package, weights_of
from bouton.learn.runners import require

WANTED, EXTRA = "bioimageio.spec 0.5.14", "bioimage"
MANIFESTS = ("rdf.yaml", "bioimageio.yaml", "model.yaml")
LARGEST_BYTES = 1 << 31
LARGEST_TEST_VOXELS = 1 << 21
CODE = {
    "pytorch_state_dict": "a pickle, which can run any code when it is opened, and a network given as Python",
    "torchscript": "an archive that holds code, and pickles",
    "keras_hdf5": "a file that can hold code",
    "keras_v3": "a file that can hold code",
    "tensorflow_js": "no format that bouton runs",
    "tensorflow_saved_model_bundle": "a format that can hold code",
}
NM_PER = {"nanometer": 1.0, "micrometer": 1e3, "millimeter": 1e6, "angstrom": 0.1}


def export_bioimage(folder: str | Path) -> bytes:
    """Return the zip that the model in ``folder`` becomes in the BioImage Model Zoo.

    Raises
    ------
    SpecError
        bioimageio.spec or onnx is not installed.
    DataError
        The model is damaged or an ONNX graph, or its card says what the zoo does not take.
    """
    require("bioimageio", WANTED, EXTRA)
    import pydantic

    card, data = read_package(folder)
    graph = onnx_bytes(folder)
    image, expected = _test_tensors(folder, card.prediction)
    files = {
        "network.onnx": graph, WEIGHTS: data, CARD: (Path(folder) / CARD).read_bytes(),
        "README.md": _readme(card).encode(), "image.npy": _npy(image), "probabilities.npy": _npy(expected),
    }  # fmt: skip
    try:
        return _zipped(card, files)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(key) for key in first["loc"]) or "the model"
        raise DataError(
            f"{place}: {first['msg'].splitlines()[0][:120]}", where=str(Path(folder) / CARD),
            expected="what the BioImage Model Zoo takes; a licence by its SPDX name", fix="correct the card",
        ) from None  # fmt: skip


def _zipped(card: Card, files: Mapping[str, bytes]) -> bytes:
    from bioimageio.spec import save_bioimageio_package_to_stream
    from bioimageio.spec.model.v0_5 import FileDescr, LicenseId, ModelDescr, OnnxWeightsDescr, WeightsDescr

    with tempfile.TemporaryDirectory() as name, _quiet():
        place = Path(name)
        for file, data in files.items():
            (place / file).write_bytes(data)
        description = ModelDescr(
            name=f"bouton {card.name}",
            description=card.description[:1024] or card.name,
            license=LicenseId(card.weights.licence),
            documentation=FileDescr(source=place / "README.md"),
            inputs=[_input(card.prediction, place / "image.npy")],
            outputs=[_output(card.prediction, place / "probabilities.npy")],
            weights=WeightsDescr(onnx=OnnxWeightsDescr(source=place / "network.onnx", opset_version=OPSET)),
            attachments=[FileDescr(source=place / CARD), FileDescr(source=place / WEIGHTS)],
            tags=["electron-microscopy", "3d", "connectomics", *card.prediction.heads],
        )
        stream = io.BytesIO()
        save_bioimageio_package_to_stream(description, output_stream=stream, local_files_only=True)
    return stream.getvalue()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep recommendations (covers, authors) from the terminal: what is wrong comes as an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _test_tensors(folder: str | Path, info: ModelInfo) -> tuple[np.ndarray, np.ndarray]:
    """Return an image of noise, uint8 (1, 1, z, y, x), and its probabilities, float32 (1, c, z, y, x)."""
    import torch

    from bouton.learn.model import load_model

    shape = info.tile_zyx if np.prod(info.tile_zyx) <= LARGEST_TEST_VOXELS else info.architecture.multiple
    image = np.random.default_rng(0).integers(0, 256, (1, 1, *shape), np.uint8)
    values = torch.from_numpy((image.astype(np.float32) - info.mean) / info.std)
    with torch.inference_mode():
        logits = load_model(folder).network(values)
    return image, torch.sigmoid(logits / info.temperature).numpy()


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _input(info: ModelInfo, test: Path) -> Any:
    from bioimageio.spec.model import v0_5 as zoo

    sizes = [
        zoo.ParameterizedSize(min=m, step=m)
        if np.prod(info.tile_zyx) > LARGEST_TEST_VOXELS
        else zoo.ParameterizedSize(min=t, step=m)
        for t, m in zip(info.tile_zyx, info.architecture.multiple, strict=True)
    ]
    space = [
        zoo.SpaceInputAxis(id=zoo.AxisId(name), size=size, unit="nanometer", scale=nm)
        for name, size, nm in zip("zyx", sizes, info.voxel_size_nm, strict=True)
    ]
    fixed = zoo.FixedZeroMeanUnitVarianceKwargs(mean=info.mean, std=info.std)
    number = zoo.EnsureDtypeDescr(kwargs=zoo.EnsureDtypeKwargs(dtype="float32"))
    return zoo.InputTensorDescr(
        id=zoo.TensorId(IMAGE),
        axes=[zoo.BatchAxis(), zoo.ChannelAxis(channel_names=[zoo.Identifier("em")]), *space],
        data=zoo.IntervalOrRatioDataDescr(type="uint8", range=(0, 255)),
        test_tensor=zoo.FileDescr(source=test),
        preprocessing=[number, zoo.FixedZeroMeanUnitVarianceDescr(kwargs=fixed), number],
    )


def _output(info: ModelInfo, test: Path) -> Any:
    from bioimageio.spec.model import v0_5 as zoo

    names = [f"{head}_{channel}" for head, count in info.heads.items() for channel in range(count)]
    space = [
        zoo.SpaceOutputAxis(
            id=zoo.AxisId(name),
            size=zoo.SizeReference(tensor_id=zoo.TensorId(IMAGE), axis_id=zoo.AxisId(name)),
            unit="nanometer",
            scale=nm,
        )
        for name, nm in zip("zyx", info.voxel_size_nm, strict=True)
    ]
    return zoo.OutputTensorDescr(
        id=zoo.TensorId(PROBABILITIES),
        axes=[zoo.BatchAxis(), zoo.ChannelAxis(channel_names=[zoo.Identifier(name) for name in names]), *space],
        data=zoo.IntervalOrRatioDataDescr(type="float32", range=(0, 1)),
        test_tensor=zoo.FileDescr(source=test),
    )


def _readme(card: Card) -> str:
    scores = [f"- {score.data}: {score.what} {score.value:g} (`{score.command}`)" for score in card.scores]
    parts = [f"# {card.name}", card.description, "# Limits", card.limits or "None stated.", "# Validation", *scores]
    return "\n\n".join([*parts, *card.notes]) + "\n"


def import_bioimage(path: str | Path, given: Given) -> dict[str, bytes]:
    """Return the files of the model's folder that a zip of the BioImage Model Zoo becomes: name -> bytes.

    An export of bouton's comes back as it was. What a foreign description says of voxel size, tile and normalisation
    is taken where ``given`` says nothing.

    Raises
    ------
    DataError
        It is no such zip, or holds no weights that bouton can open without running code.
    SpecError
        bioimageio.spec or onnx is not installed, or something must be given.
    """
    path = Path(path)
    files = _unzipped(path)
    if CARD in files and WEIGHTS in files:
        return _own(files, path)
    model = _description(files, path)
    entry = model.weights.onnx
    if entry is None:
        held = [name for name in CODE if getattr(model.weights, name, None) is not None]
        what = ", ".join(f"{name} ({CODE[name]})" for name in held)
        raise DataError(
            f"weights only as {what or 'nothing'}", where=str(path), expected="weights as ONNX, which run no code",
            fix="whoever trusts the model may convert it to ONNX; then import that",
        )  # fmt: skip
    if entry.external_data is not None:
        raise DataError("ONNX with its weights in a second file", where=str(path), expected="one ONNX file")
    data = _part(files, entry, path)
    return import_onnx(data, f"{path}/{Path(str(entry.source)).name}", _told(model, given, path))


def _unzipped(path: Path) -> dict[str, bytes]:
    """Return the files of a zip: name -> bytes. None is written anywhere, so names that lead out of it do no harm."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            if size > LARGEST_BYTES:
                raise DataError(f"a zip of {size} bytes", where=str(path), expected=f"at most {LARGEST_BYTES}")
            files = {entry.filename: archive.read(entry) for entry in archive.infolist() if not entry.is_dir()}
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise DataError(f"no zip, or a damaged one ({error})", where=str(path), expected="a model's zip") from None
    if not any(name in files for name in MANIFESTS):
        pickled = any(name.endswith((".pkl", "data.pkl")) for name in files)
        raise DataError(
            "a zip of torch.save, a pickle: bouton never opens one" if pickled else "a zip without rdf.yaml",
            where=str(path), expected="a package of the BioImage Model Zoo", fix="import an ONNX file instead",
        )  # fmt: skip
    return files


def _own(files: Mapping[str, bytes], path: Path) -> dict[str, bytes]:
    card = parse_card(files[CARD], f"{path}/{CARD}")
    if hashlib.sha256(files[WEIGHTS]).hexdigest() != card.weights.sha256:
        raise DataError(
            f"an export of bouton's whose {WEIGHTS} is not the one in {CARD}", where=str(path),
            expected=f"weights of SHA-256 {card.weights.sha256}", fix="export the model again: bouton model export",
        )  # fmt: skip
    weights_of(card, files[WEIGHTS], f"{path}/{WEIGHTS}")
    return {WEIGHTS: files[WEIGHTS], CARD: files[CARD]}


def _description(files: Mapping[str, bytes], path: Path) -> Any:
    """Return the model's description in the newest format, checked without looking anything up."""
    require("bioimageio", WANTED, EXTRA)
    import yaml
    from bioimageio.spec import InvalidDescr, ValidationContext, build_description
    from bioimageio.spec.model.v0_5 import ModelDescr

    manifest = next(name for name in MANIFESTS if name in files)
    try:
        content = yaml.safe_load(files[manifest])
    except yaml.YAMLError as error:
        raise DataError(f"no valid YAML ({error})", where=f"{path}/{manifest}", expected="YAML") from None
    with _quiet():
        context = ValidationContext(perform_io_checks=False, root=zipfile.ZipFile(path), file_name=manifest)
        found = build_description(
            content if isinstance(content, dict) else {}, context=context, format_version="latest"
        )
    if isinstance(found, InvalidDescr) or not isinstance(found, ModelDescr):
        details = [error.msg for detail in found.validation_summary.details for error in detail.errors]
        reason = (details or ["not a model"])[0].splitlines()[0][:120]
        raise DataError(
            f"no description of a model ({reason})", where=f"{path}/{manifest}",
            expected="a description that bioimageio.spec takes", fix="ask whoever made it",
        )  # fmt: skip
    return found


def _part(files: Mapping[str, bytes], entry: Any, path: Path) -> bytes:
    name = str(getattr(entry.source, "path", entry.source))
    for known, data in files.items():
        if known == name or Path(known).name == Path(name).name:
            if entry.sha256 is not None and hashlib.sha256(data).hexdigest() != str(entry.sha256):
                raise DataError(f"{known} is not the file of its description (SHA-256)", where=str(path))
            return data
    raise DataError(
        f"{name} is not in the zip", where=str(path), expected="a package that holds its weights",
        fix="download the whole package",
    )  # fmt: skip


def _told(model: Any, given: Given, path: Path) -> Given:
    """Return ``given`` with what the description says where it says nothing."""
    if len(model.inputs) != 1:
        raise DataError(f"a model of {len(model.inputs)} inputs", where=str(path), expected="one image")
    axes = {str(axis.id): axis for axis in model.inputs[0].axes}
    if not {"z", "y", "x"} <= axes.keys():
        raise DataError(f"a model with axes {', '.join(axes)}", where=str(path), expected="axes z, y, x: it is not 3-D")
    space = [axes[name] for name in "zyx"]
    mean, std = _normalisation(model.inputs[0].preprocessing, path)
    last = [step.id for output in model.outputs for step in output.postprocessing]
    return replace(
        given,
        description=given.description or str(model.description or model.name),
        licence=given.licence if given.licence != Given.licence else str(model.license or Given.licence),
        voxel_size_nm=given.voxel_size_nm or _voxel_size_nm(space),
        tile_zyx=given.tile_zyx or _sizes(space, "min"),
        multiple=given.multiple or _sizes(space, "step"),
        mean=mean if given.mean is None else given.mean,
        std=std if given.std is None else given.std,
        logits=True if "sigmoid" in last else given.logits,
    )


def _voxel_size_nm(axes: list[Any]) -> NM | None:
    if any(axis.unit not in NM_PER for axis in axes):
        return None
    z, y, x = (axis.scale * NM_PER[axis.unit] for axis in axes)
    return z, y, x


def _sizes(axes: list[Any], part: str) -> ZYX | None:
    sizes = [axis.size if isinstance(axis.size, int) else getattr(axis.size, part, None) for axis in axes]
    if any(size is None for size in sizes):
        return None
    z, y, x = (int(size) for size in sizes if size is not None)
    return z, y, x


def _normalisation(steps: list[Any], path: Path) -> tuple[float | None, float | None]:
    """Return mean and standard deviation that do what the steps do to an image; None where there are none."""
    gain, offset, found = 1.0, 0.0, False
    for step in steps:
        if step.id == "ensure_dtype":
            continue
        kwargs = step.kwargs
        if step.id == "fixed_zero_mean_unit_variance" and hasattr(kwargs, "mean") and not hasattr(kwargs, "axis"):
            scale, shift = 1 / float(kwargs.std), -float(kwargs.mean) / float(kwargs.std)
        elif step.id == "scale_linear" and not getattr(kwargs, "axis", None):
            scale, shift = float(kwargs.gain), float(kwargs.offset)
        else:
            raise SpecError(
                f"preprocessing {step.id}", where=str(path),
                expected="fixed numbers: what depends on the tile makes results depend on tiles",
                fix="export the model with fixed_zero_mean_unit_variance or scale_linear",
            )  # fmt: skip
        gain, offset, found = gain * scale, offset * scale + shift, True
    return (-offset / gain, 1 / gain) if found and gain > 0 else (None, None)
