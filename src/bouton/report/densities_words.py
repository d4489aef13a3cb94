"""What the numbers about densities say, in words: the overall density, whether it is uniform, and what that is not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bouton.report.densities_tables import DensityTables, rows_of

CORTEX_UM3 = (0.5, 2.0)
"""Synapses per um3 of cortex that need no second look: 0.9 to 1.3 were published (mouse doi:10.1016/j.cell.2015.06.054,
rat doi:10.1093/cercor/bht018, man doi:10.1073/pnas.0803652105). Fly neuropil holds several times as many."""
LEVEL = 0.05
PUBLISHED, CORRECTED, VARIATION, DISPERSION = "published", "corrected", "density variation", "dispersion"
DETECTOR, OUTLIERS = "detector", "outlier"
DRIFT = (
    "Whether it is the tissue that varies or the detector, these tests cannot tell: a detector that finds more in some "
    "sections than in others (staining, thickness, focus, alignment) gives the same sign. Look at the density along z "
    "and at the outlier blocks in the image before it is called biology."
)
_READINGS = (
    # beginning of the test's name, what its rejection is evidence for, what the lack of one means
    (DISPERSION, "counts of blocks vary {more_or_less} than counting alone makes them vary",
     "counts vary as counting alone makes them vary"),
    ("axis", "density changes along this axis", "no change along this axis that these blocks can show"),
    ("depth", "density changes with depth", "no change with depth that these blocks can show"),
    ("moran", "blocks side by side are {alike}", "blocks side by side are no more alike than others"),
    ("variogram", "blocks near each other are more alike than blocks far apart",
     "blocks near each other are no more alike than blocks far apart"),
    ("nearest", "synapses lie {nearer} than chance and their own size put them",
     "synapses lie as far apart as chance and their own size put them"),
    ("ripley", "synapses {cluster} at some distance", "synapses neither cluster nor keep apart"),
    (DETECTOR, "there is more variation than errors of the detector alone make",
     "errors of the detector are enough to explain the variation"),
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What a set of tests says: ``state`` is ``uniform``, ``varies`` or ``unknown``; sentences; warnings."""

    state: str
    sentences: list[str]
    warnings: list[str]


def verdict(tables: DensityTables) -> Verdict:
    """Return what the tables say in words."""
    warnings = _band_warning(tables)
    sentences = [_overall(tables), *_reasons(tables)]
    corrected = tables.finding(CORRECTED)
    if corrected is not None and math.isfinite(corrected["value"]):
        sentences.append(
            f"Corrected for precision and recall of the detector: {number(corrected['value'])}"
            f"{interval(corrected)} {_unit(corrected)}".rstrip()
            + "."
        )
    if not tables.findings:
        return Verdict("unknown", [*sentences, UNTESTED], warnings)
    state, tested = _tested(tables)
    return Verdict(state, [*sentences, *_part_of_blocks(tables), *tested], warnings)


UNTESTED = "No step tested whether density is the same everywhere: a step with stage uniformity does."


def reading(row: Mapping[str, Any]) -> str:
    """Return what one finding is evidence for, in words."""
    test, p = str(row["test"]), float(row["q"] if math.isfinite(row["q"]) else row["p"])
    if test.startswith(PUBLISHED):
        return "says nothing about place: uniform tissue is rejected, too"
    if not math.isfinite(row["value"]):
        return "" if str(row["note"]).startswith("not available") else "not available"
    if test.startswith((VARIATION, OUTLIERS)):
        return "how much density varies, not whether" if test.startswith(VARIATION) else "how many blocks stand out"
    if not math.isfinite(p):
        return ""
    for name, rejected, kept in _READINGS:
        if test.startswith(name):
            return f"Evidence: {rejected.format_map(_sides(float(row['value'])))}" if p < LEVEL else f"None: {kept}"
    return "Evidence against uniform density" if p < LEVEL else "None against uniform density"


def _sides(value: float) -> dict[str, str]:
    above = value >= 1
    return {
        "more_or_less": "more" if above else "less", "alike": "alike" if value >= 0 else "unlike",
        "nearer": "farther from each other" if above else "nearer to each other",
        "cluster": "cluster" if above else "keep apart",
    }  # fmt: skip


def number(value: float) -> str:
    """Return a number with three or four digits; what is not available is a dash."""
    if not math.isfinite(value):
        return "–" if math.isnan(value) else "∞" if value > 0 else "−∞"
    if value == int(value) and abs(value) < 1e15 and abs(value) >= 1000:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def interval(row: Mapping[str, Any]) -> str:
    """Return the interval of a finding as ``(95 %: a to b)`` with a space before; empty where there is none."""
    if not (math.isfinite(row["low"]) or math.isfinite(row["high"])):
        return ""
    return f" (95 %: {number(row['low'])} to {number(row['high'])})"


