"""The tables about densities that a run holds, brought together: blocks with the tests that were made on them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bouton.geometry import NM, Box
from bouton.volume import TableData
from bouton.volume.density_columns import PARTS
from bouton.volume.run_folder import Run, RunStep
from bouton.volume.run_layers import RunTable, read_tables, run_tables

NM3_PER_UM3 = 1e9
NOTHING: TableData = {}


@dataclass(frozen=True)
class DensityTables:
    """Densities of one step and, where a step tested them, what it found.

    Attributes
    ----------
    step, tested_by : str
        The step with stage ``densities``, and the one with stage ``uniformity``; empty: none.
    blocks : table
        Columns of ``bouton.volume.density_columns.DENSITY_COLUMNS``.
    tissues, findings, curves, outliers : table
        Columns of ``TISSUE_COLUMNS`` and so on; without columns where there is no such table.
    params : mapping
        Parameters of the step that tested.
    bounds_voxels : int
        Voxels of the bounds that were counted in; 0: not known.
    """

    step: str
    tested_by: str
    blocks: TableData
    tissues: TableData = field(default_factory=dict)
    findings: TableData = field(default_factory=dict)
    curves: TableData = field(default_factory=dict)
    outliers: TableData = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    bounds_voxels: int = 0

    @property
    def title(self) -> str:
        """The names of the two steps."""
        return f"{self.step}, tested by {self.tested_by}" if self.tested_by else self.step

    def finding(self, test: str) -> dict[str, Any] | None:
        """Return the row of a test whose name begins like this; None where there is none."""
        for row in rows_of(self.findings):
            if str(row["test"]).startswith(test):
                return row
        return None

    def curve(self, name: str) -> dict[str, np.ndarray]:
        """Return the points of a curve that are numbers, in order of x; empty columns where there is none."""
        columns = ("x", "y", "low", "high", "expected", "weight")
        if not self.curves:
            return {column: np.zeros(0) for column in columns}
        chosen = (self.curves["curve"] == name) & np.isfinite(self.curves["x"])
        order = np.argsort(self.curves["x"][chosen], kind="stable")
        return {column: self.curves[column][chosen][order] for column in columns}

    @property
    def tested(self) -> np.ndarray:
        """Which blocks take part in the tests, bool (n,): something is exposed and not too much masked."""
        most = float(self.params.get("max_masked_share", 1.0))
        return (self.blocks["exposed_um3"] > 0) & (self.blocks["masked_share"] <= most)

    @property
    def all_tested(self) -> bool:
        """Whether all blocks of which something is exposed take part in the tests."""
        return int(self.tested.sum()) == int((self.blocks["exposed_um3"] > 0).sum())

    @property
    def totals(self) -> dict[str, float]:
        """Sums over all blocks, and the density they give; nan where nothing is exposed.

        ``left_out_share`` is the share of the bounds that lies outside of all blocks; nan: not known.
        """
        blocks = self.blocks
        exposed = float(blocks["exposed_um3"].sum())
        synapses = int(blocks["synapses"].sum())
        voxels = int(blocks["voxels"].sum())
        found = {
            "blocks": len(blocks["synapses"]), "exposed_blocks": int((blocks["exposed_um3"] > 0).sum()),
            "synapses": synapses, "all_synapses": int(blocks["all_synapses"].sum()), "exposed_um3": exposed,
            "density_um3": synapses / exposed if exposed > 0 else float("nan"),
            "masked_share": float(blocks["masked_voxels"].sum() / voxels) if voxels else float("nan"),
            "left_out_share": 1 - voxels / self.bounds_voxels if self.bounds_voxels >= voxels > 0 else float("nan"),
        }  # fmt: skip
        return found | {part: int(blocks[part].sum()) for part in PARTS if part in blocks}


def rows_of(table: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return a table row by row."""
    if not table:
        return []
    return [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]


def density_tables(run: Run) -> tuple[list[DensityTables], list[str]]:
    """Return what a run holds about densities, in the order of its steps; and why some could not be read.

    A step that several others tested comes once for each of them.
    """
    found, problems = read_tables(run, "densities")
    sets = []
    for table, blocks in found:
        bounds = Box.parse(run.steps[table.step].bounds_zyx).voxels
        tissues, bad = _others(run, table.step, ("tissues",))
        problems += bad
        testers = [step for step in run.steps.values() if _reads(step, table) and _finished(run, step)]
        for tester in testers:
            tested, bad = _others(run, tester.name, ("findings", "curves", "outliers"))
            problems += bad
            known = {"params": tester.params, "bounds_voxels": bounds}
            sets.append(DensityTables(table.step, tester.name, blocks, **tissues, **tested, **known))
        if not testers:
            sets.append(DensityTables(table.step, "", blocks, **tissues, bounds_voxels=bounds))
    return sets, problems


def _reads(step: RunStep, table: RunTable) -> bool:
    return step.reads.get("densities", "") in {table.step, table.ref}


def _finished(run: Run, step: RunStep) -> bool:
    return any(table.step == step.name and table.output == "findings" for table in run_tables(run))


def _others(run: Run, step: str, outputs: tuple[str, ...]) -> tuple[dict[str, TableData], list[str]]:
    tables: dict[str, TableData] = {}
    problems: list[str] = []
    for output in outputs:
        found, bad = read_tables(run, output)
        problems += [problem for problem in bad if f"/{step}/" in problem]
        tables.update((output, rows) for table, rows in found if table.step == step)
    return tables, problems


def tissue_densities(tables: DensityTables, voxel_size_nm: NM) -> list[tuple[int, float, int, float]]:
    """Return for each tissue its number, exposed um3, synapses and density per um3."""
    if not tables.tissues:
        return []
    voxel_um3 = math.prod(voxel_size_nm) / NM3_PER_UM3
    kinds, place = np.unique(tables.tissues["tissue"], return_inverse=True)
    voxels = np.bincount(place, weights=tables.tissues["exposed_voxels"], minlength=len(kinds))
    synapses = np.bincount(place, weights=tables.tissues["synapses"], minlength=len(kinds))
    return [
        (int(kind), float(n * voxel_um3), int(count), float(count / (n * voxel_um3)) if n else float("nan"))
        for kind, n, count in zip(kinds, voxels, synapses, strict=True)
    ]
