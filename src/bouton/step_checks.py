"""Checks of one step before it runs: its parameters, and whether what it reads fits its stage."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import pydantic

from bouton.errors import DataError, SpecError
from bouton.geometry import NM
from bouton.stage import BlockPart, ChainPart, Layer, Planned, Stage, Table
from bouton.strict_yaml import Document, unknown
from bouton.volume import Volume, check_volume
from bouton.workflow_file import expectation, show_found, show_place


def make_params(name: str, stage: Stage, values: Mapping[str, Any], document: Document) -> Any:
    """Return the parameters of step ``name``.

    Raises
    ------
    SpecError
        A name is unknown, a value is wrong, or the stage refuses it.
    """
    where = document.at("steps", name, "params")
    known = [field.name for field in dataclasses.fields(stage.params)]
    for key in values:
        if key not in known:
            raise unknown(
                f"unknown parameter {key!r} of step {name!r}", key, known, document.at("steps", name, "params", key)
            )
    try:
        params: Any = pydantic.TypeAdapter(stage.params).validate_python(dict(values))
    except pydantic.ValidationError as error:
        first: Any = error.errors()[0]
        first["loc"] = ("steps", name, "params", *first["loc"])
        # Of a list that is too short the list is told.
        short = first["type"] == "missing" and isinstance(first["loc"][-1], int)
        place, value = first["loc"][3 : -1 if short else None], repr(first["input"]) if short else show_found(first)
        found = f"{show_place(place)} = {value[:80]}"
        raise SpecError(found, where=document.at(*first["loc"]), **expectation(first)) from None
    except SpecError as error:
        raise _at(error, where) from None
    for key, value in dataclasses.asdict(params).items():
        if isinstance(value, float) and not math.isfinite(value):
            place = document.at("steps", name, "params", key)
            raise SpecError(f"{key} = {value}", where=place, expected="a finite number", fix=f"correct {key}")
    return params


def check_halos(stage: Stage, params: Any, voxel_size_nm: NM, where: str) -> None:
    """Ask every part for its halo: a stage refuses there a voxel size that does not go with its parameters."""
    for part in stage.parts:
        if not isinstance(part, BlockPart | ChainPart):
            continue
        try:
            halo = part.halo(params, voxel_size_nm)
        except SpecError as error:
            raise _at(error, where) from None
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise SpecError(
                f"the halo of part {part.name!r} fails: {type(error).__name__}: {error}",
                where=where,
                expected="three numbers (z, y, x) of at least 0",
                fix="correct the stage",
            ) from error
        if len(halo) != 3 or min(halo) < 0:
            raise SpecError(
                f"part {part.name!r} has the halo {halo}",
                where=where,
                expected="three numbers (z, y, x) of at least 0",
                fix="correct the stage",
            )


def check_plan(stage: Stage, plan: Planned, where: str) -> None:
    """Ask the stage whether parameters, bounds and inputs go together; what it refuses is told with its place."""
    try:
        stage.check(plan)
    except SpecError as error:
        raise _at(error, where) from None
    except DataError as error:
        raise DataError(error.found, where=error.where or where, expected=error.expected, fix=error.fix) from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise SpecError(
            f"the check of the stage fails: {type(error).__name__}: {error}", where=where,
            expected="nothing, or a SpecError", fix="correct the stage",
        ) from error  # fmt: skip


def _at(error: SpecError, where: str) -> SpecError:
    """Return an error that says where it arose: a stage knows its parameters, but not their file."""
    fix = error.fix or "correct the parameter"
    return SpecError(error.found, where=error.where or where, expected=error.expected, fix=fix)


def check_source(volume: Volume, wanted: Layer, where: str) -> None:
    """Check that a volume of the user's has the type that a step reads; the message says how to convert it."""
    accepted = (wanted.dtype,) if isinstance(wanted.dtype, str) else wanted.dtype
    try:
        check_volume(volume, dtypes=accepted, channels=wanted.accepted_channels, role=wanted.kind)
    except DataError as error:
        raise DataError(error.found, where=f"{where}, {error.where}", expected=error.expected, fix=error.fix) from None


def check_layer(found: Layer, wanted: Layer, where: str) -> None:
    """Check that a step's output has the type that another step reads."""
    accepted = (wanted.dtype,) if isinstance(wanted.dtype, str) else wanted.dtype
    if found.dtype not in accepted:
        raise SpecError(
            f"dtype {found.dtype}", where=where, expected=" or ".join(accepted), fix="read another output, STEP.OUTPUT"
        )
    if found.channels not in wanted.accepted_channels:
        expected = wanted.channels_text if wanted.channels else "a (z, y, x) volume without channels"
        raise SpecError(
            f"channels: {found.channels or 'none'}", where=where, expected=expected,
            fix="read another output, STEP.OUTPUT",
        )  # fmt: skip


def check_table(found: Table, wanted: Table, where: str) -> None:
    """Check that a table has the columns that a step reads; a type that is not known ("") is not compared."""
    for name, kind in wanted.columns.items():
        if name not in found.columns:
            raise SpecError(
                f"a table without column {name}", where=where, expected=f"columns {', '.join(wanted.columns)}",
                fix="read another output, STEP.OUTPUT",
            )  # fmt: skip
        if found.columns[name] not in ("", kind):
            held = "holds text" if found.columns[name] == "str" else f"of type {found.columns[name]}"
            raise SpecError(f"column {name} {held}", where=where, expected=kind, fix="write it as that type")
