"""Tables of synapse densities written by hand, in a run folder: for the tests of the report and its verb."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bouton.volume.density_columns import (
    CURVE_COLUMNS,
    DENSITY_COLUMNS,
    FINDING_COLUMNS,
    OUTLIER_COLUMNS,
    PARTS,
    TISSUE_COLUMNS,
)
from fake_run import VOXEL_SIZE_NM, FakeRun

BLOCK = (160, 500, 500)
RATE_UM3 = 1.25
NAN = float("nan")


def blocks(shape: tuple[int, int, int] = (3, 4, 5), masked: float = 0.2, seed: int = 1) -> dict[str, np.ndarray]:
    """Return a table of densities; every block but the last has this share of masked voxels, the last twice as many."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1).reshape(-1, 3)
    n, voxels = len(index), int(np.prod(BLOCK))
    share = np.full(n, masked)
    share[-1] = min(1.0, 2 * masked)
    masked_voxels = np.round(share * voxels).astype(np.int64)
    exposed = voxels - masked_voxels
    exposed_um3 = exposed * (float(np.prod(VOXEL_SIZE_NM)) / 1e9)
    synapses = np.random.default_rng(seed).poisson(RATE_UM3 * exposed_um3)
    table: dict[str, np.ndarray] = {}
    for axis, name in enumerate("zyx"):
        start = index[:, axis] * BLOCK[axis]
        table |= {f"block_{name}": index[:, axis], f"{name}_start": start, f"{name}_stop": start + BLOCK[axis]}
        table[f"{name}_nm"] = (start + BLOCK[axis] / 2) * VOXEL_SIZE_NM[axis]
    density = np.divide(synapses, exposed_um3, out=np.full(n, NAN), where=exposed > 0)
    reason = np.where(exposed > 0, "", "no exposed volume").astype(object)
    table |= {"voxels": np.full(n, voxels), "masked_voxels": masked_voxels, "exposed_voxels": exposed}
    table |= {"masked_share": masked_voxels / voxels, "exposed_um3": exposed_um3, "synapses": synapses}
    table |= {"all_synapses": synapses + 1, "density_um3": density, "reason": reason}
    table |= {part: np.zeros(n, np.int64) for part in PARTS}
    return {name: table[name] for name in DENSITY_COLUMNS}


def tissues(table: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return two tissues: the first layer of blocks along z is the first, all others the second."""
    kind = np.where(table["block_z"] == 0, 1, 2).astype(np.uint64)
    return {name: kind if name == "tissue" else table[name] for name in TISSUE_COLUMNS}


def finding(test: str, value: float = NAN, p: float = NAN, **other: Any) -> dict[str, Any]:
    """Return one row of a table of findings."""
    row = {"test": test, "question": f"What about {test}?", "effect": "effect", "value": value, "low": NAN}
    row |= {"high": NAN, "p": p, "q": p, "n": 60, "note": ""}
    return row | other


def findings(*rows: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return rows as a table of findings."""
    return {
        name: np.array([row[name] for row in rows], dtype=object if dtype == "str" else dtype)
        for name, dtype in FINDING_COLUMNS.items()
    }


def varying() -> dict[str, np.ndarray]:
    """Return the findings of tissue that is not uniform."""
    return findings(
        finding("dispersion", 2.5, 0.0004, low=2.1, high=2.9, effect="variance over mean"),
        finding("density variation", 0.25, low=0.2, high=0.3, effect="standard deviation of density, um-3"),
        finding("axis z", 1.02, 0.61, low=0.9, high=1.1),
        finding("axis y", 1.5, 0.001, low=1.3, high=1.7),
        finding("depth", note="not available: no depth axis"),
        finding("published histogram chi-square", 99.0, 1e-30, q=NAN),
    )


def uniform() -> dict[str, np.ndarray]:
    """Return the findings of uniform tissue."""
    return findings(
        finding("dispersion", 1.01, 0.4, low=0.9, high=1.1), finding("axis z", 1.02, 0.61, low=0.9, high=1.1),
        finding("published histogram chi-square", 99.0, 1e-30, q=NAN),
    )  # fmt: skip


def curves() -> dict[str, np.ndarray]:
    """Return points of all curves."""
    rows: list[tuple[Any, ...]] = []
    for name in ("axis z", "axis y", "axis x", "depth"):
        rows += [(name, 3.0 * i, 1.2 + 0.05 * i, 1.1 + 0.05 * i, 1.3 + 0.05 * i, 1.3, 50.0 - i) for i in range(6)]
    for name in ("variogram", "ripley"):
        rows += [(name, 3.0 * i + 3, 0.8 + 0.04 * i, 0.7 + 0.04 * i, 0.9 + 0.04 * i, 1.0, 500.0) for i in range(6)]
    for name in ("histogram", "histogram over-dispersed"):
        rows += [(name, 0.2 * i, float(i * (12 - i)), 0.0, 99.0, float(i * (11 - i)), 9.0) for i in range(11)]
    columns = zip(*rows, strict=True)
    return {
        name: np.array(values, dtype=object if dtype == "str" else dtype)
        for (name, dtype), values in zip(CURVE_COLUMNS.items(), columns, strict=True)
    }


def outliers(table: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return all blocks of a table as outliers, the last first."""
    order = np.arange(len(table["synapses"]))[::-1]
    found = {name: table[name][order] for name in OUTLIER_COLUMNS if name in table}
    found |= {"expected": RATE_UM3 * found["exposed_um3"], "p": np.linspace(1e-5, 1, len(order))}
    found |= {"q": np.linspace(1e-3, 1, len(order))}
    found["side"] = np.where(found["synapses"] < found["expected"], "low", "high").astype(object)
    return {name: found[name] for name in OUTLIER_COLUMNS}


def density_run(
    folder: Path, table: dict[str, np.ndarray] | None = None, found: dict[str, np.ndarray] | None = None
) -> FakeRun:
    """Return a saved run with a table of densities, tissues and, where there are findings, all that tests write."""
    run = FakeRun(folder)
    table = blocks() if table is None else table
    step = run.step("densities", "densities")
    run.table(step, "densities", table, DENSITY_COLUMNS)
    run.table(step, "tissues", tissues(table), TISSUE_COLUMNS)
    if found is not None:
        tested = run.step("uniformity", "uniformity", reads={"densities": "densities.densities"})
        run.table(tested, "findings", found, FINDING_COLUMNS)
        run.table(tested, "curves", curves(), CURVE_COLUMNS)
        run.table(tested, "outliers", outliers(table), OUTLIER_COLUMNS)
    run.save()
    return run
