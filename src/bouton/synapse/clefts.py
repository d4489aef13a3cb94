"""Which voxels are cleft, and which components of them are clefts.

Hysteresis (Canny 1986, doi:10.1109/TPAMI.1986.4767851): a component of voxels of at least ``low`` counts if one of its
voxels reaches ``high``. Sizes are limited in 3-D and, before components are formed, in every section (VESICLE, Gray
Roncal et al. 2015, doi:10.5244/C.29.81). Voxels may be joined across gaps, because a thin oblique cleft breaks into
pieces where sections are thick, and a lost section cuts every cleft in two. Everything a component is judged by is a
sum, a maximum or a minimum over its voxels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bouton.geometry import NM, ZYX, Box, nm_to_voxels
from bouton.synapse.objects import merge_parts
from bouton.synapse.runs import Runs, bridge, keep_values, label_runs, links, paint, sum_parts

TableData = Mapping[str, np.ndarray]

KEPT, PEAK, VOLUME, SECTIONS, SECTION_AREA = range(5)
REMOVED_BY = np.array(["", "peak", "volume", "sections", "section_area"], dtype=object)
"""What the codes of :func:`removed` mean, in the order of the rules."""
FOUND_COLUMNS = {
    "id": "uint64",
    "z": "int64",
    "y": "int64",
    "x": "int64",
    "size_voxels": "int64",
    "sections": "int64",
    "peak": "int64",
    "rule": "int64",
}
CANDIDATE_COLUMNS = {
    "id": "uint64",
    "z_nm": "float64",
    "y_nm": "float64",
    "x_nm": "float64",
    "size_voxels": "int64",
    "sections": "int64",
    "peak": "float64",
    "removed_by": "str",
}


@dataclass(frozen=True)
class Rules:
    """What makes a cleft.

    Attributes
    ----------
    low, high : float
        Probabilities, 0 < low <= high <= 1: what forms components, and what each must reach somewhere.
    min_volume_nm3 : float
    gap_nm : float
        Cleft voxels at most this far apart are connected.
    gap_sections : int
        Cleft voxels above one another are connected across this many sections.
    min_sections : int
        From a cleft's first section to its last one, both counted.
    min_section_area_nm2, max_section_area_nm2 : float
        Components of one section outside of these limits are deleted before all else.
    connectivity : int
        6, 18 or 26.
    """

    low: float = 0.5
    high: float = 0.7
    min_volume_nm3: float = 100_000.0
    gap_nm: float = 0.0
    gap_sections: int = 0
    min_sections: int = 1
    min_section_area_nm2: float = 0.0
    max_section_area_nm2: float = math.inf
    connectivity: int = 6

    @property
    def limits_areas(self) -> bool:
        """Whether a component of one section may be deleted."""
        return self.min_section_area_nm2 > 0 or self.max_section_area_nm2 < math.inf

    @property
    def lowest(self) -> int:
        """The smallest uint8 value that is cleft."""
        return level(self.low)

    @property
    def flat_links(self) -> np.ndarray:
        """What joins voxels of one section (:func:`bouton.synapse.runs.links`)."""
        return links(self.connectivity, flat=True)

    @property
    def links(self) -> np.ndarray:
        """What joins voxels (:func:`bouton.synapse.runs.links`)."""
        return links(self.connectivity, self.gap_sections)


PRESETS: Mapping[str, Rules] = {
    "bouton": Rules(),
    # 2,000 voxels and 5,000 pixels of 30 x 6 x 6 nm, at which the rules were published
    "vesicle": Rules(
        low=0.9, high=0.9, min_volume_nm3=2_000 * 1_080.0, max_section_area_nm2=5_000 * 36.0, connectivity=18
    ),
}


def level(probability: float) -> int:
    """Return the smallest uint8 value v with v / 255 >= ``probability``."""
    return math.ceil(probability * 255 - 1e-9)


def removed(parts: TableData, rules: Rules, voxel_size_nm: NM) -> np.ndarray:
    """Return the code of the first rule that removes each whole component of :func:`merge_parts`; int64, KEPT if none.

    Parameters
    ----------
    parts : mapping
        Columns ``voxels``, ``peak``, ``low_z`` and ``high_z``, int64 (n,).
    """
    too_flat = parts["high_z"] - parts["low_z"] + 1 < rules.min_sections
    too_small = parts["voxels"] < rules.min_volume_nm3 / math.prod(voxel_size_nm)
    tests = {PEAK: parts["peak"] < level(rules.high), VOLUME: too_small, SECTIONS: too_flat}
    return np.select(list(tests.values()), list(tests), KEPT).astype(np.int64)


def removed_by_area(voxels: np.ndarray, rules: Rules, voxel_size_nm: NM) -> np.ndarray:
    """Return which components of one section, of ``voxels`` int64 (n,), are deleted for their area; bool (n,)."""
    pixel_nm2 = voxel_size_nm[1] * voxel_size_nm[2]
    # The tolerance keeps an area that equals a limit on one side whatever its rounding.
    least, most = (limit / pixel_nm2 for limit in (rules.min_section_area_nm2, rules.max_section_area_nm2))
    return (voxels < least * (1 - 1e-9)) | (voxels > most * (1 + 1e-9))


def found_rows(parts: TableData, rule: np.ndarray) -> dict[str, np.ndarray]:
    """Return whole components (:func:`merge_parts`), and the rule that removed each, as ``FOUND_COLUMNS``."""
    sections = parts["high_z"] - parts["low_z"] + 1
    columns = [parts["first"], parts["z"], parts["y"], parts["x"], parts["voxels"], sections, parts["peak"], rule]
    return dict(zip(FOUND_COLUMNS, columns, strict=True))


def candidates(found: TableData, voxel_size_nm: NM) -> dict[str, np.ndarray]:
    """Return ``CANDIDATE_COLUMNS`` of ``FOUND_COLUMNS``, sorted by id: centroids in nm, peaks from 0 to 1."""
    order = np.argsort(found["id"])
    rows = {name: found[name][order] for name in FOUND_COLUMNS}
    size = rows["size_voxels"]
    centre = [(rows[axis] / size + 0.5) * nm for axis, nm in zip("zyx", voxel_size_nm, strict=True)]
    columns = [rows["id"], *centre, size, rows["sections"], rows["peak"] / 255, REMOVED_BY[rows["rule"]]]
    return dict(zip(CANDIDATE_COLUMNS, columns, strict=True))


def cleft_runs(values: np.ndarray, seen: Box, core: Box, rules: Rules, voxel_size_nm: NM, shape: ZYX) -> Runs:
    """Label the components of the cleft voxels of ``core``, with gaps bridged.

    Parameters
    ----------
    values : numpy.ndarray
        uint8 (z, y, x), the voxels of ``seen``: evidence, 0 where a section's component was deleted.
    seen, core : Box
        ``seen`` is the core with the surroundings of :func:`halo_of`, where the bounds allow.
    rules : Rules
    voxel_size_nm, shape : (z, y, x)
        ``shape`` is that of the whole data set.
    """
    lowest = rules.lowest
    if rules.gap_nm > 0:
        values, lowest = bridge(values, lowest, rules.gap_nm, voxel_size_nm), 1
    return label_runs(values[core.within(seen).slices], lowest, rules.links, core, shape)


def halo_of(rules: Rules, voxel_size_nm: NM) -> ZYX:
    """Return the surroundings that :func:`cleft_runs` needs."""
    return nm_to_voxels(rules.gap_nm / 2, voxel_size_nm)


def find_clefts(evidence: np.ndarray, rules: Rules, voxel_size_nm: NM) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the clefts of a volume in memory, and every candidate.

    Parameters
    ----------
    evidence : numpy.ndarray
        uint8 (z, y, x), probability of cleft * 255.
    rules : Rules
    voxel_size_nm : (z, y, x)

    Returns
    -------
    clefts : numpy.ndarray
        uint64 (z, y, x): id of the cleft, which is the global id of its first voxel; 0 = none.
    candidates : dict
        ``CANDIDATE_COLUMNS``.
    """
    whole, lowest = Box.of_shape(evidence.shape), rules.lowest
    found = []
    if rules.limits_areas:
        flat = label_runs(evidence, lowest, rules.flat_links, whole, whole.stop)
        areas = merge_parts(sum_parts(flat, evidence, lowest, whole, whole.stop))
        gone = removed_by_area(areas["voxels"], rules, voxel_size_nm)
        lost = {name: values[gone] for name, values in areas.items()}
        found.append(found_rows(lost, np.full(int(gone.sum()), SECTION_AREA)))
        evidence = keep_values(flat, ~np.isin(flat.labels, lost["root"]), evidence)
    runs = cleft_runs(evidence, whole, whole, rules, voxel_size_nm, whole.stop)
    parts = merge_parts(sum_parts(runs, evidence, lowest, whole, whole.stop))
    rule = removed(parts, rules, voxel_size_nm)
    found.append(found_rows(parts, rule))
    final = np.where(rule == KEPT, parts["first"], np.uint64(0))
    labels = final[np.searchsorted(parts["root"], runs.labels)]
    rows = {name: np.concatenate([table[name] for table in found]) for name in FOUND_COLUMNS}
    return paint(runs, labels, evidence, lowest), candidates(rows, voxel_size_nm)
