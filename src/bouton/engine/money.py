"""What machines cost: hours, machines and prices; and what machines that are taken away repeat.

A worker on a spot machine that is taken away ``rate`` times an hour, at random (a Poisson process), loses what it did
of its lease (the range of blocks that it was given) and the time to start again. The expected time of a lease of
``lease`` hours is then ``(1 / rate + restart) * (exp(rate * lease) - 1)``: for short leases about
``lease + rate * lease * (lease / 2 + restart)``, that is, each loss costs half a lease and a start.
"""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass

from bouton.engine.estimate import Estimate
from bouton.errors import SpecError

OLD_DAYS = 180
MEMORY_SHARE = 0.9
"""Of a machine's memory, what workers may take."""


@dataclass(frozen=True)
class Machine:
    """A type of machine to rent. ``cores`` and ``memory_bytes`` are None where the source of the price is silent."""

    name: str
    gpus: int
    price_per_hour: float
    spot_price_per_hour: float | None
    currency: str
    date: datetime.date
    source: str
    cores: int | None = None
    memory_bytes: int | None = None

    def workers(self, worker_bytes: float) -> int:
        """Return how many workers that need ``worker_bytes`` each it holds: one a GPU, or else one a core.

        Raises
        ------
        SpecError
            Not even one has memory enough.
        """
        most = self.gpus or self.cores or 1
        if self.memory_bytes is None or not worker_bytes:
            return most
        fit = int(self.memory_bytes * MEMORY_SHARE / worker_bytes)
        if not fit:
            raise SpecError(
                f"machine {self.name} has {self.memory_bytes >> 20} MiB of memory",
                expected=f"at least {worker_bytes / MEMORY_SHARE / 2**20:.0f} MiB for one worker",
                fix="another --machine, or smaller blocks",
            )
        return min(most, fit)

    def warning(self, today: datetime.date) -> str:
        """Return what to say about the age of the price, or nothing."""
        days = (today - self.date).days
        return f"the price of {self.name} is {days} days old ({self.date})" if days > OLD_DAYS else ""


@dataclass(frozen=True)
class Offer:
    """Machines that a run would be made on.

    Attributes
    ----------
    preemptions_per_hour, restart_seconds : float
        Of a spot machine: how often it is taken away, and how long until its successor works.
    relative_speed : float
        Of a worker there, compared with one here.
    """

    machine: Machine
    workers: int
    spot: bool = False
    preemptions_per_hour: float = 0.0
    restart_seconds: float = 120.0
    relative_speed: float = 1.0

    @property
    def price_per_hour(self) -> float:
        """Price of one machine.

        Raises
        ------
        SpecError
            A spot price is asked for, and none is on record.
        """
        if not self.spot:
            return self.machine.price_per_hour
        if self.machine.spot_price_per_hour is None:
            raise SpecError(f"machine {self.machine.name} has no spot price", fix="plan without --spot, or add it")
        return self.machine.spot_price_per_hour

    def repeats(self, lease_seconds: float) -> float:
        """Return the expected time of a lease, relative to the time without losses."""
        if not self.spot:
            return 1.0
        lease, restart = lease_seconds / self.relative_speed / 3600, self.restart_seconds / 3600
        return repeat_factor(lease, self.preemptions_per_hour, restart)


@dataclass(frozen=True)
class Quote:
    """What a plan costs on an offer: all machines are paid from the first step's start to the last one's end."""

    machines: int
    workers_each: int
    hours: Estimate
    price_per_hour: float
    cost: Estimate
    repeats: float


def quote(offer: Offer, steps: list[tuple[Estimate, float]], worker_bytes: float) -> Quote:
    """Return the cost of steps on an offer.

    Parameters
    ----------
    steps : list of (Estimate, float)
        Seconds of each step with the offer's workers, each as fast as here; seconds of a lease in it.
    worker_bytes : float
        Peak memory of one worker.
    """
    each = offer.machine.workers(worker_bytes)
    machines = math.ceil(offer.workers / each)
    plain = sum(seconds.value for seconds, _ in steps)
    low = high = value = 0.0
    for seconds, lease in steps:
        found = seconds.times(offer.repeats(lease) / offer.relative_speed / 3600)
        value, low, high = value + found.value, low + found.low, high + found.high
    hours = Estimate(value, low, high)
    price = offer.price_per_hour
    cost = Estimate(*(rent(end, machines, price) for end in (value, low, high)))
    return Quote(machines, each, hours, price, cost, value * 3600 * offer.relative_speed / plain if plain else 1.0)


def rent(hours: float, machines: float, price_per_hour: float) -> float:
    """Return what so many machines cost for so many hours."""
    return hours * machines * price_per_hour


def hours_for(voxels: float, voxels_per_s: float, machines: float) -> float:
    """Return how long machines of this throughput each take for so many voxels."""
    return voxels / (voxels_per_s * machines) / 3600


def repeat_factor(lease_hours: float, preemptions_per_hour: float, restart_hours: float) -> float:
    """Return the expected time of a lease relative to the time that it takes undisturbed (see the module's formula)."""
    if lease_hours <= 0 or preemptions_per_hour <= 0:
        return 1.0
    rate = preemptions_per_hour
    return (1 / rate + restart_hours) * math.expm1(min(rate * lease_hours, 700.0)) / lease_hours
