"""Small real volumes: scores stay where they were, with tolerance."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

import bouton
from bouton.evaluate.contingency import count_pairs
from bouton.evaluate.partition import adapted_rand, variation_of_information
from bouton.segment.basins import Thresholds, fragments_of
from bouton.spec import Choices, load_workflow

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("BOUTON_DATA", ROOT.parent / "shared" / "data"))


def need(name: str) -> Path:
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"no {name} in {DATA}; set BOUTON_DATA")
    return path


def test_fragments_of_real_affinities_agree_with_a_published_watershed() -> None:
    """Mouse piriform cortex; the published watershed has other rules for ties and small segments: not to the voxel."""
    with h5py.File(need("piriform_affinity/piriform.aff.h5")) as file:
        affinities = np.round(file["main"][...] * 255).astype(np.uint8)
    with h5py.File(need("piriform_affinity/piriform.seg.h5")) as file:
        published = file["seg"][...].astype(np.uint64)
    pairs = count_pairs(published, fragments_of(affinities, Thresholds(0.01, 0.9)))
    rand = adapted_rand(pairs)
    assert rand.error == pytest.approx(0.088, abs=0.01)
    assert rand.precision > 0.92, "fragments join what the published watershed keeps apart"
    assert variation_of_information(pairs).merge < 0.45


def test_fib25_box_is_better_than_the_authors_over_segmentation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("fib25_ts2/volume.h5")
    monkeypatch.setenv("BOUTON_DATA", str(DATA))
    box = bouton.Box.parse("120:160,0:96,0:96")
    flow = load_workflow(ROOT / "workflows" / "fib25.yaml", Choices(bounds=box))
    run = bouton.open_run(bouton.run_workflow(flow, tmp_path, "serial").folder)
    found = {}
    for step in ("scores", "scores_authors"):
        rows = run.table(f"{step}.scores")
        found[step] = dict(zip(rows["metric"], rows["value"], strict=True))
    ours, theirs = found["scores"], found["scores_authors"]
    for metric in ("voi_sum", "adapted_rand_error"):
        assert ours[metric] < theirs[metric], metric
    assert theirs["voi_sum"] > 0.5, "the box is too easy to mean anything"
