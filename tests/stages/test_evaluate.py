"""Stages evaluate_segmentation and evaluate_synapses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bouton.errors import SpecError
from bouton.evaluate.contingency import count_pairs
from bouton.evaluate.scores import explain, segmentation_scores
from bouton.evaluate.synapse_rows import EXPLAINED
from bouton.geometry import Box
from bouton.stages import evaluate_segmentation, evaluate_synapses
from bouton.stages.evaluate_segmentation import evaluate_volumes
from harness import ArrayVolume, assert_same, run_stage

SHAPE = (7, 11, 13)
SIZE = (30.0, 10.0, 10.0)


def labels(seed):
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.integers(0, 5, (2, 3, 4)), np.ones((4, 4, 4)))[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    seg = np.where(rng.random(SHAPE) < 0.8, truth, rng.integers(0, 8, SHAPE))
    return {"truth": truth.astype(np.uint64), "segmentation": seg.astype(np.uint64)}


def by_name(table):
    return dict(zip(table["metric"], table["value"], strict=True))


@pytest.mark.parametrize("block", [(7, 11, 13), (2, 3, 5), (7, 4, 1), (3, 11, 6)])
def test_segmentation_scores_are_those_of_the_whole_volume(block):
    inputs = labels(0)
    scores = run_stage(evaluate_segmentation.STAGE, evaluate_segmentation.Params(), inputs, block, SIZE)["scores"]
    voxels = inputs["truth"].size
    expected = segmentation_scores(count_pairs(inputs["truth"], inputs["segmentation"]), voxels)
    assert scores["metric"].tolist() == [score.metric for score in expected]
    assert scores["value"].tolist() == [score.value for score in expected]
    labelled = inputs["truth"] != 0
    assert set(scores["n"].tolist()) == {int(labelled.sum()), int((labelled & (inputs["segmentation"] != 0)).sum())}


def test_segmentation_scores_within_bounds_only():
    inputs, bounds = labels(1), Box((1, 2, 3), (6, 9, 12))
    whole = run_stage(
        evaluate_segmentation.STAGE, evaluate_segmentation.Params(), inputs, (2, 3, 4), SIZE, bounds=bounds
    )
    cut = {name: array[bounds.slices].copy() for name, array in inputs.items()}
    part = run_stage(evaluate_segmentation.STAGE, evaluate_segmentation.Params(), cut, (9, 9, 9), SIZE)
    assert_same(whole, part, ["scores"])


TABLES = ["scores", "split_errors", "merge_errors"]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    block=st.tuples(st.integers(1, 7), st.integers(1, 11), st.integers(1, 13)),
    border_nm=st.sampled_from([0.0, 1.0, 10.0]),
)
def test_blocks_show_in_no_table(seed, block, border_nm):
    inputs, stage = labels(seed), evaluate_segmentation.STAGE
    params = evaluate_segmentation.Params(border_nm=border_nm, errors_listed=30)
    whole = run_stage(stage, params, inputs, (64, 64, 64), SIZE)
    assert border_nm > 1 or len(whole["split_errors"]["truth"]) > 5 < len(whole["merge_errors"]["truth"])
    assert_same(run_stage(stage, params, inputs, block, SIZE, seed=seed), whole, TABLES)


def test_errors_within_bounds_lie_there():
    inputs, bounds, stage = labels(3), Box((1, 2, 3), (6, 9, 12)), evaluate_segmentation.STAGE
    params = evaluate_segmentation.Params(border_nm=1.0)
    whole = run_stage(stage, params, inputs, (64, 64, 64), SIZE, bounds=bounds)
    assert_same(run_stage(stage, params, inputs, (2, 3, 4), SIZE, bounds=bounds, seed=1), whole, TABLES)
    for name in TABLES[1:]:
        at = np.stack([whole[name][f"{axis}_voxel"] for axis in "zyx"], axis=1)
        assert len(at) and ((at >= bounds.start) & (at < bounds.stop)).all()


def test_volumes_without_a_run_give_the_same_tables():
    inputs, params = labels(4), evaluate_segmentation.Params(border_nm=1.0, errors_listed=7)
    expected = run_stage(evaluate_segmentation.STAGE, params, inputs, (64, 64, 64), SIZE)
    volumes = {name: ArrayVolume(array) for name, array in inputs.items()}
    found = evaluate_volumes(volumes, Box.of_shape(SHAPE), SIZE, params, (2, 3, 4))
    assert_same(found, {name: expected[name] for name in TABLES}, TABLES)
    assert len(found["split_errors"]["truth"]) == 7


@pytest.mark.parametrize("bad", [{"border_nm": -1.0}, {"border_nm": float("nan")}, {"errors_listed": -1}])
def test_bad_parameters_of_evaluate_segmentation_are_named(bad):
    with pytest.raises(SpecError, match=next(iter(bad))):
        evaluate_segmentation.Params(**bad)


def table(rows):
    """Rows of (id, centre voxel, pre voxel, post voxel, pre_id, post_id, type)."""
    found = {"id": np.array([row[0] for row in rows], np.uint64)}
    for column, prefix in ((1, ""), (2, "pre_"), (3, "post_")):
        for axis, name in enumerate("zyx"):
            found[f"{prefix}{name}_nm"] = np.array([(row[column][axis] + 0.5) * SIZE[axis] for row in rows])
    found["pre_id"] = np.array([row[4] for row in rows], np.uint64)
    found["post_id"] = np.array([row[5] for row in rows], np.uint64)
    found["type"] = np.array([row[6] for row in rows], object)
    return found


def scored(margin_nm=0.0):
    truth = np.ones((10, 80, 80), np.uint64)
    truth[:, 40:] = 2
    true = [
        (1, (5, 40, 10), (5, 38, 10), (5, 42, 10), 1, 2, "excitatory"),
        (2, (5, 40, 40), (5, 42, 40), (5, 38, 40), 2, 1, "inhibitory"),
        (3, (5, 40, 78), (5, 42, 78), (5, 38, 78), 2, 1, "inhibitory"),
    ]
    # The predicted ids are those of another segmentation: only the positions may decide.
    predicted = [
        (71, (5, 41, 11), (5, 37, 10), (5, 43, 10), 900, 901, "excitatory"),
        (72, (5, 41, 41), (5, 37, 40), (5, 43, 40), 900, 901, "inhibitory"),
    ]
    inputs = {"truth": truth, "truth_synapses": table(true), "synapses": table(predicted)}
    params = evaluate_synapses.Params(max_distance_nm=50.0, margin_nm=margin_nm)
    return run_stage(evaluate_synapses.STAGE, params, inputs, (4, 4, 4), SIZE)


def test_synapse_scores_by_hand():
    found = by_name(scored()["scores"])
    assert (found["synapse_tp"], found["synapse_fp"], found["synapse_fn"]) == (2, 0, 1)
    assert found["synapse_f1"] == pytest.approx(0.8)
    assert found["partners_right"] == 0.5
    assert found["polarity_right"] == 0.5
    assert found["type_right"] == 1.0
    assert found["synapse_partners_f1"] == pytest.approx(0.4)
    assert found["synapse_pair_f1"] == pytest.approx(0.8)
    matches = scored()["synapse_matches"]
    assert matches["truth_id"].tolist() == [1, 2]
    assert matches["synapse_id"].tolist() == [71, 72]
    assert matches["partners_right"].tolist() == [True, False]


def test_synapses_in_the_margin_are_neutral():
    found = by_name(scored(margin_nm=30.0)["scores"])
    assert (found["synapse_tp"], found["synapse_fp"], found["synapse_fn"]) == (2, 0, 0)


def test_labels_at_reads_the_voxel_that_holds_the_position():
    rng = np.random.default_rng(2)
    array = rng.integers(1, 99, (9, 150, 70)).astype(np.uint32)

    class Reader:
        shape, dtype = array.shape, array.dtype

        def read(self, box):
            return array[box.slices]

    at = np.stack([rng.integers(-2, n + 2, 300) for n in array.shape], axis=1)
    bounds = Box((1, 10, 5), (9, 140, 70))
    found = evaluate_synapses.labels_at(Reader(), (at + 0.99) * np.asarray(SIZE), SIZE, bounds)
    inside = ((at >= bounds.start) & (at < bounds.stop)).all(1)
    assert (found[~inside] == 0).all()
    np.testing.assert_array_equal(found[inside], array[tuple(at[inside].T)])


def test_a_missing_partner_has_no_neuron_by_chance():
    volume, bounds = ArrayVolume(np.full((9, 9, 9), 5, np.uint64)), Box((0, 0, 0), (9, 9, 9))
    at = (4, 4, 4)
    rows = [
        (1, at, at, at, 7, 8, "unknown"),
        (2, at, at, at, 0, 8, "unknown"),
        (3, at, at, (4, 4, 99), 7, 8, "unknown"),
    ]
    pre, post = evaluate_synapses.neurons_at(table(rows), volume, SIZE, bounds)
    assert pre.dtype == post.dtype == np.uint64
    assert (pre.tolist(), post.tolist()) == ([5, 0, 5], [5, 5, 0])
    nameless = table([(*row[:4], 0, 0, row[6]) for row in rows])
    pre, post = evaluate_synapses.neurons_at(nameless, volume, SIZE, bounds)
    assert (pre.tolist(), post.tolist()) == ([5, 5, 5], [5, 5, 0])


def test_every_metric_is_explained():
    pairs = count_pairs(*labels(0).values())
    assert all(explain(score.metric) for score in segmentation_scores(pairs))
    assert [name for name in scored()["scores"]["metric"] if not explain(name) and not explain(name, EXPLAINED)] == []
    assert explain("nonsense_f1") == ""


@pytest.mark.parametrize("bad", [{"max_distance_nm": 0.0}, {"margin_nm": -1.0}])
def test_bad_parameters_are_named(bad):
    with pytest.raises(SpecError, match=next(iter(bad))):
        evaluate_synapses.Params(**bad)
