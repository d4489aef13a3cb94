"""Small workflows over toy stages, built by hand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bouton.engine.ledger import Ledger
from bouton.geometry import ZYX, Box
from bouton.spec import Ref, Step, Workflow
from bouton.stage import load_stage
from bouton.volume import checksum
from bouton.volume.run_folder import open_run

TOYS = Path(__file__).parent / "toys"
SHAPE: ZYX = (12, 10, 9)
BLOCK: ZYX = (4, 5, 6)


def step(
    name: str, params: Mapping[str, Any], reads: Mapping[str, Step], bounds: Box | None = None, block: ZYX = BLOCK
) -> Step:
    """Return step ``name`` of the toy of the same name (up to the first underscore)."""
    stage_name = str(TOYS / f"{name.split('_')[0]}.py")
    stage = load_stage(stage_name)
    values = stage.params(**params)
    bounds = bounds or Box.of_shape(SHAPE)
    description = {"stage": stage_name, "params": dict(params)}
    everything = {**description, "bounds": str(bounds), "block": block, "inputs": {n: s.key for n, s in reads.items()}}
    key = hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()[:12]
    refs = {n: Ref(s.name, s.stage.writes[0]) for n, s in reads.items()}
    return Step(name, stage_name, stage, values, refs, bounds, block, everything, key)


def flow(*steps: Step, name: str = "toy") -> Workflow:
    """Return a workflow of these steps."""
    return Workflow(name, TOYS / "flow.yaml", SHAPE, (30.0, 10.0, 10.0), {}, steps, {}, "steps: {}\n")


def shapes_flow(
    factor: int = 3, reach: int = 2, bounds: Box | None = None, block: ZYX = BLOCK, name: str = "toy"
) -> Workflow:
    """Return a workflow of two steps that has all five shapes."""
    source = step("source", {"factor": factor}, {}, bounds, block)
    return flow(source, step("smooth", {"reach": reach}, {"image": source}, bounds, block), name=name)


def trouble_flow(**params: Any) -> Workflow:
    """Return source -> trouble -> smooth (which reads what trouble copies)."""
    source = step("source", {}, {})
    trouble = step("trouble", params, {"image": source})
    return flow(source, trouble, step("smooth", {}, {"image": trouble}))


def renamed(workflow: Workflow, name: str) -> Workflow:
    """Return the workflow under another name: it gets a run folder of its own."""
    return replace(workflow, name=name)


def checksums(run_folder: Path) -> dict[str, str]:
    """Return the checksum of every file in the ledgers of a run, computed anew; fail where a ledger differs."""
    found = {}
    run = open_run(run_folder)
    for name, entry in run.steps.items():
        with Ledger(run.folder / entry.folder / "ledger.sqlite", readonly=True) as ledger:
            for row in ledger.outputs():
                found[f"{name}/{row.file.path}"] = checksum(run.data / entry.folder / row.file.path)
                assert found[f"{name}/{row.file.path}"] == row.file.checksum
    return found
