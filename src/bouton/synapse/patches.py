"""Which synapses a block measures, what of each layer they need, and the patch of each one out of what was read.

A synapse belongs to the block that its postsynaptic voxel lies in. Layers are sampled on one grid of the whole data
set, so that a patch is the same whatever block it is cut from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from bouton.geometry import NM, ZYX, Box, nm_to_voxels
from bouton.synapse.shape_features import CLEFT_NM, PRE_REACH_NM, SNAP_NM, Patch
from bouton.synapse.shapes import BODY_NM

CENTRE, PRE, POST = 0, 1, 2
# what a layer is looked at around which place; a layer that is not named, in the whole patch
AROUND: Mapping[str, tuple[tuple[int, float], ...]] = {
    "mitochondria": ((PRE, BODY_NM + SNAP_NM), (POST, BODY_NM + SNAP_NM)),
    "vesicles": ((PRE, PRE_REACH_NM + SNAP_NM),),
    "synapse_evidence": ((CENTRE, CLEFT_NM),),
}


@dataclass(frozen=True)
class Sites:
    """The synapses that one block measures, in order of id.

    Attributes
    ----------
    ids : uint64 (n,)
    places : float64 (n, 3, 3)
        Of the cleft's middle, the presynaptic and the postsynaptic side, each z, y, x in voxels of the data set.
    pairs : uint64 (n, 2)
        Presynaptic and postsynaptic segment.
    size_voxels : float64 (n,)
    """

    ids: np.ndarray
    places: np.ndarray
    pairs: np.ndarray
    size_voxels: np.ndarray


def owned_sites(table: Mapping[str, np.ndarray], core: Box, voxel_size_nm: NM) -> Sites:
    """Return the synapses whose postsynaptic voxel lies in ``core``; of rows of one id, the first of the table.

    Rows without a postsynaptic segment, or with a place that is no number, belong to no block.
    """
    size = np.asarray(voxel_size_nm)
    with np.errstate(invalid="ignore"):
        voxels = np.floor(_places(table, "post_", size) + 0.5)
        inside = ((voxels >= core.start) & (voxels < core.stop)).all(axis=1)
    mine = np.flatnonzero(inside & (table["post_id"] > 0))
    same = np.flatnonzero(np.isin(table["id"], table["id"][mine]))
    first = same[np.unique(table["id"][same], return_index=True)[1]]
    rows = {name: values[first] for name, values in table.items() if values.dtype.kind != "O"}
    places = np.stack([_places(rows, side, size) for side in ("", "pre_", "post_")], axis=1)
    kept = np.isin(first, mine) & np.isfinite(places).all(axis=(1, 2))
    pairs = np.stack([rows["pre_id"], rows["post_id"]], axis=1).astype(np.uint64)
    return Sites(rows["id"][kept].astype(np.uint64), places[kept], pairs[kept], rows["size_voxels"][kept].astype(float))


def _places(table: Mapping[str, np.ndarray], side: str, size: np.ndarray) -> np.ndarray:
    """Return places in voxels, float64 (n, 3); 0 is the middle of the volume's first one."""
    return np.stack([np.asarray(table[f"{side}{axis}_nm"], dtype=np.float64) for axis in "zyx"], axis=1) / size - 0.5


