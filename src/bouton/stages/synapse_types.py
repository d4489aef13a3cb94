"""Synapse types: excitatory or inhibitory, and on a spine, a shaft or a soma, with calibrated probabilities.

The shapes of the partners around each synapse are measured in a patch of the segmentation; forests decide
(:mod:`bouton.synapse.shape_features`, :mod:`bouton.learn.synapse_types`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from bouton.errors import DataError, SpecError
from bouton.geometry import NM, ZYX, Box, nm_to_voxels
from bouton.learn.package import package_stamp
from bouton.learn.shipped import model_path
from bouton.learn.synapse_types import SYNAPSE_TYPES, TypesModel, read_types_model
from bouton.stage import BlockPart, BlockTask, Layer, Output, Stage, Table, TableData, WholePart, WholeTask
from bouton.synapse.patches import POST, Frame, Samples, Sites, owned_sites
from bouton.synapse.shape_features import CLEFT, EXCITATORY, FEATURES, HALF, NEEDS, measure

NO_MODEL = "none"
SOMA_BIT, SOMA_CHANNEL = 4, 2
# of a voxel of labels and of what unpacks it; of a sample of all layers; of a sample that is walked
READ_BYTES, SAMPLE_BYTES, PATCH_BYTES = 12.0, 13.0, 48
UNKNOWN = "unknown"
P_COLUMNS = {"p_excitatory": "type", "p_spine": "target", "p_shaft": "target", "p_soma": "target"}


@dataclass(frozen=True)
class Params:
    """Parameters.

    Attributes
    ----------
    model : str
        Name of a model that comes with bouton, or a path to the folder of one that ``bouton train-types`` wrote;
        ``none``: only measure the features, every type is ``unknown``.
    reach_nm : float
        Radius of the patch around a synapse, at least 450. A model fits the one it was trained with only.
    spacing_nm : float
        Voxels are sampled about this far apart, 5 to 60. Likewise.
    least_probability : float
        Type and target are ``unknown`` where the most probable one is less probable than this, 0 to 1.
    """

    model: str = "synapse-types-phantom"
    reach_nm: float = 900.0
    spacing_nm: float = 30.0
    least_probability: float = 0.5

    def __post_init__(self) -> None:
        if not 450 <= self.reach_nm <= 3000:
            raise SpecError(f"reach_nm = {self.reach_nm}", expected="450 to 3000")
        if not 5 <= self.spacing_nm <= 60:
            raise SpecError(f"spacing_nm = {self.spacing_nm}", expected="5 to 60")
        if not 0 <= self.least_probability <= 1:
            raise SpecError(f"least_probability = {self.least_probability}", expected="0 to 1")


def _model(params: Params) -> TypesModel | None:
    if params.model == NO_MODEL:
        return None
    path = model_path(params.model, SYNAPSE_TYPES)
    model = _cached_model(path, package_stamp(path))
    for name in ("reach_nm", "spacing_nm"):
        mine, its = getattr(params, name), getattr(model.card, name)
        if mine != its:
            raise SpecError(
                f"{name} = {mine:g}, and model {params.model!r} was trained with {its:g}",
                expected="the same, since its features depend on it",
                fix=f"set params.{name}: {its:g}, or train another model",
            )
    return model


@lru_cache(maxsize=2)
def _cached_model(path: Path, stamp: tuple[int, ...]) -> TypesModel:
    return read_types_model(path)


def _files(params: Params) -> tuple[bytes, ...]:
    """Return what of a model determines its answers: not its description or scores."""
    model = _model(params)
    if model is None:
        return ()
    return model.card.sha256.encode(), repr(sorted(model.card.questions.items())).encode()


def _reach(params: Params, voxel_size_nm: NM) -> ZYX:
    return nm_to_voxels(params.reach_nm, voxel_size_nm)


def _bytes_per_voxel(params: Params, voxel_size_nm: NM) -> float:
    """Return the memory of a layer as it is read, and of the samples of all of them."""
    frame = Frame(Box.of_shape((1, 1, 1)), voxel_size_nm, params.reach_nm, params.spacing_nm)
    return READ_BYTES + SAMPLE_BYTES / float(frame.step.prod())


def _patch_bytes(params: Params) -> int:
    """Return the memory of measuring a synapse whose segment fills its patch; samples are that close at least."""
    return int(PATCH_BYTES * (4 * params.reach_nm / params.spacing_nm) ** 3)


def _measure(task: BlockTask) -> Output:
    _check_layers(task)
    frame = Frame(task.bounds, task.voxel_size_nm, task.params.reach_nm, task.params.spacing_nm)
    sites = owned_sites(task.table("synapses"), task.core, task.voxel_size_nm)
    samples = _samples(task, frame, sites)
    found = [_features(task, samples, sites, row) for row in range(len(sites.ids))] if samples else []
    columns = {name: np.array([each[name] for each in found], dtype=np.float64) for name in FEATURES}
    return Output(tables={"_measured": {"id": sites.ids, **columns}})


def _features(task: BlockTask, samples: Samples, sites: Sites, row: int) -> dict[str, float]:
    found = measure(samples.patch(sites, row), task.params.reach_nm)
    if np.isnan(found["thickness_nm"]):
        # no sample of the segment is near: is there any voxel of it at all?
        box = samples.frame.box(sites.places[row, POST])
        if sites.pairs[row, 1] not in task.volumes["segmentation"].read(box):
            raise DataError(
                f"the postsynaptic segment {sites.pairs[row, 1]} of synapse {sites.ids[row]} is not there",
                where=f"box {box} of the segmentation (z, y, x)", expected="the segment ids of the table",
                fix="read the segmentation that the synapses were assigned in: steps segmentation and synapses need "
                "the same threshold",
            )  # fmt: skip
    return found


def _samples(task: BlockTask, frame: Frame, sites: Sites) -> Samples | None:
    """Return what the block's synapses need of every layer, read once; None where there is no synapse."""
    whole = frame.needs(sites, "segmentation")
    if whole is None:
        return None
    samples = Samples(frame, whole, {})
    labels = task.volumes["segmentation"].read(whole)[frame.slices(whole)]
    samples.add("segmentation", labels.astype(np.uint64, copy=False), whole)
    del labels
    for layer, name in (("mitochondria", "mitochondria"), ("vesicles", "vesicles"), ("tissue", "soma")):
        _add(task, samples, sites, layer, lambda values, name=name: {name: _inside(values, soma=name == "soma")})
    _add(task, samples, sites, "synapse_evidence", _evidence)
    return samples


