"""Kills, spot machines and damaged files: what a run on real voxels makes of them.

    python benchmarks/chaos.py --kills 1000 [--executor processes] [--seed 1]
    python benchmarks/chaos.py --spot
    python benchmarks/chaos.py --corruption 1000

``--kills``: SIGKILL at random instants, to workers, the coordinator, or all of them at once; whatever ends is started
again by the same command until the run is done; then every byte is compared with an undisturbed run, and the next run
begins. A block that stood in the ledger when a kill struck may never be computed again. With ``--executor dask`` a
scheduler and two Dask workers run beside the coordinator, and are killed and started again too.

``--spot``: every worker lives for a random time (exponential, on average five blocks), then is killed. Measured is the
time that workers spent in blocks, against an undisturbed run; predicted by ``bouton.engine.money.repeat_factor``,
with which plans reckon.

``--corruption``: random files of a finished run get a flipped bit, are truncated, deleted, or swapped with another.
Every one must be named by ``verify`` (or fail to be read), and ``--repair`` must give back the very bytes.

Ends with status 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import chaos_damage
import chaos_run
import numpy as np
from chaos_dask import Site
from chaos_run import Place

from bouton.engine.money import repeat_factor

WORKER = b"bouton.engine.executors.worker"
LIFE_BLOCKS = 5
NAP_SECONDS = 0.15
TOGETHER = 3
ALONE = (("worker", "coordinator", "all"), (0.6, 0.3, 0.1))
ON_DASK = (("worker", "Dask worker", "coordinator", "scheduler", "all"), (0.3, 0.2, 0.2, 0.2, 0.1))
MOST_WORK, MOST_ERROR = 1.25, 0.15


@dataclass
class Coordinator:
    """A coordinator in a process of its own, and what it started."""

    place: Place
    executor: str = "processes"
    site: Site | None = None
    process: subprocess.Popen = field(init=False)

    def __post_init__(self) -> None:
        words = [sys.executable, chaos_run.__file__, str(self.place.flow), str(self.place.folder / "runs")]
        quiet = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        log = (self.place.folder / "coordinators.log").open("ab")
        executor = self.site.address if self.site else self.executor
        self.process = subprocess.Popen([*words, executor, "2"], env=quiet, stderr=log, stdout=log)

    def workers(self) -> list[int]:
        """Return its worker processes that have begun to be one."""
        parents = self.site.workers if self.site else [self.process.pid]
        return [pid for parent in parents for pid in descendants(parent) if WORKER in command_of(pid)]

    def kill(self, pid: int) -> bool:
        """Kill a process; False if it had ended already."""
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def wait_for_the_dead(self) -> None:
        """Wait until no worker of a dead coordinator is left."""
        mine = str(self.place.folder).encode()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            orphans = [int(p.name) for p in Path("/proc").glob("[0-9]*") if mine in command_of(int(p.name))]
            if not orphans:
                return
            time.sleep(0.01)


def descendants(pid: int) -> list[int]:
    """Return the living children of a process, their children, and so on."""
    with contextlib.suppress(OSError, ProcessLookupError):
        found = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
        return found + [below for child in found for below in descendants(child)]
    return []


def command_of(pid: int) -> bytes:
    """Return the command line of a process; nothing of one that ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


