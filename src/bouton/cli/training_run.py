"""A training with its files: checkpoint, log, curve, page, events and model."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from torch import Tensor

from bouton.cli.progress import clock
from bouton.cli.training_card import Origin, Progress, training_card
from bouton.cli.training_data import check_heads, load_volumes
from bouton.cli.training_events import Events
from bouton.cli.training_files import load_checkpoint, save_checkpoint
from bouton.cli.training_page import page_of
from bouton.cli.training_partners import validate_partners
from bouton.cli.training_plan import Plan
from bouton.cli.training_scores import default_score, is_better, score_names
from bouton.cli.training_validation import Validated, validate
from bouton.errors import DataError, SpecError
from bouton.learn.card import Card, card_bytes
from bouton.learn.checkpoint import pack_checkpoint
from bouton.learn.model import load_model, model_files, ready_model
from bouton.learn.network import build_network
from bouton.learn.partner_sampling import PartnerSampler
from bouton.learn.prefetch import Prefetch
from bouton.learn.sampling import PatchSampler
from bouton.learn.shipped import model_path
from bouton.learn.start import start_weights
from bouton.learn.train import Trainer, learning_rate
from bouton.report.training import curve_png, write_training_page
from bouton.volume import write_bytes, write_folder

MEASURED = ("step", "loss", "learning_rate", "gradient_norm", "seconds")
FREE = {"description", "limits", "licence", "prediction", "validate_every", "checkpoint_every", "patience", "score",
        "loaders", "tensorboard"}  # fmt: skip
"""Keys of a training file that may change between a checkpoint and its resumption; ``training.steps``, too."""
PREFETCHED = 2
SOON = 20
Say = Callable[[str], None]


class TrainingRun:
    """A training with its files.

    Parameters
    ----------
    plan : Plan
    plan_file : Path
    folder : Path
        Receives everything.
    overrides : sequence of str
        What ``--set`` changed.
    say : callable
        Receives what people should know, a line at a time.
    """

    def __init__(
        self, plan: Plan, plan_file: Path, folder: Path, overrides: Sequence[str] = (), say: Say = lambda _: None
    ) -> None:
        self.plan, self.folder, self._say = plan, folder, say
        self.notes: list[str] = []
        self.data = load_volumes(plan.data, plan, plan_file.parent)
        check_heads(plan, self.data)
        self.validation = load_volumes(plan.validation, plan, plan_file.parent)
        sampler = PartnerSampler if "partners" in plan.heads else PatchSampler
        self.sampler = sampler([each.volume for each in self.data], plan.sampling(), plan.augmentation)
        network = build_network(plan.architecture(auxiliary=True), plan.seed)
        self.parameters = sum(p.numel() for p in network.parameters())
        self.trainer = Trainer(network, self.sampler, plan.training)
        self.names = score_names(plan.heads)
        self.score = plan.score or default_score(plan.heads)
        self.rows: list[dict[str, float]] = []
        self.losses: list[float] = []
        self.seconds = 0.0
        self.stale, self.best_step, self.best = 0, 0, {}
        self.validated: Validated | None = None
        self._saved: int | None = None
        self._shown: int | None = None
        parent = self._begin(plan_file.parent)
        self.origin = Origin(plan_file, overrides, parent)
        self._resume()

    # -- begin, resume ------------------------------------------------------------------------------------------------

    def _begin(self, base: Path) -> Card | None:
        """Take the weights of the model to start from, if there is one, and return its card."""
        plan = self.plan
        if plan.start is None:
            return None
        path = start_path(plan.start, base)
        model = load_model(path)
        for name in ("mean", "std"):
            mine, its = getattr(plan.training, name), getattr(model.info, name)
            if mine != its:
                raise SpecError(
                    f"training.{name} {mine:g}, but the weights to start from were trained with {its:g}",
                    where=plan.start, expected="the same normalisation", fix=f"training.{name}: {its:g}",
                )  # fmt: skip
        start = start_weights(self.trainer.network, plan.channels, plan.long_offsets, model)
        self.trainer.begin_with(start.weights)
        fresh = ", ".join(start.fresh) or "nothing"
        heads = ", ".join(start.heads) or "no head"
        self._note(f"starts from {plan.start}: {start.taken} tensors taken, heads {heads}; fresh: {fresh}")
        return card_of(path)

    def _resume(self) -> None:
        found = load_checkpoint(self.folder)
        if found is None:
            return
        tensors, record, remark = found
        if remark:
            self._note(remark)
        _check_same(record["plan"], _fixed(self.plan), self.folder, self.plan.name)
        best = {name.removeprefix("best."): value for name, value in tensors.items() if name.startswith("best.")}
        self.trainer.restore({name: value for name, value in tensors.items() if not name.startswith("best.")})
        self.rows = [{name: _number(value) for name, value in row.items()} for row in record["rows"]]
        self.losses, self.seconds = list(record["losses"]), record["seconds"]
        self.stale, self.best_step, self.best = record["stale"], record["best_step"], best
        self._saved = self.trainer.step

    def _note(self, text: str) -> None:
        self.notes.append(text)
        self._say(text)

    # -- train --------------------------------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.trainer.step >= self.plan.training.steps or self.stopped_early

    @property
    def stopped_early(self) -> bool:
        """Whether validation has not become better for ``patience`` times."""
        return self.plan.patience is not None and self.stale >= self.plan.patience

    @property
    def model_folder(self) -> Path:
        """Where the model goes."""
        return self.folder / self.plan.name

    def train(self, seconds: float, stopped: Callable[[], bool] = lambda: False) -> None:
        """Train to the end, for so many seconds, or until ``stopped`` says so; everything is saved then."""
        plan, trainer = self.plan, self.trainer
        begun, before = time.monotonic(), self.seconds
        events = Events(self.folder / "events") if plan.tensorboard else None
        columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
        recent: deque[float] = deque(maxlen=SOON)
        try:
            with Bars(*columns, console=Console(), refresh_per_second=2) as bars, self._prefetched():
                bar = bars.add_task("training", total=plan.training.steps, completed=trainer.step)
                while not self.finished and time.monotonic() - begun < seconds and not stopped():
                    start = time.monotonic()
                    self.losses.append(trainer.update())
                    recent.append(time.monotonic() - start)
                    self.seconds = before + time.monotonic() - begun
                    bars.update(bar, completed=trainer.step, description=self._status(recent))
                    if self._is_due():
                        self._record(events, before - begun)
                        bars.console.print(self._row_text(recent), highlight=False)
        finally:
            if events is not None:
                events.close()
        if self.stopped_early:
            patience = plan.patience
            self._note(f"stopped early: no better {self.score} for {patience} validations; best at {self.best_step}")
            self._shown = None
        self._save()
        if self._shown != trainer.step:
            self._show()

    def _prefetched(self) -> Any:
        if not self.plan.loaders:
            return Prefetch(self.sampler, 0)
        ahead = PREFETCHED * self.plan.training.batch * self.plan.loaders
        self.trainer.sample = prefetch = Prefetch(self.sampler, ahead, self.plan.loaders)
        return prefetch

    def _is_due(self) -> bool:
        step, plan = self.trainer.step, self.plan
        return step >= plan.training.steps or step % plan.checkpoint_every == 0 or self._validates()

    def _validates(self) -> bool:
        step, plan = self.trainer.step, self.plan
        return bool(self.validation) and (step % plan.validate_every == 0 or step >= plan.training.steps)

    def _record(self, events: Events | None, epoch: float) -> None:
        """Add a row to the log; validate if it is time; save."""
        trainer = self.trainer
        row = {
            "step": float(trainer.step),
            "loss": float(np.mean(self.losses)),
            "learning_rate": learning_rate(trainer.step - 1, self.plan.training),
            "gradient_norm": trainer.gradient_norm,
            "seconds": 0.0,
            **dict.fromkeys(self.names, math.nan),
        }
        if self._validates():
            row |= self._validate()
        self.seconds = row["seconds"] = epoch + time.monotonic()
        self.rows.append(row)
        self.losses = []
        self._save()
        if self._validates():
            self._show()
        if events is not None:
            events.write(trainer.step, row)

    def _validate(self) -> dict[str, float]:
        """Return the scores of the running mean of the weights, and keep it if it is the best so far."""
        model = ready_model(self.plan.info(), {name: value.cpu() for name, value in self.trainer.ema.items()})
        volumes = [each.volume for each in self.validation]
        if "partners" in self.plan.heads:
            self.validated = validate_partners(model, volumes)
        else:
            self.validated = validate(model, volumes, self.plan.sampling())
        scores = self.validated.scores
        if self.plan.patience is not None:
            if is_better(self.score, scores[self.score], self._best_score()):
                self.stale, self.best_step = 0, self.trainer.step
                self.best = {name: value.detach().cpu().clone() for name, value in self.trainer.ema.items()}
            else:
                self.stale += 1
        return scores

    def _best_score(self) -> float | None:
        return next((row[self.score] for row in self.rows if self.best and row["step"] == self.best_step), None)

    # -- tell ---------------------------------------------------------------------------------------------------------

    def _status(self, recent: Sequence[float]) -> str:
        mean = float(np.mean(recent))
        left = clock(mean * (self.plan.training.steps - self.trainer.step))
        seen = [row for row in self.rows if not math.isnan(row[self.score])]
        last = f"  {self.score} {seen[-1][self.score]:.3f} @ {seen[-1]['step']:.0f}" if seen else ""
        loss = np.mean(self.losses[-SOON:]) if self.losses else self.rows[-1]["loss"]
        return f"loss {loss:.3f}  {1 / max(mean, 1e-9):.2g} steps/s  ETA {left}{last}"

    def _row_text(self, recent: Sequence[float]) -> str:
        row = self.rows[-1]
        scores = "  ".join(f"{name} {row[name]:.3g}" for name in self.names if not math.isnan(row[name]))
        left = clock(float(np.mean(recent)) * (self.plan.training.steps - self.trainer.step))
        steps = f"step {row['step']:.0f}/{self.plan.training.steps}"
        return f"{steps}  loss {row['loss']:.4f}  ETA {left}" + (f"  {scores}" if scores else "")

    # -- save ---------------------------------------------------------------------------------------------------------

    @property
    def chosen(self) -> tuple[int, dict[str, Tensor]]:
        """The step and the weights that are the model: the best ones where validation chooses, else the last."""
        return (self.best_step, self.best) if self.best else (self.trainer.step, self.trainer.ema)

    def card(self) -> Card:
        """Return the card of the model as it stands."""
        step = self.chosen[0]
        scores = next((row for row in self.rows if row["step"] == step), {})
        done = Progress(step, self.seconds / 3600, {name: scores[name] for name in self.names if name in scores})
        return training_card(self.plan, self.origin, done)

    def _save(self) -> None:
        trainer, columns = self.trainer, (*MEASURED, *self.names)
        lines = [",".join("" if math.isnan(row[name]) else f"{row[name]:.6g}" for name in columns) for row in self.rows]
        write_bytes(self.folder / "log.csv", ("\n".join([",".join(columns), *lines]) + "\n").encode())
        if self._saved != trainer.step:
            best = {f"best.{name}": value.contiguous() for name, value in self.best.items()}
            save_checkpoint(self.folder, pack_checkpoint({**trainer.state(), **best}, self._state()))
            self._saved = trainer.step
        # also without a step to do: the plan's tiles may have changed
        write_folder(self.model_folder, model_files(self.card(), self.chosen[1]))

    def _show(self) -> None:
        """Draw curves and page; they cost a second, so not at every checkpoint."""
        curves = {name: np.array([row[name] for row in self.rows]) for name in (*MEASURED, *self.names)}
        picture = curve_png(curves, self.best_step or None) if self.rows else b""
        if picture:
            write_bytes(self.folder / "curve.png", picture)
        page = page_of(self, curves, picture, card_bytes(self.card()).decode())
        write_training_page(self.folder / "report.html", page)
        self._shown = self.trainer.step

    def _state(self) -> dict[str, Any]:
        rows = [{name: None if math.isnan(value) else value for name, value in row.items()} for row in self.rows]
        return {
            "rows": rows,
            "losses": self.losses,
            "seconds": self.seconds,
            "stale": self.stale,
            "best_step": self.best_step,
            "plan": _fixed(self.plan),
        }


def start_path(start: str, base: Path) -> Path:
    """Return the folder of the model that a training file's ``start`` names: a shipped one, or a path from there."""
    beside = base / start
    return beside.resolve() if beside.is_dir() else model_path(start)


def card_of(path: Path) -> Card:
    """Return the card of a model."""
    from bouton.learn.card import read_card

    return read_card(path)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _fixed(plan: Plan) -> dict[str, Any]:
    """Return what determines the weights at a step."""
    tree = plan.model_dump(mode="json", exclude=FREE)
    tree["training"].pop("steps")
    return tree


def _check_same(before: Any, now: Any, folder: Path, name: str) -> None:
    for key, old, new in _differences(before, now, ""):
        raise DataError(
            f"{key} was {old!r:.60}, the training file says {new!r:.60}", where=str(folder),
            expected="the training file of the checkpoint, which may change in steps, validation and prediction alone",
            fix=f"restore it, or train under another name; start: {folder / name} begins with these weights",
        )  # fmt: skip


def _differences(before: Any, now: Any, key: str) -> list[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        names = sorted(before.keys() | now.keys())
        pairs = [(f"{key}.{name}".lstrip("."), before.get(name), now.get(name)) for name in names]
        return [found for name, old, new in pairs for found in _differences(old, new, name)]
    return [] if before == now else [(key, before, now)]
