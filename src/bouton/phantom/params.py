"""Parameters of the phantom."""

from __future__ import annotations

from dataclasses import dataclass

from bouton.errors import SpecError
from bouton.geometry import NM

DEFECTS = ("missing", "fold", "crack", "charging", "jitter")
RANGES = {
    "synapses_per_um3": (0, 2),
    "somata_per_mm3": (0, 1000000),
    "myelin": (0, 1),
    "membrane_grey": (0, 255),
    "density_grey": (0, 255),
    "cytoplasm_grey": (0, 255),
    "gamma": (0.2, 5),
    "contrast": (0.1, 4),
    "brightness": (-128, 128),
    "noise": (0, 128),
    "blur_nm": (0, 100),
    "contrast_drift": (0, 1),
    "defect_rate": (0, 1),
}


@dataclass(frozen=True)
class TissueParams:
    """What determines the tissue and its image, apart from the size of a voxel.

    Attributes
    ----------
    seed : int
        0 <= seed < 2**63. Another seed is another piece of tissue.
    synapses_per_um3 : float
        Synapses aimed at per um^3, 0 to 2.
    somata_per_mm3 : float
        Somata aimed at per mm^3 of tissue.
    vessels : bool
        Whether capillaries cross the tissue.
    myelin : float
        Share of the thick processes across the somata's dendrites that are myelinated axons, 0 to 1.
    membrane_grey, density_grey, cytoplasm_grey : float
        Grey values, 0 to 255, of membranes, of the electron-dense material at synapses, and of a typical dendrite's
        cytoplasm (axons are 10 darker, glia 14 paler).
    gamma, contrast, brightness : float
        The microscope's tone curve, before noise: ``((v / 255) ** gamma * 255 - 128) * contrast + 128 + brightness``.
    noise : float
        Standard deviation of the image noise in grey values.
    blur_nm : float
        Standard deviation of the lateral blur of the microscope in nm.
    contrast_drift : float
        Relative change of brightness and contrast between sections, 0 to 1.
    defects : tuple of str
        Any of ``missing``, ``fold``, ``crack``, ``charging``, ``jitter``.
    defect_rate : float
        Fraction of the sections that each chosen defect strikes (jitter strikes all).
    """

    seed: int = 1
    synapses_per_um3: float = 1.0
    somata_per_mm3: float = 60000.0
    vessels: bool = True
    myelin: float = 0.0
    membrane_grey: float = 32.0
    density_grey: float = 14.0
    cytoplasm_grey: float = 194.0
    gamma: float = 1.0
    contrast: float = 1.0
    brightness: float = 0.0
    noise: float = 9.0
    blur_nm: float = 6.0
    contrast_drift: float = 0.06
    defects: tuple[str, ...] = ()
    defect_rate: float = 0.04

    def __post_init__(self) -> None:
        unknown = sorted(set(self.defects) - set(DEFECTS))
        if unknown:
            raise SpecError(f"unknown defect {unknown[0]!r}", expected=f"any of {', '.join(DEFECTS)}")
        if not 0 <= self.seed < 2**63:
            raise SpecError(f"seed {self.seed}", expected="0 <= seed < 2**63")
        for name, (least, most) in RANGES.items():
            if not least <= getattr(self, name) <= most:
                raise SpecError(f"{name} {getattr(self, name)}", expected=f"{least} to {most}")


@dataclass(frozen=True)
class PhantomParams(TissueParams):
    """What determines a phantom; any box of it follows from these and the box alone.

    Attributes
    ----------
    voxel_size_nm : (z, y, x)
        Size of a voxel in nm; the tissue itself does not depend on it. The other attributes: :class:`TissueParams`.
    """

    voxel_size_nm: NM = (30.0, 10.0, 10.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.voxel_size_nm) != 3 or not all(1 <= size <= 200 for size in self.voxel_size_nm):
            raise SpecError(f"voxel size {self.voxel_size_nm} nm", expected="three sizes (z, y, x) of 1 to 200 nm")


# Looks that no shipped model was trained on, for tests of how well it carries over; the tissue is the same. Training
# draws phantoms of the default look, changed by :mod:`bouton.learn.augment` only.
UNSEEN_LOOKS: dict[str, dict[str, float]] = {
    "pale": {"membrane_grey": 90.0, "density_grey": 50.0, "contrast": 0.7, "brightness": 15.0, "noise": 7.0},
    "dark": {"cytoplasm_grey": 160.0, "gamma": 1.5, "contrast": 0.9, "brightness": -10.0},
    "noisy": {"contrast": 0.6, "noise": 22.0, "blur_nm": 10.0, "contrast_drift": 0.12},
}
