"""Models: what goes in comes out, and a damaged or foreign one is named: with torch, and before a run starts."""

from __future__ import annotations

import io
import json
import pickle
import re
import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from bouton.errors import BoutonError, DataError
from bouton.learn.card import CARD, FORMAT, WEIGHTS, card_bytes, is_pickle, parse_card
from bouton.learn.info import info_bytes, read_info
from bouton.learn.model import load_model, model_files
from bouton.learn.network import build_network
from bouton.learn.package import check_package, package_files, package_stamp, read_package
from bouton.stages.predict import STAGE, Params
from bouton.volume import write_folder
from tiny_model import INFO, SHAPE, tiny_card, write_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "tiny")


def edit_card(folder: Path, edit: Callable[[dict], object]) -> None:
    card = json.loads((folder / CARD).read_text())
    edit(card)
    (folder / CARD).write_text(json.dumps(card))


def put_weights(folder: Path, weights: dict[str, torch.Tensor] | bytes) -> None:
    """Replace the weights, and the hash in the card with theirs."""
    data = weights if isinstance(weights, bytes) else save({k: v.contiguous() for k, v in weights.items()})
    bound = package_files(check_card(folder), data)
    (folder / WEIGHTS).write_bytes(data)
    (folder / CARD).write_bytes(bound[CARD])


def check_card(folder: Path):
    return parse_card((folder / CARD).read_bytes(), folder)


def refused(folder: Path, message: str) -> None:
    """The model is refused by the library and, when a run is planned, by the stage; with one line."""
    openers = (load_model, check_package, lambda path: STAGE.outputs(Params(model=str(path))))
    for opener in openers:
        with pytest.raises(BoutonError) as caught:
            opener(folder)
        assert re.search(message, str(caught.value)), caught.value
        assert caught.value.expected
        assert caught.value.fix


def test_round_trip_drops_auxiliary_outputs(folder: Path) -> None:
    weights = build_network(replace(SHAPE, outputs=5), 1).state_dict()
    write_folder(folder, model_files(tiny_card(), weights))
    model = load_model(folder)
    assert model.info == read_info(folder) == INFO
    assert torch.equal(model.network.exit.weight, weights["exit.weight"][:3])
    assert torch.equal(model.network.entry.weight, weights["entry.weight"])


def test_bytes_repeat_and_are_those_of_torch(folder: Path) -> None:
    weights = build_network(SHAPE, 1).state_dict()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == model_files(tiny_card(), weights)
    assert (folder / WEIGHTS).read_bytes() == save({k: v.contiguous() for k, v in weights.items()})
    assert (folder / CARD).read_bytes() == card_bytes(check_card(folder))


def test_only_what_prediction_needs_names_a_result(folder: Path) -> None:
    before = STAGE.files(Params(model=str(folder)))
    edit_card(folder, lambda card: card.update(description="Another.", limits="None."))
    assert STAGE.files(Params(model=str(folder))) == before
    edit_card(folder, lambda card: card["prediction"].update(temperature=2.0))
    after = STAGE.files(Params(model=str(folder)))
    assert after[0] != before[0] and after[1] == before[1]
    write_model(folder, weights=build_network(SHAPE, 2).state_dict())
    assert STAGE.files(Params(model=str(folder)))[1] != before[1]


def test_order_of_heads_names_a_result() -> None:
    both = replace(SHAPE, outputs=2)
    one, other = (
        replace(INFO, architecture=both, heads=heads)
        for heads in ({"clefts": 1, "boundaries": 1}, {"boundaries": 1, "clefts": 1})
    )
    assert info_bytes(one) != info_bytes(other)


@pytest.mark.parametrize("keep", [0, 4, 60, -1])
def test_truncated_weights(folder: Path, keep: int) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:keep])
    refused(folder, r"weights\.safetensors: no model of bouton, or a damaged one .*SHA-256")
    put_weights(folder, (folder / WEIGHTS).read_bytes())
    refused(folder, r"weights\.safetensors: no model of bouton, or a damaged one")


