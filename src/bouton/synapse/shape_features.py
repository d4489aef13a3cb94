"""What tells a synapse's type and target: numbers about the shapes of its partners and what lies in them.

All are measured on voxels about ``spacing_nm`` apart, in a patch around the synapse alone, so they do not depend on
blocks. The idea that a spine's head is known by its volume behind a neck and a shaft by going on is that of Dorkenwald
2017 (doi:10.1038/nmeth.4206), where a forest over such numbers tells compartments apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bouton.geometry import NM
from bouton.synapse.shapes import (
    BODY_NM,
    NEAR_NM,
    Reached,
    contact,
    exits,
    neck_um2,
    radii_nm,
    sections_um2,
    spread,
    walk,
    ways_um2,
)

REACHES_NM = (150, 300, 450, 600, 900)
WAYS_NM = (300, 450, 600)
PRE_REACH_NM = 500.0
CLEFT_NM = 350.0
SNAP_NM = 150.0
HALF = 128
CLEFT, EXCITATORY = 0, 3

FEATURES: Mapping[str, str] = {
    "thickness_nm": "diameter of the largest ball in the postsynaptic segment within 250 nm along it",
    "trunk_nm": "diameter of the largest ball in it within the patch",
    **{f"volume_{r}_um3": f"its volume at most {r} nm along it from the synapse" for r in REACHES_NM},
    "trunk_at_nm": "how far along it that ball is",
    "neck_um2": "its narrowest cross-section from 180 to 660 nm along it",
    "beyond_um2": "its widest cross-section behind the narrowest",
    **{f"first_{r}_um2": f"cross-section of the widest way on, {r} nm along it" for r in WAYS_NM},
    **{f"second_{r}_um2": "cross-section of the second way on there; 0 where there is none" for r in WAYS_NM},
    "length_nm": "how far along it the patch lets one walk",
    "exits": "separate places where it leaves the patch",
    "elongation": "second principal axis by the first, within 450 nm",
    "flatness": "third principal axis by the second, within 450 nm",
    "contact_um2": "area where the partners touch, within 450 nm, along its mean normal",
    "contact_flat": "1 where that contact is a plane, less where it is bent",
    "seen": "share of the patch that lies in the volume",
    "mitochondria_post": "share of mitochondria in it within 450 nm",
    "soma_post": "share of soma in it within the patch",
    "cleft_um3": "volume of the cleft",
    "thickness_pre_nm": "diameter of the largest ball in the presynaptic segment within 250 nm along it",
    "volume_pre_um3": "its volume within 450 nm",
    "mitochondria_pre": "share of mitochondria in it within 450 nm",
    "vesicles_near": "share of vesicles in it within 250 nm",
    "vesicles_pre": "share of vesicles in it within 500 nm",
    "cleft_mean": "mean probability of cleft where it is at least 0.5, within 350 nm",
    "excitatory": "mean probability of excitatory there",
}
NEEDS: Mapping[str, str] = {
    "mitochondria_post": "mitochondria",
    "mitochondria_pre": "mitochondria",
    "soma_post": "tissue",
    "vesicles_near": "vesicles",
    "vesicles_pre": "vesicles",
    "cleft_mean": "synapse_evidence",
    "excitatory": "synapse_evidence",
}


@dataclass(frozen=True)
class Patch:
    """What lies around one synapse.

    Attributes
    ----------
    labels : uint64 (z, y, x)
    layers : mapping of name -> (z, y, x)
        ``mitochondria``, ``vesicles``, ``soma``: bool. ``cleft``, ``excitatory``: uint8, 255 is certain. Any may be
        missing.
    spacing_nm : (z, y, x)
        From voxel to voxel.
    centre, pre, post : float64 (3,)
        Places of the cleft's middle and of the partners, in voxels of the patch (0 is the middle of the first one).
    pair : (int, int)
        Presynaptic and postsynaptic segment.
    cleft_um3 : float
    seen : float
        Share of the patch that lies in the volume, 0 to 1.
    """

    labels: np.ndarray
    layers: Mapping[str, np.ndarray]
    spacing_nm: NM
    centre: np.ndarray
    pre: np.ndarray
    post: np.ndarray
    pair: tuple[int, int]
    cleft_um3: float
    seen: float = 1.0


def measure(patch: Patch, reach_nm: float) -> dict[str, float]:
    """Return :data:`FEATURES` of one synapse; NaN where a layer is missing, or a partner.

    Parameters
    ----------
    patch : Patch
        At least ``reach_nm`` around the postsynaptic place, but for the end of the volume.
    reach_nm : float
    """
    found = dict.fromkeys(FEATURES, float("nan"))
    found |= {"cleft_um3": patch.cleft_um3, "seen": patch.seen}
    post, pre = _anchor(patch, patch.post, patch.pair[1]), _anchor(patch, patch.pre, patch.pair[0])
    if post is not None:
        found |= _post_features(patch, walk(patch.labels, post, reach_nm, patch.spacing_nm), reach_nm)
    if pre is not None:
        found |= _pre_features(patch, walk(patch.labels, pre, PRE_REACH_NM, patch.spacing_nm))
    if post is not None and pre is not None:
        frame = (patch.centre, BODY_NM, patch.spacing_nm)
        found["contact_um2"], found["contact_flat"] = contact(patch.labels, patch.pair, frame)
    return found | _cleft_features(patch)


def _anchor(patch: Patch, place: np.ndarray, segment: int) -> np.ndarray | None:
    """Return the voxel of ``segment`` nearest to a place, of equals the first one; None where none is near."""
    spacing = np.asarray(patch.spacing_nm)
    reach = np.ceil(SNAP_NM / spacing).astype(np.int64)
    low = np.maximum(np.floor(place).astype(np.int64) - reach, 0)
    high = np.minimum(np.floor(place).astype(np.int64) + reach + 2, patch.labels.shape)
    if segment == 0 or np.any(low >= high):
        return None
    part = patch.labels[tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))]
    mine = np.argwhere(part == np.uint64(segment)) + low
    if not len(mine):
        return None
    return mine[np.argmin((((mine - place) * spacing) ** 2).sum(axis=1))]


def _post_features(patch: Patch, reached: Reached, reach_nm: float) -> dict[str, float]:
    ball = radii_nm(patch.labels, reached)
    neck, beyond = neck_um2(sections_um2(reached, reach_nm))
    elongation, flatness = spread(reached)
    ways = {r: [*ways_um2(reached, r), 0.0, 0.0] for r in WAYS_NM}
    found = {
        "thickness_nm": 2.0 * float(ball[reached.along_nm <= NEAR_NM].max()),
        "trunk_nm": 2.0 * float(ball.max()),
        "trunk_at_nm": float(reached.along_nm[ball == ball.max()].min()),
        **{f"volume_{r}_um3": reached.volume_um3(r) for r in REACHES_NM},
        "neck_um2": neck,
        "beyond_um2": beyond,
        **{f"first_{r}_um2": ways[r][0] for r in WAYS_NM},
        **{f"second_{r}_um2": ways[r][1] for r in WAYS_NM},
        "length_nm": float(reached.along_nm.max()),
        "exits": float(exits(reached)),
        "elongation": elongation,
        "flatness": flatness,
    }
    if "mitochondria" in patch.layers:
        found["mitochondria_post"] = reached.share(patch.layers["mitochondria"], BODY_NM)
    if "soma" in patch.layers:
        found["soma_post"] = reached.share(patch.layers["soma"], float("inf"))
    return found


def _pre_features(patch: Patch, reached: Reached) -> dict[str, float]:
    ball = radii_nm(patch.labels, reached)
    found = {
        "thickness_pre_nm": 2.0 * float(ball[reached.along_nm <= NEAR_NM].max()),
        "volume_pre_um3": reached.volume_um3(BODY_NM),
    }
    if "mitochondria" in patch.layers:
        found["mitochondria_pre"] = reached.share(patch.layers["mitochondria"], BODY_NM)
    if "vesicles" in patch.layers:
        found["vesicles_near"] = reached.share(patch.layers["vesicles"], NEAR_NM)
        found["vesicles_pre"] = reached.share(patch.layers["vesicles"], PRE_REACH_NM)
    return found


def _cleft_features(patch: Patch) -> dict[str, float]:
    if "cleft" not in patch.layers:
        return {}
    box, near = _ball(patch, CLEFT_NM)
    cleft = patch.layers["cleft"][box]
    sure = near & (cleft >= HALF)
    weight = _share(cleft[sure])
    if not weight.size:
        return {"cleft_mean": 0.0, "excitatory": 0.5} if "excitatory" in patch.layers else {"cleft_mean": 0.0}
    found = {"cleft_mean": float(weight.mean())}
    if "excitatory" in patch.layers:
        found["excitatory"] = float((_share(patch.layers["excitatory"][box][sure]) * weight).sum() / weight.sum())
    return found


def _ball(patch: Patch, reach_nm: float) -> tuple[tuple[slice, ...], np.ndarray]:
    """Return the box of what lies around the cleft's middle, and which voxels of it do, bool (z, y, x)."""
    away = np.ceil(reach_nm / np.asarray(patch.spacing_nm)) + 1
    low = np.clip(np.floor(patch.centre - away), 0, patch.labels.shape).astype(np.int64)
    high = np.clip(np.ceil(patch.centre + away) + 1, low, patch.labels.shape).astype(np.int64)
    frame = zip(low.tolist(), high.tolist(), patch.centre, patch.spacing_nm, strict=True)
    z, y, x = (((np.arange(a, b) - c) * s) ** 2 for a, b, c, s in frame)
    box = tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    return box, z[:, None, None] + y[:, None] + x <= reach_nm**2


def _share(values: np.ndarray) -> np.ndarray:
    return (values.astype(np.float32) / 255).astype(np.float64)
