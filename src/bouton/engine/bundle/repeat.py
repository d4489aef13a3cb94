"""A bundle -> the workflow that repeats its run, and the comparison of what came out.

Nothing of a bundle is believed: its files are unpacked by the names and checksums that ``bundle.json`` gives, its
workflow may say only what an export writes, and code in it runs only where its reader said so.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bouton.engine.bundle.archive import Archive, FileFact, fact_of
from bouton.engine.bundle.listing import StepComparison, compare, read_listing
from bouton.engine.bundle.manifest import NAME, WORKFLOW, Manifest, SourceRecord, StepRecord, read_manifest
from bouton.engine.bundle.sources import Content, look_at
from bouton.engine.context import step_folder
from bouton.engine.environment import differences, environment
from bouton.engine.ledger import LEDGER
from bouton.errors import DataError, SpecError
from bouton.spec import Choices, Step, Workflow, load_workflow
from bouton.strict_yaml import read_document
from bouton.volume import fingerprint
from bouton.volume.files import write_pieces
from bouton.volume.places import Place, place
from bouton.workflow_file import parse_entries

FOLDER = "bundle"
KEYS = {"name", "description", "grid", "data", "steps"}


@dataclass(frozen=True)
class RepeatOptions:
    """What its reader says about a bundle.

    Attributes
    ----------
    data : mapping of source name -> path
        Where sources lie here. Others are looked for where they lay.
    trusts_stages : bool
        Whether private stages, which are code, may run.
    """

    data: Mapping[str, str]
    trusts_stages: bool = False


@dataclass(frozen=True)
class Repetition:
    """A bundle unpacked in the run folder of its repetition.

    Attributes
    ----------
    changes : list of (name, then, now)
        Versions, machine and settings that are not the bundle's.
    unchecked : list of str
        Sources whose content the bundle does not tell.
    """

    path: Path
    manifest: Manifest
    workflow: Workflow
    changes: list[tuple[str, str, str]]
    unchecked: list[str]

    def compare(self, run_folder: Path) -> list[StepComparison]:
        """Compare every file of every step of the bundle with the repetition's."""
        steps = {step.name: step for step in self.workflow.steps}
        with Archive(self.path) as archive:
            return [
                self._compare(archive, record, steps[record.name], run_folder)
                for record in self.manifest.steps
                if record.listing
            ]

    def _compare(self, archive: Archive, record: StepRecord, step: Step, run_folder: Path) -> StepComparison:
        fact = _fact(self.manifest, record.listing)
        rows = read_listing(archive.pieces(record.listing, fact), f"{self.path}: {record.listing}")
        parts = [part.name for part in step.stage.parts]
        ledger = run_folder / step_folder(step) / LEDGER
        return compare(record.name, rows, ledger, parts, whole=record.state == "done")


def is_bundle(path: Path) -> bool:
    """Return whether a path is a zip, by name or content."""
    return path.suffix == ".zip" or (path.is_file() and zipfile.is_zipfile(path))


def open_bundle(path: Path) -> tuple[Manifest, int]:
    """Check every file of a bundle against ``bundle.json``; return this and the number of files.

    Raises
    ------
    DataError
        It is no bundle, or damaged.
    """
    with Archive(path) as archive:
        manifest = read_manifest(archive)
        for name in manifest.files:
            for _ in archive.pieces(name, _fact(manifest, name)):
                pass
    return manifest, len(manifest.files)


def repeat(path: Path, runs_dir: Path, name: str | None, options: RepeatOptions) -> Repetition:
    """Unpack what a repetition needs into ``runs_dir/name/bundle``, and return the workflow.

    Raises
    ------
    SpecError
        The bundle holds code and the reader did not say that it may run; a source is not here; the run exists.
    DataError
        The bundle is damaged, or a source or model is not the one that the run used.
    """
    with Archive(path) as archive:
        manifest = read_manifest(archive)
        _check_trust(path, manifest, options.trusts_stages)
        name = name or f"{manifest.run}-repeat"
        folder = runs_dir.resolve() / name / FOLDER
        _check_folder(folder, archive)
        models = _unpack(archive, manifest, folder)
    _check_workflow(folder / WORKFLOW, manifest)
    data, unchecked = _find_sources(path, manifest, options.data)
    overrides = [f"data.{source}.path={json.dumps(found)}" for source, found in data.items()]
    overrides += [f"steps.{step}.params.model={json.dumps(str(found))}" for step, found in models.items()]
    workflow = load_workflow(folder / WORKFLOW, Choices(overrides=overrides))
    _check_steps(path, manifest, workflow)
    latest = manifest.environments[-1] if manifest.environments else {}
    changes = differences(latest, environment())
    return Repetition(path, manifest, dataclasses.replace(workflow, name=name), changes, unchecked)


def _fact(manifest: Manifest, name: str) -> FileFact:
    entry = manifest.files[name]
    return FileFact(entry.bytes, entry.sha256)


def _check_trust(path: Path, manifest: Manifest, trusts: bool) -> None:
    code = manifest.stage_files
    if code and not trusts:
        raise SpecError(
            f"the bundle holds code that would run here: {', '.join(code)}", where=str(path),
            expected="your word that you read it and trust whoever wrote it",
            fix=f"unzip -p {path} {code[0]} shows it; then add --trust-stages",
        )  # fmt: skip


