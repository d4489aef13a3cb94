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
from bouton.learn.descriptors import CHANNELS as DESCRIPTORS
from bouton.learn.info import HEADS, Architecture, ModelInfo, head_channels
from bouton.learn.sampling import SamplingSettings, TrainingVolume
from bouton.learn.targets import UNKNOWN, SynapseTruth, fill_unlabelled, synapse_classes
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

    ``layers``: for a head like ``clefts`` the data set of its annotation (0 no, else yes; for heads of several channels
    bits). ``fill_voxels``: voxels labelled 0 so near to a label take it; further ones do not count. ``keep_every``:
    take every n-th section only, once for each of the n ways. ``weight``: how often patches come from here. A volume
    smaller than a patch is mirrored up to its size; what is mirrored counts as not annotated. ``source``, ``doi`` and
    ``licence`` go into the model's card.
    """

    path: str
    image: str
    labels: str | None = None
    layers: dict[str, str] = {}
    box_zyx: str
    fill_voxels: float = 2.0
    keep_every: Positive = 1
    weight: Size = 1.0
    source: str = ""
    doi: str = ""
    licence: str = ""


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
    limits: str = ""
    licence: str = "not stated"
    voxel_size_nm: tuple[Size, Size, Size]
    heads: Annotated[tuple[Literal[*HEADS], ...], Field(min_length=1)] = ("affinities",)
    long_offsets: tuple[Offset, ...] = ()
    auxiliary_offsets: tuple[Offset, ...] = ()
    descriptor_sigma_nm: Size | None = None
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
        return {name: head_channels(name, self.long_offsets) for name in self.heads}

    def architecture(self, *, auxiliary: bool) -> Architecture:
        """Return the network's shape, with or without the outputs that only training uses."""
        outputs = sum(self.channels.values())
        if auxiliary:
            outputs += len(self.auxiliary_offsets) + (DESCRIPTORS if self.descriptor_sigma_nm else 0)
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
    volumes: list[TrainingVolume] = []
    for source in sources:
        if isinstance(source, Phantoms):
            volumes += [phantom_volume(source, seed, plan.voxel_size_nm) for seed in source.seeds]
        else:
            volumes += _labelled_volumes(source, plan, folder)
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
    layers = {"synapse_evidence": classes, "clefts": classes & 1, "vesicles": made.vesicles}
    layers["mitochondria"] = made.mitochondria
    layers = {name: values[cut].copy() for name, values in layers.items()}
    return TrainingVolume(made.image[cut].copy(), labels, np.ones(core.shape, bool), layers)


def _labelled_volumes(source: Labelled, plan: Plan, folder: Path) -> list[TrainingVolume]:
    path, box = folder / expand(source.path), Box.parse(source.box_zyx)

    def read(dataset: str) -> np.ndarray:
        return open_volume(path, dataset, voxel_size_nm=plan.voxel_size_nm).read(box)

    image = read(source.image)
    if image.dtype != np.uint8:
        raise DataError(f"image of {image.dtype}", where=f"{path}, data set {source.image}", expected="uint8")
    labels = np.zeros(image.shape, np.uint32)
    if source.labels is not None:
        labels = _small_ids(fill_unlabelled(read(source.labels), source.fill_voxels))
    layers = {head: _bits(read(dataset), head) for head, dataset in source.layers.items()}
    volumes = []
    for first in range(source.keep_every):
        part = slice(first, None, source.keep_every)
        room = [(0, max(0, p - n)) for p, n in zip(plan.patch_zyx, image[part].shape, strict=True)]
        volumes.append(
            TrainingVolume(
                np.pad(image[part], room, mode="reflect"),
                np.pad(labels[part], room),
                np.pad(labels[part] != 0, room),
                {head: np.pad(values[part], room, constant_values=UNKNOWN) for head, values in layers.items()},
                source.weight,
            )
        )
    return volumes


def _bits(values: np.ndarray, head: str) -> np.ndarray:
    return values.astype(np.uint8) if (HEADS[head] or 0) > 1 else (values != 0).astype(np.uint8)


def _small_ids(labels: np.ndarray) -> np.ndarray:
    """Return labels renumbered from 1, uint32; 0 stays 0."""
    present, inverse = np.unique(labels, return_inverse=True)
    start = 0 if present[0] == 0 else 1
    return (inverse.reshape(labels.shape) + start).astype(np.uint32)


def expand(text: str) -> str:
    """Return ``text`` with each ``${NAME:-default}`` replaced by the environment's value or the default."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda m: os.environ.get(m[1]) or m[2], text)
