"""One family of tests: q values after Benjamini & Hochberg 1995, doi:10.1111/j.2517-6161.1995.tb02031.x."""

from __future__ import annotations

import numpy as np
from statsmodels.stats.multitest import multipletests


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Return q of each p, float64 (n,). nan stays nan and does not belong to the family."""
    p = np.asarray(p, dtype=np.float64)
    q, known = np.full(p.shape, np.nan), np.isfinite(p)
    if known.any():
        q[known] = multipletests(p[known], method="fdr_bh")[1]
    return q
