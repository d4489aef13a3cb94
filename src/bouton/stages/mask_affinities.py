"""mask_affinities: affinities + masks -> affinities with no edge outside of the tissue, and across missing sections.

An edge with an end outside of the mask, or inside an excluded place, is 0: ``fragments`` makes such voxels background.
Missing sections take the affinities of the next valid one, so that objects pass (:mod:`bouton.segment.masks`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.errors import SpecError
from bouton.geometry import ZYX, Box
from bouton.segment.masks import NOWHERE, Bridge, reach, zero_outside
from bouton.stage import BlockPart, BlockTask, Layer, Output, Stage


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes
    ----------
    exclude_zyx : list of str
        Boxes ``z0:z1,y0:y1,x0:x1``, in voxels of the data set, half-open: nothing in them counts.
    missing_sections : list of int
        z, in voxels of the data set, of sections without an image.
    """

    exclude_zyx: tuple[str, ...] = ()
    missing_sections: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for text in self.exclude_zyx:
            Box.parse(text)
        if min(self.missing_sections, default=0) < 0:
            raise SpecError(f"missing_sections holds {min(self.missing_sections)}", expected="z of at least 0")


def mask_affinities(task: BlockTask) -> Output:
    """Bridge the missing sections, then cut every edge that leaves the tissue."""
    _check_inside(task.params, task.shape)
    bridge = Bridge(frozenset(task.params.missing_sections), task.bounds.start[0], task.bounds.stop[0])
    affinities = zero_outside(_bridged(task, bridge), _inside(task, bridge))
    return Output(layers={"masked_affinities": affinities})


def _bridged(task: BlockTask, bridge: Bridge) -> np.ndarray:
    affinities = task.read("affinities", (0, 0, 0))
    for i, z in enumerate(range(task.core.start[0], task.core.stop[0])):
        section, edge = bridge.section(z), bridge.edge(z)
        if section != z:
            affinities[1:, i] = _section(task, "affinities", section, task.core)[1:]
        if edge != z:
            affinities[0, i] = _section(task, "affinities", edge, task.core)[0]
    return affinities


def _inside(task: BlockTask, bridge: Bridge) -> np.ndarray:
    """Return bool: the core with one voxel more on the lower sides; True beyond the bounds, where no edge is."""
    z, y, x = (max(a - 1, b) for a, b in zip(task.core.start, task.bounds.start, strict=True))
    box = Box((z, y, x), task.core.stop)
    inside = np.ones(box.shape, np.bool_)
    if "mask" in task.volumes:
        inside &= task.volumes["mask"].read(box) != 0
    if "exclude" in task.volumes:
        inside &= task.volumes["exclude"].read(box) == 0
    for i, z in enumerate(range(box.start[0], box.stop[0])):
        if bridge.section(z) != z:
            inside[i] = _tissue(task, bridge.section(z), box)
    for text in task.params.exclude_zyx:
        excluded = Box.parse(text) & box
        if not excluded.is_empty:
            inside[excluded.within(box).slices] = False
    beyond = [(1 - (a - b), 0) for a, b in zip(task.core.start, box.start, strict=True)]
    return np.pad(inside, beyond, constant_values=True)


def _tissue(task: BlockTask, z: int, box: Box) -> np.ndarray:
    tissue = np.full(box.shape[1:], z != NOWHERE)
    if "mask" in task.volumes:
        tissue &= _section(task, "mask", z, box) != 0
    if "exclude" in task.volumes:
        tissue &= _section(task, "exclude", z, box) == 0
    return tissue


def _section(task: BlockTask, name: str, z: int, box: Box) -> np.ndarray:
    """Return section ``z`` of the box' y and x, (y, x) or (c, y, x); zeros for NOWHERE."""
    if z == NOWHERE:
        shape = task.volumes[name].shape
        return np.zeros((*shape[:-3], *box.shape[1:]), task.volumes[name].dtype)
    place = Box((z, *box.start[1:]), (z + 1, *box.stop[1:]))
    return task.volumes[name].read(place)[..., 0, :, :]


def _check_inside(params: Params, shape: ZYX) -> None:
    lost = [z for z in params.missing_sections if z >= shape[0]]
    if lost:
        raise SpecError(
            f"missing_sections holds {lost[0]}, the data set has {shape[0]} sections",
            expected=f"z from 0 to {shape[0] - 1}", fix="correct missing_sections; z counts from 0",
        )  # fmt: skip
    for text in params.exclude_zyx:
        if not Box.of_shape(shape).contains(Box.parse(text)):
            raise SpecError(
                f"exclude_zyx holds {text}, which reaches outside of the data set",
                expected=f"a box inside {Box.of_shape(shape)} (z, y, x)", fix="correct exclude_zyx",
            )  # fmt: skip


def _halo(params: Params, voxel_size_nm: object) -> ZYX:
    return (max(1, reach(params.missing_sections) + 1), 1, 1)


_MASK = Layer(("uint8", "bool"), kind="mask")

STAGE = Stage(
    version=1,
    params=Params,
    reads={"affinities": Layer("uint8", channels=3, kind="affinities"), "mask": _MASK, "exclude": _MASK},
    optional=frozenset({"mask", "exclude"}),
    writes=("masked_affinities",),
    parts=(
        BlockPart(
            "mask_affinities",
            mask_affinities,
            layers={"masked_affinities": Layer("uint8", channels=3, kind="affinities")},
            halo=_halo,
            bytes_per_voxel=12.0,
        ),
    ),
)
