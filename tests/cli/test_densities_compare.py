"""``bouton densities compare``: runs, groups and files; other sampling refused; pages and pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from bouton.cli.densities_compare import command, equal_contents
from bouton.cli.density_tables import open_densities
from bouton.errors import DataError, SpecError
from bouton.volume import write_table
from bouton.volume.density_columns import DENSITY_COLUMNS
from bouton.volume.run_group import GroupMember, RunGroup
from cli.calling import call
from cli.density_run import densities, density_run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    density_run(tmp_path / "runs" / "mouse", densities(1, 40.0))
    density_run(tmp_path / "runs" / "human", densities(2, 30.0))
    return tmp_path / "runs"


def rows(*arguments: object) -> dict[str, list[dict]]:
    return json.loads(call(command, *arguments, "--json"))


def test_two_runs(runs: Path) -> None:
    found = rows("mouse", "human", "--runs", runs)
    values = {(m["dataset"], m["measure"]): m for m in found["measurements"]}
    table = densities(1, 40.0)
    expected = table["synapses"].sum() / table["exposed_um3"].sum()
    assert values["mouse", "density"]["value"] == pytest.approx(expected)
    assert values["mouse", "spine/shaft"]["value"] is None and "no synapse is known" in values[
        "mouse", "spine/shaft"]["note"]  # fmt: skip
    density = found["differences"][0]
    assert (density["above"], density["below"]) == ("mouse", "human")
    assert density["low"] < density["value"] < density["high"] and density["q"] >= density["p"]
    told = call(command, "mouse", "human", "--runs", runs)
    assert "mouse / human" in told and "no synapse is known to be spine or shaft" in told


def test_a_group_and_a_file(runs: Path, tmp_path: Path) -> None:
    members = tuple(GroupMember(name, name) for name in ("mouse", "human"))
    RunGroup(runs / "species", "species", "species.yaml", members).write()
    file = tmp_path / "fly.parquet"
    write_table(file, densities(3, 60.0), DENSITY_COLUMNS)
    found = rows(runs / "species", file)
    assert list(dict.fromkeys(m["dataset"] for m in found["measurements"])) == ["mouse", "human", "fly"]
    assert len([d for d in found["differences"] if d["measure"] == "density"]) == 3


def test_another_sampling_is_refused(runs: Path, tmp_path: Path) -> None:
    density_run(runs / "old", densities(), rule="neurodata-2016")
    with pytest.raises(SpecError, match="rule is centroid in mouse and neurodata-2016 in old"):
        call(command, "mouse", "old", "--runs", runs)
    density_run(runs / "wide", densities(), pad_um=[9, 9, 9])
    assert rows("mouse", "wide", "--runs", runs)["differences"], "the centroid rule has no use for a pad"
    density_run(runs / "far", densities(), exclusion_nm=100.0)
    with pytest.raises(SpecError, match=r"exclusion_nm is 300\.0 in mouse and 100\.0 in far"):
        call(command, "mouse", "human", "far", "--runs", runs)
    file = tmp_path / "fly.parquet"
    write_table(file, densities(3, 60.0, (10, 16, 8)), DENSITY_COLUMNS)
    with pytest.raises(SpecError, match=r"blocks of 0.3 x 0.08 x 0.08 um in mouse and 0.3 x 0.16 x 0.08 um in fly"):
        call(command, "mouse", file, "--runs", runs)


def test_corrected(runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "detectors.yaml"
    one = "{precision: 0.9, precision_sample: 200, recall: 0.75, recall_sample: 180}"
    path.write_text(f"mouse: {one}\nhuman: {one}\n")
    found = rows("mouse", "human", "--runs", runs, "--corrected", path)
    values = {(m["dataset"], m["measure"]): m["value"] for m in found["measurements"]}
    assert values["mouse", "corrected density"] == pytest.approx(values["mouse", "density"] * 1.2)
    assert "corrected density" in {d["measure"] for d in found["differences"]}


E = "{called_excitatory: 170, called_inhibitory: 10, missed: 20, detections: 200, no_synapse: 10}"
I = "{called_excitatory: 10, called_inhibitory: 70, missed: 20, detections: 100, no_synapse: 10}"  # noqa: E741


def test_corrected_types(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    path = tmp_path / "detectors.yaml"
    one = f"{{types: {{excitatory: {E}, inhibitory: {I}}}}}"
    path.write_text(f"mouse: {one}\nhuman: {one}\n")
    table = densities(4, 60.0)
    table["inhibitory"] = table["synapses"] - table["excitatory"]
    for name in ("mouse", "human"):
        density_run(runs / name, table)
    found = rows("mouse", "human", "--runs", runs, "--corrected", path, "--out", tmp_path / "x.png")
    values = {(m["dataset"], m["measure"]): m["value"] for m in found["measurements"]}
    both = [values["mouse", f"corrected density, {name}"] for name in ("excitatory", "inhibitory")]
    assert values["mouse", "corrected E/I"] == pytest.approx(both[0] / both[1])
    assert ("mouse", "corrected density") not in values
    ratio = next(d for d in found["differences"] if d["measure"] == "corrected E/I")
    assert ratio["value"] == pytest.approx(1) and ratio["low"] < 1 < ratio["high"]
    assert Image.open(tmp_path / "x.png").width > 1000


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("mouse: {types: 5}", "detectors.yaml:1: types: 5; expected excitatory and inhibitory"),
        (f"mouse: {{types: {{excitatory: {E}}}}}", "expected excitatory and inhibitory"),
        (f"mouse:\n  types:\n    excitatory: {E}\n    inhibitory: 3", "detectors.yaml:4: inhibitory: 3"),
        (f"mouse: {{types: {{excitatory: {E}, inhibitory: {I.replace('missed', 'mised')}}}}}", "expected numbers of"),
        (f"mouse: {{types: {{excitatory: {E}, inhibitory: {I[:-1]}, mised: 3}}}}}}", "no 'mised' of a type"),
        (f"mouse: {{types: {{excitatory: {E}, inhibitory: {I.replace('70', '7.5')}}}}}", "called_inhibitory 7.5"),
        (f"mouse: {{types: {{excitatory: {E}, inhibitory: {E}}}}}", "detectors.yaml:1: .*types are guessed"),
        ("mice: {}", "detectors.yaml:1: no data set 'mice'"),
        ("mouse: {precision: 0.9}", "detectors.yaml:1: mouse: .*expected numbers of precision, precision_sample"),
        (
            "mouse: {precision: 9, precision_sample: 5, recall: 1, recall_sample: 5}",
            "precision = 9.0; expected above 0",
        ),
        ("mouse: {precision: .9, precision_sample: 5, recall: 0, recall_sample: 5}", "recall = 0.0"),
        ("mouse: {precision: .9, precision_sample: 0, recall: 1, recall_sample: 5}", "precision of a sample of 0"),
        ("mouse: {precision: .9, precision_sample: 5.5, recall: 1, recall_sample: 5}", "precision_sample 5.5"),
        ("mouse: {precision: good, precision_sample: 5, recall: 1, recall_sample: 5}", "precision 'good'"),
    ],
)
def test_bad_detectors(runs: Path, tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "detectors.yaml"
    path.write_text(text + "\n")
    with pytest.raises(SpecError, match=told):
        call(command, "mouse", "human", "--runs", runs, "--corrected", path)


def test_page_and_picture(runs: Path, tmp_path: Path) -> None:
    page, picture = tmp_path / "species.html", tmp_path / "species.png"
    call(command, "mouse", "human", "--runs", runs, "--out", page)
    call(command, "mouse", "human", "--runs", runs, "--out", picture)
    value = rows("mouse", "human", "--runs", runs)["measurements"][0]["value"]
    assert f"{value:.4g}" in page.read_text() and "data:image/png" in page.read_text()
    assert Image.open(picture).width > 500
    with pytest.raises(SpecError, match=r"a file .html or .png"):
        call(command, "mouse", "human", "--runs", runs, "--out", tmp_path / "x.pdf")


def test_refusals(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="at least two"):
        call(command, "mouse", "--runs", runs)
    with pytest.raises(SpecError, match="two data sets are called 'mouse'"):
        call(command, "mouse", "mouse", "--runs", runs)
    with pytest.raises(SpecError, match="no run 'mose'"):
        call(command, "mouse", "mose", "--runs", runs)
    bad = tmp_path / "bad.parquet"
    write_table(bad, {"a": densities()["synapses"]}, {"a": "int64"})
    with pytest.raises(DataError, match="no column block_z"):
        call(command, "mouse", bad, "--runs", runs)
    with pytest.raises(DataError, match=r"nope.parquet: no such file"):
        call(command, "mouse", tmp_path / "nope.parquet", "--runs", runs)


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("synapses", -4, r"x.parquet, row 2: -4 synapses of block \(0, 0, 1\); expected a whole number of at least 0"),
        ("synapses", 2.5, "row 2: 2.5 synapses"),
        ("synapses", float("nan"), "nan synapses"),
        ("excitatory", -1, "-1 excitatory"),
        ("exposed_um3", float("nan"), r"nan exposed_um3 of block \(0, 0, 1\); expected a finite number of at least 0"),
        ("exposed_um3", float("inf"), "inf exposed_um3"),
        ("exposed_um3", -3.0, "-3 exposed_um3"),
        ("masked_share", 1.5, "1.5 masked_share .*expected a share from 0 to 1"),
        ("z_nm", float("nan"), "nan z_nm .*expected a finite number;"),
        ("block_x", 0, r"block \(0, 0, 0\) in rows 1 and 2; expected a row a block"),
        ("exposed_um3", "much", "column exposed_um3 holds text; expected float64"),
        ("synapses", "many", "column synapses holds text; expected int64"),
    ],
)
def test_bad_tables_are_told(runs: Path, tmp_path: Path, name: str, values: object, told: str) -> None:
    table, kinds = densities(), dict(DENSITY_COLUMNS)
    kinds[name] = "str" if isinstance(values, str) else "int64" if isinstance(values, int) else "float64"
    table[name] = table[name].astype(object if isinstance(values, str) else kinds[name])
    table[name][1] = values
    write_table(tmp_path / "x.parquet", table, kinds)
    with pytest.raises(DataError, match=told):
        call(command, "mouse", tmp_path / "x.parquet", "--runs", runs)


def test_whole_numbers_may_be_stored_as_floats(runs: Path, tmp_path: Path) -> None:
    kinds = {name: "float64" if kind == "int64" else kind for name, kind in DENSITY_COLUMNS.items()}
    table = {
        name: values.astype(float) if kinds[name] == "float64" else values for name, values in densities(2).items()
    }
    write_table(tmp_path / "floats.parquet", table, kinds)
    write_table(tmp_path / "whole.parquet", densities(2), DENSITY_COLUMNS)
    found = rows(tmp_path / "floats.parquet", "mouse", "--runs", runs)
    expected = rows(tmp_path / "whole.parquet", "mouse", "--runs", runs)
    assert found["differences"][0]["value"] == expected["differences"][0]["value"]


def test_one_data_set_under_two_names(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "other").symlink_to(runs / "mouse")
    with pytest.raises(SpecError, match="two data sets are called 'mouse'"):
        call(command, "mouse", tmp_path / "other", "--runs", runs)
    file = tmp_path / "fly.parquet"
    write_table(file, densities(1, 40.0), DENSITY_COLUMNS)
    (tmp_path / "bee.parquet").symlink_to(file)
    with pytest.raises(SpecError, match="fly and bee are one table"):
        call(command, file, tmp_path / "bee.parquet", "--runs", runs)
    assert equal_contents(open_densities(str(file), runs) + open_densities("mouse", runs)) == [
        "fly and mouse hold the same numbers in every block: if they are one data set, leave one out"
    ]
    assert not equal_contents(open_densities("human", runs) + open_densities("mouse", runs))


def test_a_data_set_without_synapses(runs: Path) -> None:
    table = densities(3)
    for name in ("synapses", "all_synapses", "excitatory", "inhibitory"):
        table[name][:] = 0
    density_run(runs / "none", table)
    density = rows("mouse", "none", "--runs", runs)["differences"][0]
    assert density["value"] is None and "exact conditional test" in density["note"]
    assert 0 < density["p"] < 1e-9
    assert "exact conditional test" in call(command, "mouse", "none", "--runs", runs)


@pytest.mark.parametrize(
    ("state", "told"), [("pending", "bouton run WORKFLOW again goes on"), ("failed", "--quarantined tries again")]
)
def test_a_run_that_is_not_finished(runs: Path, state: str, told: str) -> None:
    unfinished = density_run(runs / "late", densities())
    unfinished.steps[-1]["state"] = state
    unfinished.save()
    with pytest.raises(DataError, match=f"run late: step densities is not finished.*way out: .*{told}"):
        call(command, "mouse", "late", "--runs", runs)


def test_an_error_lists_a_dozen_runs(tmp_path: Path) -> None:
    for number in range(15):
        (tmp_path / f"run{number:02}").mkdir()
        (tmp_path / f"run{number:02}" / "run.json").write_text("{}")
    with pytest.raises(SpecError, match=r"or one of run00, .*run11 and 3 more; way out"):
        call(command, "mouse", "human", "--runs", tmp_path)
