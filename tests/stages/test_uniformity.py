"""Stage uniformity: tables in, tables out, whatever the processing blocks; parameters."""

import numpy as np
import pytest
import yaml

from bouton.density.type_samples import TypeSample, TypeSamples
from bouton.engine.context import params_from_json, params_to_json
from bouton.errors import DataError, SpecError
from bouton.stages import uniformity
from bouton.stages.uniformity import STAGE, Params
from bouton.step_checks import make_params
from bouton.strict_yaml import read_document
from bouton.volume.density_columns import CURVE_COLUMNS, DENSITY_COLUMNS, FINDING_COLUMNS, OUTLIER_COLUMNS
from harness import assert_same, run_stage

TABLES = ["findings", "curves", "outliers"]
QUICK = {"permutations": 19}


def densities(shape=(6, 6, 6), density=0.8, seed=0, masked=True):
    """Return a table of densities of uniform tissue in blocks of 5 um, voxels of 100 nm, every 7th block masked."""
    rng = np.random.default_rng(seed)
    index = np.argwhere(np.ones(shape, bool)).astype(np.int64)
    n = len(index)
    hidden = np.where(masked & (np.arange(n) % 7 == 3), 100_000, 0) + np.where(np.arange(n) % 35 == 3, 25_000, 0)
    table = {"block_" + a: index[:, i] for i, a in enumerate("zyx")}
    table |= {f"{a}_start": index[:, i] * 50 for i, a in enumerate("zyx")}
    table |= {f"{a}_stop": index[:, i] * 50 + 50 for i, a in enumerate("zyx")}
    table |= {f"{a}_nm": (index[:, i] + 0.5) * 5000.0 for i, a in enumerate("zyx")}
    table |= {"voxels": np.full(n, 125_000), "masked_voxels": hidden, "exposed_voxels": 125_000 - hidden}
    table |= {"masked_share": hidden / 125_000, "exposed_um3": (125_000 - hidden) / 1000}
    counts = rng.poisson(density * table["exposed_um3"])
    table |= dict.fromkeys(("synapses", "all_synapses"), counts)
    table |= dict.fromkeys(("excitatory", "inhibitory", "spine", "shaft"), 0 * counts)
    with np.errstate(invalid="ignore"):
        table["density_um3"] = counts / table["exposed_um3"]
    table["reason"] = np.where(hidden == 125_000, "nothing exposed", "").astype(object)
    return {name: np.asarray(table[name]) for name in DENSITY_COLUMNS}


def synapses(table, seed=0):
    """Return as many synapses at random places of each block as were counted."""
    rng, rows = np.random.default_rng(seed), np.repeat(np.arange(len(table["synapses"])), table["synapses"])
    return {f"{a}_nm": table[f"{a}_nm"][rows] + rng.uniform(-2500, 2500, rows.size) for a in "zyx"}


def run(params, inputs, block=(99, 99, 99)):
    return run_stage(STAGE, params, inputs, block, (100.0, 100.0, 100.0), shape=(300, 300, 300))


def test_columns_and_rows():
    table = densities()
    found = run(Params(**QUICK), {"densities": table, "synapses": synapses(table)})
    for name, columns in zip(TABLES, (FINDING_COLUMNS, CURVE_COLUMNS, OUTLIER_COLUMNS), strict=True):
        assert list(found[name]) == list(columns)
    tests = found["findings"]["test"].tolist()
    assert tests[:2] == ["density", "dispersion"] and "ripley" in tests and "depth" not in tests
    # blocks of which 80 % are masked, or all, are left out
    kept = table["masked_share"] <= 0.75
    assert 0 < kept.sum() < kept.size
    assert len(found["outliers"]["p"]) == kept.sum() and found["findings"]["n"][0] == kept.sum()


def test_outliers_are_rows_of_the_densities():
    table = densities(seed=1)
    table["synapses"][11] = 400
    found = run(Params(**QUICK), {"densities": table})["outliers"]
    assert found["synapses"][0] == 400 and found["side"][0] == "high" and found["q"][0] < 0.05
    rows = np.ravel_multi_index(tuple(found[f"block_{a}"] for a in "zyx"), (6, 6, 6))
    for name in set(OUTLIER_COLUMNS) & set(DENSITY_COLUMNS):
        assert np.array_equal(found[name], table[name][rows]), name
    kept = table["masked_share"] <= 0.75
    rate = table["synapses"][kept].sum() / table["exposed_um3"][kept].sum()
    assert found["expected"] == pytest.approx(rate * found["exposed_um3"])


def test_processing_blocks_do_not_matter():
    table = densities(seed=2)
    whole = run(Params(**QUICK), {"densities": table})
    assert_same(run(Params(**QUICK), {"densities": table}, (7, 50, 300)), whole, TABLES)


def test_depth_and_detector_are_answered_if_asked():
    params = Params(**QUICK, depth_axis="y", precision=0.9, precision_sample=200, recall=0.85, recall_sample=150,
                    recall_sd=0.05)  # fmt: skip
    found = run(params, {"densities": densities(seed=3)})["findings"]
    value = dict(zip(found["test"], found["value"], strict=True))
    assert np.isfinite([value["depth"], value["detector noise"], value["corrected density"]]).all()
    assert value["corrected density"] == pytest.approx(0.8 * 0.9 / 0.85, rel=0.05)


def with_types(table, share=0.75, unknown=0.0, seed=0):
    """Return the table with types: this share of the synapses of known type is excitatory."""
    rng = np.random.default_rng(seed)
    known = rng.binomial(table["synapses"], 1 - unknown)
    excitatory = rng.binomial(known, share)
    return table | {"excitatory": excitatory, "inhibitory": known - excitatory}


