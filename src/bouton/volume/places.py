"""Places: where data lies, on a file system or in an object store, by what a user writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bouton.volume.objects import SCHEMES, ObjectPath, object_store, set_transport

Place = Path | ObjectPath
"""A file or folder, or objects: what reads and writes in :mod:`bouton.volume` takes either."""


def place(text: str | Place) -> Place:
    """Return the place that ``s3://bucket/name``, ``gs://bucket/name``, ``file:///folder`` or a path means.

    Raises
    ------
    SpecError
        Another scheme, or no name of a bucket.
    """
    if isinstance(text, ObjectPath):
        return text
    if isinstance(text, str) and text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    if isinstance(text, str) and "://" in text:
        return ObjectPath.parse(text)
    scheme, *rest = text.parts if isinstance(text, Path) and text.parts else ("",)
    if scheme.rstrip(":") in SCHEMES and scheme.endswith(":"):
        # A path on a command line loses the second slash.
        return ObjectPath.parse(f"{scheme}//{'/'.join(rest)}")
    return Path(text)


def place_in(folder: Path, text: str) -> Place:
    """Return the place that a file in ``folder`` means by ``text``: a URL, or a path, relative to the folder."""
    return place(text) if "://" in text else folder / text


def kvstore(folder: Place) -> dict[str, Any]:
    """Return TensorStore's specification of the key-value store whose keys are the names below ``folder``."""
    if isinstance(folder, ObjectPath):
        set_transport()
        return object_store(folder)
    return {"driver": "file", "path": f"{folder}/"}


def name_below(folder: Place, file: Place) -> str:
    """Return the name of ``file`` below ``folder``, its parts joined by slashes."""
    if isinstance(folder, ObjectPath):
        assert isinstance(file, ObjectPath)
        return file.relative_to(folder).as_posix()
    assert isinstance(file, Path)
    return file.relative_to(folder).as_posix()
