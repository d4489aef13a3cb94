"""Parameters of the phantom."""

from __future__ import annotations

from dataclasses import dataclass

from bouton.errors import SpecError
from bouton.geometry import NM

DEFECTS = ("missing", "fold", "crack", "charging", "jitter")


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
        if not 0 <= self.synapses_per_um3 <= 2:
            raise SpecError(f"synapses_per_um3 {self.synapses_per_um3}", expected="0 to 2")
        for name, most in (("defect_rate", 1), ("contrast_drift", 1), ("noise", 128), ("blur_nm", 100)):
            if not 0 <= getattr(self, name) <= most:
                raise SpecError(f"{name} {getattr(self, name)}", expected=f"0 to {most}")
        if not 0 <= self.somata_per_mm3 <= 1e6:
            raise SpecError(f"somata_per_mm3 {self.somata_per_mm3}", expected="0 to 1000000")


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
