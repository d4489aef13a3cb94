"""What the page of a training tells, out of a run."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import numpy as np
import yaml

from bouton.cli.progress import clock
from bouton.cli.training_data import Loaded
from bouton.cli.training_scores import WORDS
from bouton.report.training import Curves, DataRow, Example, TrainingPage, channels_uri, image_uri, labels_uri

if TYPE_CHECKING:
    from bouton.cli.training_run import TrainingRun

SHOWN_VOLUMES, SHOWN_PATCHES = 2, 3
CHANNEL_WORDS = {
    "affinities": "red z, green y, blue x",
    "synapse_evidence": "red cleft, green pre, blue post",
    "tissue": "red myelin, green glia, blue soma",
}


def page_of(run: TrainingRun, curves: Curves, picture: bytes, card: str) -> TrainingPage:
    """Return the page of a run as it stands."""
    plan, step = run.plan, run.trainer.step
    tall = plan.voxel_size_nm[1] / plan.voxel_size_nm[2]
    size = " x ".join(f"{value:g}" for value in plan.voxel_size_nm)
    facts = {
        "Steps": f"{step:,} of {plan.training.steps:,}" + (", stopped early" if run.stopped_early else ""),
        "Model": f"{run.model_folder} (weights of step {run.chosen[0]:,})",
        "Network": f"{run.parameters:,} weights, heads {', '.join(plan.heads)}, {size} nm (z, y, x)",
        "Time": f"{clock(run.seconds)} on {platform.processor() or platform.machine()}, {plan.training.device}, "
        f"{plan.training.precision}",
        "Chosen by": f"{run.score}, patience {plan.patience}" if plan.patience else "nothing: the last running mean",
    }
    return TrainingPage(
        name=plan.name,
        state="done" if run.finished else "unfinished",
        description=" ".join(plan.description.split()),
        facts=facts,
        notes=run.notes,
        curves=curves,
        picture=picture,
        best_step=run.best_step or None,
        score_words="; ".join(f"{name.replace('_', ' ')}: {WORDS[name]}" for name in run.names if name in WORDS) + ".",
        examples=[*_validation_examples(run, tall), *_patch_examples(run, tall)],
        data=[*_data_rows("training", run.data), *_data_rows("validation", run.validation)],
        settings=yaml.safe_dump(plan.model_dump(mode="json", exclude_defaults=True), sort_keys=False, width=110),
        card=card,
    )


def _data_rows(use: str, volumes: list[Loaded]) -> list[DataRow]:
    rows = []
    for each in volumes:
        shares = [f"cells {each.volume.known.mean():.0%}"] if each.volume.known.any() else []
        shares += [f"{head} {np.mean(values != 255):.0%}" for head, values in each.volume.layers.items()]
        rows.append(DataRow(use, each.name, each.box, each.volume.image.size, ", ".join(shares), each.licence))
    return rows


def _validation_examples(run: TrainingRun, tall: float) -> list[Example]:
    """Return the middle sections of the first validation volumes, with what the model says of them."""
    if run.validated is None:
        return []
    examples = []
    for i, each in enumerate(run.validation[:SHOWN_VOLUMES]):
        middle = each.volume.image.shape[0] // 2
        image = each.volume.image[middle]
        pictures = [("image", image_uri(image, tall))]
        if each.volume.known.any():
            truth = np.where(each.volume.known, each.volume.labels, 0)[middle]
            pictures.append(("true cells", labels_uri(truth, image, tall)))
        segments = run.validated.segmentations[i]
        if segments is not None:
            pictures.append(("segmentation at the best threshold", labels_uri(segments[middle], image, tall)))
        for head, values in run.validated.predictions[i].items():
            words = f" ({CHANNEL_WORDS[head]})" if head in CHANNEL_WORDS else ""
            if head in each.volume.layers:
                truth = _bit_channels(each.volume.layers[head][middle], min(3, len(values)))
                pictures.append((f"true {head}{words}", channels_uri(truth, tall)))
            pictures.append((f"predicted {head}{words}", channels_uri(values[:3, middle], tall)))
        examples.append(Example(f"{each.name}, box {each.box}, section {middle}", tuple(pictures)))
    return examples


def _bit_channels(layer: np.ndarray, count: int) -> np.ndarray:
    return np.stack([((layer != 255) & (layer >> bit & 1 > 0)) * np.uint8(255) for bit in range(count)])


def _patch_examples(run: TrainingRun, tall: float) -> list[Example]:
    """Return the middle sections of the first patches, with the truth of the first head and where it counts."""
    examples = []
    for index in range(SHOWN_PATCHES):
        patch = run.sampler(index)
        middle = patch.image.shape[1] // 2
        image = np.clip(patch.image[0, middle], 0, 255).astype(np.uint8)
        pictures = [("image, changed", image_uri(image, tall))]
        first = 0
        for head, count in run.plan.channels.items():
            shown = slice(first, first + min(3, count))
            first += count
            truth, weight = (array[shown, middle] for array in (patch.truth, patch.weight))
            if weight.any():
                # grey where nobody knows
                values = np.where(weight > 0, truth * 255, 96).astype(np.uint8)
                pictures.append((f"what it teaches: {head}", channels_uri(values, tall)))
        examples.append(Example(f"Training patch {index}", tuple(pictures)))
    return examples
