"""The predict stage: blocks, models, voxel sizes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bouton.errors import DataError, SpecError
from bouton.geometry import Box
from bouton.learn.card import WEIGHTS
from bouton.learn.info import info_bytes
from bouton.learn.package import check_package
from bouton.learn.shipped import model_names, model_path
from bouton.stage import BlockTask
from bouton.stages.predict import STAGE, Params
from harness import run_stage
from tiny_model import INFO, SHAPE, write_model

SIZE = (30.0, 10.0, 10.0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_model(tmp_path / "tiny")


def test_blocks_and_their_order_do_not_matter(file: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 21, 17), np.uint8)
    results = [
        run_stage(STAGE, Params(model=str(file)), {"image": image}, block, SIZE, seed=seed)["affinities"]
        for seed, block in enumerate([(9, 21, 17), (4, 8, 8), (3, 21, 5), (5, 6, 17)])
    ]
    assert results[0].shape == (3, 9, 21, 17)
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


@pytest.mark.parametrize(
    "values",
    [
        {"blend_zyx": (1, 2, 2)},
        {"tile_zyx": (8, 12, 8), "overlap_zyx": (4, 4, 2), "blend_zyx": (2, 0, 1)},
        {"flips": "yx"},
        {"runtime": "openvino"},
        {"runtime": "openvino", "flips": "zyx", "tile_zyx": (8, 12, 8)},
    ],
)
def test_blocks_do_not_matter_whatever_the_parameters(file: Path, values: dict) -> None:
    if "runtime" in values:
        pytest.importorskip("openvino", reason="openvino is not installed: pip install 'bouton[openvino]'")
    random = np.random.default_rng(0)
    inputs = {"image": random.integers(0, 256, (9, 21, 17), np.uint8), "exclude": np.zeros((9, 21, 17), np.uint8)}
    inputs["exclude"][:5, 3:14] = 1
    params = Params(model=str(file), **values)
    whole, other = (run_stage(STAGE, params, inputs, block, SIZE, seed=0) for block in [(9, 21, 17), (4, 9, 7)])
    np.testing.assert_array_equal(other["affinities"], whole["affinities"])
    assert not whole["affinities"][:, :5, 3:14].any()
    assert whole["affinities"][:, 5:, 3:14].all()


@pytest.mark.parametrize(
    ("size", "values"),
    [
        ((40.0, 8.0, 13.0), {}),
        ((15.0, 20.0, 10.0), {"blend_zyx": (1, 2, 2)}),
        ((30.0, 6.5, 26.0), {"tile_zyx": (8, 12, 8), "overlap_zyx": (4, 4, 2)}),
    ],
)
@pytest.mark.parametrize("masked", [False, True])
def test_blocks_do_not_matter_where_the_image_is_resampled(file: Path, size: tuple, values: dict, masked: bool) -> None:
    random = np.random.default_rng(0)
    inputs = {"image": random.integers(0, 256, (9, 21, 17), np.uint8)}
    if masked:
        inputs["exclude"] = np.zeros((9, 21, 17), np.uint8)
        inputs["exclude"][:6, 2:15] = 1
    params, origin = Params(model=str(file), resample=True, **values), (3, 50, 7)
    bounds = Box.of_shape((9, 21, 17)).shift(origin)
    results = [
        run_stage(STAGE, params, inputs, block, size, seed=0, origin=origin, bounds=bounds, shape=(40, 90, 90))
        for block in [(9, 21, 17), (4, 9, 7), (5, 21, 3)]
    ]
    whole = results[0]["affinities"]
    assert whole.shape == (3, 9, 21, 17)
    assert whole.std() > 0
    for other in results[1:]:
        np.testing.assert_array_equal(other["affinities"], whole)
    if masked:
        del inputs["exclude"]
        plain = run_stage(STAGE, params, inputs, (9, 21, 17), size, origin=origin, shape=(40, 90, 90))["affinities"]
        plain[:, :6, 2:15] = 0
        np.testing.assert_array_equal(whole, plain)


def test_resampling_to_the_same_voxels_changes_nothing(file: Path) -> None:
    inputs = {"image": np.random.default_rng(0).integers(0, 256, (9, 21, 17), np.uint8)}
    params = Params(model=str(file))
    found = [run_stage(STAGE, replace(params, resample=on), inputs, (5, 9, 17), SIZE) for on in (False, True)]
    np.testing.assert_array_equal(found[1]["affinities"], found[0]["affinities"])
    part = STAGE.parts[0]
    assert part.halo(replace(params, resample=True), SIZE) == part.halo(params, SIZE)


def test_a_finer_image_of_coarse_tissue_gives_what_the_models_image_gives(file: Path) -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (9, 21, 17), np.uint8)
    fine = np.repeat(np.repeat(coarse, 3, 1), 3, 2)
    params = Params(model=str(file), resample=True)
    wanted = run_stage(STAGE, params, {"image": coarse}, (9, 21, 17), SIZE)["affinities"]
    found = run_stage(STAGE, params, {"image": fine}, (9, 63, 51), (30.0, 10 / 3, 10 / 3))["affinities"]
    # a third of a voxel and its neighbours blur the image: alike, not equal
    middle = found[0, :, 1::3, 1::3].astype(int)
    assert np.corrcoef(middle.ravel(), wanted[0].ravel())[0, 1] > 0.9


class Reads:
    """An image that remembers what was read of it."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype, self.boxes = array, array.shape, array.dtype, []

    def read(self, box: Box) -> np.ndarray:
        self.boxes.append(box)
        return self.array[box.slices].copy()


