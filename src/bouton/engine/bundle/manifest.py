"""``bundle.json``: what a bundle says of its run, in strict types: whoever wrote it may be a stranger."""

from __future__ import annotations

import json
import math
from typing import Any, Literal

import pydantic

from bouton.engine.bundle.archive import Archive, is_safe_name
from bouton.errors import DataError

FORMAT = "bouton-bundle/1"
NAME = "bundle.json"
WORKFLOW = "workflow.yaml"
README = "README.md"
CRATE = "ro-crate-metadata.json"
LARGEST_BYTES = 16 << 20


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=False)


class Entry(_Strict):
    """Size and SHA-256 of a file of the bundle."""

    bytes: int = pydantic.Field(ge=0)
    sha256: str = pydantic.Field(pattern=r"^[0-9a-f]{64}$")


class SourceRecord(_Strict):
    """A data source.

    Attributes
    ----------
    path : str
        Where it lay.
    fingerprint : str
        As the run saw it: names, sizes, times of its files.
    state : str
        When it was exported: ``same`` as the run saw it; ``changed``; ``missing``.
    content : str
        BLAKE2b of names and contents of all files (:func:`bouton.volume.checksum`); empty where it was not read whole.
    sample : str
        BLAKE2b of names, sizes and of pieces spread over the files (:func:`bouton.engine.bundle.sources.sample`).
    """

    path: str
    dataset: str | None
    offset_zyx: tuple[int, int, int]
    is_table: bool
    voxel_size_nm: tuple[float, float, float] | None
    obtain: str = ""
    fingerprint: str
    state: Literal["same", "changed", "missing"]
    bytes: int = 0
    files: int = 0
    content: str = ""
    sample: str = ""


class StepRecord(_Strict):
    """A step.

    Attributes
    ----------
    stage : str
        Name of a stage, or the place of a private stage's file in the bundle.
    code : str
        Hash of a private stage's file, as in the step's key.
    files : list of str
        Hashes of what else determines the result: the model.
    model : str
        The model it names, if any; ``model_folder`` is the place of its card (and weights) in the bundle.
    listing : str
        The place of the list of its files, ``files_count`` of them.
    """

    name: str
    stage: str
    version: int
    code: str
    key: str
    params: dict[str, Any]
    reads: dict[str, str]
    files: list[str]
    model: str = ""
    model_folder: str = ""
    model_is_whole: bool = False
    bounds_zyx: str
    block_zyx: tuple[int, int, int]
    state: str
    outputs: dict[str, str]
    tasks: int
    done: int
    failed: int
    blocked: int
    seconds: float
    peak_bytes: int
    size_bytes: int
    listing: str = ""
    files_count: int = 0


class Manifest(_Strict):
    """A bundle. ``files`` are its files but this one and the crate's metadata."""

    format: str
    run: str
    bouton: str
    description: str
    shape_zyx: tuple[int, int, int]
    voxel_size_nm: tuple[float, float, float]
    state: str
    started: str
    finished: str | None
    command: str
    skipped: dict[str, str]
    environment_of: Literal["run", "export"]
    environments: list[dict[str, dict[str, str]]]
    sources: dict[str, SourceRecord]
    steps: list[StepRecord]
    files: dict[str, Entry]

    @property
    def stage_files(self) -> list[str]:
        """The private stages' files: code that a repetition runs."""
        return sorted({step.stage for step in self.steps if step.stage.endswith(".py")})


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return ``bundle.json``."""
    return json.dumps(manifest.model_dump(mode="json"), indent=1, sort_keys=True).encode()


def read_manifest(archive: Archive) -> Manifest:
    """Read and check ``bundle.json``.

    Raises
    ------
    DataError
        The archive is no bundle, one of another format, or not as bouton writes them.
    """
    if NAME not in archive.entries:
        raise _not_ours(archive, f"no {NAME} in it")
    try:
        values = json.loads(archive.read(NAME, LARGEST_BYTES))
    except (ValueError, RecursionError) as error:
        raise _not_ours(archive, f"{NAME} is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise _not_ours(archive, f"{NAME} holds no mapping")
    if values.get("format") != FORMAT:
        raise DataError(
            f"format {str(values.get('format'))[:50]!r}", where=f"{archive.path}: {NAME}", expected=FORMAT,
            fix="use the version of bouton that wrote it, or export the run again",
        )  # fmt: skip
    if not _is_plain(values):
        raise _not_ours(archive, f"{NAME} holds control characters")
    try:
        manifest = Manifest.model_validate(values)
    except (pydantic.ValidationError, RecursionError) as error:
        raise _not_ours(archive, _first(error)) from error
    wrong = _what_is_wrong(manifest)
    if wrong:
        raise _not_ours(archive, wrong)
    return manifest


def _is_plain(value: Any) -> bool:
    """Return whether all texts can be shown on a terminal: none of them steers it."""
    if isinstance(value, str):
        return all(char >= " " and not "\x7f" <= char <= "\x9f" for char in value if char not in "\n\t")
    if isinstance(value, dict):
        return all(_is_plain(key) and _is_plain(each) for key, each in value.items())
    return not isinstance(value, list) or all(map(_is_plain, value))


def _what_is_wrong(manifest: Manifest) -> str:
    """Return what no export writes: names that are paths, files that are not named, numbers that are none."""
    names = [manifest.run, *manifest.sources, *(step.name for step in manifest.steps)]
    bad = [name for name in names if not is_safe_name(name) or "/" in name or name.startswith(".")]
    folders = [step.model_folder for step in manifest.steps if step.model_folder]
    bad += [name for name in [*manifest.files, *folders] if not is_safe_name(name)]
    if bad:
        return f"name {bad[0][:100]!r}"
    needed = [WORKFLOW, *manifest.stage_files, *(step.listing for step in manifest.steps if step.listing)]
    lost = [name for name in needed if name not in manifest.files]
    if lost:
        return f"{lost[0][:100]!r} is not among its files"
    if len({step.name for step in manifest.steps}) < len(manifest.steps):
        return "a step stands there twice"
    if not all(math.isfinite(size) and size > 0 for size in manifest.voxel_size_nm):
        return f"voxel size {manifest.voxel_size_nm} nm"
    return ""


def _first(error: pydantic.ValidationError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return f"{NAME} is nested too deep"
    first = error.errors(include_input=False, include_url=False)[0]
    return f"{NAME}, {'.'.join(str(key) for key in first['loc'])[:100]}: {first['msg']}"


def _not_ours(archive: Archive, found: str) -> DataError:
    return DataError(
        found, where=str(archive.path), expected="a bundle that bouton export-run wrote",
        fix="have it copied or exported again",
    )  # fmt: skip