def _add(
    task: BlockTask, samples: Samples, sites: Sites, layer: str,
    convert: Callable[[np.ndarray], dict[str, np.ndarray]],
) -> None:  # fmt: skip
    """Read what is needed of a layer, and add what ``convert`` makes of its samples."""
    if layer not in task.given:
        return
    corner = Box(samples.box.start, samples.box.start).grow((1, 1, 1)) & samples.box
    box = samples.frame.needs(sites, layer) or corner
    read = task.volumes[layer].read(box)
    for name, values in convert(read[(..., *samples.frame.slices(box))]).items():
        samples.add(name, values, box)


def _evidence(values: np.ndarray) -> dict[str, np.ndarray]:
    channels = {"cleft": CLEFT, "excitatory": EXCITATORY}
    return {name: values[channel] for name, channel in channels.items() if channel < len(values)}


def _check_layers(task: BlockTask) -> None:
    """Refuse, in the first task, a model that needs a layer which the workflow does not give."""
    model = _model(task.params)
    for name in model.features if model else ():
        layer = NEEDS.get(name)
        if layer is None:
            continue
        channels = _channels(task, layer)
        if channels == 1 and name == "excitatory":
            found = "has one channel"
        elif channels is None:
            found = "is not given"
        else:
            continue
        raise SpecError(
            f"model {task.params.model!r} needs {name}, and {layer} {found}",
            where="synapse_types", expected=f"reads: {{{layer}: ...}}" + (" of 4 channels" if channels else ""),
            fix=f"give {layer}, or a model trained without it",
        )  # fmt: skip


def _channels(task: BlockTask, layer: str) -> int | None:
    """Return an input's number of channels; 0 without an axis of channels, None where it is not given."""
    if layer not in task.given:
        return None
    shape = task.volumes[layer].shape
    return int(shape[0]) if len(shape) == 4 else 0


def _inside(values: np.ndarray, *, soma: bool) -> np.ndarray:
    """Return where probabilities (c, z, y, x) are at least 0.5, or a mask (z, y, x) is set, bool (z, y, x)."""
    if values.ndim == 4:
        return values[SOMA_CHANNEL if soma else 0] >= HALF
    return (values & SOMA_BIT if soma else values) > 0


