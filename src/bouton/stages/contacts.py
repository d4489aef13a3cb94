"""contacts: per pair of touching segments, integer sums and patches, exact across blocks.

Run on fragments, the tables serve every agglomeration of them: ``root_contacts`` adds up without looking at a voxel.
"""

from __future__ import annotations

from dataclasses import dataclass

from bouton.segment.contacts import (
    CONTACT_COLUMNS,
    add_contacts,
    contacts,
    near_faces,
    split_contacts,
)
from bouton.segment.contacts_patches import (
    BORDER_COLUMNS,
    LINK_COLUMNS,
    PATCH_COLUMNS,
    Patches,
    join_patches,
    no_patches,
)
from bouton.segment.region_graph import SIZE_COLUMNS, add_sizes
from bouton.stage import BlockPart, BlockTask, Layer, MergePart, MergeTask, Output, Stage, Table


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes
    ----------
    patches : bool
        Whether to tell the connected patches of each contact apart; without them the tables ``patches`` and
        ``patch_links`` are empty.
    """

    patches: bool = True


def touch(task: BlockTask) -> Output:
    """Sum up the contacts that the block owns, and find its patches."""
    labels = task.read("segmentation", (1, 1, 1))
    table, found = contacts(labels, task.core, task.bounds, task.shape, task.params.patches)
    found = found or no_patches()
    return Output(
        tables={
            "_sums": table,
            "_near": near_faces(labels, task.core, task.bounds),
            "_patches": found.patches,
            "_links": found.links,
            "_border": found.border,
        }
    )


def add(task: MergeTask) -> Output:
    """Add up the contacts; keep those to which nothing outside of the node's box adds."""
    table = add_contacts(task.rows("_sums", "_open_sums"))
    near = add_sizes(task.rows("_near", "_open_near"))
    kept, rest, near = split_contacts(table, near, task.box, task.bounds)
    return Output(tables={"contacts": kept, "_open_sums": rest, "_open_near": near})


def join(task: MergeTask) -> Output:
    """Join the patches across the blocks' faces; keep those that touch no face of the node's box."""
    names = [("_patches", "_links", "_border"), ("_open_patches", "_open_links", "_open_border")][not task.is_leaf]
    kept, rest = join_patches(
        [Patches(*(child[name] for name in names)) for child in task.children], task.box, task.bounds
    )
    return Output(
        tables={
            "patches": kept.patches,
            "patch_links": kept.links,
            "_open_patches": rest.patches,
            "_open_links": rest.links,
            "_open_border": rest.border,
        }
    )


SUMS, NEAR = Table(CONTACT_COLUMNS), Table(SIZE_COLUMNS)
PATCHES, LINKS, BORDER = Table(PATCH_COLUMNS), Table(LINK_COLUMNS), Table(BORDER_COLUMNS)

STAGE = Stage(
    version=1,
    params=Params,
    reads={"segmentation": Layer("uint64", kind="labels")},
    writes=("contacts", "patches", "patch_links"),
    parts=(
        BlockPart(
            "touch",
            touch,
            tables={"_sums": SUMS, "_near": NEAR, "_patches": PATCHES, "_links": LINKS, "_border": BORDER},
            halo=lambda params, voxel_size_nm: (1, 1, 1),
            bytes_per_voxel=32.0,
        ),
        MergePart(
            "add",
            add,
            ("_sums", "_near"),
            {"_open_sums": SUMS, "_open_near": NEAR},
            kept={"contacts": SUMS},
        ),
        MergePart(
            "join",
            join,
            ("_patches", "_links", "_border"),
            {"_open_patches": PATCHES, "_open_links": LINKS, "_open_border": BORDER},
            kept={"patches": PATCHES, "patch_links": LINKS},
        ),
    ),
)
