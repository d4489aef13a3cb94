"""Synapses as a webKnossos NML file: one tree of three nodes (pre, cleft, post) for each synapse.

A node stands in the voxel that its place lies in, because webKnossos counts whole voxels: reading back gives the
voxel's centre, at most half a voxel off. Comments name the roles of the nodes; all other columns of the table are
metadata of the tree. Trees and nodes are numbered from 1, since webKnossos' numbers have 32 bits and ids of
synapses 64; the id is metadata, too. NML counts x, y, z.
Format: https://docs.webknossos.org/webknossos/data/concepts.html#nml-files
"""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from bouton.errors import DataError
from bouton.geometry import NM, to_xyz
from bouton.volume.files import write_pieces
from bouton.volume.synapse_columns import POSITION_COLUMNS, place_nm
from bouton.volume.voxel_size import as_nm

ROLES = ("pre", "cleft", "post")
MISSING = "missing"
_ROWS_A_PIECE = 10_000
_MOST = 2**31 - 1
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_synapse_nml(
    path: str | Path,
    table: Mapping[str, np.ndarray],
    voxel_size_nm: NM,
    groups: str | None = None,
    name: str = "synapses",
) -> None:
    """Write synapses as trees of three nodes, piece by piece; the file is there whole or not at all.

    Parameters
    ----------
    path : path
        The ``.nml`` file.
    table : mapping of column name -> 1-D array
        ``id``, uint64, and the nine positions ``z_nm`` ... ``post_x_nm``. A place of pre or post that is nan is left
        out, which the tree's metadata say; that of the cleft must be known. Every other column becomes metadata;
        ``score`` and ``type``, and a column ``comment`` where there is one, also stand in the comment of the cleft.
    voxel_size_nm : (z, y, x)
    groups : str, optional
        Column whose values become groups of trees, in their sorted order, each of one colour.
    name : str
        Name of the data set in the file.

    Raises
    ------
    DataError
        There is no such column, no id, or a place that is no voxel.
    """
    path = Path(path)
    size = as_nm(voxel_size_nm, str(path))
    _check_columns(table, groups, path)
    voxels = {role: _voxels(table, role, size, path) for role in ROLES}
    known = np.stack([~np.isnan(voxels[role][:, 0]) for role in ROLES], axis=1)
    names, group = _groups(table, groups)
    colours = [_colour(number) for number in range(max(1, len(names)))]
    write_pieces(path, _file(table, (voxels, known), (names, group, colours), (size, name)))


def _check_columns(table: Mapping[str, np.ndarray], groups: str | None, path: Path) -> None:
    missing = [name for name in ("id", "z_nm", "y_nm", "x_nm", *([groups] if groups else [])) if name not in table]
    if missing:
        raise DataError(f"no column {missing[0]}", where=str(path), expected=f"one of {', '.join(table)}")
    if 3 * len(table["id"]) > _MOST:
        raise DataError(f"{len(table['id']):,} synapses", where=str(path), expected=f"at most {_MOST // 3:,} in a file")


def _voxels(table: Mapping[str, np.ndarray], role: str, size: NM, path: Path) -> np.ndarray:
    """Return the voxel of each place, float64 (n, 3) of whole numbers, z, y, x; nan where it is not known."""
    voxels = np.floor(place_nm(table, role) / np.array(size))
    strange = (np.abs(voxels) > _MOST) | np.isinf(voxels)
    lost = np.isnan(voxels).any(axis=1)
    if role == "cleft":
        strange |= lost[:, None]
    voxels[lost] = np.nan
    if strange.any():
        row = int(np.flatnonzero(strange.any(axis=1))[0])
        raise DataError(
            f"synapse {table['id'][row]} without a place of its {role}", where=str(path),
            expected="z_nm, y_nm and x_nm that are numbers",
        )  # fmt: skip
    return voxels


def _groups(table: Mapping[str, np.ndarray], groups: str | None) -> tuple[list[str], np.ndarray]:
    """Return the names of the groups and the number of each row's group, from 0."""
    if groups is None:
        return [], np.zeros(len(table["id"]), dtype=np.int64)
    names, number = np.unique(np.array([str(value) for value in table[groups]], dtype=object), return_inverse=True)
    return names.tolist(), number


def _colour(number: int) -> str:
    # Steps of the golden ratio around the circle of hues keep neighbours apart, however many there are.
    red, green, blue = colorsys.hsv_to_rgb(0.08 + number * 0.618 % 1.0, 0.85, 1.0)
    return f'color.r="{red:.3f}" color.g="{green:.3f}" color.b="{blue:.3f}" color.a="1.0"'


def _file(table: Mapping[str, np.ndarray], places: tuple, groups: tuple, head: tuple[NM, str]) -> Iterator[bytes]:
    rows = len(table["id"])
    starts = range(0, rows, _ROWS_A_PIECE)
    yield _head(*head, places[0]["cleft"][:1]).encode()
    for start in starts:
        yield _trees(table, places, groups, slice(start, start + _ROWS_A_PIECE)).encode()
    yield b"<branchpoints></branchpoints>\n<comments>\n"
    for start in starts:
        yield _comments(table, places[1], slice(start, start + _ROWS_A_PIECE)).encode()
    named = "".join(f'<group id="{i}" name={_quoted(each)}></group>' for i, each in enumerate(groups[0], start=1))
    yield f"</comments>\n<groups>{named}</groups>\n</things>\n".encode()