def block_task(file: Path, core: Box, **volumes: np.ndarray) -> tuple[BlockTask, Reads]:
    """Return a task over ``core`` of the bounds 16, 32, 32, and its image."""
    image = Reads(np.random.default_rng(1).integers(0, 256, (16, 32, 32), np.uint8))
    readers = {"image": image, **{name: Reads(array) for name, array in volumes.items()}}
    params, bounds = Params(model=str(file)), Box.of_shape((16, 32, 32))
    part = STAGE.parts[0]
    return BlockTask(params, bounds, bounds.shape, SIZE, readers, None, core, part.halo(params, SIZE)), image


def test_what_nobody_wants_is_not_read(file: Path) -> None:
    core = Box((6, 12, 12), (12, 24, 24))
    task, image = block_task(file, core)
    everywhere = STAGE.parts[0].run(task).layers["affinities"]
    # tiles of 4, 8, 8 at strides 3, 6, 6 own the core exactly, and see 0 + 1, 1 + 1, 1 + 1 voxels more
    assert image.boxes == [Box((6, 11, 11), (13, 25, 25))]
    mask = np.ones((16, 32, 32), np.uint8)
    mask[:9] = 0
    task, image = block_task(file, core, mask=mask)
    found = STAGE.parts[0].run(task).layers["affinities"]
    assert image.boxes == [Box((9, 11, 11), (13, 25, 25))]
    assert not found[:, :3].any()
    np.testing.assert_array_equal(found[:, 3:], everywhere[:, 3:])
    task, image = block_task(file, core, mask=np.zeros((16, 32, 32), np.uint8))
    assert not STAGE.parts[0].run(task).layers["affinities"].any()
    assert image.boxes == []


def test_mask_and_exclude_are_opposites(file: Path) -> None:
    random = np.random.default_rng(1)
    image, out = random.integers(0, 256, (9, 21, 17), np.uint8), random.random((9, 21, 17)) < 0.3
    runs = [
        {"exclude": out},
        {"mask": ~out},
        {"exclude": out.astype(np.uint8), "mask": np.full(out.shape, 7, np.uint8)},
    ]
    found = [run_stage(STAGE, Params(model=str(file)), {"image": image, **run}, (9, 9, 9), SIZE) for run in runs]
    plain = run_stage(STAGE, Params(model=str(file)), {"image": image}, (9, 9, 9), SIZE)["affinities"]
    for each in found:
        np.testing.assert_array_equal(each["affinities"], np.where(out, 0, plain))


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"runtime": "tensorrt"}, r"runtime 'tensorrt'.*torch, openvino, cuda"),
        ({"precision": "int8"}, r"'int8' with runtime 'torch'.*float32.*runtime openvino has int8"),
        ({"runtime": "openvino", "precision": "float16"}, r"runtime cuda has float16"),
        ({"precision": "half"}, "'half'"),
        ({"flips": "xyz"}, "none, yx, zyx"),
    ],
)
def test_runtimes_that_do_not_exist_are_refused(values: dict, found: str) -> None:
    with pytest.raises(SpecError, match=found):
        Params(**values)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"tile_zyx": (4, 7, 8)}, r"tile_zyx \[4, 7, 8\].*\[1, 2, 2\]"),
        ({"overlap_zyx": (1, 5, 2)}, "overlap_zyx"),
        ({"blend_zyx": (2, 2, 2)}, "blend_zyx"),
    ],
)
def test_impossible_tiles_are_refused_when_planning(file: Path, values: dict, found: str) -> None:
    with pytest.raises(SpecError, match=found):
        STAGE.parts[0].halo(Params(model=str(file), **values), SIZE)


