"""From the ``cluster:`` section to machines: the scheduler and workers that :class:`Dask` talks to.

A job of a batch system is one Dask worker with as many threads, and so children, as ``processes`` says. The scheduler
of a cluster made here lives in the coordinator's process: what ends one ends the other, and the ledger knows the rest.
"""

from __future__ import annotations

import contextlib
import logging
import shlex
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import dask.config
from distributed import Client, LocalCluster, Status

from bouton.cluster import GPU_DIRECTIVES, Cluster, memory_bytes, walltime_seconds
from bouton.engine.execute import THREAD_VARIABLES
from bouton.errors import RunError, SpecError

PRELOAD = "bouton.engine.executors.dask_worker"
WALLTIME_VARIABLE = "BOUTON_WALLTIME_S"
TEND_S = 2.0
SURPLUS_S = 60.0
JOBS_AT_ONCE = 20
FAILED_STARTS = 3
DEFAULT_WALLTIME = "1:00:00"
KEPT_MESSAGES = 4
SILENT = logging.CRITICAL + 1
JOB_VARIABLES = {"slurm": "SLURM_JOB_ID", "sge": "JOB_ID", "pbs": "PBS_JOBID", "lsf": "LSB_JOBID"}
Workers = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Wanted:
    """What the open leases ask for: leases without and with a GPU, and the addresses of the workers that have one."""

    leases: int
    gpu_leases: int
    busy: frozenset[str]


class Machines(Protocol):
    """A cluster, as the executor sees it. ``target`` is what a Dask client connects to."""

    target: Any

    def tend(self, wanted: Wanted) -> None:
        """Start and end workers; raise RunError if the cluster refuses. Called often, returns soon."""

    def workers(self, client: Client) -> Workers:
        """Return what is known of the connected workers, by address."""

    def close(self) -> None:
        """End what was started."""


@contextlib.contextmanager
def dask_settings(more: Mapping[str, Any]) -> Iterator[None]:
    """Set how schedulers, clients and workers that are made meanwhile work; ``more`` goes over our own settings."""
    settings = {
        # A death comes back at once: the coordinator decides what is tried again, and where.
        "distributed.scheduler.allowed-failures": 0,
        "distributed.scheduler.worker-ttl": "60s",
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": False,
        # Every connection and topic keeps its last messages, and ours hold batches of results.
        "distributed.admin.low-level-log-length": KEPT_MESSAGES,
    }
    with dask.config.set({**settings, **more}):
        yield


def make_machines(cluster: Cluster, logs: Path) -> Machines:
    """Return the machines of a cluster.

    Raises
    ------
    SpecError
        The package that talks to such a cluster is not installed.
    """
    if cluster.kind == "address":
        return AtAddress(cluster)
    if cluster.kind == "local":
        return Local(cluster)
    if cluster.kind == "kubernetes":
        from bouton.engine.executors.dask_kubernetes import Kubernetes

        return Kubernetes(cluster)
    return Batch(cluster, logs)


class AtAddress:
    """A scheduler that runs already. Its workers are no business of ours."""

    def __init__(self, cluster: Cluster) -> None:
        self.target = cluster.address
        self._known: Workers = {}
        self._asked_at = float("-inf")

    def tend(self, wanted: Wanted) -> None:
        """Nothing to do."""

    def workers(self, client: Client) -> Workers:
        """Ask the scheduler, now and then."""
        if not self._known or time.monotonic() - self._asked_at >= TEND_S:
            self._known, self._asked_at = client.scheduler_info(n_workers=-1)["workers"], time.monotonic()
        return self._known

    def close(self) -> None:
        """Leave it as it is."""


