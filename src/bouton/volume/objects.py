"""Objects in S3-compatible stores and Google Cloud Storage as paths, over TensorStore's key-value stores.

An object is written whole or not at all, is durable when the write returns, and is read as it was last written: the
stores promise that themselves. They know no folders; a "folder" is the common beginning of names. Credentials, region
and endpoint come from the environment, as every other client reads them (docs/storage.md).
"""

from __future__ import annotations

import errno
import fnmatch
import functools
import io
import os
import posixpath
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import tensorstore as ts

from bouton.errors import SpecError

SCHEMES = {"s3": "s3", "gs": "gcs"}
"""Scheme of a URL -> TensorStore's driver."""
RETRIES = {"max_retries": 8, "initial_delay": "250ms", "max_delay": "16s"}
"""A passing refusal (429, 500, 503, a lost connection) is tried again for about half a minute, then told."""
_AT_ONCE = 64
_ABSENT = b"\2"
"""The generation that TensorStore gives to a key without an object."""
_ERRNO = {
    "NOT_FOUND": errno.ENOENT,
    "PERMISSION_DENIED": errno.EACCES,
    "UNAUTHENTICATED": errno.EACCES,
    "RESOURCE_EXHAUSTED": errno.EBUSY,
}
_ENVIRONMENT = (
    "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "TENSORSTORE_GCS_HTTP_URL",
)  # fmt: skip
STORE_ERRORS = (ValueError, OSError, RuntimeError)
"""A status of TensorStore becomes one of these: UNIMPLEMENTED and INTERNAL are RuntimeErrors."""
_OUT_OF_REACH = ("ABORTED", "UNAVAILABLE", "DEADLINE_EXCEEDED", *(code for code in _ERRNO if code != "NOT_FOUND"))
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


