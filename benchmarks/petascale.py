"""The price table of a petascale talk of 2019, from its inputs; and the same volume with the shipped network here.

    python benchmarks/petascale.py [--network 'model: affinity-fib25, runtime: openvino'] [--side 128 | --image PATH]
    python benchmarks/petascale.py --table-only
    python benchmarks/petascale.py --prices FILE --machine NAME

The table (M. Castro, Petascale Reconstruction of Neural Connectivity, 2019-11-15, "GPU Comparison & Selection") gives
price, throughput of an instance, number of instances, days and cost, but no volume. Days and costs of all three rows
imply one: 219.70 Tvoxel. From it each printed cell is computed again, with the arithmetic of `bouton plan`
(bouton.engine.money), and compared with its printed digits.

The second part measures `predict` on one core of this machine (a probe of `bouton plan`), hence core-hours for the same
volume. Money only where a price file has a machine: bouton comes with none of today.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bouton.cli.prices import find_machine, read_prices
from bouton.engine import make_plan
from bouton.engine.money import Machine, hours_for, rent
from bouton.engine.probe import ProbeJob, probe_boxes, run_probe
from bouton.geometry import Box
from bouton.spec import Choices, Workflow, load_workflow

VOXELS = 219.70e12
INSTANCES = 2000


@dataclass(frozen=True)
class Row:
    """One printed row: throughput in voxels/s of an instance, days with 2,000, cost with spot prices in dollars."""

    machine: str
    teraflops: float
    voxels_per_s: float
    days: float
    cost: float


ROWS = (
    Row("k80-2019", 4.35, 496.77e3, 2.56, 22_726.90),
    Row("p100-2019", 9.3, 705.08e3, 1.80, 41_546.29),
    Row("t4-2019", 8.1, 1_310.72e3, 0.97, 15_830.57),
)
LINE = "{:6}{:>8}{:>10}{:>7}{:>8}{:>7}{:>9}{:>12}{:>12}{:>10}{:>11}"
DIGIT = 0.005e3
"""Half of the last printed digit of a throughput, in voxels/s."""


@dataclass(frozen=True)
class Check:
    """One row computed again. ``cost_low``, ``cost_high``: with the throughput anywhere in its printed digits."""

    row: Row
    price: float
    hours: float
    days: float
    cost: float
    cost_low: float
    cost_high: float
    price_needed: float

    @property
    def days_hold(self) -> bool:
        """Whether the printed days are these, rounded."""
        return round(self.days, 2) == self.row.days

    @property
    def cost_holds(self) -> bool:
        """Whether the printed cost is possible with the printed price and a throughput that prints as printed."""
        return self.cost_low <= self.row.cost <= self.cost_high


def check(row: Row, machine: Machine, voxels: float = VOXELS) -> Check:
    """Compute the cells of a row from its inputs."""
    assert machine.spot_price_per_hour is not None
    price = machine.spot_price_per_hour
    hours = [hours_for(voxels, speed, INSTANCES) for speed in _speeds(row)]
    costs = [rent(each, INSTANCES, price) for each in hours]
    needed = row.cost / rent(hours[0], INSTANCES, 1.0)
    # The volume itself is known to five digits.
    margin = 0.005e12 / voxels
    low, high = costs[2] * (1 - margin), costs[1] * (1 + margin)
    return Check(row, price, hours[0], hours[0] / 24, costs[0], low, high, needed)


def _speeds(row: Row) -> tuple[float, float, float]:
    return row.voxels_per_s, row.voxels_per_s - DIGIT, row.voxels_per_s + DIGIT


def implied_voxels(row: Row, price: float) -> float:
    """Return the volume that a row's cost implies at a price."""
    return row.cost / price * row.voxels_per_s * 3600


def complaints(checks: list[Check], prices: dict[str, Machine]) -> Iterator[str]:
    """Yield what does not hold in the printed table, each computed here from its inputs."""
    for each in checks:
        name = each.row.machine.split("-")[0].upper()
        if not each.cost_holds:
            yield (
                f"{name}: at the printed spot price of ${each.price:g} the cost is ${each.cost:,.2f}, not "
                f"${each.row.cost:,.2f}; that needs ${each.price_needed:.3f}, which rounds to the printed one"
            )
        if not each.days_hold:
            yield f"{name}: {each.days:.3f} days, printed {each.row.days}"
    ratios = []
    for each in checks:
        machine = prices[each.row.machine]
        ratios.append(f"{machine.price_per_hour / each.price:.2f}")
    ratios[0] += (
        f" (or {prices['k80-2019'].price_per_hour / checks[0].price_needed:.2f} at the price that the cost needs)"
    )
    yield f'"preemptible instances are ~3x cheaper": the rows say {", ".join(ratios)} times'
    yield 'the row "cpu 2 cores" is empty'
    voxels = 1e6**3 / (4 * 4 * 40)
    yield (
        f'"1.56e15 voxels ... 1.4 PB" in 1 mm3 at 4 x 4 x 40 nm: {voxels:.4e} bytes are {voxels / 1e15:.4f} PB, '
        f"or {voxels / 2**50:.3f} PiB"
    )
    yield '"0.1 % of a mouse brain (~1 cm3)": 1 mm3 is 0.1 % of 1 cm3; of a brain of 509 mm3 it is 0.2 %'
    yield '"Pinky dataset (1 um3)": 1 um3 at 4 x 4 x 40 nm would hold 1.6 Mvoxel'
    yield "days and costs count inference alone: no reading and writing, no retries, no preemption"


