"""The training file that `bouton finetune` writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bouton.cli.choices import size_option
from bouton.cli.training_plan import ANNOTATED
from bouton.errors import DataError, SpecError
from bouton.geometry import NM, Box
from bouton.learn.info import Architecture, ModelInfo
from bouton.learn.model import load_model
from bouton.learn.sampling import FROM_LABELS
from bouton.learn.shipped import model_path
from bouton.volume import Volume, open_volume, write_bytes
from bouton.volume.webknossos import read_annotation

HELD_OUT = 5  # one in so many sections validates
VALIDATIONS = 10
PATIENCE = 4
LARGEST_SIZE_RATIO = 2.0


@dataclass(frozen=True)
class Choices:
    """The options of `bouton finetune`."""

    model: str
    data: Path
    labels: Path | None
    layers: tuple[str, ...]
    known: Path | None
    image_dataset: str | None
    labels_dataset: str | None
    boxes_zyx: tuple[str, ...]
    validate_zyx: tuple[str, ...]
    voxel_size_nm: str | None
    steps: int
    learning_rate: float
    name: str | None


def finetune_plan(choices: Choices) -> tuple[dict[str, Any], list[str]]:
    """Return the tree of a training file, and what people should know of it.

    Raises
    ------
    DataError, SpecError
        The model or the volumes are missing, do not go together, or hold nothing that the model could learn.
    """
    path = model_path(choices.model)
    info = load_model(path).info
    image = open_volume(choices.data, choices.image_dataset, voxel_size_nm=size_option(choices.voxel_size_nm))
    size = _voxel_size(image, info)
    heads, told = _heads(choices, info)
    train_boxes, held_boxes = _boxes(choices, image)
    told.append(f"trains on {', '.join(train_boxes)}; held out: {', '.join(held_boxes) or 'nothing'}")
    every = max(1, choices.steps // VALIDATIONS)
    architecture = info.architecture
    if not isinstance(architecture, Architecture):
        raise SpecError(f"model {choices.model!r} is no network of bouton's own", expected="one that bouton trained")
    isotropic = max(size) < 1.5 * min(size)
    shape = {"widths": architecture.widths, "kernels": architecture.kernels, "pools": architecture.pools}
    tree = {
        "name": choices.name or f"{path.name}-finetuned",
        "description": f"{path.name}, trained further on {choices.data.name}.",
        "start": str(path) if "/" in choices.model or Path(choices.model).is_dir() else choices.model,
        "voxel_size_nm": size,
        "heads": heads,
        **({"long_offsets": info.long_offsets} if "long_affinities" in heads else {}),
        "network": {**shape, "entry": architecture.entry},
        "data": [_volume(choices, box) for box in train_boxes],
        "validation": [_volume(choices, box) for box in held_boxes],
        "patch_zyx": info.tile_zyx,
        "erode_zyx": [1, 1, 1] if isotropic else [0, 1, 1],
        "augmentation": {"symmetry": "zyx" if isotropic and len(set(info.tile_zyx)) == 1 else "yx"},
        "training": {
            "steps": choices.steps, "learning_rate": choices.learning_rate, "warmup_steps": min(100, every),
            "mean": info.mean, "std": info.std,
        },
        "prediction": {
            "tile_zyx": info.tile_zyx, "overlap_zyx": info.overlap_zyx, "temperature": info.temperature,
        },
        "validate_every": every,
        "checkpoint_every": every,
        **({"patience": PATIENCE} if held_boxes else {}),
    }  # fmt: skip
    return _plain(tree), told


def write_plan(path: Path, tree: dict[str, Any]) -> None:
    """Write a training file, unless it is there already.

    Raises
    ------
    SpecError
        Another one is there.
    """
    text = "# Written by `bouton finetune`; `bouton train` with this file repeats it or goes on.\n"
    text += yaml.safe_dump(tree, sort_keys=False, width=110, default_flow_style=None)
    if path.exists() and path.read_text() != text:
        raise SpecError(
            "a training file of other settings is there", where=str(path), expected="none, or the same",
            fix=f"bouton train {path} goes on with it; --name gives the new model another name",
        )  # fmt: skip
    write_bytes(path, text.encode())


def _plain(value: Any) -> Any:
    """Return a tree of lists, as YAML shows it."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _voxel_size(image: Volume, info: ModelInfo) -> NM:
    if image.voxel_size_nm is None:
        raise DataError("no voxel size", where=image.name, expected="z,y,x in nm", fix="--voxel-size-nm 40,4,4")
    ratio = max(max(a / b, b / a) for a, b in zip(image.voxel_size_nm, info.voxel_size_nm, strict=True))
    if ratio > LARGEST_SIZE_RATIO:
        mine, its = (" x ".join(f"{v:g}" for v in size) for size in (image.voxel_size_nm, info.voxel_size_nm))
        raise SpecError(
            f"an image of {mine} nm (z, y, x) for a model of {its} nm", where=image.name,
            expected=f"sizes within a factor of {LARGEST_SIZE_RATIO:g}",
            fix="downsample the image, or begin with another model",
        )  # fmt: skip
    return image.voxel_size_nm


