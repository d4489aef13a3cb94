"""All tests of whether synapses are spread uniformly, as one family with one correction for their number."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from bouton.density.blocks import DensityBlocks
from bouton.density.correction import LabelledShare, corrected
from bouton.density.counts import extra_variance
from bouton.density.dispersion import density_variation, dispersion, missing
from bouton.density.family import benjamini_hochberg
from bouton.density.finding import NAN, Curve, Finding
from bouton.density.moran import morans_i
from bouton.density.noise import EFFECT, QUESTION, TEST, detector_null
from bouton.density.outliers import Outliers, outlier_finding, outliers
from bouton.density.point_pattern import PointOptions, nearest_neighbour, patterns, ripley
from bouton.density.profiles import axis_curves, depth_curve, histogram_curve
from bouton.density.published import published_chi_square
from bouton.density.rates import rate
from bouton.density.regression import axis_findings, depth_finding
from bouton.density.type_correction import type_findings
from bouton.density.type_samples import TypeCounts, TypeSamples
from bouton.density.variogram import variogram
from bouton.density.window import block_window
from bouton.errors import DataError

ALIKE = 0.05
"""With a p of Moran's I up to this, tests of axes are said to err."""
WARNING = (
    "Moran's I tells that near blocks are alike: then this test rejects too often, measured 13 to 93 % at the 5 % "
    "level in tissue without a trend; the wider the pattern, the oftener"
)
UNTESTED = frozenset({"published histogram chi-square"})
"""Findings whose p says nothing of uniformity: they get no q and make no other q smaller."""


@dataclass(frozen=True)
class DetectorSamples:
    """What labelled samples say of the detector.

    Attributes
    ----------
    precision, recall : LabelledShare
        Of detections that are synapses; of synapses that are detected.
    recall_sd, precision_sd : float
        Standard deviations of the two between layers of blocks along z.
    """

    precision: LabelledShare
    recall: LabelledShare
    recall_sd: float = 0.0
    precision_sd: float = 0.0


@dataclass(frozen=True)
class Options:
    """How an analysis is done.

    Attributes
    ----------
    permutations : int
        Draws of each null hypothesis that is drawn.
    seed : int
        Of all draws.
    depth_axis : str
        ``z``, ``y`` or ``x``: where depth grows; empty: no depth.
    detector : DetectorSamples, optional
        None: not measured.
    types : TypeSamples, optional
        What labelled samples say of excitatory and inhibitory synapses. None: not measured.
    level : float
        Largest q of a block that counts as an outlier.
    """

    permutations: int = 999
    seed: int = 1
    depth_axis: str = ""
    detector: DetectorSamples | None = None
    types: TypeSamples | None = None
    level: float = 0.05


@dataclass(frozen=True)
class Analysis:
    """Findings with their ``q``, float64 (findings,), curves, and blocks by surprise."""

    findings: list[Finding]
    q: np.ndarray
    curves: list[Curve]
    outliers: Outliers


@dataclass
class _Results:
    findings: list[Finding] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)


def analyse(
    blocks: DensityBlocks, points_um: np.ndarray | None, options: Options, counts: TypeCounts | None = None
) -> Analysis:
    """Run every test.

    Parameters
    ----------
    blocks : DensityBlocks
        Those that take part.
    points_um : float64 (n, 3), optional
        Places of synapses, z, y, x, in the frame of the blocks' centres; those in blocks that are wholly exposed are
        tested as points. None: not at hand.
    options : Options
    counts : TypeCounts, optional
        How many of the synapses of these blocks are of which type. None: not known of any.

    Returns
    -------
    Analysis
        A finding of every test, nan with a note where it cannot be made.
    """
    found = _Results()
    found.findings += [density(blocks), dispersion(blocks, options.permutations, options.seed)]
    found.findings.append(density_variation(blocks))
    _along_axes(blocks, options, found)
    _between_blocks(blocks, options, found)
    _of_points(blocks, points_um, options, found)
    found.findings += [_detector(blocks, options), corrected_density(blocks, options.detector)]
    found.findings += type_findings(blocks, counts or TypeCounts(0, 0, int(blocks.counts.sum())), options.types)
    ranked = outliers(blocks)
    found.findings += [outlier_finding(ranked, options.level), published_chi_square(blocks.density_um3)]
    p = np.array([NAN if each.test in UNTESTED else each.p for each in found.findings])
    return Analysis(found.findings, benjamini_hochberg(p), found.curves, ranked)


