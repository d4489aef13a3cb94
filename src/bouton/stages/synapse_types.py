"""Synapse types: excitatory or inhibitory, and on a spine, a shaft or a soma, with calibrated probabilities.

The shapes of the partners around each synapse are measured in a patch of the segmentation; forests decide
(:mod:`bouton.synapse.shape_features`, :mod:`bouton.learn.synapse_types`).
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from bouton.errors import DataError, SpecError
from bouton.geometry import Box, nm_to_voxels
from bouton.learn.package import package_stamp
from bouton.learn.synapse_types import CARD, TypesModel, read_types_model
from bouton.stage import Layer, ObjectPart, ObjectTask, Output, Stage, Table, TableData, WholePart, WholeTask
from bouton.synapse.shape_features import CLEFT, EXCITATORY, FEATURES, HALF, NEEDS, Patch, measure

MODELS = Path(__file__).parent.parent / "models"
NO_MODEL = "none"
SOMA_BIT, SOMA_CHANNEL = 4, 2
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


def types_model_names() -> list[str]:
    """Return the names of the models of synapse types that come with bouton."""
    return sorted(path.parent.name for path in MODELS.glob(f"*/{CARD}"))


def types_model_path(model: str) -> Path:
    """Return the folder of a model given by name or path.

    Raises
    ------
    SpecError
        There is no such model.
    """
    path = MODELS / model if model in types_model_names() else Path(model)
    if not model or not path.exists():
        known = [*types_model_names(), NO_MODEL]
        close = difflib.get_close_matches(model, known, n=1, cutoff=0.6)
        meant = f"did you mean {close[0]!r}? Else " if close else ""
        raise SpecError(
            f"no model of synapse types {model!r}",
            expected=f"one of {', '.join(known)}, or a path to a model's folder",
            fix=f"{meant}name one of these, or make one with `bouton train-types`",
        )
    return path.resolve()


def _model(params: Params) -> TypesModel | None:
    if params.model == NO_MODEL:
        return None
    path = types_model_path(params.model)
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


def _measure(task: ObjectTask) -> Output:
    _check_layers(task)
    table = task.table("synapses")
    order = np.argsort(table["id"], kind="stable")
    rows = order[np.searchsorted(table["id"][order], task.ids)]
    found = [_row_features(task, table, row) for row in rows.tolist()]
    columns = {name: np.array([each[name] for each in found], dtype=np.float64) for name in FEATURES}
    return Output(tables={"features": {"id": task.ids.astype(np.uint64), **columns}})


def _check_layers(task: ObjectTask) -> None:
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


def _channels(task: ObjectTask, layer: str) -> int | None:
    """Return an input's number of channels; 0 without an axis of channels, None where it is not given."""
    if layer not in task.given:
        return None
    shape = task.volumes[layer].shape
    return int(shape[0]) if len(shape) == 4 else 0


def _row_features(task: ObjectTask, table: TableData, row: int) -> dict[str, float]:
    patch = _patch(task, table, row)
    return dict.fromkeys(FEATURES, float("nan")) if patch is None else measure(patch, task.params.reach_nm)


