"""What the viewer is told: x, y, z order, metres, channels, ids as text, small states."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import fake_run
from bouton.errors import DataError
from bouton.geometry import Box
from bouton.view import Place, SynapseLines, chunk_bytes, layer_url, neuroglancer_state, volume_info
from bouton.view.precomputed import chunk_shape
from bouton.volume import create_volume
from bouton.volume.run_folder import Run, open_run
from bouton.volume.run_layers import RunLayer, run_layers

ORIGIN = "http://127.0.0.1:8765"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return open_run(fake_run.whole_run(tmp_path_factory.mktemp("runs") / "demo").folder)


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on a box that does not start at a block."""
    bounds = Box((5, 10, 20), (15, 70, 100))
    return open_run(fake_run.whole_run(tmp_path_factory.mktemp("runs") / "cut", bounds).folder)


def layer_of(run: Run, ref: str) -> RunLayer:
    return next(layer for layer in run_layers(run) if layer.ref == ref)


def shown(run: Run, place: Place | None = None) -> dict[str, dict]:
    state = neuroglancer_state(run, ORIGIN, place or Place())
    return {layer["name"]: layer for layer in state["layers"]}


def test_space_is_xyz_in_metres(run: Run) -> None:
    state = neuroglancer_state(run, ORIGIN)
    assert list(state["dimensions"]) == ["x", "y", "z"]
    np.testing.assert_allclose([state["dimensions"][a][0] for a in "xyz"], [1e-8, 1e-8, 3e-8])
    assert state["position"] == [56.5, 48.5, 10.5]


def test_place_in_nm_becomes_voxels(run: Run) -> None:
    state = neuroglancer_state(run, ORIGIN, Place((315.0, 705.0, 85.0), (2**40 + 3,)))
    assert state["position"] == [8.5, 70.5, 10.5]
    assert shown(run, Place(None, (2**63 + 1,)))["segmentation"]["segments"] == [str(2**63 + 1)]


def test_only_image_segmentation_and_synapses_show_at_first(run: Run) -> None:
    visible = [name for name, layer in shown(run).items() if layer["visible"]]
    assert visible == ["tissue", "segmentation", "synapses"]


def test_kinds_become_layer_types(run: Run) -> None:
    layers = shown(run)
    assert layers["tissue"]["type"] == "image"
    assert layers["segmentation"]["type"] == layers["tissue.neuron_ids"]["type"] == "segmentation"
    assert layers["synapses"]["type"] == "annotation"
    assert "value(2)" in layers["affinities"]["shader"]
    assert layers["synapses"]["linkedSegmentationLayer"] == {"pre": "segmentation", "post": "segmentation"}
    assert layers["tissue.synapses"]["linkedSegmentationLayer"]["pre"] == "tissue.neuron_ids"


def test_state_is_small_plain_json(run: Run) -> None:
    text = json.dumps(neuroglancer_state(run, ORIGIN), allow_nan=False)
    assert len(text) < 10_000


def test_names_are_unique_and_urls_safe(tmp_path: Path) -> None:
    fake = fake_run.whole_run(tmp_path / "demo")
    step = fake.step("both", "lab")
    fake.layer(step, "clefts", "labels", fake_run.cells())
    fake.table(step, "synapses", fake_run.synapses(3), fake_run.SYNAPSE_COLUMNS)
    fake.save()
    names = [layer["name"] for layer in neuroglancer_state(open_run(fake.folder), ORIGIN)["layers"]]
    assert len(names) == len(set(names))
    assert layer_url("step.a/../b") == "/data/steps/step.a%2F..%2Fb"


