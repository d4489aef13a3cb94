"""root_contacts: contacts of fragments + merge history -> contacts of segments at a threshold, without any voxel.

Without a merge history: contacts of the labels themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.errors import SpecError
from bouton.segment.contacts import CONTACT_COLUMNS
from bouton.segment.contacts_patches import LINK_COLUMNS, PATCH_COLUMNS
from bouton.segment.contacts_roots import ROOT_CONTACT_COLUMNS, FragmentContacts, root_contacts
from bouton.segment.history import MERGE_COLUMNS, cut
from bouton.stage import Output, Stage, Table, WholePart, WholeTask


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes
    ----------
    threshold : float
        Mean affinity (0 to 1) from which on fragments are one segment, as in ``segmentation``; at least the
        agglomeration's floor. Without ``merges`` it does nothing.
    """

    threshold: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise SpecError(f"threshold = {self.threshold}", expected="a threshold from 0 to 1")


def add_up(task: WholeTask) -> Output:
    """Add up the fragments' contacts and patches by root."""
    moves = np.zeros(0, np.uint64), np.zeros(0, np.uint64)
    if "merges" in task.given:
        moves = cut(task.table("merges"), task.params.threshold)
    found = FragmentContacts(*(task.table(name) for name in ("contacts", "patches", "patch_links")))
    return Output(tables={"root_contacts": root_contacts(found, moves, task.voxel_size_nm)})


STAGE = Stage(
    version=1,
    params=Params,
    reads={
        "contacts": Table(CONTACT_COLUMNS),
        "patches": Table(PATCH_COLUMNS),
        "patch_links": Table(LINK_COLUMNS),
        "merges": Table(MERGE_COLUMNS),
    },
    optional=frozenset({"merges"}),
    writes=("root_contacts",),
    parts=(WholePart("add_up", add_up, tables={"root_contacts": Table(ROOT_CONTACT_COLUMNS)}),),
)
