"""The file that `bouton train` reads, checked, and the settings it asks for."""

from __future__ import annotations

import os
import re
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from bouton.cli.training_scores import score_names
from bouton.errors import SpecError
from bouton.learn.augment import Augmentation
from bouton.learn.descriptors import CHANNELS as DESCRIPTORS
from bouton.learn.info import HEADS, Architecture, ModelInfo, head_channels, inputs_of
from bouton.learn.sampling import FROM_LABELS, SamplingSettings
from bouton.learn.train import TrainingSettings
from bouton.strict_yaml import Document, read_document, unknown
from bouton.workflow_file import expectation, show_found

Positive = Annotated[int, Field(gt=0)]
Triple = tuple[Positive, Positive, Positive]
Offset = tuple[int, int, int]
Size = Annotated[float, Field(gt=0, allow_inf_nan=False)]
ANNOTATED = tuple(head for head in HEADS if head not in (*FROM_LABELS, "partners"))
"""Heads that have a layer of their own; the others are made from labels."""


class Strict(BaseModel):
    """A part of a training file: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Network(Strict):
    """Shape of the network (:class:`bouton.learn.network.Architecture`)."""

    widths: tuple[Positive, ...]
    kernels: tuple[Triple, ...]
    pools: tuple[Triple, ...]
    entry: Triple = (1, 5, 5)


class Array(Strict):
    """An array on disk: ``dataset`` of ``path``.

    ``offset_zyx``: voxel of the image at which it begins, for labels that were cut out. ``absent``: ``zero`` where the
    writer leaves empty chunks out.
    """

    path: str
    dataset: str | None = None
    offset_zyx: Offset = (0, 0, 0)
    absent: Literal["error", "zero"] = "error"


class Labelled(Strict):
    """A labelled volume on disk, over ``box_zyx``; its arrays are data sets of ``path``, or have paths of their own.

    ``labels``: cell ids. ``layers``: for a head like ``clefts`` the array of its annotation (0 no, else yes; for heads
    of several channels bits). For the head ``partners``: ``clefts``, an array of the ids of single clefts, and
    ``synapses``, the table that names the two labels of each. ``box_zyx``: z0:z1,y0:y1,x0:x1; ``annotation`` for the
    bounding boxes of a webKnossos annotation; without it, all of the image. ``known``: array that is 0 where nobody
    annotated; ``unlabelled_id``: the id in ``labels`` that says the same. Without these two, 0 in ``labels`` says it,
    and ``fill_voxels`` (then 2, else 0): voxels labelled 0 so near to a label take it. ``keep_every``: take every n-th
    section only, once for each of the n ways. ``weight``: how often patches come from here. A volume smaller than a
    patch is mirrored up to its size; what is mirrored counts as not annotated. ``source``, ``doi`` and ``licence`` go
    into the model's card.
    """

    path: str | None = None
    image: str | Array | None = None
    labels: str | Array | None = None
    layers: dict[Literal[*ANNOTATED], str | Array] = {}
    clefts: str | Array | None = None
    synapses: str | None = None
    known: str | Array | None = None
    unlabelled_id: Annotated[int, Field(ge=0)] | None = None
    box_zyx: str | None = None
    fill_voxels: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    keep_every: Positive = 1
    weight: Size = 1.0
    source: str = ""
    doi: str = ""
    licence: str = ""


class Phantoms(Strict):
    """One phantom of ``shape_zyx`` for each seed, from voxel ``start_zyx`` on.

    ``tissue``: other parameters of :class:`bouton.phantom.TissueParams`, for another look or more myelin.
    """

    seeds: tuple[int, ...]
    shape_zyx: Triple
    start_zyx: Offset = (0, 0, 0)
    reach_nm: float = 80.0
    tissue: dict[str, Any] = {}


def _kind_of(value: Any) -> str:
    return "Phantoms" if isinstance(value, Phantoms) or (isinstance(value, dict) and "seeds" in value) else "Labelled"


Volumes = Annotated[
    Annotated[Labelled, Tag("Labelled")] | Annotated[Phantoms, Tag("Phantoms")], Discriminator(_kind_of)
]


class Prediction(Strict):
    """How the finished model is applied."""

    tile_zyx: Triple
    overlap_zyx: tuple[int, int, int]
    temperature: float = 1.0


class Plan(Strict):
    """A training file.

    ``start``: a model, by name or folder, whose weights it begins with. ``score`` of the validation volumes chooses
    where ``patience`` is given: after so many validations without a better one training ends, and the weights of the
    best one are the model. Without patience the model is the last running mean, and validation chooses nothing.
    ``loaders``: threads that prepare patches; they change nothing in the result.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]
    description: str = ""
    limits: str = ""
    licence: str = "not stated"
    voxel_size_nm: tuple[Size, Size, Size]
    heads: Annotated[tuple[Literal[*HEADS], ...], Field(min_length=1)] = ("affinities",)
    long_offsets: tuple[Offset, ...] = ()
    auxiliary_offsets: tuple[Offset, ...] = ()
    descriptor_sigma_nm: Size | None = None
    network: Network
    data: Annotated[tuple[Volumes, ...], Field(min_length=1)]
    validation: tuple[Volumes, ...] = ()
    start: str | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    patch_zyx: Triple
    erode_zyx: tuple[int, int, int] = (1, 1, 1)
    synapse_share: float = 0.5
    augmentation: Augmentation = Augmentation()
    training: TrainingSettings
    prediction: Prediction
    validate_every: Positive = 500
    checkpoint_every: Positive = 250
    score: str | None = None
    patience: Positive | None = None
    loaders: Annotated[int, Field(ge=0, le=16)] = 1
    tensorboard: bool = False

    @property
    def channels(self) -> dict[str, int]:
        """Heads and their channels, in order."""
        return {name: head_channels(name, self.long_offsets) for name in self.heads}

    def architecture(self, *, auxiliary: bool) -> Architecture:
        """Return the network's shape, with or without the outputs that only training uses."""
        outputs = sum(self.channels.values())
        if auxiliary:
            outputs += len(self.auxiliary_offsets) + (DESCRIPTORS if self.descriptor_sigma_nm else 0)
        return Architecture(**self.network.model_dump(), outputs=outputs, inputs=inputs_of(self.heads))

    def info(self) -> ModelInfo:
        """Return what the model file will say of itself."""
        return ModelInfo(
            architecture=self.architecture(auxiliary=False),
            heads=self.channels,
            voxel_size_nm=self.voxel_size_nm,
            tile_zyx=self.prediction.tile_zyx,
            overlap_zyx=self.prediction.overlap_zyx,
            temperature=self.prediction.temperature,
            long_offsets=self.long_offsets,
            mean=self.training.mean,
            std=self.training.std,
        )

    def sampling(self) -> SamplingSettings:
        """Return how patches are drawn."""
        sigma = self.descriptor_sigma_nm
        z, y, x = self.voxel_size_nm
        return SamplingSettings(
            patch_zyx=self.patch_zyx,
            seed=self.seed,
            erode_zyx=self.erode_zyx,
            heads=self.heads,
            long_offsets=self.long_offsets,
            auxiliary_offsets=self.auxiliary_offsets,
            descriptor_sigma_voxels=None if sigma is None else (sigma / z, sigma / y, sigma / x),
            synapse_share=self.synapse_share,
        )


