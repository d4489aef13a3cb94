"""YAML without surprises: no aliases, no duplicate keys, no huge files, and the line of every key."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml

from bouton.errors import SpecError

LARGEST_BYTES = 1 << 18
DEEPEST = 40
Keys = tuple[str, ...]
V = TypeVar("V")


@dataclass(frozen=True)
class Document:
    """A parsed file: plain dicts, lists and scalars, the line on which each key stands, and what ``--set`` set.

    ``part`` is what the tree was made for where it is not the file as it stands, such as ``dataset cortex``.
    """

    file: Path
    tree: Any
    lines: Mapping[Keys, int]
    overrides: Mapping[Keys, str] = field(default_factory=dict)
    part: str = ""

    def at(self, *keys: Any) -> str:
        """Return ``file:line`` of a key or of its nearest parent that the file holds, or the ``--set`` that set it."""
        return self._place(*keys) + (f", {self.part}" if self.part else "")

    def _place(self, *keys: Any) -> str:
        path = tuple(str(key) for key in keys)
        for place, override in self.overrides.items():
            if place == path[: len(place)]:
                return f"{self.file} with --set {override}"
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return f"{self.file}:{self.lines[path[:length]]}"
            for place, override in self.overrides.items():
                if place[:length] == path[:length]:
                    return f"{self.file} with --set {override}"
        return str(self.file)

    def text(self) -> str:
        """Return the tree as YAML."""
        return yaml.safe_dump(self.tree, sort_keys=False)

    def with_overrides(self, overrides: Sequence[str]) -> Document:
        """Return the document with each ``a.b.c=value`` set; the value is YAML.

        Raises
        ------
        SpecError
            An override has no ``=``, or leads through something that is no mapping.
        """
        tree, done = self.tree, dict(self.overrides)
        for override in overrides:
            path, equals, value = override.partition("=")
            if not equals or not path:
                raise SpecError(
                    f"--set {override!r}", expected="PATH=VALUE", fix="such as --set steps.fragments.params.low=0.05"
                )
            tree = _replaced(tree, path.split("."), _parse(value, Path(f"--set {path}"))[0], f"--set {override!r}")
            done[tuple(path.split("."))] = override
        return replace(self, tree=tree, overrides=done)

    def with_moved(self, source: Keys, target: Keys, value: Any) -> Document:
        """Return the document with ``target`` set to a value that stands at ``source``, where errors find it, too.

        Raises
        ------
        SpecError
            ``target`` leads through something that is no mapping.
        """

        def as_target(places: Mapping[Keys, V]) -> dict[Keys, V]:
            length = len(source)
            return {target + place[length:]: found for place, found in places.items() if place[:length] == source}

        tree = _replaced(self.tree, target, value, repr(".".join(target)), self.at(*source))
        lines = {**self.lines, **as_target(self.lines)}
        # Mappings on the way that stand nowhere in the file are there because of this value.
        lines |= {
            target[:n]: lines[target] for n in range(1, len(target)) if target in lines and target[:n] not in lines
        }
        return replace(self, tree=tree, lines=lines, overrides={**self.overrides, **as_target(self.overrides)})


def read_document(path: Path) -> Document:
    """Read one YAML file.

    Raises
    ------
    SpecError
        The file is missing, too large, no YAML, or uses aliases, duplicate keys or tabs.
    """
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise SpecError(
                f"{path.stat().st_size:,} bytes", where=str(path), expected=f"at most {LARGEST_BYTES:,}",
                fix="give the workflow file, not the data",
            )  # fmt: skip
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SpecError(
            f"cannot read it: {reason}", where=str(path), expected="a YAML file", fix="check the path"
        ) from None
    tree, lines = _parse(text, path)
    if not isinstance(tree, dict):
        raise SpecError(
            "no mapping at the top level", where=str(path), expected="keys and values like name: demo",
            fix="start from one of the example files in workflows/",
        )  # fmt: skip
    return Document(path, tree, lines)


def unknown(found: str, word: str, known: Iterable[str], where: str = "") -> SpecError:
    """Return the error of a word that is none of the known ones; it lists these and proposes the nearest."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    fix = f"did you mean {close[0]!r}?" if close else "name one of these, or leave it out"
    return SpecError(found, where=where, expected=f"one of {', '.join(names) or 'nothing'}", fix=fix)


def _parse(text: str, file: Path) -> tuple[Any, dict[Keys, int]]:
    try:
        _check_events(text, file)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        lines: dict[Keys, int] = {}
        if node is not None:
            _note_lines(node, (), lines, file)
        return _construct(text, file), lines
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}:{mark.line + 1}" if mark else str(file)
        problem = getattr(error, "problem", None) or str(error)
        raise SpecError(
            f"no valid YAML: {problem}", where=where, expected="YAML (spaces, no tabs)", fix="mend that line"
        ) from None


def _construct(text: str, file: Path) -> Any:
    try:
        return yaml.safe_load(text)
    except ValueError as error:
        # YAML reads 2020-13-45 as a date.
        raise SpecError(
            f"a value that is no date or number: {error}", where=str(file), expected="YAML", fix="put it in quotes"
        ) from None


def _check_events(text: str, file: Path) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        where = f"{file}:{event.start_mark.line + 1}"
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            raise SpecError("a YAML alias", where=where, expected="values written out", fix="drop & and *")
        if depth > DEEPEST:
            raise SpecError(f"nested more than {DEEPEST} deep", where=where, expected="a workflow", fix="write it flat")


def _note_lines(node: yaml.Node, path: Keys, lines: dict[Keys, int], file: Path) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        here = (*path, str(key.value))
        if here in lines:
            raise SpecError(
                f"key {key.value!r} twice", where=f"{file}:{key.start_mark.line + 1}", expected="every key once",
                fix=f"rename or remove it (the first stands on line {lines[here]})",
            )  # fmt: skip
        lines[here] = key.start_mark.line + 1
        _note_lines(value, here, lines, file)


def _replaced(tree: Any, keys: Sequence[str], value: Any, told: str, where: str = "") -> Any:
    if not keys:
        return value
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise SpecError(
            f"{told} leads through {tree!r}", where=where, expected="a path of mapping keys",
            fix="such as steps.fragments.params.low",
        )  # fmt: skip
    return {**tree, keys[0]: _replaced(tree.get(keys[0]), keys[1:], value, told, where)}
