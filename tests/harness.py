"""Runs a stage in memory, block by block, as the engine would: for tests of kernels' and stages' block invariance.

``run_stage(STAGE, params, {"affinities": array}, block_zyx=(7, 5, 3))`` returns every output, private ones too, as
whole arrays and tables. It checks each task's output against what the part declares.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bouton.geometry import NM, ZYX, Box, Grid
from bouton.stage import (
    BlockPart,
    BlockTask,
    ChainPart,
    ChainTask,
    Layer,
    MergePart,
    MergeTask,
    ObjectPart,
    ObjectTask,
    Output,
    Planned,
    Stage,
    Table,
    TableData,
    WholePart,
    WholeTask,
    part_tables,
)


class ArrayVolume:
    """A :class:`bouton.stage.VolumeReader` over an array whose first voxel lies at ``origin`` of the data set."""

    def __init__(self, array: np.ndarray, origin: ZYX = (0, 0, 0)) -> None:
        self.array, self.shape, self.dtype, self.origin = array, array.shape, array.dtype, origin

    def read(self, box: Box) -> np.ndarray:
        """Return a copy of ``box``; outside of the array is an error."""
        return self.array[self._at(box)].copy()

    def write(self, box: Box, values: np.ndarray) -> None:
        """Set the voxels of ``box``."""
        self.array[self._at(box)] = values

    def _at(self, box: Box) -> tuple:
        inside = box.shift([-a for a in self.origin])
        assert Box.of_shape(self.array.shape[-3:]).contains(inside), f"outside: {box}"
        return (..., *inside.slices)


@dataclass
class _Run:
    params: Any
    bounds: Box
    shape: ZYX
    voxel_size_nm: NM
    grid: Grid
    order: np.random.Generator | None
    folder: Path | None
    fan_out: int
    cover: Box
    given: frozenset[str] = frozenset()
    volumes: dict[str, ArrayVolume] = field(default_factory=dict)
    read_tables: dict[str, TableData] = field(default_factory=dict)
    whole_tables: dict[str, TableData] = field(default_factory=dict)
    block_tables: dict[str, dict[ZYX, TableData]] = field(default_factory=dict)
    node_tables: dict[str, list[tuple[Box, TableData]]] = field(default_factory=dict)

    def table(self, name: str, over: Box | None = None) -> TableData:
        # as in the engine: what a stage reads comes before what it writes under the same name
        if name in self.read_tables:
            return {column: values.copy() for column, values in self.read_tables[name].items()}
        return self.written(name, over)

    def written(self, name: str, over: Box | None = None) -> TableData:
        if name in self.node_tables:
            parts = self.node_tables[name]
            return concatenate([rows for box, rows in parts if over is None or not (box & over).is_empty])
        if name not in self.block_tables:
            return {column: values.copy() for column, values in self.whole_tables[name].items()}
        blocks = self.block_tables[name]
        return concatenate([blocks[index] for index in sorted(blocks)])

    def common(self) -> dict[str, Any]:
        names = ("params", "bounds", "shape", "voxel_size_nm", "volumes", "table")
        return {name: getattr(self, name) for name in names} | {"given": self.given}

    def indices(self) -> list[ZYX]:
        return self.shuffled(self.grid)

    def shuffled(self, items: Iterable[Any]) -> list[Any]:
        found = list(items)
        if self.order is not None:
            self.order.shuffle(found)
        return found


def run_stage(
    stage: Stage,
    params: Any,
    inputs: Mapping[str, np.ndarray | TableData],
    block_zyx: ZYX,
    voxel_size_nm: NM = (10.0, 10.0, 10.0),
    *,
    bounds: Box | None = None,
    shape: ZYX | None = None,
    seed: int | None = None,
    folder: Path | None = None,
    fan_out: int = 2,
    origin: ZYX = (0, 0, 0),
) -> dict[str, Any]:
    """Run every part of ``stage`` over blocks of ``block_zyx``.

    Parameters
    ----------
    inputs : mapping
        Arrays (z, y, x) or (c, z, y, x), and tables. Arrays cover the whole data set, or with ``origin`` a box of it.
    bounds : Box, optional
        Default: what the arrays cover. Output layers cover the same and are 0 outside of the bounds.
    shape : (z, y, x), optional
        Shape of the data set; needed only where no input is an array, or with ``origin``.
    seed : int, optional
        Runs the blocks of each part in a shuffled order.
    folder : Path, optional
        Where ``files`` outputs go, in a folder each.
    fan_out : int
        Children of a merge node along each axis.
    origin : (z, y, x)
        Where the arrays' first voxel lies in the data set.

    Returns
    -------
    dict
        Output name -> array or table. Block tables are concatenated in C order of the blocks, tables that nodes keep
        in no particular order (:func:`sort_rows`).
    """
    arrays = {name: value for name, value in inputs.items() if isinstance(value, np.ndarray)}
    extent = next(iter(arrays.values())).shape[-3:] if arrays else shape
    shape = shape or extent
    cover = Box.of_shape(extent).shift(origin)
    bounds = bounds or cover
    order = None if seed is None else np.random.default_rng(seed)
    run = _Run(params, bounds, shape, voxel_size_nm, Grid(bounds, block_zyx), order, folder, fan_out, cover)
    run.given = frozenset(inputs)
    covers = {name: Box.of_shape(value.shape[-3:]).shift(origin) for name, value in arrays.items()}
    stage.check(Planned(params, bounds, shape, voxel_size_nm, run.given, covers))
    run.volumes = {name: ArrayVolume(array, origin) for name, array in arrays.items()}
    run.read_tables = {name: value for name, value in inputs.items() if name not in arrays}
    for part in stage.with_params(params).parts:
        _RUNNERS[type(part)](run, part)
    outputs: dict[str, Any] = {name: volume.array for name, volume in run.volumes.items() if name not in inputs}
    names = (*run.whole_tables, *run.block_tables, *run.node_tables)
    return outputs | {name: run.written(name) for name in names}


def concatenate(tables: Sequence[TableData]) -> TableData:
    """Return the rows of all tables, in order."""
    return {column: np.concatenate([table[column] for table in tables]) for column in tables[0]}


def sort_rows(table: TableData) -> TableData:
    """Return the table with its rows sorted by all columns, the first one first."""
    order = np.lexsort([table[column] for column in reversed(list(table))])
    return {column: values[order] for column, values in table.items()}


def assert_same(a: Mapping[str, Any], b: Mapping[str, Any], names: Sequence[str]) -> None:
    """Fail unless the outputs ``names`` are identical: same dtype, same values, same rows in the same order."""
    for name in names:
        pairs = [(a[name], b[name])]
        if isinstance(a[name], dict):
            assert list(a[name]) == list(b[name])
            pairs = [(a[name][column], b[name][column]) for column in a[name]]
        for one, two in pairs:
            assert one.dtype == two.dtype, name
            np.testing.assert_array_equal(one, two, err_msg=name)


def _check_table(name: str, table: TableData, declared: Table) -> None:
    assert list(table) == list(declared.columns), f"{name}: columns {list(table)} are not {list(declared.columns)}"
    assert len({len(values) for values in table.values()}) <= 1, f"{name}: columns of unequal length"
    for column, values in table.items():
        kind = declared.columns[column]
        found = "str" if values.dtype.kind in "OU" else values.dtype.name
        assert found == kind, f"{name}.{column} is {found}, declared {kind}"


def _check(output: Output, layers: Mapping[str, Layer], tables: Mapping[str, Table], core: Box | None) -> None:
    assert set(output.layers) == set(layers), f"layers {set(output.layers)} are not {set(layers)}"
    assert set(output.tables) == set(tables), f"tables {set(output.tables)} are not {set(tables)}"
    for name, layer in layers.items():
        array = output.layers[name]
        expected = (() if layer.channels is None else (layer.channels,)) + core.shape
        assert array.shape == expected, f"{name}: {array.shape} is not {expected}"
        assert array.dtype.name == layer.dtype, f"{name}: {array.dtype} is not {layer.dtype}"
    for name, table in tables.items():
        _check_table(name, output.tables[name], table)


def _run_blocks(run: _Run, part: BlockPart | ChainPart) -> None:
    layers = part.layers(run.params) if callable(part.layers) else part.layers
    leading = {name: () if layer.channels is None else (layer.channels,) for name, layer in layers.items()}
    shapes = {name: leading[name] + tuple(run.cover.shape) for name in layers}
    written = {name: ArrayVolume(np.zeros(shapes[name], layers[name].dtype), run.cover.start) for name in layers}
    halo = part.halo(run.params, run.voxel_size_nm)
    if isinstance(part, ChainPart):
        thickness = (run.grid.block[0], *run.bounds.stop[1:])
        indices, grid = list(Grid(run.bounds, thickness)), Grid(run.bounds, thickness)
    else:
        indices, grid = run.indices(), run.grid
    previous = None
    for index in indices:
        core = grid.core(index)
        if isinstance(part, ChainPart):
            output = part.run(ChainTask(**run.common(), core=core, halo=halo, previous=previous))
            previous = output.tables
        else:
            output = part.run(BlockTask(**run.common(), core=core, halo=halo))
        _check(output, layers, part.tables, core)
        for name, array in output.layers.items():
            written[name].write(core, array)
        for name, table in output.tables.items():
            run.block_tables.setdefault(name, {})[index] = table
    run.volumes |= written


def _run_merge(run: _Run, part: MergePart) -> None:
    nodes = {i: (run.grid.core(i), [{name: run.block_tables[name][i] for name in part.source}]) for i in run.indices()}
    level = 0
    while True:
        last, results = len(nodes) == 1, {}
        for index, (box, children) in run.shuffled(nodes.items()):
            task = MergeTask(**run.common(), box=box, children=children, is_leaf=level == 0, is_root=last)
            output = part.run(task)
            _check(output, {}, part_tables(part), None)
            for name in part.kept:
                run.node_tables.setdefault(name, []).append((box, output.tables[name]))
            results[index] = (box, {name: output.tables[name] for name in part.tables})
        if last:
            run.whole_tables |= next(iter(results.values()))[1]
            return
        nodes, level = _parents(results, run.fan_out), level + 1


def _parents(results: dict[ZYX, tuple[Box, Mapping[str, TableData]]], fan_out: int) -> dict[ZYX, tuple[Box, list]]:
    parents: dict[ZYX, tuple[Box, list]] = {}
    for index in sorted(results):
        box, tables = results[index]
        parent = (index[0] // fan_out, index[1] // fan_out, index[2] // fan_out)
        whole, children = parents.get(parent, (box, []))
        parents[parent] = (whole | box, [*children, tables])
    return parents


def _run_objects(run: _Run, part: ObjectPart) -> None:
    table, column = part.ids
    ids = np.unique(run.table(table)[column].astype(np.uint64))
    for number, start in enumerate(range(0, max(1, len(ids)), part.ids_per_task)):
        output = part.run(ObjectTask(**run.common(), ids=ids[start : start + part.ids_per_task]))
        _check(output, {}, part.tables, None)
        for name, rows in output.tables.items():
            run.block_tables.setdefault(name, {})[(number, 0, 0)] = rows


def _run_whole(run: _Run, part: WholePart) -> None:
    target = None
    if part.files:
        assert run.folder is not None, "a part that writes files needs run_stage(..., folder=tmp_path)"
        target = run.folder / part.files[0]
        target.mkdir(parents=True, exist_ok=True)
    output = part.run(WholeTask(**run.common(), folder=target))
    _check(output, {}, part.tables, None)
    run.whole_tables |= output.tables


_RUNNERS = {
    BlockPart: _run_blocks,
    ChainPart: _run_blocks,
    MergePart: _run_merge,
    ObjectPart: _run_objects,
    WholePart: _run_whole,
}