def _check_folder(folder: Path, archive: Archive) -> None:
    """Check that a run folder is new or that of an earlier try of the same bundle."""
    marker = folder / NAME
    if (folder.parent / "run.json").exists() and not marker.exists():
        raise SpecError(
            f"run {folder.parent.name} exists and is no repetition of this bundle", where=str(folder.parent),
            expected="a new run, whose results come from nothing else", fix="--name another-name",
        )  # fmt: skip
    if marker.exists() and marker.read_bytes() != archive.read(NAME, archive.limits.total_bytes):
        raise SpecError(
            f"run {folder.parent.name} repeats another bundle", where=str(folder.parent),
            expected="a run of its own for every bundle", fix="--name another-name",
        )  # fmt: skip


def _unpack(archive: Archive, manifest: Manifest, folder: Path) -> dict[str, Path]:
    """Unpack workflow, stages and whole models; return the folders of these by step."""
    whole = {step.name: step.model_folder for step in manifest.steps if step.model_is_whole and step.model_folder}
    prefixes = tuple(f"{name}/" for name in whole.values())
    wanted = [WORKFLOW, *manifest.stage_files]
    wanted += [name for name in manifest.files if prefixes and name.startswith(prefixes)]
    for name in wanted:
        fact, target = _fact(manifest, name), folder / name
        if not (target.is_file() and fact_of(target) == fact):
            write_pieces(target, archive.pieces(name, fact))
    # last: it marks the folder as this bundle's
    write_pieces(folder / NAME, archive.pieces(NAME))
    return {step: folder / name for step, name in whole.items()}


def _check_workflow(path: Path, manifest: Manifest) -> None:
    """Check that the workflow says only what an export writes, before any stage of it is loaded."""
    document = read_document(path)
    found = set(document.tree) - KEYS
    entries = parse_entries(document)
    stages = {name: entry.stage for name, entry in entries.steps.items()}
    wrong = f"key {min(found)!r}" if found else ""
    if not wrong and stages != {step.name: step.stage for step in manifest.steps}:
        wrong = "other steps or stages than bundle.json names"
    if not wrong and set(entries.data) != set(manifest.sources):
        wrong = "other data sources than bundle.json names"
    if wrong:
        raise DataError(
            f"its workflow has {wrong}", where=str(path), expected="what bouton export-run wrote",
            fix="have the run exported again",
        )  # fmt: skip


def _find_sources(path: Path, manifest: Manifest, data: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return where the sources lie here, and the names of those that cannot be checked."""
    strange = sorted(set(data) - set(manifest.sources))
    if strange:
        known = ", ".join(manifest.sources) or "none"
        raise SpecError(f"--data {strange[0]}: no such source", where=str(path), expected=known, fix="correct the name")
    places = {name: place(data.get(name, source.path)) for name, source in manifest.sources.items()}
    # In an object store only whoever opens it can tell at little cost.
    lost = [name for name, found in places.items() if isinstance(found, Path) and not found.expanduser().exists()]
    if lost:
        told = "; ".join(f"{name} at {places[name]}{_hint(manifest.sources[name])}" for name in lost)
        wanted = " ".join(f"--data {name}=PATH" for name in lost)
        raise SpecError(f"not here: {told}", where=str(path), expected="the data that the run read", fix=wanted)
    found = {name: found.expanduser().resolve() for name, found in places.items()}
    unchecked = [name for name, each in found.items() if not _is_checked(name, manifest.sources[name], each)]
    return {name: str(each) for name, each in found.items()}, unchecked


def _hint(source: SourceRecord) -> str:
    return f" ({source.obtain})" if source.obtain else ""


def _is_checked(name: str, source: SourceRecord, path: Place) -> bool:
    """Compare a source with what the run read; False where the bundle does not tell what that was.

    Objects at the run's own URL whose content the bundle does not tell are compared by their fingerprint.
    """
    if source.content or (source.sample and isinstance(path, Path)):
        found = look_at(path, whole=bool(source.content))
        same = found.content == source.content if source.content else found.sample == source.sample
    elif not isinstance(path, Path) and str(path) == source.path:
        found = Content()
        same = fingerprint(path, source.dataset) == source.fingerprint
    else:
        return False
    if not same:
        sizes = f" ({found.files} files, {found.bytes:,} bytes; the run's {source.files}, {source.bytes:,})"
        raise DataError(
            f"data source {name!r} is another one{sizes if found.files else ''}", where=str(path),
            expected="the content that the run read",
            fix=f"--data {name}=PATH; to run the workflow on other data, unzip the bundle and run {WORKFLOW}",
        )  # fmt: skip
    return True


def _check_steps(path: Path, manifest: Manifest, workflow: Workflow) -> None:
    """Check that models and stages' files are those of the run, by their hashes in the steps' descriptions."""
    steps = {step.name: step for step in workflow.steps}
    for record in manifest.steps:
        step = steps.get(record.name)
        if step is None:
            reason = workflow.skipped.get(record.name, "it is not there")
            raise DataError(f"step {record.name} does not run: {reason}", where=str(path), fix="export the run again")
        if not record.state or record.state == "pending":
            continue
        if record.code and step.description["code"] != record.code:
            raise DataError(f"{record.stage} is not the run's", where=str(path), fix="export the run again")
        if list(step.description["files"]) != record.files:
            raise DataError(
                f"model {record.model!r} of step {record.name} is another one here", where=str(path),
                expected="the model that the run used", fix="have the run exported with --with-models",
            )  # fmt: skip
