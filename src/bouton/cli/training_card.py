"""The card of a model that `bouton train` makes: what the training file says, and what the training knows."""

from __future__ import annotations

import hashlib
import platform
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from bouton.cli.training_forest_plan import AnyPlan
from bouton.cli.training_plan import Array, Labelled, Phantoms
from bouton.learn.card import Card, DataSource, Score, Training, Weights

UNKNOWN = "0" * 64  # until the weights are written
NOT_STATED = "not stated"


@dataclass(frozen=True)
class Origin:
    """Where a training comes from: its file, what ``--set`` changed, and the card of the model it began with."""

    plan_file: Path
    overrides: Sequence[str] = ()
    parent: Card | None = None


@dataclass(frozen=True)
class Progress:
    """How far a training has come: the step of the weights, hours, and the validation scores at that step."""

    steps: int
    hours: float
    scores: Mapping[str, float]


def training_card(plan: AnyPlan, origin: Origin, done: Progress) -> Card:
    """Return the card of the weights; their hash joins it when they are written."""
    words = ["bouton", "train", str(origin.plan_file)]
    command = shlex.join([*words, *(word for each in origin.overrides for word in ("--set", each))])
    parent = origin.parent
    training = Training(
        data=(*_sources(plan.data), *_inherited(parent)),
        validation=_sources(plan.validation),
        parent=parent.name if parent else "",
        parent_sha256=parent.weights.sha256 if parent else None,
        steps=done.steps,
        seed=plan.seed,
        command=command,
        file_sha256=hashlib.sha256(origin.plan_file.read_bytes()).hexdigest(),
        version=f"bouton {version('bouton')}",
        machine=f"{platform.processor() or platform.machine()}, {platform.system()}",
        hours=round(done.hours, 3),
    )
    names = "; ".join(source.name for source in training.validation)
    return Card(
        name=plan.name,
        description=plan.description,
        limits=plan.limits,
        prediction=plan.info(),
        weights=Weights(sha256=UNKNOWN, licence=joined_licence(plan, parent)),
        training=training,
        scores=tuple(
            Score(data=f"validation: {names}", what=name, value=round(value, 5), command=command)
            for name, value in done.scores.items()
            if value == value
        ),
    )


def joined_licence(plan: AnyPlan, parent: Card | None) -> str:
    """Return the licence of the weights: the plan's, and that of the model they began with, which binds them too."""
    both = [plan.licence, parent.weights.licence if parent else NOT_STATED]
    stated = list(dict.fromkeys(each for each in both if each != NOT_STATED))
    return " and ".join(stated) or NOT_STATED


def _inherited(parent: Card | None) -> tuple[DataSource, ...]:
    if parent is None or parent.training is None:
        return ()
    return tuple(
        source.model_copy(update={"name": f"{source.name} (through {parent.name})"}) for source in parent.training.data
    )


def _sources(sources: Sequence[Labelled | Phantoms]) -> tuple[DataSource, ...]:
    return tuple(_source(source) for source in sources)


def _source(source: Labelled | Phantoms) -> DataSource:
    if isinstance(source, Phantoms):
        seeds = ", ".join(str(seed) for seed in source.seeds)
        shape = " x ".join(str(size) for size in source.shape_zyx)
        name = f"phantoms, seeds {seeds}, {shape} voxels (z, y, x)"
        return DataSource(name=name, source="bouton.phantom", licence="BSD-3-Clause")
    image = source.image if isinstance(source.image, Array) else Array(path=source.path or "", dataset=source.image)
    return DataSource(
        name=f"{image.path}: {image.dataset}" if image.dataset else image.path,
        source=source.source,
        doi=source.doi,
        licence=source.licence,
        boxes_zyx=(source.box_zyx,) if source.box_zyx else (),
    )
