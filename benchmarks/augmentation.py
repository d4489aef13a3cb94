"""Milliseconds of processor time that augmentation takes for a patch, beside scipy's map_coordinates and a copy.

    python benchmarks/augmentation.py [--repeats 200]

The peer: one linear ``scipy.ndimage.map_coordinates`` of the image at the warped places, and a gather of each truth,
which is the least that a warp without a kernel of its own costs. The limit: copying the patch and its truths once.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy import ndimage

from bouton.learn.augment import PROBABILITIES, UNCHANGED, Augmentation, augment
from bouton.learn.augment_shape import elastic_field, plane_matrix, warp

PATCHES = {(48, 48, 48): "zyx", (24, 96, 96): "yx"}


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    """Return the median processor time of one call."""
    work()
    times = []
    for _ in range(repeats):
        began = time.process_time_ns()
        work()
        times.append((time.process_time_ns() - began) / 1e6)
    return statistics.median(times)


def peer(arrays: list[np.ndarray], matrix: np.ndarray, field: np.ndarray) -> list[np.ndarray]:
    """Return the arrays warped like :func:`bouton.learn.augment_shape.warp`, by scipy, edges clipped."""
    _, ny, nx = arrays[0].shape
    z, y, x = np.indices(arrays[0].shape)
    cy, cx = (ny - 1) / 2, (nx - 1) / 2
    affine_y = cy + matrix[0, 0] * (y - cy) + matrix[0, 1] * (x - cx)
    affine_x = cx + matrix[1, 0] * (y - cy) + matrix[1, 1] * (x - cx)
    places = field + np.stack([z, affine_y, affine_x])
    image = ndimage.map_coordinates(arrays[0], places, order=1, mode="nearest")
    nearest = tuple(np.clip(np.rint(p), 0, n - 1).astype(np.intp) for p, n in zip(places, image.shape, strict=True))
    return [image, *(array[nearest] for array in arrays[1:])]


def report(shape: tuple[int, int, int], symmetry: str, repeats: int) -> None:
    """Print the times for patches of ``shape``."""
    rng = np.random.default_rng(0)
    image = rng.random(shape, np.float32)
    truths = [rng.integers(0, 9, shape).astype(np.uint32), image > 0.5, image > 0.2]
    every = {name: 1.0 for name in PROBABILITIES if name != "slip"}
    settings = {
        "defaults (mean)": Augmentation(symmetry=symmetry),
        "every change at once": replace(Augmentation(symmetry=symmetry), **every),
        "warp alone": replace(UNCHANGED, warp=1.0),
    }
    print(f"patch {' x '.join(map(str, shape))}, image and {len(truths)} truths")
    copy = milliseconds(lambda: [array.copy() for array in (image, *truths)], repeats)
    for name, chosen in settings.items():
        # A patch of the defaults may have any number of changes: their mean counts, not their median.
        if "mean" in name:
            began = time.process_time_ns()
            for _ in range(repeats):
                augment(image, truths, chosen, rng)
            took = (time.process_time_ns() - began) / 1e6 / repeats
        else:
            took = milliseconds(lambda chosen=chosen: augment(image, truths, chosen, rng), repeats)
        print(f"  {name:24} {took:7.2f} ms   {took / copy:6.1f} x a copy ({copy:.3f} ms)")
    matrix, field = plane_matrix(45, 0.1, 0.05, rng), elastic_field(shape, 2.5, 40, rng)
    ours = milliseconds(lambda: warp([image, *truths], matrix, field), repeats)
    theirs = milliseconds(lambda: peer([image, *truths], matrix, field), repeats)
    print(f"  the warp's gather {ours:.2f} ms, by scipy {theirs:.2f} ms: {theirs / ours:.1f} x")


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200)
    repeats = parser.parse_args().repeats
    for shape, symmetry in PATCHES.items():
        augment(np.zeros((4, 4, 4), np.float32), [], replace(UNCHANGED, warp=1.0), np.random.default_rng(0))
        report(shape, symmetry, repeats)


if __name__ == "__main__":
    main()