@dataclass(frozen=True, order=True)
class ObjectPath:
    """An object, or a folder of objects, by its URL; used like a :class:`pathlib.Path`.

    Attributes
    ----------
    scheme : str
        ``s3`` or ``gs``.
    bucket : str
    key : str
        Name in the bucket, without slashes at its ends; empty for the bucket itself.
    """

    scheme: str
    bucket: str
    key: str = ""

    @classmethod
    def parse(cls, url: str) -> ObjectPath:
        """Return the path that ``s3://bucket/name`` or ``gs://bucket/name`` means.

        Raises
        ------
        SpecError
            The scheme is unknown, the bucket's name is none, or the path leaves the bucket.
        """
        scheme, _, rest = url.partition("://")
        bucket, _, key = rest.partition("/")
        parts = [part for part in key.split("/") if part not in ("", ".")]
        if scheme not in SCHEMES or not _BUCKET.fullmatch(bucket) or ".." in parts:
            raise SpecError(f"{url!r} is no place", expected="s3://BUCKET/NAME or gs://BUCKET/NAME", fix="correct it")
        return cls(scheme, bucket, "/".join(parts))

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}".rstrip("/")

    def __truediv__(self, name: str | PurePosixPath) -> ObjectPath:
        return self.joinpath(name)

    def joinpath(self, *names: str | PurePosixPath) -> ObjectPath:
        """Return the path below this one."""
        parts = [part for name in names for part in str(name).split("/") if part not in ("", ".")]
        return ObjectPath(self.scheme, self.bucket, "/".join([*([self.key] if self.key else []), *parts]))

    @property
    def name(self) -> str:
        """Last part of the key."""
        return posixpath.basename(self.key)

    @property
    def suffix(self) -> str:
        """Ending of the name, with its dot."""
        return PurePosixPath(self.name).suffix

    @property
    def stem(self) -> str:
        """Name without its ending."""
        return PurePosixPath(self.name).stem

    @property
    def parts(self) -> tuple[str, ...]:
        """Bucket and parts of the key."""
        return (f"{self.scheme}://{self.bucket}", *(part for part in self.key.split("/") if part))

    @property
    def parent(self) -> ObjectPath:
        """Folder of the object."""
        return ObjectPath(self.scheme, self.bucket, posixpath.dirname(self.key))

    def with_name(self, name: str) -> ObjectPath:
        """Return the neighbour of that name."""
        return self.parent / name

    def with_suffix(self, suffix: str) -> ObjectPath:
        """Return the neighbour with another ending."""
        return self.parent / (self.stem + suffix)

    def relative_to(self, other: ObjectPath) -> PurePosixPath:
        """Return the rest of this path below ``other``."""
        start = f"{other.key}/" if other.key else ""
        if (self.scheme, self.bucket) != (other.scheme, other.bucket) or not f"{self.key}/".startswith(start):
            raise ValueError(f"{self} is not below {other}")
        return PurePosixPath(self.key[len(start) :] or ".")

    def expanduser(self) -> ObjectPath:
        """Return the path itself: it has no home folder."""
        return self

    def resolve(self) -> ObjectPath:
        """Return the path itself: it has no links."""
        return self

    def mkdir(self, parents: bool = True, exist_ok: bool = True) -> None:
        """Do nothing: folders are parts of names."""

    def is_file(self) -> bool:
        """Whether there is such an object."""
        return bool(self.generation())

    def is_dir(self) -> bool:
        """Whether there are objects below this name; asks for all their names."""
        return bool(self._keys())

    def exists(self) -> bool:
        """Whether there is such an object or folder."""
        return self.is_file() or self.is_dir()

    def generation(self) -> str:
        """Return what changes when the object's bytes do, without reading them; empty where there is no object.

        It is S3's ETag or the generation number of Google Cloud Storage, in hexadecimal digits.
        """
        if not self.key:
            return ""
        found = _result(self, _store(self).read(self.key, byte_range=slice(0, 0)))
        return found.stamp.generation.hex() if found.state == "value" else ""

    def read_bytes(self) -> bytes:
        """Return the object's bytes."""
        return next(read_all([self]))

    def open(self, mode: str = "rb") -> io.BytesIO:
        """Return the object's bytes as a file."""
        assert mode == "rb", "objects are written whole: write_bytes, publish"
        return io.BytesIO(self.read_bytes())

    def write_bytes(self, data: bytes) -> int:
        """Write the object, in place of an older one; it is durable when this returns."""
        self._put(data)
        return len(data)

    def write_new(self, data: bytes) -> bool:
        """Write the object where there is none; return whether there was none.

        A writer whose answer was lost finds its own object when it tries again: callers compare the bytes.
        """
        # The look spares an upload in vain, and is all that a store without conditional writes gives.
        return not self.is_file() and self._put(data, if_equal=_ABSENT).generation != b""

    def keeps_conditions(self) -> bool:
        """Whether the store refuses to overwrite where a write is on the condition that nothing is there.

        This writes one object, twice, and removes it; so it also tells what else stands against writing.
        """
        self._put(b"bouton looks whether this store keeps conditions on writes; remove me")
        refused = self._put(b"other bytes", if_equal=_ABSENT).generation == b""
        self._put(None)
        return refused

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object."""
        if not missing_ok and not self.is_file():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        self._put(None)

    def remove_below(self) -> None:
        """Remove every object below this name."""
        # By name, for a store that does not heed the end of a range would lose the neighbours.
        store, waiting = _store(self), deque[Any]()
        for key in self._keys():
            waiting.append(store.write(key, None))
            if len(waiting) == _AT_ONCE:
                _result(self, waiting.popleft())
        for future in waiting:
            _result(self, future)

    def iterdir(self) -> Iterator[ObjectPath]:
        """Yield objects and folders directly below, sorted."""
        start = len(self._start())
        names = {key[start:].partition("/")[0] for key in self._keys()}
        return (self / name for name in sorted(names))

    def glob(self, pattern: str) -> Iterator[ObjectPath]:
        """Yield objects and folders directly below whose name fits a pattern."""
        return (path for path in self.iterdir() if fnmatch.fnmatchcase(path.name, pattern))

    def rglob(self, pattern: str) -> Iterator[ObjectPath]:
        """Yield all objects below whose name fits a pattern, sorted."""
        found = (ObjectPath(self.scheme, self.bucket, key) for key in sorted(self._keys()))
        return (path for path in found if fnmatch.fnmatchcase(path.name, pattern))

    def _start(self) -> str:
        return f"{self.key}/" if self.key else ""

    def _keys(self) -> list[str]:
        start = self._start()
        keys = _result(self, _store(self).list(ts.KvStore.KeyRange(start, _after(start))))
        # Not every store heeds the end of a range.
        names = (os.fsdecode(key) for key in keys if not key.endswith(b"/"))
        return [name for name in names if name.startswith(start)]

    def _put(self, data: bytes | None, if_equal: bytes | None = None) -> Any:
        return _result(self, _store(self).write(self.key, data, if_equal=if_equal))


def read_all(paths: Iterable[ObjectPath]) -> Iterator[bytes]:
    """Yield the bytes of objects in their order; many are asked for at a time, for each answer takes its time."""
    waiting: deque[tuple[ObjectPath, Any]] = deque()
    for path in paths:
        waiting.append((path, _store(path).read(path.key)))
        if len(waiting) == _AT_ONCE:
            yield _bytes_of(*waiting.popleft())
    while waiting:
        yield _bytes_of(*waiting.popleft())


def _bytes_of(path: ObjectPath, future: Any) -> bytes:
    found = _result(path, future)
    if found.state != "value":
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return bytes(found.value)


def object_store(path: ObjectPath) -> dict[str, Any]:
    """Return TensorStore's specification of the key-value store below ``path``."""
    driver = SCHEMES[path.scheme]
    spec: dict[str, Any] = {"driver": driver, "bucket": path.bucket, f"{driver}_request_retries": RETRIES}
    if driver == "s3":
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        spec |= {"aws_credentials": {"type": _credentials()}}
        # A store that is not Amazon's knows one region as a rule; a request must name some.
        spec |= {"endpoint": endpoint.rstrip("/"), "aws_region": region or "us-east-1"} if endpoint else {}
    return {**spec, "path": path._start()}


