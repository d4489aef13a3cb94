"""Why the results of two runs differ: which parameter, model, input or version of which step, and whether bytes do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bouton.engine.context import context_from_json
from bouton.engine.ledger import LEDGER, Ledger
from bouton.errors import DataError
from bouton.volume.run_folder import Run, RunStep

PLAIN = ("stage", "version", "bounds_zyx", "block_zyx", "shape_zyx", "voxel_size_nm")


@dataclass(frozen=True)
class Files:
    """The files of one output in two runs: names with one checksum, names with two, and those in one run alone."""

    same: int = 0
    other: int = 0
    only_a: int = 0
    only_b: int = 0

    @property
    def are_equal(self) -> bool:
        """Whether both runs have the same bytes."""
        return not (self.other or self.only_a or self.only_b)


@dataclass(frozen=True)
class StepDiff:
    """One step of two runs.

    Attributes
    ----------
    state : str
        ``same`` (one key), ``changed``, ``a`` or ``b`` (only this run has it).
    own : tuple of str
        What of the step itself differs: ``params.reach: 2 -> 4``.
    inputs : tuple of str
        What of its inputs differs.
    outputs : mapping of output -> Files
        The bytes, of steps that have begun in both runs.
    """

    name: str
    state: str
    own: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: Mapping[str, Files] = field(default_factory=dict)


def diff_runs(a: Run, b: Run) -> list[StepDiff]:
    """Return every step of two runs, in the order of the first one."""
    found: dict[str, StepDiff] = {}
    for name in [*a.steps, *(name for name in b.steps if name not in a.steps)]:
        if name not in b.steps or name not in a.steps:
            found[name] = StepDiff(name, "a" if name in a.steps else "b")
        else:
            found[name] = _diff_step(a, b, name, found)
    return list(found.values())


def _diff_step(a: Run, b: Run, name: str, earlier: Mapping[str, StepDiff]) -> StepDiff:
    ours, theirs = a.steps[name], b.steps[name]
    outputs = _compared(_checksums(a, ours), _checksums(b, theirs))
    if ours.key == theirs.key:
        return StepDiff(name, "same", outputs=outputs)
    first, second = description_of(a, ours), description_of(b, theirs)
    own = tuple(own_changes(first, second))
    inputs = tuple(_input_changes(ours, theirs, (first, second), earlier))
    return StepDiff(name, "changed", own, inputs, outputs)


def description_of(run: Run, step: RunStep) -> Mapping[str, Any]:
    """Return what determines a step's result: all of it where the step has begun, else what ``run.json`` says."""
    if (run.folder / step.folder / "step.json").is_file():
        context = context_from_json(run.folder, step.folder)
        if context.description:
            return context.description
    return {name: getattr(step, name) for name in ("stage", "version", "params", "bounds_zyx", "block_zyx")}


def own_changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[str]:
    """Yield what of a step itself differs in two descriptions, in words; its inputs are left out."""
    for name in PLAIN:
        if name in a and name in b and a[name] != b[name]:
            yield f"{name}: {_text(a[name])} -> {_text(b[name])}"
    first, second = dict(_flat("params", a["params"])), dict(_flat("params", b["params"]))
    for name in [*first, *(name for name in second if name not in first)]:
        if first.get(name) != second.get(name):
            yield f"{name}: {_text(first.get(name))} -> {_text(second.get(name))}"
    if a.get("code", "") != b.get("code", ""):
        yield "the stage's own file was edited"
    if a.get("files", []) != b.get("files", []):
        yield "a model or file that it is given has other content"


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from _flat(f"{name}.{key}", each)
    else:
        # tuples and lists are one thing in JSON
        yield name, json.loads(json.dumps(value, default=str))


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)


def _input_changes(
    a: RunStep, b: RunStep, descriptions: tuple[Mapping[str, Any], Mapping[str, Any]], earlier: Mapping[str, StepDiff]
) -> Iterator[str]:
    identities = [each.get("reads", {}) for each in descriptions]
    for name in [*a.reads, *(name for name in b.reads if name not in a.reads)]:
        ours, theirs = a.reads.get(name, "nothing"), b.reads.get(name, "nothing")
        step = earlier.get(ours.partition(".")[0])
        if ours != theirs:
            yield f"{name}: reads {ours} -> {theirs}"
        elif ours.startswith("data:"):
            if identities[0].get(name) != identities[1].get(name):
                yield f"{name}: {ours} has other content or another place"
        elif step and step.state != "same":
            yield f"{name}: step {step.name} changed{_bytes_of(step, ours)}"


def _bytes_of(step: StepDiff, reference: str) -> str:
    output = reference.partition(".")[2] or next(iter(step.outputs), "")
    files = step.outputs.get(output)
    if files is None:
        return ""
    return ", but not the bytes of its output" if files.are_equal else ", and the bytes of its output"


def _checksums(run: Run, step: RunStep) -> dict[str, dict[str, str]]:
    """Return the checksums of a step's files by output, then by name; private outputs are left out."""
    path = run.folder / step.folder / LEDGER
    found: dict[str, dict[str, str]] = {name: {} for name in step.outputs}
    if not path.is_file():
        return {}
    with Ledger(path, readonly=True) as ledger:
        for row in ledger.outputs():
            name = Path(row.file.path).parts[0].removesuffix(".parquet")
            # the metadata of a layer has no part: it says nothing of the voxels
            if row.part and name in found:
                found[name][row.file.path] = row.file.checksum
    return found


def _compared(a: Mapping[str, Mapping[str, str]], b: Mapping[str, Mapping[str, str]]) -> dict[str, Files]:
    found = {}
    for name in a.keys() & b.keys():
        first, second = a[name], b[name]
        both = first.keys() & second.keys()
        same = sum(first[path] == second[path] for path in both)
        found[name] = Files(same, len(both) - same, len(first) - len(both), len(second) - len(both))
    return {name: found[name] for name in a if name in found}


def check_comparable(a: Run, b: Run) -> None:
    """Raise a DataError if two runs are one folder: they cannot differ."""
    if a.folder == b.folder:
        raise DataError(
            "both runs are one folder", where=str(a.folder), expected="two runs",
            fix="bouton run with --name gives a second run its own folder",
        )  # fmt: skip
