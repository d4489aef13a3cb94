"""Contacts of roots from those of their fragments: sums are added up, patches joined by their links."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.errors import DataError
from bouton.geometry import NM
from bouton.segment.components import join
from bouton.segment.contacts import COUNTS, add_contacts, faces_of
from bouton.segment.contacts_area import contact_areas
from bouton.segment.region_graph import TableData, move_pairs, rows_where

ROOT_CONTACT_COLUMNS = {
    "a_id": "uint64",
    "b_id": "uint64",
    "area_um2": "float64",
    "faces": "int64",
    "patches": "int64",
    "z_nm": "float64",
    "y_nm": "float64",
    "x_nm": "float64",
}


@dataclass(frozen=True)
class FragmentContacts:
    """The tables of the stage ``contacts``: ``CONTACT_COLUMNS``, ``PATCH_COLUMNS``, ``LINK_COLUMNS``, in any order."""

    contacts: TableData
    patches: TableData
    links: TableData


def root_contacts(found: FragmentContacts, moves: tuple[np.ndarray, np.ndarray], voxel_size_nm: NM) -> TableData:
    """Return the contacts between roots that share a voxel face.

    Parameters
    ----------
    found : FragmentContacts
        Of the fragments.
    moves : (ids, roots)
        uint64 (n,): the fragments, sorted, that are not their root's name, and the root's.
    voxel_size_nm : (z, y, x)

    Returns
    -------
    dict of str -> numpy.ndarray
        ``ROOT_CONTACT_COLUMNS``, a_id < b_id, sorted: area in um^2, voxel faces, number of connected patches, centroid
        of the faces in nm.
    """
    sums = add_contacts([move_pairs(found.contacts, *moves)])
    # segments that meet along edges of voxels only are no contact
    sums = rows_where(sums, faces_of(sums) > 0)
    faces = faces_of(sums)
    counts = np.stack([sums[name] for name in COUNTS], axis=1)
    table = {"a_id": sums["a"], "b_id": sums["b"], "area_um2": contact_areas(counts, voxel_size_nm), "faces": faces}
    table["patches"] = _count_patches(found, moves, (sums["a"], sums["b"]))
    for axis, name in enumerate("zyx"):
        table[f"{name}_nm"] = sums[f"{name}_sum"] / (2.0 * faces) * voxel_size_nm[axis]
    return table


def _count_patches(
    found: FragmentContacts, moves: tuple[np.ndarray, np.ndarray], pairs: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Return int64 (n,): the components of linked patches of each pair of roots, given sorted."""
    rows = move_pairs(found.patches, *moves)
    rows = rows_where(rows, np.argsort(rows["patch"]))
    number = _numbers(rows["a"], rows["b"], pairs)
    p, q = _rows(rows["patch"], found.links["p"]), _rows(rows["patch"], found.links["q"])
    # a link to a patch inside of a root leads nowhere
    live = (p >= 0) & (q >= 0)
    p, q = p[live], q[live]
    same = number[p] == number[q]
    merged, _ = join(rows["patch"][p[same]], rows["patch"][q[same]])
    heads = ~np.isin(rows["patch"], merged)
    return np.bincount(number[heads], minlength=len(pairs[0])).astype(np.int64)


def _rows(patches: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the row of each wanted patch among the sorted ones, -1 where it is not there."""
    if not len(patches):
        return np.full(len(wanted), -1)
    at = np.minimum(np.searchsorted(patches, wanted), len(patches) - 1)
    return np.where(patches[at] == wanted, at, -1)


def _numbers(a: np.ndarray, b: np.ndarray, pairs: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the row of each pair (a, b) in the sorted distinct ``pairs``.

    Raises
    ------
    DataError
        One of the pairs is not there.
    """
    ids = np.unique(np.concatenate(pairs))
    wanted = _rows(ids, a) * len(ids) + _rows(ids, b)
    rows = _rows(_rows(ids, pairs[0]) * len(ids) + _rows(ids, pairs[1]), wanted)
    lost = np.flatnonzero(rows < 0)
    if len(lost):
        raise DataError(
            f"patches of segments {a[lost[0]]} and {b[lost[0]]}, which have no contact",
            expected="contacts, patches and patch_links of one step",
            fix="read all three from the same contacts step",
        )
    return rows
