"""Workers as pods, through the Dask operator (dask-kubernetes). The operator must be installed in the cluster."""

from __future__ import annotations

import contextlib
import time
import uuid
from typing import Any

from distributed import Client

from bouton.cluster import Cluster, memory_bytes
from bouton.engine.execute import THREAD_VARIABLES
from bouton.engine.executors.dask_clusters import KEPT_MESSAGES, PRELOAD, SURPLUS_S, TEND_S, Wanted, Workers
from bouton.errors import RunError

ENVIRONMENT = {
    **dict.fromkeys(THREAD_VARIABLES, "1"),
    # What dask_settings sets here has to reach the scheduler's pod, too.
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "60s",
    "DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH": str(KEPT_MESSAGES),
}


def cluster_spec(cluster: Cluster, name: str) -> dict[str, Any]:
    """Return the DaskCluster resource: one scheduler, and pods of one Dask worker with ``processes`` threads each."""
    from dask_kubernetes.operator import make_cluster_spec

    command = ["dask", "worker", "--nthreads", str(cluster.processes_of_job), "--no-nanny", "--memory-limit", "0"]
    command += ["--preload", PRELOAD, *(["--resources", f"GPU={cluster.gpus}"] if cluster.gpus else [])]
    replicas = -(-(cluster.min_workers if cluster.adaptive else cluster.max_workers) // cluster.processes_of_job)
    spec = make_cluster_spec(
        name=name, image=cluster.image, n_workers=replicas, env=ENVIRONMENT, worker_command=command
    )  # fmt: skip
    pod = spec["spec"]["worker"]["spec"]
    limits: dict[str, str] = {"cpu": str(cluster.cores), "memory": str(memory_bytes(cluster.memory))}
    if cluster.gpus:
        limits["nvidia.com/gpu"] = str(cluster.gpus)
    claims = list(cluster.mounts.items())
    pod["containers"][0]["resources"] = {"requests": limits, "limits": limits}
    pod["containers"][0]["volumeMounts"] = [
        {"name": f"claim-{at}", "mountPath": path} for at, (path, _) in enumerate(claims)
    ]
    pod["volumes"] = [
        {"name": f"claim-{at}", "persistentVolumeClaim": {"claimName": claim}} for at, (_, claim) in enumerate(claims)
    ]
    return spec


class Kubernetes:
    """Pods of one worker group. The operator starts pods again that are gone."""

    def __init__(self, cluster: Cluster) -> None:
        from dask_kubernetes.operator import KubeCluster

        self.cluster = cluster
        self._tended_at = self._enough_since = time.monotonic()
        self._size = 0
        name = f"bouton-{uuid.uuid4().hex[:8]}"
        try:
            self.target = KubeCluster(
                custom_cluster_spec=cluster_spec(cluster, name), namespace=cluster.namespace or None, quiet=True
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise RunError(
                " ".join(str(error).split())[:500], where="kubernetes",
                expected="a cluster that kubectl reaches, with the Dask operator installed",
                fix="helm install --repo https://helm.dask.org --generate-name dask-kubernetes-operator",
            ) from error  # fmt: skip

    def tend(self, wanted: Wanted) -> None:
        """With ``adaptive``, ask for as many pods as there is work for."""
        now = time.monotonic()
        if not self.cluster.adaptive or now - self._tended_at < TEND_S:
            return
        self._tended_at = now
        cluster, size = self.cluster, self.cluster.processes_of_job
        leases = max(cluster.min_workers, min(cluster.max_workers, wanted.leases + wanted.gpu_leases))
        target = -(-leases // size)
        if target >= self._size:
            self._enough_since = now
        # The operator chooses the pods that go; it takes idle ones first.
        if target > self._size or now - self._enough_since >= SURPLUS_S:
            self.target.scale(target)
            self._size = target

    def workers(self, client: Client) -> Workers:
        """Return what the cluster knows."""
        return self.target.scheduler_info["workers"]

    def close(self) -> None:
        """Delete the cluster's resources."""
        with contextlib.suppress(RuntimeError, OSError, TimeoutError):
            self.target.close(timeout=60)
