"""What other engines cost a block that does nothing, on the work of benchmarks/engine.py.

    python benchmarks/engine_peers.py [--blocks 1000000] [--limit-s 300] [--limit-gb 6] [--peers pool,daisy]
                                      [--python PATH]

The work: a grid of side^3 blocks; a second wave on the same grid, in which a block needs the 3 x 3 x 3 blocks of the
first wave around it; then an octree over the second wave, a node for up to 8 blocks or nodes, up to its root. Two
workers. Each peer climbs a ladder of 1,000, 10,000, ... blocks up to ``--blocks``, each rung in a process of its own
with a limit of time and of memory (all of its processes together), and the last rung it reached is printed with the
first one it did not. Seconds count from an empty process with the peer imported to the result, the graph's making and
the workers' start included; memory is the peak of the process that decides (and of all together, sampled).

The peers, and what they keep of a finished block:

- ``pool``: concurrent.futures.ProcessPoolExecutor, one future a block, counters of dependencies in numpy. Nothing.
- ``pool-waves``: the same with ``map`` in chunks of 256 and a barrier between waves: the least there is. Nothing.
- ``dask``: a plain Dask graph on the threaded scheduler. Nothing.
- ``distributed``: the same graph on a LocalCluster of two processes. Nothing.
- ``daisy``: daisy 2, a task a wave and a level, two worker processes, its own block tracking on. A byte a block.
- ``luigi``, ``redun``: tools that run task by task as Airflow does (Airflow itself wants a database and services beside
  it). luigi, with its scheduler inside and two worker processes, keeps a file a block; redun, with two
  threads, a few rows a block in SQLite.

Peers that are not installed are named; ``--python`` names an interpreter that has them.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

WORKERS = 2
IN_FLIGHT = 512
Row = tuple[str, str, str]
Place = tuple[int, int, int]


def nothing(*needs: Any) -> int:
    """Do nothing."""
    return 0


def one_block(block: Any) -> None:
    """Do nothing with a block (daisy counts a function's arguments)."""


def levels(side: int) -> list[int]:
    """Return the side of every level of the octree over side^3 blocks, from the one above the blocks to the root's."""
    found = []
    while side > 1:
        side = (side + 1) // 2
        found.append(side)
    return found


def count(side: int) -> int:
    """Return the number of blocks and nodes of the work."""
    return 2 * side**3 + sum(each**3 for each in levels(side))


def side_for(blocks: int) -> int:
    """Return the largest side whose work has at most this many blocks."""
    side = 2
    while count(side + 1) <= blocks:
        side += 1
    return side


def around(place: Place, side: int) -> Iterator[Place]:
    """Yield the 3 x 3 x 3 places around one."""
    yield from itertools.product(*(range(max(0, a - 1), min(side, a + 2)) for a in place))


def under(place: Place, below: int) -> Iterator[Place]:
    """Yield the up to 8 places under a node, of a level of this side."""
    yield from itertools.product(*(range(2 * a, min(below, 2 * a + 2)) for a in place))


def places(side: int) -> Iterator[Place]:
    """Yield all places of a cube."""
    yield from itertools.product(range(side), repeat=3)


def needs_of(side: int) -> Iterator[tuple[tuple[int, ...], list[tuple[int, ...]]]]:
    """Yield every task of the work, (front, z, y, x), with the tasks that it needs, in an order that can be run.

    A task is one object wherever it is named: a graph's memory is the graph's, not that of copies of its keys.
    """
    below = {place: (0, *place) for place in places(side)}
    yield from ((task, []) for task in below.values())
    own = {place: (1, *place) for place in places(side)}
    yield from ((task, [below[each] for each in around(place, side)]) for place, task in own.items())
    size = side
    for front, above in enumerate(levels(side), 2):
        below, own = own, {place: (front, *place) for place in places(above)}
        for place, task in own.items():
            yield task, [below[each] for each in under(place, size)]
        size = above


def root_of(side: int) -> tuple[int, ...]:
    """Return the last task."""
    return (1 + len(levels(side)), 0, 0, 0)


class Counters:
    """How many needs of every task are not done yet."""

    def __init__(self, side: int) -> None:
        self.sides = [side, side, *levels(side)]
        self.left = [np.zeros((each,) * 3, np.int8) for each in self.sides]
        line = np.full(side, 3, np.int8)
        line[0] -= 1
        line[-1] -= 1
        self.left[1] = line[:, None, None] * line[:, None] * line
        for front in range(2, len(self.sides)):
            ones = np.minimum(2, self.sides[front - 1] - 2 * np.arange(self.sides[front])).astype(np.int8)
            self.left[front] = ones[:, None, None] * ones[:, None] * ones

    def finish(self, front: int, place: Place) -> list[tuple[int, Place]]:
        """Return the tasks that are ready now that this one is done."""
        if front + 1 == len(self.sides):
            return []
        left = self.left[front + 1]
        if front:
            z, y, x = (a // 2 for a in place)
            left[z, y, x] -= 1
            return [] if left[z, y, x] else [(front + 1, (z, y, x))]
        low = [max(0, a - 1) for a in place]
        box = left[tuple(slice(a, b + 2) for a, b in zip(low, place, strict=True))]
        box -= 1
        return [(1, (z + low[0], y + low[1], x + low[2])) for z, y, x in np.argwhere(box == 0).tolist()]


def run_pool(side: int, folder: Path) -> None:
    """One future a block, handed out when what it needs is done."""
    counters = Counters(side)
    ready: deque[tuple[int, Place]] = deque()
    first = ((0, place) for place in places(side))
    running: dict[Future[int], tuple[int, Place]] = {}
    with ProcessPoolExecutor(WORKERS, get_context("spawn")) as pool:
        while True:
            while len(running) < IN_FLIGHT:
                task = ready.popleft() if ready else next(first, None)
                if task is None:
                    break
                running[pool.submit(nothing, task)] = task
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                ready.extend(counters.finish(*running.pop(future)))


def run_pool_waves(side: int, folder: Path) -> None:
    """Waves with a barrier between them."""
    with ProcessPoolExecutor(WORKERS, get_context("spawn")) as pool:
        for size in (side, side, *levels(side)):
            for start in range(0, size**3, 100_000):
                deque(pool.map(nothing, range(start, min(size**3, start + 100_000)), chunksize=256), maxlen=0)


def graph_of(side: int) -> dict[tuple[int, ...], tuple]:
    """Return the work as a Dask graph."""
    return {task: (nothing, *needs) for task, needs in needs_of(side)}


def run_dask(side: int, folder: Path) -> None:
    """Run a plain graph, threaded."""
    import dask.threaded

    dask.threaded.get(graph_of(side), [root_of(side)], num_workers=WORKERS)


def run_distributed(side: int, folder: Path) -> None:
    """Run the same graph on two processes."""
    from distributed import Client, LocalCluster

    settings = {"n_workers": WORKERS, "threads_per_worker": 1, "dashboard_address": None, "memory_limit": 0}
    with LocalCluster(**settings, local_directory=str(folder)) as cluster, Client(cluster) as client:
        client.get(graph_of(side), [root_of(side)])


def run_daisy(side: int, folder: Path) -> None:
    """Run a daisy task a front."""
    import daisy.v2 as daisy

    daisy.set_done_marker_basedir(str(folder))
    whole = daisy.Roi((0, 0, 0), (side,) * 3)
    one, three = daisy.Roi((0, 0, 0), (1, 1, 1)), daisy.Roi((-1, -1, -1), (3, 3, 3))
    settings = {"process_function": one_block, "read_write_conflict": False, "max_workers": WORKERS}
    tasks = [daisy.Task("front0", whole, one, one, fit="valid", **settings)]
    tasks.append(daisy.Task("front1", whole.grow((1,) * 3, (1,) * 3), three, one, fit="valid", **settings))
    for front, _ in enumerate(levels(side), 2):
        node = daisy.Roi((0, 0, 0), (2 ** (front - 1),) * 3)
        tasks.append(daisy.Task(f"front{front}", whole, node, node, fit="overhang", **settings))
    done = daisy.run_blockwise(
        daisy.Pipeline(tasks, list(itertools.pairwise(tasks))), progress=False, summary=False, return_states=True
    )
    found = sum(state.completed_count for state in done.values())
    assert found == count(side), f"daisy ran {found} of {count(side)} blocks"


def run_luigi(side: int, folder: Path) -> None:
    """Run a luigi task a block; a file says that it is done."""
    import luigi

    sides = [side, side, *levels(side)]

    class Block(luigi.Task):
        front, z, y, x = (luigi.IntParameter() for _ in range(4))

        def requires(self) -> list[Any]:
            place = (self.z, self.y, self.x)
            if self.front == 0:
                return []
            below = around(place, side) if self.front == 1 else under(place, sides[self.front - 1])
            return [Block(self.front - 1, *each) for each in below]

        def output(self) -> Any:
            return luigi.LocalTarget(str(folder / str(self.front) / str(self.z) / f"{self.y}-{self.x}"))

        def run(self) -> None:
            self.output().open("w").close()

    assert luigi.build([Block(*root_of(side))], workers=WORKERS, local_scheduler=True, log_level="CRITICAL")


def run_redun(side: int, folder: Path) -> None:
    """Run a redun task a block; its database knows every call."""
    import logging

    from redun import Scheduler, task
    from redun.config import Config

    logging.disable(logging.WARNING)
    block = task(name="block", namespace="peers", version="1")(_redun_block)
    config = {"backend": {"db_uri": f"sqlite:///{folder}/redun.db"}, "executors.default": {"type": "local"}}
    config["executors.default"]["max_workers"] = str(WORKERS)
    scheduler = Scheduler(config=Config(config))
    scheduler.load()
    done: dict[tuple[int, ...], Any] = {}
    for each, needs in needs_of(side):
        done[each] = block(str(each), [done[need] for need in needs])
    scheduler.run(done[root_of(side)])


def _redun_block(name: str, needs: list) -> int:
    return 0


PEERS: dict[str, tuple[str, Callable[[int, Path], None]]] = {
    "pool": ("", run_pool),
    "pool-waves": ("", run_pool_waves),
    "dask": ("dask", run_dask),
    "distributed": ("distributed", run_distributed),
    "daisy": ("daisy", run_daisy),
    "luigi": ("luigi", run_luigi),
    "redun": ("redun", run_redun),
}


@dataclass(frozen=True)
class Rung:
    """One run of one peer. ``stopped`` says why it did not end, or is empty."""

    blocks: int
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    all_bytes: int = 0
    stopped: str = ""


def run_here(peer: str, side: int) -> None:
    """Run one peer in this process and print what it took."""
    package, function = PEERS[peer]
    if package and importlib.util.find_spec(package) is None:
        print(json.dumps({"stopped": "not installed"}))
        return
    if package:
        importlib.import_module(package)
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        started, cpu_started = time.perf_counter(), cpu_seconds()
        function(side, Path(name))
        seconds, cpu = time.perf_counter() - started, cpu_seconds() - cpu_started
        os.chdir("/")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "peak_bytes": peak}))


