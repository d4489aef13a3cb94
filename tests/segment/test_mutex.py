"""Mutex watershed against its definition, edge by edge; and by hand."""

from fractions import Fraction
from importlib.util import find_spec

import numpy as np
import pytest

from bouton.errors import DataError, SpecError
from bouton.geometry import Box
from bouton.segment.mutex import MutexRule, label_runs, mutex_watershed, paint_runs, path_minimum

needs_package = pytest.mark.skipif(
    find_spec("mwatershed") is None,
    reason="mwatershed is not installed: pip install 'bouton[mutex]'",
)


def oracle(affinities, rule):
    """Every edge in the order of the definition, sets of voxels, and a set of pairs of them that repel each other."""
    shape = affinities.shape[1:]
    reach, middle = rule.reach, Fraction(str(rule.bias)) * 255
    edges, index = [], 0
    steps = [(axis, 1) for axis in range(3)] + [(axis, reach[axis]) for axis in range(3) if reach[axis] > 1]
    for axis, distance in steps:
        for voxel in np.ndindex(*shape):
            lower = tuple(v - distance * (a == axis) for a, v in enumerate(voxel))
            if lower[axis] >= 0:
                path = [tuple(v - i * (a == axis) for a, v in enumerate(voxel)) for i in range(distance)]
                value = min(int(affinities[(axis, *place)]) for place in path)
                if distance == 1 or value <= middle:
                    edges.append((-abs(value - middle), value <= middle, index, voxel, lower))
            index += 1
    group = {voxel: frozenset([voxel]) for voxel in np.ndindex(*shape)}
    repelled = set()
    for _, repels, _, voxel, lower in sorted(edges):
        a, b = group[voxel], group[lower]
        if a is b or frozenset([a, b]) in repelled:
            continue
        if repels:
            repelled.add(frozenset([a, b]))
            continue
        both = a | b
        repelled = {frozenset(both if g in (a, b) else g for g in pair) for pair in repelled}
        group |= dict.fromkeys(both, both)
    taken = {place for _, repels, _, *ends in edges if not repels for place in ends}
    group = {voxel: group[voxel] if voxel in taken else frozenset([voxel]) for voxel in group}
    weak = sorted(
        (-int(affinities[(axis, *voxel)]), axis, voxel) for axis in range(3) for voxel in group if voxel[axis]
    )
    for value, axis, voxel in weak:
        a, b = group[voxel], group[tuple(v - (i == axis) for i, v in enumerate(voxel))]
        if -value > Fraction(str(rule.low)) * 255 and not (a & taken and b & taken):
            group |= dict.fromkeys(a | b, a | b)
    labels = np.zeros(shape, np.uint64)
    for voxel, segment in group.items():
        if segment & taken:
            labels[voxel] = np.ravel_multi_index(min(segment), shape) + 1
    return labels


@needs_package
@pytest.mark.parametrize("seed", range(30))
def test_equals_the_definition(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 6, 3))
    # few values: most edges have the strength of another, the order among them decides
    affinities = (rng.integers(0, 6, (3, *shape)) * 51).astype(np.uint8)
    bias = float(rng.choice([0.0, 0.2, 0.5, 0.55, 1.0]))
    reach = tuple(int(n) for n in rng.integers(0, 5, 3))
    whole = Box.of_shape(shape)
    rule = MutexRule(bias, reach, float(rng.choice([0.0, 0.1, 0.3, 1.0])))
    np.testing.assert_array_equal(mutex_watershed(affinities, rule, whole, shape), oracle(affinities, rule))


def row(*values):
    """Affinities of a row of voxels along x; the first value is the edge between the first two."""
    affinities = np.zeros((3, 1, 1, len(values) + 1), np.uint8)
    affinities[2, 0, 0, 1:] = values
    return affinities


@needs_package
def test_a_row_by_hand():
    """Strengths 100 (joins 1 and 2), 80 (2 and 3 repel), 60 (joins 3 and 4), 5 (joins 4 and 5): no threshold on 5."""
    found = mutex_watershed(
        row(228, 48, 188, 133), MutexRule(0.502, (0, 0, 0), 1.0), Box.of_shape((1, 1, 5)), (1, 1, 5)
    )
    assert found.tolist() == [[[1, 1, 3, 3, 3]]]