def test_source_that_is_read_as_labels_is_labels(tmp_path: Path) -> None:
    """Eight bits do not make it an image."""
    fake = fake_run.FakeRun(tmp_path / "demo")
    for name in ("other", "scan"):
        path = tmp_path / name
        volume = create_volume(
            path, shape_zyx=(4, 8, 8), dtype="uint8", voxel_size_nm=(30, 10, 10), block_zyx=(4, 8, 8), kind="labels"
        )
        volume.write(volume.box, np.ones((4, 8, 8), dtype=np.uint8))
        fake.sources[name] = {"path": str(path), "dataset": None, "offset_zyx": [2, 8, 16]}
    fake.step("scores", "evaluate_segmentation", reads={"segmentation": "data:other"})
    fake.save()
    layers = {layer.name: layer for layer in run_layers(open_run(fake.folder))}
    assert (layers["other"].kind, layers["scan"].kind) == ("labels", "image")
    assert layers["other"].bounds == Box((2, 8, 16), (6, 16, 24))


def test_info_turns_axes_round(run: Run) -> None:
    info = volume_info(run, layer_of(run, "affinities.affinities"))
    scale = info["scales"][0]
    assert (info["num_channels"], info["data_type"], info["type"]) == (3, "uint8", "image")
    assert scale["size"] == [112, 96, 20]
    assert scale["resolution"] == [10.0, 10.0, 30.0]
    assert scale["chunk_sizes"] == [[32, 32, 10]]
    assert volume_info(run, layer_of(run, "segmentation.segmentation"))["type"] == "segmentation"


