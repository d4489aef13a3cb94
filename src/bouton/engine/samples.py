"""What tasks took that were measured already, by a probe or by earlier runs: read from the ledgers of a step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bouton.engine.context import StepContext, context_from_json, params_from_json
from bouton.engine.execute import count_ids
from bouton.engine.ledger import LEDGER, Ledger
from bouton.engine.work import core_of, waves_of_work, work_of
from bouton.errors import BoutonError
from bouton.geometry import Box
from bouton.stage import ObjectPart, Part, Stage


@dataclass(frozen=True)
class Sample:
    """One task that was measured.

    Attributes
    ----------
    level : int
        Of a merge node: 0 is a leaf.
    place : int
        Which box of the probe, or which earlier run, it belongs to.
    is_warmup : bool
        The first tasks of workers, on a small box: they load libraries and models.
    work : float
        See :mod:`bouton.engine.work`.
    weight : int
        How many tasks of its grid it stands for.
    """

    part: str
    level: int
    place: int
    is_warmup: bool
    work: float
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    start_bytes: int
    size_bytes: int
    files: int
    weight: int = 1


@dataclass(frozen=True)
class PlaceSample:
    """What one step took at one place, as a whole.

    ``voxels`` of the step's bounds there; ``wall_seconds`` of the coordinator, None where it was not measured at once.
    """

    place: int
    is_warmup: bool
    voxels: int
    objects: int
    wall_seconds: float | None


@dataclass(frozen=True)
class StepSamples:
    """All that was measured of one step.

    Attributes
    ----------
    source : str
        ``probe`` or ``earlier runs``.
    workers : int
        How many ran at once.
    later_bytes : int
        Memory of a worker at the places after the first that belongs to libraries of later steps.
    """

    source: str
    workers: int
    tasks: tuple[Sample, ...] = field(default=())
    places: tuple[PlaceSample, ...] = field(default=())
    later_bytes: int = 0


def read_place(context: StepContext, stage: Stage, place: int, is_warmup: bool, box: Box) -> StepSamples:
    """Return what the ledger of one step folder knows of the tasks inside ``box``."""
    params = params_from_json(stage, context.params)
    parts = {part.name: part for part in stage.parts}
    with Ledger(context.root / LEDGER, readonly=True) as ledger:
        rows = list(ledger.measured())
        wall = ledger.fact(f"wall {box}") or None
    objects = sum(count_ids(context, part) for part in stage.parts if isinstance(part, ObjectPart))
    tasks = []
    for row in rows:
        if row.part not in parts:
            # Metadata of layers: the same few files for a volume of any size.
            tasks.append(Sample("", 0, place, is_warmup, 0.0, 0.0, 0.0, 0, 0, row.size_bytes, row.files))
        elif not (core_of(context, parts[row.part], row.task) & box).is_empty:
            level, work = _work(context, parts[row.part], params, row.task, objects)
            numbers = (row.seconds, row.cpu_seconds, row.peak_bytes, row.start_bytes, row.size_bytes, row.files)
            tasks.append(Sample(row.part, level, place, is_warmup, work, *numbers, row.weight))
    inside = PlaceSample(place, is_warmup, (context.bounds & box).voxels, objects, wall)
    return StepSamples("", 1, tuple(tasks), (inside,))


def _work(context: StepContext, part: Part, params: Any, task: str, objects: int) -> tuple[int, float]:
    if isinstance(part, ObjectPart):
        works = waves_of_work(context, part, params, objects)[0].works
        return 0, float(works[min(int(task), len(works) - 1)])
    return work_of(context, part, params, task)


def joined(found: list[StepSamples], source: str, workers: int) -> StepSamples | None:
    """Return several places as one; None where nothing was measured."""
    tasks = tuple(task for each in found for task in each.tasks)
    places = tuple(place for each in found for place in each.places)
    return StepSamples(source, workers, tasks, places) if any(task.part for task in tasks) else None


def without_later(found: Mapping[str, StepSamples]) -> dict[str, StepSamples]:
    """Return the steps of a probe, told what libraries of later steps hold in workers that started all steps before."""
    held = {
        name: max((task.start_bytes for task in samples.tasks if task.is_warmup), default=0)
        for name, samples in found.items()
    }
    most = max(held.values(), default=0)
    return {
        name: replace(samples, later_bytes=most - held[name]) if held[name] else samples
        for name, samples in found.items()
    }


def earlier_runs(context: StepContext, stage: Stage) -> StepSamples | None:
    """Return what the finished folders of a step (of any key) know; None where it never ran."""
    found = []
    for place, other in enumerate(_folders(context, stage)):
        try:
            with Ledger(other.root / LEDGER, readonly=True) as ledger:
                complete = bool(ledger.fact("complete"))
            if complete:
                found.append(read_place(other, stage, place, False, other.bounds))
        except BoutonError:
            # A damaged folder is no ground for a forecast; bouton verify names the damage.
            continue
    return joined(found, "earlier runs", 1)


def _folders(context: StepContext, stage: Stage) -> Iterator[StepContext]:
    for path in sorted(context.root.parent.glob(f"*/{LEDGER}")):
        try:
            folder = path.parent.relative_to(context.run_folder).as_posix()
            other = context_from_json(Path(context.run_folder), folder)
        except BoutonError:
            continue
        if (other.stage_name, other.stage_version) == (context.stage_name, stage.version):
            yield other
