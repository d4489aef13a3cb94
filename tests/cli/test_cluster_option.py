"""``--executor``, ``--cluster`` and ``cluster:`` together: which executor a run gets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bouton.cli.cluster_option import choose_executor, read_cluster
from bouton.cluster import Cluster
from bouton.engine.executors.dask import Dask
from bouton.errors import SpecError
from engine.flows import shapes_flow

SLURM = Cluster(kind="slurm", queue="normal", max_workers=64, min_workers=4)


def _chosen(executor: str | None, cluster: str | None, workers: int | None = None, section: Cluster | None = None):
    flow = replace(shapes_flow(), cluster=section)
    return choose_executor(flow, executor, cluster, workers, Path("runs"))


def test_without_a_cluster_everything_stays_here() -> None:
    assert _chosen(None, None, 3) == {"executor": "processes", "workers": 3}
    assert _chosen("serial", None, 1) == {"executor": "serial", "workers": 1}


def test_a_section_brings_dask_unless_another_executor_is_named() -> None:
    chosen = _chosen(None, None, section=SLURM)
    assert isinstance(chosen["executor"], Dask)
    assert chosen["executor"].cluster == SLURM
    assert chosen["workers"] == 64
    assert chosen["executor"].logs == Path("runs/toy/cluster").resolve()
    assert _chosen("processes", None, 2, SLURM) == {"executor": "processes", "workers": 2}


def test_dask_alone_is_this_machine() -> None:
    chosen = _chosen("dask", None, 3)
    assert chosen["executor"].cluster == Cluster(kind="local", max_workers=3)


def test_workers_bound_a_cluster() -> None:
    found = _chosen(None, "slurm", 2, SLURM)["executor"].cluster
    assert (found.queue, found.max_workers, found.min_workers) == ("normal", 2, 2)


def test_a_kind_means_the_section_of_this_kind() -> None:
    assert read_cluster("slurm", SLURM) is SLURM
    assert read_cluster("slurm", None) == Cluster(kind="slurm")
    assert read_cluster("sge", SLURM) == Cluster(kind="sge")


def test_an_address_and_a_file(tmp_path: Path) -> None:
    assert read_cluster("tcp://head:8786", None) == Cluster(kind="address", address="tcp://head:8786")
    (tmp_path / "lab.yaml").write_text("kind: sge\nqueue: big\n")
    assert read_cluster(str(tmp_path / "lab.yaml"), None) == Cluster(kind="sge", queue="big")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("slrum", "did you mean 'slurm'"),
        ("tcp://head", "tcp://HOST:PORT of a Dask scheduler"),
        ("kubernetes", "a container image"),
        ("lab.yaml", "cannot read it: No such file"),
        ("", "expected one of"),
    ],
)
def test_a_wrong_cluster_is_told_on_one_line(text: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        read_cluster(text, None)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_file_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text("kind: slurm\nmax_worker: 4\n")
    with pytest.raises(SpecError, match=r"lab.yaml:2: .*did you mean 'max_workers'"):
        read_cluster(str(path), None)


def test_two_answers_to_one_question() -> None:
    with pytest.raises(SpecError, match="--executor serial with --cluster slurm"):
        _chosen("serial", "slurm")