def _classify(task: WholeTask) -> Output:
    table = dict(task.table("synapses"))
    ids, rows = np.unique(table["id"].astype(np.uint64), return_inverse=True)
    features = _joined(ids, task.table("_measured"))
    count, model = len(table["id"]), _model(task.params)
    chances = {name: np.full(count, np.nan) for name in P_COLUMNS}
    for question in ("type", "target"):
        table[question] = np.full(count, UNKNOWN, dtype=object)
        if model is None or question not in model.card.questions:
            continue
        classes, found = model.card.questions[question].classes, model.answer(question, features)[rows]
        table[question] = _names(found, classes, task.params.least_probability)
        chances |= {f"p_{name}": found[:, n] for n, name in enumerate(classes) if f"p_{name}" in chances}
    synapses = {name: _column(name, table | chances) for name in SYNAPSES.columns}
    return Output(tables={"synapses": synapses, "features": features})


def _joined(ids: np.ndarray, measured: TableData) -> TableData:
    """Return the features of all ids, sorted; NaN for those that no block measured."""
    rows = np.searchsorted(ids, measured["id"])
    found = {"id": ids}
    for name in FEATURES:
        found[name] = np.full(len(ids), np.nan)
        found[name][rows] = measured[name]
    return found


def _names(found: np.ndarray, classes: tuple[str, ...], least: float) -> np.ndarray:
    """Return each row's most probable class, of equal ones the first; ``unknown`` where it is not probable enough."""
    known = ~np.isnan(found).any(axis=1)
    sure = known & (np.where(known[:, None], found, 0.0).max(axis=1, initial=0.0) >= least)
    best = np.argmax(np.where(known[:, None], found, 0.0), axis=1)
    return np.array([classes[b] if s else UNKNOWN for b, s in zip(best.tolist(), sure.tolist(), strict=True)], object)


def _column(name: str, table: TableData) -> np.ndarray:
    """Return a column; where a table from elsewhere lacks one, what stands for it."""
    instead = {"cleft_id": "id", "pre_fragment": "pre_id", "post_fragment": "post_id", "partner_score": "score"}
    return table[name] if name in table else table[instead[name]]


_PLACES = {f"{side}{axis}_nm": "float64" for side in ("", "pre_", "post_") for axis in "zyx"}
_NEEDED = (
    {"id": "uint64"} | _PLACES | {"pre_id": "uint64", "post_id": "uint64", "size_voxels": "int64", "score": "float64"}
)
SYNAPSES = Table(
    {"id": "uint64", **dict.fromkeys(("z_nm", "y_nm", "x_nm"), "float64"), "pre_id": "uint64", "post_id": "uint64"}
    | {f"{side}_{axis}_nm": "float64" for side in ("pre", "post") for axis in "zyx"}
    | {"size_voxels": "int64", "score": "float64", "type": "str", "cleft_id": "uint64", "partner_score": "float64"}
    | {"pre_fragment": "uint64", "post_fragment": "uint64", "target": "str"}
    | dict.fromkeys(P_COLUMNS, "float64")
)
_FEATURES = Table({"id": "uint64"} | dict.fromkeys(FEATURES, "float64"))
_SHARE = Layer("uint8", channels=(None, 1), kind="probability")

STAGE = Stage(
    version=3,
    params=Params,
    reads={
        "synapses": Table(_NEEDED),
        "segmentation": Layer(("uint64", "uint32"), kind="labels"),
        "synapse_evidence": Layer("uint8", channels=(1, 4), kind="probability"),
        "vesicles": _SHARE,
        "mitochondria": _SHARE,
        "tissue": Layer("uint8", channels=(None, 3), kind="probability"),
    },
    optional=frozenset({"synapse_evidence", "vesicles", "mitochondria", "tissue"}),
    writes=("synapses", "features"),
    parts=(
        BlockPart(
            "measure",
            _measure,
            tables={"_measured": _FEATURES},
            halo=_reach,
            bytes_per_voxel=_bytes_per_voxel,
            fixed_bytes=_patch_bytes,
        ),
        WholePart("classify", _classify, tables={"synapses": SYNAPSES, "features": _FEATURES}),
    ),
    files=_files,
)