def test_every_flipped_byte_of_the_weights_is_found(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    for at in range(0, len(whole), 97):
        (folder / WEIGHTS).write_bytes(whole[:at] + bytes([whole[at] ^ 0x15]) + whole[at + 1 :])
        with pytest.raises(DataError, match="SHA-256"):
            load_model(folder)
    (folder / WEIGHTS).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused(folder, r"SHA-256 is not the one in card\.json")


def test_a_damaged_card_is_a_data_error_or_a_card(folder: Path) -> None:
    whole = (folder / CARD).read_bytes()
    refusals = 0
    for at in range(0, len(whole), 3):
        (folder / CARD).write_bytes(whole[:at] + bytes([whole[at] ^ 0x15]) + whole[at + 1 :])
        try:
            check_package(folder)
        except DataError:
            refusals += 1
    assert refusals > len(whole) // 6


def test_a_card_cut_short_or_no_card(folder: Path) -> None:
    whole = (folder / CARD).read_bytes()
    for data in (b"", whole[:100], b"[]", b"null", b"{}", b"\xff" * 30, b"[" * 100_000, whole + b" " * (2 << 20)):
        (folder / CARD).write_bytes(data)
        refused(folder, r"card\.json: no card of a model of bouton")


def test_missing_files(folder: Path, tmp_path: Path) -> None:
    (folder / WEIGHTS).unlink()
    refused(folder, r"weights\.safetensors: cannot read the model \(No such file")
    (folder / CARD).unlink()
    refused(folder, r"card\.json: cannot read the model \(No such file")
    with pytest.raises(DataError, match=r"cannot read the model.*ships with bouton"):
        load_model(tmp_path / "none")
    with pytest.raises(BoutonError, match=r"no model .*none.*bouton train"):
        STAGE.outputs(Params(model=str(tmp_path / "none")))


def test_a_pickle_is_refused_by_name(tmp_path: Path, folder: Path) -> None:
    archive = io.BytesIO()
    torch.save(build_network(SHAPE, 1).state_dict(), archive)
    old = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, old, _use_new_zipfile_serialization=False)
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as file:
        file.writestr("data.pkl", b"")
    contents = [archive.getvalue(), old.getvalue(), zipped.getvalue()]
    contents += [pickle.dumps({"a": 1}, protocol) for protocol in (2, 3, 4, 5)]
    for number, data in enumerate(contents):
        for suffix in (".pt", ".pth", ".bin", ".safetensors", ""):
            path = tmp_path / f"{number}{suffix}"
            path.write_bytes(data)
            refused(path, r"a pickle, as torch\.save writes it, which can run any code")
        (folder / WEIGHTS).write_bytes(data)
        refused(folder, r"weights\.safetensors: a pickle")
        put_weights(folder, data)
        refused(folder, r"weights\.safetensors: a pickle")
    (tmp_path / "protocol0.pt").write_bytes(pickle.dumps({"a": 1}, 0))
    refused(tmp_path / "protocol0.pt", "a pickle")


def test_a_header_as_long_as_a_pickle_starts_is_none() -> None:
    """The eight bytes before the header are its length, and 0x0280 also starts a pickle of protocol 2."""
    made = (save({"a": torch.zeros(1)}, {"pad": "x" * pad}) for pad in range(0, 1000, 8))
    data = next(data for data in made if data[:2] == b"\x80\x02")
    assert not is_pickle(data[:16])


def test_other_files_are_refused(tmp_path: Path) -> None:
    for data in (b"", b"GIF89a" * 20, save({"x": torch.zeros(2)}), b"\xff" * 200):
        (tmp_path / "m.safetensors").write_bytes(data)
        refused(tmp_path / "m.safetensors", "no model of bouton, or a damaged one .a file, not a folder")
    (tmp_path / "m.onnx").write_bytes(b"\x08\x07")
    refused(tmp_path / "m.onnx", "an ONNX file.*bouton model import")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(folder: Path, value: float) -> None:
    weights = build_network(SHAPE, 1).state_dict()
    weights["exit.bias"][1] = value
    put_weights(folder, weights)
    refused(folder, r"not finite, in exit\.bias")


