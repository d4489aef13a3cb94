"""From the field to grey values: membranes, cytoplasm, organelles, synapses, then the microscope.

Distances in nm come from the gap field divided by its gradient on the voxel grid. A section integrates over its
thickness: a membrane that runs obliquely through it appears wide and pale, which :func:`band` computes exactly for
a plane.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from bouton.phantom.hashing import hash3, smooth_noise, subkey, uniform, unit
from bouton.phantom.lattice import DENDRITE, GLIA, MYELINATED, NECK, SPINE, TWIG, sheath_nm
from bouton.phantom.obstacles import CELL_NM, VESSEL
from bouton.phantom.synapses import CLEFT_NM, REACH_NM

MEMBRANE_NM = 11.0
MITO_WALL_NM = 9.0
VESICLE_NM = 21.0
VESICLE_CELL_NM = 52.0
LIFT_NM = 85.0
LAMELLA_NM = 28.0


class Greys(NamedTuple):
    """Grey values, 0 to 255: :class:`bouton.phantom.params.TissueParams`."""

    membrane: float
    density: float
    cytoplasm: float


@njit(cache=True, nogil=True, inline="always")
def band(distance: float, low: float, high: float, half: float) -> float:
    """Return how much of ``distance - half .. distance + half`` lies in ``low .. high``, 0 to 1."""
    overlap = min(high, distance + half) - max(low, distance - half)
    return max(0.0, overlap) / (2.0 * half)


@njit(cache=True, nogil=True)
def measure(tree: np.ndarray, gap: np.ndarray, mito: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return distances in nm inside the outermost voxels, which serve as neighbours only.

    Returns
    -------
    distance : float32 (z, y, x)
        To the nearest membrane.
    tilt : float32 (z, y, x)
        Component along z of the membrane's unit normal, 0 to 1.
    depth : float32 (z, y, x)
        Inside a mitochondrion, nucleus or vessel; negative outside.
    """
    nz, ny, nx = gap.shape
    distance = np.full(gap.shape, np.float32(1e4))
    tilt = np.zeros(gap.shape, dtype=np.float32)
    depth = np.full(gap.shape, np.float32(-1e4))
    steps = (ny * nx, nx, 1)
    g, t, m = gap.reshape(-1), tree.reshape(-1), mito.reshape(-1)
    d_, t_, m_ = distance.reshape(-1), tilt.reshape(-1), depth.reshape(-1)
    for z in range(1, nz - 1):
        for y in range(1, ny - 1):
            for x in range(1, nx - 1):
                i = (z * ny + y) * nx + x
                total, first = 0.0, 0.0
                inside = 0.0
                for axis in range(3):
                    a, b = i - steps[axis], i + steps[axis]
                    down = g[a] if t[a] == t[i] else -g[a]
                    up = g[b] if t[b] == t[i] else -g[b]
                    slope = (up - down) / (2.0 * size[axis])
                    total += slope * slope
                    if axis == 0:
                        first = slope
                    slope = (m[b] - m[a]) / (2.0 * size[axis])
                    inside += slope * slope
                steep = np.sqrt(total)
                d_[i] = g[i] / max(steep, 0.6 / CELL_NM)
                t_[i] = abs(first) / steep if steep > 0.0 else 0.0
                m_[i] = m[i] / min(3.5 / CELL_NM, max(np.sqrt(inside), 0.3 / CELL_NM))
    return distance, tilt, depth


