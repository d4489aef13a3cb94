"""``bouton densities compare``: densities and ratios of several data sets, and how they differ."""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bouton.cli.choices import Json, RunsFolder
from bouton.cli.density_tables import Densities, finite, open_densities
from bouton.density.blocks import block_size_um
from bouton.errors import SpecError
from bouton.strict_yaml import Document, read_document, unknown
from bouton.volume import write_bytes
from bouton.volume.density_columns import BLOCK_COLUMNS

if TYPE_CHECKING:
    from bouton.density.comparison import Comparison, Detector, Difference, Measurement
    from bouton.density.type_samples import TypeSamples

SAME_SIZE = 0.05
"""Relative difference that rounding to voxels may make in the size of blocks."""
SHARES = ("precision", "precision_sample", "recall", "recall_sample")
UNUSED = {"centroid": {"pad_um"}, "neurodata-2016": {"exclusion_nm"}}
"""Parameters that a rule does not look at."""


def command(
    data: list[str] = typer.Argument(..., metavar="RUN...", help="Runs, groups of datasets, or tables (.parquet)."),
    corrected: Path = typer.Option(None, help="YAML: precision, recall and types of each data set, by name."),
    max_masked_share: float = typer.Option(0.75, min=0, max=1, help="Leave out blocks of which more is masked."),
    step: str = typer.Option(None, help="Step with the densities, where a run has several."),
    out: Path = typer.Option(None, help="Write the comparison as a page (.html) or picture (.png)."),
    as_json: Json = False,
    runs: RunsFolder = Path("runs"),
) -> None:
    """Compare densities, E/I and spine/shaft ratios of data sets that were sampled in the same way.

    Examples:

      bouton densities compare runs/mouse runs/human

      bouton densities compare runs/species --corrected detectors.yaml --out species.html
    """
    from bouton.density.comparison import DataSet, compare

    if out is not None and out.suffix not in (".html", ".png"):
        raise SpecError(f"--out {out}", expected="a file .html or .png")
    tables = _named([found for name in data for found in open_densities(name, runs, step)])
    check_same_sampling(tables)
    for text in equal_contents(tables):
        sys.stderr.write(f"bouton: {text}\n")
    detectors = read_detectors(corrected, [one.name for one in tables]) if corrected else {}
    datasets = [DataSet(one.name, one.table, *detectors.get(one.name, (None, None))) for one in tables]
    found = compare(datasets, max_masked_share)
    if out is not None:
        _write(out, found)
    if as_json:
        sys.stdout.write(json.dumps(comparison_rows(found), indent=1, allow_nan=False) + "\n")
        return
    console = Console()
    console.print(_measurements(found.measurements))
    console.print(_differences(found.differences))
    for line in _notes(found):
        console.print(f"[dim]{escape(line)}[/dim]", soft_wrap=True, highlight=False)
    if out is not None:
        console.print(f"wrote {out}", soft_wrap=True, highlight=False)


def check_same_sampling(tables: Sequence[Densities]) -> None:
    """Refuse data sets whose blocks or rules differ.

    Raises
    ------
    SpecError
        It says what differs, and between which.
    """
    for one in tables[1:]:
        first = tables[0]
        unused = UNUSED.get(str(first.params.get("rule")), set())
        # The rule first: what else differs follows from it.
        for name in sorted((set(first.params) & set(one.params)) - unused, key=lambda key: (key != "rule", key)):
            a, b = (_plain(each.params[name]) for each in (first, one))
            if a != b:
                raise SpecError(
                    f"{name} is {a} in {first.name} and {b} in {one.name}", expected="the same sampling of all",
                    fix=f"bouton run --set steps.STEP.params.{name}=... one of them again",
                )  # fmt: skip
        sizes = [block_size_um(each.table) for each in (first, one)]
        if not np.allclose(*sizes, rtol=SAME_SIZE):
            a, b = (" x ".join(f"{value:.3g}" for value in size) for size in sizes)
            raise SpecError(
                f"blocks of {a} um in {first.name} and {b} um in {one.name} (z, y, x)", expected="the same size",
                fix="run one of them again with the block_um of the other",
            )  # fmt: skip


def read_detectors(path: Path, names: Sequence[str]) -> dict[str, tuple[Detector | None, TypeSamples | None]]:
    """Read precision and recall of detectors, and how they tell types, by name of the data set.

    Raises
    ------
    SpecError
        A data set or key is unknown or missing, or a value is none; the message tells file and line.
    """
    document = read_document(path)
    found = {}
    for name, values in document.tree.items():
        where = document.at(name)
        if name not in names:
            raise unknown(f"no data set {name!r}", str(name), names, where)
        given = set(values) if isinstance(values, dict) else set()
        shares = given - {"types"}
        if not given or shares not in (set(), set(SHARES)):
            expected = f"numbers of {', '.join(SHARES)}, and types if they are known"
            raise SpecError(f"{name}: {values!r}", where=where, expected=expected)
        detector = _detector(document, name) if shares else None
        found[str(name)] = (detector, _types(document, name) if "types" in given else None)
    return found


def _detector(document: Document, name: str) -> Detector:
    from bouton.density.comparison import Detector
    from bouton.density.correction import labelled_share

    values = document.tree[name]
    for key in SHARES:
        value, kind = values[key], int if key.endswith("_sample") else (int, float)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise SpecError(f"{key} {value!r}", where=document.at(name, key), expected="a number")
    try:
        shares = [labelled_share(key, float(values[key]), values[f"{key}_sample"]) for key in ("precision", "recall")]
    except SpecError as error:
        raise SpecError(error.found, where=document.at(name), expected=error.expected, fix=error.fix) from None
    return Detector(*shares)


