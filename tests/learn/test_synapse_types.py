"""Classifiers of synapses: trained, calibrated, written, read; damaged folders refused."""

import json

import numpy as np
import pytest

from bouton.errors import DataError
from bouton.learn.forest import ForestSettings, predict_forest
from bouton.learn.synapse_types import (
    CARD,
    WEIGHTS,
    Question,
    TypesCard,
    TypesModel,
    calibrated,
    no_calibration,
    read_types_model,
    types_files,
)
from bouton.learn.synapse_types_training import Rows, calibration_table, fit_classifier, reliability
from bouton.volume.files import write_folder

pytest.importorskip("sklearn", reason="training needs the extra forest")
SETTINGS = ForestSettings(trees=20, smallest_leaf=3)


def rows(count, seed, noise=1.0):
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 3, count)
    features = (np.eye(3)[classes] * 2 + rng.normal(0, noise, (count, 3))).astype(np.float32)
    return Rows(features, classes)


@pytest.fixture(scope="module")
def classifier():
    return fit_classifier(rows(300, 1), rows(400, 2), SETTINGS)


@pytest.fixture
def folder(classifier, tmp_path):
    question = Question(classes=("spine", "shaft", "soma"), features=("a", "b", "c"), calibration=classifier[1])
    card = TypesCard(
        name="toy", description="", reach_nm=900.0, spacing_nm=30.0, questions={"target": question}, sha256="0" * 64
    )
    write_folder(tmp_path / "toy", types_files(card, {"target": classifier[0]}))
    return tmp_path / "toy"


def test_what_is_written_is_read(classifier, folder):
    model, test = read_types_model(folder), rows(50, 3)
    columns = {name: test.features[:, n].astype(np.float64) for n, name in enumerate("abc")}
    columns["b"][7] = np.nan
    found = model.answer("target", columns)
    assert np.isnan(found[7]).all()
    keep = np.arange(50) != 7
    np.testing.assert_array_equal(found[keep], classifier[0].probabilities(test.features[keep]))
    np.testing.assert_allclose(found[keep].sum(axis=1), 1.0)
    assert np.mean(found[keep].argmax(axis=1) == test.classes[keep]) > 0.8
    assert model.features == ("a", "b", "c")


def test_calibration_makes_probabilities_honest(classifier):
    assert classifier[1] == "platt"
    test = rows(4000, 5)
    raw = predict_forest(classifier[0].forest, test.features)
    found = classifier[0].probabilities(test.features)
    right = found.argmax(axis=1) == test.classes
    error = reliability(found.max(axis=1), right)[1]
    before = reliability(raw.max(axis=1), raw.argmax(axis=1) == test.classes)[1]
    assert error < 0.04 and error < before
    many = rows(1500, 6)
    isotonic, method = fit_classifier(rows(300, 1), many, SETTINGS)
    assert method == "isotonic"
    assert np.all(np.diff(isotonic.table, axis=1) >= 0)
    assert isotonic.table.min() > 0 and isotonic.table.max() < 1
    found = isotonic.probabilities(test.features)
    assert reliability(found.max(axis=1), found.argmax(axis=1) == test.classes)[1] < 0.04


def test_platt_by_hand():
    # of the rows at 0.8, half are right: the curve must say about 0.5 there
    raw = np.repeat([[0.8, 0.2], [0.2, 0.8]], 200, axis=0)
    classes = np.tile([0, 1], 200)
    table = calibration_table(raw, classes, "platt")
    np.testing.assert_allclose(calibrated(raw, table), 0.5, atol=0.02)
    np.testing.assert_array_equal(calibration_table(raw, np.zeros(400, np.int64), "platt"), no_calibration(2))
    with pytest.raises(DataError, match="calibration 'beta'"):
        calibration_table(raw, classes, "beta")


def test_reliability_by_hand():
    table, error = reliability(np.array([0.95, 0.95, 0.65, 0.65]), np.array([True, True, True, False]))
    np.testing.assert_allclose(table[9], [0.95, 1.0, 2])
    np.testing.assert_allclose(table[6], [0.65, 0.5, 2])
    assert error == pytest.approx(0.1)
    assert np.isnan(table[0, :2]).all()
    assert np.isnan(reliability(np.zeros(0), np.zeros(0, bool))[1])


def test_probabilities_without_calibration_are_the_forest_s():
    classifier, method = fit_classifier(
        rows(100, 1), Rows(np.zeros((0, 3), np.float32), np.zeros(0, np.int64)), SETTINGS
    )
    assert method == "none"
    test = rows(20, 9).features
    np.testing.assert_allclose(classifier.probabilities(test), predict_forest(classifier.forest, test), atol=1e-6)
    np.testing.assert_array_equal(calibrated(np.zeros((1, 2)), np.zeros((2, 5))), [[0.5, 0.5]])


def test_the_same_rows_give_the_same_files(classifier):
    again = fit_classifier(rows(300, 1), rows(400, 2), SETTINGS)[0]
    card = TypesCard(
        name="toy", description="", reach_nm=900.0, spacing_nm=30.0, sha256="0" * 64,
        questions={"target": Question(classes=("spine", "shaft", "soma"), features=("a", "b", "c"))},
    )  # fmt: skip
    assert types_files(card, {"target": classifier[0]}) == types_files(card, {"target": again})


def _edit(folder, change):
    text = json.loads((folder / CARD).read_text())
    change(text)
    (folder / CARD).write_text(json.dumps(text))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda f: (f / WEIGHTS).write_bytes(b"x"), "SHA-256"),
        (lambda f: (f / WEIGHTS).unlink(), "cannot read the model"),
        (lambda f: (f / CARD).unlink(), "cannot read the model"),
        (lambda f: (f / CARD).write_text("{"), "Invalid JSON"),
        (lambda f: _edit(f, lambda t: t.update(colour="red")), "colour"),
        (lambda f: _edit(f, lambda t: t.update(format="bouton-synapse-types/9")), "format"),
        (lambda f: _edit(f, lambda t: t["questions"]["target"].update(classes=["a", "b"])), "not that of the card"),
        (lambda f: _edit(f, lambda t: t["questions"]["target"].update(features=["a"])), "not that of the card"),
        (lambda f: _edit(f, lambda t: t["questions"].update(type=t["questions"]["target"])), "missing"),
    ],
)
def test_a_damaged_folder_is_told(folder, damage, told):
    damage(folder)
    with pytest.raises(DataError) as caught:
        read_types_model(folder)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_calibration_of_other_classes_is_told(classifier, tmp_path):
    card = TypesCard(
        name="toy", description="", reach_nm=900.0, spacing_nm=30.0, sha256="0" * 64,
        questions={"target": Question(classes=("spine", "shaft", "soma"), features=("a", "b", "c"))},
    )  # fmt: skip
    model = TypesModel(card, {"target": type(classifier[0])(classifier[0].forest, no_calibration(2))})
    write_folder(tmp_path / "bad", types_files(card, model.classifiers))
    with pytest.raises(DataError, match="calibration of 'target'"):
        read_types_model(tmp_path / "bad")
