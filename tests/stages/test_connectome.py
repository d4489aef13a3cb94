"""Stage connectome with the scores of an evaluation: corrected counts of connections and types."""

import networkx as nx
import numpy as np
import pytest

from bouton.errors import DataError, SpecError
from bouton.evaluate.corrected import corrected_counts
from bouton.evaluate.detection import Detection
from bouton.stages import connectome
from harness import run_stage


def synapses(rows):
    """Rows of (pre, post, type, score)."""
    pre, post, kinds, score = zip(*rows, strict=True)
    return {
        "pre_id": np.array(pre, np.uint64),
        "post_id": np.array(post, np.uint64),
        "size_voxels": np.full(len(rows), 10, np.int64),
        "score": np.array(score, float),
        "type": np.array(kinds, object),
    }


ROWS = [(1, 2, "excitatory", 0.9)] * 6 + [(2, 1, "inhibitory", 0.8)] * 2 + [(0, 1, "unknown", 0.3)]


def scores(min_score=0.0, drop=(), **values):
    found = {"min_score": min_score}
    for prefix, counts in {
        "synapse": (80, 20, 40), "synapse_partners": (60, 40, 60), "excitatory": (50, 10, 20), "inhibitory": (20, 5, 30)
    }.items():  # fmt: skip
        found |= {f"{prefix}_{kind}": n for kind, n in zip(("tp", "fp", "fn"), counts, strict=True)}
    found |= values
    names = [name for name in found if name not in drop]
    return {"metric": np.array(names, object), "value": np.array([float(found[name]) for name in names])}


def run(folder, params=None, given=None):
    inputs = {"synapses": synapses(ROWS)} | ({} if given is None else {"synapse_scores": given})
    params = params or connectome.Params()
    return run_stage(connectome.STAGE, params, inputs, (4, 4, 4), (1, 1, 1), shape=(4, 4, 4), folder=folder)


def test_every_count_has_its_corrected_number(tmp_path):
    found = run(tmp_path, given=scores())
    edges = found["connectome"]
    assert edges["n"].tolist() == [6, 2]
    expected = corrected_counts(np.array([6, 2]), Detection(60, 40, 60))
    np.testing.assert_array_equal(edges["n_corrected"], expected.value)
    assert edges["n_corrected"].tolist() == pytest.approx([7.2, 2.4])
    np.testing.assert_array_equal(edges["n_corrected_low"], expected.low)
    totals = found["totals"]
    assert totals["type"].tolist() == ["all", "excitatory", "inhibitory", "unknown"]
    assert totals["n"].tolist() == [9, 6, 2, 1]
    assert totals["n_corrected"][:3].tolist() == pytest.approx([9 * 1.2, 6 * 70 / 60, 2 * 2])
    assert np.isnan(totals["n_corrected"][3])
    assert (totals["n_corrected_low"][:3] < totals["n_corrected"][:3]).all()
    graph = nx.read_graphml(tmp_path / "exports" / "connectome.graphml")
    assert graph.edges["1", "2"]["n_corrected"] == pytest.approx(7.2)
    header = (tmp_path / "exports" / "totals.csv").read_text().splitlines()[0]
    assert header == "type,n,n_corrected,n_corrected_low,n_corrected_high"


def test_without_scores_nothing_is_known_of_the_errors(tmp_path):
    found = run(tmp_path)
    for name in ("connectome", "totals"):
        assert np.isnan(found[name]["n_corrected"]).all() and np.isnan(found[name]["n_corrected_high"]).all()
    assert (tmp_path / "exports" / "totals.csv").read_text().splitlines() == [
        "type,n", "all,9", "excitatory,6", "inhibitory,2", "unknown,1"
    ]  # fmt: skip


def test_scores_of_another_least_score_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"score 0 or more, here 0[.]5 or more"):
        run(tmp_path, params=connectome.Params(min_score=0.5), given=scores())
    found = run(tmp_path, params=connectome.Params(min_score=0.5), given=scores(min_score=0.5))
    assert found["totals"]["n"].tolist() == [8, 6, 2, 0]
    assert found["totals"]["n_corrected"][0] == pytest.approx(8 * 1.2)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (scores(drop=["min_score"]), "do not say for which"),
        (scores(drop=["inhibitory_fp"]), "no inhibitory_fp"),
        (scores(synapse_tp=1.5), "synapse_tp = 1[.]5"),
        (scores(synapse_tp=float("nan")), "synapse_tp = nan"),
        ({name: np.r_[column, column[:1]] for name, column in scores().items()}, "twice"),
    ],
)
def test_scores_that_are_none_are_named(tmp_path, bad, message):
    with pytest.raises(DataError, match=message):
        run(tmp_path, given=bad)


@pytest.mark.parametrize("bad", [{"min_score": 1.5}, {"min_synapses": 0}])
def test_bad_parameters_are_named(bad):
    with pytest.raises(SpecError, match=next(iter(bad))):
        connectome.Params(**bad)
