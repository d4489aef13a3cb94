"""Looking at a place: two neurons with a membrane at y = 20, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bouton.evaluate.trace_places import Reach, Site, close_box, enough_for, look, most, window_box
from bouton.geometry import Box

SIZE = (30.0, 10.0, 10.0)
SHAPE = (20, 120, 120)
WHOLE = Box.of_shape(SHAPE)
REACH = Reach(window_nm=400.0)
CENTRE = np.array([10.5 * 30, 600.0, 600.0])
SITE = Site(CENTRE, 1, 2, np.zeros((0, 3)))


def layers() -> dict[str, np.ndarray]:
    truth = np.ones(SHAPE, np.uint64)
    truth[:, 60:] = 2
    clefts, evidence = np.zeros(SHAPE, np.uint64), np.zeros(SHAPE, np.uint8)
    clefts[9:12, 58:62, 50:70] = 7
    evidence[9:12, 58:62, 50:70] = 204
    return {"truth": truth, "segments": truth + np.uint64(100), "clefts": clefts, "evidence": evidence}


def looked(found: dict[str, np.ndarray], site: Site = SITE, reach: Reach = REACH):
    box = window_box(site.centre_nm, reach, SIZE, WHOLE)
    near = close_box(site.centre_nm, reach, SIZE, box)
    cut = {n: v[(near if n in ("clefts", "evidence") else box).slices] for n, v in found.items()}
    return look(cut, box, site, (SIZE, reach))


def test_all_is_there() -> None:
    saw = looked(layers())
    assert (saw.peak, saw.cleft, saw.touches_core) == (204 / 255, 7, True)
    assert (saw.beside, saw.main) == ((101, 102), (101, 102))
    assert saw.fragments == (101, 102)
    np.testing.assert_allclose(saw.joint_nm, CENTRE, atol=10)


def test_nothing_is_there() -> None:
    found = layers()
    found["clefts"][:], found["evidence"][:] = 0, 30
    found["evidence"][10, 59, 61] = 120
    found["evidence"][10, 20, 20] = 250
    saw = looked(found)
    assert (saw.peak, saw.cleft) == (120 / 255, 0)
    np.testing.assert_allclose(saw.peak_nm, [315.0, 595.0, 615.0])


def test_evidence_off_the_contact_of_the_two_neurons_is_not_at_the_place() -> None:
    found = layers()
    found["clefts"][:], found["evidence"][:] = 0, 0
    found["evidence"][10, 45, 60] = 250
    assert looked(found).peak == 0.0
    without = {name: values for name, values in found.items() if name not in ("truth", "segments")}
    assert looked(without).peak == 250 / 255


def test_a_cut_partner_and_a_bare_one() -> None:
    found = layers()
    found["segments"][8:13, 60:72, 40:80] = 500
    saw = looked(found)
    assert (saw.beside, saw.main) == ((101, 500), (101, 102))
    found["segments"][5:16, 60:75, 30:90] = 0
    assert looked(found).beside == (101, 0)


def test_merged_partners_are_one_segment() -> None:
    found = layers()
    found["segments"][7:14, 50:70, 40:80] = 101
    assert looked(found).beside == (101, 101)


def test_fragments_inside_of_the_segments() -> None:
    found = layers()
    found["fragments"] = found["segments"].copy()
    found["fragments"][:, 50:60] = 900
    saw = looked(found)
    assert (saw.beside, saw.fragments) == ((101, 102), (900, 102))
    assert saw.main_fragments == (101, 102)


def test_a_neighbours_cleft_counts_only_at_the_core() -> None:
    found = layers()
    found["clefts"][:], found["evidence"][:] = 0, 0
    found["clefts"][9:12, 58:62, 74:110], found["evidence"][9:12, 58:62, 74:110] = 9, 200
    assert looked(found).cleft == 9
    taken = replace(SITE, taken=frozenset({9}))
    saw = looked(found, taken)
    assert (saw.cleft, saw.touches_core, saw.peak) == (0, False, 0.0)
    found["clefts"][9:12, 58:62, 62:110] = 9
    saw = looked(found, taken)
    assert (saw.cleft, saw.touches_core) == (9, True)


def test_what_is_nearer_to_another_synapse_is_its_own() -> None:
    found = layers()
    found["clefts"][:], found["evidence"][:] = 0, 0
    found["evidence"][10, 59, 72] = 255
    other = CENTRE + np.array([0.0, 0.0, 200.0])
    assert looked(found).peak == 1.0
    assert looked(found, replace(SITE, others_nm=other[None])).peak == 0.0


def test_neurons_that_are_not_there_are_no_place() -> None:
    saw = looked(layers(), replace(SITE, pre=77))
    assert (saw.cleft, saw.beside, saw.main) == (7, (0, 102), (0, 102))


def test_layers_that_are_missing() -> None:
    found = layers()
    saw = looked({"evidence": found["evidence"]})
    assert (saw.cleft, saw.beside, saw.peak) == (0, (0, 0), 0.8)
    saw = looked({"clefts": found["clefts"]})
    assert saw.cleft == 7
    assert np.isnan(saw.peak)


def test_most_counts_labels_and_wants_a_tenth() -> None:
    assert most(np.array([3, 3, 2, 2, 0], np.uint64)) == 2
    assert most(np.array([0] * 91 + [5] * 9, np.uint64)) == 0
    assert most(np.array([0] * 90 + [5] * 10, np.uint64)) == 5
    assert most(np.zeros(0, np.uint64)) == 0


def test_a_threshold_is_low_enough_where_a_cleft_holds_together() -> None:
    evidence = np.zeros((3, 6, 20), np.uint8)
    evidence[1, 2, 2:8] = 200
    evidence[1, 2, 12:18] = 180
    evidence[1, 2, 8:12] = 90
    wanted = {1: 200, 6: 200, 7: 90, 16: 90, 17: 0}
    assert {n: round(enough_for(evidence, n) * 255) for n in wanted} == wanted
    assert enough_for(evidence[:0], 1) == 0.0
