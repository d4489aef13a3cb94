"""What 1 Gvoxel, 1 Tvoxel and 1 Pvoxel need, and what breaks first, from measured figures; writes docs/scale.md.

    python benchmarks/scale.py [--folder scale] [--workflow workflows/demo.yaml] [--workers 1000]
                               [--set steps.network.params.runtime=openvino]
                               [--prices FILE --machine NAME] [--write docs/scale.md] [--peers FILE]

1. A probe of `bouton plan` runs a few real blocks of every step in a phantom of 1 Tvoxel (nothing of the rest exists);
   its forecast, with the same parameters, is asked for other volumes.
2. Runs of blocks that do nothing give what the coordinator costs a block: time, memory, ledger.
3. This disk: durable files a second, commits a second, looking at a file, finding its parts in a table's folder.
4. From these, for everything that grows faster than the work or that one process holds: the volume at which it breaks.

``--folder`` keeps the probe: the next call measures only what is new. ``--write`` replaces the tables between the
marks in the page, with the command and the date; ``--peers`` adds what benchmarks/engine_peers.py printed.
"""

from __future__ import annotations

import argparse
import datetime
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scale_measure import LONG_S, PROBED, Measured, Rows, measure_coordinator, measure_disk, probe

from bouton.cli.prices import find_machine, read_prices
from bouton.engine.money import rent

GIB = 1 << 30
VOLUMES = {"1 Gvoxel": 1e9, "1 Tvoxel": 1e12, "1 Pvoxel": 1e15}
NETWORK_STAT_S = 0.5e-3
"""What one look at a file takes on a shared file system: an assumption (a round trip), for this disk is local."""
EXT4_NAMES = 10_000_000
"""Names of about 60 bytes that a folder of ext4 takes, without its feature large_dir: two levels of 4 KiB nodes."""
WHOLE = {
    "`synapses`": ["agglomeration.merges", "synapse_sides.sides", "synapse_sides.touching", "synapse_sides.cleft_sums"],
    "`bouton cut` and `bouton view --threshold`": ["agglomeration.merges", "agglomeration.fragment_sizes"],
    "`multicut`, and training an agglomeration,": ["agglomeration.region_graph"],
    "`root_contacts`": ["touching.contacts", "touching.patches", "touching.patch_links"],
    "`evaluate_segmentation`'s last part": [
        "segmentation_scores._parts",
        "segmentation_scores._split_contacts",
        "segmentation_scores._merge_contacts",
    ],
    "`synapse_types` (each worker of it holds `synapses`)": ["synapses.synapses", "synapse_types.features"],
    "`evaluate_synapses`": ["synapse_types.synapses", "tissue.synapses"],
    "`connectome` and the report": ["synapse_types.synapses"],
}
"""What holds which tables whole, by the names of the demo's steps."""
NODE_TABLES = 5
"""Tables of merge nodes that the blocks of the demo read: _moves, _small_moves, merges, _fates, _sums."""


def si(value: float, unit: str = "") -> str:
    """Return a number with three digits and a prefix."""
    for size, prefix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size * 0.9995:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}".strip()


def needs_table(measured: Measured, price: tuple[str, float] | None) -> list[str]:
    """Return the table of what volumes need."""
    columns = [_needs(measured, voxels, price) for voxels in VOLUMES.values()]
    lines = ["| | " + " | ".join(VOLUMES) + " |", "|---|" + "---|" * len(columns)]
    lines += [f"| {name} | " + " | ".join(column[name] for column in columns) + " |" for name in columns[0]]
    return lines


