"""``bouton check-model`` as a user types it: with a network small enough for tests, and the shipped one on tissue."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy import ndimage

from bouton.cli.main import main
from bouton.spec import Choices, load_workflow
from bouton.volume import create_volume
from tiny_model import INFO, write_model

SIZE = (30.0, 10.0, 10.0)
TILE = replace(INFO, tile_zyx=(8, 32, 32), overlap_zyx=(2, 4, 4))
DATA = Path(os.environ.get("BOUTON_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")


def bouton(*words: object) -> int:
    """Run the command line in this process; return its exit status."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return int(end.value.code or 0)


def tissue(shape: tuple[int, int, int], seed: int) -> np.ndarray:
    """Return cells with dark borders, smooth and noisy: uint8."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=shape), (1, 3, 3))
    cells = np.abs(field / field.std())
    return np.clip(60 + 80 * np.minimum(cells, 1.5) + rng.normal(size=shape) * 8, 0, 255).astype(np.uint8)


def save(folder: Path, image: np.ndarray, kind: str = "image") -> Path:
    block = (16, 64, 64)
    volume = create_volume(
        folder, shape_zyx=image.shape, dtype=str(image.dtype), voxel_size_nm=SIZE, block_zyx=block, kind=kind
    )
    volume.write(volume.box, image)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a reference, and images."""
    folder = tmp_path_factory.mktemp("check")
    write_model(folder / "model", TILE)
    save(folder / "training.zarr", tissue((24, 128, 128), 0))
    image = tissue((24, 128, 128), 1)
    save(folder / "image.zarr", image)
    half = image.copy()
    half[:, :, 64:] = np.random.default_rng(0).integers(0, 255, half[:, :, 64:].shape, np.uint8)
    save(folder / "half.zarr", half)
    assert bouton("check-model", folder / "model", folder / "training.zarr", "--make-reference", "--boxes", 24) == 0
    return folder


def check(made: Path, image: str, capsys: pytest.CaptureFixture, *words: object) -> dict:
    """Return the result as JSON, with ``status`` and the folder of the page."""
    capsys.readouterr()
    out = made / "out" / image
    status = bouton("check-model", made / "model", made / image, "--boxes", 10, "--out", out, "--json", *words)
    printed = capsys.readouterr()
    assert not printed.err, printed.err
    return {**json.loads(printed.out), "status": status, "out": out}


def test_other_tissue_of_the_same_kind_fits(made: Path, capsys: pytest.CaptureFixture) -> None:
    result = check(made, "image.zarr", capsys, "--strict")
    assert (result["verdict"], result["status"]) == ("fits", 0)
    assert len(result["boxes"]) == 10 and all(0 < box["score"] < 2 for box in result["boxes"])