def read_plan(path: Path, overrides: list[str]) -> Plan:
    """Read a training file.

    Raises
    ------
    SpecError
        A key is unknown or a value is wrong.
    """
    document = read_document(path).with_overrides(overrides)
    try:
        plan = Plan.model_validate(document.tree)
    except ValidationError as error:
        raise spec_error(document, error) from None
    if plan.patience is not None and not plan.validation:
        raise SpecError(
            "patience without validation", where=document.at("patience"), expected="volumes that are held out",
            fix="give validation volumes, or leave patience out",
        )  # fmt: skip
    names = [name for name in score_names(plan.heads) if name != "threshold"]
    if plan.score is not None and plan.score not in names:
        raise SpecError(f"score {plan.score!r}", where=document.at("score"), expected=f"one of {', '.join(names)}")
    return plan


_MISSPELT = ("extra_forbidden", "unexpected_keyword_argument")
_TAGS = ("Labelled", "Phantoms", "Array", "str")


Kinds = tuple[type[BaseModel], dict[int | str, type[BaseModel]]]


def spec_error(document: Document, error: ValidationError, kinds: Kinds | None = None) -> SpecError:
    """Return the error of a training file; ``kinds``: what the file is, and what some of its keys hold."""
    # of a text or an array the reader means the one whose shape it has; a misspelt key is told before what is missing
    errors = sorted(
        error.errors(),
        key=lambda each: (
            each["loc"][-1] == "str" and isinstance(each["input"], dict),
            each["type"] not in _MISSPELT,
        ),
    )
    first = errors[0]
    keys = [key for key in first["loc"] if key not in _TAGS]
    where, name = document.at(*keys), ".".join(str(key) for key in keys)
    if first["type"] in _MISSPELT:
        return unknown(f"unknown key {name!r}", str(keys[-1]), _known(first["loc"], kinds), where)
    return SpecError(f"{name}: {show_found(first)}", where=where, **expectation(first))


def _known(place: tuple[int | str, ...], given: Kinds | None) -> list[str]:
    top, kinds = given or (Plan, {"network": Network, "prediction": Prediction})
    kinds = {**kinds} | {"Labelled": Labelled, "Phantoms": Phantoms, "Array": Array}
    settings = {"training": TrainingSettings, "augmentation": Augmentation}
    if len(place) > 1 and place[0] in settings:
        return sorted(field.name for field in fields(settings[str(place[0])]))
    kind = next((kinds[key] for key in reversed(place[:-1]) if key in kinds), top)
    return sorted(kind.model_fields)


def expand(text: str) -> str:
    """Return ``text`` with each ``${NAME:-default}`` replaced by the environment's value or the default."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda m: os.environ.get(m[1]) or m[2], text)