@dataclass(frozen=True)
class Frame:
    """How patches are cut.

    Attributes
    ----------
    bounds : Box
        Outside of it nothing exists.
    voxel_size_nm : (z, y, x)
    reach_nm : float
        Radius of a patch.
    spacing_nm : float
        Voxels are sampled about this far apart.
    """

    bounds: Box
    voxel_size_nm: NM
    reach_nm: float
    spacing_nm: float

    @property
    def step(self) -> np.ndarray:
        """Voxels from one sample to the next, int64 (3,); samples lie at the multiples of it."""
        size = np.asarray(self.voxel_size_nm)
        return np.maximum(1, np.floor(self.spacing_nm / size + 1e-9)).astype(np.int64)

    @property
    def sampled_nm(self) -> NM:
        """From sample to sample."""
        z, y, x = (float(a) for a in np.asarray(self.voxel_size_nm) * self.step)
        return z, y, x

    def whole(self, place: np.ndarray) -> Box:
        """Return the patch around a place, whether there is a volume or not."""
        z, y, x = np.floor(place + 0.5).astype(np.int64).tolist()
        return Box((z, y, x), (z + 1, y + 1, x + 1)).grow(nm_to_voxels(self.reach_nm, self.voxel_size_nm))

    def box(self, place: np.ndarray) -> Box:
        """Return the patch around a place, as far as there is a volume."""
        return self.whole(place) & self.bounds

    def needs(self, sites: Sites, layer: str) -> Box | None:
        """Return the smallest box with all that is looked at in a layer (:data:`AROUND`); None where that is none."""
        boxes = [box for places in sites.places for box in self._needs(places, layer) if not box.is_empty]
        if not boxes:
            return None
        starts, stops = np.array([box.start for box in boxes]), np.array([box.stop for box in boxes])
        return Box(_zyx(starts.min(axis=0)), _zyx(stops.max(axis=0)))

    def _needs(self, places: np.ndarray, layer: str) -> Iterator[Box]:
        patch = self.box(places[POST])
        if layer not in AROUND:
            yield patch
        for which, reach_nm in AROUND.get(layer, ()):
            # a walk starts at a voxel of the segment beside the place
            away = reach_nm / np.asarray(self.voxel_size_nm) + 3 * self.step
            low, high = np.floor(places[which] - away), np.ceil(places[which] + away) + 1
            yield Box(_zyx(low), _zyx(high)) & patch

    def sampled(self, box: Box) -> tuple[ZYX, ZYX]:
        """Return the first sample of a box, counted along the grid of samples, and how many it holds."""
        step = self.step
        first = -(-np.asarray(box.start) // step)
        return _zyx(first), _zyx(np.maximum(-(-np.asarray(box.stop) // step) - first, 0))

    def slices(self, box: Box) -> tuple[slice, ...]:
        """Return what of an array over ``box`` the samples are."""
        step = self.step
        first = -np.asarray(box.start) % step
        return tuple(slice(a, None, b) for a, b in zip(first.tolist(), step.tolist(), strict=True))


@dataclass(frozen=True)
class Samples:
    """What was read around a block's synapses, sampled: arrays (z, y, x) over ``box``; 0 where nothing is needed."""

    frame: Frame
    box: Box
    values: dict[str, np.ndarray]

    def add(self, name: str, read: np.ndarray, box: Box) -> None:
        """Take over the samples ``read`` of ``box``."""
        origin, shape = self.frame.sampled(self.box)
        first, _ = self.frame.sampled(box)
        if read.shape == shape:
            self.values[name] = np.ascontiguousarray(read)
            return
        values = self.values.setdefault(name, np.zeros(shape, read.dtype))
        values[tuple(slice(a - b, a - b + n) for a, b, n in zip(first, origin, read.shape, strict=True))] = read

    def patch(self, sites: Sites, row: int) -> Patch:
        """Return the patch around one of the sites."""
        frame = self.frame
        place, whole = sites.places[row, POST], frame.whole(sites.places[row, POST])
        box = frame.box(place)
        first, shape = frame.sampled(box)
        origin, _ = frame.sampled(self.box)
        cut = tuple(slice(a - b, a - b + n) for a, b, n in zip(first, origin, shape, strict=True))
        centre, pre, post = (sites.places[row] - np.asarray(first) * frame.step) / frame.step
        return Patch(
            labels=self.values["segmentation"][cut],
            layers={name: values[cut] for name, values in self.values.items() if name != "segmentation"},
            spacing_nm=frame.sampled_nm,
            centre=centre,
            pre=pre,
            post=post,
            pair=(int(sites.pairs[row, 0]), int(sites.pairs[row, 1])),
            cleft_um3=float(sites.size_voxels[row]) * float(np.asarray(frame.voxel_size_nm).prod()) * 1e-9,
            seen=box.voxels / whole.voxels,
        )


def _zyx(values: np.ndarray) -> ZYX:
    z, y, x = (int(value) for value in values)
    return z, y, x
