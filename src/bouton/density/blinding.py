"""Which blocks people should look at, and in what order, so that nobody can tell why a block was chosen.

The lowest and the highest blocks are those whose counts are the most surprising for their exposed volume: signed
deviance residuals of the negative binomial law (McCullagh & Nelder 1989, Generalized Linear Models, chapters 2 and 11)
whose dispersion is that of all blocks. Controls are drawn from all other blocks. The order of tasks is random.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.density.blocks import DensityBlocks
from bouton.density.counts import NEARLY_POISSON, extra_variance
from bouton.errors import SpecError

LOW, HIGH, CONTROL = "low", "high", "control"
GROUPS = (LOW, HIGH, CONTROL)


@dataclass(frozen=True)
class Wanted:
    """How many blocks of each group."""

    low: int
    high: int
    control: int = 0

    def __post_init__(self) -> None:
        for name in GROUPS:
            if getattr(self, name) < 0:
                raise SpecError(f"{getattr(self, name)} blocks of the group {name}", expected="0 or more")
        if not self.total:
            raise SpecError("no blocks to look at", expected="--low, --high or --control above 0")

    @property
    def total(self) -> int:
        """All blocks."""
        return self.low + self.high + self.control


@dataclass(frozen=True)
class Sample:
    """Blocks in the order of tasks.

    Attributes
    ----------
    rows : int64 (n,)
        Rows of the table that was chosen from.
    groups : object (n,) of str
        ``low``, ``high`` or ``control``: what nobody may know who looks.
    """

    rows: np.ndarray
    groups: np.ndarray


def surprise(blocks: DensityBlocks) -> np.ndarray:
    """Return how far each count is from what its volume lets expect, in units of all blocks' spread.

    Returns
    -------
    float64 (n,)
        Signed deviance residuals: below 0 too few, above 0 too many.
    """
    n, mu = blocks.counts.astype(np.float64), blocks.expected
    if not n.sum():
        return np.zeros(len(n))
    alpha = extra_variance(n, mu, 1)
    own = np.where(n > 0, n * np.log(np.maximum(n, 1) / mu), 0.0)
    if alpha > NEARLY_POISSON:
        deviance = own - (n + 1 / alpha) * np.log((1 + alpha * n) / (1 + alpha * mu))
    else:
        deviance = own - (n - mu)
    return np.sign(n - mu) * np.sqrt(np.maximum(2 * deviance, 0.0))


def choose(score: np.ndarray, wanted: Wanted, seed: int) -> Sample:
    """Return the lowest, the highest and some other blocks in random order.

    Parameters
    ----------
    score : float64 (n,)
        Order of the blocks from too few to too many: :func:`surprise`, or any other.
    wanted : Wanted
    seed : int
        Chooses the controls and the order of the tasks.

    Raises
    ------
    SpecError
        There are fewer blocks than wanted.
    """
    if wanted.total > len(score):
        raise SpecError(
            f"{wanted.total} blocks wanted of {len(score)}", expected="at most as many as take part",
            fix="ask for fewer, or raise --max-masked-share",
        )  # fmt: skip
    random = np.random.default_rng(seed)
    # Equal scores in random order: else they would come in the order of the grid, all from one corner.
    mixed = random.permutation(len(score))
    order = mixed[np.argsort(np.asarray(score)[mixed], kind="stable")]
    low, high = order[: wanted.low], order[len(order) - wanted.high :]
    others = random.choice(order[wanted.low : len(order) - wanted.high], wanted.control, replace=False)
    rows = np.concatenate([low, high, others]).astype(np.int64)
    groups = np.repeat(np.array(GROUPS, dtype=object), [wanted.low, wanted.high, wanted.control])
    tasks = random.permutation(len(rows))
    return Sample(rows[tasks], groups[tasks])


def task_names(count: int) -> list[str]:
    """Return the names of tasks: ``001`` on, as wide as the last one needs."""
    width = max(3, len(str(count)))
    return [f"{number:0{width}d}" for number in range(1, count + 1)]
