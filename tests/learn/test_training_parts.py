"""Parts of a training: checkpoints, start weights, patches made ahead, precision and devices."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from bouton.errors import DataError, RunError, SpecError
from bouton.learn.checkpoint import pack_checkpoint, unpack_checkpoint
from bouton.learn.info import Architecture, ModelInfo
from bouton.learn.model import Model
from bouton.learn.network import build_network
from bouton.learn.prefetch import Prefetch
from bouton.learn.sampling import Patch
from bouton.learn.start import start_weights
from bouton.learn.train import Trainer, TrainingSettings

SHAPE = Architecture(widths=(4, 6), kernels=((3, 3, 3), (3, 3, 3)), pools=((1, 2, 2),), entry=(1, 3, 3), outputs=3)
SETTINGS = TrainingSettings(steps=8, warmup_steps=2, learning_rate=3e-3)
NO_GPU = not torch.cuda.is_available()


def patch(index: int, channels: int = 3) -> Patch:
    rng = np.random.default_rng(index)
    image = rng.integers(0, 256, (1, 4, 8, 8)).astype(np.float32)
    truth = (rng.random((channels, 4, 8, 8)) < 0.5).astype(np.float32)
    return Patch(image, truth, np.ones_like(truth))


def trainer(settings: TrainingSettings = SETTINGS) -> Trainer:
    return Trainer(build_network(SHAPE, 1), patch, settings)


def model(heads: dict[str, int], shape: Architecture = SHAPE, seed: int = 7) -> Model:
    shape = replace(shape, outputs=sum(heads.values()))
    info = ModelInfo(shape, heads, (30, 10, 10), (4, 8, 8), (1, 2, 2), 128, 40, long_offsets=((0, 0, -5),))
    return Model(info, build_network(shape, seed))


# -- checkpoints ------------------------------------------------------------------------------------------------------


def test_a_checkpoint_comes_back() -> None:
    state = trainer().state()
    record = {"rows": [{"step": 3.0, "loss": None}], "text": "µ"}
    tensors, found = unpack_checkpoint(pack_checkpoint(state, record))
    assert found == record and tensors.keys() == state.keys()
    assert all(torch.equal(tensors[name], state[name]) for name in state)


def test_any_changed_byte_of_a_checkpoint_is_seen() -> None:
    data = pack_checkpoint({"a": torch.arange(40, dtype=torch.float32), "step": torch.tensor(3)}, {"rows": [1, 2]})
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 4
        try:
            tensors, record = unpack_checkpoint(bytes(changed))
        except DataError:
            continue
        # the one thing that may change is a name in the header, which restoring checks
        assert record == {"rows": [1, 2]}
        assert sorted(tensors) != ["a", "step"] or tensors["a"].shape != (40,) or tensors["a"].dtype != torch.float32
    for length in range(0, len(data), 7):
        with pytest.raises(DataError, match="checkpoint"):
            unpack_checkpoint(data[:length])


# -- start ------------------------------------------------------------------------------------------------------------


def test_the_same_network_takes_all_weights() -> None:
    old, fresh = model({"affinities": 3}), build_network(SHAPE, 1)
    start = start_weights(fresh, {"affinities": 3}, (), old)
    assert start.heads == ("affinities",) and start.fresh == () and start.taken == len(fresh.state_dict())
    for name, value in old.network.state_dict().items():
        assert torch.equal(start.weights[name], value)


def test_heads_are_taken_by_name_not_by_place() -> None:
    old = model({"clefts": 1, "affinities": 3, "long_affinities": 1})
    channels = {"affinities": 3, "mitochondria": 1, "clefts": 1, "long_affinities": 1}
    fresh = build_network(replace(SHAPE, outputs=8), 1)
    start = start_weights(fresh, channels, ((0, 0, -9),), old)
    given = old.network.state_dict()["exit.weight"]
    assert torch.equal(start.weights["exit.weight"][0:3], given[1:4])
    assert torch.equal(start.weights["exit.weight"][4], given[0])
    # other offsets make another head; auxiliary outputs start anew
    assert torch.equal(start.weights["exit.weight"][[3, 5, 6, 7]], fresh.state_dict()["exit.weight"][[3, 5, 6, 7]])
    assert start.heads == ("affinities", "clefts")
    assert start.fresh == ("head mitochondria", "head long_affinities", "auxiliary outputs")


def test_other_widths_start_anew_where_they_differ() -> None:
    old = model({"affinities": 3}, replace(SHAPE, widths=(4, 8)))
    fresh = build_network(SHAPE, 1)
    start = start_weights(fresh, {"affinities": 3}, (), old)
    assert torch.equal(start.weights["entry.weight"], old.network.state_dict()["entry.weight"])
    assert torch.equal(start.weights["down.1.first.weight"], fresh.state_dict()["down.1.first.weight"])
    assert "down.1.first.weight" in start.fresh and "entry.weight" not in start.fresh
    assert start.taken == len(fresh.state_dict()) - len(start.fresh)
    run = trainer()
    run.begin_with(start.weights)
    assert all(torch.equal(run.ema[name], value) for name, value in start.weights.items())


# -- prefetch ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 3])
def test_patches_made_ahead_are_the_same_ones(threads: int) -> None:
    with Prefetch(patch, 4, threads) as ahead:
        for index in [0, 1, 2, 3, 10, 11, 5, 6]:
            np.testing.assert_array_equal(ahead(index).image, patch(index).image)


def test_patches_are_made_while_the_caller_works() -> None:
    done: list[int] = []

    def slow(index: int) -> Patch:
        done.append(index)
        return patch(index)

    with Prefetch(slow, 2) as ahead:
        ahead(0)
        limit = time.monotonic() + 20
        while len(done) < 3 and time.monotonic() < limit:
            time.sleep(0.01)
        assert sorted(done) == [0, 1, 2]
    assert not any(thread.name.startswith("patches") for thread in threading.enumerate())


def test_an_error_in_a_patch_reaches_the_caller() -> None:
    def broken(index: int) -> Patch:
        raise DataError(f"patch {index}")

    with Prefetch(broken, 1) as ahead, pytest.raises(DataError, match="patch 3"):
        ahead(3)


# -- trainer ----------------------------------------------------------------------------------------------------------


def test_a_long_gradient_is_shortened() -> None:
    free, short = trainer(replace(SETTINGS, clip_norm=1e9)), trainer(replace(SETTINGS, clip_norm=1e-6))
    for run in (free, short):
        run.update()
    assert free.gradient_norm == short.gradient_norm > 1e-3
    norm = torch.sqrt(sum((p.grad**2).sum() for p in short.network.parameters()))
    assert float(norm) == pytest.approx(1e-6, rel=0.02)


def test_an_infinite_gradient_stops_before_it_reaches_the_weights() -> None:
    run = trainer()
    before = {name: value.clone() for name, value in run.network.state_dict().items()}
    run.network.entry.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(RunError, match=r"gradient is (nan|inf) at step 0.*learning_rate.*intact"):
        run.update()
    assert all(torch.equal(value, before[name]) for name, value in run.network.state_dict().items())


def test_voxels_of_no_weight_do_not_reach_the_weights() -> None:
    def masked(index: int, wrong: bool) -> Patch:
        found = patch(index)
        weight = found.weight.copy()
        weight[:, :, :, :4] = 0
        truth = found.truth.copy()
        if wrong:
            truth[:, :, :, :4] = 1 - truth[:, :, :, :4]
        return Patch(found.image, truth, weight)

    runs = [
        Trainer(build_network(SHAPE, 1), lambda i, wrong=wrong: masked(i, wrong), SETTINGS) for wrong in (False, True)
    ]
    assert [runs[0].update() for _ in range(4)] == [runs[1].update() for _ in range(4)]
    assert all(torch.equal(value, runs[1].ema[name]) for name, value in runs[0].ema.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps 0"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"balance_floor": 0.0}, "balance_floor"),
        ({"precision": "float16"}, "float16 on a cpu"),
        ({"std": 0.0}, "std"),
    ],
)
def test_impossible_settings_are_refused(change: dict, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        replace(SETTINGS, **change)


@pytest.mark.skipif(not NO_GPU, reason="there is a GPU")
def test_a_missing_gpu_is_said() -> None:
    with pytest.raises(SpecError, match=r"no GPU.*device: cpu"):
        trainer(replace(SETTINGS, device="cuda"))


@pytest.mark.skipif(NO_GPU, reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_gpu_trains_resumes_and_agrees_with_the_processor(precision: str) -> None:
    settings = replace(SETTINGS, device="cuda", precision=precision)
    run, other = trainer(settings), trainer()
    losses = [run.update() for _ in range(4)]
    assert losses == pytest.approx([other.update() for _ in range(4)], rel=0.05)
    resumed = trainer(settings)
    resumed.restore(run.state())
    assert resumed.update() == pytest.approx(run.update(), rel=1e-3)