def assemble(run: Run, ref: str) -> np.ndarray:
    """Read a layer as the viewer does: info, then every chunk, x fastest."""
    layer = layer_of(run, ref)
    info = volume_info(run, layer)
    scale = info["scales"][0]
    start, size, step = (np.array(scale[k]) for k in ("voxel_offset", "size", "chunk_sizes"))
    whole = np.zeros((*(start + size), info["num_channels"]), dtype=info["data_type"])
    for corner in np.ndindex(*(-(-size // step[0]))):
        a = start + np.array(corner) * step[0]
        b = np.minimum(a + step[0], start + size)
        name = "_".join(f"{p}-{q}" for p, q in zip(a, b, strict=True))
        data = np.frombuffer(chunk_bytes(run.volume(ref), layer, name), dtype=info["data_type"])
        chunk = data.reshape((*(b - a), info["num_channels"]), order="F")
        whole[a[0] : b[0], a[1] : b[1], a[2] : b[2]] = chunk
    return whole


@pytest.mark.parametrize("ref", ["affinities.affinities", "segmentation.segmentation"])
def test_chunks_hold_the_layer(run: Run, ref: str) -> None:
    found = assemble(run, ref)
    expected = fake_run.cells() if "segmentation" in ref else fake_run.edges(fake_run.cells())
    expected = expected if expected.ndim == 4 else expected[None]
    assert (found == np.einsum("czyx->xyzc", expected)).all()


def test_chunks_of_a_box(cut: Run) -> None:
    found = assemble(cut, "segmentation.segmentation")
    expected = np.zeros_like(fake_run.cells())
    inside = Box((5, 10, 20), (15, 70, 100)).slices
    expected[inside] = fake_run.cells()[inside]
    assert (found[..., 0] == np.einsum("zyx->xyz", expected)[:100, :70, :15]).all()


@pytest.mark.parametrize(
    "name",
    [
        *("", "..", "0-32_0-32", "0-32_0-32_0-10x", "1-33_0-32_0-10", "0-64_0-32_0-10", "0-0_0-32_0-10"),
        *("9-1_0-32_0-10", "112-144_0-32_0-10", "0-32_0-32_20-30", "-32-0_0-32_0-10", "0-32_0-32_0-1٠"),
        "0-32_0-32_0-" + "9" * 30,
    ],
)
def test_no_such_chunk(run: Run, name: str) -> None:
    ref = "affinities.affinities"
    with pytest.raises(DataError, match="chunk"):
        chunk_bytes(run.volume(ref), layer_of(run, ref), name)


@pytest.mark.parametrize(("block", "chunk"), [((96, 128, 250), (48, 64, 50)), ((1, 97, 64), (1, 1, 64))])
def test_chunks_divide_blocks(run: Run, block: tuple, chunk: tuple) -> None:
    layer = layer_of(run, "affinities.affinities")
    assert chunk_shape(RunLayer(**{**vars(layer), "block": block})) == chunk


RECORD = np.dtype([("ends", "<f4", 6), ("score", "<f4"), ("size", "<f4"), ("type", "u1", 2), ("pad", "u1", 2)])


def lines_in(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Decode as the format says: count, records, ids."""
    count = int(np.frombuffer(data[:8], "<u8")[0])
    assert len(data) == 8 + count * (RECORD.itemsize + 8)
    return np.frombuffer(data[8:], RECORD, count), np.frombuffer(data[8 + count * RECORD.itemsize :], "<u8")


def test_lines_lead_from_pre_to_post(run: Run) -> None:
    rows = fake_run.synapses(30)
    lines = SynapseLines.of(run, "synapses.synapses")
    assert lines.info()["spatial"][0]["grid_shape"] == [1, 1, 1]
    records, ids = lines_in(lines.part("spatial0", "0_0_0"))
    order = np.argsort(ids)
    records = records[order]
    assert (ids[order] == rows["id"]).all()
    sizes = {"x": 10, "y": 10, "z": 30}
    expected = [rows[f"{side}_{axis}_nm"] / sizes[axis] for side in ("pre", "post") for axis in "xyz"]
    np.testing.assert_allclose(records["ends"], np.stack(expected, axis=1), rtol=1e-5)
    np.testing.assert_allclose(records["score"], rows["score"], rtol=1e-6)
    assert [["unknown", "excitatory", "inhibitory"][k] for k in records["type"][:, 0]] == rows["type"].tolist()


def test_lines_of_a_segment_and_of_one_synapse(run: Run) -> None:
    rows = fake_run.synapses(30)
    lines = SynapseLines.of(run, "synapses.synapses")
    chosen = rows["pre_id"][0]
    assert (lines_in(lines.part("pre", str(chosen)))[1] == rows["id"][rows["pre_id"] == chosen]).all()
    assert not len(lines_in(lines.part("post", "12345"))[1])
    single = lines.part("by_id", str(rows["id"][4]))
    assert len(single) == RECORD.itemsize + 2 * 12
    assert np.frombuffer(single[-8:], "<u8")[0] == rows["post_id"][4]


def test_no_synapses() -> None:
    lines = SynapseLines(fake_run.synapses(0), fake_run.SHAPE, fake_run.VOXEL_SIZE_NM)
    assert lines.info()["spatial"][0]["limit"] == 1
    assert not len(lines_in(lines.part("spatial0", "0_0_0"))[1])


@pytest.mark.parametrize(
    ("key", "name"),
    [("spatial0", "0"), ("spatial0", "a_b_c"), ("by_id", "1"), ("by_id", "-1"), ("x", "1"), ("pre", "9" * 40)],
)
def test_no_such_part(run: Run, key: str, name: str) -> None:
    with pytest.raises(DataError):
        SynapseLines.of(run, "synapses.synapses").part(key, name)


def test_a_box_is_drawn_and_lines_are_hidden(run: Run) -> None:
    box = Box((2, 10, 20), (8, 40, 60))
    state = neuroglancer_state(run, ORIGIN, Place((150.0, 250.0, 400.0), layers=("tissue",), box=box, lines=False))
    assert [layer["name"] for layer in state["layers"] if layer.get("visible", True)] == ["tissue", "box"]
    (drawn,) = state["layers"][-1]["annotations"]
    assert (drawn["pointA"], drawn["pointB"]) == ([20, 10, 2], [60, 40, 8])
    assert drawn["type"] == "axis_aligned_bounding_box"
    assert state["crossSectionScale"] < neuroglancer_state(run, ORIGIN)["crossSectionScale"]
