"""``bouton evaluate`` on files."""

import json

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from bouton.cli.evaluate import command
from bouton.errors import DataError, SpecError
from bouton.evaluate.contingency import count_pairs
from bouton.evaluate.scores import segmentation_scores
from bouton.geometry import Box
from bouton.volume import create_volume, write_table
from cli.calling import call

SHAPE, SIZE = (20, 40, 50), (30.0, 10.0, 10.0)


def notes(*arguments):
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(command)
    return CliRunner().invoke(app, [str(a) for a in arguments]).stderr.splitlines()


def scores(*arguments):
    found = json.loads(call(command, *arguments, "--json"))
    kinds = [kind for kind in found if not kind.endswith("_errors")]
    return {kind: {row["metric"]: row["value"] for row in found[kind]} for kind in kinds}


def store(path, array):
    volume = create_volume(
        path, shape_zyx=array.shape, dtype="uint64", voxel_size_nm=SIZE, block_zyx=(16, 32, 32), kind="labels"
    )
    for z in range(0, array.shape[0], 16):
        for y in range(0, array.shape[1], 32):
            for x in range(0, array.shape[2], 32):
                box = Box((z, y, x), (z + 16, y + 32, x + 32)) & Box.of_shape(array.shape)
                volume.write(box, array[box.slices])
    return path


@pytest.fixture
def volumes(tmp_path):
    rng = np.random.default_rng(0)
    truth = np.kron(rng.integers(0, 4, (2, 4, 5)), np.ones((10, 10, 10))).astype(np.uint64)
    seg = np.where(rng.random(SHAPE) < 0.9, truth, np.uint64(7))
    arrays = {"truth": truth, "seg": seg}
    return arrays, {name: store(tmp_path / f"{name}.zarr", array) for name, array in arrays.items()}


def synapse_table(path, pre_ids, types):
    n = len(pre_ids)
    columns = {"id": np.arange(1, n + 1, dtype=np.uint64)}
    for prefix, y in (("", 200.0), ("pre_", 150.0), ("post_", 250.0)):
        columns |= {f"{prefix}z_nm": np.full(n, 300.0), f"{prefix}y_nm": np.full(n, y)}
        columns |= {f"{prefix}x_nm": 100.0 + 100.0 * np.arange(n)}
    columns |= {"pre_id": np.array(pre_ids, np.uint64), "post_id": np.full(n, 2, np.uint64)}
    columns |= {"type": np.array(types, object)}
    kinds = {name: "str" if v.dtype == object else v.dtype.name for name, v in columns.items()}
    write_table(path, columns, kinds)
    return path


def test_segmentation_scores_are_those_of_the_arrays(volumes):
    arrays, paths = volumes
    found = scores("--segmentation", paths["seg"], "--truth", paths["truth"])["segmentation"]
    expected = segmentation_scores(count_pairs(arrays["truth"], arrays["seg"]), arrays["truth"].size)
    assert found == {score.metric: score.value for score in expected}
    box = Box((3, 5, 7), (18, 33, 50))
    found = scores("--segmentation", paths["seg"], "--truth", paths["truth"], "--bounds-zyx", box)["segmentation"]
    pairs = count_pairs(arrays["truth"][box.slices], arrays["seg"][box.slices])
    expected = segmentation_scores(pairs, box.voxels)
    assert found == {score.metric: score.value for score in expected}


def test_the_table_explains_itself(volumes):
    _, paths = volumes
    shown = call(command, "--segmentation", paths["seg"], "--truth", paths["truth"])
    assert "bits lost to true cells cut apart" in shown
    assert "adapted_rand_error" in shown


def test_a_narrow_terminal_gets_the_numbers_whole(volumes):
    _, paths = volumes
    app = typer.Typer()
    app.command()(command)
    options = ["--segmentation", str(paths["seg"]), "--truth", str(paths["truth"])]
    shown = CliRunner().invoke(app, options, env={"COLUMNS": "80"}).output
    assert "adapted_rand_error_one_background" in shown
    assert "…" not in shown.split("Largest splits")[0]
    assert "cut apart" not in shown and "120 columns" in shown


def two_neurons(folder):
    """Two neurons, the first in two segments, the second sharing one of these: one split, one merge."""
    truth, seg = np.ones(SHAPE, np.uint64), np.full(SHAPE, 5, np.uint64)
    truth[:, :, 30:] = 2
    seg[:, 25:, :30] = 6
    seg[:, :, 30:40] = 5
    seg[:, :, 40:] = 7
    return store(folder / "truth.zarr", truth), store(folder / "seg.zarr", seg)


