"""From measured tasks to a whole step: time, memory, bytes and files, each with an interval.

Seconds of a task grow in proportion to its work (:mod:`bouton.engine.work`), with a factor that is the ratio of sums
over the measured tasks; whole parts (least squares, neither below zero) and nodes of merges above the leaves (the
least measured) get a constant besides. What the first task of a worker takes longer (libraries, compiled kernels,
models) is paid once a worker. Parts and levels of merges follow one another; inside of each, the engine's hand-out is
simulated (:mod:`bouton.engine.schedule`).

Intervals hold 90 %: of blocks by a bootstrap (:func:`bouton.engine.estimate.ratio_interval`); of nodes of a merge
above its leaves from growth with faces to growth with volume; of whole parts from half of the estimate to growth in
proportion to the volume. Sums add ends, as if all parts erred in the same direction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bouton.engine.context import StepContext
from bouton.engine.estimate import NOTHING, Estimate, ratio_interval
from bouton.engine.samples import PlaceSample, Sample, StepSamples
from bouton.engine.schedule import makespan
from bouton.engine.work import Wave, waves_of_work
from bouton.stage import BlockPart, ChainPart, MergePart, ObjectPart, Part, Stage, WholePart


@dataclass(frozen=True)
class Forecast:
    """What a step will cost.

    Attributes
    ----------
    source : str
        ``probe`` or ``earlier runs``.
    blocks : int
        Measured tasks of block parts.
    seconds : Estimate
        From its start to its end, with the planned number of workers.
    worker_seconds, cpu_seconds, gpu_worker_seconds : Estimate
        Of all tasks together; processor time in them; of those in parts that a GPU helps.
    worker_bytes, peak_bytes : Estimate
        Peak memory of the worker that needs most; of all workers together.
    size_bytes, files : Estimate
        What the step leaves on disk.
    lease_seconds : float
        What a lost worker loses: the mean time of a task, in the longest part.
    """

    source: str
    blocks: int
    seconds: Estimate
    worker_seconds: Estimate
    cpu_seconds: Estimate
    gpu_worker_seconds: Estimate
    worker_bytes: Estimate
    peak_bytes: Estimate
    size_bytes: Estimate
    files: Estimate
    lease_seconds: float


@dataclass(frozen=True)
class _Law:
    """Seconds of a task: ``constant + slope * work``, and of a worker's first one ``startup`` more.

    ``low``, ``high`` are the ends of the interval, relative; ``spread`` the ratios of measured tasks to the slope.
    """

    constant: float = 0.0
    slope: float = 0.0
    low: float = 1.0
    high: float = 1.0
    startup: float = 0.0
    spread: tuple[float, ...] = (1.0,)

    def seconds(self, wave: Wave) -> np.ndarray:
        random = np.random.default_rng(wave.count)
        return self.constant + self.slope * wave.works * random.choice(self.spread, len(wave.works))

    def total(self, wave: Wave) -> float:
        return self.constant * wave.count + self.slope * wave.total


def forecast(context: StepContext, stage: Stage, params: Any, samples: StepSamples, workers: int) -> Forecast:
    """Return what a step will cost with ``workers`` workers, from what was measured of it."""
    objects = _objects(samples, context.bounds.voxels)
    plans = [_PartPlan(part, waves_of_work(context, part, params, objects), samples) for part in stage.parts]
    gpu = [plan for plan in plans if isinstance(plan.part, BlockPart) and plan.part.gpu]
    tasks = sum(plan.tasks for plan in plans)
    longest = max(plans, key=lambda plan: plan.worker_seconds(workers).value)
    return Forecast(
        source=samples.source,
        blocks=sum(1 for task in samples.tasks if task.part in _names(stage, BlockPart) and not task.is_warmup),
        seconds=_total([plan.seconds(workers) for plan in plans]) + _overhead(samples, tasks),
        worker_seconds=_total([plan.worker_seconds(workers) for plan in plans]),
        cpu_seconds=_total([plan.cpu_seconds(workers) for plan in plans]),
        gpu_worker_seconds=_total([plan.worker_seconds(workers) for plan in gpu]),
        worker_bytes=_largest([plan.worker_bytes() for plan in plans]),
        peak_bytes=_largest([plan.peak_bytes(workers) for plan in plans]),
        size_bytes=_sizes(samples, context.bounds.voxels),
        files=_total([plan.files() for plan in plans]) + _metadata(samples, "files"),
        lease_seconds=longest.lease_seconds(workers),
    )


class _PartPlan:
    """One part: its waves, and what was measured of it."""

    def __init__(self, part: Part, waves: list[Wave], samples: StepSamples) -> None:
        self.part, self.waves, self.at_once, self.later_bytes = part, waves, samples.workers, samples.later_bytes
        self.tasks = sum(wave.count for wave in waves)
        self.samples = [sample for sample in samples.tasks if sample.part == part.name]
        levels = {min(wave.level, 1) for wave in waves}
        self.laws = {level: self._law(level, "seconds") for level in levels}
        self.cpu_laws = {level: self._law(level, "cpu_seconds") for level in levels}

    def _at(self, level: int) -> list[Sample]:
        """Return the samples of leaves (level 0) or of nodes above (1), without those for warming up."""
        found = [sample for sample in self.samples if min(sample.level, 1) == level]
        return [sample for sample in found if not sample.is_warmup] or found

    def _settled(self, found: list[Sample]) -> list[Sample]:
        """Return samples without the first ones of each place, which open files, where there are enough others."""
        kept: list[Sample] = []
        for place in dict.fromkeys(sample.place for sample in found):
            own = [sample for sample in found if sample.place == place]
            kept += own[self.at_once :] if len(own) >= 4 * self.at_once else own
        return kept

    def _law(self, level: int, what: str) -> _Law:
        found = self._settled(self._at(level) or self.samples)
        if not found:
            return _Law()
        first = [s for s in self.samples if s.is_warmup and min(s.level, 1) == level and s not in found]
        if isinstance(self.part, WholePart):
            law = _affine(found, what)
        else:
            warm = sorted(getattr(s, what) for s in first)[: -self.at_once]
            law = _proportional(found, what, warm if level else [])
        cold = sorted((getattr(s, what) - law.constant - law.slope * s.work for s in first), reverse=True)
        return replace(law, startup=max(0.0, float(np.mean(cold[: self.at_once])))) if cold else law

    def seconds(self, workers: int) -> Estimate:
        """Return the time from the part's start to its end."""
        at_once = 1 if isinstance(self.part, ChainPart | WholePart) else workers
        total = NOTHING
        for wave in self.waves:
            law = self.laws[min(wave.level, 1)]
            value = makespan(law.seconds(wave), at_once, wave.count)
            startup = law.startup if wave.level < 2 else 0.0
            total += self._interval(wave, law, value) + Estimate(startup, 0.5 * startup, 2 * startup)
        return total

    def worker_seconds(self, workers: int) -> Estimate:
        """Return the time of all tasks together."""
        return self._sum(self.laws, workers)

    def cpu_seconds(self, workers: int) -> Estimate:
        """Return the processor time of all tasks together."""
        return self._sum(self.cpu_laws, workers)

    def _sum(self, laws: Mapping[int, _Law], workers: int) -> Estimate:
        total = NOTHING
        for wave in self.waves:
            law = laws[min(wave.level, 1)]
            startup = law.startup * min(workers, wave.count) if wave.level < 2 else 0.0
            total += self._interval(wave, law, law.total(wave)) + Estimate(startup, 0.5 * startup, 2 * startup)
        return total

    def _interval(self, wave: Wave, law: _Law, value: float) -> Estimate:
        high = law.high
        if isinstance(self.part, MergePart) and wave.level > 0 and self.part.kept:
            measured = max((sample.level for sample in self.samples), default=1)
            # Volume grows by the side once more than faces do.
            high *= float(self.part.fan_out) ** max(0, wave.level - measured)
        return Estimate(value, value * law.low, value * high)

    def lease_seconds(self, workers: int) -> float:
        """Return the mean time of a task: what a lost worker loses, for it reports every task that takes its time."""
        return sum(self.laws[min(wave.level, 1)].total(wave) for wave in self.waves) / max(1, self.tasks)

    def worker_bytes(self) -> Estimate:
        """Return the peak memory of the worker that needs most."""
        return _largest([self._wave_bytes(wave) for wave in self.waves])

    def peak_bytes(self, workers: int) -> Estimate:
        """Return the peak memory of all workers; those without a task hold their libraries."""
        alone = isinstance(self.part, ChainPart | WholePart)
        idle = max(0.0, self._held())
        needs = []
        for wave in self.waves:
            busy = 1 if alone else min(workers, wave.count)
            needs.append(self._wave_bytes(wave).times(busy) + Estimate(idle, idle, idle).times(workers - busy))
        return _largest(needs)

    def _held(self) -> float:
        """Return what a worker holds before a task: libraries, models, open files; not those of later steps."""
        found = [s.start_bytes - (0 if s.is_warmup else self.later_bytes) for s in self.samples]
        return float(max(found, default=0))

    def _wave_bytes(self, wave: Wave) -> Estimate:
        """Return the peak of one task: what the worker holds, a constant, and the rest in proportion to its work."""
        level = min(wave.level, 1)
        found = self._at(level)
        if not found or not wave.count:
            return NOTHING
        small = [own_bytes(s) for s in self.samples if s.is_warmup and min(s.level, 1) == level]
        constant = min([*small, *map(own_bytes, found)]) if small else 0
        grown = sorted(max(0, own_bytes(s) - constant) / max(s.work, 1.0) for s in found)
        work, spread = float(wave.works.max()), max(0.1, (grown[-1] - grown[0]) / max(grown[-1], 1e-9))
        needs = (grown[-1] * work, grown[0] * work, grown[-1] * work * (1 + spread))
        cold = max((s.peak_bytes for s in self.samples if s.is_warmup), default=0)
        return Estimate(*(max(cold, self._held() + constant + need) for need in needs))

    def files(self) -> Estimate:
        """Return the files that the part leaves."""
        total = 0.0
        for wave in self.waves:
            found = self._at(min(wave.level, 1)) or self.samples
            total += wave.count * float(np.mean([sample.files for sample in found])) if found else 0.0
        return Estimate(total, total, total)