class Local:
    """Dask workers on this machine, each with one child."""

    def __init__(self, cluster: Cluster) -> None:
        self.target = LocalCluster(
            n_workers=-(-cluster.max_workers // cluster.processes_of_job),
            threads_per_worker=cluster.processes_of_job,
            processes=True,
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
            resources={"GPU": cluster.gpus} if cluster.gpus else None,
            local_directory=cluster.local_directory or None,
            silence_logs=SILENT,
        )

    def tend(self, wanted: Wanted) -> None:
        """Nothing to do: each worker has a nanny that starts it again."""

    def workers(self, client: Client) -> Workers:
        """Return what the cluster knows."""
        return self.target.scheduler_info["workers"]

    def close(self) -> None:
        """End scheduler and workers."""
        self.target.close(timeout=10)


@dataclass(frozen=True)
class Pool:
    """Jobs of one kind: ``name`` begins the names of its workers, ``least`` and ``most`` count jobs."""

    name: str
    job: Cluster
    least: int
    most: int


class Batch:
    """Jobs of SLURM, Grid Engine, PBS or LSF, through dask-jobqueue."""

    def __init__(self, cluster: Cluster, logs: Path) -> None:
        self.cluster, self.logs = cluster, logs
        if any(letter.isspace() for letter in str(logs)):
            raise SpecError(
                f"a folder for logs with a space: {logs}", expected="a path that fits into a job script",
                fix="log_directory: of the cluster, or --runs",
            )  # fmt: skip
        self.logs.mkdir(parents=True, exist_ok=True)
        self.pools = _pools(cluster)
        self._tended_at = float("-inf")
        self._surplus_since: dict[str, float] = {}
        self._count = self._failed_starts = 0
        self._has_worked = False
        # Job numbers may come again, and other runs may share the folder.
        self._ended = self.logs / f"ended-{uuid.uuid4().hex[:8]}"
        options = _job_options(cluster, self.logs, self._ended)
        self.target = _cluster_class(cluster.kind)(
            n_workers=0, security=cluster.tls or None, shared_temp_directory=str(self.logs),
            scheduler_options={"dashboard": False, "dashboard_address": "127.0.0.1:0"}, silence_logs=SILENT, **options,
        )  # fmt: skip

    def tend(self, wanted: Wanted) -> None:
        """Submit jobs in place of those that ended, and more or fewer as there is work.

        Raises
        ------
        RunError
            The batch system refuses a job while there is no worker yet, or jobs end before their worker starts.
        """
        now = time.monotonic()
        if now - self._tended_at < TEND_S:
            return
        self._tended_at = now
        self._look_at_ended_jobs()
        for pool in self.pools:
            self._fit(pool, wanted, now)
        try:
            self.target.sync(self._submit)
        except (RuntimeError, ValueError, OSError) as error:
            self._refused(error)

    def workers(self, client: Client) -> Workers:
        """Return what the cluster knows."""
        found = self.target.scheduler_info["workers"]
        self._has_worked = self._has_worked or bool(found)
        return found

    def close(self) -> None:
        """Cancel the jobs."""
        with contextlib.suppress(RuntimeError, OSError, TimeoutError):
            self.target.close(timeout=20)
        for marker in self.logs.glob(f"{self._ended.name}-*"):
            marker.unlink(missing_ok=True)

    async def _submit(self) -> None:
        await self.target

    def _fit(self, pool: Pool, wanted: Wanted, now: float) -> None:
        spec = self.target.worker_spec
        names = [name for name in spec if str(name).startswith(pool.name)]
        target = pool.most
        if self.cluster.adaptive:
            leases = wanted.gpu_leases if pool.name == "gpu" else wanted.leases
            target = max(pool.least, min(pool.most, -(-leases // pool.job.processes_of_job)))
        for _ in range(min(JOBS_AT_ONCE, target - len(names))):
            self._count += 1
            options = {**self.target.new_spec["options"], **_job_options(pool.job, self.logs, self._ended)}
            spec[f"{pool.name}-{self._count}"] = {"cls": self.target.new_spec["cls"], "options": options}
        if len(names) <= target:
            self._surplus_since.pop(pool.name, None)
        elif now - self._surplus_since.setdefault(pool.name, now) >= SURPLUS_S:
            idle = [name for name in names if name not in self._busy_names(wanted)]
            for name in idle[: len(names) - target]:
                del spec[name]

    def _busy_names(self, wanted: Wanted) -> set[str]:
        known = self.target.scheduler_info["workers"]
        return {str(known[address]["name"]) for address in wanted.busy if address in known}

    def _look_at_ended_jobs(self) -> None:
        """Submit again what ended before its worker came; raise if this happens over and over."""
        connected = {str(worker["name"]) for worker in self.target.scheduler_info["workers"].values()}
        if connected:
            self._failed_starts = 0
        for name, job in list(self.target.workers.items()):
            marker = Path(f"{self._ended}-{job.job_id}")
            if name in connected or not marker.exists():
                continue
            job.status = Status.closed
            self.target.workers.pop(name, None)
            self._failed_starts += not connected and not self._has_worked
            if self._failed_starts >= FAILED_STARTS:
                raise RunError(
                    f"{self._failed_starts} jobs ended before their worker started: {_tail(self.logs, job.job_id)}",
                    where=f"{self.cluster.kind} job {job.job_id}", expected="bouton's Python on the nodes",
                    fix=f"mend python: or prologue: of the cluster; logs in {self.logs}",
                )  # fmt: skip

    def _refused(self, error: Exception) -> None:
        for name, job in list(self.target.workers.items()):
            if job.job_id is None:
                # It never was a job: it is neither to be waited for nor to be cancelled.
                job.status = Status.failed
                self.target.workers.pop(name)
        if not self._has_worked:
            raise RunError(
                _own_words(error), where=self.cluster.kind, expected="a job that the cluster accepts",
                fix="mend queue, account, walltime, memory, cores or directives of the cluster",
            ) from error  # fmt: skip
        # The batch system may be away for a while; what runs goes on, and the jobs are submitted again.


def _pools(cluster: Cluster) -> tuple[Pool, ...]:
    size = cluster.processes_of_job
    pools = [Pool("cpu", cluster, -(-cluster.min_workers // size), -(-cluster.max_workers // size))]
    if cluster.gpu:
        gpu = cluster.gpu
        changes = {name: getattr(gpu, name) or getattr(cluster, name) for name in ("queue", "walltime", "memory")}
        changes |= {"gpus": gpu.gpus, "processes": gpu.gpus, "cores": max(gpu.cores, gpu.gpus)}
        # Directives of the GPU jobs replace the default that asks for a GPU, not those of all jobs.
        changes |= {"directives": (*cluster.directives, *_gpu_directives(cluster.kind, gpu.gpus, gpu.directives))}
        pools.append(Pool("gpu", cluster.model_copy(update=changes), 0, -(-gpu.max_workers // gpu.gpus)))
    return tuple(pools)


def _gpu_directives(kind: str, gpus: int, given: tuple[str, ...]) -> tuple[str, ...]:
    return given or ((GPU_DIRECTIVES[kind].format(gpus),) if gpus and kind in GPU_DIRECTIVES else ())


def _job_options(job: Cluster, logs: Path, ended: Path) -> dict[str, Any]:
    """Return a job's options as dask-jobqueue calls them."""
    directives = job.directives
    if job.gpus and job.gpu is None and not any("gpu" in directive for directive in directives):
        directives = (*directives, *_gpu_directives(job.kind, job.gpus, ()))
    account = {"slurm": "account", "pbs": "account", "sge": "project", "lsf": "project"}[job.kind]
    seconds = walltime_seconds(job.walltime or DEFAULT_WALLTIME)
    worker = ["--nthreads", str(job.processes_of_job), "--memory-limit", "0", "--no-dashboard", "--preload", PRELOAD]
    # Ours drains before; this one ends a worker that could not.
    worker += ["--lifetime", f"{max(seconds - 5, 1)}s"]
    worker += ["--resources", f"GPU={job.gpus}"] if job.gpus else []
    return {
        "queue": job.queue or None,
        account: job.account or None,
        "walltime": _walltime(job.kind, seconds),
        "cores": job.cores,
        "processes": 1,
        "memory": str(memory_bytes(job.memory)),
        "nanny": False,
        "death_timeout": 120,
        "local_directory": shlex.quote(job.local_directory) if job.local_directory else None,
        "interface": job.interface or None,
        "python": shlex.quote(job.python) if job.python else None,
        "log_directory": str(logs),
        "job_name": "bouton",
        "job_extra_directives": list(directives),
        "job_script_prologue": _prologue(job, ended, seconds),
        "worker_extra_args": worker,
    }


def _prologue(job: Cluster, ended: Path, seconds: int) -> list[str]:
    # Of 123.server PBS means 123.
    marker = f'{shlex.quote(str(ended))}-"${{{JOB_VARIABLES[job.kind]}%%.*}}"'
    return [
        f"export {WALLTIME_VARIABLE}={seconds}",
        f"export DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH={KEPT_MESSAGES}",
        *(f"export {name}=1" for name in THREAD_VARIABLES),
        # The shell outlives the signal that the worker gets, too: it must not end before the worker has drained.
        "trap : TERM",
        f"trap {shlex.quote(f'echo $? > {marker}')} EXIT",
        *job.prologue,
    ]


def _walltime(kind: str, seconds: int) -> str:
    hours, minutes = divmod(-(-seconds // 60), 60)
    if kind == "lsf":
        return f"{hours}:{minutes:02}"
    return f"{seconds // 3600}:{seconds % 3600 // 60:02}:{seconds % 60:02}"


def _cluster_class(kind: str) -> Any:
    import dask_jobqueue

    return {
        "slurm": dask_jobqueue.SLURMCluster,
        "sge": dask_jobqueue.SGECluster,
        "pbs": dask_jobqueue.PBSCluster,
        "lsf": dask_jobqueue.LSFCluster,
    }[kind]


def _own_words(error: Exception) -> str:
    """Return what the batch system itself said, of dask-jobqueue's report of a failed command."""
    text = str(error)
    if isinstance(error, FileNotFoundError):
        return f"the command {error.filename} is not installed here"
    said = [text.partition(f"{name}:\n")[2].partition("\nstdout:")[0].partition("\nstderr:")[0] for name in _STREAMS]
    return " ".join(" ".join(said).split())[:500] or " ".join(text.split())[:500]


_STREAMS = ("stderr", "stdout")


def _tail(logs: Path, job: str) -> str:
    """Return the last lines that a job wrote."""
    for path in sorted(logs.glob(f"*{job}*")):
        if not path.name.startswith("ended-") and path.is_file():
            lines = path.read_text(errors="replace").split("\n")
            text = " | ".join(line.strip() for line in lines[-6:] if line.strip())
            if text:
                return text[-500:]
    return "they wrote nothing"
