"""Random forests as flat arrays, against scikit-learn's."""

import sys

import numpy as np
import pytest
from safetensors.numpy import load, save

from bouton.errors import DataError, SpecError
from bouton.learn.forest import Forest, ForestSettings, fit_forest, flat_forest, forest_of, predict_forest

WITHOUT = "needs the extra forest (scikit-learn)"


def rows(n=3000, classes=2, seed=0):
    """Return features with ties, and classes that depend on them."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(n, 10)).astype(np.float32)
    features[:, 3] = np.round(features[:, 3] * 3)
    score = features[:, 0] * features[:, 1] + features[:, 3] + 0.5 * random.normal(size=n)
    return features, np.clip(np.digitize(score, np.linspace(-1, 1, classes - 1)), 0, classes - 1)


def stump(threshold=0.5):
    """Return one tree: feature 1 at most ``threshold`` gives class 0, else class 1 of 3 in 4."""
    return {
        "feature": np.array([1, -1, -1], np.int16),
        "threshold": np.array([threshold, 0, 0], np.float32),
        "left": np.array([1, -1, -1], np.int32),
        "right": np.array([2, -1, -1], np.int32),
        "value": np.array([[0.5, 0.5], [1, 0], [0.25, 0.75]], np.float32),
        "roots": np.array([0], np.int32),
    }


def test_a_stump_by_hand():
    found = predict_forest(forest_of(stump()), np.array([[9, 0.5], [9, 0.6], [9, -7]], np.float32))
    assert found.tolist() == [[1, 0], [0.25, 0.75], [1, 0]]


@pytest.mark.parametrize("threshold", [0.0, -0.0])
def test_zeros_of_either_sign_are_equal(threshold):
    found = predict_forest(forest_of(stump(threshold)), np.array([[0, 0.0], [0, -0.0], [0, 1e-30]], np.float32))
    assert found[:, 0].tolist() == [1, 1, 0.25]


@pytest.mark.parametrize(("classes", "settings"), [
    (2, ForestSettings(trees=12, tried=3, seed=5)),
    (4, ForestSettings(trees=7, smallest_leaf=9, balanced=True)),
    (3, ForestSettings(trees=5, leaves=31)),
])  # fmt: skip
def test_as_scikit_learn_predicts(classes, settings):
    ensemble = pytest.importorskip("sklearn.ensemble", reason=WITHOUT)
    features, truth = rows(classes=classes)
    forest = fit_forest(features, truth, settings)
    peer = ensemble.RandomForestClassifier(
        settings.trees, max_features=3, min_samples_leaf=settings.smallest_leaf, random_state=settings.seed,
        max_leaf_nodes=settings.leaves or None, class_weight="balanced" if settings.balanced else None,
    ).fit(features, truth)  # fmt: skip
    unseen = np.concatenate([rows(1001, seed=1)[0], features])
    np.testing.assert_allclose(predict_forest(forest, unseen), peer.predict_proba(unseen), atol=1e-6)


def test_the_very_leaf_that_scikit_learn_chooses():
    """Also of rows that equal a threshold's neighbours among the float32 numbers."""
    ensemble = pytest.importorskip("sklearn.ensemble", reason=WITHOUT)
    features, truth = rows()
    peer = ensemble.RandomForestClassifier(6, max_features=3, random_state=2).fit(features, truth)
    trees = [tree.tree_ for tree in peer.estimators_]
    inner = trees[0].feature >= 0
    probes = np.repeat(features[:1], 3 * inner.sum(), 0)
    near = trees[0].threshold[inner].astype(np.float32)
    ends = np.float32([-np.inf, np.inf])
    around = np.concatenate([near, np.nextafter(near, ends[0]), np.nextafter(near, ends[1])])
    probes[np.arange(len(probes)), np.tile(trees[0].feature[inner], 3)] = around
    for number, tree in enumerate(trees):
        forest = flat_forest([tree])
        # each leaf gets a value of its own, so that the leaf can be told from it
        named = np.stack([np.arange(forest.feature.size) / 2**14, np.zeros(forest.feature.size)], 1).astype(np.float32)
        forest = Forest(**(forest.arrays() | {"value": named}))
        found = predict_forest(forest, probes)[:, 0] * 2**14
        assert np.array_equal(found, peer.apply(probes)[:, number])