def _heads(choices: Choices, info: ModelInfo) -> tuple[list[str], list[str]]:
    """Return the heads that something is known of, in the model's order, and what is left out or added."""
    given = {_layer(text)[0] for text in choices.layers}
    from_labels = set(FROM_LABELS) & info.heads.keys() if choices.labels else set()
    heads = [head for head in info.heads if head in given | from_labels]
    left_out = [head for head in info.heads if head not in heads]
    added = sorted(given - info.heads.keys())
    told = []
    if left_out:
        told.append(f"left out, because nothing is annotated for them: {', '.join(left_out)}")
    if added:
        told.append(f"new heads, from random weights: {', '.join(added)}")
    if not heads and not added:
        raise SpecError(
            f"nothing for the heads of {choices.model} ({', '.join(info.heads)})", expected="--labels or --layer",
            fix=f"--layer {next(iter(info.heads))}=PATH",
        )  # fmt: skip
    return [*heads, *added], told


def _layer(text: str) -> tuple[str, dict[str, str]]:
    """Read ``HEAD=PATH[:DATASET]``."""
    head, equals, place = text.partition("=")
    path, _, dataset = place.partition(":")
    if not equals or not path or head not in ANNOTATED:
        raise SpecError(
            f"--layer {text!r}", expected=f"HEAD=PATH[:DATASET], HEAD one of {', '.join(ANNOTATED)}",
            fix="--layer clefts=em.h5:volumes/clefts",
        )  # fmt: skip
    return head, {"path": str(Path(path).resolve()), **({"dataset": dataset} if dataset else {})}


def _boxes(choices: Choices, image: Volume) -> tuple[list[str], list[str]]:
    """Return the boxes to train on and those to hold out."""
    boxes = [Box.parse(text) for text in choices.boxes_zyx]
    if not boxes and choices.labels is not None and choices.labels.suffix.lower() == ".zip":
        boxes = [box & image.box for box in read_annotation(choices.labels).boxes.values()]
        boxes = [box for box in boxes if not box.is_empty]
        if not boxes:
            raise DataError(
                "no bounding box of the annotation lies in the image", where=str(choices.labels),
                expected="a box drawn around what is annotated completely", fix=f"draw one, or --box-zyx {image.box}",
            )  # fmt: skip
    boxes = boxes or [image.box]
    if choices.validate_zyx:
        held = [Box.parse(text) for text in choices.validate_zyx]
        for box in boxes:
            if any(not (box & other).is_empty for other in held):
                raise SpecError(
                    f"--validate-zyx shares voxels with the training box {box}", expected="boxes apart",
                    fix="--box-zyx and --validate-zyx that do not meet",
                )  # fmt: skip
        return [str(box) for box in boxes], [str(box) for box in held]
    if len(boxes) > 1:
        return [str(box) for box in boxes[:-1]], [str(boxes[-1])]
    (z0, y0, x0), (z1, y1, x1) = boxes[0].start, boxes[0].stop
    cut = z1 - (z1 - z0) // HELD_OUT
    held_out = [str(Box((cut, y0, x0), (z1, y1, x1)))] if cut < z1 else []
    return [str(Box((z0, y0, x0), (cut, y1, x1)))], held_out


def _volume(choices: Choices, box: str) -> dict[str, Any]:
    def array(path: Path, dataset: str | None) -> dict[str, str]:
        return {"path": str(path.resolve()), **({"dataset": dataset} if dataset else {})}

    entry: dict[str, Any] = {"image": array(choices.data, choices.image_dataset)}
    if choices.labels is not None:
        entry["labels"] = array(choices.labels, choices.labels_dataset)
    if choices.layers:
        entry["layers"] = dict(_layer(text) for text in choices.layers)
    if choices.known is not None:
        entry["known"] = array(choices.known, None)
    return {**entry, "box_zyx": box}
