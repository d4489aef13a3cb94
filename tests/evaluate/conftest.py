"""Real labels, where they are at hand."""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("BOUTON_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")


@pytest.fixture
def data_folder():
    """The folder of the real data sets."""
    if not DATA.is_dir():
        pytest.skip(f"no real data in {DATA}; set BOUTON_DATA")
    return DATA


@pytest.fixture
def fib25_labels(data_folder):
    """Read labels of FIB-25, sections 120 to 159, by name."""
    path = data_folder / "fib25_ts2" / "volume.h5"
    if not path.is_file():
        pytest.skip(f"no {path}")
    import h5py

    def read(name):
        with h5py.File(path) as file:
            return file[f"volumes/labels/{name}"][120:160]

    return read
