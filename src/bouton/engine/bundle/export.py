"""A run folder -> its provenance bundle."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from bouton.engine.bundle.archive import FileFact, fact_of, write_archive
from bouton.engine.bundle.crate import About, crate_bytes
from bouton.engine.bundle.gather import gather_source, gather_step, repeatable_workflow, written_by_hand
from bouton.engine.bundle.history import events_summary, plan_and_truth
from bouton.engine.bundle.listing import write_listing
from bouton.engine.bundle.manifest import (
    CRATE,
    FORMAT,
    NAME,
    README,
    WORKFLOW,
    Entry,
    Manifest,
    StepRecord,
    manifest_bytes,
)
from bouton.engine.environment import environment, read_environments
from bouton.engine.ledger import LEDGER
from bouton.engine.plan_file import NAME as PLAN
from bouton.errors import SpecError
from bouton.volume import write_csv
from bouton.volume.run_folder import Run, open_run

Entries = dict[str, bytes | Path]


@dataclass(frozen=True)
class BundleOptions:
    """What goes into a bundle beside what always does.

    Attributes
    ----------
    models : bool
        The folders of the models, not their cards alone.
    whole_sources : bool
        Read every source whole for its checksum, however large.
    about : About
    """

    models: bool = False
    whole_sources: bool = False
    about: About = field(default_factory=About)


@dataclass(frozen=True)
class Exported:
    """A bundle that was written. ``warnings`` are one line each."""

    path: Path
    bytes: int
    manifest: Manifest
    warnings: tuple[str, ...]


def export_run(run_folder: Path, out: Path, options: BundleOptions | None = None) -> Exported:
    """Write the provenance bundle of a run; the same run gives the same bytes.

    Raises
    ------
    SpecError
        ``out`` exists, or nothing of the run was computed.
    DataError
        A stage's file or a model is not what the run used, or a ledger is damaged.
    """
    run, options = open_run(run_folder), options or BundleOptions()
    if not any(step.done for step in run.steps.values()):
        raise SpecError(f"run {run.name} has no result yet", where=str(run.folder), fix="bouton run its workflow first")
    with tempfile.TemporaryDirectory(prefix="bouton-export-") as temporary:
        entries, records = _steps(run, Path(temporary), options.models)
        sources = {name: gather_source(run, name, options.whole_sources) for name in run.sources}
        entries[WORKFLOW] = repeatable_workflow(run, records, sources)
        entries |= _papers(run, Path(temporary))
        entries[README] = _readme(run, records).encode()
        facts = {name: fact_of(content) for name, content in sorted(entries.items())}
        manifest = _manifest(run, records, facts).model_copy(update={"sources": sources})
        entries[NAME] = manifest_bytes(manifest)
        facts[NAME] = fact_of(entries[NAME])
        entries[CRATE] = crate_bytes(manifest, facts, options.about)
        write_archive(out, entries)
    return Exported(out, out.stat().st_size, manifest, _warnings(manifest))


def _steps(run: Run, temporary: Path, with_models: bool) -> tuple[Entries, list[StepRecord]]:
    entries: Entries = {}
    records = []
    for step in run.steps.values():
        gathered = gather_step(run, step, with_models)
        entries |= gathered.files
        record, ledger = gathered.record, run.folder / step.folder / LEDGER
        if ledger.is_file():
            name, target = f"outputs/{step.name}.jsonl", temporary / f"{step.name}.jsonl"
            count = write_listing(ledger, target)
            record = record.model_copy(update={"listing": name, "files_count": count})
            entries[name] = target
        records.append(record)
    return entries, records


def _papers(run: Run, temporary: Path) -> Entries:
    """Return what people read: workflow files, report, plan, scores, and how it went."""
    entries: Entries = {"original.yaml": run.folder / "workflow.yaml"}
    written = written_by_hand(run)
    if written is not None:
        entries["written.yaml"] = written
    report = run.folder / "report"
    entries |= {f"report/{path.name}": path for path in sorted(report.glob("*")) if path.is_file()}
    entries["events.json"] = _json(events_summary(run.folder / "events.jsonl"))
    compared = plan_and_truth(run, run.folder / PLAN)
    if compared is not None:
        entries[PLAN] = run.folder / PLAN
        entries["plan_and_truth.json"] = _json(compared)
    for step in run.steps.values():
        if "scores" in step.outputs and step.state == "done":
            path = temporary / f"{step.name}.csv"
            write_csv(path, run.table(f"{step.name}.scores"))
            entries[f"scores/{step.name}.csv"] = path
    return entries


def _readme(run: Run, records: list[StepRecord]) -> str:
    code = sorted({record.stage for record in records if record.stage.endswith(".py")})
    lines = [
        f"# Run {run.name}",
        str(run.info.get("description", "")),
        f"Written by bouton {run.info.get('bouton', '')} (`bouton export-run`): what the run was made of, and the "
        "checksum of every file of its results. The results themselves are not in it.",
        "- `bouton check-bundle FILE.zip` looks into it and runs nothing",
        "- `bouton run FILE.zip` repeats the run and compares every checksum",
        "- `report/index.html` is the report, `scores/` its scores, `bundle.json` everything for programs",
    ]
    if code:
        lines.append(
            f"It holds code, which runs only with `--trust-stages`: {', '.join(f'`{name}`' for name in code)}."
        )
    return "\n\n".join(line for line in lines if line) + "\n"


def _json(values: object) -> bytes:
    return json.dumps(values, indent=1).encode()


def _manifest(run: Run, records: list[StepRecord], facts: dict[str, FileFact]) -> Manifest:
    info, seen = run.info, read_environments(run.folder)
    return Manifest(
        format=FORMAT, run=run.name, bouton=str(info.get("bouton", "")), description=str(info.get("description", "")),
        shape_zyx=run.shape, voxel_size_nm=run.voxel_size_nm, state=str(info.get("state", "")),
        started=str(info.get("started", "")), finished=info.get("finished"), command=str(info.get("command", "")),
        skipped=dict(info.get("skipped", {})), environment_of="run" if seen else "export",
        environments=seen or [environment()], sources={}, steps=records,
        files={name: Entry(bytes=fact.bytes, sha256=fact.sha256) for name, fact in facts.items()},
    )  # fmt: skip


def _warnings(manifest: Manifest) -> tuple[str, ...]:
    found = []
    for name, source in manifest.sources.items():
        if source.state == "missing":
            found.append(f"data source {name} is gone from {source.path}: a repetition cannot check its content")
        elif source.state == "changed":
            found.append(f"data source {name} has other names, sizes or times of files than the run saw")
        elif not source.content:
            found.append(f"data source {name} is large: its checksum is of samples; --whole-sources reads all of it")
    unfinished = [step.name for step in manifest.steps if step.state != "done"]
    if unfinished:
        found.append(f"not finished: {', '.join(unfinished)}")
    if manifest.environment_of == "export":
        found.append("the run did not note its versions: those of this installation are given")
    if manifest.stage_files:
        found.append(f"private stages are code that others are asked to trust: {', '.join(manifest.stage_files)}")
    return tuple(found)
