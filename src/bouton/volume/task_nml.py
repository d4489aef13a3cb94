"""Boxes to look at as a webKnossos NML file: a bounding box for each, and a tree with one node at its centre.

The nodes let a person jump from task to task. NML counts x, y, z.
Format: https://docs.webknossos.org/webknossos/data/concepts.html#nml-files
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import quoteattr

from bouton.errors import DataError
from bouton.geometry import NM, Box, to_xyz
from bouton.volume.files import write_bytes

_MOST = 2**31 - 1
_COLOUR = 'color.r="1.0" color.g="0.82" color.b="0.25" color.a="1.0"'


def write_task_nml(path: str | Path, tasks: Mapping[str, Box], voxel_size_nm: NM, dataset: str) -> None:
    """Write boxes, all of one colour, in their order; the file is there whole or not at all.

    Parameters
    ----------
    path : path
    tasks : mapping of name -> Box
        In voxels of the data set, z, y, x.
    voxel_size_nm : (z, y, x)
    dataset : str
        Name of the data set in webKnossos.

    Raises
    ------
    DataError
        A box has no voxels, or lies where webKnossos cannot count.
    """
    write_bytes(path, task_nml(tasks, voxel_size_nm, dataset).encode())


def task_nml(tasks: Mapping[str, Box], voxel_size_nm: NM, dataset: str) -> str:
    """Return what :func:`write_task_nml` writes."""
    for name, box in tasks.items():
        if box.is_empty or min(box.start) < 0 or max(box.stop) > _MOST:
            raise DataError(f"task {name}: box {box}", expected="voxels from 0 on, z, y, x")
    boxes = "".join(_box(number, name, box) for number, (name, box) in enumerate(tasks.items(), 1))
    trees = "".join(_tree(number, name, box) for number, (name, box) in enumerate(tasks.items(), 1))
    x, y, z = (f"{value:.10g}" for value in to_xyz(voxel_size_nm))
    first = _middle(next(iter(tasks.values()))) if tasks else 'x="0" y="0" z="0"'
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<things>\n<parameters>\n'
        f'<experiment name={quoteattr(dataset)} description=""/>\n'
        f'<scale x="{x}" y="{y}" z="{z}" unit="nanometer"/>\n<offset x="0" y="0" z="0"/>\n<time ms="0"/>\n'
        f'<editPosition {first}/>\n<editRotation xRot="0" yRot="0" zRot="0"/>\n<zoomLevel zoom="1"/>\n{boxes}'
        f"</parameters>\n{trees}<branchpoints></branchpoints>\n<comments></comments>\n<groups></groups>\n</things>\n"
    )


def _box(number: int, name: str, box: Box) -> str:
    (x, y, z), (width, height, depth) = to_xyz(box.start), to_xyz(box.shape)
    return (
        f'<userBoundingBox id="{number}" name={quoteattr(f"task {name}")} isVisible="true" {_COLOUR} '
        f'topLeftX="{x}" topLeftY="{y}" topLeftZ="{z}" width="{width}" height="{height}" depth="{depth}"/>\n'
    )


def _tree(number: int, name: str, box: Box) -> str:
    node = f'<node id="{number}" radius="1" {_middle(box)}/>'
    return (
        f'<thing id="{number}" {_COLOUR} name={quoteattr(f"task {name}")}>'
        f"<nodes>{node}</nodes><edges></edges></thing>\n"
    )


def _middle(box: Box) -> str:
    x, y, z = to_xyz([(a + b) // 2 for a, b in zip(box.start, box.stop, strict=True)])
    return f'x="{x}" y="{y}" z="{z}"'