def p_text(p: float) -> str:
    """Return a p or q value; a dash where there is none."""
    if not math.isfinite(p):
        return "–"
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.01 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def _overall(tables: DensityTables) -> str:
    totals = tables.totals
    if not math.isfinite(totals["density_um3"]):
        return f"Nothing is exposed in any of {totals['blocks']:,} blocks: there is no density."
    return (
        f"{totals['synapses']:,} synapses in {number(totals['exposed_um3'])} µm³ exposed: "
        f"{number(totals['density_um3'])} per µm³."
    )


def _band_warning(tables: DensityTables) -> list[str]:
    density, (low, high) = tables.totals["density_um3"], CORTEX_UM3
    if not math.isfinite(density) or low <= density <= high:
        return []
    return [
        f"{number(density)} synapses per µm³ is outside of {low:g} to {high:g}, what cortex holds: check units and "
        "mask (positions and voxel size in nm; soma, vessels and blank sections masked), unless this is no cortex."
    ]


def _reasons(tables: DensityTables) -> list[str]:
    totals = tables.totals
    without = totals["blocks"] - totals["exposed_blocks"]
    if not without:
        return []
    why = sorted({str(reason) for reason in tables.blocks["reason"] if str(reason)})
    told = f" ({'; '.join(why[:3])})" if why else ""
    return [f"{without:,} of {totals['blocks']:,} blocks have no density{told}."]


def _tested(tables: DensityTables) -> tuple[str, list[str]]:
    asked = [row for row in rows_of(tables.findings) if _counts(row)]
    rejected = [row for row in asked if (row["q"] if math.isfinite(row["q"]) else row["p"]) < LEVEL]
    variation = tables.finding(VARIATION)
    if not asked:
        return "unknown", ["None of the tests is available: their notes say why."]
    if not rejected:
        least = (
            f"None of {len(asked)} tests speaks against uniform density (q ≥ {LEVEL:g} for all). This is no proof: "
            "smaller differences than the intervals below allow for cannot be seen in so many blocks."
        )
        return "uniform", [least, *_how_much(tables, variation, "at most")]
    names = ", ".join(str(row["test"]) for row in rejected)
    first = (
        f"Synapses are not spread uniformly: {len(rejected)} of {len(asked)} tests reject it (q < {LEVEL:g}): {names}."
    )
    return "varies", [first, *_how_much(tables, variation, "by"), _detector(tables), DRIFT]


def _counts(row: Mapping[str, Any]) -> bool:
    """Whether a finding asks about uniform density and has an answer."""
    other = str(row["test"]).startswith((PUBLISHED, CORRECTED, VARIATION, DETECTOR, OUTLIERS))
    return not other and math.isfinite(row["p"])


def _how_much(tables: DensityTables, row: Mapping[str, Any] | None, word: str) -> list[str]:
    tested = tables.tested
    volume = float(tables.blocks["exposed_um3"][tested].sum())
    mean = float(tables.blocks["synapses"][tested].sum()) / volume if volume else math.nan
    if row is None or not math.isfinite(row["value"]) or not mean > 0:
        return []
    value, low, high = (100 * float(row[name]) / mean for name in ("value", "low", "high"))
    between = f" (95 %: {low:.1f} to {high:.1f} %)" if math.isfinite(low) and math.isfinite(high) else ""
    size = f"{value:.1f} % of its mean from block to block{between}"
    if value == 0:
        most = f" (95 %: at most {high:.1f} % of its mean)" if math.isfinite(high) else ""
        return [f"Density varies no more from block to block than the Poisson noise of counting makes it vary{most}."]
    if word == "by":
        return [f"Beyond the Poisson noise of counting, density varies by {size}: one standard deviation."]
    return [f"Beyond the Poisson noise of counting, the standard deviation of density comes out at {size}."]


def _detector(tables: DensityTables) -> str:
    """Return whether errors of the detector are enough to make the variation; what is not known is said, too."""
    row = tables.finding(DETECTOR)
    if row is None or not math.isfinite(row["p"]):
        return "How much of it errors of the detector make is not known: no precision and recall were given."
    times = f"{number(row['value'])} times{interval(row)} what errors of the detector of the given size make"
    if row["p"] < LEVEL:
        return f"The variance of counts is {times}: they alone do not explain it (p {p_text(row['p'])})."
    return f"The variance of counts is {times}: they are enough to explain it (p {p_text(row['p'])})."


def _part_of_blocks(tables: DensityTables) -> list[str]:
    taken, exposed = int(tables.tested.sum()), tables.totals["exposed_blocks"]
    if taken == exposed:
        return []
    most = float(tables.params.get("max_masked_share", 1.0))
    return [f"Tests look at {taken:,} of {exposed:,} blocks, those of which at most {most:.0%} are masked."]


def _unit(row: Mapping[str, Any]) -> str:
    return "per µm³" if "um-3" in str(row["effect"]) or "um3" in str(row["effect"]) else ""
