"""Rows added up, against a dictionary."""

from __future__ import annotations

from collections import Counter

import numpy as np

from bouton.density.sums import summed


def table(rng, n):
    keys = {"block": rng.integers(0, 4, n), "id": rng.integers(0, 3, n).astype(np.uint64) + np.uint64(2**63)}
    return keys | {"count": rng.integers(0, 9, n), "texture": keys["block"] * 0.25}


def test_rows_are_those_of_a_dictionary():
    rng = np.random.default_rng(0)
    tables = [table(rng, n) for n in (40, 0, 25)]
    expected = Counter()
    for rows in tables:
        for block, each, count in zip(rows["block"].tolist(), rows["id"].tolist(), rows["count"].tolist(), strict=True):
            expected[block, each] += count
    found = summed(tables, ("block", "id"), ("count",))
    assert list(zip(found["block"].tolist(), found["id"].tolist(), strict=True)) == sorted(expected)
    assert found["count"].tolist() == [expected[key] for key in sorted(expected)]
    assert found["id"].dtype == np.uint64 and (found["texture"] == found["block"] * 0.25).all()


def test_no_rows_and_rows_of_their_own():
    none = summed([table(np.random.default_rng(0), 0)], ("block", "id"), ("count",))
    assert all(len(values) == 0 for values in none.values())
    apart = {"id": np.array([5, 2, 9]), "count": np.array([1, 2, 3])}
    assert {k: v.tolist() for k, v in summed([apart], ("id",), ("count",)).items()} == {
        "id": [2, 5, 9], "count": [2, 1, 3]
    }  # fmt: skip