def _credentials() -> str:
    """Return which provider of credentials the environment asks for; TensorStore's default tries all in turn."""
    if os.environ.get("AWS_NO_SIGN_REQUEST", "").lower() in ("1", "true", "yes"):
        return "anonymous"
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        return "environment"
    profile = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")).expanduser()
    return "profile" if os.environ.get("AWS_PROFILE") or profile.is_file() else "default"


def _store(path: ObjectPath) -> ts.KvStore:
    """Return the store of a bucket, opened once a process for one setting of the environment."""
    settings = tuple(os.environ.get(name) for name in _ENVIRONMENT)
    return _open_bucket(ObjectPath(path.scheme, path.bucket), (*settings, _credentials(), str(RETRIES)))


@functools.lru_cache(maxsize=64)
def _open_bucket(bucket: ObjectPath, _settings: tuple[str | None, ...]) -> ts.KvStore:
    set_transport()
    return _result(bucket, ts.KvStore.open(object_store(bucket)))


def set_transport() -> None:
    """Set what TensorStore reads from the environment alone, where the user has not.

    Conditional writes are off by default outside of Amazon; an answer that stalls is otherwise waited for without end.
    """
    os.environ.setdefault("TENSORSTORE_S3_USE_CONDITIONAL_WRITE", "true")
    os.environ.setdefault("TENSORSTORE_CURL_LOW_SPEED_TIME_SECONDS", "60")
    os.environ.setdefault("TENSORSTORE_CURL_LOW_SPEED_LIMIT_BYTES", "1")


def _result(path: ObjectPath, future: Any) -> Any:
    """Wait for a store's answer; its refusals become operating-system errors, as a disk's are."""
    try:
        return future.result()
    except STORE_ERRORS as error:
        raise store_error(path, error) from error


def is_out_of_reach(error: Exception) -> bool:
    """Whether an error of TensorStore is about the way to a store and not about what lies there."""
    return str(error).partition(":")[0] in _OUT_OF_REACH


def store_error(path: ObjectPath, error: Exception) -> OSError:
    """Return the OSError that tells what a store said."""
    code, _, text = re.sub(r"\s*\[[\w-]+='.*", "", str(error), flags=re.DOTALL).partition(": ")
    number = errno.EIO if "NoSuchBucket" in text else _ERRNO.get(code, errno.EIO)
    return OSError(number, f"the store says: {text or code}"[:300], str(path))


def _after(start: str) -> str:
    """Return the first name after all that begin with ``start``."""
    return start[:-1] + chr(ord(start[-1]) + 1) if start else ""
