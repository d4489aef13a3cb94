"""Training: AdamW, warm-up and cosine decay, balanced cross-entropy, a running mean of the weights (EMA).

Nothing here reads or writes files: patches come from a callable, the state goes out as a flat dict of tensors. A run
is a function of its settings and of the patches: on one thread of one machine it repeats to the bit, and a run
resumed from a state ends like one that was never interrupted. AdamW: doi:10.48550/arXiv.1711.05101.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bouton.errors import DataError, RunError, SpecError
from bouton.learn.network import ResidualUNet
from bouton.learn.sampling import Patch


@dataclass(frozen=True)
class TrainingSettings:
    """How to train.

    Attributes
    ----------
    steps : int
        Number of weight updates.
    batch : int
        Patches per update.
    learning_rate : float
        Peak; reached after ``warmup_steps``, kept until the share ``decay_share`` of the steps is left, then a
        half cosine to 0. Until the decay starts, a run does not depend on ``steps``.
    weight_decay : float
    ema_decay : float
        Of the running mean of the weights, per step.
    balance_floor : float
        Per batch and channel, 0 and 1 weigh the same in total, but neither counts as rarer than this share.
    precision : str
        ``float32``; ``bfloat16`` (faster on processors with AVX512-BF16 or AMX and on GPUs; weights stay float32);
        ``float16``, with a scaled loss, on GPUs alone.
    mean, std : float
        The fixed normalisation: (image - mean) / std, image 0 to 255.
    clip_norm : float
        Longest gradient; a longer one is shortened to it.
    device : str
        ``cpu`` or ``cuda``.
    """

    steps: int
    batch: int = 1
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    decay_share: float = 0.2
    weight_decay: float = 1e-2
    ema_decay: float = 0.999
    balance_floor: float = 0.05
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    mean: float = 128.0
    std: float = 48.0
    clip_norm: float = 1.0
    device: Literal["cpu", "cuda"] = "cpu"

    def __post_init__(self) -> None:
        wrong = [
            (self.steps < 1, f"steps {self.steps}", "at least 1"),
            (self.batch < 1, f"batch {self.batch}", "at least 1"),
            (not 0 < self.learning_rate < 1, f"learning_rate {self.learning_rate:g}", "above 0, below 1"),
            (self.warmup_steps < 0, f"warmup_steps {self.warmup_steps}", "0 or more"),
            (not 0 <= self.decay_share <= 1, f"decay_share {self.decay_share:g}", "0 to 1"),
            (not 0 <= self.weight_decay < math.inf, f"weight_decay {self.weight_decay:g}", "0 or more"),
            (not 0 <= self.ema_decay < 1, f"ema_decay {self.ema_decay:g}", "0 or more, below 1"),
            (not 0 < self.balance_floor <= 0.5, f"balance_floor {self.balance_floor:g}", "above 0, up to 0.5"),
            (not math.isfinite(self.mean), f"mean {self.mean:g}", "a number"),
            (not 0 < self.std < math.inf, f"std {self.std:g}", "above 0"),
            (not 0 < self.clip_norm < math.inf, f"clip_norm {self.clip_norm:g}", "above 0"),
            (self.precision == "float16" and self.device == "cpu", "precision float16 on a cpu", "bfloat16 or float32"),
        ]
        for is_wrong, found, expected in wrong:
            if is_wrong:
                raise SpecError(f"training.{found}", expected=expected)


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """Return the learning rate of update ``step`` (0-based)."""
    warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    left = (settings.steps - step) / max(1.0, settings.decay_share * settings.steps)
    return settings.learning_rate * warm * 0.5 * (1 - math.cos(math.pi * min(1.0, left)))


def balanced_loss(logits: Tensor, truth: Tensor, weight: Tensor, floor: float) -> Tensor:
    """Return the mean over channels of cross-entropy in which 0 and 1 weigh the same.

    Parameters
    ----------
    logits, truth, weight : Tensor
        float32 (n, c, z, y, x). Voxels of weight 0 do not count; a channel of no weight adds 0.
    floor : float
        No class counts as rarer than this share.
    """
    axes = (0, 2, 3, 4)
    total = weight.sum(axes, keepdim=True)
    ones = ((truth * weight).sum(axes, keepdim=True) / total.clamp(min=1)).clamp(floor, 1 - floor)
    balance = weight * (truth / ones + (1 - truth) / (1 - ones)) / 2
    loss = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return ((loss * balance).sum(axes, keepdim=True) / total.clamp(min=1)).mean()


def value_loss(logits: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Return the mean over channels of 4 x the squared error: being off by a half costs 1, near a coin toss's 0.69.

    Parameters
    ----------
    logits, truth, weight : Tensor
        float32 (n, c, z, y, x); truth in [0, 1].
    """
    axes = (0, 2, 3, 4)
    error = 4 * (torch.sigmoid(logits) - truth) ** 2 * weight
    return (error.sum(axes) / weight.sum(axes).clamp(min=1)).mean()