def test_the_strange_half_is_found(made: Path, capsys: pytest.CaptureFixture) -> None:
    result = check(made, "half.zarr", capsys, "--strict")
    assert result["verdict"] != "fits" and result["status"] == 3
    starts = [int(box["box_zyx"].split(",")[2].split(":")[0]) for box in result["boxes"]]
    strange = sum(start >= 40 for start in starts)
    assert 2 <= strange <= 8
    # the worst boxes are those that reach furthest into it
    assert min(starts[: strange // 2 + 1]) >= 40
    assert result["reasons"][0]["where"] and result["reasons"][0]["fix"]
    assert check(made, "half.zarr", capsys)["status"] == 0


def test_files_and_page(made: Path, capsys: pytest.CaptureFixture) -> None:
    out = check(made, "half.zarr", capsys)["out"]
    page = (out / "index.html").read_text()
    assert not re.search(r"(src|href)=\"(?!data:)", page), "the page needs something else"
    assert page.count("data:image/png;base64,") == 7 and page.count("--at-zyx") == 10
    assert Image.open(out / "plots.png").size[0] > 1000
    assert json.loads((out / "result.json").read_text())["verdict"] in page
    workflow = yaml.safe_load((out / "look.yaml").read_text())
    assert workflow["steps"]["network"]["params"]["model"] == str((made / "model").resolve())
    assert load_workflow(out / "look.yaml", Choices()).steps[0].stage_name == "predict"


def test_words_on_the_terminal(made: Path, capsys: pytest.CaptureFixture) -> None:
    capsys.readouterr()
    assert bouton("check-model", made / "model", made / "half.zarr", "--boxes", 10, "--out", made / "o") == 0
    said = capsys.readouterr().out
    assert re.search(r"half.zarr, data set 0: (doubtful|does not fit)", said)
    assert "what to do:" in said and "training" in said and str(made / "o" / "index.html") in said


def test_seed_chooses_the_boxes(made: Path, capsys: pytest.CaptureFixture) -> None:
    places = [
        {box["box_zyx"] for box in check(made, "image.zarr", capsys, "--seed", seed)["boxes"]} for seed in (1, 1, 2)
    ]
    assert places[0] == places[1] != places[2]


def test_bounds_hold_the_boxes(made: Path, capsys: pytest.CaptureFixture) -> None:
    result = check(made, "half.zarr", capsys, "--bounds-zyx", "0:24,0:128,0:64")
    assert all(int(box["box_zyx"].split(":")[-1]) <= 64 for box in result["boxes"])


def test_truth_gives_calibration(made: Path, capsys: pytest.CaptureFixture) -> None:
    truth = save(made / "truth.zarr", np.full((24, 128, 128), 7, np.uint64), "labels")
    result = check(made, "image.zarr", capsys, "--truth", truth)
    found = result["calibration"]
    assert all(b["true"] == 1 for b in found["bins"])
    weights = [b["edges"] for b in found["bins"]]
    error = np.average([1 - b["predicted"] for b in found["bins"]], weights=weights)
    assert found["expected_calibration_error"] == pytest.approx(error, abs=1e-3)


def test_voxel_size_that_does_not_fit(made: Path, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    np.save(made / "bare.npy", tissue((16, 64, 64), 3))
    result = check(made, "bare.npy", capsys, "--voxel-size-nm", "50,4.6,4.6")
    assert result["verdict"] == "does not fit" and "50 x 4.6 x 4.6 nm" in result["reasons"][0]["found"]
    # the place can be looked at all the same
    assert yaml.safe_load((result["out"] / "look.yaml").read_text())["steps"]["network"]["params"][
        "voxel_size_tolerance"
    ] == pytest.approx(0.67, abs=0.01)


def test_blank_images_and_small_images(made: Path, capsys: pytest.CaptureFixture) -> None:
    np.save(made / "blank.npy", np.full((16, 64, 64), 99, np.uint8))
    result = check(made, "blank.npy", capsys, "--voxel-size-nm", "30,10,10")
    assert result["verdict"] == "does not fit" and "blank" in result["reasons"][0]["found"]
    np.save(made / "small.npy", tissue((5, 31, 40), 3))
    result = check(made, "small.npy", capsys, "--voxel-size-nm", "30,10,10")
    assert "boxes of 5 x 30 x 32 voxels" in json.dumps(result["reasons"])


def test_without_reference(made: Path, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    write_model(tmp_path / "model", TILE)
    assert bouton("check-model", tmp_path / "model", made / "image.zarr", "--boxes", 2, "--out", tmp_path / "o") == 0
    said = capsys.readouterr().out
    assert "doubtful" in said and "no reference statistics" in said
    assert "no reference" in (tmp_path / "o" / "index.html").read_text()


def test_a_reference_grows_and_is_renewed(made: Path, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", TILE)
    words = ("check-model", model, made / "training.zarr", "--make-reference", "--boxes")
    assert bouton(*words, 9) == bouton(*words, 12) == 0
    assert "12 boxes of training.zarr:0, 12 in all" in capsys.readouterr().out
    assert bouton("check-model", model, made / "image.zarr", "--make-reference", "--boxes", 3) == 0
    assert "3 boxes of image.zarr:0, 15 in all" in capsys.readouterr().out
    assert bouton("check-model", model, made / "training.zarr", "--make-reference", "--boxes", 3) == 0
    (model / "reference.json").write_text("{")
    assert bouton("check-model", model, made / "image.zarr", "--boxes", 2, "--out", tmp_path / "o") == 3
    assert "damaged reference" in capsys.readouterr().err
    assert bouton(*words, 9) == 0
    assert bouton(*words, 3, "--bounds-zyx", "0:4,0:32,0:32") == 3
    assert "reference's [8, 32, 32]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("nosuch", "image.zarr"), 2, "no model 'nosuch'"),
        (("model", "nosuch.zarr"), 3, "nosuch.zarr"),
        (("model", "sixteen.npy", "--voxel-size-nm", "30,10,10"), 3, "bouton convert .* --dtype uint8"),
        (("model", "nosize.npy"), 2, "--voxel-size-nm"),
        (("model", "thin.npy", "--voxel-size-nm", "30,10,10"), 3, r"at least \[1, 2, 2\]"),
        (("model", "image.zarr", "--bounds-zyx", "0:500,0:10,0:10"), 2, "a box inside"),
        (("model", "image.zarr", "--bounds-zyx", "0:5"), 2, "no box"),
        (("model", "image.zarr", "--truth", "image.zarr", "--truth-erode-zyx", "1,1"), 2, "three whole numbers"),
        (("model", "image.zarr", "--boxes", "0"), 2, "--boxes"),
        (("partners-phantom", "image.zarr"), 2, "partner_network"),
        (("model", "coarse.npy", "--voxel-size-nm", "60,20,20", "--make-reference"), 2, "the model's"),
        (("fresh", "image.zarr", "--make-reference", "--boxes", "3"), 3, "at least 8"),
    ],
)
def test_bad_input_is_one_line(
    made: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, words: tuple, status: int, message: str
) -> None:
    monkeypatch.chdir(made)
    np.save("sixteen.npy", np.zeros((16, 64, 64), np.uint16))
    for name in ("nosize.npy", "coarse.npy"):
        np.save(name, tissue((16, 64, 64), 3))
    np.save("thin.npy", np.zeros((16, 1, 64), np.uint8))
    if not Path("fresh").exists():
        write_model(Path("fresh"), TILE)
    capsys.readouterr()
    assert bouton("check-model", *words) == status
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and re.search(message, said), said


@pytest.mark.real
@pytest.mark.parametrize(("inverted", "verdict"), [(False, "fits"), (True, "does not fit")])
def test_the_shipped_model_on_real_tissue(
    tmp_path: Path, capsys: pytest.CaptureFixture, inverted: bool, verdict: str
) -> None:
    from bouton.learn.shipped import MODELS

    path = DATA / "fib25_ts2" / "volume.h5"
    if not path.is_file():
        pytest.skip(f"no {path}; set BOUTON_DATA")
    if not (MODELS / "affinity-fib25" / "reference.json").is_file():
        pytest.skip("affinity-fib25 has no reference.json")
    import h5py

    with h5py.File(path) as file:
        image = file["volumes/raw"][120:160]
    np.save(tmp_path / "image.npy", 255 - image if inverted else image)
    words = ("--voxel-size-nm", "10,10,10", "--boxes", 5, "--out", tmp_path / "o", "--json")
    assert bouton("check-model", "affinity-fib25", tmp_path / "image.npy", *words) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["verdict"] == verdict, result["reasons"]
    # inverted, the way back is found
    advice = [reason["fix"] for reason in result["reasons"] if "inverted, contrast matched" in reason["fix"]]
    assert bool(advice) == inverted
