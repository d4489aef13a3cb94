"""The volumes that a training file asks for, read into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from bouton.cli.training_forest_plan import AnyPlan
from bouton.cli.training_plan import Array, Labelled, Phantoms, expand
from bouton.errors import DataError, SpecError
from bouton.geometry import NM, ZYX, Box, nm_to_voxels
from bouton.learn.info import HEADS
from bouton.learn.partner_sampling import cleft_centres
from bouton.learn.sampling import FROM_LABELS, CleftTruth, TrainingVolume
from bouton.learn.targets import UNKNOWN, SynapseTruth, fill_unlabelled, interior, synapse_classes
from bouton.phantom import PhantomParams, TissueParams, generate
from bouton.strict_yaml import unknown
from bouton.volume import Volume, open_volume
from bouton.volume.synapse_tables import read_synapses
from bouton.volume.webknossos import read_annotation

ANNOTATION = "annotation"
FILL_VOXELS = 2.0
Reader = Callable[[str | Array], np.ndarray]
Table = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Loaded:
    """A volume in memory, and how people call it: name, box (z, y, x) and licence."""

    volume: TrainingVolume
    name: str
    box: str
    licence: str


def load_volumes(sources: Sequence[Labelled | Phantoms], plan: AnyPlan, folder: Path) -> list[Loaded]:
    """Return the volumes of ``sources``; relative paths start at ``folder``.

    Raises
    ------
    DataError, SpecError
        A volume is missing, of another voxel size, or what is asked of it makes no sense.
    """
    loaded: list[Loaded] = []
    for source in sources:
        if isinstance(source, Phantoms):
            shape = str(Box.of_shape(source.shape_zyx).shift(source.start_zyx))
            for seed in source.seeds:
                volume = phantom_volume(source, seed, plan.voxel_size_nm)
                loaded.append(Loaded(volume, f"phantom, seed {seed}", shape, "made here"))
        else:
            loaded += _labelled_volumes(source, plan, folder)
    return loaded


def phantom_volume(source: Phantoms, seed: int, voxel_size_nm: NM) -> TrainingVolume:
    """Return one phantom with its truth; synapses just outside of it are known too."""
    core = Box.of_shape(source.shape_zyx).shift(source.start_zyx)
    halo: ZYX = nm_to_voxels(3 * source.reach_nm, voxel_size_nm)
    made = generate(core.grow(halo), _tissue(source, seed, voxel_size_nm))
    table = made.synapses
    truth = SynapseTruth(table["id"], table["pre_id"], table["post_id"], table["type"] == "excitatory")
    classes = synapse_classes(made.clefts, made.neuron_ids, truth, source.reach_nm, voxel_size_nm)
    cut = core.within(core.grow(halo)).slices
    labels = _small_ids(made.neuron_ids[cut])
    synapses = cleft_truth(made.clefts[cut], (made.neuron_ids[cut], labels), table)
    layers = {"synapse_evidence": classes, "clefts": classes & 1, "vesicles": made.vesicles}
    layers |= {"mitochondria": made.mitochondria, "tissue": made.tissue}
    layers = {name: values[cut].copy() for name, values in layers.items()}
    return TrainingVolume(made.image[cut].copy(), labels, np.ones(core.shape, bool), layers, synapses=synapses)


def cleft_truth(clefts: np.ndarray, cells: tuple[np.ndarray, np.ndarray], table: Table) -> CleftTruth:
    """Return single clefts with their partners.

    Parameters
    ----------
    clefts : numpy.ndarray
        Ids (z, y, x) of the table, 0 = none.
    cells : (named, labels)
        The cells by the names that the table uses, and as the training knows them; 0 = none.
    table : mapping
        ``id``, ``pre_id``, ``post_id``.
    """
    order = np.argsort(table["id"])
    ids = table["id"][order]
    at = np.minimum(np.searchsorted(ids, clefts), max(0, len(ids) - 1))
    rows = np.where((clefts != 0) & (ids[at] == clefts), at + 1, 0) if len(ids) else np.zeros(clefts.shape)
    named, labels = (values[cells[1] != 0] for values in cells)
    names, first = np.unique(named, return_index=True)
    partners = np.zeros((len(ids) + 1, 2), np.int64)
    for side, column in enumerate(("pre_id", "post_id")):
        wanted = table[column][order]
        place = np.minimum(np.searchsorted(names, wanted), max(0, len(names) - 1))
        if len(names):
            partners[1:, side] = np.where((names[place] == wanted) & (wanted != 0), labels[first[place]], 0)
    return CleftTruth(rows.astype(np.uint32), partners)


def _tissue(source: Phantoms, seed: int, voxel_size_nm: NM) -> PhantomParams:
    names = sorted({field.name for field in fields(TissueParams)} - {"seed"})
    for name in source.tissue:
        if name not in names:
            raise unknown(f"unknown parameter of tissue {name!r}", name, names, "tissue")
    return PhantomParams(seed=seed, voxel_size_nm=voxel_size_nm, **source.tissue)


def _labelled_volumes(source: Labelled, plan: AnyPlan, folder: Path) -> Iterator[Loaded]:
    if not source.layers and source.labels is None:
        raise SpecError(
            f"{source.path or source.image}: neither labels nor layers", expected="something to learn",
            fix="labels: DATASET, or layers: {clefts: DATASET}",
        )  # fmt: skip
    image = place_of(source.image, source, folder)
    whole = open_array(image, size_on_disk(source, plan)).box
    for box in boxes_of(source, folder, whole):
        name = f"{image.path}: {image.dataset}" if image.dataset else image.path
        for volume in _volumes_in(box, source, plan, folder):
            yield Loaded(volume, name, str(box), source.licence)


def boxes_of(source: Labelled, folder: Path, whole: Box) -> list[Box]:
    """Return where patches may come from."""
    if source.box_zyx is None:
        return [whole]
    if source.box_zyx != ANNOTATION:
        return [Box.parse(source.box_zyx)]
    first = source.labels if source.labels is not None else next(iter(source.layers.values()))
    array = place_of(first, source, folder)
    boxes = [box.shift(array.offset_zyx) & whole for box in read_annotation(array.path).boxes.values()]
    boxes = [box for box in boxes if not box.is_empty]
    if not boxes:
        raise DataError(
            "no bounding box of the annotation lies in the image", where=array.path,
            expected="a bounding box drawn in webKnossos around what is annotated completely",
            fix="draw one, or give box_zyx: z0:z1,y0:y1,x0:x1",
        )  # fmt: skip
    return boxes


def place_of(array: str | Array | None, source: Labelled, folder: Path) -> Array:
    """Return an array with its whole path."""
    if isinstance(array, Array):
        return array.model_copy(update={"path": str(folder / expand(array.path))})
    if source.path is None:
        raise SpecError(f"{array!r} without a path", expected="path: FILE, or {path: FILE, dataset: NAME}")
    return Array(path=str(folder / expand(source.path)), dataset=array)


def open_array(array: Array, voxel_size_nm: NM) -> Volume:
    """Open an array whose path is whole."""
    return open_volume(array.path, array.dataset, voxel_size_nm=voxel_size_nm, absent=array.absent)


def size_on_disk(source: Labelled, plan: AnyPlan) -> NM:
    """Return the voxel size of a volume of which every n-th section is kept."""
    z, y, x = plan.voxel_size_nm
    return z / source.keep_every, y, x


def _volumes_in(box: Box, source: Labelled, plan: AnyPlan, folder: Path) -> Iterator[TrainingVolume]:
    size = size_on_disk(source, plan)

    def read(array: str | Array) -> np.ndarray:
        place = place_of(array, source, folder)
        return open_array(place, size).read(box.shift([-o for o in place.offset_zyx]))

    place = place_of(source.image, source, folder)
    image = open_array(place, size).read(box)
    if image.dtype != np.uint8 or image.ndim != 3:
        raise DataError(
            f"image of {image.dtype}, {image.ndim} axes", where=f"{place.path}, data set {place.dataset}",
            expected="uint8 (z, y, x)", fix="bouton convert IMAGE OUT --dtype uint8",
        )  # fmt: skip
    labels, known = _cells(source, read, image.shape)
    masked = source.known is not None or source.unlabelled_id is not None
    layers = {head: _bits(read(array), head) for head, array in source.layers.items()}
    if source.known is not None:
        seen = _integers(read(source.known), "known") != 0
        layers = {head: np.where(seen, values, np.uint8(UNKNOWN)) for head, values in layers.items()}
    synapses = _synapses(source, read, labels, folder)
    for first in range(source.keep_every):
        part = slice(first, None, source.keep_every)
        room = [(0, max(0, p - n)) for p, n in zip(plan.patch_zyx, image[part].shape, strict=True)]
        # where a mask says what is known, a voxel whose truth depends on an unknown one does not count
        certain = interior(known[part].astype(np.uint8), plan.erode_zyx) if masked else known[part]
        yield TrainingVolume(
            _mirrored(image[part], room),
            np.pad(labels[part], room),
            np.pad(certain, room),
            {head: np.pad(values[part], room, constant_values=UNKNOWN) for head, values in layers.items()},
            source.weight,
            synapses and CleftTruth(np.pad(synapses.clefts[part], room), synapses.partners),
        )


def _synapses(source: Labelled, read: Reader, labels: np.ndarray, folder: Path) -> CleftTruth | None:
    """Return what a partner network learns from; None where the file does not tell."""
    if source.clefts is None or source.synapses is None or source.labels is None:
        given = [name for name in ("clefts", "synapses") if getattr(source, name) is not None]
        if given:
            raise SpecError(
                f"{given[0]} alone", expected="labels, clefts (ids of single clefts) and synapses (their table)",
                fix="give all three, or none for a volume without synapses",
            )  # fmt: skip
        return None
    table = read_synapses(folder / expand(source.synapses))
    return cleft_truth(_integers(read(source.clefts), "clefts"), (read(source.labels), labels), table)


def _mirrored(image: np.ndarray, room: list[tuple[int, int]]) -> np.ndarray:
    # a single voxel has nothing to be mirrored at
    return np.pad(image, room, mode="reflect" if min(image.shape) > 1 else "edge")


def _cells(source: Labelled, read: Reader, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return cell ids, 0 where they are not to be believed, and where they are."""
    if source.labels is None:
        return np.zeros(shape, np.uint32), np.zeros(shape, bool)
    labels = _integers(read(source.labels), "labels")
    if source.known is None and source.unlabelled_id is None:
        fill = FILL_VOXELS if source.fill_voxels is None else source.fill_voxels
        labels = _small_ids(fill_unlabelled(labels, fill))
        return labels, labels != 0
    known = np.ones(shape, bool)
    if source.known is not None:
        known &= _integers(read(source.known), "known") != 0
    if source.unlabelled_id is not None:
        known &= labels != source.unlabelled_id
    labels = _small_ids(fill_unlabelled(np.where(known, labels, 0), source.fill_voxels or 0.0))
    return np.where(known, labels, np.uint32(0)), known


