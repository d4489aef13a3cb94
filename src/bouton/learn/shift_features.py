"""A box of an image, and what a network says of it, in a few numbers that change with tissue and microscope.

Of the image: mean, contrast, skewness, noise, slopes of the power spectrum, likeness of neighbouring sections. Noise is
the median of the diagonal Haar detail of each section over 0.6745 (Donoho & Johnstone 1994,
doi:10.1093/biomet/81.3.425). Of the network: entropy of its probabilities, share below one half, and how much it
contradicts itself on turned, flipped and slightly changed boxes (:mod:`bouton.learn.shift_views`).

Quantities that span orders of magnitude are logarithms to base 2, so that a difference of 1 is a factor of 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import fft

from bouton.geometry import ZYX, Box
from bouton.learn.edges import head_offsets
from bouton.learn.info import ModelInfo
from bouton.learn.model import Model
from bouton.learn.predict import predict
from bouton.learn.shift_views import View, aligned, look, views_of

IMAGE_FEATURES = ("mean", "contrast", "skewness", "noise", "coarse_slope", "fine_slope", "likeness", "worst_likeness")
RESPONSE_FEATURES = ("entropy", "below_half", "disagreement", "sides", "sensitivity")
FEATURES = IMAGE_FEATURES + RESPONSE_FEATURES
BLANK_CONTRAST = 2.0
"""A box whose grey values have a standard deviation below this holds nothing."""
COPY = 0.999
"""Correlation of neighbouring sections from which one is a copy of the other: noise keeps real ones apart."""
LEAST_SHARE = 1 / 1024
"""Added to shares before the logarithm."""
_COARSE, _FINE = (1 / 24, 1 / 8), (1 / 8, 1 / 2.2)


@dataclass(frozen=True)
class BoxReading:
    """What was found in a box.

    Attributes
    ----------
    box : Box
    features : numpy.ndarray
        float64, one for each name of ``FEATURES``.
    plain : dict of str -> float
        The same quantities without logarithms, for people: ``mean``, ``std``, ``noise`` in grey values, ``entropy`` in
        bits, ``below_half``, ``disagreement``, ``sides`` and ``sensitivity`` as fractions; ``repeated``: the share of
        sections that copy their neighbour; ``saturated``: of voxels that are 0 or 255.
    histogram : numpy.ndarray
        int64 (20,): how many probabilities lie in each twentieth of 0 to 1.
    """

    box: Box
    features: np.ndarray
    plain: Mapping[str, float]
    histogram: np.ndarray

    @property
    def blank(self) -> bool:
        """Whether the box is as good as of one grey value."""
        return self.plain["std"] < BLANK_CONTRAST


def sample_boxes(bounds: Box, box_zyx: ZYX, count: int, seed: int) -> list[Box]:
    """Return boxes spread evenly over ``bounds``: a scrambled Halton sequence (Owen 2017, arXiv:1706.02808).

    Returns
    -------
    list of Box
        At most ``count``, without repetitions, all of shape ``box_zyx`` and inside.
    """
    # scipy.stats takes half a second to import
    from scipy.stats import qmc

    free = [n - b for n, b in zip(bounds.shape, box_zyx, strict=True)]
    places = qmc.Halton(3, rng=np.random.default_rng(seed)).random(count)
    starts = [tuple(int(u * (n + 1)) for u, n in zip(place, free, strict=True)) for place in places]
    return [Box((0, 0, 0), box_zyx).shift(bounds.start).shift(start) for start in dict.fromkeys(starts)]


def fitting_box(info: ModelInfo, wanted: ZYX, shape: ZYX) -> ZYX | None:
    """Return the largest box up to ``wanted`` that the network takes and the image holds; None where there is none."""
    multiple = info.architecture.multiple
    z, y, x = (min(w, n) // m * m for w, n, m in zip(wanted, shape, multiple, strict=True))
    return (z, y, x) if min(z, y, x) > 0 else None


def look_at_box(model: Model, image: np.ndarray, box: Box, seed: int = 0) -> tuple[BoxReading, dict[str, np.ndarray]]:
    """Return what is found in a box, and the network's outputs.

    Parameters
    ----------
    model : Model
    image : numpy.ndarray
        uint8 (z, y, x), the voxels of ``box``; a multiple of the architecture's ``multiple``.
    box : Box
    seed : int
        Of the noise that is added in one of the views.

    Returns
    -------
    reading : BoxReading
    outputs : dict of str -> numpy.ndarray
        Per head uint8 (c, z, y, x): probability times 255.
    """
    seeing = _boxwise(model, box.shape)
    outputs = _predict(seeing, image)
    heads = judged_heads(model.info)
    values = np.concatenate([outputs[name] for name in heads])
    views = views_of(box.shape, model.info.voxel_size_nm)
    rng = np.random.default_rng([seed, *box.start])
    told = [(view, _predict(seeing, look(image, view, rng))) for view in views]
    moved = [_differences(outputs, seen, view, heads) for view, seen in told if view.moves]
    greys = [_differences(outputs, seen, view, heads) for view, seen in told if not view.moves]
    response = {
        "entropy": _entropy(values),
        "below_half": float(np.mean(values < 128)),
        "disagreement": float(np.mean([mean for mean, _ in moved])),
        "sides": float(np.mean([sides for _, sides in moved])),
        "sensitivity": float(np.mean([mean for mean, _ in greys])),
    }
    found, plain = image_features(image)
    features = np.array([found[name] for name in IMAGE_FEATURES] + [_scaled(response[n]) for n in RESPONSE_FEATURES])
    histogram = np.bincount(np.minimum(values.ravel() // np.uint8(13), 19), minlength=20).astype(np.int64)
    return BoxReading(box, features, {**plain, **response}, histogram), outputs


def judged_heads(info: ModelInfo) -> dict[str, Sequence[ZYX] | None]:
    """Return the heads that are judged, with their offsets: affinities where there are any, else all."""
    heads: dict[str, Sequence[ZYX] | None] = {name: head_offsets(info, name) for name in info.heads}
    return {name: offsets for name, offsets in heads.items() if offsets is not None} or heads


def image_features(image: np.ndarray) -> tuple[dict[str, float], dict[str, float]]:
    """Return the features of an image, uint8 (z, y, x), and the same as people say them (grey values, 0 to 255)."""
    grey = image.astype(np.float32)
    mean, std = float(grey.mean()), float(grey.std())
    noise = noise_level(grey)
    coarse, fine = spectral_slopes(grey)
    like = section_likeness(grey)
    features = {
        "mean": mean / 32,
        "contrast": float(np.log2(max(std, 0.5))),
        "skewness": float(np.mean(((grey - mean) / max(std, 0.5)) ** 3)),
        "noise": float(np.log2((noise + 0.5) / max(std, 0.5))),
        "coarse_slope": coarse,
        "fine_slope": fine,
        "likeness": float(np.arctanh(np.clip(np.mean(like), -0.99, 0.99))),
        "worst_likeness": float(np.arctanh(np.clip(np.min(like), -0.99, 0.99))),
    }
    plain = {
        "mean": mean,
        "std": std,
        "noise": noise,
        "likeness": float(np.mean(like)),
        "worst_likeness": float(np.min(like)),
        "repeated": float(np.mean(like > COPY)),
        "saturated": float(np.mean((image == 0) | (image == 255))),
    }
    return features, plain


def noise_level(grey: np.ndarray) -> float:
    """Return the standard deviation of the noise of sections, float32 (z, y, x), in grey values."""
    z, y, x = (n // 2 * 2 for n in grey.shape)
    even = grey[:z, :y, :x]
    detail = (even[:, ::2, ::2] - even[:, 1::2, ::2] - even[:, ::2, 1::2] + even[:, 1::2, 1::2]) / 2
    return float(np.median(np.abs(detail)) / 0.6745)


def spectral_slopes(grey: np.ndarray) -> tuple[float, float]:
    """Return the slopes of the sections' power over frequency (both log2): periods of 24 to 8, and of 8 to 2 voxels."""
    rows, columns = grey.shape[1:]
    window = np.outer(np.hanning(rows), np.hanning(columns)).astype(np.float32)
    power = (np.abs(fft.rfft2((grey - grey.mean()) * window)) ** 2).mean(axis=0)
    frequency = np.hypot(fft.fftfreq(rows)[:, None], fft.rfftfreq(columns)[None, :])
    # half a grey value of white noise: what rounding to integers leaves
    floor = float((window**2).sum()) / 12
    return _slope(frequency, power + floor, _COARSE), _slope(frequency, power + floor, _FINE)


