"""Errors survive the way between processes and say everything on one line."""

from __future__ import annotations

import pickle

import pytest

from bouton.errors import BoutonError, DataError, RunError, SpecError


@pytest.mark.parametrize(("kind", "status"), [(BoutonError, 1), (SpecError, 2), (DataError, 3), (RunError, 4)])
def test_text_status_and_pickle(kind: type[BoutonError], status: int) -> None:
    error = kind("dtype\n float64", where="em.zarr", expected="uint8", fix="convert it")
    assert str(error) == "em.zarr: dtype float64; expected uint8; way out: convert it"
    assert error.exit_code == status
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
