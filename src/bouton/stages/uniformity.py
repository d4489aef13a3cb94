"""Whether synapses are spread uniformly: tests with effect sizes and intervals, curves, and blocks that stand out."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from bouton.density.type_samples import TYPES, TypeCounts, TypeSamples
from bouton.errors import DataError, SpecError
from bouton.stage import Output, Stage, Table, TableData, WholePart, WholeTask
from bouton.volume.density_columns import CURVE_COLUMNS, DENSITY_COLUMNS, FINDING_COLUMNS, OUTLIER_COLUMNS
from bouton.volume.synapse_columns import CENTRE_COLUMNS

if TYPE_CHECKING:
    from bouton.density.uniformity import DetectorSamples

_NM_PER_UM = 1000.0
_SHARES = ("precision", "recall")
_SPREADS = ("precision_sd", "recall_sd")
_RANKED = ("expected", "p", "q", "side")


@dataclass(frozen=True)
class Params:
    """Parameters of ``uniformity``.

    Attributes
    ----------
    max_masked_share : float
        Blocks of which more is masked are left out, 0 to 1.
    permutations : int
        Draws of each null hypothesis that is drawn, at least 19; p is at least 1 / (permutations + 1). Tests of points
        draw at most 199 patterns.
    seed : int
        Of all draws, at least 0.
    depth_axis : str
        ``z``, ``y`` or ``x``: the axis along which depth below the pia grows; empty: none.
    precision, recall : float
        Share of detections that are synapses, and of synapses that are detected, by labelled samples; above 0, at most
        1. 0: not measured; then the density is not corrected.
    precision_sample, recall_sample : int
        How many detections, and how many true synapses, were labelled for that.
    precision_sd, recall_sd : float
        Standard deviations of precision and recall between layers of blocks along z; 0: the same everywhere.
    types : TypeSamples, optional
        What labelled samples say of ``excitatory`` and of ``inhibitory`` synapses, numbers of synapses of each:
        ``called_excitatory``, ``called_inhibitory``, ``no_type`` and ``missed`` of true ones of this type, and
        ``detections`` called this type with ``no_synapse`` among them. None: not measured; then densities of types are
        not corrected.
    outlier_q : float
        Largest q of a block that counts as an outlier, above 0, below 1.
    """

    max_masked_share: float = 0.75
    permutations: int = 999
    seed: int = 1
    depth_axis: str = ""
    precision: float = 0.0
    recall: float = 0.0
    precision_sample: int = 0
    recall_sample: int = 0
    precision_sd: float = 0.0
    recall_sd: float = 0.0
    types: TypeSamples | None = None
    outlier_q: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.max_masked_share <= 1:
            raise SpecError(f"max_masked_share = {self.max_masked_share}", expected="0 to 1")
        if self.permutations < 19 or self.seed < 0:
            raise SpecError(
                f"permutations = {self.permutations}, seed = {self.seed}",
                expected="permutations of at least 19, a seed of at least 0",
            )
        if self.depth_axis not in ("", "z", "y", "x"):
            raise SpecError(f"depth_axis = {self.depth_axis!r}", expected='"z", "y", "x", or "" for none')
        if not 0 < self.outlier_q < 1:
            raise SpecError(f"outlier_q = {self.outlier_q}", expected="above 0, below 1")
        _check_detector(self)


def _check_detector(params: Params) -> None:
    names = [name for share in _SHARES for name in (share, f"{share}_sample")]
    absent = [name for name in names if getattr(params, name) == 0]
    given = [name for name in (*names, *_SPREADS) if getattr(params, name) != 0]
    if not given:
        return
    if absent:
        raise SpecError(
            f"{', '.join(f'{name} = {getattr(params, name)}' for name in given)} without {', '.join(absent)}",
            expected="precision and recall, each with the size of its labelled sample",
            fix=f"give {', '.join(names)}, or none of them",
        )
    for name in _SHARES:
        _check_share(params, name)


def _check_share(params: Params, name: str) -> None:
    value, sample, spread = getattr(params, name), getattr(params, f"{name}_sample"), getattr(params, f"{name}_sd")
    if not 0 < value <= 1 or sample < 1:
        raise SpecError(
            f"{name} = {value}, {name}_sample = {sample}",
            expected=f"{name} above 0 and at most 1, of a labelled sample of at least 1",
        )
    if not (isfinite(spread) and spread >= 0 and (spread == 0 or spread**2 < value * (1 - value))):
        raise SpecError(
            f"{name}_sd = {spread}", expected=f"0 to below {(value * (1 - value)) ** 0.5:.3g} at a {name} of {value}"
        )


def _analyse(task: WholeTask) -> Output:
    # statsmodels takes more than a second to import, and every command imports the stages.
    from bouton.density.blocks import density_blocks, kept_rows
    from bouton.density.finding import curve_table, finding_table
    from bouton.density.uniformity import Options, analyse

    params, densities = task.params, task.table("densities")
    blocks = density_blocks(densities, params.max_masked_share)
    points_um = None
    if "synapses" in task.given:
        synapses = task.table("synapses")
        points_um = np.stack([synapses[name] for name in CENTRE_COLUMNS], axis=1).astype(np.float64) / _NM_PER_UM
    kept = kept_rows(densities, params.max_masked_share)
    options = Options(
        params.permutations, params.seed, params.depth_axis, _detector(params), params.types, params.outlier_q
    )  # fmt: skip
    found = analyse(blocks, points_um, options, type_counts(densities, kept))
    taken = np.flatnonzero(kept)[found.outliers.row]
    ranked = {name: getattr(found.outliers, name) for name in _RANKED}
    return Output(
        tables={
            "findings": finding_table(found.findings, found.q),
            "curves": curve_table(found.curves),
            "outliers": outlier_table(densities, taken, ranked),
        }
    )


def _detector(params: Params) -> DetectorSamples | None:
    from bouton.density.correction import labelled_share
    from bouton.density.uniformity import DetectorSamples

    if not params.precision:
        return None
    precision, recall = (
        labelled_share(name, getattr(params, name), getattr(params, f"{name}_sample")) for name in _SHARES
    )
    return DetectorSamples(precision, recall, params.recall_sd, params.precision_sd)


def type_counts(densities: TableData, kept: np.ndarray) -> TypeCounts:
    """Return how many synapses of the rows of a mask, bool (n,), are of which type.

    Raises
    ------
    DataError
        A number is negative, or more synapses of a block have a type than it has.
    """
    columns = [np.asarray(densities[name], np.int64) for name in (*TYPES, "synapses")]
    wrong = (columns[0] < 0) | (columns[1] < 0) | (columns[0] + columns[1] > columns[2])
    if wrong.any():
        row = int(wrong.argmax())
        e, i, n = (int(column[row]) for column in columns)
        raise DataError(
            f"a block with {n} synapses, {e} of them excitatory and {i} inhibitory",
            expected="parts of at least 0 that are no more than the whole",
        )
    return TypeCounts(*(int(column[kept].sum()) for column in columns))


def outlier_table(densities: TableData, rows: np.ndarray, ranked: TableData) -> TableData:
    """Return rows, int64 (n,), of a table of densities with what was found of each: columns ``OUTLIER_COLUMNS``."""
    return {name: ranked[name] if name in ranked else densities[name][rows] for name in OUTLIER_COLUMNS}


STAGE = Stage(
    version=2,
    params=Params,
    reads={"densities": Table(DENSITY_COLUMNS), "synapses": Table(dict.fromkeys(CENTRE_COLUMNS, "float64"))},
    writes=("findings", "curves", "outliers"),
    optional=frozenset({"synapses"}),
    parts=(
        WholePart(
            "analyse",
            _analyse,
            tables={
                "findings": Table(FINDING_COLUMNS),
                "curves": Table(CURVE_COLUMNS),
                "outliers": Table(OUTLIER_COLUMNS),
            },
        ),
    ),
)