def test_errors_are_listed_with_their_places(tmp_path):
    truth, seg = two_neurons(tmp_path)
    found = json.loads(call(command, "--segmentation", seg, "--truth", truth, "--json", "--errors", 1))
    (split,), (merge,) = found["split_errors"], found["merge_errors"]
    # Neuron 1: 15 of its 40 rows lie in 6, over 30 columns; 6 meets 5 at y = 25, mean z 9.5, mean x 14.5.
    assert (split["truth"], split["segment"], split["voxels"], split["largest"]) == (1, 6, 9000, 5)
    assert (split["neighbour"], split["faces"], split["y_voxel"]) == (5, 600, 25)
    assert (split["z_nm"], split["y_nm"], split["x_nm"]) == (285.0, 255.0, 145.0)
    # 24,000 voxels in two pieces, of 40,000 labelled: H(9 / 24) bits of 0.6.
    assert split["bits"] == pytest.approx(-0.6 * (0.375 * np.log2(0.375) + 0.625 * np.log2(0.625)))
    assert (merge["segment"], merge["truth"], merge["neurons"], merge["faces"]) == (5, 2, 2, 20 * 25)
    assert merge["x_nm"] == 305.0
    shown = call(command, "--segmentation", seg, "--truth", truth)
    assert "without segment" in shown and "2 of 2 listed" in shown


def test_errors_are_written_with_pictures(tmp_path):
    truth, seg = two_neurons(tmp_path)
    image = np.random.default_rng(1).integers(0, 255, SHAPE).astype(np.uint64)
    options = ("--segmentation", seg, "--truth", truth, "--out", tmp_path / "out")
    call(command, *options, "--image", store(tmp_path / "image.zarr", image))
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [
        "merge-001-neuron-2-segment-5.png", "merge_errors.csv", "scores.csv",
        "split-001-neuron-1-segment-6.png", "split-002-neuron-2-segment-7.png", "split_errors.csv",
    ]  # fmt: skip
    rows = (tmp_path / "out" / "split_errors.csv").read_text().splitlines()
    assert rows[0].startswith("truth,segment,bits,voxels,share,pieces,largest,neighbour,faces,z_nm")
    assert len(rows) == 3
    picture = np.asarray(Image.open(tmp_path / "out" / names[0]).convert("RGB"))
    for colour in ((255, 140, 30), (70, 150, 255), (255, 255, 0)):
        assert (picture == colour).all(axis=2).any(), colour


def test_fragments_with_a_mapping_are_scored_as_their_roots(tmp_path, volumes):
    arrays, paths = volumes
    # Fragments: every segment cut at x = 25; ids fill 64 bits.
    offset = np.uint64(2**63)
    fragments = arrays["seg"] + np.where(np.arange(SHAPE[2]) >= 25, offset, np.uint64(0))
    roots = np.unique(arrays["seg"])
    table = {"id": (roots + offset)[::-1].copy(), "root": roots[::-1].copy()}
    write_table(tmp_path / "cut.parquet", table, {"id": "uint64", "root": "uint64"})
    fragment_store = store(tmp_path / "fragments.zarr", fragments)
    mapped = scores("--segmentation", fragment_store, "--mapping", tmp_path / "cut.parquet", "--truth", paths["truth"])
    assert mapped == scores("--segmentation", paths["seg"], "--truth", paths["truth"])
    assert mapped != scores("--segmentation", fragment_store, "--truth", paths["truth"])


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"id": np.array([1], np.uint64)}, "no column root"),
        ({"id": np.array([1, 1], np.uint64), "root": np.array([2, 3], np.uint64)}, "id 1 has two rows"),
        ({"id": np.array([1.0]), "root": np.array([2], np.uint64)}, "float64 values that are no ids"),
        ({"id": np.array([-1]), "root": np.array([2], np.uint64)}, "int64 values that are no ids"),
    ],
)
def test_bad_mappings_are_named(tmp_path, volumes, table, said):
    paths = volumes[1]
    write_table(tmp_path / "bad.parquet", table, {name: values.dtype.name for name, values in table.items()})
    options = ("--segmentation", paths["seg"], "--truth", paths["truth"], "--mapping", tmp_path / "bad.parquet")
    with pytest.raises(DataError, match=said):
        call(command, *options)


