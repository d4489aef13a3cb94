"""Edges, partners and matrices of wiring diagrams: by hand and on the fly's."""

import numpy as np
import pytest

from bouton.errors import DataError
from bouton.evaluate.connectome_scores import (
    cosine_similarity,
    count_edges,
    edge_accuracy,
    edge_scores,
    matrix_edges,
    similarity_table,
    sum_edges,
)
from bouton.evaluate.detection import Detection


def edges(*rows):
    return sum_edges(*(np.array(column) for column in zip(*rows, strict=True)))


TRUE = edges((1, 2, 5), (1, 3, 1), (2, 3, 3), (4, 4, 1))
FOUND = edges((1, 2, 4), (2, 3, 3), (3, 1, 1), (4, 4, 1))


def test_edges_of_synapses_that_have_both_partners():
    pre, post = np.array([1, 1, 0, 2, 1], np.uint64), np.array([2, 2, 3, 0, 3], np.uint64)
    found = count_edges(pre, post)
    assert [found.pre.tolist(), found.post.tolist(), found.count.tolist()] == [[1, 1], [2, 3], [2, 1]]
    assert count_edges(pre[:0], post[:0]).count.size == 0


def test_edges_at_strengths():
    assert edge_scores(TRUE, FOUND, 1) == Detection(tp=3, fp=1, fn=1)
    assert edge_scores(TRUE, FOUND, 3) == Detection(tp=2, fp=0, fn=0)
    assert edge_scores(TRUE, FOUND, 5) == Detection(tp=0, fp=0, fn=1)
    assert edge_accuracy(TRUE, FOUND, 1, 16).value == 14 / 16


def test_direction_matters():
    assert edge_scores(edges((1, 2, 9)), edges((2, 1, 9)), 1) == Detection(0, 1, 1)


def test_cosine_by_hand():
    outputs = cosine_similarity(TRUE, FOUND, "pre")
    assert outputs.id.tolist() == [1, 2, 3, 4]
    # Neuron 1: (5, 1) and (4, 0).
    assert outputs.cosine.tolist() == pytest.approx([20 / (np.sqrt(26) * 4), 1, 0, 1])
    assert outputs.is_true.tolist() == [True, True, False, True]
    inputs = cosine_similarity(TRUE, FOUND, "post")
    assert dict(zip(inputs.id.tolist(), inputs.cosine.tolist(), strict=True))[1] == 0.0
    table = similarity_table(TRUE, FOUND)
    assert table["id"].tolist() == [1, 2, 3, 4] and np.isnan(table["inputs_cosine"]).sum() == 0
    assert np.isnan(similarity_table(edges((1, 2, 1)), edges((1, 2, 1)))["inputs_cosine"][0])


def test_matrices():
    found = matrix_edges(np.array([[0, 2, 0], [1, 0, 4]]), [7, 8], [7, 9, 9])
    assert (found.pre.tolist(), found.post.tolist(), found.count.tolist()) == ([7, 8, 8], [9, 7, 9], [2, 1, 4])
    with pytest.raises(DataError, match="2 columns"):
        matrix_edges(np.zeros((2, 3)), [1, 2], [1, 2])
    with pytest.raises(DataError, match="no count"):
        matrix_edges(np.array([[0.5]]), [1], [1])


@pytest.mark.real
def test_adjacency_of_the_calyx(data_folder):
    folder = data_folder / "fafb_partners"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    matrices = [np.loadtxt(folder / f"{kind}_adj_matrix_138.csv.gz", delimiter=",") for kind in ("gt", "pred")]
    pre, post = np.arange(1, 139), np.arange(1001, 1001 + matrices[0].shape[1])
    truth, found = (matrix_edges(matrix, pre, post) for matrix in matrices)
    for strength in (1, 3, 5):
        a, b = (matrix >= strength for matrix in matrices)
        score = edge_scores(truth, found, strength)
        assert (score.tp, score.fp, score.fn) == ((a & b).sum(), (b & ~a).sum(), (a & ~b).sum())
        assert edge_accuracy(truth, found, strength, matrices[0].size).value == (a == b).mean()
    rows = cosine_similarity(truth, found, "pre")
    for i, cosine in zip(rows.id.astype(int) - 1, rows.cosine, strict=True):
        norm = np.linalg.norm(matrices[0][i]) * np.linalg.norm(matrices[1][i])
        assert cosine == pytest.approx(matrices[0][i] @ matrices[1][i] / norm if norm else 0.0)
