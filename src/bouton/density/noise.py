"""How much would densities vary if tissue were uniform and only the detector erred?

A detector misses synapses (recall) and makes some up (1 - precision). Where its rates are the same everywhere, the
detections of uniform tissue are Poisson again: independent thinning and addition keep a Poisson process one, so the
detector adds no variation. It adds some where its rates differ, as they do between sections of different quality: here
each layer of blocks along z has its own recall and precision, drawn from beta distributions of the given means and
standard deviations. Total and exposures are those observed.

Kingman, "Poisson Processes" 1993, ISBN 9780198536932 (thinning and superposition).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bouton.density.blocks import DensityBlocks
from bouton.density.dispersion import missing
from bouton.density.finding import Finding
from bouton.density.resampling import upper_p
from bouton.errors import SpecError

TEST = "detector noise"
QUESTION = "Does density vary more than the detector alone would make it?"
EFFECT = "variance over mean, over the detector's"
LAYER_AXIS = 0


@dataclass(frozen=True)
class Detector:
    """How well synapses were detected.

    Attributes
    ----------
    recall, precision : float
        Share of true synapses that are detected, above 0; share of detections that are true, above 0. Up to 1.
    recall_sd, precision_sd : float
        Standard deviations of the two between layers of blocks (section quality).
    """

    recall: float = 1.0
    precision: float = 1.0
    recall_sd: float = 0.0
    precision_sd: float = 0.0

    def __post_init__(self) -> None:
        for name, mean, spread in (
            ("recall", self.recall, self.recall_sd), ("precision", self.precision, self.precision_sd),
        ):  # fmt: skip
            if not 0 < mean <= 1:
                raise SpecError(f"{name} of {mean:g}", expected="above 0, at most 1")
            if not (spread == 0 or (spread > 0 and spread**2 < mean * (1 - mean))):
                limit = np.sqrt(mean * (1 - mean))
                raise SpecError(f"{name}_sd of {spread:g}", expected=f"0 to below {limit:.3g} at a {name} of {mean:g}")


def detector_null(
    blocks: DensityBlocks, recall: float, precision: float, spread: tuple[float, float] = (0.0, 0.0),
    simulations: int = 999, seed: int = 1,
) -> Finding:  # fmt: skip
    """Compare the variance of counts over their mean with what a detector makes of uniform tissue.

    Parameters
    ----------
    blocks : DensityBlocks
        The blocks that take part.
    recall, precision : float
        Of the detector, above 0, up to 1.
    spread : (float, float), optional
        Standard deviations of recall and precision between layers of blocks.
    simulations : int, optional
        Detections of uniform tissue, at least 1.
    seed : int, optional
        Of the simulations.

    Returns
    -------
    Finding
        Variance over mean, observed over simulated, with the interval that 95 % of simulations give; one-sided p.

    Raises
    ------
    SpecError
        Recall, precision or a spread is out of range.
    """
    detector = Detector(recall, precision, *spread)
    note = missing(blocks)
    if note:
        return Finding(TEST, QUESTION, EFFECT, n=len(blocks), note=note)
    rng = np.random.default_rng(seed)
    simulated = np.array([variance_over_mean(blocks, detected(blocks, detector, rng)) for _ in range(simulations)])
    observed, alone = variance_over_mean(blocks, blocks.counts), float(simulated.mean())
    low, high = (observed / float(np.quantile(simulated, share)) for share in (0.975, 0.025))
    note = f"variance over mean {observed:.3g}, by the detector alone {alone:.3g}; {_rates(detector)}"
    return Finding(TEST, QUESTION, EFFECT, observed / alone, low, high, upper_p(observed, simulated), len(blocks), note)


def variance_over_mean(blocks: DensityBlocks, counts: np.ndarray) -> float:
    """Return the mean of (count - expected)^2 / expected of counts, int64 (n,), with the exposures of blocks."""
    expected = blocks.exposure_um3 * (counts.sum() / blocks.exposure_um3.sum())
    return float(((counts - expected) ** 2 / expected).sum() / (len(blocks) - 1))


def detected(blocks: DensityBlocks, detector: Detector, rng: np.random.Generator) -> np.ndarray:
    """Return counts of detections in uniform tissue, int64 (n,), as many in all as there are in ``blocks``."""
    layer = blocks.index[:, LAYER_AXIS] - blocks.index[:, LAYER_AXIS].min()
    layers = int(layer.max()) + 1
    recall = _beta(detector.recall, detector.recall_sd, layers, rng)
    false_share = 1 - _beta(detector.precision, detector.precision_sd, layers, rng)
    rate = detector.precision * recall / detector.recall + false_share
    share = blocks.exposure_um3 * rate[layer]
    return rng.multinomial(int(blocks.counts.sum()), share / share.sum())


def _beta(mean: float, spread: float, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return numbers between 0 and 1 of a mean and a standard deviation, float64 (size,)."""
    if spread == 0:
        return np.full(size, mean)
    weight = mean * (1 - mean) / spread**2 - 1
    return rng.beta(mean * weight, (1 - mean) * weight, size)


def _rates(detector: Detector) -> str:
    """Return the rates, for people."""
    spread = f" (sd {detector.recall_sd:g})", f" (sd {detector.precision_sd:g})"
    return f"recall {detector.recall:g}{spread[0]}, precision {detector.precision:g}{spread[1]} between layers along z"