def _along_axes(blocks: DensityBlocks, options: Options, found: _Results) -> None:
    found.findings += axis_findings(blocks)
    found.curves += axis_curves(blocks)
    if options.depth_axis and len(blocks):
        depth, step = depth_um(blocks, options.depth_axis)
        found.findings.append(depth_finding(blocks, depth))
        found.curves.append(depth_curve(blocks, depth, step))
    found.curves.append(histogram_curve(blocks))
    alpha = 0.0 if missing(blocks) else extra_variance(blocks.counts, blocks.expected, 1)
    if alpha:
        found.curves.append(histogram_curve(blocks, alpha))


def depth_um(blocks: DensityBlocks, axis: str) -> tuple[np.ndarray, float]:
    """Return the depth of each block's centre below the first block's face, float64 (n,), and the size of a block."""
    number = "zyx".index(axis)
    size = blocks.size_um[number]
    centre = blocks.centre_um[:, number]
    return centre - centre.min() + size / 2, size


def _between_blocks(blocks: DensityBlocks, options: Options, found: _Results) -> None:
    moran = morans_i(blocks, options.permutations, options.seed)
    if moran.p <= ALIKE:
        found.findings = [_warned(each) for each in found.findings]
    found.findings.append(moran)
    finding, curve = variogram(blocks, options.permutations, options.seed)
    found.findings.append(finding)
    found.curves.append(curve)


def _warned(finding: Finding) -> Finding:
    """Return a finding of an axis or of depth with what it cannot do where near blocks are alike."""
    along = finding.test == "depth" or finding.test.startswith("axis")
    return replace(finding, note=f"{finding.note}; {WARNING}") if along and finding.p <= 1 else finding


def _of_points(blocks: DensityBlocks, points_um: np.ndarray | None, options: Options, found: _Results) -> None:
    if points_um is None:
        return
    try:
        window = block_window(blocks)
    except DataError as error:
        note = f"not available: {error.found}"
        found.findings += [
            Finding(test, "Do synapses cluster or keep apart?", "over random", n=len(points_um), note=note)
            for test in ("nearest neighbour", "ripley")
        ]
        return
    points = PointOptions(simulations=min(options.permutations, PointOptions.simulations), seed=options.seed)
    drawn = patterns(points_um, window, points)
    found.findings.append(nearest_neighbour(drawn))
    finding, curve = ripley(drawn)
    found.findings.append(finding)
    found.curves.append(curve)


def _detector(blocks: DensityBlocks, options: Options) -> Finding:
    known = options.detector
    if known is None:
        note = "not available: precision and recall of the detector are not given"
        return Finding(TEST, QUESTION, EFFECT, n=len(blocks), note=note)
    spread = (known.recall_sd, known.precision_sd)
    return detector_null(
        blocks, known.recall.value, known.precision.value, spread, options.permutations, options.seed
    )  # fmt: skip


def density(blocks: DensityBlocks) -> Finding:
    """Return synapses per um3 with an interval that allows for counts which vary, and are alike in near blocks."""
    question, effect = "How dense are detected synapses?", "density, um-3"
    if not len(blocks):
        return Finding("density", question, effect, note=missing(blocks))
    found = rate(blocks.counts, blocks.exposure_um3, blocks.index)
    note = found.note or "interval allows for variation between blocks and for alike neighbours"
    return Finding(
        "density", question, effect, found.value, found.low, found.high, n=len(blocks),
        note=f"{note}; errors of the detector are not in it",
    )  # fmt: skip


def corrected_density(blocks: DensityBlocks, detector: DetectorSamples | None) -> Finding:
    """Return the density that true synapses have, with the uncertainty of both labelled samples."""
    question, effect = "How dense are true synapses, given what the detector misses and invents?", "density, um-3"
    note = "not available: precision and recall of the detector are not given" if detector is None else missing(blocks)
    if note or detector is None:
        return Finding("corrected density", question, effect, n=len(blocks), note=note)
    volume = float(blocks.exposure_um3.sum())
    number = corrected(int(blocks.counts.sum()), detector.precision, detector.recall)
    note = (
        f"detected {blocks.rate:.4g} um-3, precision {detector.precision.value:.3g} of {detector.precision.sample}, "
        f"recall {detector.recall.value:.3g} of {detector.recall.sample}; takes both as the same everywhere"
    )
    value, low, high = (v / volume for v in (number.value, number.low, number.high))
    return Finding("corrected density", question, effect, value, low, high, n=len(blocks), note=note)