def test_weights_of_another_network_are_told_with_shapes(folder: Path) -> None:
    wide = build_network(replace(SHAPE, widths=(5, 6)), 1).state_dict()
    put_weights(folder, wide)
    refused(
        folder, r"weights of another network: down\.0\.first\.bias is float32 \(5,\); expected float32 \(4,\), after"
    )
    weights = build_network(SHAPE, 1).state_dict()
    put_weights(folder, {name: value for name, value in weights.items() if name != "entry.bias"})
    refused(folder, r"entry\.bias is missing; expected float32 \(4,\)")
    put_weights(folder, weights | {"extra": torch.zeros(2)})
    refused(folder, r"extra is float32 \(2,\); expected no such tensor")
    put_weights(folder, weights | {"entry.bias": weights["entry.bias"].half()})
    refused(folder, r"entry\.bias is float16 \(4,\); expected float32 \(4,\)")
    put_weights(folder, {name: value.bfloat16() for name, value in weights.items()})
    refused(folder, r"weights\.safetensors")


@pytest.mark.parametrize(
    ("at", "key", "message"),
    [
        ((), "descripton", r"unknown key 'descripton'.*did you mean 'description'"),
        (("prediction",), "voxel_size", r"unknown key 'prediction\.voxel_size'.*did you mean 'voxel_size_nm'"),
        (("prediction", "architecture"), "pool", r"'prediction\.architecture\.pool'.*did you mean 'pools'"),
        (("weights",), "license", r"unknown key 'weights\.license'.*did you mean 'licence'"),
        ((), "zzzz", r"unknown key 'zzzz'.*leave it out"),
    ],
)
def test_unknown_keys(folder: Path, at: tuple[str, ...], key: str, message: str) -> None:
    def edit(card: dict) -> None:
        for each in at:
            card = card[each]
        card[key] = 1

    edit_card(folder, edit)
    refused(folder, message)


def test_a_card_of_a_newer_format(folder: Path) -> None:
    edit_card(folder, lambda card: card.update(format="bouton-model/2", something="new"))
    refused(folder, rf"card of format 'bouton-model/2'; expected '{FORMAT}'.*install the version")


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("heads", {"affinities": 4}, "unusable heads"),
        ("heads", {"nothing": 3}, "unusable heads"),
        ("heads", {}, "unusable heads"),
        ("heads", {"affinities": 3, "synapse_evidence": 4}, "unusable number of outputs"),
        ("long_offsets", [[0, 0]], "prediction.long_offsets.0.2: missing"),
        ("tile_zyx", [4, 7, 8], "unusable tile"),
        ("overlap_zyx", [3, 2, 2], "unusable overlap"),
        ("voxel_size_nm", [30, 0, 10], "unusable voxel size"),
        ("voxel_size_nm", [30, 10], "prediction.voxel_size_nm"),
        ("std", 0, "unusable normalisation"),
        ("mean", "128", "prediction.mean: '128'"),
        ("temperature", -1, "unusable temperature"),
        ("architecture", 3, "prediction.architecture"),
        ("architecture", None, "prediction.architecture"),
    ],
)
def test_unusable_predictions(folder: Path, key: str, value: object, found: str) -> None:
    edit_card(folder, lambda card: card["prediction"].update({key: value}))
    refused(folder, found)


@pytest.mark.parametrize(
    ("key", "value"), [("widths", [4]), ("kernels", [[1, 2, 3], [3, 3, 3]]), ("pools", [[0, 2, 2]]), ("outputs", 0)]
)
def test_unusable_architectures(folder: Path, key: str, value: object) -> None:
    edit_card(folder, lambda card: card["prediction"]["architecture"].update({key: value}))
    refused(folder, "widths|odd sizes|at least 1")


def test_a_reader_sees_an_old_or_a_new_model_and_never_half_of_one(tmp_path: Path) -> None:
    made = [model_files(tiny_card(), build_network(SHAPE, seed).state_dict()) for seed in (1, 2)]
    folder, stop = tmp_path / "tiny", threading.Event()
    write_folder(folder, made[0])

    def rewrite() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            write_folder(folder, made[turn % 2])

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        seen = {read_package(folder)[0].weights.sha256 for _ in range(300)}
    finally:
        stop.set()
        writer.join()
    assert len(seen) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_a_replaced_model_is_noticed(folder: Path) -> None:
    stamp = package_stamp(folder)
    assert package_stamp(folder) == stamp != ()
    write_model(folder)
    assert package_stamp(folder) != stamp
    assert package_stamp(folder / "none") == ()


def test_weights_come_back_as_they_were(folder: Path) -> None:
    expected = build_network(SHAPE, 1).state_dict()
    found = load(read_package(folder)[1])
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name].numpy(), expected[name].numpy()) for name in found)
