"""A training with its files: checkpoint, log, curve and model."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors import SafetensorError
from safetensors.torch import load, save

from bouton.cli.training_card import training_card
from bouton.cli.training_plan import Plan, load_volumes
from bouton.errors import DataError
from bouton.geometry import Box
from bouton.learn.model import Model, model_files, ready_model
from bouton.learn.network import build_network
from bouton.learn.predict import predict
from bouton.learn.sampling import PatchSampler, TrainingVolume, head_truths
from bouton.learn.train import Trainer
from bouton.volume import write_bytes, write_folder

COLUMNS = ("step", "loss", "seconds", "validation_loss", "validation_accuracy")


class TrainingRun:
    """A training with its files."""

    def __init__(self, plan: Plan, plan_file: Path, folder: Path, overrides: Sequence[str] = ()) -> None:
        self.plan, self.folder, self.origin, base = plan, folder, (plan_file, overrides), plan_file.parent
        self.sampler = PatchSampler(load_volumes(plan.data, plan, base), plan.sampling(), plan.augmentation)
        self.validation = load_volumes(plan.validation, plan, base)
        network = build_network(plan.architecture(auxiliary=True), plan.seed)
        self.parameters = sum(p.numel() for p in network.parameters())
        self.trainer = Trainer(network, self.sampler, plan.training)
        self.rows: list[list[float]] = []
        self._resume()

    def _resume(self) -> None:
        path = self.folder / "checkpoint.safetensors"
        if not path.exists():
            return
        try:
            self.trainer.restore(load(path.read_bytes()))
        except (SafetensorError, DataError) as error:
            raise DataError(
                f"cannot resume ({error})", where=str(path), fix="delete the checkpoint to start anew"
            ) from None
        with (self.folder / "log.csv").open() as file:
            rows = [[float(value or "nan") for value in row] for row in list(csv.reader(file))[1:]]
        self.rows = [row for row in rows if row[0] <= self.trainer.step]

    def train(self, seconds: float) -> None:
        """Train to the end, or for so many seconds."""
        plan, trainer, begun = self.plan, self.trainer, time.monotonic()
        before = self.rows[-1][2] if self.rows else 0.0
        losses: list[float] = []
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, TimeRemainingColumn(), refresh_per_second=2) as progress:
            bar = progress.add_task("training", total=plan.training.steps, completed=trainer.step)
            while trainer.step < plan.training.steps and time.monotonic() - begun < seconds:
                losses.append(trainer.update())
                progress.update(bar, completed=trainer.step, description=f"loss {np.mean(losses[-50:]):.3f}")
                last = trainer.step == plan.training.steps
                if last or trainer.step % plan.checkpoint_every == 0:
                    scores = self._validate() if last or trainer.step % plan.validate_every == 0 else (np.nan, np.nan)
                    elapsed = before + time.monotonic() - begun
                    self.rows.append([trainer.step, float(np.mean(losses)), elapsed, *scores])
                    losses = []
                    self._save()
        # also without a step to do: the plan's tiles may have changed
        self._save()

    @property
    def model_folder(self) -> Path:
        """Where the model goes."""
        return self.folder / self.plan.name

    def _save(self) -> None:
        lines = [",".join(COLUMNS), *(",".join("" if np.isnan(v) else f"{v:.6g}" for v in row) for row in self.rows)]
        write_bytes(self.folder / "log.csv", ("\n".join(lines) + "\n").encode())
        write_bytes(self.folder / "checkpoint.safetensors", save(self.trainer.state()))
        hours = (self.rows[-1][2] if self.rows else 0.0) / 3600
        card = training_card(self.plan, *self.origin, self.trainer.step, hours)
        write_folder(self.model_folder, model_files(card, self.trainer.ema))
        if self.rows:
            _draw(np.array(self.rows), self.folder / "curve.png")

    def _validate(self) -> tuple[float, float]:
        """Return cross-entropy and balanced accuracy of the running mean of the weights on the validation volumes."""
        model = ready_model(self.plan.info(), self.trainer.ema)
        scores = [_scores(model, volume, self.plan) for volume in self.validation]
        loss, accuracy = np.mean(scores, axis=0)
        return float(loss), float(accuracy)


def _scores(model: Model, volume: TrainingVolume, plan: Plan) -> tuple[float, float]:
    box = Box.of_shape(volume.image.shape)
    found = predict(model, volume.image, box, box, box)
    truths = head_truths(volume, plan.sampling())
    channels = [
        _channel_scores(values[c], truths[head][0][c], truths[head][1][c] > 0)
        for head, values in found.items()
        for c in range(len(values))
    ]
    loss, accuracy = np.mean(channels, axis=0)
    return float(loss), float(accuracy)


def _channel_scores(values: np.ndarray, truth: np.ndarray, known: np.ndarray) -> tuple[float, float]:
    """Return mean cross-entropy and accuracy, 0 and 1 counted alike."""
    probability = np.clip(values[known] / 255, 1 / 510, 1 - 1 / 510)
    one = truth[known] > 0.5
    loss = [-np.log(p).mean() if p.size else 0.0 for p in (probability[one], 1 - probability[~one])]
    right = [np.mean(p > 0.5) if p.size else 1.0 for p in (probability[one], 1 - probability[~one])]
    return float(np.mean(loss)), float(np.mean(right))


def _draw(rows: np.ndarray, path: Path) -> None:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(rows[:, 0], rows[:, 1], label="training loss (balanced)")
    valid = rows[~np.isnan(rows[:, 3])]
    axes.plot(valid[:, 0], valid[:, 3], "o-", label="validation cross-entropy")
    axes.plot(valid[:, 0], 1 - valid[:, 4], "s-", label="validation 1 - balanced accuracy")
    axes.set(xlabel="step", yscale="log")
    axes.legend()
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=100)
    write_bytes(path, data.getvalue())