def own_bytes(sample: Sample) -> int:
    """Return what a task took beyond what its worker held before."""
    return max(0, sample.peak_bytes - sample.start_bytes)


def _proportional(samples: Sequence[Sample], what: str, smallest: Sequence[float]) -> _Law:
    """Return the law of blocks, objects, slabs or nodes; what ``smallest`` nodes take counts as a constant.

    Nodes grow from level to level, so what does not grow with them matters; blocks are all of one size.
    """
    times, works = [getattr(s, what) for s in samples], [max(s.work, 1.0) for s in samples]
    constant = min(*smallest, *times) if smallest else 0.0
    slope = (sum(times) - constant * len(times)) / sum(works)
    low, high = ratio_interval(times, works, [s.place for s in samples])
    spread = tuple((t - constant) / w / slope for t, w in zip(times, works, strict=True)) if slope > 0 else (1.0,)
    return _Law(constant, slope, low, high, 0.0, spread)


def _affine(samples: Sequence[Sample], what: str) -> _Law:
    """Return the law of a whole part, from volumes of several sizes: least squares of relative errors."""
    works, times = np.array([s.work for s in samples]), np.array([getattr(s, what) for s in samples])
    if works.max() < 2 * works.min():
        return _Law(0.0, float(times.sum() / works.sum()), 0.5, 1.5)
    weights = 1 / np.maximum(times, 1e-9)
    matrix = np.stack([weights, works * weights / works.max()], axis=1)
    from scipy.optimize import nnls  # a third of a second that coordinators need not wait

    constant, slope = nnls(matrix, np.ones(len(times)))[0]
    return _Law(float(constant), float(slope) / float(works.max()), 0.5, 2.0)


