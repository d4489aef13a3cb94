"""Any box of a phantom: image and truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bouton.geometry import Box
from bouton.phantom.defects import jitter_nm, spoil
from bouton.phantom.field import Field, fill_box, make_field, section_shift
from bouton.phantom.layers import membranes, tissue_bits
from bouton.phantom.obstacles import VESSEL
from bouton.phantom.params import PhantomParams
from bouton.phantom.render import (
    Greys,
    blur,
    blur_radius,
    expose,
    measure,
    paint,
    stamp_clefts,
    stamp_vesicles,
)
from bouton.phantom.synapses import APART_NM, REACH_NM, TARGETS, Synapses, find_synapses, place_in_volume

MARGIN_NM = REACH_NM + APART_NM + 400.0
SYNAPSE_COLUMNS = {
    "id": "uint64",
    **dict.fromkeys(("z_nm", "y_nm", "x_nm"), "float64"),
    "pre_id": "uint64",
    "post_id": "uint64",
    **{f"{side}_{axis}_nm": "float64" for side in ("pre", "post") for axis in "zyx"},
    "size_voxels": "int64",
    "score": "float64",
    "type": "str",
    "target": "str",
}


@dataclass(frozen=True)
class PhantomBlock:
    """A box of a phantom. All arrays have the box's shape.

    Attributes
    ----------
    image : uint8
    neuron_ids : uint64
        0 in a vessel only; an id names one connected neurite and does not depend on the box.
    clefts : uint64
        Synapse id in its cleft, else 0.
    mitochondria, vesicles : uint8
        1 inside.
    tissue : uint8
        Bits: 1 myelin (the sheath bears its axon's id), 2 glia, 4 soma with its nucleus.
    boundaries : uint8
        1 on the membranes between neurites.
    mask : uint8
        0 tissue, 1 vessel lumen, 2 section missing.
    synapses : dict of column -> array
        Rows of the synapses centred in the box, sorted by id; columns :data:`SYNAPSE_COLUMNS`. ``type``: excitatory or
        inhibitory; ``target``: spine (on its head), shaft, or soma.
    """

    image: np.ndarray
    neuron_ids: np.ndarray
    clefts: np.ndarray
    mitochondria: np.ndarray
    vesicles: np.ndarray
    tissue: np.ndarray
    boundaries: np.ndarray
    mask: np.ndarray
    synapses: dict[str, np.ndarray]


def join_rows(tables: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the synapse rows of several boxes as one table, sorted by id."""
    rows = {name: np.concatenate([table[name] for table in tables]) for name in SYNAPSE_COLUMNS}
    order = np.argsort(rows["id"], kind="stable")
    return {name: values[order] for name, values in rows.items()}


def generate(box: Box, params: PhantomParams) -> PhantomBlock:
    """Return the phantom over ``box``.

    Voxels and rows depend on the parameters and their own coordinates only: the same bits come back whatever box
    asks for them.

    Parameters
    ----------
    box : Box
        Voxels, z, y, x; may start below 0.
    params : PhantomParams
    """
    size = np.array(params.voxel_size_nm, dtype=np.float64)
    low, high = np.array(box.start) * size, np.array(box.stop) * size
    far = REACH_NM + jitter_nm(params)
    field = make_field(params, low - MARGIN_NM, high + MARGIN_NM)
    near = find_synapses(field, params, low - far, high + far)
    reach = max(blur_radius(params.blur_nm, s) for s in size[1:])
    inner = box.grow((0, reach, reach))
    work = _Work(field, params, inner, near)
    image = blur(work.paint(params), params.blur_nm, size)
    tissue = np.ascontiguousarray(image[box.within(inner).slices])
    tone = (float(params.gamma), float(params.contrast), float(params.brightness))
    exposed = expose(field.key, tissue, np.array(box.start), tone, params.noise, params.contrast_drift)
    core = box.within(inner).slices
    mask = work.mask()[core]
    mask[spoil(field.key, exposed, box, params)] = 2
    clefts = np.ascontiguousarray(work.clefts[core])
    return PhantomBlock(
        image=exposed,
        neuron_ids=np.ascontiguousarray(work.neuron_ids()[core]),
        clefts=clefts,
        mitochondria=((work.depth > 0) & ~work.in_body)[core].astype(np.uint8),
        vesicles=(np.maximum(work.shell, work.lumen)[core] > 0.4).astype(np.uint8),
        tissue=np.ascontiguousarray(work.tissue()[core]),
        boundaries=np.ascontiguousarray(membranes(work.distance, work.tilt, size)[core]),
        mask=mask,
        synapses=_rows(box, params, field, near, clefts),
    )


class _Work:
    """The voxels of ``inner``, evaluated with the rim that neighbours and vesicles need."""

    def __init__(self, field: Field, params: PhantomParams, inner: Box, near: Synapses) -> None:
        size = np.array(params.voxel_size_nm, dtype=np.float64)
        jitter = jitter_nm(params)
        # A vesicle shows where the section of its middle does not put it: up to two displacements away.
        slip = (0.0, 2 * jitter, 2 * jitter)
        outer = inner.grow([int(np.ceil((25.0 + s) / n)) + 1 for s, n in zip(slip, size, strict=True)])
        self.field, self.size = field, size
        self.own, self.other, tree, other_tree, gap, mito = fill_box(field, outer, params.voxel_size_nm, jitter)
        self.start = np.array(outer.start)
        self.places = np.array([section_shift(field.key, z, jitter) for z in range(outer.start[0], outer.stop[0])])
        distance, tilt, depth = measure(tree, gap, mito, size)
        rows = (near.id, near.pre, near.post, near.centre, near.normal, near.radius, near.excitatory)
        clefts, dark = stamp_clefts((tree, other_tree, distance, tilt), rows, self.places, self.start, size)
        sources = (near.pre, near.centre, near.normal, near.excitatory)
        shell, lumen = stamp_vesicles(field.key, (tree, distance), sources, self.places, self.start, size)
        part = inner.within(outer).slices
        self.inner_start = np.array(inner.start)
        arrays = (self.own, tree, distance, tilt, depth, clefts, dark, shell, lumen)
        cut = [np.ascontiguousarray(array[part]) for array in arrays]
        self.own, self.tree, self.distance, self.tilt, self.depth, self.clefts, self.dark, self.shell, self.lumen = cut
        self.places = np.ascontiguousarray(self.places[part[0]])
        self.in_body = self.own >= field.tables.kind.size
        self.flat = (field.tables.kind.reshape(-1), field.bodies.kind)

    def paint(self, params: PhantomParams) -> np.ndarray:
        """Return grey values before blur, float32."""
        truth = (self.own, self.tree, self.distance, self.tilt, self.depth)
        greys = Greys(float(params.membrane_grey), float(params.density_grey), float(params.cytoplasm_grey))
        ink = (self.dark, self.shell, self.lumen)
        return paint(self.field.key, truth, ink, self.flat, greys, (self.inner_start, self.size, self.places))

    def tissue(self) -> np.ndarray:
        """Return myelin, glia and somata as bits, uint8."""
        return tissue_bits(self.field.key, self.own, self.tree, self.distance, self.flat)

    def mask(self) -> np.ndarray:
        """Return 1 in the lumen of vessels, uint8."""
        kinds = np.concatenate([self.field.bodies.kind, [-1]])
        body = np.where(self.in_body, self.own - self.field.tables.kind.size, -1)
        return ((kinds[body] == VESSEL) & (self.depth > 0)).astype(np.uint8)

    def neuron_ids(self) -> np.ndarray:
        """Return the neurite of every voxel, uint64."""
        return np.where(self.mask() == 1, np.uint64(0), self.tree)


def _rows(box: Box, params: PhantomParams, field: Field, near: Synapses, clefts: np.ndarray) -> dict[str, np.ndarray]:
    size, jitter = np.array(params.voxel_size_nm, dtype=np.float64), jitter_nm(params)
    centres = np.array([place_in_volume(field, place, size, jitter) for place in near.centre]).reshape(-1, 3)
    voxel = np.floor(centres / size)
    inside = np.all((voxel >= np.array(box.start)) & (voxel < np.array(box.stop)), axis=1)
    mine, centres = near.pick(inside), centres[inside]
    sizes = [_cleft_voxels(box, params, field, mine.pick(np.array([n])), clefts) for n in range(len(mine.id))]
    table = {"id": mine.id, "pre_id": mine.pre, "post_id": mine.post}
    for axis, name in enumerate("zyx"):
        table[f"{name}_nm"] = centres[:, axis]
        table[f"pre_{name}_nm"] = mine.pre_point[:, axis]
        table[f"post_{name}_nm"] = mine.post_point[:, axis]
    table["size_voxels"] = np.array(sizes, dtype=np.int64)
    table["score"] = np.ones(len(mine.id))
    table["type"] = np.array(["excitatory" if e else "inhibitory" for e in mine.excitatory], dtype=object)
    table["target"] = np.array([TARGETS[t] for t in mine.target.tolist()], dtype=object)
    return {name: table[name] for name in SYNAPSE_COLUMNS}


def _cleft_voxels(box: Box, params: PhantomParams, field: Field, one: Synapses, clefts: np.ndarray) -> int:
    """Return how many voxels the cleft of synapse ``one`` (a single row) has, beyond the box too."""
    size, jitter = np.array(params.voxel_size_nm, dtype=np.float64), jitter_nm(params)
    reach = one.radius[0] + jitter
    start = np.floor((one.centre[0] - reach) / size).astype(int)
    stop = np.ceil((one.centre[0] + reach) / size).astype(int) + 1
    around = Box(tuple(start.tolist()), tuple(stop.tolist()))
    if box.contains(around):
        return int(np.count_nonzero(clefts[around.within(box).slices] == one.id[0]))
    return int(np.count_nonzero(_Work(field, params, around, one).clefts))
