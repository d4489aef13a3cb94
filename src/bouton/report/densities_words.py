"""What the numbers about densities say, in words: the overall density, whether it is uniform, and what that is not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bouton.report.densities_tables import DensityTables, rows_of
from bouton.volume.density_columns import PARTS

CORTEX_UM3 = (0.5, 2.0)
"""Synapses per um3 of cortex that need no second look: 0.9 to 1.3 were published (mouse doi:10.1016/j.cell.2015.06.054,
rat doi:10.1093/cercor/bht018, man doi:10.1073/pnas.0803652105). Fly neuropil holds several times as many."""
LEVEL = 0.05
PUBLISHED, CORRECTED, VARIATION, DISPERSION = "published", "corrected", "density variation", "dispersion"
DENSITY, DETECTOR, OUTLIERS = "density", "detector", "outlier"
MUCH = 0.1
"""A larger share of the volume outside of all blocks is warned of."""
DRIFT = (
    "Whether it is the tissue that varies or the detector, these tests cannot tell: a detector that finds more in some "
    "sections than in others (staining, thickness, focus, alignment) gives the same sign. Look at the density along z "
    "and at the outlier blocks in the image before it is called biology."
)
REGULAR = (
    "Synapses that take up room keep a distance; a detector that joins near ones into one, or keeps one of two, makes "
    "the same picture. Drift of the detector does not: it makes counts vary more, not less."
)
SHAPE = (
    "; but its 95 % interval includes 1: the test sees a change of any shape, the effect compares the positions at "
    "95 % and at 5 % of the way only"
)
_READINGS = (
    # beginning of the test's name, what a rejection is evidence of, what there is no evidence of without one
    (DISPERSION, "that counts of blocks vary {more_or_less} than counting alone makes them vary",
     "that counts of blocks vary more, or less, than counting alone makes them vary"),
    ("axis", "that density changes along this axis", "that density changes along this axis"),
    ("depth", "that density changes with depth", "that density changes with depth"),
    ("moran", "that blocks side by side are {alike}", "that blocks side by side are alike or unlike"),
    ("variogram", "that blocks {pattern}", "that blocks near each other are more alike than blocks far apart"),
    ("nearest", "that synapses lie {nearer} than chance and their own size put them",
     "that synapses lie nearer to or farther from each other than chance and their own size put them"),
    ("ripley", "that synapses {cluster} at some distance", "that synapses cluster or keep apart at any distance"),
    (DETECTOR, "of more variation than errors of the detector alone make",
     "of more variation than errors of the detector alone make"),
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What a set of tests says: ``state``, sentences, warnings.

    ``uniform``: no evidence against it; ``varies``: density is not the same everywhere; ``regular``: synapses are
    spread more evenly than chance would; ``unknown``: not tested.
    """

    state: str
    sentences: list[str]
    warnings: list[str]


def verdict(tables: DensityTables) -> Verdict:
    """Return what the tables say in words."""
    warnings = [*_band_warning(tables), *_left_out_warning(tables)]
    sentences = [_overall(tables), *_left_out(tables), *_kinds(tables), *_reasons(tables)]
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
    """Return what one finding is evidence of, in words."""
    test, p = str(row["test"]), _p(row)
    if test.startswith(PUBLISHED):
        return "Says nothing about place: uniform tissue is rejected, too"
    if not math.isfinite(p):
        if not math.isfinite(row["value"]):
            return "" if str(row["note"]).startswith("not available") else "not available"
        return _plain_reading(test)
    for name, rejected, missed in _READINGS:
        if test.startswith(name):
            if p >= LEVEL:
                return f"No evidence {missed}"
            return f"Evidence {rejected.format_map(_sides(float(row['value'])))}{_shape(row)}"
    return "Evidence against uniform density" if p < LEVEL else "No evidence against uniform density"


def _p(row: Mapping[str, Any]) -> float:
    """Return q of a finding, or p where it has no q."""
    return float(row["q"] if math.isfinite(row["q"]) else row["p"])