def _overhead(samples: StepSamples, tasks: int) -> Estimate:
    """Return what the coordinator adds: starting workers, preparing the step, and its books on every task."""
    extra, counted, first = [], [], 0.0
    for place in samples.places:
        own = [task for task in samples.tasks if task.place == place.place and task.part]
        if place.wall_seconds is None or not own:
            continue
        rest = place.wall_seconds - _scheduled(own, samples.workers)
        if place.is_warmup:
            first = max(first, rest)
        else:
            extra.append(max(0.0, rest))
            counted.append(len(own))
    each = sum(extra) / sum(counted) if counted else 0.0
    value = each * tasks + max(0.0, first)
    return Estimate(value, 0.5 * value, 2 * value)


def _scheduled(tasks: Sequence[Sample], workers: int) -> float:
    """Return the time that measured tasks of one place took, had the coordinator cost nothing."""
    total = 0.0
    for part in dict.fromkeys(task.part for task in tasks):
        own = [task for task in tasks if task.part == part]
        for level in sorted({task.level for task in own}):
            seconds = np.array([task.seconds for task in own if task.level == level])
            total += makespan(seconds, workers)
    return total


def _objects(samples: StepSamples, voxels: int) -> int:
    """Return how many objects there will be, as many a voxel as at the measured places."""
    places: list[PlaceSample] = [place for place in samples.places if not place.is_warmup] or list(samples.places)
    measured = sum(place.voxels for place in places)
    return round(sum(place.objects for place in places) / measured * voxels) if measured else 0


def _sizes(samples: StepSamples, voxels: int) -> Estimate:
    """Return the bytes of all outputs: as many a voxel as at the measured places, and the layers' metadata."""
    places = [place for place in samples.places if not place.is_warmup] or list(samples.places)
    sizes = [
        sum(task.size_bytes * task.weight for task in samples.tasks if task.place == place.place and task.part)
        for place in places
    ]
    measured = [float(place.voxels) for place in places]
    if not sum(measured):
        return NOTHING
    value = sum(sizes) / sum(measured) * voxels
    low, high = ratio_interval(sizes, measured, [place.place for place in places])
    return Estimate(value, value * low, value * high) + _metadata(samples, "size_bytes")


def _metadata(samples: StepSamples, what: str) -> Estimate:
    rows = [task for task in samples.tasks if not task.part]
    places = {task.place for task in rows}
    value = sum(getattr(task, what) for task in rows) / len(places) if places else 0.0
    return Estimate(value, value, value)


def _names(stage: Stage, kind: type) -> set[str]:
    return {part.name for part in stage.parts if isinstance(part, kind | ObjectPart)}


def _total(estimates: Sequence[Estimate]) -> Estimate:
    total = NOTHING
    for estimate in estimates:
        total += estimate
    return total


def _largest(estimates: Sequence[Estimate]) -> Estimate:
    if not estimates:
        return NOTHING
    return Estimate(*(max(getattr(e, end) for e in estimates) for end in ("value", "low", "high")))
