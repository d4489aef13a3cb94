"""The keys that a workflow file may hold, and the words that refuse any others."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from typing import Any

import pydantic

from bouton.cluster import Cluster, GpuJobs
from bouton.errors import SpecError
from bouton.geometry import ZERO
from bouton.strict_yaml import Document, unknown


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class GridEntry(_Strict):
    """``grid:`` the shape and voxel size where no data source gives them."""

    shape_zyx: tuple[int, int, int]
    voxel_size_nm: tuple[float, float, float]


class SourceEntry(_Strict):
    """One entry of ``data:``."""

    path: str
    dataset: str | None = None
    voxel_size_nm: tuple[float, float, float] | None = None
    offset_zyx: tuple[int, int, int] = ZERO
    obtain: str = ""


class StepEntry(_Strict):
    """One entry of ``steps:``."""

    stage: str
    reads: dict[str, str] = {}
    params: dict[str, Any] = {}
    bounds_zyx: str | None = None
    block_zyx: tuple[int, int, int] | None = None


class DatasetEntry(_Strict):
    """One entry of ``datasets:``, laid over the rest of the file: what it says of ``data`` may be parts of entries."""

    description: str | None = None
    grid: dict[str, Any] = {}
    block_zyx: tuple[int, int, int] | None = None
    bounds_zyx: str | None = None
    data: dict[str, dict[str, Any]] = {}
    set: dict[str, Any] = {}
    without: tuple[str, ...] = ()


class WorkflowFile(_Strict):
    """A workflow file as written, before references are resolved."""

    name: str | None = None
    description: str = ""
    grid: GridEntry | None = None
    block_zyx: tuple[int, int, int] = (64, 64, 64)
    bounds_zyx: str | None = None
    cluster: Cluster | None = None
    store: str | None = None
    datasets: dict[str, DatasetEntry] = {}
    data: dict[str, SourceEntry] = {}
    steps: dict[str, StepEntry]


NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\Z")
LONGEST_NAME = 100


def check_run_name(name: str, where: str) -> str:
    """Return ``name`` if a run's folder can have it.

    Raises
    ------
    SpecError
        It is empty, too long, hidden, or leads to another folder.
    """
    if not name or "/" in name or name.startswith(".") or not name.isprintable() or len(name) > LONGEST_NAME:
        raise SpecError(
            f"run name {name[:LONGEST_NAME]!r}", where=where,
            expected=f"a folder name of 1 to {LONGEST_NAME} characters, without / and not starting with a dot",
            fix="--name second-try",
        )  # fmt: skip
    return name


def parse_entries(document: Document) -> WorkflowFile:
    """Check a document's keys, types and names.

    Raises
    ------
    SpecError
        An unknown or missing key, a value of the wrong type, or a name that cannot be a folder's.
    """
    try:
        entries = WorkflowFile.model_validate(document.tree)
    except pydantic.ValidationError as error:
        raise spec_error(error, document, WorkflowFile) from None
    _check_names(entries, document)
    return entries


def check_name(name: str, where: str) -> None:
    """Raise a SpecError unless ``name`` can be that of a data source, a step or a dataset."""
    if not NAME.match(name):
        raise SpecError(
            f"name {name!r}", where=where, expected="letters, digits, _ and -, a letter first", fix="rename it"
        )


def _check_names(entries: WorkflowFile, document: Document) -> None:
    check_run_name(document.file.stem if entries.name is None else entries.name, document.at("name"))
    for section, names in (("data", entries.data), ("steps", entries.steps)):
        for name in names:
            check_name(name, document.at(section, name))
    both = sorted(entries.data.keys() & entries.steps.keys())
    if both:
        raise SpecError(
            f"{both[0]!r} names a data source and a step", where=document.at("steps", both[0]),
            expected="different names", fix="rename one of them",
        )  # fmt: skip
    if not entries.steps:
        raise SpecError(
            "no steps", where=str(document.file), expected="steps: {name: {stage: ...}}",
            fix="bouton stages lists the stages",
        )  # fmt: skip


def spec_error(error: pydantic.ValidationError, document: Document, model: type[pydantic.BaseModel]) -> SpecError:
    """Return the first of the errors that pydantic found in a document, with its line and the nearest known word."""
    errors = error.errors()
    # A misspelt key is reported before the key that is missing because of it.
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    loc = first["loc"]
    where = document.at(*loc)
    if first["type"] == "extra_forbidden":
        return unknown(f"unknown key {loc[-1]!r}", str(loc[-1]), _fields_at(model, loc[:-1]), where)
    if first["type"] == "missing" and loc[0] == "steps" and loc[-1] == "stage":
        steps = [name for name, entry in document.tree["steps"].items() if "stage" in (entry or ())]
        return unknown(f"step {loc[1]!r} has no stage", str(loc[1]), steps, where)
    return SpecError(f"{show_place(loc)}: {show_found(first)}", where=where, **expectation(first))


LIKE = {
    "steps": "{stage: fragments}", "data": "{path: stack.zarr}", "grid": "{voxel_size_nm: [40, 4, 4]}",
    "cluster": "{kind: slurm}", "datasets": "{data: {em: {path: stack.zarr}}}",
}  # fmt: skip
"""What an entry of each section looks like."""


def show_place(loc: Iterable[Any]) -> str:
    """Return a path of keys as ``--set`` takes it."""
    return ".".join(str(part) for part in loc)


def show_found(error: Any) -> str:
    """Return the value that pydantic refused, on one short line."""
    return "missing" if error["type"] == "missing" else repr(error["input"])[:80]


def expectation(error: Any) -> dict[str, str]:
    """Return what pydantic expected as ``expected`` and ``fix`` of a :class:`SpecError`."""
    text = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ").split(", unable")[0]
    if error["type"] == "missing":
        at = error["loc"][-1]
        text = f"at least {at + 1} values (z, y, x where it is a triple)" if isinstance(at, int) else "it to be given"
    elif error["type"] == "too_long":
        text = f"{error['ctx']['max_length']} values (z, y, x where it is a triple)"
    elif error["type"] in ("tuple_type", "list_type"):
        text = "a list like [40, 4, 4]"
    elif error["type"] == "unexpected_keyword_argument":
        text = "no such key here"
    elif error["type"].startswith("dataclass") and "params" in error["loc"]:
        text = "keys and values, {key: value, ...}"
    elif error["type"].startswith(("dict", "model", "dataclass")):
        section = next((part for part in error["loc"] if part in LIKE), "steps")
        text = f"keys and values like {LIKE[section]}"
    keys = itertools.takewhile(lambda key: not isinstance(key, int), error["loc"])
    return {"expected": text, "fix": f"correct the value, or --set {show_place(keys)}=VALUE"}


def _fields_at(model: type[pydantic.BaseModel], loc: Iterable[Any]) -> list[str]:
    sections: dict[str, type[pydantic.BaseModel]] = {
        "data": SourceEntry, "steps": StepEntry, "grid": GridEntry, "datasets": DatasetEntry,
        "cluster": Cluster, "gpu": GpuJobs, "cluster.gpu": GpuJobs,
    }  # fmt: skip
    keys = [str(key) for key in loc]
    names = (".".join(keys[:2]), *keys[:1])
    return list(next((sections[name] for name in names if name in sections), model).model_fields)
