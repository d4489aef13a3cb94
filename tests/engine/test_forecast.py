"""Forecasts from samples whose law is known: what they say of the whole, and what their intervals hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bouton.engine.context import make_context
from bouton.engine.forecast import forecast
from bouton.engine.samples import PlaceSample, Sample, StepSamples
from bouton.engine.work import waves_of_work
from bouton.geometry import Box
from engine.flows import flow, step

BLOCK = (4, 5, 6)
MB = 1 << 20


def context_of(bounds: Box | None = None):
    source = step("source", {}, {}, bounds)
    smooth = step("smooth", {"reach": 0}, {"image": source}, bounds)
    return make_context(flow(source, smooth), smooth, Path("runs")), smooth


def samples_on(bounds: Box, place: int, law, is_warmup: bool = False) -> StepSamples:
    """Return what every task on a small box would take: ``law(part, level, work)`` seconds."""
    context, smooth = context_of(bounds)
    tasks = []
    for part in smooth.stage.parts:
        for wave in waves_of_work(context, part, smooth.params, 50):
            for work in wave.works:
                seconds = law(part.name, wave.level, work)
                size = int(work) if part.shape == "block" else 0
                peak = 100 * MB + int(1000 * work)
                tasks.append(
                    Sample(part.name, wave.level, place, is_warmup, work, seconds, seconds / 2, peak, 100 * MB, size, 1)
                )
    return StepSamples("probe", 1, tuple(tasks), (PlaceSample(place, is_warmup, bounds.voxels, 50, None),))


def both(*found: StepSamples) -> StepSamples:
    return StepSamples(
        "probe", 1, tuple(t for each in found for t in each.tasks), tuple(p for each in found for p in each.places)
    )


def proportional(part: str, level: int, work: float) -> float:
    return 0.01 * work


BOXES = (Box((0, 0, 0), (4, 10, 9)), Box((4, 0, 0), (8, 5, 9)))


def whole_of(samples: StepSamples, workers: int = 1):
    context, smooth = context_of()
    return forecast(context, smooth.stage, smooth.params, samples, workers)


def all_works() -> dict[str, float]:
    context, smooth = context_of()
    objects = round(50 * 2 / sum(box.voxels for box in BOXES) * context.bounds.voxels)
    return {
        part.name: sum(w.total for w in waves_of_work(context, part, smooth.params, objects))
        for part in smooth.stage.parts
    }


def test_time_in_proportion_to_work_is_forecast_exactly() -> None:
    found = whole_of(both(*(samples_on(box, i, proportional) for i, box in enumerate(BOXES))))
    expected = 0.01 * sum(all_works().values())
    assert found.worker_seconds.value == pytest.approx(expected)
    assert found.seconds.value == pytest.approx(expected)
    assert found.cpu_seconds.value == pytest.approx(expected / 2)
    assert found.seconds.low < found.seconds.value < found.seconds.high
    assert found.gpu_worker_seconds.value == 0
    # one file a task
    assert found.files.value == pytest.approx(12 + 15 + 12 + 2 + 3 + 1)
    # two block parts write as many bytes as voxels
    assert found.size_bytes.value == pytest.approx(2 * 1080)


def test_two_workers_take_half_but_for_what_runs_alone() -> None:
    samples = both(*(samples_on(box, i, proportional) for i, box in enumerate(BOXES)))
    one, two, many = (whole_of(samples, n) for n in (1, 2, 10_000))
    assert two.worker_seconds == one.worker_seconds
    assert one.seconds.value / 2 < two.seconds.value < one.seconds.value
    alone = 0.01 * (all_works()["profile"] + all_works()["finish"])
    assert many.seconds.value > alone
    assert many.seconds.value < two.seconds.value


def test_first_tasks_of_workers_are_paid_once_and_not_scaled() -> None:
    seen = set()

    def cold(part: str, level: int, work: float) -> float:
        is_first = (part, level) not in seen
        seen.add((part, level))
        return proportional(part, level, work) + 7.0 * is_first

    warm = both(*(samples_on(box, i, proportional) for i, box in enumerate(BOXES)))
    first = samples_on(Box((3, 4, 4), (5, 7, 8)), 9, cold, is_warmup=True)
    plain, started = whole_of(warm), whole_of(both(warm, first))
    # of both block parts, leaves, nodes, the object, the chain, and the whole part
    assert started.seconds.value - plain.seconds.value == pytest.approx(7 * 7, abs=10)
    assert started.cpu_seconds.value - plain.cpu_seconds.value == pytest.approx(7 * 7 / 2, abs=5)


def test_memory_grows_with_the_largest_task() -> None:
    found = whole_of(both(*(samples_on(box, i, proportional) for i, box in enumerate(BOXES))), 2)
    # the whole part sees every voxel, and no task more
    largest = 1080
    assert found.worker_bytes.value == pytest.approx(100 * MB + 1000 * largest, rel=0.01)
    # the largest is one whole part: the other worker holds its libraries
    assert found.peak_bytes.value == pytest.approx(200 * MB + 1000 * largest, rel=0.01)


def test_noise_between_places_widens_the_interval() -> None:
    random = np.random.default_rng(3)

    def noisy(level: float):
        return lambda part, depth, work: 0.01 * work * level * random.uniform(0.9, 1.1)

    quiet = whole_of(both(*(samples_on(box, i, noisy(1.0)) for i, box in enumerate(BOXES))))
    loud = whole_of(both(*(samples_on(box, i, noisy(1.0 + 2 * i)) for i, box in enumerate(BOXES))))

    def width(found) -> float:
        return (found.worker_seconds.high - found.worker_seconds.low) / found.worker_seconds.value

    assert width(loud) > 1.5 * width(quiet)


def test_a_part_that_was_not_met_costs_nothing_and_breaks_nothing() -> None:
    samples = samples_on(BOXES[0], 0, proportional)
    only = StepSamples("earlier runs", 1, tuple(t for t in samples.tasks if t.part == "smooth"), samples.places)
    found = whole_of(only)
    assert found.worker_seconds.value == pytest.approx(0.01 * all_works()["smooth"])
    assert found.source == "earlier runs"
