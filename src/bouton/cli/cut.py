"""``bouton cut``: a segmentation at any threshold, as a mapping from fragments to segments."""

from __future__ import annotations

import json
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from bouton.cli.choices import Json, RunName, RunsFolder, find_run
from bouton.errors import SpecError
from bouton.segment.history import DENDROGRAM_COLUMNS, check_threshold, cut, dendrogram, segment_sizes, without_dust
from bouton.segment.region_graph import move
from bouton.server.cuts import history_step, read_history
from bouton.volume import TableData, write_table
from bouton.volume.mapping import write_mapping
from bouton.volume.run_folder import Run, open_run

LARGEST = 5


@dataclass(frozen=True)
class _Cut:
    """One cut as it is told: counts, the largest segments with their voxels, where the mapping lies, wall time."""

    threshold: float
    fragments: int
    segments: int
    merges: int
    small_merges: int
    dust_segments: int
    largest: list[tuple[int, int]]
    path: str
    seconds: float


def command(
    run: RunName,
    threshold: Annotated[
        list[float] | None,
        typer.Option(help="Mean affinity from which on segments merge, 0 to 1; may be given several times."),
    ] = None,
    step: Annotated[str | None, typer.Option(help="The step with the merge history, where there are several.")] = None,
    dust_voxels: Annotated[int, typer.Option(min=0, help="Segments of fewer voxels become background, 0.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="The .parquet file to write, or a folder; default: cut-THRESHOLD.parquet here.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Write every fragment, also those that stay themselves.")] = False,
    dendrogram_: Annotated[
        Path | None, typer.Option("--dendrogram", help="Write the whole merge history, with sizes, to this file.")
    ] = None,
    runs: RunsFolder = Path("runs"),
    as_json: Json = False,
) -> None:
    """Cut the merge history of a run at a threshold: seconds, and no volume is written.

    Examples:

      bouton cut runs/demo --threshold 0.35

      bouton cut runs/demo --threshold 0.3 --threshold 0.4 --threshold 0.5 --out cuts/

      bouton cut runs/demo --threshold 0.35 --dust-voxels 500 --out clean.parquet

      bouton cut runs/demo --dendrogram merges.parquet

    The mapping is a Parquet table with columns id (a fragment) and root (its segment, named by its smallest fragment),
    uint64, sorted by id. Fragments that are not in it stay themselves. The file of --dendrogram holds one row a merge
    in the order of the merges: small segments first, then by falling score; with the voxels of both partners and of
    the result.
    """
    thresholds = list(dict.fromkeys(threshold or []))
    if not thresholds and dendrogram_ is None:
        raise SpecError("nothing to do", expected="--threshold or --dendrogram", fix="bouton cut RUN --threshold 0.5")
    places = _places(out, thresholds)
    opened = open_run(find_run(run, runs))
    found = history_step(opened, step)
    merges, sizes = read_history(opened, found)
    for at in places:
        check_threshold(merges, at)
    cuts = [_cut(merges, sizes, at, (dust_voxels, all_, path)) for at, path in places.items()]
    if dendrogram_ is not None:
        write_table(dendrogram_, dendrogram(merges, sizes), DENDROGRAM_COLUMNS)
    if as_json:
        rows = [vars(one) | {"largest": [{"id": i, "voxels": n} for i, n in one.largest]} for one in cuts]
        typer.echo(json.dumps({"step": found.name, "merges": len(merges["b"]), "cuts": rows}, indent=2))
        return
    here = shlex.quote(run) + ("" if runs == Path("runs") else f" --runs {shlex.quote(str(runs))}")
    floor = float(np.max(merges["floor"], initial=0.0))
    typer.echo(f"Step {found.name}: {len(sizes['id']):,} fragments, {len(merges['b']):,} merges down to {floor:g}")
    for one in cuts:
        typer.echo(_told(one, int(sizes["voxels"].sum())))
    if dendrogram_ is not None:
        typer.echo(f"Merge history with sizes: {dendrogram_}")
    if cuts:
        typer.echo(_next_steps(cuts[0], here, _volume_options(opened, here, found.reads["fragments"])))


def _places(out: Path | None, thresholds: list[float]) -> dict[float, Path]:
    """Return the file of each threshold."""
    if out is None or out.suffix != ".parquet":
        return {at: (out or Path()) / f"cut-{at}.parquet" for at in thresholds}
    if len(thresholds) > 1:
        raise SpecError(
            f"one file {out} for {len(thresholds)} thresholds", expected="a folder",
            fix=f"--out {out.with_suffix('')} writes cut-{thresholds[0]}.parquet and so on into it",
        )  # fmt: skip
    return dict.fromkeys(thresholds, out)


def _cut(merges: TableData, sizes: TableData, threshold: float, output: tuple[int, bool, Path]) -> _Cut:
    started = time.perf_counter()
    dust_voxels, every, path = output
    ids, roots = cut(merges, threshold)
    applied = len(ids)
    segments, voxels = segment_sizes(sizes, ids, roots)
    if dust_voxels > 1:
        ids, roots = without_dust(sizes, ids, roots, dust_voxels)
    if every:
        ids, roots = sizes["id"], move(sizes["id"], ids, roots)
    write_mapping(path, ids, roots)
    kept = voxels >= dust_voxels
    segments, voxels = segments[kept], voxels[kept]
    order = np.lexsort((segments, -voxels))[:LARGEST]
    return _Cut(
        threshold=threshold,
        fragments=len(sizes["id"]),
        segments=len(segments),
        merges=applied,
        small_merges=int(np.count_nonzero(merges["small"])),
        dust_segments=int(np.count_nonzero(~kept)),
        largest=list(zip(segments[order].tolist(), voxels[order].tolist(), strict=True)),
        path=str(path),
        seconds=time.perf_counter() - started,
    )


def _told(one: _Cut, voxels: int) -> str:
    dust = f", {one.dust_segments:,} more are dust" if one.dust_segments else ""
    largest = ", ".join(f"{i} ({n:,} voxels, {n / voxels:.1%})" for i, n in one.largest)
    return (
        f"Threshold {one.threshold}: {one.segments:,} segments{dust}; {one.merges:,} merges apply, "
        f"{one.small_merges:,} of them of small segments\n"
        f"  largest: {largest or 'none'}\n"
        f"  written: {one.path} ({one.seconds:.1f} s)"
    )


def _volume_options(opened: Run, run: str, fragments: str) -> str:
    if not fragments.startswith("data:"):
        return f"--segmentation $(bouton path {run} {fragments})"
    dataset = opened.sources[fragments.removeprefix("data:")].get("dataset")
    inside = f" --segmentation-dataset {shlex.quote(dataset)}" if dataset else ""
    return f"--segmentation {shlex.quote(str(opened.path(fragments)))}{inside}"


def _next_steps(one: _Cut, run: str, volume: str) -> str:
    path = shlex.quote(one.path)
    return (
        f"Look at it:     bouton view {run} --mapping {path}\n"
        f"Score it:       bouton evaluate {volume} --mapping {path} --truth TRUTH\n"
        f"Make a volume:  a step of stage segmentation with params: {{threshold: {one.threshold}}}"
    )
