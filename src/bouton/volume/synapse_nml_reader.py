"""Synapses from a webKnossos NML file: trees of three nodes, written by bouton or placed by hand.

Comments name the roles of a tree's nodes: their first word is pre (presynaptic), cleft or post (postsynaptic). Where
they do not, the node with two neighbours is the cleft, and of the two others the one that comes first in the file is
the pre. Trees without nodes, which webKnossos makes by itself, count for nothing.
"""

from __future__ import annotations

import zipfile
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

import numpy as np

from bouton.errors import DataError
from bouton.geometry import NM, to_zyx
from bouton.volume.files import disk_errors
from bouton.volume.synapse_columns import CENTRE_COLUMNS, POST_COLUMNS, PRE_COLUMNS, TYPES, UNKNOWN
from bouton.volume.synapse_nml import MISSING, ROLES
from bouton.volume.tables import TableData
from bouton.volume.voxel_size import as_nm, nm_per_unit, settle_voxel_size

_WORDS = {"pre": 0, "presynaptic": 0, "cleft": 1, "post": 2, "postsynaptic": 2}
_NUMBERS = {"id": "Q", "pre_id": "Q", "post_id": "Q", "size_voxels": "q", "score": "d"}
_TEXTS = ("type", "target", MISSING)
_NONE = {"id": 0, "pre_id": 0, "post_id": 0, "size_voxels": 0, "score": 1.0}
_VALUES = ("stringValue", "numberValue")


def read_synapse_nml(path: str | Path, voxel_size_nm: NM | None = None) -> TableData:
    """Read synapses as bouton or people in webKnossos wrote them.

    Parameters
    ----------
    path : path
        ``.nml``, or the ``.zip`` that webKnossos gives with one inside.
    voxel_size_nm : (z, y, x), optional
        What the file's ``scale`` must say.

    Returns
    -------
    dict of str -> numpy.ndarray
        ``SYNAPSE_COLUMNS``, and ``group``, the name of the innermost group of each tree, "" where it is in none.
        A place is its voxel's centre. ``id`` is that of the metadata, else the tree's; ``type`` is that of the
        metadata, else the name of the group where that is a type.

    Raises
    ------
    DataError
        The file is damaged, of another voxel size, or a tree is no synapse.
    """
    return read_nml(path, voxel_size_nm)[0]


def read_nml(path: str | Path, voxel_size_nm: NM | None = None) -> tuple[TableData, list[str]]:
    """Return what :func:`read_synapse_nml` does, and the names of the metadata that are left out."""
    path = Path(path)
    found = _parsed(path)
    size = settle_voxel_size(found.size, voxel_size_nm, str(path))
    if size is None:
        raise DataError("no scale", where=str(path), expected="a webKnossos skeleton with <scale>")
    places = (_places(found, path) + 0.5) * np.array(size)
    table: TableData = {"id": np.where(found.numbered, found.column("id"), np.array(found.trees, dtype=np.uint64))}
    for names, role in ((CENTRE_COLUMNS, 1), (PRE_COLUMNS, 0), (POST_COLUMNS, 2)):
        table |= {name: places[:, role, axis] for axis, name in enumerate(names)}
    table |= {name: found.column(name) for name in ("pre_id", "post_id", "size_voxels", "score")}
    table |= {name: np.array(found.texts[name], dtype=object) for name in ("type", "target")}
    table["group"] = np.array([found.groups.get(number, "") for number in found.in_group], dtype=object)
    by_group = (table["type"] == "") & np.isin(table["group"], TYPES)
    table["type"] = np.where(by_group, table["group"], table["type"])
    for name in ("type", "target"):
        table[name][table[name] == ""] = UNKNOWN
    return table, [key for key in found.keys if key not in (*found.texts, *found.numbers)]