def test_a_border_left_out_lowers_what_is_counted(volumes):
    paths = volumes[1]
    both = ("--segmentation", paths["seg"], "--truth", paths["truth"], "--json")
    voxels = [json.loads(call(command, *both, "--border-nm", nm))["segmentation"][0]["n"] for nm in (0, 1, 15)]
    assert voxels[0] > voxels[1] > voxels[2] > 0
    with pytest.raises(SpecError, match="border_nm"):
        call(command, *both, "--border-nm", -1)


def test_synapses_by_their_ids_and_by_the_truth_at_their_positions(tmp_path):
    truth = synapse_table(tmp_path / "true.parquet", [1, 1, 1], ["excitatory"] * 3)
    found = synapse_table(tmp_path / "found.parquet", [1, 9], ["excitatory", "inhibitory"])
    labels = np.ones(SHAPE, np.uint64)
    labels[:, 20:] = 2
    volume = store(tmp_path / "labels.zarr", labels)
    options = ("--synapses", found, "--truth-synapses", truth, "--max-distance-nm", 50)
    by_id = scores(*options)["synapses"]
    assert (by_id["synapse_tp"], by_id["synapse_fn"], by_id["partners_right"]) == (2, 1, 0.5)
    by_place = scores(*options, "--truth", volume, "--margin-nm", 0)["synapses"]
    assert (by_place["synapse_tp"], by_place["synapse_fn"], by_place["partners_right"]) == (2, 1, 1.0)
    assert by_place["type_right"] == 0.5
    # The first lies 100 nm from the face x = 0.
    assert scores(*options, "--truth", volume, "--margin-nm", 150)["synapses"]["synapse_tp"] == 1


def test_not_a_number_is_null_in_json(tmp_path, volumes):
    _, paths = volumes
    empty = store(tmp_path / "empty.zarr", np.zeros(SHAPE, np.uint64))
    found = scores("--segmentation", paths["seg"], "--truth", empty)["segmentation"]
    assert found["voi_split"] is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "nothing to score"),
        (["--segmentation", "a.zarr"], "without --truth"),
        (["--synapses", "a.parquet"], "without --truth-synapses"),
        (["--synapses", "a", "--truth-synapses", "b", "--bounds-zyx", "0:1,0:1,0:1"], "without --truth"),
        (["--synapses", "a", "--truth-synapses", "b", "--mapping", "c"], "--mapping without --segmentation"),
        (["--clefts", "a"], "--clefts without --truth-clefts"),
        (["--clefts", "a", "--truth-clefts", "b", "--out", "c"], "--out without --segmentation"),
        (["--segmentation", "a", "--truth", "b", "--choose-score-on", "c", "d"], "without --synapses"),
        (["--segmentation", "a", "--truth", "b", "--image", "c"], "--image without --out"),
    ],
)
def test_options_that_do_not_fit_together(options, said):
    with pytest.raises(SpecError, match=said):
        call(command, *options)


def test_bad_values_are_named(tmp_path, volumes):
    _, paths = volumes
    both = ("--segmentation", paths["seg"], "--truth", paths["truth"])
    with pytest.raises(SpecError, match="leave the truth"):
        call(command, *both, "--bounds-zyx", "0:99,0:10,0:10")
    with pytest.raises(SpecError, match="--voxel-size-nm 'a,b,c'"):
        call(command, *both, "--voxel-size-nm", "a,b,c")
    with pytest.raises(DataError, match="voxel size"):
        call(command, *both, "--voxel-size-nm", "10,10,30")
    other = store(tmp_path / "other.zarr", np.ones((20, 40, 51), np.uint64))
    with pytest.raises(DataError, match="the same voxels"):
        call(command, "--segmentation", other, "--truth", paths["truth"])
    with pytest.raises(DataError, match="0:20,0:40,0:50"):
        call(command, "--segmentation", other, "--truth", paths["truth"])
    call(command, "--segmentation", other, "--truth", paths["truth"], "--bounds-zyx", "0:20,0:40,0:49")
    write_table(tmp_path / "thin.parquet", {"id": np.array([1], np.uint64)}, {"id": "uint64"})
    with pytest.raises(DataError, match="columns id; expected z_nm"):
        call(command, "--synapses", tmp_path / "thin.parquet", "--truth-synapses", tmp_path / "thin.parquet")
