"""A small workflow and the command line, called in this process: for tests of what users type."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from bouton import open_run
from bouton.cli.main import main

SPEC, DATA, RUN = 2, 3, 4
SIZE = [30, 10, 10]
AFFINITIES = np.random.default_rng(0).integers(0, 256, (3, 8, 12, 12), dtype=np.uint8)
CHAIN = {
    "fragments": {"stage": "fragments", "reads": {"affinities": "aff"}},
    "agglomeration": {"stage": "agglomeration", "reads": {"affinities": "aff", "fragments": "fragments"}},
    "segmentation": {"stage": "segmentation", "reads": {"fragments": "fragments", "merges": "agglomeration.merges"}},
}
PREDICT = {"network": {"stage": "predict", "reads": {"image": "aff"}}}
Call = Callable[..., None]


def flow(file: str = "flow.yaml", path: str = "aff.npy", size: object = SIZE, **keys: object) -> None:
    """Write a workflow."""
    tree = {"name": "t", "block_zyx": [8, 8, 8], "data": {"aff": {"path": path, "voxel_size_nm": size}}, "steps": CHAIN}
    Path(file).write_text(yaml.safe_dump(tree | keys, sort_keys=False))


def execute(*words: object) -> int:
    """Run the command line in this process; return its exit status."""
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return int(end.value.code or 0)


def run(*words: object) -> tuple[object, ...]:
    """Return the words of a run in this process."""
    return ("run", "flow.yaml", "--executor", "serial", "--retries", "0", *words)


def results(folder: str = "runs/t") -> np.ndarray:
    """Return the segmentation of a run that is done."""
    opened = open_run(folder)
    assert {step.state for step in opened.steps.values()} == {"done"}
    return opened.volume("segmentation")[...]
