"""What a run folder knows of its run, gathered for a bundle.

A bundle must hold what made the results: where a private stage's file or a model is another one than the run used,
nothing is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bouton.engine.bundle.manifest import SourceRecord, StepRecord
from bouton.engine.bundle.sources import look_at
from bouton.engine.context import StepContext, context_from_json, params_from_json
from bouton.errors import BoutonError, DataError
from bouton.spec import content_hash
from bouton.stage import load_stage
from bouton.strict_yaml import read_document
from bouton.volume import fingerprint
from bouton.volume.places import place
from bouton.volume.run_folder import Run, RunStep

MODELS = Path(__file__).parents[2] / "models"
CARDS = ("card.json", "types.json", "reference.json")


@dataclass(frozen=True)
class GatheredStep:
    """A step, and the files of it that go into the bundle: names there, paths here."""

    record: StepRecord
    files: dict[str, Path]


def gather_step(run: Run, step: RunStep, with_models: bool) -> GatheredStep:
    """Return what made a step's results.

    Raises
    ------
    DataError
        A private stage's file or the model is not the one that the run used.
    """
    context = _context(run, step)
    files: dict[str, Path] = {}
    stage = step.stage
    code = str(context.description.get("code", "")) if context else ""
    if stage.endswith(".py"):
        path = Path(context.stage_name) if context else _written_stage(run, step)
        _check_code(step.name, path, code)
        stage = f"stages/{(code or content_hash(path))[:16]}/{path.name}"
        files[stage] = path
    model, folder, whole = "", "", False
    if context and context.description.get("files"):
        _check_model(step.name, context)
        model = str(context.params.get("model") or "")
        found = model_folder(model)
        if found is not None:
            folder = f"models/{step.name}"
            kept = sorted(found.iterdir()) if with_models else [found / name for name in CARDS]
            files |= {f"{folder}/{path.name}": path for path in kept if path.is_file()}
            whole = with_models
    record = StepRecord(
        name=step.name, stage=stage, version=step.version, code=code, key=step.key, params=dict(step.params),
        reads=dict(step.reads), files=list(context.description.get("files", ())) if context else [],
        model=model, model_folder=folder, model_is_whole=whole, bounds_zyx=step.bounds_zyx,
        block_zyx=_triple(step.block_zyx), state=step.state,
        outputs={name: str(output["type"]) for name, output in step.outputs.items()}, tasks=step.tasks, done=step.done,
        failed=step.failed, blocked=step.blocked, seconds=step.seconds, peak_bytes=step.peak_bytes,
        size_bytes=step.size_bytes,
    )  # fmt: skip
    return GatheredStep(record, files)


def _written_stage(run: Run, step: RunStep) -> Path:
    """Return where the workflow file says that the private stage of a step lies that never began."""
    folder = Path(str(run.info.get("workflow_file", ""))).parent
    entry = (_kept_workflow(run).get("steps") or {}).get(step.name) or {}
    return folder / str(entry.get("stage", step.stage))


def _kept_workflow(run: Run) -> dict[str, Any]:
    """Return the workflow file that the run kept; empty where it is damaged."""
    try:
        return dict(read_document(run.folder / "workflow.yaml").tree)
    except BoutonError:
        # It is there for people: what is computed with stands in run.json and the steps' own files.
        return {}


def _context(run: Run, step: RunStep) -> StepContext | None:
    """Return the step's own record; None where the step never began."""
    if step.state == "pending" and not (run.folder / step.folder / "step.json").is_file():
        return None
    return context_from_json(run.folder, step.folder)


def _triple(values: Iterable[int]) -> tuple[int, int, int]:
    z, y, x = values
    return z, y, x


def _check_code(step: str, path: Path, code: str) -> None:
    if not path.is_file() or (code and content_hash(path) != code):
        what = "has changed since the run" if path.is_file() else "is gone"
        raise DataError(
            f"the stage's file {path} {what}", where=f"step {step}", expected="the file that made the results",
            fix="put it back, or bouton run again with the one that is there",
        )  # fmt: skip


