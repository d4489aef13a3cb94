"""A model's card on the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bouton.learn.card import Card, DataSource, Training
from bouton.learn.forest_info import NAMES, ForestArchitecture, windows_of
from bouton.learn.info import (
    Architecture,
    ModelInfo,
    flops_per_voxel,
    level_of,
    parameter_count,
    parameter_shapes,
    receptive_field,
)


def show_card(card: Card, console: Console) -> None:
    """Print a card: what the model is, costs, was made from and scores."""
    console.print(f"[bold]{escape(card.name)}[/bold]: {escape(card.description)}", highlight=False)
    if card.limits:
        console.print(f"[bold]Limits.[/bold] {escape(card.limits)}", highlight=False)
    console.print(_facts(card))
    if isinstance(card.prediction.architecture, Architecture):
        console.print(_levels(card.prediction.architecture))
    if card.scores:
        console.print(_scores(card))
    for note in card.notes:
        console.print(f"[dim]-[/dim] {escape(note)}", highlight=False)


def _facts(card: Card) -> Table:
    info = card.prediction
    rows = [*_prediction(info), *_cost(info), ("licence", card.weights.licence)]
    training = card.training
    if training is not None:
        rows += [("trained on", _source(source)) for source in training.data]
        rows += [("watched on", _source(source)) for source in training.validation]
        hours = f", {training.hours:g} h" if training.hours is not None else ""
        rows += [
            ("training", f"{training.steps:,} steps{hours}; {training.machine}; {training.version}"),
            ("began with", _parent(training)),
            ("command", training.command),
            ("training file", f"SHA-256 {training.file_sha256}" if training.file_sha256 else ""),
        ]
    rows.append((card.weights_file, f"SHA-256 {card.weights.sha256}"))
    return _table(("", ""), [row for row in rows if row[1]], header_shown=False)


def _prediction(info: ModelInfo) -> list[tuple[str, str]]:
    rows = [
        ("outputs", ", ".join(f"{name} ({channels})" for name, channels in info.heads.items())),
        ("long offsets", ", ".join(str(offset) for offset in info.long_offsets)),
        ("voxel size", f"{_by(info.voxel_size_nm)} nm (z, y, x)"),
        ("tile", f"{_by(info.tile_zyx)} voxels, of which neighbours share {_by(info.overlap_zyx)}"),
        ("image enters as", f"(image - {info.mean:g}) / {info.std:g}"),
    ]
    return [*rows, ("temperature", f"{info.temperature:g}")]


def _cost(info: ModelInfo) -> list[tuple[str, str]]:
    network = info.architecture
    if isinstance(network, ForestArchitecture):
        halo = windows_of(network, info.voxel_size_nm).halo
        return [
            ("forest", f"{network.trees} trees on {len(NAMES)} features of VESICLE-RF"),
            ("candidates", f"mean grey of {network.darkest:.2f} or less; elsewhere the probability is 0"),
            ("sees", f"{_by(halo)} voxels (z, y, x) around a voxel"),
        ]
    if not isinstance(network, Architecture):
        return [("network", f"ONNX graph {network.input} -> {network.output}: runtime openvino")]
    field = receptive_field(network)
    field_nm = [size * nm for size, nm in zip(field, info.voxel_size_nm, strict=True)]
    alone = flops_per_voxel(network)
    steps = [tile - overlap for tile, overlap in zip(info.tile_zyx, info.overlap_zyx, strict=True)]
    twice = math.prod(info.tile_zyx) / math.prod(steps)
    return [
        ("network", f"{parameter_count(network):,} weights on {len(network.widths)} levels"),
        ("cost", f"{alone / 1e3:.1f} kFLOP/voxel; {alone * twice / 1e3:.1f} with the overlap of tiles"),
        ("receptive field", f"{_by(field)} voxels = {_by(field_nm)} nm (z, y, x)"),
    ]


def _levels(network: Architecture) -> Table:
    rows, scale = [], [1, 1, 1]
    shapes = parameter_shapes(network)
    for level, (width, kernel) in enumerate(zip(network.widths, network.kernels, strict=True)):
        own = [shape for name, shape in shapes.items() if level_of(name) == level]
        weights = sum(math.prod(shape) for shape in own)
        rows.append((str(level), _by(scale), str(width), _by(kernel), f"{weights:,}"))
        if level < len(network.pools):
            scale = [size * pool for size, pool in zip(scale, network.pools[level], strict=True)]
    return _table(("level", "voxels of", "channels", "kernel", "weights"), rows)


def _scores(card: Card) -> Table:
    rows = [(score.data, score.what, f"{score.value:g}", score.command) for score in card.scores]
    return _table(("scored on", "figure", "value", "command"), rows)


def _parent(training: Training) -> str:
    if not training.parent:
        return ""
    return f"{training.parent}, weights of SHA-256 {training.parent_sha256 or 'not stated'}"


def _source(source: DataSource) -> str:
    doi = f"doi:{source.doi}" if source.doi else ""
    parts = (source.name, *(f"box {box}" for box in source.boxes_zyx), source.source, doi, source.licence)
    return "; ".join(part for part in parts if part)


def _by(values: Iterable[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]], *, header_shown: bool = True) -> Table:
    table = Table(box=None, show_header=header_shown)
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table
