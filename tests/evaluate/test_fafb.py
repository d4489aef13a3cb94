"""The matcher on real synapses of FAFB against the published score of their predictions.

Buhmann et al. 2021, doi:10.1038/s41592-021-01183-7: F 0.59, precision 0.62, recall 0.57. Their rule matches links of
one pair of skeletons by presynaptic site, at most 700 nm apart, skeleton by skeleton; duplicates are fused before.
The assignment is that of least cost, where being alone costs 1,400 nm: not always that of most pairs (8,970 here).
"""

import gzip
import json

import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from bouton.evaluate.detection import Detection
from bouton.evaluate.matching import assign, candidates

REACH_NM = 700.0


def links(path):
    rows = json.loads(gzip.decompress(path.read_bytes()))
    # without a skeleton: -1; the skeleton -2 of the file is one like any other
    names = [(row["id_skel_pre"], row["id_skel_post"]) for row in rows]
    ids = np.array([[-1 if name is None else name for name in pair] for pair in names])
    pre, post = (np.array([row[f"location_{side}"] for row in rows], float) for side in ("pre", "post"))
    score = np.array([row.get("score", 0.0) for row in rows])
    segments = np.array([[row.get("id_segm_pre", 1), row.get("id_segm_post", 1)] for row in rows])
    return {"ids": ids, "pre": pre, "post": post, "score": score, "segments": segments}


def take(found, rows):
    return {name: values[rows] for name, values in found.items()}


def fuse(found, reach_nm):
    """Of links of one pair of skeletons whose post sites chain within the reach, keep the best."""
    pairs = cKDTree(found["post"]).query_pairs(reach_nm, output_type="ndarray")
    same = (found["ids"][pairs[:, 0]] == found["ids"][pairs[:, 1]]).all(1) & (found["ids"][pairs[:, 0]] != -1).all(1)
    pairs, n = pairs[same], len(found["post"])
    group = connected_components(coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (n, n)), False)[1]
    order = np.lexsort((np.arange(n), -found["score"], group))
    first = np.r_[True, group[order][1:] != group[order][:-1]]
    return take(found, np.sort(order[first]))


def count_partners(folder):
    """Return the counts over all skeletons that were evaluated."""
    truth, predicted = links(folder / "pbfull_gt.json.gz"), links(folder / "pbfull_pred.json.gz")
    keep = (predicted["segments"] != 0).all(1) & (predicted["ids"][:, 0] != predicted["ids"][:, 1])
    predicted = take(predicted, keep & (predicted["score"] >= 0))
    total = np.zeros(3, int)
    for skeleton in np.loadtxt(folder / "pb_skelids_full.txt", dtype=int):
        true = take(truth, (truth["ids"] == skeleton).any(1))
        mine = fuse(take(predicted, (predicted["ids"] == skeleton).any(1)), 250.0)
        same = lambda t, p, a=true["ids"], b=mine["ids"]: (a[t] == b[p]).all(1)  # noqa: E731
        tp = len(assign(*candidates(true["pre"], mine["pre"], REACH_NM, same), unmatched=2 * REACH_NM))
        total += (tp, len(mine["pre"]) - tp, len(true["pre"]) - tp)
    return Detection(*(int(n) for n in total))


@pytest.mark.real
def test_published_score_of_fafb_predictions(data_folder):
    folder = data_folder / "fafb_partners"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    found = count_partners(folder)
    assert (found.tp, found.fp, found.fn) == (8967, 5586, 6849)
    scores = (found.f1.value, found.precision.value, found.recall.value)
    assert [round(value, 2) for value in scores] == [0.59, 0.62, 0.57]
