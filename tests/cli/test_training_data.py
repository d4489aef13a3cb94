"""What a training file can ask for as data: masks, layers, several arrays, webKnossos boxes; what reaches the loss."""

from __future__ import annotations

import io
import shutil
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from bouton.cli.train import command
from bouton.cli.training_data import check_heads, load_volumes
from bouton.cli.training_plan import Plan, read_plan
from bouton.errors import BoutonError, DataError
from bouton.learn.partner_sampling import cleft_centres
from bouton.learn.sampling import PatchSampler, TrainingVolume, head_truths
from cli.training_box import run_verb, weights, write_box

ENTRY = "path: em.h5, image: raw, labels: ids, clefts: single, synapses: synapses.csv"
VALIDATE = ["--set", "validation=[]", "--set", "training.steps=12"]


@pytest.fixture
def box(tmp_path: Path) -> Path:
    return write_box(tmp_path)


def plan_of(box: Path, *overrides: str) -> Plan:
    return read_plan(box, list(overrides))


def volumes(box: Path, data: str, *more: str) -> list[TrainingVolume]:
    plan = plan_of(box, f"data=[{data}]", *more)
    return [each.volume for each in load_volumes(plan.data, plan, box.parent)]


def change(box: Path, name: str, where: np.ndarray, values: np.ndarray) -> None:
    with h5py.File(box.parent / "em.h5", "a") as file:
        file[name][...] = np.where(where, values.astype(file[name].dtype), file[name][...])


def read(box: Path, name: str) -> np.ndarray:
    with h5py.File(box.parent / "em.h5") as file:
        return file[name][...]


@pytest.mark.parametrize("mask", ["known: known", "unlabelled_id: 999"])
@pytest.mark.parametrize("more", ["", "descriptor_sigma_nm=60", "auxiliary_offsets=[[0, 0, -4]]"])
def test_labels_outside_the_mask_never_reach_the_weights(box: Path, tmp_path: Path, mask: str, more: str) -> None:
    known = read(box, "known") != 0
    if "unlabelled" in mask:
        change(box, "ids", ~known, np.full(known.shape, 999))
    data = f"data=[{{path: em.h5, image: raw, labels: ids, layers: {{clefts: clefts}}, {mask}}}]"
    words = [*VALIDATE, "--set", "heads=[affinities, boundaries, clefts]", "--set", data]
    words += ["--set", more] if more else []
    run_verb(command, box, "--out", tmp_path / "a", *words)
    if "unlabelled" not in mask:
        rng = np.random.default_rng(3)
        change(box, "ids", ~known, rng.integers(1, 40, known.shape))
        change(box, "clefts", ~known, rng.integers(0, 2, known.shape))
        run_verb(command, box, "--out", tmp_path / "b", *words)
        assert weights(tmp_path / "a") == weights(tmp_path / "b")
    # and a voxel inside does
    change(box, "ids", known & (read(box, "ids") == 6), np.full(known.shape, 2))
    run_verb(command, box, "--out", tmp_path / "c", *words)
    assert weights(tmp_path / "a") != weights(tmp_path / "c")


def test_a_mask_knows_nothing_next_to_what_it_hides(box: Path) -> None:
    (volume,) = volumes(box, "{path: em.h5, image: raw, labels: ids, known: known}", "erode_zyx=[0, 1, 1]")
    known = read(box, "known") != 0
    expected = known.copy()
    expected[:, :, 19] = False  # beside the hidden columns from 20 on; sections do not touch along z here
    np.testing.assert_array_equal(volume.known, expected)
    assert not volume.labels[~known].any()


def test_zero_inside_a_mask_is_no_cell(box: Path) -> None:
    change(box, "ids", read(box, "ids") == 1, np.zeros((12, 32, 32)))
    (masked,) = volumes(box, "{path: em.h5, image: raw, labels: ids, known: known}")
    (plain,) = volumes(box, "{path: em.h5, image: raw, labels: ids}")
    assert masked.known[0, 2, 2] and masked.labels[0, 2, 2] == 0
    assert not plain.known[0, 2, 2]
    # without a mask, 0 next to a label takes it
    assert plain.labels[0, 2, 7] != 0 and plain.known[0, 2, 7]
    truth, weight = head_truths(masked, plan_of(box).sampling())["affinities"]
    assert weight[2, 0, 2, 2] == 1 and truth[2, 0, 2, 2] == 0


