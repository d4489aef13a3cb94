"""A network in 8 bits: near the exact one, the same bits each time, bound to its weights."""

from pathlib import Path

import numpy as np
import pytest

from bouton.errors import DataError, SpecError
from bouton.geometry import Box
from bouton.learn.int8 import GRAPH_FILE, NOTE_FILE, VALUES_FILE, Note, check_int8
from bouton.learn.package import check_package
from bouton.learn.quantise import (
    calibration_of,
    compare,
    crop_shape,
    draw_crops,
    int8_files,
    int8_runner,
    quantise,
)
from bouton.learn.runners import Runner, Runtime, normalised, open_runner, require
from bouton.learn.runners_openvino import OpenVinoRunner, float_graph
from tiny_model import INFO, write_model

for module in ("openvino", "nncf"):
    pytest.importorskip(module, reason=f"{module} is not installed: pip install 'bouton[quantise]'")
IMAGE = np.random.default_rng(0).integers(60, 200, (12, 40, 40), np.uint8)
BOUNDS = Box.of_shape(IMAGE.shape)


def read(box: Box) -> np.ndarray:
    return IMAGE[box.slices]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with its 8-bit form."""
    folder = write_model(tmp_path_factory.mktemp("models") / "tiny")
    shape = crop_shape(INFO, BOUNDS)
    crops = [crop for _, crop in draw_crops(read, BOUNDS, shape, 4, 0)]
    graph = float_graph(folder)
    rounded = quantise(graph, INFO, crops)
    change = compare(OpenVinoRunner(INFO, graph, "float32"), int8_runner(rounded, INFO), crops)
    sha = check_package(folder).weights.sha256
    for name, data in int8_files(rounded, sha, calibration_of("em", BOUNDS, crops, 0), change).items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def runner(folder: Path) -> Runner:
    return open_runner(folder, Runtime("openvino", "int8"))


def test_it_is_near_the_exact_network(folder: Path, runner: Runner) -> None:
    values = normalised(IMAGE[:8, :16, :24], INFO)
    exact = open_runner(folder, Runtime()).run(values)
    rounded = runner.run(values)
    assert rounded.shape == exact.shape == (3, 8, 16, 24)
    assert 0 < np.abs(rounded - exact).max() < 0.05
    note = Note.model_validate_json((folder / NOTE_FILE).read_bytes())
    assert 0 < note.change.mean < note.change.greatest < 0.05
    assert (note.calibration.least, note.calibration.greatest) == (60, 199)
    assert note.change.voi is None


def test_bits_repeat(folder: Path, runner: Runner) -> None:
    first, second = (normalised(IMAGE[:8, i : i + 16, :24], INFO) for i in (0, 7))
    once, other = runner.run(first), runner.run(second)
    assert not np.array_equal(once, other)
    np.testing.assert_array_equal(runner.run(first), once)
    np.testing.assert_array_equal(open_runner(folder, Runtime("openvino", "int8")).run(first), once)


def test_it_is_bound_to_its_weights(folder: Path, tmp_path: Path) -> None:
    card = check_package(folder)
    graph, values = check_int8(folder, card)
    assert len(graph) == len(values) == 64 and graph != values
    note = (folder / NOTE_FILE).read_text()
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in (GRAPH_FILE, VALUES_FILE):
        (copy / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(DataError, match=r"no int8\.json.*bouton quantise"):
        check_int8(copy, card)
    (copy / NOTE_FILE).write_text(note.replace(card.weights.sha256, "0" * 64))
    with pytest.raises(DataError, match="of other weights"):
        check_int8(copy, card)
    (copy / NOTE_FILE).write_text(note)
    assert check_int8(copy, card) == (graph, values)
    (copy / VALUES_FILE).write_bytes((folder / VALUES_FILE).read_bytes()[:-1])
    with pytest.raises(DataError, match="damaged or cut short"):
        check_int8(copy, card)
    (copy / NOTE_FILE).write_text(note.replace('"nncf"', '"nnfc"'))
    with pytest.raises(DataError, match="no note"):
        check_int8(copy, card)


def test_crops_are_of_tissue_and_repeat() -> None:
    image = IMAGE.copy()
    image[:, :, 8:] = 5
    boxes = [
        [box for box, _ in draw_crops(lambda b: image[b.slices], BOUNDS, (4, 8, 8), 6, seed)] for seed in (1, 1, 2)
    ]
    assert boxes[0] == boxes[1] != boxes[2]
    assert all(box.start[2] < 8 for box in boxes[0])
    with pytest.raises(DataError, match=r"blank.*--bounds-zyx"):
        draw_crops(lambda box: np.zeros(box.shape, np.uint8), BOUNDS, (4, 8, 8), 2, 0)
    with pytest.raises(DataError, match="1, 40, 1"):
        crop_shape(INFO, Box.of_shape((1, 40, 1)))


def test_a_graph_that_is_damaged_is_named(folder: Path, tmp_path: Path) -> None:
    bad = write_model(tmp_path / "bad")
    with pytest.raises(DataError, match=r"no int8\.xml.*bouton quantise"):
        open_runner(bad, Runtime("openvino", "int8"))
    (bad / GRAPH_FILE).write_text("<net>")
    with pytest.raises(DataError, match=r"cannot read int8\.xml"):
        open_runner(bad, Runtime("openvino", "int8"))


def test_absent_packages_are_told() -> None:
    with pytest.raises(SpecError, match=r"surely_absent.*pip install 'bouton\[openvino\]'"):
        require("surely_absent", "it", "openvino")
