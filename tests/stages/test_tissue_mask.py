"""The stage ``tissue_mask``: blocks do not show, areas by brute force, vessels and somata of a phantom by its truth."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from bouton import SpecError
from bouton.density.candidates import Rules, areas_of, lattice, neuropil, textures_of, wide
from bouton.geometry import Box
from bouton.phantom import PhantomParams, generate
from bouton.phantom.obstacles import VESSEL, find_obstacles
from bouton.stages.tissue_mask import STAGE, Params
from harness import assert_same, run_stage

SIZE = (30.0, 10.0, 10.0)
OUTPUTS = ("mask", "classes", "textures")
SMALL = Params(area_nm=50, grain_nm=20, scale_nm=60, vessel_um=0.3, soma_um=0.5, block_um=(0.4, 0.3, 0.5))
DATA = Path(os.environ.get("BOUTON_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")


def tissue(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Noise with a smooth ball, a smoother one, a missing section, padding and a saturated place."""
    rng = np.random.default_rng(seed)
    strength = np.full(shape, 40.0)
    z, y, x = np.indices(shape)
    for (cz, cy, cx), noise, nm in (((14, 62, 25), 2.0, 330), ((10, 35, 70), 14.0, 400)):
        strength[((z - cz) * 30) ** 2 + ((y - cy) * 10) ** 2 + ((x - cx) * 10) ** 2 < nm**2] = noise
    coarse = rng.normal(size=[-(-n // f) for n, f in zip(shape, (1, 2, 2), strict=True)])
    image = 128 + strength * coarse.repeat(2, 1).repeat(2, 2)[:, : shape[1], : shape[2]]
    image = np.clip(image, 1, 254).astype(np.uint8)
    image[shape[0] // 3] = 0
    image[:, : shape[1] // 8, : shape[2] // 5] = 77
    image[shape[0] // 2 :, -9:, -12:] = 255
    return image


@pytest.mark.parametrize(
    ("block", "seed"), [((9, 31, 40), 1), ((40, 17, 90), 2), ((7, 90, 13), None), ((1, 64, 64), 3), ((16, 16, 16), 4)]
)
@pytest.mark.parametrize("start", [(0, 0, 0), (3, 7, 5)])
def test_blocks_do_not_show(block: tuple[int, int, int], seed: int | None, start: tuple[int, int, int]) -> None:
    image = tissue((24, 90, 100))
    bounds = Box(start, image.shape)
    whole = run_stage(STAGE, SMALL, {"image": image}, image.shape, SIZE, bounds=bounds)
    parts = run_stage(STAGE, SMALL, {"image": image}, block, SIZE, bounds=bounds, seed=seed)
    assert set(np.unique(whole["mask"])) == {0, 1, 2, 3, 4}
    assert_same(whole, parts, OUTPUTS)


def test_every_voxel_is_counted_once() -> None:
    image = tissue((24, 90, 100))
    bounds = Box((2, 5, 11), image.shape)
    found = run_stage(STAGE, SMALL, {"image": image}, (9, 31, 40), SIZE, bounds=bounds)
    table, mask = found["classes"], found["mask"]
    assert len(table["voxels"]) == 2 * 3 * 2
    assert table["voxels"].sum() == bounds.voxels
    for row in range(len(table["voxels"])):
        at = tuple(slice(table[f"{a}_start"][row], table[f"{a}_stop"][row]) for a in "zyx")
        for number, name in enumerate(("blank", "saturated", "vessel", "soma"), start=1):
            assert table[name][row] == (mask[at] == number).sum()
    cells = [-(-b // c) - a // c for a, b, c in zip(bounds.start, bounds.stop, (2, 6, 6), strict=True)]
    assert found["textures"]["cells"].sum() <= np.prod(cells)
    # the corner cells of blanks and those without a whole patch are unknown, most are not
    assert found["textures"]["cells"].sum() > 0.8 * np.prod(cells)


def test_squares_of_one_grey_value_by_brute_force() -> None:
    rng = np.random.default_rng(5)
    for side_y, side_x in ((2, 2), (3, 2), (2, 5), (4, 4)):
        image = rng.choice(np.array([0, 3, 5, 250, 255], np.uint8), (3, 25, 30), p=[0.1, 0.78, 0.02, 0.05, 0.05])
        image[1, 5:10, 7:13] = rng.integers(250, 256, (5, 6))
        rules, box = Rules(black=1, white=250), Box.of_shape(image.shape)
        place = lattice(Rules(area_nm=1), (10.0, 10.0, 10.0))
        place = type(place)(place.patch, place.cell, (side_y, side_x), place.vessel, place.soma)
        clamped = np.clip(image, 1, 250)
        expected = np.zeros(image.shape, np.uint8)
        for z, y, x in np.ndindex(3, 25 - side_y + 1, 30 - side_x + 1):
            square = clamped[z, y : y + side_y, x : x + side_x]
            if square.min() == square.max():
                expected[z, y : y + side_y, x : x + side_x] = 2 if square.max() == 250 else 1
        np.testing.assert_array_equal(areas_of(image, box, box, rules, place), expected)
        assert expected.any()


def test_textures_by_brute_force() -> None:
    rng = np.random.default_rng(6)
    size = (25.0, 10.0, 10.0)
    rules = Rules(grain_nm=20, scale_nm=60, white=200)
    place = lattice(rules, size)
    assert (place.patch, place.cell) == ((1, 2, 2), (2, 6, 6))
    box = Box((3, 7, 2), (13, 40, 39))
    image = rng.integers(0, 200, box.shape, dtype=np.uint8)
    areas = (rng.random(box.shape) < 0.05).astype(np.uint8)
    found = textures_of(image, areas, box, rules, place)
    cells = place.covering(box)
    assert found.shape == cells.shape
    for index in np.ndindex(found.shape):
        corner = [(a + i) * c for a, i, c in zip(cells.start, index, place.cell, strict=True)]
        layers = []
        for z in range(corner[0], corner[0] + 2):
            means = []
            for y in range(corner[1], corner[1] + 6, 2):
                for x in range(corner[2], corner[2] + 6, 2):
                    patch = Box((z, y, x), (z + 1, y + 2, x + 2))
                    if box.contains(patch) and not areas[patch.within(box).slices].any():
                        means.append(image[patch.within(box).slices].mean())
            if len(means) >= 4:
                layers.append(np.var(means))
        expected = 0 if not layers else min(255, 1 + int(np.sqrt(np.mean(layers)) * 255 / 200 / 0.25 + 1e-9))
        assert found[index] == expected


def test_wide_cells_by_brute_force() -> None:
    rng = np.random.default_rng(7)
    place = lattice(Rules(scale_nm=100, grain_nm=50, vessel_nm=300, soma_nm=400), (100.0, 50.0, 50.0))
    assert (place.vessel, place.soma) == ((3, 3, 3), (4, 4, 4))
    rules = Rules(vessel_texture=0.25, soma_texture=0.6, share=0.7)
    for _ in range(5):
        rough = rng.integers(60, 120, (20, 20, 20))
        for level, low in ((50, 2), (15, 8)):
            z, y, x = rng.integers(2, 12, 3)
            rough[z : z + 6, y : y + 7, x : x + 8] = np.where(rng.random((6, 7, 8)) < 0.85, level, low)
        textures = np.where(rng.random(rough.shape) < 0.1, 0, rough).astype(np.uint8)
        known = textures > 0

        def smooth(limit: float, textures: np.ndarray = textures, known: np.ndarray = known) -> np.ndarray:
            found = np.zeros(textures.shape, bool)
            for p in np.ndindex(textures.shape):
                around = tuple(slice(max(0, a - 1), a + 2) for a in p)
                low = (known[around] & (textures[around] <= limit)).sum()
                found[p] = low > 0.5 * known[around].sum()
            return found

        flat, low = smooth(25), smooth(60)
        vessel, soma = np.zeros(flat.shape, bool), np.zeros(flat.shape, bool)
        for z, y, x in np.ndindex(18, 18, 18):
            cube = (slice(z, z + 3), slice(y, y + 3), slice(x, x + 3))
            if flat[cube].sum() >= 0.7 * 27:
                vessel[cube] |= flat[cube]
        for z, y, x in np.ndindex(17, 17, 17):
            cube = (slice(z, z + 4), slice(y, y + 4), slice(x, x + 4))
            if flat[cube].sum() <= 32 and low[cube].sum() >= 0.7 * 64:
                soma[cube] |= low[cube]
        expected = np.where(vessel, 3, np.where(soma, 4, 0))[4:-4, 4:-4, 4:-4]
        np.testing.assert_array_equal(wide(textures, 100.0, rules, place), expected)
        assert (expected > 0).any()


def test_neuropil_is_the_upper_quartile() -> None:
    assert neuropil(np.array([3, 5, 9]), np.array([2, 5, 3])) == 9
    assert neuropil(np.array([3, 5, 9]), np.array([2, 6, 2])) == 5
    assert np.isnan(neuropil(np.zeros(0, np.int64), np.zeros(0, np.int64)))


def test_a_given_neuropil_makes_it_local() -> None:
    """With ``neuropil_texture`` what lies far away changes nothing."""
    image = tissue((24, 90, 260))
    other = image.copy()
    other[:, :, 200:] = 128
    given = Params(**{**SMALL.__dict__, "neuropil_texture": 30.0})
    masks = [run_stage(STAGE, given, {"image": each}, (24, 90, 64), SIZE)["mask"] for each in (image, other)]
    np.testing.assert_array_equal(masks[0][:, :, :130], masks[1][:, :, :130])
    assert (masks[0][:, :, :130] > 2).any()


def test_contrast_and_depth_of_colour_do_not_matter() -> None:
    """12-bit values in uint16 with their white told, and half the contrast: nearly the same mask."""
    image = tissue((24, 90, 100))
    whole = run_stage(STAGE, SMALL, {"image": image}, image.shape, SIZE)["mask"]
    deep = Params(**{**SMALL.__dict__, "white": 4080, "black": 0})
    found = run_stage(STAGE, deep, {"image": image.astype(np.uint16) * 16}, image.shape, SIZE)["mask"]
    np.testing.assert_array_equal(found, whole)
    weak = np.where((image > 0) & (image < 255), 64 + image // 2, image)
    found = run_stage(STAGE, SMALL, {"image": weak}, image.shape, SIZE)["mask"]
    assert (found != whole).mean() < 0.03


def test_an_empty_image_is_blank() -> None:
    for value, expected in ((0, 1), (128, 1), (255, 2)):
        image = np.full((6, 40, 50), value, np.uint8)
        found = run_stage(STAGE, Params(), {"image": image}, (3, 20, 50), SIZE)
        assert (found["mask"] == expected).all()
        assert len(found["textures"]["cells"]) == 0


@pytest.mark.parametrize(
    "wrong",
    [{"share": 0.0}, {"share": 1.5}, {"vessel_um": -1.0}, {"vessel_texture": 0.7}, {"black": 9, "white": 5},
     {"scale_nm": float("nan")}, {"block_um": (5.0, 0.0, 5.0)}, {"neuropil_texture": float("inf")}],
)  # fmt: skip
def test_wrong_parameters_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        Params(**wrong)  # type: ignore[arg-type]


def test_voxels_too_coarse_for_a_texture() -> None:
    with pytest.raises(SpecError, match=r"at least 256, two patches; way out: scale_nm: 512"):
        STAGE.parts[0].halo(Params(), (45.0, 128.0, 128.0))
    STAGE.parts[0].halo(Params(scale_nm=512), (45.0, 128.0, 128.0))


def _scores(seed: int, box: Box, size: tuple[float, float, float], **more: object) -> dict[str, tuple[float, ...]]:
    """Return share, recall and precision of every class that a phantom has, and what is masked without reason."""
    made = generate(box, PhantomParams(seed=seed, voxel_size_nm=size, **more))  # type: ignore[arg-type]
    mask = run_stage(STAGE, Params(), {"image": made.image}, made.image.shape, size)["mask"]
    truth = {"blank": (made.mask == 2, mask == 1), "vessel": (made.mask == 1, mask == 3),
             "soma": ((made.tissue & 4 > 0) & (made.mask != 2), mask == 4)}  # fmt: skip
    scores = {}
    for name, (true, found) in truth.items():
        hit = float((true & found).sum())
        scores[name] = float(true.mean()), hit / max(1, true.sum()), hit / max(1, found.sum())
    usable = (made.mask == 0) & (made.tissue & 4 == 0)
    scores["usable"] = float(usable.mean()), float((usable & (mask > 0)).sum() / usable.sum()), 0.0
    return scores


def test_phantom_of_coarse_voxels() -> None:
    """A corner of seed 3 with part of a vessel, and a missing section; 4 x 8 x 8 um."""
    box = Box((140, 0, 180), (200, 240, 420))
    scores = _scores(3, box, (60.0, 32.0, 32.0), defects=("missing",), defect_rate=0.02)
    print(scores)
    assert scores["vessel"][0] > 0.03 and scores["blank"][0] > 0
    assert scores["vessel"][1] > 0.8 and scores["vessel"][2] > 0.95
    assert scores["blank"][1:] == (1.0, 1.0)
    assert scores["usable"][1] < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("seed", [11, 12, 13, 14])
def test_phantoms_that_no_parameter_was_chosen_on(seed: int) -> None:
    """5 x 10 x 10 um beside a vessel's axis, with as many somata as there is room for."""
    size, crowded = (60.0, 24.0, 24.0), 400000.0
    params = PhantomParams(seed=seed, voxel_size_nm=size, somata_per_mm3=crowded)
    bodies = find_obstacles(params, np.zeros(3), np.array([5000.0, 60000.0, 60000.0]))
    vessel = bodies.centre[bodies.kind == VESSEL][0]
    z, y, x = (int(v) for v in (0, vessel[1] / size[1] - 60, vessel[2] / size[2] - 60))
    box = Box((z, y, x), (z + 90, y + 400, x + 400))
    scores = _scores(seed, box, size, somata_per_mm3=crowded, defects=("missing",), defect_rate=0.03)
    print(seed, {name: tuple(round(float(v), 3) for v in values) for name, values in scores.items()})
    for name in ("vessel", "soma"):
        share, recall, precision = scores[name]
        assert share < 0.002 or (recall > 0.7 and precision > 0.75), name
    # in the other two boxes is neither: they show what is masked without reason
    assert seed not in (12, 14) or min(scores["vessel"][0], scores["soma"][0]) > 0.002
    assert scores["blank"][1:] == (1.0, 1.0)
    assert scores["usable"][1] < 0.02


def _real(path: str, name: str) -> np.ndarray:
    if not (DATA / path).is_file():
        pytest.skip(f"no real data in {DATA / path}; set BOUTON_DATA")
    with h5py.File(DATA / path) as file:
        return file[name][...]


@pytest.mark.parametrize(
    ("path", "name", "size"),
    [("fib25_ts2/volume.h5", "volumes/raw", (10.0, 10.0, 10.0)),
     ("vnc_gerhard2013/stack1.h5", "volumes/raw", (50.0, 4.6, 4.6))],
)  # fmt: skip
def test_real_neuropil_is_left(path: str, name: str, size: tuple[float, float, float]) -> None:
    image = _real(path, name)
    mask = run_stage(STAGE, Params(), {"image": image}, image.shape, size)["mask"]
    share = (mask > 0).mean()
    print(path, f"{share:.4%}", np.bincount(mask.reshape(-1), minlength=5))
    assert share < 0.01
