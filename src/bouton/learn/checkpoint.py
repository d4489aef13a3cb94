"""A training's state as the bytes of one file: tensors, a record of plain values, and a digest of both.

The file is safetensors. Key ``bouton_checkpoint`` of its metadata is JSON: ``{"record": {...}, "digest": "..."}``. The
digest (BLAKE2b) tells a file that was cut short or changed from a whole one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from bouton.errors import DataError

KEY = "bouton_checkpoint"


def pack_checkpoint(tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> bytes:
    """Return the bytes of a checkpoint.

    Parameters
    ----------
    tensors : mapping of str -> Tensor
        Contiguous, on the processor.
    record : mapping
        What JSON can hold.
    """
    text = json.dumps(record, sort_keys=True)
    body = _body(save(dict(tensors)))
    return save(dict(tensors), {KEY: json.dumps({"record": text, "digest": _digest(body, text)})})


def unpack_checkpoint(data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the record of a checkpoint.

    Raises
    ------
    DataError
        It is none, was cut short or changed.
    """
    try:
        tensors = load(data)
        found = json.loads(json.loads(data[8 : 8 + _header_bytes(data)])["__metadata__"][KEY])
        whole = _digest(_body(data), found["record"]) == found["digest"]
        record = json.loads(found["record"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0][:100]
        raise DataError(f"no checkpoint of bouton, or a damaged one ({type(error).__name__}: {reason})") from None
    if not whole:
        raise DataError("a damaged checkpoint: it has changed since it was written")
    return tensors, record


def _header_bytes(data: bytes) -> int:
    return int.from_bytes(data[:8], "little")


def _body(data: bytes) -> bytes:
    return data[8 + _header_bytes(data) :]


def _digest(body: bytes, text: str) -> str:
    total = hashlib.blake2b(body, digest_size=32)
    total.update(text.encode())
    return total.hexdigest()