@dataclass
class Kills:
    """What was killed, and what had to be done again."""

    chance: random.Random
    victims: Counter = field(default_factory=Counter)
    runs: int = 0
    differing: int = 0
    recomputed: int = 0
    in_flight: int = 0
    broken_commits: int = 0
    gave_up: int = 0
    seconds: float = 0.0

    @property
    def kills(self) -> int:
        """Return the number of kills."""
        return sum(self.victims.values())

    def run(self, place: Place, executor: str, kills: int, mean_seconds: float) -> None:
        """Disturb one run until it is done, by at most ``kills`` kills."""
        with contextlib.ExitStack() as stack:
            site = stack.enter_context(contextlib.closing(Site(place.folder))) if executor == "dask" else None
            self._run(place, (executor, site), kills, mean_seconds)

    def _run(self, place: Place, where: tuple[str, Site | None], kills: int, mean_seconds: float) -> None:
        limit = self.kills + kills
        struck: list[tuple[int, set[str]]] = []
        while True:
            coordinator = Coordinator(place, *where)
            status = self._disturb(coordinator, place, struck, limit, mean_seconds)
            if status == 0:
                break
            if status > 0:
                self.gave_up += 1
                if self.gave_up > 10 + self.kills // 10:
                    raise SystemExit((place.folder / "coordinators.log").read_text()[-2000:])
        self.runs += 1
        self._judge(place, struck)

    def _disturb(self, coordinator: Coordinator, place: Place, struck: list, limit: int, mean_seconds: float) -> int:
        self._until_it_works(coordinator, place)
        while self.kills < limit:
            try:
                return coordinator.process.wait(min(self.chance.expovariate(1 / mean_seconds), 10 * mean_seconds))
            except subprocess.TimeoutExpired:
                self._strike(coordinator, place, struck)
        return coordinator.process.wait(600)

    def _until_it_works(self, coordinator: Coordinator, place: Place) -> None:
        """Killing an interpreter that still imports proves little: half of the time, wait for the first event."""
        log = place.run / "events.jsonl"
        size = log.stat().st_size if log.exists() else 0
        deadline = time.monotonic() + 60
        while self.chance.random() < 0.995 and coordinator.process.poll() is None and time.monotonic() < deadline:
            if log.exists() and log.stat().st_size > size:
                return
            time.sleep(0.02)

    def _strike(self, coordinator: Coordinator, place: Place, struck: list) -> None:
        workers, site = coordinator.workers(), coordinator.site
        what = self.chance.choices(*(ON_DASK if site else ALONE))[0]
        targets = {"worker": workers and [self.chance.choice(workers)], "coordinator": [coordinator.process.pid]}
        if site:
            targets |= {"scheduler": [site.scheduler], "Dask worker": [self.chance.choice(site.workers)]}
        before = (len(place.starts()), place.committed())
        hit = [coordinator.kill(pid) for pid in targets.get(what, [coordinator.process.pid, *workers]) or []]
        if any(hit):
            self.victims[what] += 1
            struck.append(before)
            begun = {task for task, *_ in place.starts() if task.startswith("differences")}
            self.in_flight += len(begun - before[1])
        if what in ("coordinator", "all"):
            coordinator.process.wait(60)

    def _judge(self, place: Place, struck: list[tuple[int, set[str]]]) -> None:
        starts = [task for task, *_ in place.starts()]
        blocks = [task for task in starts if task.startswith("differences")]
        self.recomputed += len(blocks) - len(set(blocks))
        for begun, committed in struck:
            self.broken_commits += len(committed & set(starts[begun:]))


def together(kinds: list[Kills]) -> Kills:
    """Return the sums of all."""
    total = Kills(random.Random())
    for one in kinds:
        total.victims += one.victims
        for name in ("runs", "differing", "recomputed", "in_flight", "broken_commits", "gave_up"):
            setattr(total, name, getattr(total, name) + getattr(one, name))
    return total


def undisturbed(folder: Path, image: np.ndarray, seconds: float) -> tuple[Place, dict[str, str], float]:
    """Return a run without kills: its place, its checksums, and the time that its blocks took."""
    place = chaos_run.prepare(folder, image, seconds)
    started = time.perf_counter()
    if Coordinator(place).process.wait(600) != 0:
        raise SystemExit((place.folder / "coordinators.log").read_text()[-2000:])
    return place, chaos_run.checksums(place.run), time.perf_counter() - started


def measure_kills(folder: Path, count: int, executor: str, seed: int) -> bool:
    """Print what so many kills did; return whether the targets are met."""
    image, what = chaos_run.real_image(None)
    _, good, seconds = undisturbed(folder / "undisturbed", image, NAP_SECONDS)
    started, kinds = time.perf_counter(), [Kills(random.Random(f"{seed} {lane}")) for lane in range(TOGETHER)]

    def disturb(lane: int) -> None:
        mine, share = kinds[lane], count // TOGETHER + (lane < count % TOGETHER)
        while mine.kills < share:
            place = chaos_run.prepare(folder / f"run{lane}-{mine.runs}", image, NAP_SECONDS)
            # What is killed on a cluster takes seconds to come back.
            mean = max(0.3, seconds / 10) * (5 if executor == "dask" else 1)
            mine.run(place, executor, min(40, share - mine.kills), mean)
            found = chaos_run.checksums(place.run)
            mine.differing += sum(found.get(name) != good.get(name) for name in {*found, *good})
            shutil.rmtree(place.folder)
            said = f"{sum(k.kills for k in kinds)} kills, {sum(k.runs for k in kinds)} runs"
            sys.stderr.write(f"\r{said}, {time.perf_counter() - started:.0f} s ")

    with ThreadPoolExecutor(TOGETHER) as lanes:
        list(lanes.map(disturb, range(TOGETHER)))
    kills = together(kinds)
    rows = [
        ("kills", f"{kills.kills} ({', '.join(f'{n} {who}' for who, n in sorted(kills.victims.items()))})"),
        ("voxels", f"{image.size} of {what}, {len(good)} files a run, {kills.runs} runs finished"),
        ("files with differing bytes", f"{kills.differing} of {kills.runs * len(good)} (target 0)"),
        ("committed blocks computed again", f"{kills.broken_commits} (target 0)"),
        ("blocks computed again per kill", f"{kills.recomputed / kills.kills:.2f}"),
        ("blocks in flight at a kill", f"{kills.in_flight / kills.kills:.2f} (target: not less than the line above)"),
        ("coordinators that gave up with an error", f"{kills.gave_up}"),
        ("wall time", f"{time.perf_counter() - started:.0f} s"),
    ]
    show("kills", rows)
    return not kills.differing and not kills.broken_commits and kills.recomputed <= kills.in_flight