def _head(size: NM, name: str, first: np.ndarray) -> str:
    x, y, z = (f"{value:.10g}" for value in to_xyz(size))
    place = to_xyz(first[0].astype(np.int64).tolist()) if len(first) else (0, 0, 0)
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<things>\n<parameters>\n'
        f'<experiment name={_quoted(name)} description="{" ".join(ROLES)}"/>\n'
        f'<scale x="{x}" y="{y}" z="{z}" unit="nanometer"/>\n<offset x="0" y="0" z="0"/>\n<time ms="0"/>\n'
        f'<editPosition x="{place[0]}" y="{place[1]}" z="{place[2]}"/>\n<editRotation xRot="0" yRot="0" zRot="0"/>\n'
        '<zoomLevel zoom="1"/>\n</parameters>\n'
    )


def _trees(table: Mapping[str, np.ndarray], places: tuple, groups: tuple, rows: slice) -> str:
    voxels, known = places
    names, group, colours = groups
    nodes = [_nodes(voxels[role][rows], rows.start, i, known[rows, i]) for i, role in enumerate(ROLES)]
    edges = [
        "".join(f'<edge source="{first + i}" target="{first + i + 1}"/>' for i in range(2) if row[i] and row[i + 1])
        for first, row in zip(count(3 * rows.start + 1, 3), known[rows].tolist(), strict=False)
    ]
    looks = [
        f"{f'groupId={chr(34)}{number + 1}{chr(34)} ' if names else ''}{colours[number]}"
        for number in group[rows].tolist()
    ]
    lines = zip(
        count(rows.start + 1), looks, table["id"][rows].tolist(), *nodes, edges, _metadata(table, known, rows),
        strict=False,
    )  # fmt: skip
    return "".join(
        f'<thing id="{tree}" {look} name="synapse {synapse}"><nodes>{pre}{cleft}{post}</nodes>'
        f"<edges>{edge}</edges><metadata>{more}</metadata></thing>\n"
        for tree, look, synapse, pre, cleft, post, edge, more in lines
    )


def _nodes(voxels: np.ndarray, first_row: int, role: int, known: np.ndarray) -> list[str]:
    places = np.where(known[:, None], voxels, 0).astype(np.int64).tolist()
    return [
        f'<node id="{number}" radius="1" x="{place[2]}" y="{place[1]}" z="{place[0]}"/>' if there else ""
        for number, place, there in zip(count(3 * first_row + 1 + role, 3), places, known.tolist(), strict=False)
    ]


def _metadata(table: Mapping[str, np.ndarray], known: np.ndarray, rows: slice) -> list[str]:
    names = [name for name in table if name not in POSITION_COLUMNS]
    columns = [_entries(name, np.asarray(table[name][rows])) for name in names]
    lost = [
        _entry(MISSING, " ".join(role for role, there in zip(ROLES, row, strict=True) if not there), "string")
        if not all(row)
        else ""
        for row in known[rows].tolist()
    ]
    return ["".join(parts) for parts in zip(*columns, lost, strict=True)]


def _entries(name: str, values: np.ndarray) -> list[str]:
    # Numbers of webKnossos are doubles: ids would lose digits.
    if values.dtype.kind == "f":
        return [_entry(name, repr(value), "number") if np.isfinite(value) else "" for value in values.tolist()]
    if values.dtype.kind == "i":
        return [_entry(name, value, "number") for value in values.tolist()]
    return [_entry(name, value, "string") for value in values.tolist()]


def _entry(key: str, value: Any, kind: str) -> str:
    text = _quoted(str(value)) if kind == "string" else f'"{value}"'
    return f"<metadataEntry key={_quoted(key)} {kind}Value={text}/>"


def _comments(table: Mapping[str, np.ndarray], known: np.ndarray, rows: slice) -> str:
    first = 3 * rows.start + 1
    lines = []
    for more, there in zip(_remarks(table, rows), known[rows].tolist(), strict=True):
        texts = ("pre", f"cleft{more}", "post")
        lines += [f'<comment node="{first + i}" content="{texts[i]}"/>\n' for i in range(3) if there[i]]
        first += 3
    return "".join(lines)


def _remarks(table: Mapping[str, np.ndarray], rows: slice) -> Sequence[str]:
    """Return what the comments of clefts say after that word."""
    parts = [[""] * len(table["id"][rows])]
    if "score" in table:
        parts.append([f" score {value:.3g}" for value in np.asarray(table["score"][rows]).tolist()])
    parts += [[f" {_safe(str(value))}" for value in table[name][rows]] for name in ("type", "comment") if name in table]
    return ["".join(words) for words in zip(*parts, strict=True)]


def _safe(text: str) -> str:
    return escape(_NO_XML.sub("\ufffd", text), {'"': "&quot;", "\n": " "})


def _quoted(text: str) -> str:
    return quoteattr(_NO_XML.sub("\ufffd", text))