def section_likeness(grey: np.ndarray) -> np.ndarray:
    """Return the correlation of each section, float32 (z, y, x), with the next; 0 where one is of one grey value."""
    flat = grey.reshape(len(grey), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.sqrt((flat**2).sum(axis=1))
    if len(flat) < 2:
        return np.zeros(1)
    found: np.ndarray = (flat[1:] * flat[:-1]).sum(axis=1) / np.maximum(length[1:] * length[:-1], 1e-6)
    return found


def _slope(frequency: np.ndarray, power: np.ndarray, band: tuple[float, float]) -> float:
    edges = np.geomspace(*band, 6)
    which = np.digitize(frequency.ravel(), edges)
    found = [
        (np.log2(frequency.ravel()[which == i].mean()), np.log2(power.ravel()[which == i].mean()))
        for i in range(1, 6)
        if (which == i).any()
    ]
    if len(found) < 2:
        return 0.0
    x, y = np.stack(found, axis=1)
    return float(np.polyfit(x, y, 1)[0])


def _boxwise(model: Model, shape: ZYX) -> Model:
    """Return the model with one tile a box."""
    return Model(replace(model.info, tile_zyx=shape, overlap_zyx=(0, 0, 0)), model.network)


def _predict(model: Model, image: np.ndarray) -> dict[str, np.ndarray]:
    box = Box.of_shape(image.shape)
    return predict(model, image, box, box, box)


def _entropy(values: np.ndarray) -> float:
    """Return the mean entropy in bits of probabilities times 255, uint8."""
    p = np.arange(256) / 255
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = -np.nan_to_num(p * np.log2(p)) - np.nan_to_num((1 - p) * np.log2(1 - p))
    return float(bits @ np.bincount(values.ravel(), minlength=256) / values.size)


def _differences(
    plain: Mapping[str, np.ndarray],
    seen: Mapping[str, np.ndarray],
    view: View,
    heads: Mapping[str, Sequence[ZYX] | None],
) -> tuple[float, float]:
    """Return the mean absolute difference of probabilities, and the share on another side of one half."""
    pairs: Iterator[tuple[np.ndarray, np.ndarray]] = (
        pair for name, offsets in heads.items() for pair in aligned(plain[name], seen[name], view, offsets)
    )
    total, distance, sides = 0, 0.0, 0
    for a, b in pairs:
        total += a.size
        distance += float(np.abs(a.astype(np.int16) - b).sum(dtype=np.int64))
        sides += int(np.count_nonzero((a < 128) != (b < 128)))
    return distance / 255 / total, sides / total


def _scaled(share: float) -> float:
    return float(np.log2(share + LEAST_SHARE))