@dataclass
class _Found:
    """What a file holds, in compact arrays: files of a million trees are read."""

    size: NM | None = None
    trees: list[int] = field(default_factory=list)
    in_group: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    nodes: array = field(default_factory=lambda: array("q"))
    degrees: array = field(default_factory=lambda: array("q"))
    xyz: array = field(default_factory=lambda: array("d"))
    numbers: dict[str, array] = field(default_factory=lambda: {name: array(kind) for name, kind in _NUMBERS.items()})
    numbered: list[bool] = field(default_factory=list)
    texts: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in _TEXTS})
    said: array = field(default_factory=lambda: array("q"))
    roles: array = field(default_factory=lambda: array("q"))
    groups: dict[int, str] = field(default_factory=dict)
    keys: dict[str, None] = field(default_factory=dict)

    def column(self, name: str) -> np.ndarray:
        """Return a column of numbers from the metadata."""
        return np.array(self.numbers[name], dtype={"Q": np.uint64, "q": np.int64, "d": np.float64}[_NUMBERS[name]])


def _parsed(path: Path) -> _Found:
    found = _Found()
    with _opened(path) as file:
        try:
            for element in _elements(file):
                _take(element, found, path)
        except (ElementTree.ParseError, KeyError, ValueError, OverflowError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(
                f"damaged or no NML ({reason})", where=str(path), expected="a webKnossos skeleton"
            ) from None
    return found


def _opened(path: Path) -> IO[bytes]:
    with disk_errors(path):
        if path.suffix != ".zip":
            return path.open("rb")
        try:
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name.endswith(".nml")]
                if len(names) != 1:
                    raise DataError(f"{len(names)} NML files in the zip", where=str(path), expected="one")
                return BytesIO(archive.read(names[0]))
        except zipfile.BadZipFile as error:
            raise DataError(f"damaged zip ({error})", where=str(path), expected="a download of webKnossos") from None


def _elements(file: IO[bytes]) -> Iterator[ElementTree.Element]:
    """Yield the finished elements that matter, and forget trees and comments afterwards."""
    above: list[ElementTree.Element] = []
    for event, element in ElementTree.iterparse(file, events=("start", "end")):
        if event == "start":
            above.append(element)
            continue
        above.pop()
        if element.tag in ("scale", "thing", "comment", "group"):
            yield element
        if element.tag in ("thing", "comment") and above:
            above[-1].clear()


def _take(element: ElementTree.Element, found: _Found, path: Path) -> None:
    if element.tag == "thing":
        _take_tree(element, found, path)
    elif element.tag == "comment":
        words = element.attrib["content"].replace(":", " ").replace(",", " ").split()
        if words and words[0].lower() in _WORDS:
            found.said.append(int(element.attrib["node"]))
            found.roles.append(_WORDS[words[0].lower()])
    elif element.tag == "group":
        found.groups[int(element.attrib["id"])] = element.get("name", "")
    elif found.size is None:
        unit = nm_per_unit(element.get("unit"), str(path))
        found.size = as_nm(to_zyx([float(element.attrib[axis]) * unit for axis in "xyz"]), str(path))


def _take_tree(thing: ElementTree.Element, found: _Found, path: Path) -> None:
    nodes = {int(node.attrib["id"]): node for node in thing.iter("node")}
    if not nodes:
        return
    degrees = dict.fromkeys(nodes, 0)
    for edge in thing.iter("edge"):
        for end in ("source", "target"):
            degrees[int(edge.attrib[end])] += 1
    found.trees.append(int(thing.attrib["id"]))
    found.in_group.append(int(thing.get("groupId") or -1))
    found.counts.append(len(nodes))
    found.nodes.extend(nodes)
    found.degrees.extend(degrees.values())
    for node in nodes.values():
        found.xyz.extend(float(node.attrib[axis]) for axis in "xyz")
    entries = {each.attrib["key"]: _value(each) for each in thing.iter("metadataEntry")}
    found.keys |= dict.fromkeys(entries)
    found.numbered.append(bool(entries.get("id")))
    for name, column in found.numbers.items():
        column.append(_number(entries.get(name), name, f"{path}, {_tree_name(thing)}"))
    for name, texts in found.texts.items():
        texts.append(entries.get(name) or "")


def _value(entry: ElementTree.Element) -> str | None:
    return next((entry.attrib[kind] for kind in _VALUES if kind in entry.attrib), None)