def test_a_head_that_a_volume_lacks_is_not_trained_there(box: Path) -> None:
    data = "{path: em.h5, image: raw, labels: ids, weight: 3}, {path: em.h5, image: raw, layers: {clefts: clefts}}"
    found = volumes(box, data)
    plan = plan_of(box, "heads=[affinities, clefts]")
    with_cells, with_clefts = (head_truths(volume, plan.sampling()) for volume in found)
    assert with_cells["affinities"][1].any() and not with_cells["clefts"][1].any()
    assert with_clefts["clefts"][1].all() and not with_clefts["affinities"][1].any()
    assert [volume.weight for volume in found] == [3, 1]
    drawn = PatchSampler(found, plan.sampling(), plan.augmentation)
    share = np.mean([drawn(i).weight[0].any() for i in range(200)])
    assert 0.65 < share < 0.85


def test_a_head_without_any_annotation_is_named(box: Path) -> None:
    plan = plan_of(box, "heads=[affinities, mitochondria]")
    with pytest.raises(DataError, match=r"'mitochondria'.*layers: \{mitochondria"):
        check_heads(plan, load_volumes(plan.data, plan, box.parent))
    plan = plan_of(box, "heads=[affinities]", "data=[{path: em.h5, image: raw, layers: {clefts: clefts}}]")
    with pytest.raises(DataError, match=r"'affinities'.*expected labels"):
        check_heads(plan, load_volumes(plan.data, plan, box.parent))


def test_arrays_with_paths_of_their_own_and_an_offset(box: Path) -> None:
    with h5py.File(box.parent / "part.h5", "w") as file:
        file["ids"] = read(box, "ids")[2:8, 4:28, 4:28]
        file["ids"].attrs["resolution"] = [30.0, 10.0, 10.0]
    array = "{path: part.h5, dataset: ids, offset_zyx: [2, 4, 4]}"
    part = f'{{image: {{path: em.h5, dataset: raw}}, labels: {array}, box_zyx: "3:8,4:24,8:28"}}'
    whole = '{path: em.h5, image: raw, labels: ids, box_zyx: "3:8,4:24,8:28"}'
    (one,), (other,) = volumes(box, part), volumes(box, whole)
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(one.image, other.image)
    with pytest.raises(DataError, match="inside"):
        volumes(box, f"{{image: {{path: em.h5, dataset: raw}}, labels: {array}}}")


def test_every_nth_section_is_a_coarser_volume(box: Path) -> None:
    data = "{path: em.h5, image: raw, labels: ids, keep_every: 2, known: known}"
    found = volumes(box, data, "voxel_size_nm=[60, 10, 10]", "erode_zyx=[1, 1, 1]")
    for first, volume in enumerate(found):
        np.testing.assert_array_equal(volume.image, read(box, "raw")[first::2])
    # section 3 is unknown: it hides its neighbours among the odd ones, and none of the even ones
    assert found[0].known[:, 4, 4].all()
    assert found[1].known[:, 4, 4].tolist() == [False, False, False, True, True, True]
    with pytest.raises(DataError, match="voxel size"):
        volumes(box, data)


def wkw_zip(path: Path, labels: np.ndarray, boxes: str) -> None:
    """Write an annotation of one raw WKW block of 32 voxels a side."""
    cube = np.zeros((32, 32, 32), np.uint32)
    cube[: len(labels)] = labels
    data = struct.pack("<3sBBBBBQ", b"WKW", 1, 5, 1, 3, 4, 16) + cube.tobytes()
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("1/z0/y0/x0.wkw", data)
    nml = f'<things><parameters><scale x="10" y="10" z="30"/>{boxes}</parameters><volume location="d.zip"/></things>'
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.nml", nml)
        archive.writestr("d.zip", inner.getvalue())


