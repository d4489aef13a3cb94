"""Skeletons from files: SWC, webKnossos NML, and Parquet tables, as one table of nodes.

SWC is text, a node a line: number, type, x, y, z, radius, parent (-1 for a root), in a unit that the file does not say.
A file holds one skeleton; its id is the file's name where that is a number, else its place in the list of files from 1.
NML is XML, by webKnossos: trees (``thing``) of nodes in voxels, with the voxel size; a node at voxel p stands for the
voxel's centre, (p + 0.5) voxels. Both speak x, y, z; the table speaks z, y, x and nm.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from bouton.errors import DataError
from bouton.geometry import to_zyx
from bouton.volume.files import disk_errors, natural_key
from bouton.volume.tables import TableData, read_table, write_table

SKELETON_COLUMNS = {
    "skeleton": "uint64",
    "node": "int64",
    "parent": "int64",
    "z_nm": "float64",
    "y_nm": "float64",
    "x_nm": "float64",
}
SUFFIXES = (".swc", ".nml", ".parquet")
_UNIT_NM = {"nanometer": 1.0, "nm": 1.0, "micrometer": 1e3, "um": 1e3, "millimeter": 1e6, "angstrom": 0.1}


def read_skeletons(paths: Sequence[str | Path], swc_unit_nm: float = 1.0) -> TableData:
    """Read skeletons of several files.

    Parameters
    ----------
    paths : sequence of path
        ``.swc``, ``.nml`` and ``.parquet`` files, and folders of them.
    swc_unit_nm : float
        Length of the unit of SWC files: 1 for nm, 1000 for um.

    Returns
    -------
    dict of str -> numpy.ndarray
        ``SKELETON_COLUMNS``: ``node`` is unique in its skeleton, ``parent`` is -1 for a root.

    Raises
    ------
    DataError
        A file is none of these or damaged, or two skeletons have one id.
    """
    files = [file for path in paths for file in _files_at(Path(path))]
    tables = [_read_one(file, number, swc_unit_nm) for number, file in enumerate(files, start=1)]
    seen: dict[int, Path] = {}
    for file, table in zip(files, tables, strict=True):
        for skeleton in np.unique(table["skeleton"]).tolist():
            if skeleton in seen:
                raise DataError(
                    f"skeleton {skeleton} is also in {seen[skeleton]}", where=str(file), expected="ids used once",
                    fix="rename a file, or give other ids",
                )  # fmt: skip
            seen[skeleton] = file
    return {
        name: np.concatenate([np.zeros(0, kind), *(table[name] for table in tables)])
        for name, kind in SKELETON_COLUMNS.items()
    }


def write_skeletons(path: str | Path, table: TableData) -> None:
    """Write a table of skeletons as Parquet; see :func:`bouton.volume.tables.write_table`."""
    write_table(path, {name: table[name] for name in SKELETON_COLUMNS}, SKELETON_COLUMNS)


def _files_at(path: Path) -> list[Path]:
    with disk_errors(path):
        path.stat()
    if not path.is_dir():
        return [path]
    files = sorted(
        (file for file in path.iterdir() if file.suffix in SUFFIXES), key=lambda file: natural_key(file.name)
    )
    if not files:
        raise DataError("no skeleton in the folder", where=str(path), expected=", ".join(SUFFIXES))
    return files


def _read_one(file: Path, number: int, swc_unit_nm: float) -> TableData:
    if file.suffix == ".swc":
        return read_swc(file, number, swc_unit_nm)
    if file.suffix == ".nml":
        return read_nml(file)
    if file.suffix == ".parquet":
        table = read_table(file)
        missing = sorted(set(SKELETON_COLUMNS) - set(table))
        if missing:
            raise DataError(f"no column {missing[0]}", where=str(file), expected=", ".join(SKELETON_COLUMNS))
        return {name: table[name].astype(kind) for name, kind in SKELETON_COLUMNS.items()}
    raise DataError("no skeleton file", where=str(file), expected=", ".join(SUFFIXES))


def read_swc(path: str | Path, number: int = 1, unit_nm: float = 1.0) -> TableData:
    """Read one skeleton; ``number`` is its id where the file's name is no number; ``unit_nm`` the unit of the file."""
    path = Path(path)
    rows = []
    with disk_errors(path):
        lines = path.read_text(errors="replace").splitlines()
    for count, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            node, _, x, y, z, _, parent = line.split()[:7]
            place = to_zyx([_finite(value) for value in (x, y, z)])
            rows.append((np.int64(int(node)), np.int64(int(parent)), *place))
        except (ValueError, OverflowError):
            expected = "number type x y z radius parent"
            raise DataError(f"line {line.strip()[:60]!r}", where=f"{path}:{count}", expected=expected) from None
    if not rows:
        raise DataError("no node", where=str(path), expected="an SWC skeleton")
    node, parent, *place = (np.array(column) for column in zip(*rows, strict=True))
    stem = path.stem
    skeleton = int(stem) if stem.isascii() and stem.isdigit() and int(stem) < 2**64 else number
    # any negative parent says root
    return _table(np.full(len(node), skeleton, np.uint64), node, np.maximum(parent, -1), np.stack(place, 1) * unit_nm)