def _check_model(step: str, context: StepContext) -> None:
    """Check that the model is the one in the step's key."""
    stage = load_stage(context.stage_name)
    try:
        found = [content_hash(content) for content in stage.files(params_from_json(stage, context.params))]
    except BoutonError as error:
        raise DataError(
            f"its model cannot be read: {error.found}", where=f"step {step}", expected="the model that the run used",
            fix="put it back where it was",
        ) from error  # fmt: skip
    if found != list(context.description["files"]):
        raise DataError(
            f"model {context.params.get('model', '')!r} has changed since the run", where=f"step {step}",
            expected="the model that made the results",
            fix="put it back, or bouton run again with the one that is there",
        )  # fmt: skip


def model_folder(model: str) -> Path | None:
    """Return the folder of a model given by name or path; None if there is none."""
    for path in (MODELS / model, Path(model)):
        if model and path.is_dir():
            return path
    return None


def gather_source(run: Run, name: str, whole: bool) -> SourceRecord:
    """Return what a data source is, and whether it is as the run saw it."""
    source = run.sources[name]
    path, dataset = place(source["path"]), source.get("dataset")
    seen, is_table = _seen(run, name), path.suffix == ".parquet"
    record: dict[str, Any] = {
        "path": str(path.resolve()), "dataset": dataset, "offset_zyx": tuple(source["offset_zyx"]),
        "is_table": is_table, "voxel_size_nm": None if is_table else run.voxel_size_nm, "fingerprint": seen,
        "obtain": _obtain(run, name),
    }  # fmt: skip
    if isinstance(path, Path) and not path.exists():
        return SourceRecord(**record, state="missing")
    found = look_at(path, whole)
    same = seen in ("", fingerprint(path, dataset))
    return SourceRecord(
        **record, state="same" if same else "changed", bytes=found.bytes, files=found.files, content=found.content,
        sample=found.sample,
    )  # fmt: skip


def _seen(run: Run, name: str) -> str:
    """Return the fingerprint of a source when the run read it; empty where no step did."""
    for step in run.steps.values():
        context = _context(run, step)
        for key, ref in step.reads.items():
            match = re.match(r"data (\S+) at ", str(context.description["reads"][key])) if context else None
            if match and ref == f"data:{name}":
                return match.group(1)
    return ""


def _obtain(run: Run, name: str) -> str:
    """Return what the workflow file says about how to get a source."""
    entry = (_kept_workflow(run).get("data") or {}).get(name) or {}
    return str(entry.get("obtain", ""))


def repeatable_workflow(run: Run, steps: Iterable[StepRecord], sources: dict[str, SourceRecord]) -> bytes:
    """Return a workflow file that says all that the run was made of: every parameter, box and block of every step."""
    data: dict[str, Any] = {}
    for name, source in sources.items():
        data[name] = {"path": source.path, "offset_zyx": list(source.offset_zyx)}
        data[name] |= {"dataset": source.dataset} if source.dataset else {}
        data[name] |= {"voxel_size_nm": list(source.voxel_size_nm)} if source.voxel_size_nm else {}
        data[name] |= {"obtain": source.obtain} if source.obtain else {}
    tree: dict[str, Any] = {
        "name": run.name,
        "description": str(run.info.get("description", "")),
        "grid": {"shape_zyx": list(run.shape), "voxel_size_nm": list(run.voxel_size_nm)},
        "data": data,
        "steps": {step.name: _step_entry(step) for step in steps},
    }
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True).encode()


def _step_entry(step: StepRecord) -> dict[str, Any]:
    return {
        "stage": step.stage,
        "reads": {name: ref.removeprefix("data:") for name, ref in step.reads.items()},
        "params": step.params,
        "bounds_zyx": step.bounds_zyx,
        "block_zyx": list(step.block_zyx),
    }


def written_by_hand(run: Run) -> Path | None:
    """Return the workflow file as its author wrote it, with comments; None unless the run was made of just that."""
    path = Path(str(run.info.get("workflow_file", "")))
    try:
        same = read_document(path).tree == read_document(run.folder / "workflow.yaml").tree
    except BoutonError:
        return None
    return path if same else None
