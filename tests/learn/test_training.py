"""Training: a run repeats to the bit, and learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bouton.errors import DataError, RunError, SpecError
from bouton.learn.augment import UNCHANGED, Augmentation
from bouton.learn.info import Architecture
from bouton.learn.network import build_network
from bouton.learn.sampling import PatchSampler, SamplingSettings, TrainingVolume
from bouton.learn.targets import CLEFT
from bouton.learn.train import Trainer, TrainingSettings, balanced_loss, learning_rate

TINY = Architecture(widths=(4, 8), kernels=((3, 3, 3), (3, 3, 3)), pools=((1, 2, 2),), entry=(1, 3, 3), outputs=4)
SETTINGS = TrainingSettings(steps=8, warmup_steps=2, learning_rate=3e-3)
STILL = replace(UNCHANGED, symmetry="yx")


def checkers(with_synapse: bool = False) -> TrainingVolume:
    """Return cells of 6 x 8 x 8 voxels whose last voxels are dark."""
    z, y, x = np.meshgrid(np.arange(12), np.arange(24), np.arange(24), indexing="ij")
    labels = (1 + (z // 6) * 9 + (y // 8) * 3 + x // 8).astype(np.uint32)
    dark = (y % 8 == 7) | (x % 8 == 7)
    image = np.where(dark, 60, 180).astype(np.uint8)
    layers = {"synapse_evidence": np.where((y == 20) & (x == 20), np.uint8(CLEFT), np.uint8(0))} if with_synapse else {}
    return TrainingVolume(image, labels, np.ones(labels.shape, bool), layers)


def sampler(augmentation: Augmentation = Augmentation(), share: float = 0.5) -> PatchSampler:
    settings = SamplingSettings((4, 8, 8), 5, (0, 1, 1), auxiliary_offsets=((0, 0, -4),), synapse_share=share)
    return PatchSampler([checkers()], settings, augmentation)


def trainer(settings: TrainingSettings = SETTINGS) -> Trainer:
    return Trainer(build_network(TINY, 1), sampler(), settings)


def test_unchanged_patches_are_cut_out_of_the_volume() -> None:
    patch = sampler(STILL)(3)
    assert patch.image.shape == (1, 4, 8, 8)
    assert set(np.unique(np.rint(patch.image))) == {60, 180}
    assert patch.truth.shape == patch.weight.shape == (4, 4, 8, 8)
    # one dark line a cell: a third of the voxels lie on a widened boundary in y, none of the weights is lost to it
    assert patch.weight[1].sum() == 4 * 7 * 8


def test_patches_find_synapses() -> None:
    settings = SamplingSettings((4, 8, 8), 5, (0, 1, 1), ("affinities", "synapse_evidence"), synapse_share=1.0)
    draw = PatchSampler([checkers(with_synapse=True)], settings, STILL)
    assert all(draw(i).truth[3].any() for i in range(20))
    assert draw(0).truth.shape[0] == 7


def test_a_patch_larger_than_the_volume_is_refused() -> None:
    with pytest.raises(DataError, match="patch_zyx"):
        PatchSampler([checkers()], SamplingSettings((16, 8, 8), 0), STILL)


def test_loss_by_hand() -> None:
    logits = torch.zeros(1, 1, 1, 1, 4)
    truth = torch.tensor([1.0, 0, 0, 0]).view(1, 1, 1, 1, 4)
    everywhere = torch.ones_like(truth)
    assert float(balanced_loss(logits, truth, everywhere, 0.01)) == pytest.approx(np.log(2))
    logits[..., 0] = 10  # the rare class is right: half of the loss is gone
    assert float(balanced_loss(logits, truth, everywhere, 0.01)) == pytest.approx(np.log(2) / 2, rel=1e-3)
    assert float(balanced_loss(logits, truth, everywhere * 0, 0.01)) == 0


def test_learning_rate_does_not_depend_on_steps_before_the_decay() -> None:
    short, long = (replace(SETTINGS, steps=steps) for steps in (100, 1000))
    assert [learning_rate(s, short) for s in range(80)] == [learning_rate(s, long) for s in range(80)]
    assert learning_rate(0, short) == pytest.approx(1.5e-3)
    assert learning_rate(90, short) == pytest.approx(1.5e-3)
    assert learning_rate(99, short) < 3e-5


def test_training_repeats_and_resumes_to_the_bit() -> None:
    torch.set_num_threads(1)
    first, second = trainer(), trainer()
    losses = [first.update() for _ in range(6)]
    assert [second.update() for _ in range(3)] == losses[:3]
    third = trainer()
    third.restore(second.state())
    assert [third.update() for _ in range(3)] == losses[3:]
    for name, value in first.ema.items():
        assert torch.equal(value, third.ema[name]), name


def test_training_learns() -> None:
    run = trainer(replace(SETTINGS, steps=150, learning_rate=1e-2))
    losses = [run.update() for _ in range(150)]
    assert np.mean(losses[-20:]) < 0.85 * np.mean(losses[:10])


def test_reduced_precision_trains() -> None:
    assert np.isfinite(trainer(replace(SETTINGS, precision="bfloat16")).update())


def test_a_diverging_run_says_so() -> None:
    run = trainer()
    with torch.no_grad():
        run.network.exit.bias.fill_(float("nan"))  # type: ignore[union-attr]
    with pytest.raises(RunError, match="learning_rate"):
        run.update()


def test_the_state_of_another_network_is_refused() -> None:
    state = trainer().state()
    state.pop("weights.exit.bias")
    with pytest.raises(DataError, match="another network"):
        trainer().restore(state)


def test_impossible_networks_are_refused() -> None:
    with pytest.raises(SpecError, match="pools"):
        replace(TINY, pools=())
    with pytest.raises(SpecError, match="odd"):
        replace(TINY, entry=(2, 3, 3))