def read_nml(path: str | Path) -> TableData:
    """Read the trees of an NML file; a tree's id is its own."""
    path = Path(path)
    with disk_errors(path):
        text = path.read_bytes()
    try:
        root = ElementTree.fromstring(text)
        size = _voxel_size_nm(root)
        trees = [_tree(thing, path) for thing in root.iter("thing")]
    except (ElementTree.ParseError, KeyError, ValueError, OverflowError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"damaged or no NML ({reason})", where=str(path), expected="a webKnossos skeleton") from error
    empty = (np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 3)))
    skeleton, node, parent, place = (np.concatenate(columns) for columns in zip(empty, *trees, strict=True))
    return _table(skeleton, node, parent, (place + 0.5) * size)


def _finite(text: str) -> float:
    value = float(text)
    if not np.isfinite(value):
        raise ValueError(f"{text} is no place")
    return value


def _voxel_size_nm(root: ElementTree.Element) -> np.ndarray:
    scale = root.find("parameters/scale")
    if scale is None:
        raise ValueError("no scale")
    unit = scale.get("unit", "nanometer")
    if unit not in _UNIT_NM:
        raise ValueError(f"unit {unit!r}")
    return np.array(to_zyx([_finite(scale.attrib[axis]) for axis in "xyz"])) * _UNIT_NM[unit]


def _tree(thing: ElementTree.Element, path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return skeleton, node, parent and place (voxels, z, y, x) of a tree's nodes."""
    nodes = list(thing.iter("node"))
    node = np.array([int(each.attrib["id"]) for each in nodes], np.int64)
    place = np.array([to_zyx([_finite(each.attrib[axis]) for axis in "xyz"]) for each in nodes]).reshape(-1, 3)
    row = {number: i for i, number in enumerate(node.tolist())}
    ends = [(row[int(e.attrib["source"])], row[int(e.attrib["target"])]) for e in thing.iter("edge")]
    skeleton = np.full(len(node), int(thing.attrib["id"]), np.uint64)
    return skeleton, node, _parents(node, ends, f"{path}, tree {thing.attrib['id']}"), place


def _parents(node: np.ndarray, ends: list[tuple[int, int]], where: str) -> np.ndarray:
    """Return each node's parent when every connected piece hangs from its first node; -1 for that one."""
    parent = np.full(len(node), -1, np.int64)
    if not len(node):
        return parent
    pairs = np.unique(np.sort(np.array(ends, np.int64).reshape(-1, 2), axis=1), axis=0)
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (len(node), len(node))).tocsr()
    count, piece = connected_components(graph, directed=False)
    if count + len(pairs) != len(node):
        raise DataError("edges that form a ring", where=where, expected="a tree", fix="remove an edge of the ring")
    for first in np.unique(piece, return_index=True)[1]:
        reached, above = breadth_first_order(graph, first, directed=False)
        parent[reached[1:]] = node[above[reached[1:]]]
    return parent


def _table(skeleton: np.ndarray, node: np.ndarray, parent: np.ndarray, place_nm: np.ndarray) -> TableData:
    columns = (skeleton, node, parent, *(place_nm[:, i] for i in range(3)))
    return {name: values.astype(kind) for (name, kind), values in zip(SKELETON_COLUMNS.items(), columns, strict=True)}
