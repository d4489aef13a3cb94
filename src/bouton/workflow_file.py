"""The keys that a workflow file may hold, and the words that refuse any others."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pydantic

from bouton.errors import SpecError
from bouton.geometry import ZERO
from bouton.strict_yaml import Document, nearest


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


class WorkflowFile(_Strict):
    """A workflow file as written, before references are resolved."""

    name: str | None = None
    description: str = ""
    grid: GridEntry | None = None
    block_zyx: tuple[int, int, int] = (64, 64, 64)
    data: dict[str, SourceEntry] = {}
    steps: dict[str, StepEntry]


NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\Z")


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
        raise _spec_error(error, document, WorkflowFile) from None
    _check_names(entries, document)
    return entries


def _check_names(entries: WorkflowFile, document: Document) -> None:
    for section, names in (("data", entries.data), ("steps", entries.steps)):
        for name in names:
            if not NAME.match(name):
                raise SpecError(
                    f"name {name!r}",
                    where=document.at(section, name),
                    expected="letters, digits, _ and -, a letter first",
                )
    both = sorted(entries.data.keys() & entries.steps.keys())
    if both:
        raise SpecError(f"{both[0]!r} names a data source and a step", where=document.at("steps", both[0]))
    if not entries.steps:
        raise SpecError("no steps", where=str(document.file), expected="steps: {name: {stage: ...}}")


def _spec_error(error: pydantic.ValidationError, document: Document, model: type[pydantic.BaseModel]) -> SpecError:
    errors = error.errors()
    # A misspelt key is reported before the key that is missing because of it.
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    loc = first["loc"]
    where = document.at(*loc)
    if first["type"] == "extra_forbidden":
        known = _fields_at(model, loc[:-1])
        return SpecError(f"unknown key {loc[-1]!r}", where=where, expected=nearest(str(loc[-1]), known))
    path = ".".join(str(part) for part in loc)
    found = "missing" if first["type"] == "missing" else repr(first["input"])[:80]
    return SpecError(f"{path}: {found}", where=where, expected=first["msg"])


def _fields_at(model: type[pydantic.BaseModel], loc: Iterable[Any]) -> list[str]:
    sections: dict[str, type[pydantic.BaseModel]] = {"data": SourceEntry, "steps": StepEntry, "grid": GridEntry}
    top = next(iter(loc), None)
    return list(sections.get(str(top), model).model_fields)
