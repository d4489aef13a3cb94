"""``cluster:`` of a workflow file: where the worker processes of a run live.

Nothing of it enters a step's key: the same bits come from a laptop and from a cluster.
"""

from __future__ import annotations

import re
from typing import Any, Literal, get_args

import pydantic

Kind = Literal["local", "slurm", "sge", "pbs", "lsf", "kubernetes", "address"]
KINDS: tuple[str, ...] = get_args(Kind)
BATCH = ("slurm", "sge", "pbs", "lsf")
GPU_DIRECTIVES = {"slurm": "--gres=gpu:{}", "lsf": "-gpu num={}"}

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_BINARY = {"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40}
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\Z", re.IGNORECASE)
_WALLTIME = re.compile(r"(?:(\d+)-)?(\d+):([0-5]\d)(?::([0-5]\d))?\Z")
_ADDRESS = re.compile(r"(?:tcp|tls|ucx|ws|wss)://[^\s/:]+:\d+\Z|(?:tcp|tls)://\[[0-9a-fA-F:]+\]:\d+\Z")


def memory_bytes(text: str) -> int:
    """Return the bytes of a text like ``16GB`` (powers of 1000) or ``16GiB`` (powers of 1024).

    Raises
    ------
    ValueError
        It is none.
    """
    match = _MEMORY.match(text.strip()) if isinstance(text, str) else None
    if match is None or float(match[1]) <= 0:
        raise ValueError("memory like 16GB")
    return int(float(match[1]) * {**_UNITS, **_BINARY}[(match[2] or "").lower()])


def walltime_seconds(text: str) -> int:
    """Return the seconds of a text like ``4:00:00``, ``2-00:00:00`` (days first) or ``4:00`` (hours and minutes).

    Raises
    ------
    ValueError
        It is none.
    """
    match = _WALLTIME.match(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError("a time like 4:00:00, in quotes")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if total <= 0:
        raise ValueError("a time above 0")
    return total


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)

    @pydantic.field_validator("memory", "walltime", mode="before", check_fields=False)
    @classmethod
    def _readable(cls, value: Any, info: pydantic.ValidationInfo) -> Any:
        # YAML reads 4:00:00 without quotes as the number 14400, and 4:00 as 240.
        if value != "":
            (memory_bytes if info.field_name == "memory" else walltime_seconds)(value)
        return value

    @pydantic.field_validator("*")
    @classmethod
    def _one_line(cls, value: Any) -> Any:
        # These texts become lines of a job script.
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and not (text.isprintable() or text == ""):
                raise ValueError("text on one line")
        return value


class GpuJobs(_Strict):
    """``gpu:`` jobs of their own for steps that use a GPU; what is not given is as for the other jobs.

    Attributes
    ----------
    gpus : int
        GPUs of one job. It has as many worker processes.
    directives : tuple of str
        How the batch system is asked for the GPUs, such as ``--gres=gpu:a100:1``. SLURM and LSF have a default.
    max_workers : int
        Most worker processes with a GPU at a time.
    """

    gpus: int = pydantic.Field(default=1, ge=1)
    max_workers: int = pydantic.Field(default=1, ge=1)
    queue: str = ""
    walltime: str = ""
    memory: str = ""
    cores: int = pydantic.Field(default=0, ge=0)
    directives: tuple[str, ...] = pydantic.Field(default=(), strict=False)


class Cluster(_Strict):
    """Where worker processes run.

    Attributes
    ----------
    kind : str
        ``local`` (this machine), ``slurm``, ``sge``, ``pbs``, ``lsf``, ``kubernetes``, or ``address`` (a Dask
        scheduler that runs already).
    address : str
        Of a Dask scheduler, like ``tcp://head:8786``.
    queue, account : str
        Partition or queue, and account or project, as the batch system calls them.
    walltime : str
        Longest life of a job, ``4:00:00``. Workers finish their block and leave before it ends.
    memory : str
        Memory of a job, ``16GB``.
    cores : int
        Processor cores of a job.
    processes : int
        Worker processes of a job, each with one thread. 0: one a core.
    gpus : int
        GPUs of every job. For GPU jobs beside others use ``gpu``.
    gpu : GpuJobs, optional
    min_workers, max_workers : int
        Worker processes: at least, at most. ``--workers`` sets the latter.
    adaptive : bool
        Ask for as many as there is work for; otherwise always for ``max_workers``.
    directives : tuple of str
        Further options of the batch system, one an entry, such as ``--qos=long``.
    prologue : tuple of str
        Shell lines before the worker starts, such as ``module load cuda``.
    python : str
        Python on the nodes. Default: the one that runs the workflow.
    interface : str
        Network interface, such as ``ib0``.
    local_directory : str
        Fast local folder of a node.
    log_directory : str
        Where jobs write their logs; a folder that the nodes see. Default: in the run folder.
    tls : bool
        Encrypt and authenticate the connections with certificates made for this run.
    image, namespace : str
        Container image and namespace (Kubernetes).
    mounts : mapping of str -> str
        Folder in the pods -> persistent volume claim (Kubernetes). The run folder must lie in one of them.
    """

    kind: Kind
    address: str = ""
    queue: str = ""
    account: str = ""
    walltime: str = ""
    memory: str = "4GB"
    cores: int = pydantic.Field(default=1, ge=1)
    processes: int = pydantic.Field(default=0, ge=0)
    gpus: int = pydantic.Field(default=0, ge=0)
    gpu: GpuJobs | None = None
    min_workers: int = pydantic.Field(default=0, ge=0)
    max_workers: int = pydantic.Field(default=8, ge=1)
    adaptive: bool = False
    directives: tuple[str, ...] = pydantic.Field(default=(), strict=False)
    prologue: tuple[str, ...] = pydantic.Field(default=(), strict=False)
    python: str = ""
    interface: str = ""
    local_directory: str = ""
    log_directory: str = ""
    tls: bool = False
    image: str = ""
    namespace: str = ""
    mounts: dict[str, str] = {}

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Cluster:
        problem = next(_problems(self), None)
        if problem:
            raise ValueError(problem)
        return self

    @property
    def processes_of_job(self) -> int:
        """Worker processes of one job."""
        return self.processes or self.cores

    @property
    def has_gpus(self) -> bool:
        """Whether some of its workers are promised a GPU."""
        return self.gpus > 0 or self.gpu is not None


def _problems(cluster: Cluster) -> Any:
    kind = cluster.kind
    if kind == "address" and not _ADDRESS.match(cluster.address):
        yield "address: tcp://HOST:PORT of a Dask scheduler, with kind: address"
    if kind != "address" and cluster.address:
        yield f"kind: address where an address is given, not kind: {kind}"
    if kind == "kubernetes" and not cluster.image:
        yield "image: a container image with bouton installed, with kind: kubernetes"
    if kind != "kubernetes" and (cluster.image or cluster.namespace or cluster.mounts):
        yield f"kind: kubernetes where image, namespace or mounts are given, not kind: {kind}"
    if cluster.min_workers > cluster.max_workers:
        yield f"min_workers up to max_workers, which is {cluster.max_workers}"
    if cluster.processes > cluster.cores and kind in BATCH:
        yield f"processes up to cores, which is {cluster.cores}"
    if cluster.gpu and kind not in BATCH:
        yield f"gpu: jobs of their own with {', '.join(BATCH)} only, not with kind: {kind}"
    if cluster.gpu and kind not in GPU_DIRECTIVES and not cluster.gpu.directives:
        yield f"gpu.directives: how {kind} is asked for a GPU on your cluster, such as ['-l gpu=1']"
    if cluster.gpus and kind in BATCH and kind not in GPU_DIRECTIVES and not cluster.directives:
        yield f"directives: how {kind} is asked for a GPU on your cluster, such as ['-l gpu=1']"
    if kind == "sge" and cluster.cores > 1 and not any("-pe " in directive for directive in cluster.directives):
        yield f"directives: the parallel environment for {cluster.cores} cores, such as ['-pe smp {cluster.cores}']"
    if cluster.tls and kind not in BATCH:
        yield f"tls with {', '.join(BATCH)} only; a running scheduler has certificates of its own"
