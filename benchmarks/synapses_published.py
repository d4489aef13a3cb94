"""Partner matching on the published predictions of FAFB (Buhmann et al. 2021, doi:10.1038/s41592-021-01183-7).

    python benchmarks/synapses_published.py

Needs the real data (BOUTON_DATA); the counting is that of tests/evaluate/test_fafb.py.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("BOUTON_DATA") or ROOT.parent / "shared" / "data")
TARGET = "TP 8,967 FP 5,586 FN 6,849 (F 0.59, P 0.62, R 0.57)"


def rows() -> list[tuple[str, str, str]]:
    """Return what was counted: what, target, figure."""
    what = "FAFB, protocerebral bridge: partner matching on the published predictions"
    folder = DATA / "fafb_partners"
    if not folder.is_dir():
        return [(what, TARGET, f"not measured: no {folder.name} in BOUTON_DATA")]
    spec = importlib.util.spec_from_file_location("fafb", ROOT / "tests" / "evaluate" / "test_fafb.py")
    assert spec is not None and spec.loader is not None
    fafb = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fafb)
    found = fafb.count_partners(folder)
    scores = f"F {found.f1.value:.4f}, P {found.precision.value:.4f}, R {found.recall.value:.4f}"
    return [(what, TARGET, f"TP {found.tp:,} FP {found.fp:,} FN {found.fn:,} ({scores})")]


if __name__ == "__main__":
    for what, target, measured in rows():
        print(f"{what}: {measured} (target {target})")
