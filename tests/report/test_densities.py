"""Densities in the report: figures for any table, words and numbers of the tables, rows that lead to their places."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image

import fake_densities as fake
from bouton.geometry import Box
from bouton.report import write_report
from bouton.report.densities import (
    CAPTIONS,
    density_figures,
    density_numbers,
    density_sets,
    outlier_rows,
    tissue_densities,
)
from bouton.report.densities_maps import density_map, projections
from bouton.report.densities_tables import DensityTables, density_tables
from bouton.report.densities_words import interval, number, p_text, percent, reading, verdict
from bouton.volume.run_folder import open_run
from fake_run import VOXEL_SIZE_NM, FakeRun


def text_of(page: Path) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.read_text(encoding="utf-8"))))


def all_masked() -> dict[str, np.ndarray]:
    return fake.blocks(masked=1.0)


def all_zero() -> dict[str, np.ndarray]:
    table = fake.blocks()
    return table | {"synapses": table["synapses"] * 0, "density_um3": table["density_um3"] * 0}


TABLES = {
    "ordinary": fake.blocks, "one block": lambda: fake.blocks((1, 1, 1)), "one row": lambda: fake.blocks((1, 1, 9)),
    "all zero": all_zero, "all masked": all_masked, "tall": lambda: fake.blocks((40, 3, 2)),
}  # fmt: skip


@pytest.mark.parametrize("make", TABLES.values(), ids=TABLES)
def test_page_of_any_table(tmp_path: Path, make: Callable[[], dict[str, np.ndarray]]) -> None:
    page = write_report(fake.density_run(tmp_path / "demo", make()).folder)
    assert "Synapse density: densities" in text_of(page)
    assert "nan" not in text_of(page).lower().split()
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', page.read_text(encoding="utf-8"))
    assert len(found) == 2 - (make is all_masked)  # no density along axes
    for text in found:
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 5


def test_figures_of_a_tested_table(tmp_path: Path) -> None:
    run = open_run(fake.density_run(tmp_path / "demo", None, fake.varying()).folder)
    (tables,), problems = density_tables(run)
    assert not problems and list(density_figures(run, tables)) == list(CAPTIONS)


def test_table_without_blocks(tmp_path: Path) -> None:
    none = {name: values[:0] for name, values in fake.blocks().items()}
    run = fake.density_run(tmp_path / "demo", none, None)
    assert "there is no density" in text_of(write_report(run.folder))


def test_run_without_densities_says_nothing_of_them(tmp_path: Path) -> None:
    run = FakeRun(tmp_path / "demo")
    run.save()
    assert "Synapse density" not in text_of(write_report(run.folder))


def test_numbers_on_the_page_are_those_of_the_tables(tmp_path: Path) -> None:
    table = fake.blocks()
    table["excitatory"][:3] = 7
    run = fake.density_run(tmp_path / "demo", table, fake.varying())
    text = text_of(write_report(run.folder))
    total, volume = int(table["synapses"].sum()), float(table["exposed_um3"].sum())
    assert f"{total:,} synapses in {volume:,.0f} µm³ exposed: {total / volume:.4g} per µm³" in text
    assert re.search(r"\b21 excitatory", text)
    for words in ("2.1 to 2.9", "0.0004", "1.3 to 1.7", "not available: no depth axis"):
        assert words in text
    outliers = fake.outliers(table)
    first = f"{outliers['synapses'][0]} {number(round(float(outliers['expected'][0]), 1))}"
    assert first in text


def test_rows_of_outliers_lead_to_their_voxel(tmp_path: Path) -> None:
    table = fake.blocks()
    run = fake.density_run(tmp_path / "demo", table, fake.varying())
    page = write_report(run.folder).read_text(encoding="utf-8")
    places = [parse_qs(urlsplit(html.unescape(url)).query) for url in re.findall(r'href="([^"]*/at\?[^"]*)"', page)]
    outliers = fake.outliers(table)
    for place, row in zip(places[:5], range(5), strict=True):
        assert place["run"] == ["demo"] and "lines" not in place
        starts, stops = ([int(outliers[f"{axis}_{end}"][row]) for axis in "zyx"] for end in ("start", "stop"))
        assert Box.parse(place["box"][0]) == Box(tuple(starts), tuple(stops))
        for axis, size in zip("zyx", VOXEL_SIZE_NM, strict=True):
            voxel = float(place[f"{axis}_nm"][0]) / size
            middle = (outliers[f"{axis}_start"][row] + outliers[f"{axis}_stop"][row]) / 2
            assert voxel == pytest.approx(middle, abs=0.1)


def test_projections_are_sums_over_sums() -> None:
    table = fake.blocks((3, 4, 5))
    for axis, shown in enumerate(projections(table)):
        synapses, exposed, masked = (
            table[name].reshape(3, 4, 5).sum(axis=axis) for name in ("synapses", "exposed_um3", "masked_share")
        )
        np.testing.assert_allclose(shown.density_um3, synapses / exposed)
        np.testing.assert_allclose(shown.masked_share, masked / (3, 4, 5)[axis])


def test_projection_does_not_mind_the_order_of_rows_or_missing_blocks() -> None:
    table = fake.blocks((2, 3, 4))
    order = np.random.default_rng(2).permutation(24)
    mixed = {name: values[order] for name, values in table.items()}
    np.testing.assert_allclose(projections(mixed)[0].density_um3, projections(table)[0].density_um3)
    fewer = {name: values[table["block_x"] != 2] for name, values in table.items()}
    assert np.isnan(projections(fewer)[0].density_um3[:, 2]).all()


def hatched(table: Mapping[str, np.ndarray]) -> bool:
    figure = density_map(table, VOXEL_SIZE_NM)
    assert figure is not None
    return any(patch.get_hatch() for axes in figure.axes for patch in axes.patches)


def test_what_is_masked_is_hatched() -> None:
    assert not hatched(fake.blocks(masked=0.0))
    assert hatched(fake.blocks(masked=0.6))
    assert hatched(all_masked())


def tables_with(found: dict[str, np.ndarray], table: dict[str, np.ndarray] | None = None) -> DensityTables:
    return DensityTables("densities", "tests", fake.blocks() if table is None else table, findings=found)


def test_verdict_of_varying_tissue_names_size_and_drift() -> None:
    tables = tables_with(fake.varying())
    said = verdict(tables)
    text = " ".join(said.sentences)
    mean = tables.totals["density_um3"]
    assert said.state == "varies" and "2 of 3 tests reject it" in text and "dispersion, axis y" in text
    assert f"density varies by {100 * 0.25 / mean:.1f} % of its mean" in text
    assert f"(95 %: {100 * 0.2 / mean:.1f} to {100 * 0.3 / mean:.1f} %)" in text
    assert "detector" in text and "gives the same sign" in text


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (fake.finding("detector noise", 3.0, 0.001), "3 times what errors of the detector.* do not explain it"),
        (fake.finding("detector noise", 1.1, 0.4), "1.1 times what errors of the detector.* are enough to explain it"),
        (fake.finding("detector noise", note="not available: no recall"), "is not known"),
    ],
)
def test_verdict_tells_what_the_detector_may_make(row: dict, words: str) -> None:
    said = verdict(tables_with(fake.findings(fake.finding("dispersion", 2.5, 0.001), row)))
    assert re.search(words, " ".join(said.sentences))


def test_percent_is_of_the_blocks_that_were_tested() -> None:
    table = fake.blocks(masked=0.45)
    table["synapses"][-1] = 10**6
    params = {"max_masked_share": 0.5}
    tables = DensityTables("densities", "tests", table, findings=fake.varying(), params=params)
    text = " ".join(verdict(tables).sentences)
    mean = table["synapses"][:-1].sum() / table["exposed_um3"][:-1].sum()
    assert f"varies by {25 / mean:.1f} %" in text
    assert "Tests look at 59 of 60 blocks, those of which at most 50% are masked" in text


def test_no_variation_beyond_counting_is_told_with_its_limit() -> None:
    found = fake.findings(
        fake.finding("dispersion", 1.0, 0.5), fake.finding("density variation", 0.0, low=0.0, high=0.1)
    )
    tables = tables_with(found)
    most = 100 * 0.1 / tables.totals["density_um3"]
    text = " ".join(verdict(tables).sentences)
    assert "varies no more from block to block than the Poisson noise of counting" in text
    assert f"at most {most:.1f} %" in text


def test_verdict_of_uniform_tissue_is_no_proof_and_ignores_the_published_test() -> None:
    said = verdict(tables_with(fake.uniform()))
    assert said.state == "uniform" and "None of 2 tests" in said.sentences[1] and "no proof" in said.sentences[1]


@pytest.mark.parametrize("found", [fake.findings(fake.finding("dispersion", note="no block left")), {}])
def test_without_answers_nothing_is_claimed(found: dict[str, np.ndarray]) -> None:
    said = verdict(tables_with(found))
    assert said.state == "unknown" and "uniform:" not in " ".join(said.sentences)


@pytest.mark.parametrize(("factor", "warned"), [(1, False), (10, True), (0.1, True)])
def test_density_outside_of_what_cortex_holds_is_warned_of(factor: float, warned: bool) -> None:
    table = fake.blocks()
    table["synapses"] = np.round(table["synapses"] * factor).astype(np.int64)
    assert any("check units and mask" in text for text in verdict(tables_with({}, table)).warnings) == warned


def test_blocks_without_density_are_told_with_their_reason() -> None:
    said = verdict(tables_with({}, fake.blocks(masked=0.5)))
    assert "1 of 60 blocks have no density (no exposed volume)." in said.sentences and not said.warnings


def test_corrected_density_is_told_with_its_interval(tmp_path: Path) -> None:
    row = fake.finding("corrected density", 1.5, low=1.4, high=1.6, effect="synapses per um3")
    run = fake.density_run(tmp_path / "demo", None, fake.findings(fake.finding("dispersion", 1.0, 0.5), row))
    text = text_of(write_report(run.folder))
    assert "Corrected for precision and recall of the detector: 1.5 (95 %: 1.4 to 1.6) per µm³." in text


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (fake.finding("dispersion", 2.0, 0.001), "Evidence that counts of blocks vary more"),
        (fake.finding("dispersion", 0.5, 0.001), "Evidence that counts of blocks vary less"),
        (fake.finding("dispersion", 2.0, 0.2), "No evidence that counts of blocks vary more, or less"),
        (fake.finding("moran", -0.3, 0.01), "Evidence that blocks side by side are unlike"),
        (fake.finding("moran", 0.01, 0.3), "No evidence that blocks side by side are alike or unlike"),
        (fake.finding("axis z", 2.0, 0.01, q=0.06), "No evidence that density changes along"),
        (fake.finding("published histogram chi-square", 2.0, 1e-9, q=np.nan), "Says nothing about place"),
        (fake.finding("depth"), "not available"),
        (fake.finding("variogram", 0.3, 0.001), "Evidence that blocks near each other are more alike"),
        (fake.finding("variogram", 0.0, 0.001), "Evidence that blocks at some distance are more alike, or less"),
        (fake.finding("variogram", np.nan, 0.001), "Evidence that blocks at some distance are more alike, or less"),
        (fake.finding("variogram", np.nan, 0.5), "No evidence that blocks near each other"),
        (fake.finding("nearest neighbour", 0.8, 0.001), "Evidence that synapses lie nearer"),
        (fake.finding("ripley", 1.3, 0.001), "Evidence that synapses cluster"),
        (fake.finding("ripley", 1.0, 0.9), "No evidence that synapses cluster or keep apart"),
        (fake.finding("detector noise", 1.3, 0.6), "No evidence of more variation than errors of the detector"),
        (fake.finding("detector noise", 1.9, 0.001), "Evidence of more variation than errors of the detector"),
        (fake.finding("outlier blocks", 0.1), "How many blocks"),
        (fake.finding("density", 0.1), ""),
        (fake.finding("another test", 2.0, 0.01), "Evidence against uniform density"),
    ],
)
def test_readings(row: dict, words: str) -> None:
    assert reading(row).startswith(words)


@pytest.mark.parametrize(("low", "high", "q", "told"), [
    (0.8, 1.3, 0.001, True), (1.1, 1.5, 0.001, False), (0.5, 0.9, 0.001, False), (0.8, 1.3, 0.2, False),
])  # fmt: skip
def test_an_axis_whose_effect_may_be_none_says_what_the_test_sees(
    low: float, high: float, q: float, told: bool
) -> None:
    for test in ("axis z", "depth"):
        text = reading(fake.finding(test, 1.05, q, low=low, high=high))
        assert ("change of any shape" in text) == told
    assert "any shape" not in reading(fake.finding("dispersion", 1.05, 0.001, low=0.9, high=1.2))


def even(*more: dict) -> dict[str, np.ndarray]:
    row = fake.finding("dispersion", 0.52, 0.001, low=0.42, high=0.65)
    return fake.findings(row, fake.finding("density variation", note="not available: counts vary less"), *more)


@pytest.mark.parametrize("more", [
    (), (fake.finding("moran", -0.2, 0.001),), (fake.finding("nearest neighbour", 1.2, 0.001),),
    (fake.finding("ripley", 0.7, 0.001), fake.finding("axis z", 1.0, 0.8)),
])  # fmt: skip
def test_synapses_that_keep_a_distance_have_a_verdict_of_their_own(more: tuple) -> None:
    said = verdict(tables_with(even(*more)))
    text = " ".join(said.sentences)
    assert said.state == "regular" and "more evenly than by chance: they keep a distance" in text
    assert "0.52 times (95 %: 0.42 to 0.65) that of counts that chance alone makes: less" in text
    for words in ("not spread uniformly", "gives the same sign", "How much of it", "varies by"):
        assert words not in text


@pytest.mark.parametrize("row", [
    fake.finding("axis y", 1.5, 0.001), fake.finding("nearest neighbour", 0.8, 0.001),
    fake.finding("ripley", 1.4, 0.001), fake.finding("moran", 0.3, 0.001),
])  # fmt: skip
def test_even_counts_that_change_from_place_to_place_vary(row: dict) -> None:
    said = verdict(tables_with(even(row)))
    text = " ".join(said.sentences)
    assert said.state == "varies" and "less, not more" in text and "gives the same sign" in text


def test_layers_by_turns_are_no_synapses_that_keep_a_distance() -> None:
    found = fake.findings(fake.finding("dispersion", 1.9, 0.001), fake.finding("moran", -0.3, 0.001))
    assert verdict(tables_with(found)).state == "varies"
    alone = fake.findings(fake.finding("dispersion", 0.9, 0.5), fake.finding("moran", -0.3, 0.001))
    assert verdict(tables_with(alone)).state == "varies"


def test_density_is_told_with_its_interval() -> None:
    row = fake.finding("density", 1.25, low=1.2, high=1.3)
    tables = tables_with(fake.findings(row, fake.finding("dispersion", 1.0, 0.5)))
    assert "per µm³ (95 %: 1.2 to 1.3)." in verdict(tables).sentences[0]
    told = density_numbers(tables, VOXEL_SIZE_NM)
    assert told["density_um3"] == {"value": 1.25, "low": 1.2, "high": 1.3, "n": 60}
    assert density_numbers(tables_with(fake.varying()), VOXEL_SIZE_NM)["density_um3"] is None


def test_density_of_part_of_the_blocks_does_not_lend_its_interval_to_all() -> None:
    found = fake.findings(fake.finding("density", 1.25, low=1.2, high=1.3))
    tables = DensityTables("d", "t", fake.blocks(masked=0.45), findings=found, params={"max_masked_share": 0.5})
    assert "; in the blocks that were tested 1.25 (95 %: 1.2 to 1.3)." in verdict(tables).sentences[0]


@pytest.mark.parametrize(("part", "share", "warned"), [(1.0, "", False), (0.95, "5 %", False), (0.67, "33 %", True)])
def test_what_fills_no_whole_block_is_told(part: float, share: str, warned: bool) -> None:
    table = fake.blocks()
    tables = DensityTables("d", "", table, bounds_voxels=round(int(table["voxels"].sum()) / part))
    said = verdict(tables)
    told = [text for text in [*said.sentences, *said.warnings] if "outside of all whole blocks" in text]
    assert [text.startswith(share) for text in told] == ([True] if share else [])
    assert any("block_um" in text for text in said.warnings) == warned
    assert density_numbers(tables, VOXEL_SIZE_NM)["totals"]["left_out_share"] == pytest.approx(1 - part, abs=1e-6)


def test_bounds_are_those_of_the_step(tmp_path: Path) -> None:
    run = open_run(fake.density_run(tmp_path / "demo", fake.blocks((1, 1, 1)), fake.uniform()).folder)
    (tables,), _ = density_tables(run)
    assert tables.bounds_voxels == Box.parse(run.steps["densities"].bounds_zyx).voxels > 0
    nothing = DensityTables("d", "", fake.blocks())
    assert np.isnan(nothing.totals["left_out_share"]) and len(verdict(nothing).sentences) == 2


def test_known_types_and_targets_are_told() -> None:
    table = fake.blocks()
    table["excitatory"][0], table["inhibitory"][0], table["spine"][0] = 30, 10, 7
    text = " ".join(verdict(DensityTables("d", "", table)).sentences)
    of = int(table["synapses"].sum())
    assert f"Type known of 40 ({percent(40 / of)}): 75 % excitatory (30), 25 % inhibitory (10)." in text
    assert "Target known of 7" in text and "100 % on a spine (7), 0 % on a shaft (0)." in text
    assert "known of" not in " ".join(verdict(DensityTables("d", "", fake.blocks())).sentences)


def test_blocks_without_a_p_are_not_shown_as_surprising() -> None:
    table = fake.blocks((1, 1, 2))
    found = fake.outliers(table)
    found["p"] = np.array([0.2, np.nan])
    assert len(outlier_rows("demo", DensityTables("d", "t", table, outliers=found))) == 1


def test_numbers_as_texts() -> None:
    assert [percent(share) for share in (1 / 3, 1.0, 0.0, 0.0025, 0.05)] == ["33.3 %", "100 %", "0 %", "0.25 %", "5 %"]
    assert [number(v) for v in (1.23456, 12345.6, 0.0, np.nan, np.inf, 12345.0)] == [
        "1.235", "12,346", "0", "–", "∞", "12,345",
    ]  # fmt: skip
    assert [p_text(p) for p in (1e-9, 0.00123, 0.0456, 0.5, np.nan)] == ["< 0.0001", "0.0012", "0.046", "0.50", "–"]
    assert interval(fake.finding("x", 1.0)) == ""
    assert interval(fake.finding("x", 1.0, low=0.5, high=np.inf)) == " (95 %: 0.5 to ∞)"


def test_tissues(tmp_path: Path) -> None:
    run = open_run(fake.density_run(tmp_path / "demo").folder)
    (tables,), _ = density_tables(run)
    rows = tissue_densities(tables, VOXEL_SIZE_NM)
    inside = tables.blocks["block_z"] == 0
    assert [row[0] for row in rows] == [1, 2]
    assert rows[0][3] == pytest.approx(
        tables.blocks["synapses"][inside].sum() / tables.blocks["exposed_um3"][inside].sum()
    )


def test_json_holds_all_findings_and_no_nan(tmp_path: Path) -> None:
    run = open_run(fake.density_run(tmp_path / "demo", None, fake.varying()).folder)
    (tables,), _ = density_tables(run)
    told = density_numbers(tables, run.voxel_size_nm)
    assert [row["test"] for row in told["findings"]] == list(fake.varying()["test"])
    assert told["findings"][4]["value"] is None and told["verdict"] == "varies"
    assert len(told["outliers"]) == 60 and len(told["curves"]["variogram"]) == 6


def test_two_steps_that_test_are_two_sets_and_others_none(tmp_path: Path) -> None:
    run = fake.density_run(tmp_path / "demo", None, fake.varying())
    again = run.step("again", "uniformity", reads={"densities": "densities"})
    run.table(again, "findings", fake.uniform(), fake.FINDING_COLUMNS)
    waiting = run.step("waiting", "uniformity", reads={"densities": "densities"}, state="pending")
    run.table(waiting, "findings", fake.uniform(), fake.FINDING_COLUMNS)
    run.save()
    sets, _ = density_sets(open_run(run.folder))
    assert [(each.title, each.tag) for each in sets] == [
        ("densities, tested by uniformity", "not uniform"),
        ("densities, tested by again", "no evidence against uniform"),
    ]


def test_damaged_tables_are_told(tmp_path: Path) -> None:
    run = fake.density_run(tmp_path / "demo", None, fake.varying())
    (path,) = run.folder.glob("uniformity/*/findings.parquet")
    path.write_bytes(b"no table")
    page = text_of(write_report(run.folder))
    assert "Results that cannot be read" in page and "findings.parquet" in page and "Synapse density" in page
