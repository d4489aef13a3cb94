"""``cluster:`` of a workflow file: what is accepted, and the words that refuse the rest."""

from __future__ import annotations

from pathlib import Path

import pydantic
import pytest

from bouton.cluster import Cluster, memory_bytes, walltime_seconds
from bouton.errors import SpecError
from bouton.spec import load_workflow
from engine.flows import TOYS

WORKFLOW = f"""
grid: {{shape_zyx: [12, 10, 9], voxel_size_nm: [30, 10, 10]}}
steps:
  source: {{stage: {TOYS / "source.py"}, params: {{factor: 3}}}}
"""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("4:00:00", 14400), ("4:00", 14400), ("2-12:00:00", 216000), ("00:01:30", 90), ("100:00:00", 360000)],
)
def test_walltimes(text: str, seconds: int) -> None:
    assert walltime_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "4", "4h", "4:60", "00:00:00", "-1:00", "4:00:00:00", 14400])
def test_wrong_walltimes(text: str) -> None:
    with pytest.raises(ValueError, match="time"):
        walltime_seconds(text)


@pytest.mark.parametrize(
    ("text", "size"), [("16GB", 16 * 10**9), ("16 GiB", 16 << 30), ("1.5g", 1500000000), ("512MB", 512 * 10**6)]
)
def test_memory(text: str, size: int) -> None:
    assert memory_bytes(text) == size


@pytest.mark.parametrize("text", ["", "lots", "0GB", "-1GB", "16GBB", 16])
def test_wrong_memory(text: str) -> None:
    with pytest.raises(ValueError, match="memory like 16GB"):
        memory_bytes(text)


def _load(tmp_path: Path, cluster: str):
    path = tmp_path / "w.yaml"
    path.write_text(WORKFLOW + cluster)
    return load_workflow(path)


def test_one_line_of_a_workflow(tmp_path: Path) -> None:
    here = _load(tmp_path, "")
    flow = _load(tmp_path, "cluster: {kind: slurm, queue: normal, max_workers: 64, cores: 4}\n")
    assert here.cluster is None
    assert flow.cluster == Cluster(kind="slurm", queue="normal", max_workers=64, cores=4)
    assert flow.cluster.processes_of_job == 4
    # The same bits come from anywhere: the cluster is no part of a result's name.
    assert [step.key for step in flow.steps] == [step.key for step in here.steps]


WRONG = {
    "{kind: slurm, que: normal}": "did you mean 'queue'",
    "{kind: slurm, gpu: {que: big}}": "did you mean 'queue'",
    "{queue: normal}": "cluster.kind: missing",
    "{kind: slrum}": "'slurm'",
    "slurm": "keys and values",
    "{kind: slurm, walltime: 4:00:00}": "a time like 4:00:00, in quotes",
    "{kind: slurm, memory: 16}": "memory like 16GB",
    "{kind: slurm, cores: 0}": "greater than or equal to 1",
    "{kind: slurm, max_workers: many}": "valid integer",
    "{kind: slurm, cores: 2, processes: 4}": "processes up to cores, which is 2",
    "{kind: slurm, min_workers: 9, max_workers: 4}": "min_workers up to max_workers, which is 4",
    "{kind: slurm, image: x}": "kind: kubernetes where image, namespace or mounts",
    "{kind: address}": "tcp://HOST:PORT",
    "{kind: address, address: 'head:8786'}": "tcp://HOST:PORT",
    "{kind: slurm, address: 'tcp://head:8786'}": "kind: address where an address is given",
    "{kind: kubernetes}": "a container image",
    "{kind: sge, gpu: {queue: big}}": "gpu.directives",
    "{kind: pbs, gpus: 1}": "directives: how pbs is asked for a GPU",
    "{kind: sge, cores: 4}": "['-pe smp 4']",
    "{kind: local, gpu: {gpus: 1}}": "jobs of their own",
    "{kind: local, tls: true}": "tls with slurm",
    '{kind: slurm, prologue: ["module load x\\n#SBATCH --qos=y"]}': "text on one line",
    "{kind: slurm, directives: --qos=long}": "a list",
}


@pytest.mark.parametrize("cluster", WRONG)
def test_a_wrong_section_is_refused_with_its_line(tmp_path: Path, cluster: str) -> None:
    with pytest.raises(SpecError) as caught:
        _load(tmp_path, f"cluster: {cluster}\n")
    text = str(caught.value)
    assert WRONG[cluster] in text
    assert "w.yaml:5" in text
    assert "\n" not in text


def test_a_cluster_does_not_change() -> None:
    cluster = Cluster(kind="local")
    with pytest.raises(pydantic.ValidationError):
        cluster.kind = "slurm"
