"""``--executor`` and ``--cluster``: what runs the blocks of a run, and where."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import typer

from bouton.cli.choices import cores
from bouton.cluster import KINDS, Cluster
from bouton.engine.cluster import dask_executor
from bouton.errors import SpecError
from bouton.spec import Workflow
from bouton.strict_yaml import read_document, unknown
from bouton.workflow_file import spec_error

Executors = Literal["serial", "processes", "dask"]
DASK = "dask"


def _absolute(text: str | None) -> str | None:
    # A resumed run repeats its options from another folder.
    return str(Path(text).resolve()) if text and Path(text).is_file() else text


ExecutorOption = Annotated[
    Executors | None,
    typer.Option("--executor", help="What runs the blocks; default: processes, or dask where a cluster is named."),
]
ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="KIND|ADDRESS|FILE",
        callback=_absolute,
        help="Where Dask workers run: slurm, sge, pbs, lsf, local, tcp://HOST:PORT, or a file of the keys of cluster.",
    ),
]


def choose_executor(
    flow: Workflow, executor: str | None, cluster: str | None, workers: int | None, runs: Path
) -> dict[str, Any]:
    """Return ``executor`` and ``workers`` of :func:`bouton.engine.run_workflow`.

    Raises
    ------
    SpecError
        The options contradict one another, or ``cluster`` is neither a kind nor an address nor a good file.
    """
    if executor not in (None, DASK) and cluster is not None:
        raise SpecError(
            f"--executor {executor} with --cluster {cluster}", expected="--executor dask, or none", fix="drop one"
        )
    found = read_cluster(cluster, flow.cluster) if cluster is not None else flow.cluster
    if executor not in (None, DASK) or (executor is None and found is None):
        return {"executor": executor or "processes", "workers": workers or cores()}
    found = found or Cluster(kind="local", max_workers=workers or cores())
    if workers is not None:
        found = found.model_copy(update={"max_workers": workers, "min_workers": min(found.min_workers, workers)})
    return {"executor": dask_executor(found, runs / flow.name / "cluster"), "workers": found.max_workers}


def read_cluster(text: str, section: Cluster | None) -> Cluster:
    """Return the cluster that ``--cluster`` names.

    Parameters
    ----------
    text : str
        A kind, an address, or a YAML file with the keys of ``cluster:`` at its top.
    section : Cluster, optional
        The workflow's own section: a kind alone means it, if it is of this kind.

    Raises
    ------
    SpecError
        It is none of these, or the file is wrong.
    """
    if "://" in text:
        return _checked({"kind": "address", "address": text})
    if text in KINDS:
        return section if section is not None and section.kind == text else _checked({"kind": text})
    if Path(text).suffix in (".yaml", ".yml") or Path(text).is_file():
        document = read_document(Path(text))
        try:
            return Cluster.model_validate(document.tree)
        except pydantic.ValidationError as error:
            raise spec_error(error, document, Cluster) from None
    raise unknown(f"--cluster {text!r}", text, [*KINDS[:-1], "tcp://HOST:PORT", "FILE.yaml"])


def _checked(values: dict[str, Any]) -> Cluster:
    try:
        return Cluster.model_validate(values)
    except pydantic.ValidationError as error:
        text = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise SpecError(
            f"--cluster {_shown(values)}", expected=text, fix="a cluster: section, or --cluster FILE.yaml"
        ) from None


def _shown(values: dict[str, Any]) -> Sequence[str]:
    return values.get("address") or values["kind"]
