"""What a forest on the features of VESICLE-RF says of itself: windows in nm, and what they are in voxels.

Gray Roncal et al. 2015 (doi:10.48550/arXiv.1403.3724) gave its windows in voxels, for images of 30 x 6 x 6 nm (z, y,
x): 5, 15 and 25 voxels in the section, 1, 3 and 5 sections. In nm these are cubes of 30, 90 and 150 nm, which is how
they are kept here; a window has the odd number of voxels that is nearest to it, at least one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from bouton.errors import SpecError
from bouton.geometry import NM, ZYX

NAMES = (
    "mean, narrow", "mean, middle", "local binary pattern", "gradient, middle", "gradient, wide",
    "distance to a vesicle", "vesicles, wide", "vesicles, box", "coherence, middle", "coherence, wide",
)  # fmt: skip
STEP_NM = 6.0


@dataclass(frozen=True)
class ForestArchitecture:
    """A random forest on ten features of the image around a voxel.

    Attributes
    ----------
    trees : int
    darkest : float
        Where the mean grey over the window ``dark_nm`` is at most this, a synapse may lie: a candidate.
    vesicle_contrast : float
        Grey values by which the middle of a vesicle is brighter than its rim.
    narrow_nm, middle_nm, wide_nm, box_nm, dark_nm : float
        Sides of windows: the narrow one, the box and the dark one lie in the section, the others are cubes.
    reach_nm : float
        Distances to vesicles end here.
    grow_nm, speck_nm : float
        Candidates are grown by squares of this half side; then go, where in a window of the side ``speck_nm`` there are
        fewer than a membrane that ends in its middle has.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "strict": True}
    outputs: ClassVar[int] = 1
    inputs: ClassVar[int] = 1
    multiple: ClassVar[ZYX] = (1, 1, 1)

    trees: int
    darkest: float = 128.0
    vesicle_contrast: float = 10.0
    narrow_nm: float = 30.0
    middle_nm: float = 90.0
    wide_nm: float = 150.0
    box_nm: float = 300.0
    reach_nm: float = 150.0
    dark_nm: float = 60.0
    grow_nm: float = 27.0
    speck_nm: float = 200.0

    def __post_init__(self) -> None:
        if self.trees < 1 or not 0 <= self.darkest <= 255 or not 0 < self.vesicle_contrast < math.inf:
            raise SpecError(
                f"forest of {self.trees} trees, darkest {self.darkest}, vesicle_contrast {self.vesicle_contrast}",
                expected="at least 1 tree, a grey value of 0 to 255, a contrast above 0",
            )
        for name in ("narrow_nm", "middle_nm", "wide_nm", "box_nm", "reach_nm", "dark_nm", "grow_nm", "speck_nm"):
            if not 0 < getattr(self, name) <= LARGEST_NM:
                raise SpecError(f"{name} = {getattr(self, name)}", expected=f"above 0, at most {LARGEST_NM:g} nm")


LARGEST_NM = 1000.0


@dataclass(frozen=True)
class Windows:
    """The windows of a forest in voxels: half sides, so that a window has ``2 * half + 1`` voxels.

    Attributes
    ----------
    narrow, middle, wide, box, dark, grow, speck, centre, rim : (z, y, x)
        ``centre`` and ``rim`` are those of a vesicle: its middle, and all of it.
    step : (z, y, x)
        Distance over which a gradient is taken; 0 along z.
    reach : (z, y, x)
    speck_least : int
        Candidates that a window ``speck`` must hold.
    """

    narrow: ZYX
    middle: ZYX
    wide: ZYX
    box: ZYX
    dark: ZYX
    grow: ZYX
    speck: ZYX
    centre: ZYX
    rim: ZYX
    step: ZYX
    reach: ZYX
    speck_least: int

    @property
    def halo(self) -> ZYX:
        """How far from a voxel its output depends on the image."""
        # candidates are found within a section, where a pattern reaches less far
        section = _plus(self.dark, self.grow, self.speck)
        gradient = _plus(self.wide, self.step, self.step)
        vesicle = _plus(self.rim, (0, 1, 1), _larger(self.reach, self.wide, self.box))
        return _larger(section, gradient, vesicle, self.narrow, self.middle)


def windows_of(architecture: ForestArchitecture, voxel_size_nm: NM) -> Windows:
    """Return the windows of a forest at a voxel size."""
    a = architecture

    def cube(side: float) -> ZYX:
        z, y, x = (_half(side, size) for size in voxel_size_nm)
        return z, y, x

    def flat(side: float) -> ZYX:
        _, y, x = cube(side)
        return 0, y, x

    def flat_reach(distance: float) -> ZYX:
        y, x = (max(1, round(distance / size)) for size in voxel_size_nm[1:])
        return 0, y, x

    z, y, x = (int(a.reach_nm / size) for size in voxel_size_nm)
    area = voxel_size_nm[1] * voxel_size_nm[2]
    return Windows(
        narrow=flat(a.narrow_nm), middle=cube(a.middle_nm), wide=cube(a.wide_nm), box=flat(a.box_nm),
        dark=flat(a.dark_nm), grow=flat_reach(a.grow_nm), speck=flat(a.speck_nm),
        centre=flat(VESICLE_NM[0]), rim=flat(VESICLE_NM[1]), step=flat_reach(STEP_NM), reach=(z, y, x),
        speck_least=int(a.grow_nm * a.speck_nm / area),
    )  # fmt: skip


VESICLE_NM = (20.0, 50.0)


def _half(side: float, size: float) -> int:
    """Return half of the odd number of voxels nearest to ``side``."""
    return max(0, round((side / size - 1) / 2))


def _plus(*sizes: ZYX) -> ZYX:
    z, y, x = (sum(axis) for axis in zip(*sizes, strict=True))
    return z, y, x


def _larger(*sizes: ZYX) -> ZYX:
    z, y, x = (max(axis) for axis in zip(*sizes, strict=True))
    return z, y, x
