"""Stand-ins for synapses on somata: places where a neurite touches a soma of a phantom, which bears next to none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.geometry import Box, centres_nm, voxel_ids
from bouton.stage import Layer, Output, Stage, Table, WholePart, WholeTask

SOMA = 4
DEEP_NM = 60.0
_NM = ("z_nm", "y_nm", "x_nm")
COLUMNS = (
    {"id": "uint64", **dict.fromkeys(_NM, "float64"), "pre_id": "uint64", "post_id": "uint64"}
    | {f"{side}_{name}": "float64" for side in ("pre", "post") for name in _NM}
    | {"size_voxels": "int64", "score": "float64", "type": "str", "target": "str"}
)


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes
    ----------
    wanted : int
        Places at most.
    apart_nm : float
        Least distance between two of them.
    seed : int
        Of the order in which they are drawn.
    """

    wanted: int = 60
    apart_nm: float = 500.0
    seed: int = 1


def _find(task: WholeTask) -> Output:
    ids, soma = task.volumes["neuron_ids"].read(task.bounds), task.volumes["tissue"].read(task.bounds) & SOMA > 0
    deep = max(1, round(DEEP_NM / task.voxel_size_nm[2]))
    n = ids.shape[2] - 2 * deep
    here, there = slice(deep, deep + n), slice(deep + 1, deep + 1 + n)
    # the neurite comes first along x, then the soma, which goes on for some way
    inner = slice(2 * deep, 2 * deep + n)
    touch = ~soma[..., here] & soma[..., there] & (ids[..., here] != ids[..., there]) & (ids[..., here] > 0)
    found = touch & (ids[..., inner] == ids[..., there])
    places = np.argwhere(found) + np.array([0, 0, deep])
    chosen = _apart(places[np.random.default_rng(task.params.seed).permutation(len(places))], task)
    return Output(tables={"synapses": _table(chosen, deep, ids, task)})


def _apart(places: np.ndarray, task: WholeTask) -> np.ndarray:
    """Return the first places that keep their distance, in order of place."""
    size, kept = np.asarray(task.voxel_size_nm), np.zeros((0, 3), dtype=np.int64)
    for place in places:
        if len(kept) == task.params.wanted:
            break
        if np.all((((kept - place) * size) ** 2).sum(axis=1) >= task.params.apart_nm**2):
            kept = np.concatenate([kept, place[None]])
    return kept[np.lexsort((kept[:, 2], kept[:, 1], kept[:, 0]))]


def _table(places: np.ndarray, deep: int, ids: np.ndarray, task: WholeTask) -> dict[str, np.ndarray]:
    start = np.asarray(task.bounds.start)
    table: dict[str, np.ndarray] = {"id": _ids(places + start, task)}
    for side, along in (("", 0.5), ("pre_", 0.0), ("post_", float(deep))):
        nm = centres_nm(places + start + [0.0, 0.0, along], task.voxel_size_nm)
        table |= {f"{side}{name}": nm[:, axis] for axis, name in enumerate(_NM)}
    table["pre_id"] = ids[places[:, 0], places[:, 1], places[:, 2]].astype(np.uint64)
    table["post_id"] = ids[places[:, 0], places[:, 1], places[:, 2] + deep].astype(np.uint64)
    count = len(places)
    table |= {"size_voxels": np.zeros(count, np.int64), "score": np.ones(count)}
    table |= {"type": np.full(count, "unknown", object), "target": np.full(count, "soma", object)}
    return {name: table[name] for name in COLUMNS}


def _ids(places: np.ndarray, task: WholeTask) -> np.ndarray:
    one = [voxel_ids(Box(tuple(p), tuple(a + 1 for a in p)), task.shape).item() for p in places.tolist()]
    return np.array(one, dtype=np.uint64)


STAGE = Stage(
    version=1,
    params=Params,
    reads={"neuron_ids": Layer("uint64", kind="labels"), "tissue": Layer("uint8", kind="mask")},
    writes=("synapses",),
    parts=(WholePart("find", _find, tables={"synapses": Table(COLUMNS)}),),
)
