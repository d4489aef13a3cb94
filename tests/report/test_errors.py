"""Pictures of errors: what is marked, where, and that the report holds them with links to their places."""

from __future__ import annotations

import base64
import html
import io
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
from PIL import Image

import fake_run
from bouton.evaluate.neuron_errors import MERGE_COLUMNS, SPLIT_COLUMNS
from bouton.geometry import Box
from bouton.report import write_report
from bouton.report.errors import MERGE, SPLIT, NeuronError, error_picture, error_sets, neuron_errors
from bouton.stages.evaluate_segmentation import Params, evaluate_volumes
from bouton.volume.run_folder import open_run
from harness import ArrayVolume

SIZE = (10.0, 10.0, 10.0)
ORANGE, BLUE, WHITE, YELLOW = (255, 140, 30), (70, 150, 255), (255, 255, 255), (255, 255, 0)


def has(picture: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    return (np.asarray(picture.convert("RGB")) == colour).all(axis=2)


def drawn(error: NeuronError, truth: np.ndarray, segmentation: np.ndarray) -> Image.Image:
    arrays = {"truth": truth, "segmentation": segmentation}
    read = lambda name, box: arrays[name][box.slices] if name in arrays else None  # noqa: E731
    return error_picture(error, read, Box.of_shape(truth.shape), SIZE)


def test_a_split_is_outlined_in_white_with_a_ring_at_its_place() -> None:
    truth, seg = np.full((5, 60, 100), 2, np.uint64), np.full((5, 60, 100), 9, np.uint64)
    truth[:, 10:50, 20:80], seg[:, 10:50, 20:50], seg[:, 10:50, 50:80] = 1, 3, 4
    picture = drawn(NeuronError(SPLIT, 1, 4, 0.1, 100, 0.5, 3, (2, 30, 50)), truth, seg)
    # 100 voxels are 420 pixels wide: the neuron's outline runs from 84 to 336 and from 42 to 210.
    assert picture.size == (420, 252)
    rows, columns = np.nonzero(has(picture, WHITE)[:200])
    assert (columns.min(), columns.max(), rows.min()) == (84, 335, 42)
    rows, columns = np.nonzero(has(picture, YELLOW))
    assert abs(columns.mean() - 50.5 * 4.2) < 1.5 and abs(rows.mean() - 30.5 * 4.2) < 1.5
    rgb = np.asarray(picture.convert("RGB")).astype(int)
    left, right = rgb[100, 150], rgb[100, 280]
    assert left[2] > left[0] and right[0] > right[2], "blue what it touches, orange what is cut off"


def test_a_merge_shows_the_lines_of_both_neurons() -> None:
    truth, seg = np.ones((5, 60, 100), np.uint64), np.full((5, 60, 100), 7, np.uint64)
    truth[:, :, 50:] = 2
    picture = drawn(NeuronError(MERGE, 2, 7, 0.1, 100, 0.5, 1, (2, 30, 50)), truth, seg)
    assert set(np.nonzero(has(picture, ORANGE))[1]) == {210, 211}
    assert set(np.nonzero(has(picture, BLUE))[1]) == {208, 209}


def test_a_boundary_across_z_is_shown_in_an_xz_section() -> None:
    truth, seg = np.ones((40, 60, 100), np.uint64), np.full((40, 60, 100), 3, np.uint64)
    seg[20:] = 4
    picture = drawn(NeuronError(SPLIT, 1, 4, 0.1, 100, 0.5, 3, (20, 30, 50)), truth, seg)
    assert picture.size == (420, 168), "40 x 100 voxels"


def test_anisotropic_voxels_make_square_pixels_and_edges_are_no_trouble() -> None:
    labels = np.ones((3, 40, 50), np.uint64)
    read = lambda name, box: labels[box.slices]  # noqa: E731
    error = NeuronError(SPLIT, 1, 1, 0.1, 100, 0.5, 3, (2, 0, 49))
    picture = error_picture(error, read, Box.of_shape(labels.shape), (40.0, 4.0, 8.0))
    # 280 nm to either side, within the data: 160 nm of y, 288 nm of x.
    assert picture.size == (420, round(420 * 160 / 288))


def errors_run(folder: Path) -> fake_run.FakeRun:
    """A run with a scored segmentation in which every cell is cut at x = 56 and two cells are one."""
    run = fake_run.FakeRun(folder)
    truth = fake_run.cells()
    seg = truth + np.where(np.arange(truth.shape[2]) >= 56, np.uint64(2**50), np.uint64(0))
    first, second = np.unique(truth[:, :, :56])[:2]
    seg[truth == second] = first
    tissue = run.step("tissue", "phantom")
    run.layer(tissue, "image", "image", fake_run.picture(truth))
    run.layer(tissue, "neuron_ids", "labels", truth)
    run.layer(run.step("segmentation", "segmentation"), "segmentation", "labels", seg)
    reads = {"segmentation": "segmentation.segmentation", "truth": "tissue.neuron_ids"}
    step = run.step("scores", "evaluate_segmentation", reads=reads)
    volumes = {"truth": ArrayVolume(truth), "segmentation": ArrayVolume(seg)}
    tables = evaluate_volumes(volumes, run.bounds, fake_run.VOXEL_SIZE_NM, Params(), (10, 32, 32))
    run.table(step, "scores", tables["scores"], fake_run.SCORE_COLUMNS)
    run.table(step, "split_errors", tables["split_errors"], SPLIT_COLUMNS)
    run.table(step, "merge_errors", tables["merge_errors"], MERGE_COLUMNS)
    run.save()
    return run


def test_the_report_shows_the_errors_with_links_to_their_places(tmp_path: Path) -> None:
    run = errors_run(tmp_path / "demo")
    page = write_report(run.folder).read_text(encoding="utf-8")
    assert "Largest splits" in page and "Largest merges" in page
    figures = re.findall(
        r'<a href="([^"]+)"><img src="data:image/png;base64,([^"]+)" alt="((?:neuron|segment) [^"]+)"', page
    )
    table = open_run(run.folder).table("scores.split_errors")
    splits = [figure for figure in figures if " without " in figure[2]]
    assert len(splits) == min(12, len(table["truth"]))
    for i, (url, data, title) in enumerate(splits):
        assert title == f"neuron {table['truth'][i]} without segment {table['segment'][i]}"
        place = parse_qs(urlsplit(html.unescape(url)).query)
        assert [float(place[f"{axis}_nm"][0]) for axis in "zyx"] == [table[f"{axis}_nm"][i] for axis in "zyx"]
        assert str(table["segment"][i]) in place["id"]
        assert len(np.unique(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))))) > 20
    assert any(" with neuron " in title for _, _, title in figures)


def test_rows_become_errors_with_what_they_touch(tmp_path: Path) -> None:
    rows = open_run(errors_run(tmp_path / "demo").folder).table("scores.split_errors")
    found = neuron_errors(SPLIT, rows, 3)
    assert [error.voxels for error in found] == rows["voxels"][:3].tolist()
    assert all(error.other in (n, m) for error, n, m in zip(found, rows["neighbour"], rows["largest"], strict=False))


def test_a_source_that_is_gone_leaves_the_errors_out(tmp_path: Path) -> None:
    run = errors_run(tmp_path / "demo")
    run.steps[-1]["reads"]["truth"] = "data:gone"
    run.save()
    assert error_sets(open_run(run.folder)) == ([], [])
    write_report(run.folder)
