"""``bouton densities``: how many synapses a volume of tissue holds, where, and whether they are spread evenly."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from bouton.cli import densities_compare, densities_sample, densities_score
from bouton.cli.choices import Json, RunName, RunsFolder, find_run
from bouton.cli.density_tables import not_finished
from bouton.errors import DataError, SpecError
from bouton.volume import write_bytes
from bouton.volume.files import disk_errors
from bouton.volume.run_folder import Run, open_run

if TYPE_CHECKING:
    from bouton.report.densities_tables import DensityTables

MOST_OUTLIERS = 10
SHOW = "show"
STUDY_VOXEL_NM = (45.0, 128.0, 128.0)


class _Densities(typer.core.TyperGroup):
    """A group whose first word may be a run instead of a verb; a run called as one of them is told by its path."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [SHOW, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Densities, no_args_is_help=True, rich_markup_mode="rich",
    help="How many synapses a volume of tissue holds, where, and whether they are spread evenly.\n\n"
    "[bold]bouton densities RUN[/bold] shows what a run found, as [bold]bouton densities show RUN[/bold] does. "
    "Write a run that is called as one of the verbs as a path: [bold]runs/sample[/bold].",
)  # fmt: skip

app.command("sample")(densities_sample.command)
app.command("score")(densities_score.command)
app.command("compare")(densities_compare.command)

Step = Annotated[str, typer.Option("--step", metavar="STEP", help="Of several, the step with these.")]


