"""Where the data of a training file lie, without reading them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bouton.cli.training_data import boxes_of, open_array, place_of, size_on_disk
from bouton.cli.training_forest_plan import AnyPlan, is_forest, read_forest_plan
from bouton.cli.training_plan import Labelled, Phantoms, read_plan
from bouton.evaluate.leakage import Region
from bouton.geometry import ZYX, Box
from bouton.learn.forest_info import windows_of
from bouton.learn.info import receptive_field


def training_regions(plan_file: Path) -> tuple[list[Region], ZYX]:
    """Return the boxes that a training file learns from or chooses its weights by, and how far beyond them it sees.

    Raises
    ------
    DataError
        An image is missing or cannot be read.
    SpecError
        A key of the file is unknown or a value is wrong.
    """
    if is_forest(plan_file, []):
        forest = read_forest_plan(plan_file, [])
        return _all_regions(forest, plan_file, forest.data), windows_of(forest.architecture, forest.voxel_size_nm).halo
    plan = read_plan(plan_file, [])
    z, y, x = receptive_field(plan.architecture(auxiliary=False))
    regions = _all_regions(plan, plan_file, plan.data)
    if plan.patience is not None:
        # who stops early chooses by the validation volumes: they are seen, too
        regions += _all_regions(plan, plan_file, plan.validation, "chosen by")
    return regions, (z // 2, y // 2, x // 2)


def image_name(path: str | Path, dataset: str | None) -> str:
    """Return what names an image, whatever way leads to it."""
    return f"{Path(path).resolve()}:{dataset or ''}"


def phantom_name(seed: int) -> str:
    """Return what names the tissue of a phantom."""
    return f"phantom, seed {seed}"


def _all_regions(
    plan: AnyPlan, plan_file: Path, sources: Sequence[Labelled | Phantoms], how: str = "trained on"
) -> list[Region]:
    return [each for source in sources for each in _regions(source, plan, plan_file, how)]


def _regions(source: Labelled | Phantoms, plan: AnyPlan, plan_file: Path, how: str) -> Iterator[Region]:
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
