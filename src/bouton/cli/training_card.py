"""The card of a model that `bouton train` makes: what the training file says, and what the training knows."""

from __future__ import annotations

import hashlib
import platform
import shlex
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from bouton.cli.training_plan import Labelled, Phantoms, Plan
from bouton.learn.card import Card, DataSource, Training, Weights

UNKNOWN = "0" * 64  # until the weights are written


def training_card(plan: Plan, plan_file: Path, overrides: Sequence[str], steps: int, hours: float) -> Card:
    """Return the card after so many steps and hours; the hash of the weights joins it when they are written."""
    words = ["bouton", "train", str(plan_file), *(word for each in overrides for word in ("--set", each))]
    training = Training(
        data=_sources(plan.data),
        validation=_sources(plan.validation),
        steps=steps,
        command=shlex.join(words),
        file_sha256=hashlib.sha256(plan_file.read_bytes()).hexdigest(),
        version=f"bouton {version('bouton')}",
        machine=f"{platform.processor() or platform.machine()}, {platform.system()}",
        hours=round(hours, 3),
    )
    return Card(
        name=plan.name,
        description=plan.description,
        limits=plan.limits,
        prediction=plan.info(),
        weights=Weights(sha256=UNKNOWN, licence=plan.licence),
        training=training,
    )


def _sources(sources: Sequence[Labelled | Phantoms]) -> tuple[DataSource, ...]:
    return tuple(_source(source) for source in sources)


def _source(source: Labelled | Phantoms) -> DataSource:
    if isinstance(source, Phantoms):
        seeds = ", ".join(str(seed) for seed in source.seeds)
        shape = " x ".join(str(size) for size in source.shape_zyx)
        return DataSource(name=f"phantoms, seeds {seeds}, {shape} voxels (z, y, x)", source="bouton.phantom")
    return DataSource(
        name=f"{source.path}: {source.image}",
        source=source.source,
        doi=source.doi,
        licence=source.licence,
        boxes_zyx=(source.box_zyx,),
    )
