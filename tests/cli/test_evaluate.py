"""``bouton evaluate`` on files."""

import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from bouton.cli.evaluate import command
from bouton.errors import DataError, SpecError
from bouton.evaluate.contingency import count_pairs
from bouton.evaluate.scores import segmentation_scores
from bouton.geometry import Box
from bouton.volume import create_volume, write_table

SHAPE, SIZE = (20, 40, 50), (30.0, 10.0, 10.0)


def call(*arguments):
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(command)
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def scores(*arguments):
    found = json.loads(call(*arguments, "--json"))
    return {kind: {row["metric"]: row["value"] for row in rows} for kind, rows in found.items()}


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
    expected = segmentation_scores(count_pairs(arrays["truth"], arrays["seg"]))
    assert found == {score.metric: score.value for score in expected}
    box = Box((3, 5, 7), (18, 33, 50))
    found = scores("--segmentation", paths["seg"], "--truth", paths["truth"], "--bounds-zyx", box)["segmentation"]
    expected = segmentation_scores(count_pairs(arrays["truth"][box.slices], arrays["seg"][box.slices]))
    assert found == {score.metric: score.value for score in expected}


def test_the_table_explains_itself(volumes):
    _, paths = volumes
    shown = call("--segmentation", paths["seg"], "--truth", paths["truth"])
    assert "bits lost to true cells cut apart" in shown
    assert "adapted_rand_error" in shown


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
    ],
)
def test_options_that_do_not_fit_together(options, said):
    with pytest.raises(SpecError, match=said):
        call(*options)


def test_bad_values_are_named(tmp_path, volumes):
    _, paths = volumes
    both = ("--segmentation", paths["seg"], "--truth", paths["truth"])
    with pytest.raises(SpecError, match="leave the truth"):
        call(*both, "--bounds-zyx", "0:99,0:10,0:10")
    with pytest.raises(SpecError, match="voxel size 'a,b,c'"):
        call(*both, "--voxel-size-nm", "a,b,c")
    with pytest.raises(DataError, match="voxel size"):
        call(*both, "--voxel-size-nm", "10,10,30")
    other = store(tmp_path / "other.zarr", np.ones((20, 40, 51), np.uint64))
    with pytest.raises(DataError, match="the same voxels"):
        call("--segmentation", other, "--truth", paths["truth"])
    write_table(tmp_path / "thin.parquet", {"id": np.array([1], np.uint64)}, {"id": "uint64"})
    with pytest.raises(DataError, match=r"no column .*type"):
        call("--synapses", tmp_path / "thin.parquet", "--truth-synapses", tmp_path / "thin.parquet")
