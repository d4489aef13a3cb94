"""The file that `bouton train` reads, checked; and the volumes and settings it asks for."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bouton.errors import DataError, SpecError
from bouton.geometry import NM, ZYX, Box, nm_to_voxels
from bouton.learn.augment import Augmentation
from bouton.learn.info import HEADS, Architecture, ModelInfo
from bouton.learn.sampling import SamplingSettings, TrainingVolume
from bouton.learn.targets import SynapseTruth, fill_unlabelled, synapse_classes
from bouton.learn.train import TrainingSettings
from bouton.phantom import PhantomParams, generate
from bouton.strict_yaml import Document, read_document, unknown
from bouton.volume import open_volume
from bouton.workflow_file import expectation, show_found

Positive = Annotated[int, Field(gt=0)]
Triple = tuple[Positive, Positive, Positive]
Offset = tuple[int, int, int]
Size = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Network(_Strict):
    """Shape of the network (:class:`bouton.learn.network.Architecture`)."""

    widths: tuple[Positive, ...]
    kernels: tuple[Triple, ...]
    pools: tuple[Triple, ...]
    entry: Triple = (1, 5, 5)


class Labelled(_Strict):
    """A labelled volume on disk: data sets ``image`` and ``labels`` of ``path``, over ``box_zyx``.

    ``fill_voxels``: voxels labelled 0 so near to a label take it; further ones do not count.
    """

    path: str
    image: str
    labels: str
    box_zyx: str
    fill_voxels: float = 2.0


class Phantoms(_Strict):
    """One phantom of ``shape_zyx`` for each seed."""

    seeds: tuple[int, ...]
    shape_zyx: Triple
    reach_nm: float = 80.0


class Prediction(_Strict):
    """How the finished model is applied."""

    tile_zyx: Triple
    overlap_zyx: tuple[int, int, int]
    temperature: float = 1.0


class Plan(_Strict):
    """A training file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]
    description: str = ""
    voxel_size_nm: tuple[Size, Size, Size]
    heads: tuple[Literal["affinities", "synapse_evidence"], ...] = ("affinities",)
    auxiliary_offsets: tuple[Offset, ...] = ()
    network: Network
    data: Annotated[tuple[Labelled | Phantoms, ...], Field(min_length=1)]
    validation: Annotated[tuple[Labelled | Phantoms, ...], Field(min_length=1)]
    seed: int = 0
    patch_zyx: Triple
    erode_zyx: tuple[int, int, int] = (1, 1, 1)
    synapse_share: float = 0.5
    augmentation: Augmentation = Augmentation()
    training: TrainingSettings
    prediction: Prediction
    validate_every: Positive = 500
    checkpoint_every: Positive = 250

    @property
    def channels(self) -> dict[str, int]:
        """Heads and their channels, in order."""
        return {name: HEADS[name] for name in self.heads}

    def architecture(self, *, auxiliary: bool) -> Architecture:
        """Return the network's shape, with or without the outputs that only training uses."""
        outputs = sum(self.channels.values()) + (len(self.auxiliary_offsets) if auxiliary else 0)
        return Architecture(**self.network.model_dump(), outputs=outputs)

    def info(self) -> ModelInfo:
        """Return what the model file will say of itself."""
        return ModelInfo(
            architecture=self.architecture(auxiliary=False),
            heads=self.channels,
            voxel_size_nm=self.voxel_size_nm,
            tile_zyx=self.prediction.tile_zyx,
            overlap_zyx=self.prediction.overlap_zyx,
            temperature=self.prediction.temperature,
            mean=self.training.mean,
            std=self.training.std,
        )

    def sampling(self) -> SamplingSettings:
        """Return how patches are drawn."""
        return SamplingSettings(self.patch_zyx, self.seed, self.erode_zyx, self.auxiliary_offsets, self.synapse_share)


