"""Synapse densities of a volume as large as that of the case study: seconds, memory, speed, power, calibration.

    python benchmarks/density.py --folder DIR [--part 0.05] [--workers 2]
    python benchmarks/density.py --calibration 100        rejections of uniform tissue, power on patterned tissue
    python benchmarks/density.py --statistics              only the tests on 41,630 blocks

``--folder`` keeps the simulated volume (density_volume.py): a mask of 4232 x 3744 x 1239 (x, y, z) voxels and 11.6
million synapses; ``--part`` takes less of its tissue. Times of tables are those of whole runs of ``bouton run`` in a
process of its own, by the clock and in CPU seconds of all its processes; memory is the largest sum over all of them.

The peer on tables is what numpy and scipy make of it block by block: read the mask around a block, distance transform,
count (its counts are compared with ours, block by block). It does some blocks, and is scaled to all of them. The peer
on labels is the study's procedure in numpy: cut block and surround out, count the voxels of every label in both.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import density_peers as peers
import density_runs as runs
import density_tissue
import numpy as np
from density_volume import Made, make

from bouton.density.blocks import density_blocks
from bouton.density.power import Rejections, block_findings, point_rejections, power, rejections
from bouton.density.simulate import MASKS, Tissue, tissue
from bouton.density.uniformity import Options, analyse
from bouton.volume.run_folder import open_run
from bouton.volume.tables import read_table

BLOCKS = 41_630
STRENGTHS = dict.fromkeys(("gradient", "layers", "clusters"), (0.02, 0.03, 0.05, 0.1))
Row = tuple[str, str, str]


def table_rows(made: Made, folder: Path, workers: int, sample: int) -> list[Row]:
    """Measure (a): densities from a table and a mask, beside the peer."""
    took, table = runs.densities(made, folder, workers)
    share = np.prod(made.shape) / np.prod(runs.STUDY, dtype=np.float64)
    size = f"{made.synapses / 1e6:.3g} M synapses, {np.prod(made.shape) / 1e9:.3g} Gvoxel"
    what = f"{size}, {len(table['synapses']):,} blocks"
    note = "" if share > 0.99 else f" ({share:.1%} of the volume)"
    peer, same, blocks = peers.by_distance_transform(made, table, sample)
    whole = peer / blocks * len(table["synapses"])
    return [
        (
            what,
            "<= 20 s, <= 3 GB",
            f"{took.wall_s:.1f} s on {workers} workers, {took.cpu_s:.1f} CPU s, {took.peak_gb:.2f} GB{note}",
        ),
        ("  start, plan and report of an empty run", "", f"{runs.empty_s(folder, workers):.1f} s by the clock"),
        (
            "  numpy + scipy, block by block",
            "slower",
            f"{whole:.0f} CPU s ({blocks} blocks, scaled): {whole / took.cpu_s:.0f} x; same counts: {same}",
        ),
    ]


def label_rows(times: int) -> list[Row]:
    """Measure (b): densities from labels, Mvoxel/s of one core, beside the limit and the study's procedure."""
    known = density_tissue.tissue(1)
    rows = []
    for rule in ("centroid", "neurodata-2016"):
        mega, seconds = runs.label_seconds(known, rule, times)
        limit = peers.reading_s(known.labels, known.mask, times)
        speed, most = mega / seconds, mega / limit
        figure = f"{speed:.0f} Mvoxel/s a core ({speed / most:.1%} of reading every byte once, {most:.0f})"
        rows.append((f"labels, rule {rule}, {mega:.0f} Mvoxel", ">= 40 Mvoxel/s", figure))
    peer, blocks, voxels = peers.by_unique(known.labels, known.mask)
    rows.append(
        ("  the study's procedure in numpy", "slower", f"{voxels / peer / 1e6:.1f} Mvoxel/s a core ({blocks} blocks)")
    )
    return rows


def statistics_rows(permutations: int = 999) -> list[Row]:
    """Measure (c): all tests of blocks on as many blocks as the study kept."""
    settings = Tissue(shape=(10, 70, 75), size_um=(4.995, 4.992, 4.992), density_um3=1.416)
    blocks = tissue("overdispersed", "vessels", 1, settings)
    blocks = blocks.only(np.arange(len(blocks)) < BLOCKS)
    analyse(blocks.only(np.arange(len(blocks)) < 500), None, Options(permutations=19))
    wall, cpu = time.perf_counter(), time.process_time()
    found = analyse(blocks, None, Options(permutations=permutations))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    made = sum(np.isfinite(each.p) for each in found.findings)
    return [
        (
            f"{made} tests of {len(blocks):,} blocks, {permutations} permutations",
            "<= 60 s",
            f"{cpu:.1f} CPU s, {wall:.1f} s by the clock",
        )
    ]


def points_row(made: Made, folder: Path) -> Row:
    """Measure (c) with points: the whole family on the blocks and the table of the simulated volume."""
    table, synapses = open_run(folder / runs.RUNS / "density").table("density"), read_table(made.table)
    blocks = density_blocks(table)
    points_um = np.stack([synapses[f"{axis}_nm"] for axis in "zyx"], axis=1) / 1000
    wall, cpu = time.perf_counter(), time.process_time()
    analyse(blocks, points_um, Options())
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    what = f"  the same with points: {len(blocks):,} blocks, {len(points_um) / 1e6:.3g} M synapses"
    return what, "", f"{cpu:.1f} CPU s, {wall:.1f} s by the clock"


def calibration(tissues: int) -> list[Rejections]:
    """Measure (d), first half: how often tests reject uniform tissue."""
    seeds, points = range(tissues), Tissue(shape=(4, 4, 4))
    found = [row for mask in MASKS for row in rejections(block_findings, "uniform", mask, seeds)]
    return found + point_rejections("hard core", "none", seeds, points)


def power_table(tissues: int) -> list[Rejections]:
    """Measure (d), second half: how often tests reject patterned tissue."""
    return [
        row for kind, strengths in STRENGTHS.items() for row in power(block_findings, kind, strengths, range(tissues))
    ]


def print_shares(title: str, found: list[Rejections]) -> None:
    """Print shares of rejected tissues, a line a test, a column a setting."""
    settings = list(dict.fromkeys((row.kind, row.mask, row.strength) for row in found))
    names = [f"{kind} {strength:g}" if kind in STRENGTHS else f"{kind}, {mask}" for kind, mask, strength in settings]
    print(title)
    print(f"{'':30}" + "".join(f"{name:>18}" for name in names))
    for test in dict.fromkeys(row.test for row in found):
        shares = {(row.kind, row.mask, row.strength): row.share for row in found if row.test == test}
        print(f"{test:30}" + "".join(f"{shares[s]:>18.1%}" if s in shares else f"{'':>18}" for s in settings))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the simulated volume is kept")
    parser.add_argument("--part", type=float, default=1.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sample", type=int, default=60, help="blocks that the peer does")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--calibration", type=int, default=0, metavar="TISSUES")
    parser.add_argument("--statistics", action="store_true")
    given = parser.parse_args()
    if given.calibration:
        print_shares(f"share of {given.calibration} uniform tissues rejected at 5 %", calibration(given.calibration))
        print_shares(f"share of {given.calibration} patterned tissues rejected at 5 %", power_table(given.calibration))
        return
    rows = statistics_rows()
    if not given.statistics:
        rows += label_rows(given.repeats)
        if given.folder:
            made = make(given.folder, given.part)
            rows += table_rows(made, given.folder, given.workers, given.sample)
            rows.append(points_row(made, given.folder))
    for what, target, measured in rows:
        print(f"{what:58} {target:18} {measured}")


if __name__ == "__main__":
    main()
