"""Where the data of a training file lie, without reading them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bouton.cli.training_data import boxes_of, open_array, place_of, size_on_disk
from bouton.cli.training_plan import Labelled, Phantoms, Plan
from bouton.evaluate.leakage import Region
from bouton.geometry import Box


def training_regions(plan: Plan, plan_file: Path) -> list[Region]:
    """Return the boxes that a training file learns from, and those that it chooses its weights by.

    Raises
    ------
    DataError
        An image is missing or cannot be read.
    """
    regions = [each for source in plan.data for each in _regions(source, plan, plan_file, "trained on")]
    # who stops early chooses by the validation volumes: they are seen, too
    chosen = plan.validation if plan.patience is not None else ()
    return regions + [each for source in chosen for each in _regions(source, plan, plan_file, "chosen by")]


def image_name(path: str | Path, dataset: str | None) -> str:
    """Return what names an image, whatever way leads to it."""
    return f"{Path(path).resolve()}:{dataset or ''}"


def phantom_name(seed: int) -> str:
    """Return what names the tissue of a phantom."""
    return f"phantom, seed {seed}"


def _regions(source: Labelled | Phantoms, plan: Plan, plan_file: Path, how: str) -> Iterator[Region]:
    if isinstance(source, Phantoms):
        box = Box.of_shape(source.shape_zyx).shift(source.start_zyx)
        for seed in source.seeds:
            yield Region(phantom_name(seed), box, f"{phantom_name(seed)}, {box}, {how}")
        return
    folder = plan_file.parent
    image = place_of(source.image, source, folder)
    whole = open_array(image, size_on_disk(source, plan)).box
    for box in boxes_of(source, folder, whole):
        yield Region(image_name(image.path, image.dataset), box, f"{Path(image.path).name}, {box}, {how}")