def read_plan(path: Path, overrides: list[str]) -> Plan:
    """Read a training file.

    Raises
    ------
    SpecError
        A key is unknown or a value is wrong.
    """
    document = read_document(path).with_overrides(overrides)
    try:
        return Plan.model_validate(document.tree)
    except ValidationError as error:
        raise _spec_error(document, error) from None


def _spec_error(document: Document, error: ValidationError) -> SpecError:
    first = error.errors()[0]
    keys = [key for key in first["loc"] if key not in ("Labelled", "Phantoms")]
    where, name = document.at(*keys), ".".join(str(key) for key in keys)
    if first["type"] == "extra_forbidden":
        return unknown(f"unknown key {name!r}", str(keys[-1]), _known(keys), where)
    return SpecError(f"{name}: {show_found(first)}", where=where, **expectation(first))


def _known(keys: list[int | str]) -> list[str]:
    parts = {"network": Network, "prediction": Prediction}
    if len(keys) > 1 and keys[0] in ("data", "validation"):
        return sorted({*Labelled.model_fields, *Phantoms.model_fields})
    return sorted(parts.get(str(keys[0]), Plan).model_fields if len(keys) > 1 else Plan.model_fields)


def load_volumes(sources: tuple[Labelled | Phantoms, ...], plan: Plan, folder: Path) -> list[TrainingVolume]:
    """Return the volumes of ``sources``; relative paths start at ``folder``."""
    with_synapses = "synapse_evidence" in plan.heads
    volumes: list[TrainingVolume] = []
    for source in sources:
        if isinstance(source, Phantoms):
            volumes += [phantom_volume(source, seed, plan.voxel_size_nm) for seed in source.seeds]
        elif with_synapses:
            raise SpecError(f"{source.path} has no synapses", expected="phantoms, where synapse_evidence is trained")
        else:
            volumes.append(_labelled_volume(source, plan.voxel_size_nm, folder))
    return volumes


def phantom_volume(source: Phantoms, seed: int, voxel_size_nm: NM) -> TrainingVolume:
    """Return one phantom with its truth; synapses just outside of it are known too."""
    core = Box.of_shape(source.shape_zyx)
    halo: ZYX = nm_to_voxels(3 * source.reach_nm, voxel_size_nm)
    made = generate(core.grow(halo), PhantomParams(seed=seed, voxel_size_nm=voxel_size_nm))
    table = made.synapses
    truth = SynapseTruth(table["id"], table["pre_id"], table["post_id"], table["type"] == "excitatory")
    classes = synapse_classes(made.clefts, made.neuron_ids, truth, source.reach_nm, voxel_size_nm)
    cut = core.within(core.grow(halo)).slices
    labels = _small_ids(made.neuron_ids[cut])
    return TrainingVolume(made.image[cut].copy(), labels, np.ones(core.shape, bool), classes[cut].copy())


def _labelled_volume(source: Labelled, voxel_size_nm: NM, folder: Path) -> TrainingVolume:
    path, box = folder / expand(source.path), Box.parse(source.box_zyx)
    image = open_volume(path, source.image, voxel_size_nm=voxel_size_nm).read(box)
    if image.dtype != np.uint8:
        raise DataError(f"image of {image.dtype}", where=f"{path}, data set {source.image}", expected="uint8")
    labels = open_volume(path, source.labels, voxel_size_nm=voxel_size_nm).read(box)
    filled = _small_ids(fill_unlabelled(labels, source.fill_voxels))
    return TrainingVolume(image, filled, filled != 0)


def _small_ids(labels: np.ndarray) -> np.ndarray:
    """Return labels renumbered from 1, uint32; 0 stays 0."""
    present, inverse = np.unique(labels, return_inverse=True)
    start = 0 if present[0] == 0 else 1
    return (inverse.reshape(labels.shape) + start).astype(np.uint32)


def expand(text: str) -> str:
    """Return ``text`` with each ``${NAME:-default}`` replaced by the environment's value or the default."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda m: os.environ.get(m[1]) or m[2], text)
