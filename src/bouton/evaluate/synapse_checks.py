"""What a table of synapses must not hold before it is scored, and what is legal but told."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bouton.errors import DataError
from bouton.evaluate.synapses import UNKNOWN, MatchRule

TYPES = ("excitatory", "inhibitory", UNKNOWN)
TARGETS = ("spine", "shaft", "soma", UNKNOWN)


def check_synapses(table: Mapping[str, np.ndarray], where: str) -> None:
    """Refuse double ids, places that are no number, scores outside [0, 1] and unknown words.

    Parameters
    ----------
    table : mapping
        ``id``, ``z_nm``, ``y_nm``, ``x_nm``, ``type``; where they are there: ``score``, ``target``.
    where : str
        What the table is, for the message.

    Raises
    ------
    DataError
        One of these.
    """
    ids, counts = np.unique(table["id"], return_counts=True)
    if ids.size < len(table["id"]):
        twice = ids[counts > 1]
        raise DataError(
            f"{twice.size} ids occur more than once, the first is {twice[0]}",
            where=where,
            expected="one row a synapse, each with an id of its own",
            fix="drop the doubles, or number the rows anew",
        )
    for axis in "zyx":
        bad = np.flatnonzero(~np.isfinite(np.asarray(table[f"{axis}_nm"], dtype=np.float64)))
        if bad.size:
            value = table[f"{axis}_nm"][bad[0]]
            raise DataError(f"row {bad[0]} holds {axis}_nm = {value}", where=where, expected="finite numbers in nm")
    if "score" in table:
        score = np.asarray(table["score"], dtype=np.float64)
        bad = np.flatnonzero(~((score >= 0) & (score <= 1)))
        if bad.size:
            raise DataError(f"row {bad[0]} holds score = {score[bad[0]]}", where=where, expected="0 to 1")
    for column, words in (("type", TYPES), ("target", TARGETS)):
        if column in table:
            _check_words(table[column], column, words, where)


def check_truth_inside(truth_nm: np.ndarray, rule: MatchRule, where: str) -> int:
    """Return how many true synapses lie outside of the evaluated box; refuse a truth that lies there as a whole.

    Parameters
    ----------
    truth_nm : numpy.ndarray
        float64 (n, 3), z, y, x of the cleft centres.

    Raises
    ------
    DataError
        None of them, though there are some, lies inside.
    """
    outside = ((truth_nm < np.asarray(rule.start_nm)) | (truth_nm > np.asarray(rule.stop_nm))).any(axis=1)
    if outside.size and outside.all():
        first = ", ".join(f"{v:g}" for v in truth_nm[0])
        box = f"{_place(rule.start_nm)} to {_place(rule.stop_nm)}"
        raise DataError(
            f"no true synapse lies in the volume; the first is at {first} nm (z, y, x)",
            where=where,
            expected=f"some between {box} nm (z, y, x)",
            fix="check units (nm, not voxels), the order of the axes, and the offset of the truth",
        )
    return int(outside.sum())


def autapses(pre: np.ndarray, post: np.ndarray) -> int:
    """Return how many synapses have one neuron on both sides: rare in tissue, often a merge or an error of labels."""
    return int(((pre == post) & (pre != 0)).sum())


def _check_words(values: np.ndarray, column: str, words: tuple[str, ...], where: str) -> None:
    other = sorted({str(value) for value in np.unique(values.astype(str))} - set(words))
    if other:
        raise DataError(
            f"column {column} holds {', '.join(map(repr, other[:3]))}",
            where=where,
            expected=f"{', '.join(words[:-1])} or {words[-1]}",
            fix=f"rename them; {UNKNOWN} where it is not known",
        )


def _place(corner: tuple[float, float, float]) -> str:
    return ", ".join(f"{v:g}" for v in corner)