def _patch(task: ObjectTask, table: TableData, row: int) -> Patch | None:
    """Return what lies around the post-synaptic place; None where that is nowhere, or outside of the bounds."""
    size = np.asarray(task.voxel_size_nm)
    pair = int(table["pre_id"][row]), int(table["post_id"][row])
    places = {part: _voxel(table, row, part, size) for part in ("", "pre_", "post_")}
    if not np.isfinite(np.concatenate(list(places.values()))).all() or pair[1] == 0:
        return None
    middle = np.floor(places["post_"] + 0.5).astype(np.int64)
    whole = Box(tuple(middle.tolist()), tuple((middle + 1).tolist())).grow(
        nm_to_voxels(task.params.reach_nm, task.voxel_size_nm)
    )
    box = whole & task.bounds
    if not task.bounds.contains(Box(tuple(middle.tolist()), tuple((middle + 1).tolist()))):
        return None
    # a sample lies on a global grid, so that equal places give equal patches
    step = np.maximum(1, np.floor(task.params.spacing_nm / size + 1e-9)).astype(np.int64)
    first = -np.asarray(box.start) % step
    cut = tuple(slice(a, None, b) for a, b in zip(first.tolist(), step.tolist(), strict=True))
    labels = task.volumes["segmentation"].read(box)
    if pair[1] not in labels:
        raise DataError(
            f"the postsynaptic segment {pair[1]} of synapse {table['id'][row]} is not there",
            where=f"box {box} of the segmentation (z, y, x)", expected="the segment ids of the table",
            fix="read the segmentation that the synapses were assigned in",
        )  # fmt: skip
    origin = np.asarray(box.start) + first
    centre, pre, post = ((place - origin) / step for place in places.values())
    return Patch(
        labels=np.ascontiguousarray(labels[cut], dtype=np.uint64),
        layers=_layers(task, box, cut),
        spacing_nm=tuple((size * step).tolist()),
        centre=centre,
        pre=pre,
        post=post,
        pair=pair,
        cleft_um3=float(table["size_voxels"][row]) * float(size.prod()) * 1e-9,
        seen=box.voxels / whole.voxels,
    )


def _voxel(table: TableData, row: int, part: str, size: np.ndarray) -> np.ndarray:
    """Return a place of a row in voxels; 0 is the middle of the volume's first one."""
    return np.array([table[f"{part}{axis}_nm"][row] for axis in "zyx"], dtype=np.float64) / size - 0.5


def _layers(task: ObjectTask, box: Box, cut: tuple[slice, ...]) -> dict[str, np.ndarray]:
    found = {}
    for layer, name in (("mitochondria", "mitochondria"), ("vesicles", "vesicles"), ("tissue", "soma")):
        if layer in task.given:
            found[name] = _inside(task.volumes[layer].read(box), soma=layer == "tissue")[cut]
    if "synapse_evidence" in task.given:
        evidence = task.volumes["synapse_evidence"].read(box)
        for name, channel in (("cleft", CLEFT), ("excitatory", EXCITATORY)):
            if channel < len(evidence):
                found[name] = evidence[channel][cut].astype(np.float32) / 255
    return found


def _inside(values: np.ndarray, *, soma: bool) -> np.ndarray:
    """Return where probabilities (c, z, y, x) are at least 0.5, or a mask (z, y, x) is set, bool (z, y, x)."""
    if values.ndim == 4:
        return values[SOMA_CHANNEL if soma else 0] >= HALF
    return (values & SOMA_BIT if soma else values) > 0


def _classify(task: WholeTask) -> Output:
    table, features = dict(task.table("synapses")), task.table("features")
    order = np.argsort(features["id"], kind="stable")
    rows = order[np.searchsorted(features["id"][order], table["id"])]
    columns = {name: features[name][rows] for name in FEATURES}
    count, model = len(table["id"]), _model(task.params)
    chances = {name: np.full(count, np.nan) for name in P_COLUMNS}
    for question in ("type", "target"):
        table[question] = np.full(count, UNKNOWN, dtype=object)
        if model is None or question not in model.card.questions:
            continue
        classes, found = model.card.questions[question].classes, model.answer(question, columns)
        table[question] = _names(found, classes, task.params.least_probability)
        chances |= {f"p_{name}": found[:, n] for n, name in enumerate(classes) if f"p_{name}" in chances}
    return Output(tables={"synapses": {name: _column(name, table | chances) for name in SYNAPSES.columns}})


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
    version=2,
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
        ObjectPart("measure", _measure, ids=("synapses", "id"), tables={"features": _FEATURES}, ids_per_task=64),
        WholePart("classify", _classify, tables={"synapses": SYNAPSES}),
    ),
    files=_files,
)