@app.command(SHOW)
def show(
    run: RunName,
    runs: RunsFolder = Path("runs"),
    step: Step = "",
    figures: Annotated[bool, typer.Option("--figures", help="Write the figures, each as PNG and as SVG.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where figures go; default: the report's folder."),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            "--csv",
            metavar="FILE",
            help="Write the blocks with the case study's 17 columns. Of the rule centroid, density is over "
            "exposed volume, mask_fraction the share of masked voxels alone.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show densities of synapses, what tests found, and the most surprising blocks, each with its place.

    [bold]Examples[/bold]

      bouton densities runs/demo

      bouton densities runs/demo --figures --out figures

      bouton densities runs/demo --csv blocks.csv

    --json prints totals, findings, curves and all outlier blocks. What the numbers of single blocks are, the table
    tells: bouton path RUN STEP says where it lies. The report of the run shows the same, with figures.
    """
    if out is not None and not figures:
        raise SpecError("--out without --figures", expected="what to write there", fix="add --figures")
    opened = open_run(find_run(run, runs))
    sets = _sets(opened, step)
    written: list[Path] = []
    if csv is not None:
        written.append(_write_csv(opened, sets, csv))
    if figures:
        written += _write_figures(opened, sets, out or opened.folder / "report" / "densities")
    if as_json:
        _print_json(opened, sets, written)
        return
    console = Console()
    for tables in sets:
        _show(console, opened, tables)
    for path in written:
        console.print(f"wrote {path}", soft_wrap=True, highlight=False, markup=False)


def _sets(run: Run, step: str) -> list[DensityTables]:
    from bouton.report.densities_tables import density_tables

    sets, problems = density_tables(run)
    if problems and not sets:
        # The problem is an error's whole sentence: what a run wrote is repaired in its own way.
        raise DataError(problems[0].partition("; way out: ")[0], fix=f"bouton verify {run.folder} --repair")
    for problem in problems:
        sys.stderr.write(f"bouton: {problem}\n")
    chosen = [tables for tables in sets if not step or step in (tables.step, tables.tested_by)]
    if not chosen:
        not_finished(run, step)
        known = sorted({name for tables in sets for name in (tables.step, tables.tested_by) if name})
        raise SpecError(
            f"no densities{f' of step {step!r}' if step else ''}", where=f"run {run.folder.name}",
            expected=f"one of the steps {', '.join(known)}" if known else "a finished step with stage densities",
            fix="bouton status RUN lists the steps" if known else "add one to the workflow and run it",
        )  # fmt: skip
    return chosen


def _write_csv(run: Run, sets: list[DensityTables], path: Path) -> Path:
    if len({tables.step for tables in sets}) > 1:
        names = ", ".join(sorted({tables.step for tables in sets}))
        raise SpecError("--csv of several steps", expected=f"one of {names}", fix="add --step STEP")
    from bouton.volume.density_csv import PublishedForm, write_published_csv

    # The case study's levels of resolution mean something only for its own voxels; others are level 0, as they are.
    own = PublishedForm(resolution=0, centre_resolution=0, centre_scale=(1.0, 1.0, 1.0))
    write_published_csv(sets[0].blocks, path, PublishedForm() if run.voxel_size_nm == STUDY_VOXEL_NM else own)
    return path


def _write_figures(run: Run, sets: list[DensityTables], folder: Path) -> list[Path]:
    from bouton.report.densities import density_figures, figure_bytes

    if folder.is_file():
        raise SpecError(f"{folder} is a file", expected="a folder for the figures", fix="--out with another name")
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    written = []
    for tables in sets:
        start = "" if len(sets) == 1 else f"{tables.tested_by or tables.step}-"
        for name, figure in density_figures(run, tables).items():
            for kind in ("png", "svg"):
                path = folder / f"{start}{name}.{kind}"
                write_bytes(path, figure_bytes(figure, kind))
                written.append(path)
    return written


def _print_json(run: Run, sets: list[DensityTables], written: list[Path]) -> None:
    from bouton.report.densities import density_numbers

    found = [density_numbers(tables, run.voxel_size_nm) for tables in sets]
    told = {"run": run.folder.name, "sets": found, "written": [str(path) for path in written]}
    sys.stdout.write(json.dumps(told, allow_nan=False) + "\n")


def _show(console: Console, run: Run, tables: DensityTables) -> None:
    from bouton.report.densities import outlier_rows
    from bouton.report.densities_tables import rows_of
    from bouton.report.densities_words import verdict

    said = verdict(tables)
    console.print(f"[bold]{escape(tables.title)}[/bold]")
    for text in said.warnings:
        console.print(f"[yellow]check[/yellow] {escape(text)}", highlight=False)
    for text in said.sentences:
        console.print(escape(text), highlight=False)
    findings = rows_of(tables.findings)
    if findings:
        _show_findings(console, findings)
    outliers = outlier_rows(run.folder.name, tables, MOST_OUTLIERS)
    if outliers:
        console.print(_outliers(outliers))
        console.print(f"Links need [bold]bouton view {escape(str(run.folder))}[/bold].", highlight=False)


def _show_findings(console: Console, rows: list[dict[str, Any]]) -> None:
    """Print two lines a finding: its numbers, and what they are and say."""
    from bouton.report.densities_words import limits, number, p_text, reading

    console.print()
    console.print(f"[bold]{'test':<31}{'effect':>9}  {'95 %':<20}{'p':>8} {'q':>8}[/bold]", highlight=False)
    for row in rows:
        numbers = f"{number(row['value']):>9}  {limits(row) or '–':<20}{p_text(row['p']):>8} {p_text(row['q']):>8}"
        console.print(escape(f"{row['test']:<31}{numbers}"), highlight=False, soft_wrap=True)
        said = reading(row)
        note = row["note"][:1].upper() + row["note"][1:]
        told = [said, row["note"]] if said and not math.isfinite(row["value"]) else [said or note]
        says = f"{row['effect']}. {'; '.join(told)}".removesuffix(". ")
        console.print(Padding(escape(says), (0, 0, 0, 2)), style="dim", highlight=False)
    console.print()


def _outliers(rows: list[dict[str, str]]) -> Table:
    table = Table("voxels z, y, x", "side", box=None, title="Most surprising blocks", title_justify="left")
    for name in ("synapses", "expected", "per µm³", "q"):
        table.add_column(name, justify="right")
    table.add_column("place")
    for row in rows:
        texts = [row[name] for name in ("voxels", "side", "synapses", "expected", "density", "q")]
        table.add_row(*texts, f"[link={row['url']}]view[/link]")
    return table
