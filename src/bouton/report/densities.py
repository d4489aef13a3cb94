"""Synapse density in space, as the report shows it: words, figures, findings, blocks that open in the viewer."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bouton.geometry import Box
from bouton.report.densities_curves import curve_figures
from bouton.report.densities_maps import density_map
from bouton.report.densities_tables import DensityTables, density_tables, rows_of, tissue_densities
from bouton.report.densities_words import (
    CORRECTED,
    Verdict,
    density_finding,
    interval,
    limits,
    number,
    p_text,
    percent,
    reading,
    verdict,
)
from bouton.report.links import box_url
from bouton.report.pictures import png_address
from bouton.volume.density_columns import PARTS
from bouton.volume.run_folder import Run

MOST_OUTLIERS = 20
CAPTIONS = {
    "map": "Synapses over exposed volume, summed along the third axis.",
    "axes": "Density along each axis; the dashed line is what uniform tissue gives. Grey: the volume behind it.",
    "depth": "Density along depth, with 95 % intervals.",
    "variogram": "How unlike blocks are, by their distance; within the grey band, uniform tissue is as unlike.",
    "ripley": "Synapses within a distance of a synapse, over those of points put down at random; above: clustered.",
    "histogram": "Blocks by density, and how many there would be if only chance spread them.",
}

TAGS = {
    "varies": "not uniform", "regular": "more even than chance", "uniform": "no evidence against uniform",
    "unknown": "not tested",
}  # fmt: skip


@dataclass(frozen=True)
class DensitySet:
    """One set of densities, ready for the page.

    Attributes
    ----------
    facts : mapping of label -> text
    verdict : Verdict
    tag : str
        The verdict in a word or two.
    pictures : list of (name, caption, ``data:`` address)
    findings, outliers, tissues : list of mapping
        Rows of texts.
    """

    title: str
    facts: Mapping[str, str]
    verdict: Verdict
    tag: str
    pictures: list[tuple[str, str, str]]
    findings: list[dict[str, str]]
    outliers: list[dict[str, str]]
    tissues: list[dict[str, str]]


def density_sets(run: Run) -> tuple[list[DensitySet], list[str]]:
    """Return what a run found about densities, and why some of it could not be read."""
    tables, problems = density_tables(run)
    return [density_set(run, each) for each in tables], problems


def density_set(run: Run, tables: DensityTables) -> DensitySet:
    """Return the texts and pictures of one set."""
    said = verdict(tables)
    pictures = [
        (name, CAPTIONS[name], png_address(figure_bytes(figure)))
        for name, figure in density_figures(run, tables).items()
    ]
    return DensitySet(
        title=tables.title,
        facts=_facts(tables),
        verdict=said,
        tag=TAGS[said.state],
        pictures=pictures,
        findings=[_finding_row(row) for row in rows_of(tables.findings)],
        outliers=outlier_rows(run.folder.name, tables),
        tissues=_tissue_rows(run, tables),
    )


def density_figures(run: Run, tables: DensityTables) -> dict[str, Figure]:
    """Return all figures of one set by name, the map first."""
    projections = density_map(tables.blocks, run.voxel_size_nm)
    return ({} if projections is None else {"map": projections}) | curve_figures(tables)


def figure_bytes(figure: Figure, kind: str = "png") -> bytes:
    """Return a figure as the content of a file, ``png`` or ``svg``."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()


def outlier_rows(run_name: str, tables: DensityTables, most: int = MOST_OUTLIERS) -> list[dict[str, str]]:
    """Return the first outlier blocks as texts, most surprising first, each with the address of its place."""
    first = {name: values[:most] for name, values in tables.outliers.items()}
    # Without a p, which needs two blocks and a synapse, no block is more surprising than another.
    return [_outlier_row(run_name, row) for row in rows_of(first) if math.isfinite(row["p"])]


def density_numbers(tables: DensityTables, voxel_size_nm: tuple[float, float, float]) -> dict[str, Any]:
    """Return all numbers of one set but those of the single blocks, for JSON: nan is null."""
    said = verdict(tables)
    columns = ("tissue", "exposed_um3", "synapses", "density_um3")
    rows = [dict(zip(columns, row, strict=True)) for row in tissue_densities(tables, voxel_size_nm)]
    named = {name: rows_of(getattr(tables, name)) for name in ("findings", "outliers")}
    curves: dict[str, list[dict[str, Any]]] = {}
    for row in rows_of(tables.curves):
        curves.setdefault(str(row.pop("curve")), []).append(row)
    density = density_finding(tables)
    shown = ("value", "low", "high", "n")
    found = {
        "density_um3": {name: density[name] for name in shown} if density else None,
        "densities": tables.step, "uniformity": tables.tested_by or None, "verdict": said.state,
        "sentences": said.sentences, "warnings": said.warnings, "totals": tables.totals, "tissues": rows,
    }  # fmt: skip
    return _plain(found | named | {"curves": curves})


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _facts(tables: DensityTables) -> dict[str, str]:
    totals = tables.totals
    row = density_finding(tables) if tables.all_tested else None
    facts = {f"synapses per µm³{interval(row) if row else ''}": number(totals["density_um3"])}
    corrected = tables.finding(CORRECTED)
    if corrected is not None and math.isfinite(corrected["value"]):
        facts[f"corrected for precision and recall{interval(corrected)}"] = number(corrected["value"])
    facts |= {
        "synapses counted": f"{totals['synapses']:,}",
        "µm³ exposed": number(totals["exposed_um3"]),
        "blocks": f"{totals['blocks']:,}",
        "of all voxels masked": f"{totals['masked_share']:.1%}" if math.isfinite(totals["masked_share"]) else "–",
    }
    if totals["left_out_share"] > 0:
        facts["of the volume outside of all blocks"] = percent(totals["left_out_share"])
    return facts | {part: f"{totals[part]:,}" for part in PARTS if totals.get(part)}


def _finding_row(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "test": str(row["test"]), "question": str(row["question"]), "effect": str(row["effect"]),
        "value": number(row["value"]), "interval": limits(row),
        "p": p_text(row["p"]), "q": p_text(row["q"]), "n": f"{row['n']:,}", "reading": reading(row),
        "note": str(row["note"]),
    }  # fmt: skip


def _outlier_row(run_name: str, row: Mapping[str, Any]) -> dict[str, str]:
    at_nm = [float(row[f"{axis}_nm"]) for axis in "zyx"]
    voxels = ", ".join(f"{row[f'{axis}_start']}:{row[f'{axis}_stop']}" for axis in "zyx")
    box = Box.parse(voxels)
    return {
        "block": ", ".join(str(row[f"block_{axis}"]) for axis in "zyx"), "voxels": voxels, "side": str(row["side"]),
        "synapses": f"{row['synapses']:,}", "expected": number(round(float(row["expected"]), 1)),
        "density": number(row["density_um3"]), "masked": f"{row['masked_share']:.0%}",
        "p": p_text(row["p"]), "q": p_text(row["q"]), "url": box_url(run_name, at_nm, box, with_lines=True),
    }  # fmt: skip


def _tissue_rows(run: Run, tables: DensityTables) -> list[dict[str, str]]:
    return [
        {"tissue": str(kind), "volume": number(volume), "synapses": f"{count:,}", "density": number(density)}
        for kind, volume, count, density in tissue_densities(tables, run.voxel_size_nm)
    ]
