"""Price files: machines to rent, what they cost an hour, since when, and who says so."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated, Any

import pydantic

from bouton.engine.money import Machine
from bouton.errors import SpecError
from bouton.strict_yaml import Document, read_document, unknown
from bouton.workflow_file import expectation, show_found, show_place

Positive = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]


class _Entry(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    cores: Annotated[int, pydantic.Field(ge=1)] | None = None
    memory_gib: Positive | None = None
    gpus: Annotated[int, pydantic.Field(ge=0)] = 0
    price_per_hour: Positive
    spot_price_per_hour: Positive | None = None
    currency: Annotated[str, pydantic.Field(min_length=3, max_length=3)]
    date: datetime.date
    source: Annotated[str, pydantic.Field(min_length=1)]


class _File(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    machines: dict[str, _Entry]


def read_prices(path: Path | None = None) -> dict[str, Machine]:
    """Read a price file; without a path, the one that comes with bouton.

    Raises
    ------
    SpecError
        It is missing, no YAML, or an entry is wrong or lacks its date or source.
    """
    if path is None:
        with as_file(files("bouton.engine") / "prices.yaml") as own:
            return read_prices(own)
    document = read_document(path)
    try:
        entries = _File.model_validate(document.tree).machines
    except pydantic.ValidationError as error:
        raise _wrong(error.errors(), document) from None
    return {name: _machine(name, entry) for name, entry in entries.items()}


def find_machine(name: str, prices: Mapping[str, Machine]) -> Machine:
    """Return the machine called ``name``.

    Raises
    ------
    SpecError
        There is none; the message proposes the nearest.
    """
    if name not in prices:
        raise unknown(f"no machine {name!r} in the prices", name, prices)
    return prices[name]


def _machine(name: str, entry: _Entry) -> Machine:
    values = entry.model_dump(exclude={"memory_gib"})
    return Machine(name, **values, memory_bytes=None if entry.memory_gib is None else int(entry.memory_gib * 2**30))


def _wrong(errors: Any, document: Document) -> SpecError:
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    loc = first["loc"]
    where = document.at(*loc)
    if first["type"] == "extra_forbidden":
        known = _Entry.model_fields if len(loc) > 1 else _File.model_fields
        return unknown(f"unknown key {loc[-1]!r}", str(loc[-1]), known, where)
    expected = expectation(first)["expected"]
    fix = f"correct {show_place(loc)}; the head of bouton's own prices.yaml shows an entry"
    return SpecError(f"{show_place(loc)}: {show_found(first)}", where=where, expected=expected, fix=fix)
