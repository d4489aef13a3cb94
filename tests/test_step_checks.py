"""What a step reads against what its stage accepts: numbers of channels."""

from pathlib import Path

import numpy as np
import pytest

import bouton
from bouton.engine import run_workflow
from bouton.errors import DataError, SpecError
from bouton.spec import Choices, load_workflow
from bouton.stage import Layer
from bouton.step_checks import check_layer

FLOW = """
name: flow
block_zyx: [4, 8, 8]
data: {evidence: {path: evidence.npy, voxel_size_nm: [30, 10, 10]}}
steps:
  clefts: {stage: clefts, reads: {synapse_evidence: evidence}, params: {min_volume_nm3: 0, gap_nm: 20}}
"""


def write(folder: Path, evidence: np.ndarray) -> Path:
    np.save(folder / "evidence.npy", evidence)
    (folder / "flow.yaml").write_text(FLOW)
    return folder / "flow.yaml"


@pytest.mark.parametrize("channels", [None, 1, 4])
def test_a_run_takes_each_number_of_channels(channels, tmp_path: Path) -> None:
    cleft = np.zeros((6, 12, 20), np.uint8)
    cleft[2:5, 3:10, 6:9] = 200
    evidence = cleft if channels is None else np.stack([cleft] + [255 - cleft] * (channels - 1))
    run = run_workflow(load_workflow(write(tmp_path, evidence)), tmp_path / "runs", "serial")
    found = bouton.open_run(run.folder)
    assert np.array_equal(found.volume("clefts")[...] > 0, cleft > 0)
    assert found.table("clefts.candidates")["size_voxels"].tolist() == [63]
    assert found.table("clefts.cleft_sizes")["id"].tolist() == [2 * 240 + 3 * 20 + 6 + 1]


def test_another_number_is_refused_with_what_would_do(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        load_workflow(write(tmp_path, np.zeros((3, 6, 12, 20), np.uint8)))
    text = str(error.value)
    assert "4-D array of shape (3, 6, 12, 20) as probability" in text
    assert "a 3-D array (z, y, x) or a 4-D array (1, z, y, x) or a 4-D array (4, z, y, x)" in text
    assert "\n" not in text


def test_layers_of_steps() -> None:
    wanted = Layer("uint8", channels=(None, 1, 4), kind="probability")
    for channels in (None, 1, 4):
        check_layer(Layer("uint8", channels=channels), wanted, "here")
    with pytest.raises(SpecError, match=r"channels: 3; expected no channels, 1 or 4 channels"):
        check_layer(Layer("uint8", channels=3), Layer("uint8", channels=(None, 1, 4)), "")
    with pytest.raises(SpecError, match="channels: none; expected 1 channel;"):
        check_layer(Layer("uint8"), Layer("uint8", channels=1), "")
    with pytest.raises(SpecError, match=r"channels: 4; expected a \(z, y, x\) volume without channels"):
        check_layer(Layer("uint8", channels=4), Layer("uint8"), "")


def test_parts_that_a_parameter_leaves_out_make_no_task(tmp_path: Path) -> None:
    """The rule about areas needs three more parts."""
    evidence = np.zeros((6, 12, 20), np.uint8)
    evidence[2:5, 3:10, 6:9] = 200
    evidence[0, 0, 0] = 255
    path, found = write(tmp_path, evidence), {}
    for area in ("0", "200"):
        choices = Choices(overrides=[f"steps.clefts.params.min_section_area_nm2={area}"])
        run = bouton.open_run(run_workflow(load_workflow(path, choices), tmp_path / "runs" / area, "serial").folder)
        step = run.folder / "clefts" / next(p.name for p in (run.folder / "clefts").iterdir())
        found[area] = {p.name for p in step.iterdir()}, run.table("clefts.candidates")["removed_by"].tolist()
    assert found["200"][0] - found["0"][0] >= {"_kept", "_section_parts", "_deleted", "_deleted_rows"}
    assert not any("section" in name for name in found["0"][0])
    assert found["0"][1] == ["", ""]
    assert found["200"][1] == ["section_area", ""]