def _needs(measured: Measured, voxels: float, price: tuple[str, float] | None) -> dict[str, str]:
    plan, found = measured.plan(voxels), measured.coordinator
    known = [step.forecast for step in plan.steps if step.forecast]
    tasks = sum(step.tasks for step in plan.steps)
    cpu_hours = sum(each.cpu_seconds.value for each in known) / 3600
    hours = sum(each.worker_seconds.value for each in known) / 3600
    files = sum(each.files.value for each in known)
    column = {
        "blocks": si(measured.blocks(voxels)),
        "tasks of all steps": si(tasks),
        "core-hours (processor time of tasks)": si(cpu_hours),
        "worker-hours by the clock, as busy as this machine was": si(hours),
        f"days with {measured.workers:,} cores, by processor time": f"{cpu_hours / 24 / measured.workers:.3g}",
        "bytes on disk": si(sum(each.size_bytes.value for each in known), "B"),
        "files": si(files),
        "time to make these files durable, on one disk like this": f"{si(files / measured.disk.files_s / 3600)} h",
        "ledgers": si(tasks * found.ledger_bytes, "B"),
        "coordinator, time of its processor": f"{si(tasks * found.lone_us / 3.6e9)} h",
        "coordinator, memory": si(measured.coordinator_bytes(voxels), "B"),
        "resume: reading the ledgers": f"{si(tasks * found.resume_us / 1e6)} s",
        "resume: looking at every file, local": f"{si(files * measured.disk.stat_s)} s",
        "money, if a core-hour is 0.01": si(rent(cpu_hours, 1, 0.01)),
    }
    if price is not None:
        column[price[0]] = si(rent(cpu_hours, 1, price[1]))
    return column


def steps_table(measured: Measured) -> list[str]:
    """Return the table of steps: processor time, bytes, files, and memory of the largest worker at 1 Gvoxel."""
    one, small = measured.plan(PROBED), measured.plan(1e9)
    total = sum(step.forecast.cpu_seconds.value for step in one.steps if step.forecast)
    lines = ["| step | core-hours a Tvoxel | share | TB a Tvoxel | files a block | largest worker at 1 Gvoxel |"]
    lines.append("|---|---|---|---|---|---|")
    for step, other in zip(one.steps, small.steps, strict=True):
        found = step.forecast
        if found is None or other.forecast is None:
            continue
        cells = [step.step, si(found.cpu_seconds.value / 3600), f"{100 * found.cpu_seconds.value / total:.1f} %"]
        cells.append(f"{found.size_bytes.value / 1e12:.3g}")
        cells.append(f"{found.files.value / measured.blocks(step.voxels):.1f}")
        lines.append("| " + " | ".join([*cells, si(other.forecast.worker_bytes.value, "B")]) + " |")
    return lines


@dataclass(frozen=True)
class Limit:
    """Something that breaks: ``need(voxels)`` of a volume against ``limit``."""

    what: str
    law: str
    limit_text: str
    mends: str
    need: Callable[[float], float]
    limit: Callable[[float], float] | float

    def volume(self) -> float:
        """Return the volume at which it breaks; infinite if above 1e16 voxels: a workflow holds 1e10 blocks."""
        low, high = 7.0, 16.0
        if not self._broken(10**high):
            return math.inf
        while high - low > 0.02:
            middle = (low + high) / 2
            low, high = (low, middle) if self._broken(10**middle) else (middle, high)
        return 10**high

    def _broken(self, voxels: float) -> bool:
        limit = self.limit(voxels) if callable(self.limit) else self.limit
        return self.need(voxels) > limit


