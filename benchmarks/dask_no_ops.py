"""The executor ``dask`` whose workers skip the tasks, for ``engine.py --executor dask``; a preload of theirs, too."""

from __future__ import annotations

import os
from pathlib import Path

from bouton.cluster import Cluster
from bouton.engine.executors.dask import Dask
from bouton.engine.executors.processes import Processes

HERE = Path(__file__).resolve().parent
PROGRAM = "BOUTON_NO_OP_WORKER"


def make_pool(workers: int) -> Dask:
    """Return an executor on a LocalCluster of ``workers`` Dask workers."""
    # Dask copies a preload elsewhere before it runs it.
    os.environ[PROGRAM] = str(HERE / "no_op_worker.py")
    settings = {"distributed.worker.preload": [str(HERE / "dask_no_ops.py")]}
    return Dask(Cluster(kind="local", max_workers=workers), settings=settings)


def dask_setup(worker: object) -> None:
    """Let the children of a Dask worker skip their tasks."""
    Processes.program = (os.environ[PROGRAM],)