def _plain_reading(test: str) -> str:
    """Return what a finding without a p is."""
    known = {VARIATION: "How much density varies, not whether", OUTLIERS: "How many blocks stand out"}
    return next((words for name, words in known.items() if test.startswith(name)), "")


def _shape(row: Mapping[str, Any]) -> str:
    """Return why a change along an axis may be certain and its effect not."""
    along = str(row["test"]).startswith(("axis", "depth"))
    return SHAPE if along and row["low"] <= 1 <= row["high"] else ""


def _sides(value: float) -> dict[str, str]:
    above = value >= 1
    return {
        "more_or_less": "more" if above else "less", "alike": "alike" if value >= 0 else "unlike",
        "nearer": "farther from each other" if above else "nearer to each other",
        "cluster": "cluster" if above else "keep apart",
        "pattern": "near each other are more alike than blocks far apart" if value > 0
        else "at some distance are more alike, or less, than chance makes them",
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
    ends = limits(row)
    return f" (95 %: {ends})" if ends else ""


def limits(row: Mapping[str, Any]) -> str:
    """Return the ends of the interval of a finding, ``a to b``; empty where there is none."""
    if not (math.isfinite(row["low"]) or math.isfinite(row["high"])):
        return ""
    return f"{number(row['low'])} to {number(row['high'])}"


def p_text(p: float) -> str:
    """Return a p or q value; a dash where there is none."""
    if not math.isfinite(p):
        return "–"
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.01 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def _overall(tables: DensityTables) -> str:
    totals = tables.totals
    if not math.isfinite(totals["density_um3"]):
        return f"Nothing is exposed in any of {totals['blocks']:,} blocks: there is no density."
    told = (
        f"{totals['synapses']:,} synapses in {number(totals['exposed_um3'])} µm³ exposed: "
        f"{number(totals['density_um3'])} per µm³"
    )
    row = density_finding(tables)
    if row is None:
        return f"{told}."
    if tables.all_tested:
        return f"{told}{interval(row)}."
    return f"{told}; in the blocks that were tested {number(row['value'])}{interval(row)}."


def density_finding(tables: DensityTables) -> dict[str, Any] | None:
    """Return the density with its interval; None where it was not found."""
    rows = [row for row in rows_of(tables.findings) if row["test"] == DENSITY and math.isfinite(row["value"])]
    return rows[0] if rows else None


def _left_out(tables: DensityTables) -> list[str]:
    share = tables.totals["left_out_share"]
    if not 0 < share <= MUCH:
        return []
    return [f"{percent(share)} of the volume lies outside of all whole blocks: nothing is counted there."]


def _left_out_warning(tables: DensityTables) -> list[str]:
    share = tables.totals["left_out_share"]
    if not share > MUCH:
        return []
    return [
        f"{percent(share)} of the volume lies outside of all whole blocks, where nothing is counted: choose a block_um "
        "that divides its sides, or a smaller one; the rule neurodata-2016 needs a surround of pad_um in addition."
    ]


def _kinds(tables: DensityTables) -> list[str]:
    """Return shares of types and of targets among the synapses for which they are known."""
    found = []
    totals = tables.totals
    for what, place, pair in (("Type", "", PARTS[:2]), ("Target", "on a ", PARTS[2:])):
        counts = [int(totals.get(name, 0)) for name in pair]
        known, of = sum(counts), totals["synapses"]
        if known and of:
            each = [f"{percent(n / known)} {place}{name} ({n:,})" for n, name in zip(counts, pair, strict=True)]
            found.append(f"{what} known of {known:,} ({percent(known / of)}): {', '.join(each)}.")
    return found


def percent(share: float) -> str:
    """Return a share as percent: 33.3 %, 0.25 %, 100 %."""
    return f"{_digits(100 * share).removesuffix('.0')} %"


def _digits(value: float) -> str:
    """Return a number with one place after the point; a smaller one than 1 with two digits, so that it is not 0."""
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


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
    rejected = [row for row in asked if _p(row) < LEVEL]
    variation = tables.finding(VARIATION)
    if not asked:
        return "unknown", ["None of the tests is available: their notes say why."]
    if not rejected:
        least = (
            f"None of {_tests(asked)} speaks against uniform density (q ≥ {LEVEL:g} for all). This is no proof: "
            "smaller differences than the intervals below allow for cannot be seen in so many blocks."
        )
        return "uniform", [least, *_how_much(tables, variation, "at most")]
    even = [row for row in rejected if _is_even(row, rejected)]
    names = ", ".join(str(row["test"]) for row in rejected)
    tests = f"{len(rejected)} of {_tests(asked)}"
    if len(even) == len(rejected):
        first = (
            f"Synapses are spread more evenly than by chance: they keep a distance ({tests}, q < {LEVEL:g}: {names})."
        )
        return "regular", [first, *_evenness(even), REGULAR]
    first = f"Synapses are not spread uniformly: {tests} reject it (q < {LEVEL:g}): {names}."
    return "varies", [first, *_evenness(even), *_how_much(tables, variation, "by"), _detector(tables), DRIFT]


def _tests(rows: list[dict[str, Any]]) -> str:
    return f"{len(rows)} test{'' if len(rows) == 1 else 's'}"


def _is_even(row: Mapping[str, Any], rejected: list[dict[str, Any]]) -> bool:
    """Whether a rejection says that synapses keep a distance, not that density differs from place to place."""
    test, value = str(row["test"]), float(row["value"])
    if test.startswith("moran"):
        # Of synapses that keep a distance one block's surplus is its neighbour's loss; so it is of layers by turns.
        return value < 0 and any(str(each["test"]) == DISPERSION and each["value"] < 1 for each in rejected)
    return value < 1 if test.startswith((DISPERSION, "ripley")) else value > 1 and test.startswith("nearest")


def _evenness(rows: list[dict[str, Any]]) -> list[str]:
    """Return by how much counts vary less than chance makes them, if they do."""
    return [
        f"The variance of counts is {number(row['value'])} times{interval(row)} that of counts that chance alone "
        "makes: less, not more."
        for row in rows
        if str(row["test"]) == DISPERSION
    ]


def _counts(row: Mapping[str, Any]) -> bool:
    """Whether a finding asks about uniform density and has an answer."""
    other = str(row["test"]).startswith((PUBLISHED, CORRECTED, DENSITY, DETECTOR, OUTLIERS))
    return not other and math.isfinite(row["p"])


def _how_much(tables: DensityTables, row: Mapping[str, Any] | None, word: str) -> list[str]:
    tested = tables.tested
    volume = float(tables.blocks["exposed_um3"][tested].sum())
    mean = float(tables.blocks["synapses"][tested].sum()) / volume if volume else math.nan
    if row is None or not math.isfinite(row["value"]) or not mean > 0:
        return []
    value, low, high = (100 * float(row[name]) / mean for name in ("value", "low", "high"))
    between = f" (95 %: {_digits(low)} to {_digits(high)} %)" if math.isfinite(low) and math.isfinite(high) else ""
    size = f"{_digits(value)} % of its mean from block to block{between}"
    if value == 0:
        most = f" (95 %: at most {_digits(high)} % of its mean)" if math.isfinite(high) else ""
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
    if tables.all_tested:
        return []
    taken, exposed = int(tables.tested.sum()), tables.totals["exposed_blocks"]
    most = float(tables.params.get("max_masked_share", 1.0))
    return [f"Tests look at {taken:,} of {exposed:,} blocks, those of which at most {most:.0%} are masked."]


def _unit(row: Mapping[str, Any]) -> str:
    return "per µm³" if "um-3" in str(row["effect"]) or "um3" in str(row["effect"]) else ""
