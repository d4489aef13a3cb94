"""The executor of a ``cluster:`` section, if the packages that it needs are there."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from bouton.cluster import BATCH, Cluster
from bouton.engine.executors import Executor
from bouton.errors import SpecError


def dask_executor(cluster: Cluster, logs: Path) -> Executor:
    """Return the executor ``dask``. It reaches for the cluster when the run first needs a worker.

    Parameters
    ----------
    cluster : Cluster
    logs : Path
        Folder for the logs of jobs, where ``cluster`` names none.

    Raises
    ------
    SpecError
        A package is not installed.
    """
    needed = [("distributed", "cluster")]
    if cluster.kind in BATCH:
        needed.append(("dask_jobqueue", "cluster"))
    if cluster.kind == "kubernetes":
        needed.append(("dask_kubernetes", "kubernetes"))
    for module, extra in needed:
        if find_spec(module) is None:
            raise SpecError(
                f"the package {module.replace('_', '-')} is not installed", expected=f"it, for {_show(cluster)}",
                fix=f"pip install 'bouton[{extra}]'",
            )  # fmt: skip
    from bouton.engine.executors.dask import Dask

    return Dask(cluster, logs)


def _show(cluster: Cluster) -> str:
    return f"cluster {cluster.address or cluster.kind}"