def _integers(values: np.ndarray, what: str) -> np.ndarray:
    if values.dtype.kind not in "uib" or values.ndim != 3:
        raise DataError(f"{values.dtype} values, {values.ndim} axes as {what}", expected="integers (z, y, x)")
    return values


def _bits(values: np.ndarray, head: str) -> np.ndarray:
    values = _integers(values, head)
    if (HEADS[head] or 0) > 1:
        if values.size and int(values.max()) > UNKNOWN:
            raise DataError(
                f"value {values.max()} in the layer of {head}", expected="a bit for each channel, below 256"
            )
        return values.astype(np.uint8)
    return (values != 0).astype(np.uint8)


def _small_ids(labels: np.ndarray) -> np.ndarray:
    """Return labels renumbered from 1, uint32; 0 stays 0."""
    present, inverse = np.unique(labels, return_inverse=True)
    start = 0 if present[0] == 0 else 1
    return (inverse.reshape(labels.shape) + start).astype(np.uint32)


def _wanted(head: str) -> str:
    if head == "partners":
        return "labels, clefts and synapses of clefts with two known partners"
    return "labels" if head in FROM_LABELS else f"layers: {{{head}: DATASET}}"


def check_heads(plan: AnyPlan, volumes: Sequence[Loaded]) -> None:
    """Check that something is annotated for every head.

    Raises
    ------
    DataError
        Nothing is.
    """
    for head in plan.heads:
        if head == "partners":
            found = any(cleft_centres(each.volume) for each in volumes)
        elif head in FROM_LABELS:
            found = any(each.volume.known.any() for each in volumes)
        else:
            layers = [each.volume.layers[head] for each in volumes if head in each.volume.layers]
            found = any((layer != UNKNOWN).any() for layer in layers)
        if not found:
            raise DataError(
                f"head {head!r}, but no training volume says anything of it",
                expected=_wanted(head),
                fix="annotate it, check known and box_zyx, or leave the head out",
            )  # fmt: skip
