"""Workflow file -> typed steps, each with the key that names its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bouton.geometry import NM, ZYX, Box
from bouton.stage import Stage


@dataclass(frozen=True)
class Source:
    """One entry of ``data:``: a volume (or a ``.parquet`` table) that exists already.

    ``offset_zyx`` is the place of its first voxel on the workflow's grid. ``fingerprint`` identifies its content.
    """

    name: str
    path: Path
    dataset: str | None
    offset_zyx: ZYX
    fingerprint: str


@dataclass(frozen=True)
class Ref:
    """What a step reads: output ``output`` of step ``owner``, or data source ``owner`` (then ``output`` is empty)."""

    owner: str
    output: str = ""


@dataclass(frozen=True)
class Step:
    """One step. ``description`` is everything that determines the result, in plain JSON types; ``key`` is its hash."""

    name: str
    stage_name: str
    stage: Stage
    params: Any
    reads: Mapping[str, Ref]
    bounds: Box
    block: ZYX
    description: Mapping[str, Any]
    key: str


@dataclass(frozen=True)
class Workflow:
    """A parsed workflow: steps in an order in which each comes after what it reads.

    ``skipped`` names the steps that the bounds leave nothing to do, with the reason.
    """

    name: str
    file: Path
    shape: ZYX
    voxel_size_nm: NM
    sources: Mapping[str, Source]
    steps: tuple[Step, ...]
    skipped: Mapping[str, str]
    text: str