def cpu_seconds() -> float:
    """Return the processor time of this process and of its children that ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def session_bytes(session: int) -> int:
    """Return the resident memory of all processes of a session, in bytes."""
    total = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            total += int(words[21]) * resource.getpagesize() if int(words[3]) == session else 0
    return total


def climb_once(peer: str, blocks: int, python: str, limit_s: float, limit_bytes: int) -> Rung:
    """Run a peer in a process of its own, and end it at its limits."""
    side = side_for(blocks)
    command = [python, __file__, "--here", peer, "--side", str(side)]
    started, most, stopped = time.monotonic(), 0, ""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as log:
        child = subprocess.Popen(command, stdout=out, stderr=log, start_new_session=True)
        while child.poll() is None:
            time.sleep(0.2)
            most = max(most, session_bytes(child.pid))
            if time.monotonic() - started > limit_s:
                stopped = f"not done after {limit_s:.0f} s, {most / 1e9:.1f} GB"
            elif most > limit_bytes:
                stopped = f"more than {limit_bytes / 1e9:.0f} GB after {time.monotonic() - started:.0f} s"
            if stopped:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        out.seek(0)
        log.seek(0)
        text = [line for line in out.read().splitlines() if line.startswith("{")]
        if stopped or not text:
            tail = log.read().strip().splitlines()[-1:] or ["no message"]
            return Rung(count(side), all_bytes=most, stopped=stopped or f"fails: {tail[0][:200]}")
    return Rung(blocks=count(side), all_bytes=most, **json.loads(text[-1]))


def climb(peer: str, most: int, python: str, limit_s: float, limit_bytes: int) -> list[Rung]:
    """Climb the ladder until a rung is not reached, or would take far longer than the limit."""
    found: list[Rung] = []
    for blocks in [n for n in (1_000, 10_000, 100_000) if n < most] + [most]:
        rung = climb_once(peer, blocks, python, limit_s, limit_bytes)
        found.append(rung)
        ahead = rung.seconds / rung.blocks * min(most, 10 * blocks)
        if rung.stopped or blocks == most:
            break
        if rung.seconds > 5 and ahead > 1.5 * limit_s:
            found.append(Rung(min(most, 10 * blocks), stopped=f"not tried: about {ahead:,.0f} s at that rate"))
            break
    return found


def row_of(peer: str, rungs: list[Rung]) -> Row:
    """Return what to print of a peer: the largest rung it reached and the first one that it did not."""
    reached = [rung for rung in rungs if not rung.stopped]
    text = rungs[-1].stopped if not reached else ""
    if reached:
        best = reached[-1]
        text = (
            f"{best.seconds / best.blocks * 1e6:,.0f} us/block ({best.cpu_seconds / best.blocks * 1e6:,.0f} of "
            f"processors) at {best.blocks:,} blocks, peak {best.peak_bytes / 1e6:,.0f} MB "
            f"(all processes {best.all_bytes / 1e6:,.0f})"
        )
        if rungs[-1].stopped:
            text += f"; {rungs[-1].blocks:,} blocks: {rungs[-1].stopped}"
    return (peer, "", text)


def rows(
    blocks: int = 1_000_000,
    peers: tuple[str, ...] = tuple(PEERS),
    python: str = sys.executable,
    limit_s: float = 300.0,
    limit_bytes: int = 6_000_000_000,
) -> Iterator[Row]:
    """Yield a row a peer: its name, no target, what was measured."""
    for peer in peers:
        yield row_of(peer, climb(peer, blocks, python, limit_s, limit_bytes))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=1_000_000)
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--limit-s", type=float, default=300.0)
    parser.add_argument("--limit-gb", type=float, default=6.0)
    parser.add_argument("--here", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--side", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        run_here(options.here, options.side)
        return
    peers = tuple(options.peers.split(","))
    unknown = [peer for peer in peers if peer not in PEERS]
    if unknown:
        parser.error(f"no peer {unknown[0]!r}; expected some of {', '.join(PEERS)}")
    limits = (options.limit_s, int(options.limit_gb * 1e9))
    for peer, _, measured in rows(options.blocks, peers, options.python, *limits):
        print(f"{peer:12} {measured}", flush=True)


if __name__ == "__main__":
    main()
