"""A million synapses as files: time, size and memory of each format, and how many lines a viewer opens with.

    python benchmarks/synapses_formats.py [--rows 1000000]

Synapses at random places of a cube of 100 um at 40 x 4 x 4 nm, between 20,000 neurons. Every time is CPU seconds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bouton.view.annotation_files import write_annotations
from bouton.view.annotations import SynapseLines
from bouton.volume.synapse_columns import SYNAPSE_COLUMNS, TARGETS, TYPES
from bouton.volume.synapse_nml import write_synapse_nml
from bouton.volume.synapse_tables import read_synapses, write_cave_table
from bouton.volume.tables import write_csv, write_table

SIZE = (40.0, 4.0, 4.0)
SHAPE = (2500, 25000, 25000)
NEURONS = 20_000
Row = tuple[str, str, str]


def synapses(rows: int) -> dict[str, np.ndarray]:
    """Return a table of synapses; half of them in clusters, as in real tissue."""
    rng = np.random.default_rng(0)
    extent = np.array(SHAPE) * SIZE
    centre = rng.uniform(0, extent, (rows, 3))
    clusters = rng.uniform(0, extent, (200, 3))
    centre[::2] = clusters[rng.integers(0, 200, len(centre[::2]))] + rng.normal(0, 4000, (len(centre[::2]), 3))
    away = rng.normal(0, 150, (rows, 3))
    table: dict[str, np.ndarray] = {"id": rng.permutation(rows).astype(np.uint64) * np.uint64(977) + np.uint64(1)}
    for prefix, sign in (("", 0), ("pre_", -1), ("post_", 1)):
        places = np.clip(centre + sign * away, 0, extent - 1)
        table |= {f"{prefix}{axis}_nm": places[:, i] for i, axis in enumerate("zyx")}
    table |= {name: rng.integers(1, NEURONS, rows).astype(np.uint64) for name in ("pre_id", "post_id")}
    table |= {"size_voxels": rng.integers(50, 5000, rows), "score": rng.random(rows)}
    table["type"] = np.array(TYPES, dtype=object)[rng.choice(3, rows, p=[0.05, 0.8, 0.15])]
    table["target"] = np.array(TARGETS, dtype=object)[rng.integers(0, 4, rows)]
    return {name: table[name] for name in SYNAPSE_COLUMNS}


def rows(count: int = 1_000_000) -> list[Row]:
    """Return what was measured: (what, target, measured)."""
    table = synapses(count)
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        writers: dict[str, Callable[[Path], None]] = {
            "a.nml": lambda path: write_synapse_nml(path, table, SIZE, "type"),
            "b.parquet": lambda path: write_table(path, table, SYNAPSE_COLUMNS),
            "c.csv": lambda path: write_csv(path, table),
            "cave.parquet": lambda path: write_cave_table(path, table, SIZE),
            "cave.csv": lambda path: write_cave_table(path, table, SIZE),
        }
        for file, write in writers.items():
            seconds = cpu(lambda file=file, write=write: write(folder / file))
            read = cpu(lambda file=file: read_synapses(folder / file, SIZE))
            size = (folder / file).stat().st_size / 1e6
            found.append(
                (f"{count:,} synapses, {file}", "", f"written {seconds:.1f} s, read {read:.1f} s, {size:.0f} MB")
            )
            (folder / file).unlink()
        found += _lines(table, folder / "lines")
    return found


def _lines(table: dict[str, np.ndarray], folder: Path) -> list[Row]:
    made: list[SynapseLines] = []
    ready = cpu(lambda: made.append(SynapseLines(table, SHAPE, SIZE)) or made[0].levels)
    lines = made[0]
    seconds = cpu(lambda: write_annotations(folder, lines))
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    levels = ", ".join(f"{level.grid[0]} x {level.grid[1]} x {level.grid[2]}" for level in lines.levels)
    one = len(lines.part("spatial0", "0_0_0"))
    return [
        ("  line annotations, folder", "", f"written {seconds:.1f} s, {size:.0f} MB in {len(files)} files"),
        ("  line annotations, server: first answer", "", f"{ready:.1f} s"),
        ("  lines that a viewer opens with", "<= 1,000", f"{len(lines.levels[0].rows):,} ({one / 1e3:.0f} kB)"),
        ("  most lines in a cell; cells (x, y, z)", "", f"{max(level.limit for level in lines.levels):,}; {levels}"),
    ]


def cpu(action: Callable[[], object]) -> float:
    """Return the CPU seconds that ``action`` takes."""
    start = time.process_time()
    action()
    return time.process_time() - start


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    for what, target, measured in rows(parser.parse_args().rows):
        print(f"{what:45} {target:10} {measured}")


if __name__ == "__main__":
    main()