def measure_spot(folder: Path, seed: int, seconds: float = 0.4) -> bool:
    """Print what short-lived workers cost; return whether the targets are met."""
    image, what = chaos_run.real_image(None)
    still, good, _ = undisturbed(folder / "undisturbed", image, seconds)
    plain = block_seconds(still)
    block = plain / len({task for task, *_ in still.starts() if task.startswith("differences")})
    chance, life = random.Random(seed), LIFE_BLOCKS * block
    place = chaos_run.prepare(folder / "spot", image, seconds)
    (place.folder / "deaths").mkdir()
    coordinator, ends, deaths = Coordinator(place), dict[int, float](), 0
    while coordinator.process.poll() is None:
        now = time.monotonic()
        for task, pid, began in place.starts():
            if task.startswith("differences"):
                ends.setdefault(pid, began + chance.expovariate(1 / life))
        for pid, end in list(ends.items()):
            if end <= now and end != float("-inf") and pid in coordinator.workers() and _in_block(place, pid):
                if coordinator.kill(pid):
                    deaths += 1
                    (place.folder / "deaths" / str(pid)).write_text(str(time.monotonic()))
                ends[pid] = float("-inf")
        time.sleep(0.005)
    same = coordinator.process.returncode == 0 and chaos_run.checksums(place.run) == good
    ratio, predicted = block_seconds(place) / plain, repeat_factor(block / 3600, 3600 / life, 0.0)
    rows = [
        ("voxels", f"{image.size} of {what}; blocks of {block:.2f} s, a worker lives {life:.2f} s on average"),
        ("workers lost", str(deaths)),
        ("the run", "finished with the same bytes" if same else "FAILED or differs"),
        ("work", f"{ratio:.3f} x undisturbed (target <= {MOST_WORK})"),
        ("predicted", f"{predicted:.3f} x (off by {abs(predicted / ratio - 1):.1%}, target {MOST_ERROR:.0%})"),
    ]
    show("spot", rows)
    return same and ratio <= MOST_WORK and abs(predicted / ratio - 1) <= MOST_ERROR


def _in_block(place: Place, pid: int) -> bool:
    """Return whether the last note of a process is of a block that has not ended."""
    mine = [task for task, process, _ in place.notes() if process == pid]
    return bool(mine) and mine[-1].startswith("differences")


def block_seconds(place: Place) -> float:
    """Return the time that workers spent in blocks, those that ended with their worker included."""
    spent, begun, last = 0.0, dict[int, float](), dict[int, float]()
    for task, pid, at in place.notes():
        if task.startswith("end ") and pid in begun:
            spent += at - begun.pop(pid)
        elif task.startswith("differences"):
            begun[pid] = at
        last[pid] = at
    return spent + sum(killed_at(place, pid, at) - at for pid, at in begun.items())


def killed_at(place: Place, pid: int, default: float) -> float:
    """Return when a process was killed, as :func:`measure_spot` noted it."""
    path = place.folder / "deaths" / str(pid)
    return float(path.read_text()) if path.exists() else default


def measure_corruption(folder: Path, count: int, seed: int) -> bool:
    """Print what became of damaged files; return whether the targets are met."""
    image, what = chaos_run.real_image(None)
    place, good, _ = undisturbed(folder / "undisturbed", image, 0.0)
    found = chaos_damage.damage(place.run, good, count, random.Random(seed))
    rows = [
        ("damages", f"{found.count} ({', '.join(f'{n} {how}' for how, n in sorted(found.kinds.items()))})"),
        ("voxels", f"{image.size} of {what}, {len(good)} files"),
        ("named by verify", f"{found.named} (target: all)"),
        ("told by a read already", f"{found.told} of {found.read} that were read"),
        ("reads that gave other values, found by verify alone", str(found.silent)),
        ("crashes", f"{found.crashes} (target 0)"),
        ("restored to the very bytes", f"{found.restored} (target: all)"),
        ("other files that differ after repairs", f"{found.left} (target 0)"),
    ]
    show("corruption", rows)
    return found.named == found.restored == found.count and not found.crashes + found.left


def show(title: str, rows: list[tuple[str, str]]) -> None:
    """Print a table."""
    width = max(len(name) for name, _ in rows)
    print(f"\n{title}\n" + "\n".join(f"  {name:<{width}}  {value}" for name, value in rows), flush=True)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--spot", action="store_true")
    parser.add_argument("--corruption", type=int, default=0)
    parser.add_argument("--executor", default="processes")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    good = []
    # a disk in memory, if there is one: what is measured is not the disk
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        if asked.kills:
            good.append(measure_kills(Path(folder) / "kills", asked.kills, asked.executor, asked.seed))
        if asked.spot:
            good.append(measure_spot(Path(folder) / "spot", asked.seed))
        if asked.corruption:
            good.append(measure_corruption(Path(folder) / "corruption", asked.corruption, asked.seed))
    sys.exit(0 if good and all(good) else 1)


if __name__ == "__main__":
    main()
