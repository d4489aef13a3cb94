"""Areas of planes, spheres and cylinders drawn into voxels, at three voxel sizes."""

import numpy as np
import pytest

from bouton.errors import DataError
from bouton.geometry import Box
from bouton.segment.contacts import COUNTS, FACES, contacts
from bouton.segment.contacts_area import area_weights, contact_areas

SIZES = [(40.0, 4.0, 4.0), (30.0, 10.0, 10.0), (10.0, 10.0, 10.0)]
SIDE_NM = 800.0


def centres(shape, size, start=(0, 0, 0)):
    return np.meshgrid(
        *[(np.arange(n) + 0.5 + a) * s for n, s, a in zip(shape, size, start, strict=True)], indexing="ij", sparse=True
    )


def areas_of(labels, size, core=None):
    """Return {(a, b): (area, area by adding up faces)} in um^2."""
    bounds = Box.of_shape(labels.shape)
    core = core or bounds
    around = core.grow((1, 1, 1)) & bounds
    table, _ = contacts(labels[around.slices], core, bounds, labels.shape, False)
    area = contact_areas(np.stack([table[name] for name in COUNTS], axis=1), size)
    faces = sum(table[FACES[axis]] * np.prod(size) / size[i] for i, axis in enumerate("zyx")) / 1e6
    return {
        (int(a), int(b)): (float(one), float(other))
        for a, b, one, other in zip(table["a"], table["b"], area, faces, strict=True)
    }


def plane_in_box(normal, offset, side):
    """Return the area of ``normal . x = offset`` in a cube at the origin: the derivative of the volume below it."""
    total = 0.0
    for corner in np.ndindex(2, 2, 2):
        below = offset - side * float(np.dot(normal, corner))
        total += (-1) ** sum(corner) * max(0.0, below) ** 2
    return total / (2 * float(np.prod(normal)))


def normals(n):
    """Return n directions spread evenly over one octant, no component near 0."""
    z = 1 - (np.arange(n) + 0.5) / n
    turn = (np.arange(n) * (np.sqrt(5) - 1) / 2) % 1 * np.pi / 2
    found = np.stack([z, np.sqrt(1 - z * z) * np.sin(turn), np.sqrt(1 - z * z) * np.cos(turn)], axis=1)
    found = np.maximum(found, 0.01)
    return found / np.linalg.norm(found, axis=1)[:, None]