@needs_package
@pytest.mark.parametrize(("reach", "joined"), [(0, True), (3, False)])
def test_a_hole_in_a_membrane_is_closed_from_a_distance(reach, joined):
    """Two slabs, a wall between their outermost voxels, and a hole in it that is stronger than the way to the wall."""
    shape = (1, 7, 8)
    affinities = np.full((3, *shape), 250, np.uint8)
    affinities[1, :, :, 3:5] = 180
    affinities[2, 0, :, 3:6] = [180, 5, 180]
    affinities[2, 0, 3, 3:6] = 200
    found = mutex_watershed(affinities, MutexRule(0.5, (0, 0, reach), 0.1), Box.of_shape(shape), shape)
    assert (found[0, 0, 0] == found[0, 0, 7]) == joined
    assert joined or len(np.unique(found)) == 2
    assert (found > 0).all()


@needs_package
@pytest.mark.parametrize(("low", "expected"), [(0.0, [1, 1, 3, 3, 3, 0]), (0.3, [1, 1, 0, 4, 4, 0])])
def test_what_nothing_attracts_joins_its_best_neighbour(low, expected):
    """The third voxel has affinity 30 to the left and 60 to the right; the last has none at all."""
    shape = (1, 1, 6)
    found = mutex_watershed(row(250, 30, 60, 250, 0), MutexRule(0.5, (0, 0, 0), low), Box.of_shape(shape), shape)
    assert found.ravel().tolist() == expected


@needs_package
def test_ids_are_those_of_the_data_set():
    affinities = np.full((3, 2, 2, 2), 255, np.uint8)
    box = Box((3, 4, 5), (5, 6, 7))
    found = mutex_watershed(affinities, MutexRule(0.5, (1, 1, 1), 0.1), box, (9, 9, 9))
    assert np.unique(found).tolist() == [(3 * 9 + 4) * 9 + 5 + 1]


@needs_package
@pytest.mark.parametrize("value", [0, 255])
def test_constant_affinities(value):
    affinities = np.full((3, 3, 4, 5), value, np.uint8)
    found = mutex_watershed(affinities, MutexRule(0.5, (2, 2, 2), 0.0), Box.of_shape((3, 4, 5)), (3, 4, 5))
    assert np.unique(found).tolist() == [1 if value else 0]


@needs_package
def test_bad_input_is_refused():
    whole = Box.of_shape((2, 2, 2))
    with pytest.raises(DataError, match="float32"):
        mutex_watershed(np.zeros((3, 2, 2, 2), np.float32), MutexRule(0.5, (1, 1, 1), 0.1), whole, (2, 2, 2))
    with pytest.raises(SpecError, match=r"affinity 1\.5"):
        mutex_watershed(np.zeros((3, 2, 2, 2), np.uint8), MutexRule(1.5, (1, 1, 1), 0.1), whole, (2, 2, 2))


def test_path_minimum_equals_the_definition():
    rng = np.random.default_rng(2)
    values = rng.integers(0, 256, (5, 6, 7)).astype(np.uint8)
    for axis in range(3):
        for steps in (1, 2, 4, 9):
            found = path_minimum(values, axis, steps)
            for voxel in np.ndindex(*values.shape):
                path = [tuple(v - i * (a == axis) for a, v in enumerate(voxel)) for i in range(steps)]
                assert found[voxel] == min(values[place] for place in path if place[axis] >= 0)


def test_runs_are_painted_back():
    rng = np.random.default_rng(3)
    shape, box = (9, 8, 11), Box((2, 1, 3), (8, 8, 11))
    labels = rng.integers(0, 3, box.shape).astype(np.uint64)
    runs = label_runs(labels, box, shape)
    assert len(runs["start"]) < labels.size
    np.testing.assert_array_equal(paint_runs(runs, box, shape), labels)
    for _ in range(50):
        a, b = np.sort(rng.integers(box.start, np.add(box.stop, 1), (2, 3)), axis=0)
        part = Box(tuple(a.tolist()), tuple(b.tolist()))
        np.testing.assert_array_equal(paint_runs(runs, part, shape), labels[part.within(box).slices])
