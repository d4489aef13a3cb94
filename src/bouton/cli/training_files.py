"""The checkpoint of a training on disk: two generations, each durable, so that one that is lost costs little."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from bouton.errors import DataError
from bouton.learn.checkpoint import unpack_checkpoint
from bouton.volume import write_bytes
from bouton.volume.files import disk_errors, sync_folder

LATEST, PREVIOUS, NEXT = "checkpoint.safetensors", "checkpoint.previous.safetensors", "checkpoint.next.safetensors"


def save_checkpoint(folder: Path, data: bytes) -> None:
    """Write a checkpoint; the one before is kept as ``checkpoint.previous.safetensors``.

    Raises
    ------
    DataError
        The disk is full or refuses; the checkpoints that were there stay.
    """
    latest, new = folder / LATEST, folder / NEXT
    write_bytes(new, data)
    with disk_errors(latest):
        if latest.exists():
            latest.replace(folder / PREVIOUS)
        new.replace(latest)
        sync_folder(folder)


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any], str] | None:
    """Return tensors, record and a remark of the last whole checkpoint; None where there never was one.

    The remark says that the last one is damaged and the one before it is used; it is empty otherwise.

    Raises
    ------
    DataError
        There are checkpoints, but no whole one.
    """
    problems = []
    for name in (LATEST, PREVIOUS):
        path = folder / name
        if not path.exists():
            continue
        try:
            with disk_errors(path):
                data = path.read_bytes()
            tensors, record = unpack_checkpoint(data)
        except DataError as error:
            problems.append(f"{name}: {error.found}")
            continue
        remark = f"{problems[0]}; going on from the one before it" if problems else ""
        return tensors, record, remark
    if not problems:
        return None
    raise DataError(
        f"cannot resume ({'; '.join(problems)})", where=str(folder), expected="a whole checkpoint",
        fix="delete the checkpoint files to start anew",
    )  # fmt: skip
