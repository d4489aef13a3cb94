"""Reports as plain values, which cross a network without pickle."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from bouton.engine.leases import Batch, Failure, Report


def pack(report: Report) -> dict[str, Any]:
    """Return a report as dicts, lists, texts, numbers and bytes."""
    return {field.name: _plain(getattr(report, field.name)) for field in fields(report)}


def unpack(values: dict[str, Any]) -> Report:
    """Return what :func:`pack` was given."""
    batch = values["batch"]
    failures = tuple(Failure(**{**failure, "files": tuple(failure["files"])}) for failure in values["failures"])
    return Report(values["lease"], None if batch is None else _batch(batch), failures, values["ended"])


def _batch(values: dict[str, Any]) -> Batch:
    return Batch(**{**values, "numbers": np.frombuffer(values["numbers"], np.int64)})


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value, np.int64).tobytes()
    if isinstance(value, np.generic):
        return value.item()
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