def test_the_rows_beside_a_row_do_not_matter():
    pytest.importorskip("sklearn", reason=WITHOUT)
    forest = fit_forest(*rows(500), ForestSettings(trees=9))
    features = rows(77, seed=3)[0]
    whole = predict_forest(forest, features)
    assert np.array_equal(np.concatenate([predict_forest(forest, features[i : i + 1]) for i in range(77)]), whole)
    assert predict_forest(forest, features[:0]).shape == (0, 2)


def test_training_is_repeatable_and_threads_do_not_matter():
    pytest.importorskip("sklearn", reason=WITHOUT)
    one, two, other = (
        fit_forest(*rows(400), ForestSettings(trees=6, seed=seed), workers)
        for seed, workers in ((1, 1), (1, 2), (2, 1))
    )
    assert all(np.array_equal(one.arrays()[name], two.arrays()[name]) for name in one.arrays())
    assert not np.array_equal(one.threshold, other.threshold)


def test_a_file_gives_the_same_forest():
    pytest.importorskip("sklearn", reason=WITHOUT)
    forest = fit_forest(*rows(400), ForestSettings(trees=4))
    again = forest_of(load(save(forest.arrays())))
    assert all(np.array_equal(again.arrays()[name], array) for name, array in forest.arrays().items())


def changed(name, index, value):
    arrays = stump()
    arrays[name][index] = value
    return arrays


@pytest.mark.parametrize(("arrays", "told"), [
    (changed("right", 0, 3), "does not come after"),
    (changed("right", 0, 0), "does not come after"),
    (changed("right", 0, 1), "that of several"),
    (changed("left", 0, -1), "does not come after"),
    (changed("left", 1, 2), "leaf with children"),
    (changed("feature", 0, -2), "feature outside"),
    (changed("feature", 0, 300), "feature outside"),
    (changed("feature", 1, 0), "does not come after"),
    (changed("threshold", 0, np.nan), "not finite"),
    (changed("value", (1, 0), np.nan), "outside 0 to 1"),
    (changed("value", (1, 0), 2), "outside 0 to 1"),
    (changed("roots", 0, 1), "roots"),
    (stump() | {"roots": np.array([0, 2], np.int32)}, "another tree"),
    (stump() | {"roots": np.array([0, 3], np.int32)}, "roots"),
    (stump() | {"roots": np.zeros(0, np.int32)}, "roots is int32 (0,)"),
    (stump() | {"left": np.zeros(2, np.int32)}, "left is int32 (2,)"),
    (stump() | {"threshold": np.zeros(3)}, "threshold is float64"),
    (stump() | {"value": np.zeros(3, np.float32)}, "value is float32 (3,)"),
    (stump() | {"more": np.zeros(3)}, "more"),
    ({name: array for name, array in stump().items() if name != "roots"}, "roots is missing"),
])  # fmt: skip
def test_arrays_that_are_no_trees(arrays, told):
    with pytest.raises(DataError, match="no forest") as caught:
        forest_of(arrays, "weights.safetensors")
    assert told in caught.value.found
    assert caught.value.where == "weights.safetensors"


@pytest.mark.parametrize("features", [
    np.zeros((3, 1), np.float32), np.zeros((3, 2)), np.zeros(2, np.float32), np.full((1, 2), np.nan, np.float32)
])  # fmt: skip
def test_features_that_do_not_fit(features):
    with pytest.raises(DataError):
        predict_forest(forest_of(stump()), features)


@pytest.mark.parametrize(("features", "classes"), [
    (np.zeros((4, 2), np.float32), np.zeros(4, np.int64)),
    (np.zeros((4, 2), np.float32), np.array([0, 2, 0, 2])),
    (np.zeros((4, 2), np.float32), np.array([0, 1, 0, -1])),
    (np.zeros((4, 2), np.float32), np.array([0, 1, 0])),
    (np.full((2, 2), np.inf, np.float32), np.array([0, 1])),
    (np.zeros((0, 2), np.float32), np.zeros(0, np.int64)),
])  # fmt: skip
def test_rows_that_cannot_be_learned_from(features, classes):
    pytest.importorskip("sklearn", reason=WITHOUT)
    with pytest.raises(DataError):
        fit_forest(features, classes)


def test_settings_out_of_range():
    with pytest.raises(SpecError, match="trees 0"):
        ForestSettings(trees=0)


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(SpecError) as caught:
        fit_forest(*rows(50))
    assert "bouton[forest]" in str(caught.value)