def engine_limits(measured: Measured) -> Iterator[Limit]:
    """Yield what breaks of files, ledgers and the coordinator."""
    disk, found, at = measured.disk, measured.coordinator, measured.plan(PROBED)
    known = [step.forecast for step in at.steps if step.forecast]
    size = at.steps[0].voxels
    cpu, files = (sum(getattr(f, n).value for f in known) / size for n in ("cpu_seconds", "files"))
    tasks = sum(step.tasks for step in at.steps) / size
    wall = 30 * 86400.0
    yield Limit(
        f"reading a node table block by block: every block lists all nodes of the folder "
        f"({disk.part_s * 1e6:.3g} us a node, {NODE_TABLES} tables)",
        "blocks^2", "as much as all work",
        "name the nodes above a block from the grid, or read the folder once a worker",
        lambda v: NODE_TABLES * measured.blocks(v) ** 2 * 8 / 7 * disk.part_s, lambda v: v * cpu,
    )  # fmt: skip
    synapses = measured.rows.per_voxel("synapses.synapses")
    yield Limit(
        f"`synapse_types`: every block looks through all rows of `synapses` ({disk.scan_row_s * 1e9:.2g} ns a row)",
        "blocks x synapses", "as much as all work", "rows of a block's own box alone: a table in parts by place",
        lambda v: measured.blocks(v) * v * synapses * disk.scan_row_s, lambda v: v * cpu,
    )  # fmt: skip
    yield Limit(
        f"one coordinator for all blocks ({found.lone_us:.0f} us a block of its processor)", "blocks",
        "its processor alone takes 30 days",
        "two coordinators for two halves; fewer, larger blocks", lambda v: v * tasks * found.lone_us / 1e6, wall,
    )  # fmt: skip
    yield Limit(
        f"{disk.commits_s:.0f} commits a second of one ledger, a report a worker every 0.5 s", "workers",
        "workers that finish in 30 days report more often", "many reports in one commit; longer leases",
        lambda v: v * cpu / wall / 0.5, disk.commits_s,
    )  # fmt: skip
    yield Limit(
        f"{disk.files_s:.0f} durable files a second on one disk ({files * 1e6:.3g} files a Mvoxel)", "blocks",
        "30 days of one such disk", "larger blocks; several small tables in one file; an object store",
        lambda v: v * files / disk.files_s, wall,
    )  # fmt: skip
    yield Limit(
        "the parts of a table in one folder", "blocks", f"{EXT4_NAMES:,} names (ext4 without large_dir)",
        "a folder a level and a z, as the shards of layers have", lambda v: measured.blocks(v) * 8 / 7, EXT4_NAMES,
    )  # fmt: skip
    yield Limit(
        f"looking at every file when a run begins ({disk.stat_s * 1e6:.3g} us here, 500 us assumed on a network)",
        "files", "1 hour at 500 us", "only the files of what is read next; a folder's listing at once",
        lambda v: v * files * NETWORK_STAT_S, 3600,
    )  # fmt: skip
    yield Limit(
        f"the coordinator's memory ({si(found.floor_bytes, 'B')} + {found.plane_bytes:.3g} B a block of one face)",
        "faces", "64 GiB", "larger blocks", measured.coordinator_bytes, 64 * GIB,
    )  # fmt: skip
    yield Limit(
        f"size of the ledgers ({found.ledger_bytes:.3g} B a task)", "blocks", "1 TB on the coordinator's disk",
        "larger blocks", lambda v: v * tasks * found.ledger_bytes, 1e12,
    )  # fmt: skip


def table_limits(measured: Measured) -> Iterator[Limit]:
    """Yield what breaks of tables that one process holds, and of the roots of merges."""
    held = held_over(measured)
    for what, names in WHOLE.items():
        each = sum(measured.rows.bytes_per_voxel(name) for name in names)
        count = sum(measured.rows.per_voxel(name) for name in names)
        if each:
            yield Limit(
                f"{what} in one process: {', '.join(f'`{name}`' for name in names)} ({si(count * 1e9)} rows, "
                f"{si(each * 1e9, 'B')} a Gvoxel, held {held:.1f} times over)", "volume", "64 GiB",
                "by ranges of ids or by place, as blocks do; sums merged up the octree",
                lambda v, each=each: held * v * each, 64 * GIB,
            )  # fmt: skip
    for number, step in enumerate(measured.plan(PROBED).steps):
        if step.forecast and measured.keeping(number):
            yield Limit(
                f"the root of the merges of `{step.step}`, as the plan reckons it", "faces", "64 GiB",
                "a larger machine for the last levels; the root by ranges of ids",
                lambda v, number=number: measured.root_bytes(number, v), 64 * GIB,
            )  # fmt: skip


def held_over(measured: Measured) -> float:
    """Return how often `synapses` holds the bytes of its tables, by the plan's memory for it."""
    found = [step for step in measured.plan(PROBED).steps if step.step == "synapses" and step.forecast]
    each = sum(measured.rows.bytes_per_voxel(name) for name in WHOLE["`synapses`"])
    if not found or not each:
        return 3.0
    assert found[0].forecast is not None
    return max(1.0, found[0].forecast.worker_bytes.value / (each * found[0].voxels))