def _tree_name(thing: ElementTree.Element) -> str:
    return f"tree {thing.attrib['id']} {thing.get('name', '')!r}"


def _number(text: str | None, name: str, where: str) -> int | float:
    if text is None:
        return _NONE[name]
    try:
        value = float(text) if name == "score" else int(text)
        array(_NUMBERS[name], [value])
    except (ValueError, OverflowError):
        raise DataError(f"{name} {text!r} in the metadata", where=where, expected="a number") from None
    return value


def _places(found: _Found, path: Path) -> np.ndarray:
    """Return float64 (trees, role, 3), voxels z, y, x; nan where a place is left out."""
    counts = np.array(found.counts, dtype=np.int64)
    starts = np.cumsum(counts) - counts
    roles = _roles_said(found, path)
    wanted = np.array([3 - len(text.split()) for text in found.texts[MISSING]], dtype=np.int64)
    odd = np.flatnonzero(counts != wanted)
    if len(odd):
        more = f", and {len(odd) - 1} more such trees" if len(odd) > 1 else ""
        raise DataError(
            f"a tree of {counts[odd[0]]} node(s){more}", where=f"{path}, tree {found.trees[odd[0]]}",
            expected="three nodes: pre, cleft, post", fix="correct or delete it in webKnossos",
        )  # fmt: skip
    places = np.full((len(counts), 3, 3), np.nan)
    tree = np.repeat(np.arange(len(counts)), counts)
    seen = np.zeros((len(counts), 4), dtype=np.int64)
    np.add.at(seen, (tree, roles), 1)
    for row in np.flatnonzero((seen[:, 3] > 0) | (seen[:, :3] > 1).any(axis=1)).tolist():
        part = slice(starts[row], starts[row] + counts[row])
        where = f"{path}, tree {found.trees[row]}"
        roles[part] = _guessed(roles[part].tolist(), found.degrees[part], where)
    xyz = np.array(found.xyz).reshape(-1, 3)
    places[tree, roles] = np.stack(to_zyx([xyz[:, axis] for axis in range(3)]), axis=1)
    if not np.isfinite(xyz).all():
        raise DataError("a place that is no number", where=str(path), expected="voxels")
    return places


def _roles_said(found: _Found, path: Path) -> np.ndarray:
    """Return the role of each node by its comment: 0 pre, 1 cleft, 2 post, 3 not said."""
    nodes = np.array(found.nodes, dtype=np.int64)
    order = np.argsort(nodes, kind="stable")
    twice = np.flatnonzero(np.diff(nodes[order]) == 0)
    if len(twice):
        raise DataError(
            f"two nodes {nodes[order][twice[0]]}", where=str(path), expected="numbers that are unique in the file"
        )
    roles = np.full(len(nodes), 3, dtype=np.int64)
    said = np.array(found.said, dtype=np.int64)
    at = np.searchsorted(nodes, said, sorter=order)
    there = at < len(nodes)
    there[there] = nodes[order[at[there]]] == said[there]
    roles[order[at[there]]] = np.array(found.roles, dtype=np.int64)[there]
    return roles


def _guessed(roles: list[int], degrees: Sequence[int], where: str) -> list[int]:
    """Return the roles of a tree's nodes where comments do not say all of them."""
    told = [role for role in roles if role < 3]
    if len(set(told)) < len(told):
        names = ", ".join(ROLES[role] for role in told)
        raise DataError(f"comments {names}", where=where, expected="each of pre, cleft and post once")
    if len(roles) < 3:
        raise DataError(
            "nodes without comments", where=where, expected="pre, cleft or post at every node of such trees"
        )
    if 1 not in told:
        middle = [i for i, degree in enumerate(degrees) if degree == 2 and roles[i] == 3]
        if len(middle) != 1:
            raise DataError(
                "no comment tells which node is the cleft, and no node lies between the two others", where=where,
                expected="edges pre-cleft and cleft-post", fix="comment the nodes pre, cleft and post",
            )  # fmt: skip
        roles[middle[0]] = 1
    left = iter([role for role in range(3) if role not in roles])
    return [next(left) if role == 3 else role for role in roles]