def box_tag(name: str, x: int, y: int, z: int, width: int, height: int, depth: int) -> str:
    return (
        f'<userBoundingBox name="{name}" topLeftX="{x}" topLeftY="{y}" topLeftZ="{z}" '
        f'width="{width}" height="{height}" depth="{depth}"/>'
    )


def test_the_boxes_of_a_webknossos_annotation(box: Path, tmp_path: Path) -> None:
    boxes = box_tag("a", 1, 2, 3, 20, 18, 5) + box_tag("b", 0, 16, 0, 16, 40, 4) + box_tag("far", 90, 0, 0, 5, 5, 5)
    wkw_zip(box.parent / "cells.zip", read(box, "ids"), boxes)
    data = "{path: em.h5, image: raw, labels: {path: cells.zip}, box_zyx: annotation}"
    first, second = volumes(box, data)
    assert first.image.shape == (5, 18, 20) and second.image.shape == (4, 16, 16)  # cut at the image's end
    places = [(slice(3, 8), slice(2, 20), slice(1, 21)), (slice(0, 4), slice(16, 32), slice(0, 16))]
    for found, place in zip((first, second), places, strict=True):
        np.testing.assert_array_equal(found.image, read(box, "raw")[place])
        ids = read(box, "ids")[place]
        # the same cells, numbered anew
        assert len({*zip(found.labels.ravel(), ids.ravel(), strict=True)}) == len(np.unique(ids))
    run_verb(command, box, "--out", tmp_path / "out", *VALIDATE, "--set", f"data=[{data}]")


def test_an_annotation_without_boxes_says_so(box: Path) -> None:
    wkw_zip(box.parent / "cells.zip", read(box, "ids"), "")
    with pytest.raises(DataError, match=r"no bounding box of the annotation.*draw one"):
        volumes(box, "{path: em.h5, image: raw, labels: {path: cells.zip}, box_zyx: annotation}")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{path: em.h5, image: raw, labels: none}", "no data set 'none'"),
        ("{path: none.h5, image: raw, labels: ids}", "none.h5"),
        ('{path: em.h5, image: raw, labels: ids, box_zyx: "0:99,0:9,0:9"}', "box 0:99"),
        ("{path: em.h5, image: raw, labels: ids, box_zyx: all}", "no box"),
        ("{path: em.h5, image: raw, labels: real}", "float32"),
        ("{path: em.h5, image: ids, labels: ids}", "image of uint64"),
        ("{path: em.h5, image: raw, labels: ids, layers: {affinities: ids}}", "affinities"),
        ("{path: em.h5, image: raw, labels: ids, weight: 0}", "weight"),
        ("{path: em.h5, image: raw, labels: ids, unlabelled_id: -1}", "unlabelled_id"),
        ("{path: em.h5, image: raw, layers: {tissue: ids999}}", "layer of tissue"),
    ],
)
def test_bad_data_are_named(box: Path, data: str, message: str) -> None:
    with h5py.File(box.parent / "em.h5", "a") as file:
        file["real"] = file["ids"][...].astype(np.float32)
        file["ids999"] = file["ids"][...] + 999
    with pytest.raises(BoutonError, match=message):
        volumes(box, data)


def test_another_voxel_size_is_refused(box: Path) -> None:
    with pytest.raises(DataError, match="voxel size"):
        volumes(box, "{path: em.h5, image: raw, labels: ids}", "voxel_size_nm=[30, 8, 8]")


def test_real_annotation_trains(tmp_path: Path) -> None:
    """CREMI-like layer from the real server: ids 0 outside what was painted."""
    from volume.test_webknossos import DATA

    source = DATA / "webknossos_annotations" / "multi_volume_example_CREMI.zip"
    if not source.is_file():
        pytest.skip(f"no real data in {DATA}; set BOUTON_DATA")
    box = write_box(tmp_path)
    shutil.copy(source, tmp_path / "cremi.zip")
    with h5py.File(tmp_path / "big.h5", "w") as file:
        file.create_dataset("raw", (32, 640, 640), np.uint8, chunks=(32, 32, 32))
        file["raw"].attrs["resolution"] = [40.0, 4.0, 4.0]
    data = (
        "{image: {path: big.h5}, labels: {path: cremi.zip, dataset: Volume}, "
        'box_zyx: "0:32,512:544,544:576", unlabelled_id: 0}'
    )
    (volume,) = volumes(box, data, "voxel_size_nm=[40, 4, 4]")
    assert volume.known.any() and len(np.unique(volume.labels)) > 5


