"""``bouton evaluate --skeletons``: hand-counted, with a mapping, a box, and without a truth volume."""

import json

import numpy as np
import pytest

from bouton.cli.evaluate import command
from bouton.errors import DataError, SpecError
from bouton.volume import write_table
from cli.calling import call

SCORED = ("segmentation", "skeletons")


def scores(*arguments):
    found = json.loads(call(command, *arguments, "--json"))
    return {kind: {row["metric"]: row["value"] for row in found[kind]} for kind in SCORED if kind in found}


@pytest.fixture
def files(tmp_path):
    # two neurons along x: the upper cut in the middle, the lower whole; voxels of 10 nm
    seg = np.zeros((2, 4, 20), np.uint64)
    seg[:, :2, :10], seg[:, :2, 10:], seg[:, 2:] = 5, 6, 7
    np.save(tmp_path / "seg.npy", seg)
    truth = np.ones_like(seg)
    truth[:, 2:] = 2
    np.save(tmp_path / "truth.npy", truth)
    folder = tmp_path / "tracings"
    folder.mkdir()
    for number, y in ((1, 5.0), (2, 35.0)):
        rows = [f"{i} 0 {10 * i + 5} {y} 5 1 {i - 1 if i else -1}" for i in range(20)]
        (folder / f"{number}.swc").write_text("\n".join(rows))
    write_table(
        tmp_path / "cut.parquet", {"id": np.array([6], np.uint64), "root": np.array([5], np.uint64)},
        {"id": "uint64", "root": "uint64"},
    )  # fmt: skip
    return tmp_path


def test_skeletons_alone_with_a_mapping_and_in_a_box(files):
    options = ("--segmentation", files / "seg.npy", "--voxel-size-nm", "10,10,10", "--skeletons", files / "tracings")
    found = scores(*options)
    assert list(found) == ["skeletons"]
    assert found["skeletons"]["erl_tolerance_0"] == pytest.approx((2 * 90**2 + 190**2) / 380)
    assert (found["skeletons"]["splits"], found["skeletons"]["merges_tolerance_0"]) == (1, 0)
    whole = scores(*options, "--mapping", files / "cut.parquet")["skeletons"]
    assert (whole["nerl_tolerance_0"], whole["splits"], whole["merge_rate_tolerance_0"]) == (1.0, 0, None)
    both = scores(*options, "--truth", files / "truth.npy", "--bounds-zyx", "0:2,0:2,0:20")
    assert {"segmentation", "skeletons"} <= set(both)
    assert both["skeletons"]["skeletons"] == 1
    shown = call(command, *options)
    assert "correct length around a random point" in shown


def test_what_does_not_fit_is_named(files):
    options = ("--segmentation", files / "seg.npy", "--skeletons", files / "tracings")
    with pytest.raises(SpecError, match="voxel-size-nm"):
        call(command, *options)
    with pytest.raises(SpecError, match="--skeletons without --segmentation"):
        call(command, "--skeletons", files / "tracings", "--synapses", "a", "--truth-synapses", "b")
    with pytest.raises(DataError, match="swc-unit-nm"):
        call(command, *options, "--voxel-size-nm", "10,10,10", "--swc-unit-nm", 1000)
