"""What the dashboard takes for a step of a million blocks: on the server for its answers, in a browser for its map.

``python benchmarks/dashboard.py [BLOCKS_ALONG_AN_AXIS]``. The ledger is filled by the engine's own code with leases of
a hundred blocks in random order, one in a thousand of them missing. Times are CPU seconds of the server; of the browser
(software rendering, without it where Chromium is not installed) wall time of its script.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import chromium
import fake_run
from bouton.engine.events import RunStarted, TasksDone, to_json
from bouton.engine.leases import Batch
from bouton.engine.ledger import Ledger
from bouton.engine.tasks import TaskGrid
from bouton.geometry import Box
from bouton.server.app import make_app
from bouton.server.dashboard_data import DashboardData
from serving import serving

LEASE = 100
SCRIPT = """(async () => {
  const { StepMap } = await import('/dashboard/maps.js');
  const { Painter, readColours } = await import('/dashboard/painting.js');
  const found = {}, colours = readColours(), canvas = document.createElement('canvas');
  const timed = async (name, action, times = 1) => {
    const start = performance.now();
    let value;
    for (let i = 0; i < times; i++) value = await action(i);
    found[name] = (performance.now() - start) / times;
    return value;
  };
  const values = await (await fetch('/dashboard/maps/draw.json')).json();
  const map = await timed('map out of runs', () => new StepMap(values, [30, 10, 10]));
  const level = map.levels[0], painter = new Painter(canvas, () => [800, 500]);
  const draw = (options) => { level.version++; painter.draw(level, options, colours); };
  draw({ plane: null }); draw({ plane: 0 });
  await timed('picture of all planes', () => draw({ plane: null }), 20);
  await timed('picture of one plane', () => draw({ plane: 0 }), 20);
  const event = { event: 'TasksDone', part: 'draw', level: 0, tasks: 100, reused: 0 };
  await timed('event of a hundred blocks', (i) => map.take({ ...event, runs: [[i * 100, i * 100 + 100]] }), 1000);
  return found;
})()"""


def fill(root: Path, edge: int) -> None:
    """Write a run with one step of ``edge`` ** 3 blocks."""
    run = fake_run.FakeRun(root)
    step = run.step("draw", "phantom", state="pending", tasks=edge**3)
    run.save()
    box = Box((0, 0, 0), (edge * 64, edge * 128, edge * 128))
    leases = np.random.default_rng(0).permutation(edge**3 // LEASE)
    with (
        Ledger(root / step["folder"] / "ledger.sqlite") as ledger,
        open(root / "events.jsonl", "w") as events,
        ledger.transaction(),
    ):
        events.write(json.dumps(to_json(RunStarted(root.name, str(root), ("draw",), "processes", 2))) + "\n")
        grid = TaskGrid("draw", "block", 0, (0, 0, 0), (edge, edge, edge), box, (64, 128, 128))
        ledger.set_grids([grid])
        for lease in leases[: -max(1, len(leases) // 1000)]:
            first = int(lease) * LEASE
            batch = Batch(np.arange(first, first + LEASE), b"", LEASE, 1.0, 1.0, 1, 1, 1, 0)
            ledger.commit("draw", 0, batch)
            done = TasksDone("draw", "draw", LEASE, LEASE, runs=((first, first + LEASE),))
            events.write(json.dumps(to_json(done)) + "\n")


def tell(name: str, milliseconds: float, more: str = "") -> None:
    """Print one figure."""
    print(f"{name:42s}{milliseconds:10.3f} ms  {more}")


def timed(name: str, action: Callable[[], dict]) -> None:
    """Print the CPU time of an answer and its size."""
    start = time.process_time()
    found = action()
    tell(name, (time.process_time() - start) * 1e3, f"{len(json.dumps(found)) / 1e3:.1f} kB")


def main() -> None:
    """Measure and print."""
    edge = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "million"
        fill(root, edge)
        data = DashboardData(root)
        print(f"{edge**3:,} blocks, events of {(root / 'events.jsonl').stat().st_size / 1e6:.1f} MB")
        timed("server: state, first time", data._summary)
        timed("server: state, again", data._summary)
        timed("server: map", lambda: data.maps("draw"))
        if chromium.BROWSER is None:
            print(f"browser: not measured, {chromium.WHY_NOT}")
            return
        with serving(make_app(root)) as url, chromium.Page() as page:
            page.open(f"{url}/dashboard")
            page.wait_for("document.querySelectorAll('.step').length > 0")
            for name, value in page.evaluate(SCRIPT).items():
                tell(f"browser: {name}", value)


if __name__ == "__main__":
    main()