def test_every_second_section_is_kept_in_both_ways(box: Path) -> None:
    data = "{path: em.h5, image: raw, labels: ids, layers: {clefts: clefts}, keep_every: 2, weight: 3}"
    found = volumes(box, data, "voxel_size_nm=[60, 10, 10]", "heads=[affinities, clefts]")
    image, clefts = read(box, "raw"), read(box, "clefts")
    assert len(found) == 2
    for first, volume in enumerate(found):
        np.testing.assert_array_equal(volume.image, image[first::2])
        np.testing.assert_array_equal(volume.layers["clefts"], clefts[first::2])
        assert volume.weight == 3


def with_synapses(box: Path) -> str:
    """Write two clefts with partners, and one whose partner is not in the labels; return the volume's entry."""
    clefts = np.zeros((12, 32, 32), np.uint64)
    clefts[2:4, 7:9, 2:5], clefts[8:10, 15:17, 18:21], clefts[5, 20, 20] = 70, 50, 90
    with h5py.File(box.parent / "em.h5", "a") as file:
        file["single"] = clefts
    rows = ["id,pre_id,post_id,z_nm,y_nm,x_nm", "70,1,5,1,1,1", "50,27,23,1,1,1", "90,1,999,1,1,1", ""]
    (box.parent / "synapses.csv").write_text("\n".join(rows))
    return ENTRY


def test_partners_from_files(box: Path) -> None:
    entry = with_synapses(box)
    (volume,) = volumes(box, f"{{{entry}}}", "heads=[partners]")
    assert volume.synapses is not None
    ids = read(box, "ids")
    for cleft, names in ((70, (1, 5)), (50, (27, 23)), (90, (1, None))):
        row = volume.synapses.clefts[read(box, "single") == cleft]
        assert len(set(row.tolist())) == 1
        for label, name in zip(volume.synapses.partners[row[0]].tolist(), names, strict=True):
            if name is None:
                assert label == 0
            else:
                np.testing.assert_array_equal(volume.labels == label, ids == name)
    assert [number for number, _ in cleft_centres(volume)] == [1, 2]


def test_half_of_a_partner_truth_is_refused(box: Path) -> None:
    entry = with_synapses(box)
    with pytest.raises(BoutonError, match="clefts alone"):
        volumes(box, f"{{{entry.replace(', synapses: synapses.csv', '')}}}", "heads=[partners]")
    plan = plan_of(box, "data=[{path: em.h5, image: raw, labels: ids}]", "heads=[partners]")
    with pytest.raises(DataError, match="clefts and synapses"):
        check_heads(plan, load_volumes(plan.data, plan, box.parent))


def test_a_partner_network_is_trained_and_goes_on(box: Path, tmp_path: Path) -> None:
    words = ["--set", f"data=[{{{with_synapses(box)}}}]", "--set", "heads=[partners]", "--set", "training.steps=8"]
    words += ["--set", f"validation=[{{{ENTRY}}}]", "--set", "validate_every=8"]
    run_verb(command, box, "--out", tmp_path / "whole", *words)
    run_verb(command, box, "--out", tmp_path / "parts", *words, "--minutes", "0")
    run_verb(command, box, "--out", tmp_path / "parts", *words)
    assert weights(tmp_path / "whole") == weights(tmp_path / "parts")
    header, *_, last = (tmp_path / "whole" / "tiny" / "log.csv").read_text().split()
    assert 0 <= float(dict(zip(header.split(","), last.split(","), strict=True))["partners_right"]) <= 1
