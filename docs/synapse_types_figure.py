"""Pictures of docs/stages/synapse_types.md: how far the probabilities can be trusted, a spine's head and a shaft.

    python docs/synapse_types_figure.py runs/types-s2003 runs/types-t4008

The runs are those of workflows/types (predicted.yaml of seed 2003, truth.yaml of seed 4008): unseen by the model.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot

from bouton.cli.train_types import QUESTIONS, Labelled, read_labelled
from bouton.geometry import Box
from bouton.learn.shipped import model_path
from bouton.learn.synapse_types import SYNAPSE_TYPES, TypesModel, read_types_model
from bouton.learn.synapse_types_training import reliability
from bouton.volume.run_folder import Run, open_run

IMAGES = Path(__file__).parent / "images"
HALF_NM = 700.0


def answers(model: TypesModel, rows: Labelled, question: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the probability of the answer (n,), whether it is right (n,), and the row of each answer."""
    chances, classes = model.answer(question, rows.features), model.card.questions[question].classes
    known = np.flatnonzero(np.isfinite(chances).all(axis=1) & np.isin(rows.classes[question].astype(str), classes))
    right = np.array(classes)[chances[known].argmax(axis=1)] == rows.classes[question][known].astype(str)
    return chances[known].max(axis=1), right, known


def draw_reliability(axes: pyplot.Axes, model: TypesModel, rows: list[Labelled]) -> None:
    """Draw how often answers of each confidence are right."""
    axes.plot([0.4, 1], [0.4, 1], color="0.7", linewidth=1)
    for question in QUESTIONS:
        parts = [answers(model, each, question) for each in rows]
        confidence, right = (np.concatenate([part[n] for part in parts]) for n in range(2))
        table, error = reliability(confidence, right)
        label = f"{question}: {right.mean():.3f} right, error {error:.3f} (n = {len(right)})"
        axes.plot(table[:, 0], table[:, 1], marker="o", label=label)
        for mean, share, count in table[table[:, 2] > 0]:
            axes.annotate(f"{count:.0f}", (mean, share), textcoords="offset points", xytext=(4, -10), fontsize=7)
    axes.set(xlabel="calibrated probability of the answer", ylabel="share of answers that are right", ylim=(0, 1.05))
    axes.legend(fontsize=7, loc="lower right")


def draw_place(axes: pyplot.Axes, run: Run, row: int, title: str) -> None:
    """Draw the section through the cleft with both partners."""
    table, size = run.table(run.steps["types"].reads["synapses"]), np.asarray(run.voxel_size_nm)
    order = np.argsort(table["id"])[row]
    middle = np.floor(np.array([table[f"{axis}_nm"][order] for axis in "zyx"]) / size).astype(int)
    half = (HALF_NM / size).astype(int)
    reach = np.array([0, half[1], half[2]])
    low, high = middle - reach, middle + reach + np.array([1, 0, 0])
    box = Box(tuple(low.tolist()), tuple(high.tolist())) & Box.of_shape(run.shape)
    image, labels = run.volume("tissue.image").read(box)[0], run.volume("segmentation").read(box)[0]
    shade = np.repeat(image[..., None] / 255.0, 3, axis=2)
    for side, colour in (("pre", (0.2, 0.4, 1.0)), ("post", (1.0, 0.6, 0.1))):
        inside = labels == table[f"{side}_id"][order]
        shade[inside] = 0.65 * shade[inside] + 0.35 * np.array(colour)
    axes.imshow(shade, interpolation="nearest")
    axes.set(title=title, xticks=[], yticks=[])


def main(folders: list[str]) -> None:
    """Write docs/images/synapse_types.png."""
    matplotlib.use("Agg")
    model = read_types_model(model_path("synapse-types-phantom", SYNAPSE_TYPES))
    rows = [read_labelled(Path(folder), "test") for folder in folders]
    figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
    draw_reliability(axes[0], model, rows)
    run, found = open_run(folders[0]), rows[0]
    chances, classes = model.answer("target", found.features), model.card.questions["target"].classes
    for panel, name in zip(axes[1:], ("spine", "shaft"), strict=True):
        fit = (found.classes["target"].astype(str) == name) * found.features["seen"] * chances[:, classes.index(name)]
        best = int(np.nanargmax(fit))
        draw_place(panel, run, best, f"{name}, p = {chances[best, classes.index(name)]:.2f}")
    figure.savefig(IMAGES / "synapse_types.png", dpi=110)


if __name__ == "__main__":
    main(sys.argv[1:])
