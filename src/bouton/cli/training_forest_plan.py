"""The file from which `bouton train` trains a forest: `forest:` where that of a network has `network:`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationError, model_validator

from bouton.cli.training_plan import Labelled, Plan, Size, Strict, Volumes, spec_error
from bouton.errors import SpecError
from bouton.geometry import ZYX
from bouton.learn.forest import ForestSettings
from bouton.learn.forest_info import ForestArchitecture
from bouton.learn.forest_training import PointSettings, default_tile
from bouton.learn.info import ModelInfo
from bouton.strict_yaml import read_document

Positive = Annotated[int, Field(gt=0)]
Margin = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ForestKeys(Strict):
    """What a forest is made of.

    ``trees``, ``tried`` (features that a node chooses from), ``smallest_leaf`` (points): of the forest. ``points``: of
    each class at most. ``margin_nm``: distance from a volume's border below which none is taken. ``recall``: share of
    the painted voxels that must be candidates. ``vesicle_contrast``: grey values by which the middle of a vesicle is
    brighter than its rim.
    """

    trees: Positive = 200
    tried: Positive = 3
    smallest_leaf: Positive = 20
    points: Positive = 100_000
    margin_nm: tuple[Margin, Margin, Margin] = (60.0, 300.0, 300.0)
    recall: Annotated[float, Field(gt=0, le=1)] = 0.98
    vesicle_contrast: Size = 10.0


class ForestTiles(Strict):
    """How the finished forest is applied; the overlap is at least what its windows need."""

    tile_zyx: tuple[Positive, Positive, Positive]
    overlap_zyx: tuple[int, int, int]


class ForestPlan(Strict):
    """A training file of a forest."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]
    description: str = ""
    limits: str = ""
    licence: str = "not stated"
    voxel_size_nm: tuple[Size, Size, Size]
    heads: tuple[Literal["clefts"]] = ("clefts",)
    forest: ForestKeys = ForestKeys()
    data: Annotated[tuple[Volumes, ...], Field(min_length=1)]
    validation: tuple[Volumes, ...] = ()
    seed: Annotated[int, Field(ge=0)] = 0
    prediction: ForestTiles | None = None

    # what reading the volumes asks for: nothing is mirrored, no boundary widened
    patch_zyx: ClassVar[ZYX] = (1, 1, 1)
    erode_zyx: ClassVar[ZYX] = (0, 0, 0)

    @model_validator(mode="after")
    def _plain(self) -> ForestPlan:
        for source in (*self.data, *self.validation):
            if isinstance(source, Labelled) and source.weight != 1:
                raise SpecError("weight of a volume", expected="none: a forest draws from all candidates alike")
        return self

    @property
    def architecture(self) -> ForestArchitecture:
        """The windows, before the data have said how dark a candidate may be."""
        return ForestArchitecture(self.forest.trees, vesicle_contrast=self.forest.vesicle_contrast)

    @property
    def settings(self) -> ForestSettings:
        """How the forest is trained."""
        keys = self.forest
        return ForestSettings(keys.trees, keys.tried, keys.smallest_leaf, seed=self.seed)

    @property
    def points(self) -> PointSettings:
        """Which voxels it learns from."""
        keys = self.forest
        return PointSettings(keys.points, keys.margin_nm, keys.recall, self.seed)

    def info(self, architecture: ForestArchitecture | None = None) -> ModelInfo:
        """Return what the model's card will say of its prediction."""
        architecture = architecture or self.architecture
        tile, overlap = default_tile(architecture, self.voxel_size_nm)
        if self.prediction:
            tile, overlap = self.prediction.tile_zyx, self.prediction.overlap_zyx
        return ModelInfo(architecture, {"clefts": 1}, self.voxel_size_nm, tile, overlap, mean=0.0, std=1.0)


AnyPlan = Plan | ForestPlan
"""A training file of either kind: both say alike what data there are and what is learned from them."""


def is_forest(path: Path, overrides: list[str]) -> bool:
    """Return whether a training file is that of a forest."""
    return "forest" in read_document(path).with_overrides(overrides).tree


def read_forest_plan(path: Path, overrides: list[str]) -> ForestPlan:
    """Read a training file of a forest.

    Raises
    ------
    SpecError
        A key is unknown or a value is wrong.
    """
    document = read_document(path).with_overrides(overrides)
    if "network" in document.tree:
        raise SpecError("both forest and network", where=document.at("network"), expected="one of the two")
    try:
        return ForestPlan.model_validate(document.tree)
    except ValidationError as error:
        raise spec_error(document, error, (ForestPlan, {"forest": ForestKeys, "prediction": ForestTiles})) from None