@njit(cache=True, nogil=True)
def stamp_clefts(
    truth: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    rows: tuple[np.ndarray, ...],
    places: np.ndarray,
    start: np.ndarray,
    size: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Mark clefts, densities and the paler cytoplasm around them.

    Parameters
    ----------
    truth
        tree, other tree (uint64), distance, tilt (float32), all (z, y, x).
    rows
        id, pre, post (uint64), centre, normal, radius (float64, nm), excitatory (bool).
    places : float64 (z, 2)
        Lateral shift (y, x) in nm of every section.

    Returns
    -------
    clefts : uint64 (z, y, x)
    dark : float32 (z, y, x)
        0 to 1: electron-dense material.
    """
    tree, other, distance, tilt = truth
    ids, pres, posts, centres, normals, radii, excitatory = rows
    clefts = np.zeros(tree.shape, dtype=np.uint64)
    dark = np.zeros(tree.shape, dtype=np.float32)
    for n in range(len(ids)):
        reach = radii[n] + 60.0
        z0 = max(1, int((centres[n, 0] - reach) / size[0]) - 1 - start[0])
        z1 = min(tree.shape[0] - 1, int((centres[n, 0] + reach) / size[0]) + 2 - start[0])
        for z in range(z0, z1):
            dz = (start[0] + z + 0.5) * size[0] - centres[n, 0]
            for y in range(1, tree.shape[1] - 1):
                dy = (start[1] + y + 0.5) * size[1] + places[z, 0] - centres[n, 1]
                if abs(dy) > reach:
                    continue
                for x in range(1, tree.shape[2] - 1):
                    dx = (start[2] + x + 0.5) * size[2] + places[z, 1] - centres[n, 2]
                    if abs(dx) > reach:
                        continue
                    mine, theirs = tree[z, y, x], other[z, y, x]
                    if not ((mine == posts[n] and theirs == pres[n]) or (mine == pres[n] and theirs == posts[n])):
                        continue
                    away = np.sqrt(dz * dz + dy * dy + dx * dx)
                    lift = dz * normals[n, 0] + dy * normals[n, 1] + dx * normals[n, 2]
                    if away > radii[n] + 30.0 or abs(lift) > LIFT_NM:
                        continue
                    s = distance[z, y, x] if mine == posts[n] else -distance[z, y, x]
                    half = np.sqrt((0.5 * tilt[z, y, x] * size[0]) ** 2 + 25.0)
                    edge = min(1.0, max(0.0, (radii[n] + 12.0 - away) / 24.0))
                    if excitatory[n]:
                        ink = band(s, 4.0, 42.0, half) + 0.8 * band(s, -11.0, 4.0, half)
                        ink = max(ink, 0.55 * band(s, -20.0, -8.0, half))
                    else:
                        ink = band(s, -20.0, 20.0, half)
                    dark[z, y, x] = max(dark[z, y, x], np.float32(edge * min(1.0, ink)))
                    if away <= radii[n] and clefts[z, y, x] == 0:
                        thick = max(CLEFT_NM, 0.5 * size[0] * tilt[z, y, x])
                        if abs(s) <= thick:
                            clefts[z, y, x] = ids[n]
    return clefts, dark


@njit(cache=True, nogil=True)
def stamp_vesicles(
    key: np.uint64,
    truth: tuple[np.ndarray, np.ndarray],
    rows: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    places: np.ndarray,
    start: np.ndarray,
    size: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Put vesicles on a jittered lattice into the axon near each cleft.

    Parameters
    ----------
    truth
        tree (uint64) and distance (float32), (z, y, x).
    rows
        pre (uint64 (n,)), centre (n, 3), normal towards post (n, 3), excitatory (n,).

    Returns
    -------
    shell : float32 (z, y, x)
        0 to 1: vesicle membrane.
    lumen : float32 (z, y, x)
        0 to 1: inside a vesicle.
    """
    tree, distance = truth
    pres, centres, normals, excitatory = rows
    shell = np.zeros(tree.shape, dtype=np.float32)
    lumen = np.zeros(tree.shape, dtype=np.float32)
    draws = subkey(key, 90)
    span = int(REACH_NM / VESICLE_CELL_NM) + 1
    place = np.empty(3)
    squash = np.ones(3)
    for n in range(len(pres)):
        middle = (centres[n] - 0.35 * REACH_NM * normals[n]) / VESICLE_CELL_NM
        c = (int(np.floor(middle[0])), int(np.floor(middle[1])), int(np.floor(middle[2])))
        for cz in range(c[0] - span, c[0] + span + 1):
            for cy in range(c[1] - span, c[1] + span + 1):
                for cx in range(c[2] - span, c[2] + span + 1):
                    draw = hash3(draws, cz, cy, cx)
                    for axis in range(3):
                        cell = cz if axis == 0 else (cy if axis == 1 else cx)
                        jit = 0.5 + 0.5 * (unit(hash3(draw, axis, 0, 0)) - 0.5)
                        place[axis] = (cell + jit) * VESICLE_CELL_NM
                    d2, along = 0.0, 0.0
                    for axis in range(3):
                        d2 += (place[axis] - centres[n, axis]) ** 2
                        along -= (place[axis] - centres[n, axis]) * normals[n, axis]
                    away = np.sqrt(d2)
                    if away > REACH_NM - 40.0 or along < -20.0:
                        continue
                    if unit(draw) > 1.0 - 0.7 * (away / REACH_NM) ** 2:
                        continue
                    vz = int(np.floor(place[0] / size[0])) - start[0]
                    if vz < 0 or vz >= tree.shape[0]:
                        continue
                    vy = int(np.floor((place[1] - places[vz, 0]) / size[1])) - start[1]
                    vx = int(np.floor((place[2] - places[vz, 1]) / size[2])) - start[2]
                    if vy < 1 or vx < 1 or vz < 1:
                        continue
                    if vz >= tree.shape[0] - 1 or vy >= tree.shape[1] - 1 or vx >= tree.shape[2] - 1:
                        continue
                    if tree[vz, vy, vx] != pres[n] or distance[vz, vy, vx] < VESICLE_NM + 10.0:
                        continue
                    squash[:] = 1.0
                    if not excitatory[n]:
                        squash[1 + int(unit(hash3(draw, 7, 0, 0)) * 2)] = 0.55
                    _draw_vesicle(shell, lumen, place, squash, places, start, size)
    return shell, lumen


@njit(cache=True, nogil=True)
def _draw_vesicle(
    shell: np.ndarray,
    lumen: np.ndarray,
    place: np.ndarray,
    squash: np.ndarray,
    places: np.ndarray,
    start: np.ndarray,
    size: np.ndarray,
) -> None:
    z0 = int(np.floor((place[0] - VESICLE_NM) / size[0])) - start[0]
    z1 = int(np.floor((place[0] + VESICLE_NM) / size[0])) + 1 - start[0]
    for z in range(max(0, z0), min(shell.shape[0], z1)):
        y0 = int(np.floor((place[1] - places[z, 0] - VESICLE_NM) / size[1])) - start[1]
        x0 = int(np.floor((place[2] - places[z, 1] - VESICLE_NM) / size[2])) - start[2]
        wide_y, wide_x = int(2 * VESICLE_NM / size[1]) + 2, int(2 * VESICLE_NM / size[2]) + 2
        for y in range(max(0, y0), min(shell.shape[1], y0 + wide_y)):
            dy = ((start[1] + y + 0.5) * size[1] + places[z, 0] - place[1]) / squash[1]
            for x in range(max(0, x0), min(shell.shape[2], x0 + wide_x)):
                dx = ((start[2] + x + 0.5) * size[2] + places[z, 1] - place[2]) / squash[2]
                wall, room = 0.0, 0.0
                for sub in range(3):
                    dz = (start[0] + z + (sub + 0.5) / 3.0) * size[0] - place[0]
                    r = np.sqrt(dz * dz + dy * dy + dx * dx)
                    wall += band(r, 12.0, VESICLE_NM, 4.0) / 3.0
                    room += (1.0 if r < 12.0 else 0.0) / 3.0
                shell[z, y, x] = max(shell[z, y, x], np.float32(wall))
                lumen[z, y, x] = max(lumen[z, y, x], np.float32(room))


@njit(cache=True, nogil=True)
def _tone(kind: int, tree: np.uint64, draws: np.uint64, cytoplasm: float) -> float:
    """Return the cytoplasm's grey value of a neurite."""
    draw = unit(hash3(draws, int(tree), 0, 0))
    own = 34.0 * (draw - 0.5) - (30.0 if draw < 0.06 else 0.0)
    if kind in (DENDRITE, TWIG, SPINE, NECK):
        return cytoplasm + own
    if kind == GLIA:
        return cytoplasm + 14.0 + own
    return cytoplasm - 10.0 + own


@njit(cache=True, nogil=True)
def _sheathed(value: float, d: float, half: float, thick: float, dark: float) -> float:
    """Return a myelinated axon's grey value at ``d`` nm from its membrane: lamellae, blurred by the section, inside."""
    turn = 6.2832 / LAMELLA_NM
    # The mean of a cosine over a section that is crossed obliquely.
    ripple = np.cos(turn * d) * np.sin(turn * half) / (turn * half)
    value += (dark + 22.0 + 28.0 * ripple - value) * band(d, 0.0, thick, half)
    return value + (dark + 10.0 - value) * band(d, thick - 8.0, thick + 4.0, half)


@njit(cache=True, nogil=True)
def paint(
    key: np.uint64,
    truth: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    ink: tuple[np.ndarray, np.ndarray, np.ndarray],
    flat: tuple[np.ndarray, np.ndarray],
    greys: Greys,
    frame: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> np.ndarray:
    """Return grey values before the microscope, float32 (z, y, x).

    Parameters
    ----------
    truth
        own index (int32), tree (uint64), distance, tilt, depth (float32).
    ink
        dark, shell, lumen.
    flat
        kind of every flattened table entry (uint8), kind of every body (int64).
    frame
        start (3,), voxel size (3,), lateral shift (y, x) in nm of every section (z, 2).
    """
    own, tree, distance, tilt, depth = truth
    dark, shell, lumen = ink
    kinds, bodies = flat
    start, size, places = frame
    out = np.empty(tree.shape, dtype=np.float32)
    tones, grain, fine = subkey(key, 95), subkey(key, 96), subkey(key, 97)
    last_tree, last_kind, tone, sheath = np.uint64(0), -1, 0.0, 0.0
    for z in range(tree.shape[0]):
        pz = (start[0] + z + 0.5) * size[0]
        for y in range(tree.shape[1]):
            py = (start[1] + y + 0.5) * size[1] + places[z, 0]
            for x in range(tree.shape[2]):
                px = (start[2] + x + 0.5) * size[2] + places[z, 1]
                index = own[z, y, x]
                kind = 20 + bodies[index - len(kinds)] if index >= len(kinds) else int(kinds[index])
                d = distance[z, y, x]
                if tree[z, y, x] != last_tree or kind != last_kind:
                    last_tree, last_kind = tree[z, y, x], kind
                    tone = _tone(kind, last_tree, tones, greys.cytoplasm)
                    sheath = sheath_nm(key, last_tree) if kind == MYELINATED else 0.0
                speck = smooth_noise(
                    grain, (pz + 0.3 * px) / 40.0, (0.8 * py + 0.6 * px) / 25.0, (0.8 * px - 0.6 * py) / 25.0
                )
                value = tone + 12.0 * speck - 170.0 * max(0.0, -speck - 0.33)
                if d > 25.0 and kind in (DENDRITE, TWIG, SPINE, 20):
                    sheet = smooth_noise(fine, pz / 210.0, (0.6 * py - 0.8 * px) / 210.0, (0.6 * px + 0.8 * py) / 210.0)
                    if abs(sheet) < 0.1 and smooth_noise(grain, pz / 260.0, py / 260.0, px / 260.0) > 0.3:
                        value += (85.0 - value) * 0.8 * max(0.0, 1.0 - abs(sheet) / 0.07)
                m = depth[z, y, x]
                if kind >= 20 and m > -2.0 * MITO_WALL_NM:
                    chromatin = smooth_noise(grain, pz / 420.0, py / 420.0, px / 420.0)
                    inner = 235.0 if kind == 20 + VESSEL else value - 14.0 - 30.0 * max(0.0, chromatin)
                    value += (inner - value) * band(m, 0.0, 1e4, 5.0)
                    value += (45.0 - value) * band(m, -1.5 * MITO_WALL_NM, 1.5 * MITO_WALL_NM, 8.0)
                elif m > -MITO_WALL_NM and kind < 20:
                    swirl = smooth_noise(fine, pz / 130.0, py / 130.0, px / 130.0)
                    cristae = np.sin(6.2832 * (0.011 * px + 0.013 * py + 0.008 * pz + 1.6 * swirl))
                    inner = 122.0 - 50.0 * max(0.0, cristae) * min(1.0, max(0.0, m / 25.0))
                    value += (inner - value) * band(m, 0.0, 1e4, 5.0)
                    value += (55.0 - value) * band(m, -MITO_WALL_NM, MITO_WALL_NM, 6.0)
                value += (215.0 - value) * 0.8 * lumen[z, y, x]
                value += (38.0 - value) * min(1.0, 1.3 * shell[z, y, x])
                half = np.sqrt((0.5 * tilt[z, y, x] * size[0]) ** 2 + 25.0)
                if sheath > 0.0:
                    value = _sheathed(value, d, half, sheath, greys.membrane)
                value += (greys.membrane - value) * band(d, -MEMBRANE_NM, MEMBRANE_NM, half)
                value += (greys.density - value) * dark[z, y, x]
                out[z, y, x] = value
    return out


@njit(cache=True, nogil=True)
def _blur_line(image: np.ndarray, out: np.ndarray, taps: np.ndarray, step: int, width: int) -> None:
    radius = len(taps) // 2
    flat, to = image.reshape(-1), out.reshape(-1)
    for i in range(len(flat)):
        along = (i // step) % width
        if along < radius or along >= width - radius:
            to[i] = flat[i]
            continue
        total = 0.0
        for n in range(len(taps)):
            total += taps[n] * flat[i + (n - radius) * step]
        to[i] = total


def blur(image: np.ndarray, sigma_nm: float, size: np.ndarray) -> np.ndarray:
    """Return ``image`` blurred along y and x; voxels nearer to the rim than :func:`blur_radius` are not blurred."""
    for axis in (1, 2):
        radius = blur_radius(sigma_nm, size[axis])
        if radius == 0:
            continue
        places = np.arange(-radius, radius + 1) * size[axis]
        taps = np.exp(-0.5 * (places / sigma_nm) ** 2)
        out = np.empty_like(image)
        step = image.shape[2] if axis == 1 else 1
        _blur_line(image, out, taps / taps.sum(), step, image.shape[axis])
        image = out
    return image


def blur_radius(sigma_nm: float, size_nm: float) -> int:
    """Return how many voxels the blur reaches."""
    return 0 if sigma_nm < 0.25 * size_nm else int(np.ceil(2.5 * sigma_nm / size_nm))


@njit(cache=True, nogil=True)
def expose(
    key: np.uint64, image: np.ndarray, start: np.ndarray, tone: tuple[float, float, float], noise: float, drift: float
) -> np.ndarray:
    """Return the uint8 image of the microscope: its tone curve, each section's brightness and contrast, then noise.

    ``tone`` is (gamma, contrast, brightness) of :class:`bouton.phantom.params.TissueParams`.
    """
    gamma, contrast, brightness = tone
    out = np.empty(image.shape, dtype=np.uint8)
    draws, drifts = subkey(key, 98), subkey(key, 99)
    for z in range(image.shape[0]):
        gain = 1.0 + drift * (2 * uniform(drifts, start[0] + z, 0, 0) - 1)
        offset = 128.0 * drift * (2 * uniform(drifts, start[0] + z, 1, 0) - 1)
        for y in range(image.shape[1]):
            for x in range(image.shape[2]):
                bits = hash3(draws, start[0] + z, start[1] + y, start[2] + x)
                total = 0.0
                for n in range(4):
                    total += float((bits >> np.uint64(16 * n)) & np.uint64(0xFFFF))
                # Four uniform draws sum up to nearly a normal one of standard deviation 65536 / sqrt(3).
                normal = (total - 131070.0) / 37837.0
                grey = float(image[z, y, x])
                if gamma != 1.0:
                    grey = 255.0 * (min(255.0, max(0.0, grey)) / 255.0) ** gamma
                grey = (grey - 128.0) * contrast + brightness
                value = grey * gain + 128.0 + offset + noise * normal
                out[z, y, x] = np.uint8(min(255.0, max(0.0, value + 0.5)))
    return out