class Trainer:
    """One training run, on one thread: sums in a fixed order make it repeatable.

    Parameters
    ----------
    network : ResidualUNet
        Trained in place.
    sample : callable
        ``sample(index)`` returns a :class:`~bouton.learn.sampling.Patch`; update ``s`` uses the patches
        ``s * batch`` to ``(s + 1) * batch - 1``.
    settings : TrainingSettings

    Attributes
    ----------
    step : int
        Updates done.
    ema : dict of str -> Tensor
        The running mean of the weights: what a finished model is.
    gradient_norm : float
        Of the last update, before it was shortened; NaN before the first.

    Raises
    ------
    SpecError
        ``device: cuda`` where there is no GPU.
    """

    def __init__(self, network: ResidualUNet, sample: Callable[[int], Patch], settings: TrainingSettings) -> None:
        torch.set_num_threads(1)
        self.device = _device(settings.device)
        self.network, self.sample, self.settings, self.step = network.to(self.device), sample, settings, 0
        self.gradient_norm = math.nan
        self.optimizer = torch.optim.AdamW(network.parameters(), weight_decay=settings.weight_decay)
        self.scaler = torch.amp.GradScaler(settings.device, enabled=settings.precision == "float16")
        self.ema = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def begin_with(self, weights: Mapping[str, Tensor]) -> None:
        """Start from these weights instead of random ones: weights and running mean are set.

        Parameters
        ----------
        weights : mapping of str -> Tensor
            All weights of the network, of its shapes.
        """
        self.network.load_state_dict(dict(weights))
        self.ema = {name: value.detach().clone() for name, value in self.network.state_dict().items()}

    def update(self) -> float:
        """Do one update and return its loss.

        Raises
        ------
        RunError
            The loss or the gradient is not finite; the weights are those of the last update.
        """
        settings = self.settings
        first = self.step * settings.batch
        patches = [self.sample(first + i) for i in range(settings.batch)]
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, settings)
        loss = self.loss(patches)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise _diverged("loss", value, self.step)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        self.gradient_norm = float(nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip_norm))
        # a scaled loss may overflow now and then: its scaler leaves such a step out and lowers the scale
        if not math.isfinite(self.gradient_norm) and not self.scaler.is_enabled():
            raise _diverged("gradient", self.gradient_norm, self.step)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._average()
        self.step += 1
        return value

    def loss(self, patches: list[Patch]) -> Tensor:
        """Return the loss of a batch: the mean over all channels."""
        settings, values = self.settings, patches[0].values
        image, truth, weight = (tensor.to(self.device) for tensor in batch_of(patches))
        logits = self.logits(image)
        cut = truth.shape[1] - values
        loss = balanced_loss(logits[:, :cut], truth[:, :cut], weight[:, :cut], settings.balance_floor)
        if values:
            other = value_loss(logits[:, cut:], truth[:, cut:], weight[:, cut:])
            loss = (loss * cut + other * values) / (cut + values)
        return loss

    def logits(self, image: Tensor) -> Tensor:
        """Return the network's answer, float32 (n, c, z, y, x), to images (n, inputs, z, y, x), 0 to 255."""
        settings = self.settings
        image = ((image - settings.mean) / settings.std).to(memory_format=torch.channels_last_3d)
        kind = torch.float16 if settings.precision == "float16" else torch.bfloat16
        with torch.autocast(settings.device, kind, enabled=settings.precision != "float32"):
            answer: Tensor = self.network(image)
        return answer.float()

    def _average(self) -> None:
        # a young mean forgets its start: the decay grows with the number of updates
        decay = min(self.settings.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                self.ema[name].lerp_(value, 1 - decay)

    def state(self) -> dict[str, Tensor]:
        """Return everything that a resumed run needs, as a flat dict."""
        state = {"step": torch.tensor(self.step)}
        state |= {f"weights.{name}": value for name, value in self.network.state_dict().items()}
        state |= {f"ema.{name}": value for name, value in self.ema.items()}
        for name, parameter in self.network.named_parameters():
            moments = self.optimizer.state.get(parameter, {})
            state |= {f"adam.{key}.{name}": moments[key] for key in ("exp_avg", "exp_avg_sq") if key in moments}
        if self.scaler.is_enabled():
            found = self.scaler.state_dict()
            state |= {f"scaler.{key}": torch.tensor(found[key]) for key in _SCALER}
        return {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in state.items()
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from a :meth:`state`.

        Raises
        ------
        DataError
            The state belongs to another network.
        """
        try:
            self.step = int(state["step"])
            self.network.load_state_dict(_part(state, "weights."))
            self.ema = {name: state[f"ema.{name}"].to(self.device, copy=True) for name in self.ema}
            if self.scaler.is_enabled():
                found = {key: state[f"scaler.{key}"].item() for key in _SCALER}
                self.scaler.load_state_dict({**self.scaler.state_dict(), **found})
            for name, parameter in self.network.named_parameters():
                if self.step:
                    moments = {key: state[f"adam.{key}.{name}"] for key in ("exp_avg", "exp_avg_sq")}
                    moments = {
                        key: value.to(self.device, copy=True).view(parameter.shape) for key, value in moments.items()
                    }
                    self.optimizer.state[parameter] = {"step": torch.tensor(float(self.step)), **moments}
        except (KeyError, RuntimeError) as error:
            raise DataError(
                f"a checkpoint of another network ({type(error).__name__})",
                expected="the network of this configuration",
                fix="delete the checkpoint or restore the configuration",
            ) from None


_SCALER = ("scale", "_growth_tracker")


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise SpecError(
            "training.device cuda, but PyTorch finds no GPU", expected="an NVIDIA GPU and a PyTorch built for CUDA",
            fix="training.device: cpu, or check nvidia-smi",
        )  # fmt: skip
    if name == "cuda":
        torch.backends.cudnn.deterministic = True
    return torch.device(name)


def _diverged(what: str, value: float, step: int) -> RunError:
    return RunError(
        f"the {what} is {value} at step {step}: the training diverged",
        expected="a finite number",
        fix="lower training.learning_rate or training.clip_norm, or set training.precision: float32, and start again "
        "under a new name; the model written at the last checkpoint is intact",
    )


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def batch_of(patches: list[Patch]) -> tuple[Tensor, Tensor, Tensor]:
    """Return image (n, inputs, z, y, x), truth and weight (n, c, z, y, x) of patches as tensors."""
    image, truth, weight = (
        torch.from_numpy(np.stack([getattr(patch, name) for patch in patches])) for name in ("image", "truth", "weight")
    )
    return image, truth, weight