def plane_errors(size, n=40):
    shape = tuple(round(SIDE_NM / s) + 2 for s in size)
    z, y, x = centres(shape, size, (-1, -1, -1))
    core, errors = Box((1, 1, 1), tuple(a - 1 for a in shape)), []
    for i, normal in enumerate(normals(n)):
        offset = float(normal @ np.full(3, SIDE_NM / 2)) + 7.3 * (i % 5)
        labels = 1 + (normal[0] * z + normal[1] * y + normal[2] * x > offset).astype(np.uint64)
        exact = plane_in_box(normal, offset, SIDE_NM) / 1e6
        errors.append([value / exact - 1 for value in areas_of(labels, size, core)[1, 2]])
    return np.array(errors)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_planes_of_all_directions(size):
    ours, by_faces = plane_errors(size).T
    assert abs(ours.mean()) < 0.03
    assert np.abs(ours).max() < 0.09
    assert by_faces.max() > 0.5


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_planes_along_the_axes(size, axis):
    labels = np.ones((10, 10, 10), np.uint64)
    labels[tuple(slice(4, None) if i == axis else slice(None) for i in range(3))] = 2
    core = Box((1, 1, 1), (9, 9, 9))
    exact = 64 * np.prod(size) / size[axis] / 1e6
    area, by_faces = areas_of(labels, size, core)[1, 2]
    assert by_faces == pytest.approx(exact)
    assert area == pytest.approx(exact, rel=0.09)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_sphere_and_its_halves(size):
    radius = 400.0
    shape = tuple(round(2.4 * radius / s) for s in size)
    z, y, x = centres(shape, size, [-n / 2 for n in shape])
    inside = z**2 + y**2 + x**2 < radius**2
    exact = 4 * np.pi * radius**2 / 1e6
    found = {"whole": areas_of(np.where(inside, 1, 2).astype(np.uint64), size)[1, 2]}
    for name, side in {"z": z, "y": y, "x": x}.items():
        halves = areas_of(np.where(inside, 1, np.where(side + 0 * inside < 0, 2, 3)).astype(np.uint64), size)
        found[name] = tuple(2 * value for value in halves[1, 2])
        assert halves[1, 2] == pytest.approx(halves[1, 3], rel=0.02)
    for area, by_faces in found.values():
        assert area == pytest.approx(exact, rel=0.04)
        assert by_faces > 1.4 * exact


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(
    ("along", "tilted", "degrees"), [(0, 2, 0), (2, 0, 0), (2, 1, 45), (2, 0, 30), (0, 2, 30), (0, 1, 20)]
)
def test_cylinders(size, along, tilted, degrees):
    """A cylinder cut by two planes normal to axis ``along``, its own axis tilted towards ``tilted``."""
    radius, length = 200.0, 480.0
    across = 3 - along - tilted
    extent = [0.0, 0.0, 0.0]
    slope = np.tan(np.radians(degrees))
    extent[along], extent[across] = length, 2.4 * radius
    extent[tilted] = 2.4 * radius / np.cos(np.radians(degrees)) + length * slope
    shape = [round(e / s) + 2 for e, s in zip(extent, size, strict=True)]
    at = centres(shape, size, [-n / 2 for n in shape])
    sideways = (at[tilted] - slope * at[along]) * np.cos(np.radians(degrees))
    labels = np.where(sideways**2 + at[across] ** 2 < radius**2, 1, 2).astype(np.uint64)
    start, stop = [0, 0, 0], list(shape)
    start[along], stop[along] = 1, shape[along] - 1
    exact = 2 * np.pi * radius * (shape[along] - 2) * size[along] / np.cos(np.radians(degrees)) / 1e6
    area, by_faces = areas_of(labels, size, Box(tuple(start), tuple(stop)))[1, 2]
    assert by_faces > 1.2 * exact
    assert area == pytest.approx(exact, rel=0.09)


@pytest.mark.parametrize("size", [(10.0, 40.0, 10.0), (4.0, 4.0, 40.0), (35.0, 5.0, 6.0), (8.0, 8.0, 8.0)], ids=str)
def test_any_axis_may_be_the_long_one(size):
    errors = plane_errors(size, 12)[:, 0]
    assert np.abs(errors).max() < 0.1


def test_area_grows_with_the_square_of_the_unit_and_equal_counts_give_equal_areas():
    counts = np.random.default_rng(1).integers(0, 10**12, (50, 13))
    one = contact_areas(counts, (40.0, 4.0, 4.0))
    np.testing.assert_allclose(contact_areas(counts, (80.0, 8.0, 8.0)), 4 * one)
    order = np.random.default_rng(2).permutation(50)
    np.testing.assert_array_equal(contact_areas(counts[order], (40.0, 4.0, 4.0)), one[order])
    np.testing.assert_array_equal(contact_areas(counts[:1], (40.0, 4.0, 4.0)), one[:1])


@pytest.mark.parametrize("size", [(0.0, 4.0, 4.0), (40.0, -4.0, 4.0), (40.0, float("nan"), 4.0)], ids=str)
def test_a_voxel_size_that_is_none_is_told(size):
    with pytest.raises(DataError, match=r"voxel size .* three lengths above 0"):
        contact_areas(np.zeros((1, 13), np.int64), size)


def test_weights_are_made_once():
    assert area_weights((40.0, 4.0, 4.0)) is area_weights((40.0, 4.0, 4.0))