def print_table() -> None:
    """Print the 2019 table and what does not hold in it."""
    prices = read_prices()
    checks = [check(row, prices[row.machine]) for row in ROWS]
    print(f"2019 table from its inputs: {VOXELS / 1e12:.2f} Tvoxel, {INSTANCES} instances, spot prices")
    print(
        LINE.format(
            "", "Tflop/s", "kvoxel/s", "$/h", "h", "days", "printed", "cost $", "printed $", "$/Tvoxel", "implied"
        )
    )
    for each in checks:
        row, price = each.row, each.price if each.cost_holds else round(each.price_needed, 3)
        cells = [f"{row.teraflops:.2f}", f"{row.voxels_per_s / 1e3:,.2f}", f"{each.price:.2f}", f"{each.hours:.3f}"]
        cells += [f"{each.days:.3f}", f"{row.days:.2f}", f"{each.cost:,.2f}", f"{row.cost:,.2f}"]
        cells += [f"{each.cost / VOXELS * 1e12:.2f}", f"{implied_voxels(row, price) / 1e12:.3f} T"]
        print(LINE.format(row.machine.removesuffix("-2019"), *cells))
    print("what does not hold in it:")
    for line in complaints(checks, prices):
        print(f"  - {line}")


def predict_flow(image: Path | None, network: str, side: int, folder: Path) -> Path:
    """Write a workflow with a ``network`` step over an image, or over a phantom of this side."""
    grid = f"grid: {{shape_zyx: [{side}, {side}, {side}], voxel_size_nm: [10, 10, 10]}}\n" if image is None else ""
    data = f"data: {{image: {{path: {image}}}}}\n" if image is not None else ""
    tissue = "  tissue: {stage: phantom, params: {seed: 7}}\n" if image is None else ""
    source = "tissue.image" if image is None else "image"
    block = max(32, side // 2)
    path = folder / "petascale.yaml"
    path.write_text(
        f"{grid}{data}block_zyx: [{block}, {block}, {block}]\nsteps:\n{tissue}"
        f"  network: {{stage: predict, reads: {{image: {source}}}, params: {{{network}}}}}\n"
    )
    return path


def print_today(options: argparse.Namespace) -> None:
    """Measure one core and print what the same volume takes."""
    with tempfile.TemporaryDirectory() as name:
        runs = Path(name)
        path = predict_flow(options.image, options.network, options.side, runs)
        flow = load_workflow(path)

        def restricted(box: Box) -> Workflow:
            return load_workflow(path, Choices(bounds=box))

        job = ProbeJob(flow, restricted, runs, 1)
        plan = make_plan(flow, runs, 1, run_probe(job, probe_boxes(flow, 1)))
    step = next(step for step in plan.steps if step.step == "network")
    assert step.forecast is not None
    wall, cpu = (step.voxels / found.value for found in (step.forecast.worker_seconds, step.forecast.cpu_seconds))
    hours, days = hours_for(VOXELS, cpu, 1), hours_for(VOXELS, cpu, INSTANCES) / 24
    print(f"\n{options.network} here, one worker, {step.forecast.blocks} blocks, reading and writing included:")
    print(
        f"  {cpu / 1e3:,.1f} kvoxel a processor second, {wall / 1e3:,.1f} a second by the clock (others may have run)"
    )
    print(f"  {VOXELS / 1e12:.2f} Tvoxel: {hours:,.0f} core-hours, or {days:.2f} days of {INSTANCES} such cores")
    if options.machine is None:
        print("money: no price of today is on record; --prices FILE --machine NAME gives one")
        return
    machine = find_machine(options.machine, read_prices(options.prices))
    cores = machine.cores or 1
    cost = rent(hours / cores, 1, machine.price_per_hour)
    unit = f"{machine.price_per_hour:g} an hour for {cores} cores"
    print(f"money: {machine.currency} {cost:,.0f} on {machine.name} ({unit}, "
          f"{machine.date}, {machine.source}), if a core there is as fast as here")  # fmt: skip


def main() -> None:
    """Print both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--network", default="model: affinity-fib25", help="parameters of predict")
    parser.add_argument("--machine")
    parser.add_argument("--prices", type=Path)
    parser.add_argument("--table-only", action="store_true")
    options = parser.parse_args()
    print_table()
    if not options.table_only:
        print_today(options)


if __name__ == "__main__":
    main()
