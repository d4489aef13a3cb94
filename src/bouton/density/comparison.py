"""Densities and ratios of several data sets side by side, and how they differ.

Each is weighted by exposed volume, with an interval that allows for over-dispersion (:mod:`bouton.density.rates`). The
data sets are independent tissue; p of all differences are adjusted together (Benjamini & Hochberg 1995,
doi:10.1111/j.2517-6161.1995.tb02031.x).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from bouton.density.blocks import density_blocks, kept_rows
from bouton.density.correction import LabelledShare
from bouton.density.family import benjamini_hochberg
from bouton.density.rates import Ratio, contrast, count_ratio, rate, rate_contrast, scaled
from bouton.density.type_samples import TypeSamples
from bouton.density.typed_rates import typed_ratios
from bouton.errors import SpecError

DENSITY, CORRECTED = "density", "corrected density"
RATIOS = {"E/I": ("excitatory", "inhibitory"), "spine/shaft": ("spine", "shaft")}
TYPED = ("corrected density, excitatory", "corrected density, inhibitory", "corrected E/I")
MEASURES = (DENSITY, CORRECTED, *TYPED, *RATIOS)


@dataclass(frozen=True)
class Detector:
    """How well synapses were detected, measured on a labelled sample.

    Attributes
    ----------
    precision : LabelledShare
        Of detections that were looked at, those that are synapses.
    recall : LabelledShare
        Of true synapses, those that were detected.
    """

    precision: LabelledShare
    recall: LabelledShare

    def __post_init__(self) -> None:
        for name, share in (("precision", self.precision), ("recall", self.recall)):
            if not share.value:
                raise SpecError(f"{name} 0", expected="above 0 and at most 1", fix="label more synapses")

    @property
    def factor(self) -> float:
        """True synapses for a detected one."""
        return self.precision.value / self.recall.value

    @property
    def log_error(self) -> float:
        """Standard error of the factor's logarithm, both shares having Jeffreys' Beta distribution."""
        return math.sqrt(_log_variance(self.precision) + _log_variance(self.recall))


@dataclass(frozen=True)
class DataSet:
    """One data set: its name, its table with ``DENSITY_COLUMNS``, and how well its synapses and types were detected."""

    name: str
    table: Mapping[str, np.ndarray]
    detector: Detector | None = None
    types: TypeSamples | None = None


@dataclass(frozen=True)
class Measurement:
    """One number of one data set; ``synapses`` are those that it is about."""

    dataset: str
    measure: str
    ratio: Ratio
    synapses: int


@dataclass(frozen=True)
class Difference:
    """One data set over another one in one measure; q is p after Benjamini-Hochberg over all of them."""

    measure: str
    above: str
    below: str
    ratio: Ratio
    p: float
    q: float


@dataclass(frozen=True)
class Comparison:
    """All numbers of all data sets, and all their differences."""

    measurements: tuple[Measurement, ...]
    differences: tuple[Difference, ...]


def compare(datasets: Sequence[DataSet], max_masked_share: float = 0.75) -> Comparison:
    """Return every measure of every data set, and the ratio of every two.

    Parameters
    ----------
    datasets : sequence of DataSet
        With names of their own.
    max_masked_share : float
        Blocks with a larger share of masked voxels are left out.

    Raises
    ------
    SpecError
        There are fewer than two, or two of one name.
    DataError
        A table has a negative count.
    """
    names = [one.name for one in datasets]
    if len(set(names)) < max(2, len(names)):
        raise SpecError(f"data sets {', '.join(names) or 'none'}", expected="at least two, each of its own name")
    found = [m for one in datasets for m in measure(one, max_masked_share)]
    return Comparison(tuple(found), tuple(_differences(found, names)))


def measure(dataset: DataSet, max_masked_share: float) -> list[Measurement]:
    """Return the numbers of one data set."""
    blocks = density_blocks(dataset.table, max_masked_share)
    kept = kept_rows(dataset.table, max_masked_share)
    plain = rate(blocks.counts, blocks.exposure_um3, blocks.index)
    total = int(blocks.counts.sum())
    found = [Measurement(dataset.name, DENSITY, plain, total)]
    if dataset.detector is not None:
        better = scaled(plain, dataset.detector.factor, dataset.detector.log_error)
        found.append(Measurement(dataset.name, CORRECTED, better, total))
    if dataset.types is not None:
        called = np.stack([np.asarray(dataset.table[kind])[kept] for kind in RATIOS["E/I"]])
        typed = typed_ratios(called, total, blocks.exposure_um3, blocks.index, dataset.types)
        numbers = (*(int(row.sum()) for row in called), int(called.sum()))
        found += [Measurement(dataset.name, *row) for row in zip(TYPED, typed, numbers, strict=True)]
    for name, kinds in RATIOS.items():
        top, bottom = (np.asarray(dataset.table[kind])[kept] for kind in kinds)
        ratio, known = count_ratio(top, bottom, blocks.index), int(top.sum() + bottom.sum())
        if not known:
            ratio = Ratio(n=len(blocks), note=f"no synapse is known to be {kinds[0]} or {kinds[1]}")
        found.append(Measurement(dataset.name, name, ratio, known))
    return found


def _differences(found: Sequence[Measurement], names: Sequence[str]) -> list[Difference]:
    rows = []
    for name in MEASURES:
        by_name = {m.dataset: m for m in found if m.measure == name}
        for above, below in itertools.combinations([n for n in names if n in by_name], 2):
            a, b = by_name[above], by_name[below]
            if name in (DENSITY, CORRECTED):
                told = rate_contrast(a.ratio, b.ratio, (a.synapses, b.synapses))
            else:
                told = contrast(a.ratio, b.ratio)
            rows.append((name, above, below, *told))
    q = benjamini_hochberg(np.array([row[4] for row in rows], np.float64))
    return [Difference(*row, float(value)) for row, value in zip(rows, q, strict=True)]


def _log_variance(share: LabelledShare) -> float:
    return float(special.polygamma(1, share.hits + 0.5) - special.polygamma(1, share.sample + 1))
