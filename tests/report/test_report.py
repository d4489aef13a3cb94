"""The report: whole for any run, nothing loaded from elsewhere, every row linked to its place."""

from __future__ import annotations

import base64
import html
import io
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image

import chromium
import fake_run
from bouton.errors import DataError
from bouton.geometry import Box
from bouton.report import write_report
from bouton.volume import create_volume


@pytest.fixture(scope="module")
def demo_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a whole run, for tests that only look at it."""
    return write_report(fake_run.whole_run(tmp_path_factory.mktemp("runs") / "demo").folder)


def page_of(run: fake_run.FakeRun) -> str:
    return write_report(run.folder).read_text(encoding="utf-8")


def pictures_in(page: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB")) for text in found]


def colours(picture: np.ndarray) -> int:
    return len(np.unique(picture.reshape(-1, 3), axis=0))


def test_whole_run(demo_page: Path) -> None:
    page = demo_page.read_text()
    for text in ("affinities", "synapse_evidence", "segmentation", "neuron_ids (truth)", "adapted_rand_error", "0.91"):
        assert text in page
    # Five layers on two sections, a strip of plots for each of the two synapse tables.
    pictures = pictures_in(page)
    assert len(pictures) == 12
    assert min(colours(picture) for picture in pictures) > 20


def test_needs_nothing_else(demo_page: Path) -> None:
    page = demo_page.read_text()
    assert not re.findall(r"<script|<link|@import|url\(|<iframe", page)
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="([^"]*)"', page))
    assert {urlsplit(html.unescape(url)).netloc for url in re.findall(r'href="([^"]*)"', page)} == {"127.0.0.1:8765"}


def test_rows_lead_to_their_places(demo_page: Path) -> None:
    rows = fake_run.synapses(30)
    urls = [html.unescape(url) for url in re.findall(r'href="([^"]*/at\?[^"]*)"', demo_page.read_text())]
    places = [parse_qs(urlsplit(url).query) for url in urls]
    assert all(place["run"] == ["demo"] for place in places)
    biggest = int(np.argmax(rows["size_voxels"]))
    partners = [str(rows["pre_id"][biggest]), str(rows["post_id"][biggest])]
    wanted = {"z_nm": [f"{rows['z_nm'][biggest]:.1f}"], "id": partners}
    assert any(place.get("id") == wanted["id"] and place["z_nm"] == wanted["z_nm"] for place in places)


def test_strongest_connections_are_counted(tmp_path: Path) -> None:
    run = fake_run.FakeRun(tmp_path / "demo")
    rows = fake_run.synapses(6)
    rows["pre_id"] = np.array([7, 7, 7, 8, 8, 9], dtype=np.uint64)
    rows["post_id"] = np.array([5, 5, 6, 5, 5, 5], dtype=np.uint64)
    rows["size_voxels"] = np.array([10, 20, 500, 100, 200, 1])
    run.table(run.step("synapses", "synapses"), "synapses", rows, fake_run.SYNAPSE_COLUMNS)
    run.save()
    cells = re.findall(r'<td class="n">(\d+)</td><td class="n">(\d+)</td>\s*<td><a', page_of(run))
    assert cells == [("2", "300"), ("2", "30"), ("1", "500"), ("1", "1")]


def test_missing_block_is_hatched_and_said(tmp_path: Path) -> None:
    run = fake_run.whole_run(tmp_path / "demo")
    labels = fake_run.cells()
    step = run.step("broken", "segmentation", state="failed", done=23)
    step["failures"] = [
        {
            "part": "relabel",
            "task": "1-1-1",
            "box_zyx": "10:20,32:64,32:64",
            "attempts": 3,
            "error": "ValueError: <b>x</b>",
        }
    ]
    run.layer(step, "segmentation", "labels", labels, skip=((1, 1, 1),))
    run.step("later", "synapses", state="blocked", tasks=0, done=0)
    run.save()
    page = page_of(run)
    assert 'class="tag failed">failed</span>' in page
    assert "23 of 24" in page
    assert "10% of it is missing (hatched)" in page
    assert "10:20,32:64,32:64" in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert "z_nm=450.0&amp;y_nm=480.0&amp;x_nm=480.0" in page


def test_names_cannot_inject(tmp_path: Path) -> None:
    evil = '<script>alert("1")</script>&"\''
    run = fake_run.FakeRun(tmp_path / "d<i>mo", skipped={evil: evil})
    step = run.step("step", evil, params={evil: evil}, reads={evil: evil})
    step["name"] = evil
    step["failures"] = [{"part": evil, "task": evil, "box_zyx": None, "attempts": 1, "error": evil}]
    scores = {"metric": [evil], "value": [1.0], "unit": [evil], "better": [evil], "n": [1]}
    rows = {
        name: np.array(values, dtype=object if isinstance(values[0], str) else None) for name, values in scores.items()
    }
    run.table(run.step("scores", "evaluate_segmentation"), "scores", rows, fake_run.SCORE_COLUMNS)
    run.save(command=evil, workflow=evil, workflow_file=evil)
    page = page_of(run)
    assert "<script" not in page
    assert "d<i>mo" not in page
    assert page.count("&lt;script&gt;") >= 10


def test_run_that_has_done_nothing_yet(tmp_path: Path) -> None:
    run = fake_run.FakeRun(tmp_path / "demo")
    step = run.step("affinities", "predict", state="pending", seconds=None, peak_bytes=None, done=0)
    layer = {"type": "layer", "path": "x/y", "kind": "affinities", "dtype": "uint8", "channels": 3}
    step["outputs"] = {"affinities": layer}
    run.save(finished=None)
    page = page_of(run)
    assert "unfinished" in page
    assert not pictures_in(page)


def test_empty_synapse_table(tmp_path: Path) -> None:
    run = fake_run.FakeRun(tmp_path / "demo")
    run.table(run.step("synapses", "synapses"), "synapses", fake_run.synapses(0), fake_run.SYNAPSE_COLUMNS)
    run.save()
    assert "Synapses: synapses" in page_of(run)


@pytest.mark.browser
@pytest.mark.skipif(chromium.BROWSER is None, reason=chromium.WHY_NOT)
def test_large_ids_fit_the_page(tmp_path: Path) -> None:
    run = fake_run.FakeRun(tmp_path / "demo")
    rows = fake_run.synapses(5)
    for column in ("id", "pre_id", "post_id"):
        rows[column] = rows[column] + np.uint64(2**63)
    run.table(run.step("synapses", "synapses"), "synapses", rows, fake_run.SYNAPSE_COLUMNS)
    run.save()
    page = write_report(run.folder)
    assert str(rows["pre_id"][0]) in page.read_text()
    with chromium.Page() as browser:
        browser.open(page.as_uri())
        browser.wait_for("document.readyState === 'complete' && location.protocol === 'file:'")
        assert browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_damaged_table_is_told_not_fatal(tmp_path: Path) -> None:
    run = fake_run.whole_run(tmp_path / "demo")
    (run.folder / run.steps[3]["outputs"]["synapses"]["path"]).write_bytes(b"PAR1 no table")
    page = page_of(run)
    assert "Results that cannot be read" in page
    assert "--repair" in page


def test_bounds_smaller_than_the_data(tmp_path: Path) -> None:
    bounds = Box((5, 10, 20), (15, 70, 100))
    page = page_of(fake_run.whole_run(tmp_path / "demo", bounds))
    assert "xy section at z = 10" in page
    assert "xz section at y = 40" in page
    assert "missing" not in page


def test_source_with_an_offset_is_shown_in_its_place(tmp_path: Path) -> None:
    """A truth volume that covers a part of the grid, stored from its own origin."""
    run = fake_run.whole_run(tmp_path / "demo")
    box = Box((6, 40, 30), (16, 80, 90))
    volume = create_volume(
        tmp_path / "truth",
        shape_zyx=box.shape,
        dtype="uint64",
        voxel_size_nm=(30, 10, 10),
        block_zyx=(10, 40, 60),
        kind="labels",
    )
    volume.write(Box.of_shape(box.shape), np.ascontiguousarray(fake_run.cells()[box.slices]))
    run.sources["truth"] = {"path": str(tmp_path / "truth"), "dataset": None, "offset_zyx": list(box.start)}
    run.steps[0]["outputs"].pop("neuron_ids")
    run.save()
    pictures = pictures_in(page_of(run))
    segmentation, truth = pictures[3], pictures[4]
    inside = np.abs(segmentation[40:-40, 40:-40].astype(int) - truth[40:-40, 40:-40]).max(axis=-1)
    # The same labels in the same place get the same colours; only the synapse lines differ.
    assert np.median(inside) == 0


def test_source_that_is_gone(tmp_path: Path) -> None:
    run = fake_run.whole_run(tmp_path / "demo")
    run.sources["image"] = {"path": str(tmp_path / "gone.zarr"), "dataset": None, "offset_zyx": [0, 0, 0]}
    run.save()
    assert "gone.zarr – not there any more" in page_of(run)


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run here"):
        write_report(tmp_path)


@pytest.mark.browser
@pytest.mark.skipif(chromium.BROWSER is None, reason=chromium.WHY_NOT)
def test_browser_shows_it_whole(demo_page: Path) -> None:
    with chromium.Page() as browser:
        browser.open(demo_page.as_uri())
        browser.wait_for("document.readyState === 'complete' && location.protocol === 'file:'")
        assert browser.evaluate("[...document.images].every(i => i.naturalWidth > 0)")
        assert browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert browser.evaluate("document.querySelectorAll('section').length") >= 6
