"""Pictures and numbers of docs/debugging-synapses.md: real errors of each cause, on unseen phantoms.

python docs/debugging_figures.py [--work DIR]

Runs workflows/demo.yaml with other seeds, once as it is and once for each change in CHANGES, which provokes the rarer
causes; traces every run, and keeps the picture of one error of each cause in docs/images/debugging/.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bouton import load_workflow, open_run, run_workflow
from bouton.cli.trace_files import PLACE, SEGMENT, Wanted, plane, trace_run
from bouton.cli.trace_run import Given, Traced, read_run
from bouton.report.pictures import png_bytes
from bouton.report.trace import error_strip
from bouton.spec import Choices
from bouton.volume import TableData, write_bytes, write_table
from bouton.volume.run_folder import Run

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images" / "debugging"
SHAPE = "[72,320,320]"
CHANGES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("as it is", PLACE, ()),
    ("partners judged by segment", SEGMENT, ()),
    ("low = high = 0.9: sure voxels alone", PLACE, ("steps.clefts.params.low=0.9", "steps.clefts.params.high=0.9")),
    ("min_volume_nm3 = 2,000,000", PLACE, ("steps.clefts.params.min_volume_nm3=2000000",)),
    ("low = 0.05, gap_nm = 200: all that is near is one cleft", PLACE,
     ("steps.clefts.params.low=0.05", "steps.clefts.params.high=0.3", "steps.clefts.params.gap_nm=200")),
    ("threshold = 0.25: neurons run together", PLACE,
     ("steps.synapses.params.threshold=0.25", "steps.segmentation.params.threshold=0.25")),
    ("threshold = 0.95: neurons fall apart", SEGMENT,
     ("steps.synapses.params.threshold=0.95", "steps.segmentation.params.threshold=0.95")),
    ("high = 0.1, min_volume_nm3 = 0: everything is a cleft", PLACE,
     ("steps.clefts.params.low=0.1", "steps.clefts.params.high=0.1", "steps.clefts.params.min_volume_nm3=0")),
)  # fmt: skip


def traced_run(seed: int, change: tuple[str, str, tuple[str, ...]], work: Path) -> tuple[Run, TableData]:
    """Return a run of the demo with another seed and a change, and its errors."""
    overrides = (f"grid.shape_zyx={SHAPE}", f"steps.tissue.params.seed={seed}", *change[2])
    flow = load_workflow(ROOT / "workflows" / "demo.yaml", Choices(overrides=overrides, until="synapse_scores"))
    run = open_run(run_workflow(flow, work / f"seed-{seed}", "serial").folder)
    wanted = Wanted(None, None, change[1], 0, run.folder / "trace")
    return run, trace_run(run.folder, Given(), wanted).errors


def forgetful(run: Run, work: Path) -> tuple[Given, TableData]:
    """Leave every fourth synapse out of the truth, as an annotator in a hurry might."""
    truth = run.table("tissue.synapses")
    kept = np.arange(len(truth["id"])) % 4 != 1
    columns = {name: "str" if values.dtype == object else str(values.dtype) for name, values in truth.items()}
    write_table(work / "forgetful.parquet", {name: values[kept] for name, values in truth.items()}, columns)
    given = Given(truth_synapses=work / "forgetful.parquet")
    return given, trace_run(run.folder, given, Wanted(None, None, PLACE, 0, run.folder / "trace")).errors


def keep(run: Run, given: Given, errors: TableData, how: str, found: dict[str, str]) -> None:
    """Write a picture of the first error of every cause that has none yet, and say what it is."""
    traced: Traced = read_run(run, given)
    for i, cause in enumerate(errors["cause"]):
        if cause in found or cause == "outside":
            continue
        error = {name: values[i] for name, values in errors.items()}
        strip = error_strip(error, lambda name, box: plane(traced, name, box), traced.bounds, traced.voxel_size_nm)
        write_bytes(IMAGES / f"{cause}.png", png_bytes(strip.quantize(128)))
        place = ", ".join(f"{error[f'{axis}_nm']:.0f}" for axis in "zyx")
        found[str(cause)] = f"{how} | {error['kind']} at {place} nm | {error['detail']}"


def make_all(seeds: Sequence[int], work: Path) -> dict[str, str]:
    """Return what was found of each cause, in words."""
    found: dict[str, str] = {}
    IMAGES.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        for change in CHANGES:
            run, errors = traced_run(seed, change, work)
            keep(run, Given(), errors, f"seed {seed}, {change[0]}", found)
            causes, counts = np.unique(errors["cause"].astype(str), return_counts=True)
            print(seed, change[0], dict(zip(causes.tolist(), counts.tolist(), strict=True)), flush=True)
            if change == CHANGES[0]:
                given, without = forgetful(run, work)
                keep(run, given, without, f"seed {seed}, every fourth true synapse left out", found)
    return found


def injected(found: dict[str, str], work: Path) -> None:
    """For causes that did not occur: errors put into layers by benchmarks/synapses_trace.py, without an image."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    benchmark = importlib.import_module("synapses_trace")
    tissue = benchmark.make_tissue(2010, (90, 300, 300))
    benchmark.inject(tissue)
    errors = benchmark.traced_errors(tissue, work / "injected", (45, 150, 150))
    keep(open_run(work / "injected" / "runs" / "traced"), Given(), errors, "seed 2010, injected", found)


def main() -> None:
    """Make the pictures and print what they show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--seeds", type=int, nargs="*", default=[2010])
    options = parser.parse_args()
    found = make_all(options.seeds, options.work)
    injected(found, options.work)
    for cause, text in sorted(found.items()):
        print(f"{cause}: {text}")


if __name__ == "__main__":
    main()