def _types(document: Document, name: str) -> TypeSamples:
    from bouton.density.type_samples import TYPES, TypeSample, TypeSamples

    values, samples = document.tree[name]["types"], []
    if not isinstance(values, dict) or set(values) != set(TYPES):
        raise SpecError(f"types: {values!r}", where=document.at(name, "types"), expected=" and ".join(TYPES))
    known = [field.name for field in fields(TypeSample)]
    needed = {field.name for field in fields(TypeSample) if field.default is MISSING}
    for kind in TYPES:
        row, where = values[kind], document.at(name, "types", kind)
        if not isinstance(row, dict) or not needed <= set(row):
            raise SpecError(f"{kind}: {row!r}", where=where, expected=f"numbers of {', '.join(known)}")
        for key, value in row.items():
            if key not in known:
                raise unknown(f"no {key!r} of a type", str(key), known, where)
            if not isinstance(value, int) or isinstance(value, bool):
                raise SpecError(f"{kind}: {key} {value!r}", where=where, expected="a whole number")
        samples.append(TypeSample(**row))
    try:
        return TypeSamples(*samples)
    except SpecError as error:
        where = document.at(name, "types")
        raise SpecError(error.found, where=where, expected=error.expected, fix=error.fix) from None


def comparison_rows(found: Comparison) -> dict[str, list[dict[str, Any]]]:
    """Return a comparison as rows that JSON can hold: null for what is not available."""
    return {
        "measurements": [
            {"dataset": m.dataset, "measure": m.measure, **_ratio(m.ratio), "synapses": m.synapses}
            for m in found.measurements
        ],
        "differences": [
            {"measure": d.measure, "above": d.above, "below": d.below, **_ratio(d.ratio),
             "p": finite(d.p), "q": finite(d.q)}
            for d in found.differences
        ],
    }  # fmt: skip


def _ratio(ratio: Any) -> dict[str, Any]:
    numbers = {name: finite(getattr(ratio, name)) for name in ("value", "low", "high")}
    return numbers | {"blocks": ratio.n, "note": ratio.note}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _named(tables: Sequence[Densities]) -> list[Densities]:
    names = [one.name for one in tables]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise SpecError(
            f"two data sets are called {doubled[0]!r}", expected="names of their own", fix="rename a run folder or file"
        )
    for a, b in itertools.combinations(tables, 2):
        if _place(a) == _place(b):
            raise SpecError(
                f"{a.name} and {b.name} are one table, {a.where}", expected="data sets of their own",
                fix="name each one once",
            )  # fmt: skip
    return list(tables)


def _place(one: Densities) -> tuple[str, str]:
    return str((one.run.folder if one.run else Path(one.where)).resolve()), one.step


def equal_contents(tables: Sequence[Densities]) -> list[str]:
    """Return a sentence for every two data sets whose tables hold the same: probably one that was named twice."""
    return [
        f"{a.name} and {b.name} hold the same numbers in every block: if they are one data set, leave one out"
        for a, b in itertools.combinations(tables, 2)
        if all(np.array_equal(a.table[name], b.table[name]) for name in (*BLOCK_COLUMNS, "exposed_um3", "synapses"))
    ]


def _write(out: Path, found: Comparison) -> None:
    from bouton.report.density_comparison import comparison_page, comparison_png

    rows = comparison_rows(found)
    write_bytes(out, comparison_png(rows) if out.suffix == ".png" else comparison_page(rows).encode())


def _measurements(found: Sequence[Measurement]) -> Table:
    table = Table(title="Data sets")
    for name in ("data set", "measure", "value", "95 % interval", "blocks", "synapses"):
        table.add_column(name, justify="right" if name in ("value", "blocks", "synapses") else "left")
    for m in found:
        shown = _shown(m.ratio)
        table.add_row(escape(m.dataset), m.measure, *shown, f"{m.ratio.n:,}", f"{m.synapses:,}")
    return table


def _differences(found: Sequence[Difference]) -> Table:
    table = Table(title="Differences")
    for name in ("measure", "ratio of", "value", "95 % interval", "p", "q"):
        table.add_column(name, justify="right" if name in ("value", "p", "q") else "left")
    for d in found:
        table.add_row(d.measure, escape(f"{d.above} / {d.below}"), *_shown(d.ratio), _text(d.p), _text(d.q))
    return table


def _shown(ratio: Any) -> tuple[str, str]:
    interval = f"{ratio.low:.4g} - {ratio.high:.4g}" if math.isfinite(ratio.low) else "-"
    return _text(ratio.value), interval


def _text(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "-"


def _notes(found: Comparison) -> list[str]:
    notes: dict[str, list[str]] = {}
    for m in found.measurements:
        if m.ratio.note:
            notes.setdefault(m.ratio.note, []).append(f"{m.dataset} {m.measure}")
    of_one = set(notes)
    for d in found.differences:
        if d.ratio.note and d.ratio.note not in of_one:
            notes.setdefault(d.ratio.note, []).append(f"{d.above} / {d.below} {d.measure}")
    return [f"{', '.join(who)}: {note}" for note, who in notes.items()]