def limits_table(measured: Measured) -> list[str]:
    """Return the table of what breaks, the first first."""
    limits = [(limit.volume(), limit) for limit in [*engine_limits(measured), *table_limits(measured)]]
    lines = ["| | breaks at | what | grows with | limit | what mends it |", "|---|---|---|---|---|---|"]
    for number, (volume, limit) in enumerate(sorted(limits, key=lambda pair: pair[0]), 1):
        place = "above 10 Pvoxel" if math.isinf(volume) else si(volume, "voxel")
        lines.append(f"| {number} | {place} | {limit.what} | {limit.law} | {limit.limit_text} | {limit.mends} |")
    return lines


def figures_table(measured: Measured) -> list[str]:
    """Return the measured figures that the others are computed from."""
    found, disk = measured.coordinator, measured.disk
    small, large = found.sides
    return [
        "| figure | measured |", "|---|---|",
        f"| coordinator, processor time a block that does nothing ({small}^3 to {large}^3) | {found.cpu_us:.1f} us |",
        f"| the same of blocks of {LONG_S} s, each alone in a report and a commit | {found.lone_us:.0f} us |",
        f"| a block that does nothing by the clock, two workers | {found.wall_us:.1f} us |",
        f"| a finished block, when the run is started again | {found.resume_us:.2f} us |",
        f"| ledger, a block | {found.ledger_bytes:.0f} B |",
        f"| coordinator, memory at {small}^3 blocks, and more a block of one face | "
        f"{si(found.floor_bytes + found.plane_bytes * small**2, 'B')}, {found.plane_bytes:.3g} B |",
        f"| durable files a second, one writer | {disk.files_s:.0f} |",
        f"| commits a second of SQLite (WAL, synchronous=FULL) | {disk.commits_s:.0f} |",
        f"| looking at a file | {disk.stat_s * 1e6:.2g} us |",
        f"| finding one's part in a table's folder, a part in it | {disk.part_s * 1e6:.3g} us of a processor |",
        f"| looking whether a row is in a box | {disk.scan_row_s * 1e9:.2g} ns |",
    ]  # fmt: skip


def put(page: str, name: str, lines: Sequence[str]) -> str:
    """Return the page with the text between the marks of ``name`` replaced."""
    start, stop = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, found, rest = page.partition(start)
    _, ended, after = rest.partition(stop)
    if not (found and ended):
        raise SystemExit(f"the page has no marks {start} ... {stop}")
    return "\n".join([before + start, *lines, stop + after])


def measure(options: argparse.Namespace) -> Measured:
    """Measure all."""
    options.folder.mkdir(parents=True, exist_ok=True)
    overrides = tuple(options.set)
    samples = probe(options.workflow, options.folder, overrides)
    coordinator = measure_coordinator((options.small, options.large))
    disk = measure_disk(options.folder)
    rows = Rows(options.folder)
    return Measured(options.workflow, overrides, options.folder, options.workers, samples, rows, coordinator, disk)


def main() -> None:
    """Measure and print, or write the page's tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workflow", type=Path, default=Path("workflows/demo.yaml"))
    parser.add_argument("--folder", type=Path, default=Path("scale"))
    parser.add_argument("--set", action="append", default=[], help="as of bouton plan")
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--small", type=int, default=10, help="side of the smaller grid of blocks that do nothing")
    parser.add_argument("--large", type=int, default=40)
    parser.add_argument("--prices", type=Path)
    parser.add_argument("--machine")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--peers", type=Path, help="what benchmarks/engine_peers.py printed, for the page")
    options = parser.parse_args()
    price = None
    if options.machine:
        machine = find_machine(options.machine, read_prices(options.prices))
        price = (f"{machine.currency} on {machine.name}", machine.price_per_hour / (machine.cores or 1))
    measured = measure(options)
    tables = {
        "figures": figures_table(measured),
        "needs": needs_table(measured, price),
        "steps": steps_table(measured),
        "limits": limits_table(measured),
    }
    words = " ".join(Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:])
    tables["command"] = [f"`python benchmarks/scale.py {words}`, {datetime.date.today()}."]
    if options.peers:
        tables["peers"] = ["```", *options.peers.read_text().splitlines(), "```"]
    for name, lines in tables.items():
        print(f"\n{name}\n" + "\n".join(lines))
    if options.write:
        page = options.write.read_text()
        for name, lines in tables.items():
            page = put(page, name, lines)
        options.write.write_text(page)


if __name__ == "__main__":
    main()