TYPES = {
    "excitatory": {"called_excitatory": 180, "called_inhibitory": 0, "missed": 20, "detections": 100, "no_synapse": 0},
    "inhibitory": {"called_excitatory": 0, "called_inhibitory": 50, "missed": 50, "detections": 100, "no_synapse": 20},
}


def test_types_are_corrected():
    table = with_types(densities(seed=4))
    kept = table["masked_share"] <= 0.75
    samples = TypeSamples(*(TypeSample(**TYPES[name]) for name in ("excitatory", "inhibitory")))
    found = run(Params(**QUICK, types=samples), {"densities": table})["findings"]
    value = dict(zip(found["test"], found["value"], strict=True))
    volume = table["exposed_um3"][kept].sum()
    e, i = table["excitatory"][kept].sum() / 0.9, table["inhibitory"][kept].sum() * 0.8 / 0.5
    assert value["corrected density, excitatory"] == pytest.approx(e / volume)
    assert value["corrected density, inhibitory"] == pytest.approx(i / volume)
    assert value["excitatory share, corrected"] == pytest.approx(e / (e + i))
    note = dict(zip(found["test"], found["note"], strict=True))
    without = run(Params(**QUICK), {"densities": table})["findings"]
    assert "no labelled samples" in dict(zip(without["test"], without["note"], strict=True))[
        "excitatory share, corrected"]  # fmt: skip
    assert "200 and 100 true" in note["excitatory share, corrected"]
    open_ = run(Params(**QUICK, types=samples), {"densities": with_types(densities(seed=4), unknown=0.2)})["findings"]
    row = list(open_["test"]).index("corrected density, inhibitory")
    assert np.isnan(open_["value"][row]) and "% of the synapses is not known" in open_["note"][row]


def test_types_in_a_workflow_file(tmp_path):
    def params(values):
        path = tmp_path / "w.yaml"
        path.write_text(yaml.safe_dump({"steps": {"u": {"stage": "uniformity", "params": values}}}, sort_keys=False))
        document = read_document(path)
        return make_params("u", STAGE, document.tree["steps"]["u"]["params"], document)

    found = params({"types": TYPES})
    assert found.types.inhibitory == TypeSample(0, 50, 50, 100, 20)
    assert params_from_json(STAGE, params_to_json(STAGE, found)) == found
    for key, value, told in [
        ("mised", 3, "types.excitatory.mised"), ("missed", 2.5, "types.excitatory.missed = 2.5"),
        ("missed", -2, "excitatory: missed = -2"), ("missed", float("nan"), "types.excitatory.missed"),
        ("detections", 0, "no_synapse = 0 of detections = 0"),
    ]:  # fmt: skip
        with pytest.raises(SpecError, match=told) as refused:
            params({"types": TYPES | {"excitatory": TYPES["excitatory"] | {key: value}}})
        assert "\n" not in str(refused.value)
    with pytest.raises(SpecError, match=r"types\.inhibitory"):
        params({"types": {"excitatory": TYPES["excitatory"]}})
    with pytest.raises(SpecError, match=r"types = 0\.9"):
        params({"types": 0.9})


def test_parts_that_are_no_parts_are_refused():
    table = densities()
    table["excitatory"] = table["synapses"] + 1
    with pytest.raises(DataError, match="of them excitatory"):
        run(Params(**QUICK), {"densities": table})


@pytest.mark.parametrize("shape", [(0, 1, 1), (1, 1, 1), (1, 1, 5)])
def test_few_blocks_give_notes(shape):
    found = run(Params(**QUICK), {"densities": densities(shape, masked=False)})["findings"]
    known = np.isfinite(found["value"])
    assert all(note for note, told in zip(found["note"], known, strict=True) if not told)


def test_negative_counts_are_refused():
    table = densities()
    table["synapses"][0] = -2
    with pytest.raises(DataError, match="-2 synapses"):
        run(Params(**QUICK), {"densities": table})


@pytest.mark.parametrize(("given", "told"), [
    ({"precision": 0.9}, "precision = 0.9 without precision_sample, recall, recall_sample;"),
    ({"recall_sd": 0.1}, "recall_sd = 0.1 without precision, precision_sample, recall, recall_sample;"),
    ({"precision": 0.9, "precision_sample": 50, "recall": 0.8},
     "precision = 0.9, precision_sample = 50, recall = 0.8 without recall_sample;"),
])  # fmt: skip
def test_what_nobody_wrote_is_not_said_to_be_wrong(given, told):
    with pytest.raises(SpecError) as refused:
        Params(**given)
    assert str(refused.value).startswith(told) and " = 0" not in str(refused.value).replace(told, "")


@pytest.mark.parametrize("bad", [
    {"max_masked_share": 1.5}, {"max_masked_share": float("nan")}, {"permutations": 5}, {"seed": -1},
    {"depth_axis": "depth"}, {"outlier_q": 0.0}, {"precision": 0.9}, {"precision": 1.2, "precision_sample": 5},
    {"recall": 0.9, "recall_sample": 100}, {"recall_sd": 0.1},
    {"precision": 0.9, "precision_sample": 9, "recall": 0.9, "recall_sample": 9, "recall_sd": 0.4},
])  # fmt: skip
def test_bad_parameters_are_named(bad):
    with pytest.raises(SpecError, match=r"|".join(bad) + "|precision"):
        Params(**bad)


def test_the_module_says_what_it_is():
    assert uniformity.__doc__ and STAGE.writes[0] == "findings"