def test_memory_grows_with_the_tile_and_not_with_the_block(file: Path) -> None:
    part, small = STAGE.parts[0], Params(model=str(file))
    large = replace(small, tile_zyx=(8, 16, 16))
    assert part.fixed_bytes(large) == 8 * part.fixed_bytes(small) > 0
    assert part.planned_halo(small, SIZE) == (1, 1, 1)


def test_memory_grows_with_the_voxels_of_the_models_grid(file: Path) -> None:
    part, params = STAGE.parts[0], Params(model=str(file), resample=True)
    assert part.bytes_per_voxel(params, SIZE) == part.bytes_per_voxel(replace(params, resample=False), SIZE) == 24
    fine, coarse = (part.bytes_per_voxel(params, size) for size in [(15.0, 5.0, 5.0), (60.0, 20.0, 20.0)])
    assert (fine, coarse) == (2 * 24, 9 * 24)


def test_an_8_bit_form_that_is_not_there_is_named_when_planning(file: Path) -> None:
    with pytest.raises(DataError, match=r"no 8-bit form: no int8\.json.*bouton quantise"):
        STAGE.files(Params(model=str(file), runtime="openvino", precision="int8"))


def test_outputs_are_those_of_the_model(file: Path) -> None:
    assert list(STAGE.outputs(Params(model=str(file)))) == ["affinities"]
    both = replace(INFO, architecture=replace(SHAPE, outputs=7), heads={"affinities": 3, "synapse_evidence": 4})
    write_model(file, both)
    outputs = STAGE.outputs(Params(model=str(file)))
    assert {name: layer.channels for name, layer in outputs.items()} == {"affinities": 3, "synapse_evidence": 4}


def test_the_models_content_joins_the_key(file: Path) -> None:
    files = STAGE.files(Params(model=str(file)))
    assert files == (info_bytes(INFO), check_package(file).weights.sha256.encode())


def test_unknown_models_are_named() -> None:
    with pytest.raises(SpecError, match=r"no model 'affinity-fib52'.*did you mean 'affinity-fib25'.*bouton train"):
        model_path("affinity-fib52")
    with pytest.raises(SpecError, match="no model"):
        STAGE.outputs(Params(model="/nowhere/x"))
    with pytest.raises(SpecError, match="no model ''"):
        model_path("")


def test_a_wrong_voxel_size_is_refused_when_planning(file: Path) -> None:
    halo, params = STAGE.parts[0].halo, Params(model=str(file))
    assert halo(params, (33.0, 9.0, 10.0)) == (3, 6, 6)
    found = r"30 x 10 x 10 nm \(z, y, x\), the image has 10 x 10 x 30 nm.*z, y, x.*params\.resample: true"
    with pytest.raises(SpecError, match=found):
        halo(params, (10.0, 10.0, 30.0))
    assert halo(replace(params, resample=True), (10.0, 10.0, 30.0)) > (3, 3, 3)
    assert halo(replace(params, voxel_size_tolerance=3.0), (10.0, 10.0, 30.0)) == (3, 6, 6)
    with pytest.raises(SpecError, match="voxel_size_tolerance"):
        Params(voxel_size_tolerance=-1)


def test_a_damaged_model_is_refused_when_planning(file: Path) -> None:
    (file / WEIGHTS).write_bytes(b"not a model at all")
    with pytest.raises(DataError, match=r"tiny/weights\.safetensors"):
        STAGE.outputs(Params(model=str(file)))


@pytest.mark.parametrize("name", model_names())
def test_shipped_models_open_and_have_a_card(name: str) -> None:
    path = model_path(name)
    assert sum(file.stat().st_size for file in path.iterdir()) < 16 << 20
    assert (path / WEIGHTS).stat().st_size < 8 << 20
    card = check_package(path)
    assert card.name == name
    assert card.description
    assert card.limits
    assert card.weights.licence == "BSD-3-Clause"
    assert card.training.command.startswith("bouton train workflows/train/")
    assert all(source.source and source.licence for source in card.training.data)
    assert len(card.scores) >= 3
    assert all(score.command.startswith(("bouton ", "python benchmarks/")) for score in card.scores)
