"""Parameters outside of their range are refused before anything runs."""

from __future__ import annotations

import pytest

from bouton.errors import SpecError
from bouton.stages import agglomeration, fragments, segmentation

WRONG = [
    (fragments, {"low": 0.999}, "low=0.999"),
    (fragments, {"flat": 3.0}, r"flat=3\.0"),
    (agglomeration, {"min_size_voxels": -5}, "min_size_voxels = -5"),
    (agglomeration, {"small_affinity": 7.0}, "small_affinity = 7"),
    (agglomeration, {"twig_faces": -3}, "twig_faces = -3"),
    (agglomeration, {"floor": 1.5}, "floor = 1.5"),
    (agglomeration, {"score": "quantile", "quantile": 0.0}, "quantile 0"),
    (segmentation, {"threshold": 1.5}, "threshold = 1.5"),
    (segmentation, {"dust_voxels": -1}, "dust_voxels = -1"),
]


@pytest.mark.parametrize(("stage", "values", "said"), WRONG)
def test_bad_values_are_named(stage, values, said):
    with pytest.raises(SpecError, match=said):
        stage.Params(**values)
