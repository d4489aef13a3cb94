"""Every stage of the project on every executor: the same bytes in every file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bouton.engine import run_workflow
from bouton.spec import Choices, Workflow, load_workflow
from bouton.stage import stage_names
from conformance.test_executors import Executor
from engine.flows import checksums
from engine.on_dask import OnDask, start_grid_engine, start_loopback, start_slurm
from properties.test_chain import FLOW

OTHERS = """\
  masked:        {stage: mask_affinities, reads: {affinities: network.affinities}}
  candidates:
    stage: tissue_mask
    reads: {image: tissue.image}
    params: {scale_nm: 100, vessel_um: 0.3, soma_um: 0.4, block_um: [0.3, 0.3, 0.3]}
  mutex:         {stage: mutex_watershed, reads: {affinities: network.affinities}}
  region:
    stage: agglomeration
    reads: {affinities: network.affinities, fragments: fragments}
    params: {small_affinity: 0.1}
  cut:           {stage: multicut, reads: {fragments: fragments, region_graph: region.region_graph}}
  segment_scores:
    stage: evaluate_segmentation
    reads: {segmentation: segmentation, truth: tissue.neuron_ids}
  synapse_scores:
    stage: evaluate_synapses
    reads: {synapses: types, truth_synapses: tissue.synapses, truth: tissue.neuron_ids}
  density:
    stage: densities
    reads: {labels: clefts, mask: tissue.mask, tissue: tissue.mitochondria}
    params: {block_um: [0.3, 0.3, 0.25], exclusion_nm: 45.0}
  uniformity:    {stage: uniformity, reads: {densities: density.densities}, params: {permutations: 99}}
"""
DASK, SLURM = OnDask("dask", start_loopback), OnDask("slurm", start_slurm)
GRID_ENGINE = OnDask("sge", start_grid_engine)
EXECUTORS = [
    ("processes", 2),
    (DASK, 2),
    pytest.param(SLURM, 2, marks=pytest.mark.cluster),
    pytest.param(GRID_ENGINE, 2, marks=pytest.mark.cluster),
]


@pytest.fixture(scope="module", autouse=True)
def _clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    for each in (DASK, SLURM, GRID_ENGINE):
        each.folder = tmp_path_factory.mktemp(each.name)
    yield
    for each in (DASK, SLURM, GRID_ENGINE):
        each.end()


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    path = tmp_path_factory.mktemp("flow") / "every.yaml"
    path.write_text(FLOW.replace("name: chain", "name: every") + OTHERS)
    return load_workflow(path, Choices(block=(13, 50, 50)))


@pytest.fixture(scope="module")
def alone(flow: Workflow, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    summary = run_workflow(flow, tmp_path_factory.mktemp("alone"), "serial")
    summary.raise_if_failed()
    return checksums(summary.folder)


def test_every_stage_is_in_the_workflow(flow: Workflow) -> None:
    assert {step.stage_name for step in flow.steps} == set(stage_names())


@pytest.mark.parametrize(("executor", "workers"), EXECUTORS)
def test_same_bytes_of_every_stage(
    tmp_path: Path, flow: Workflow, executor: Executor, workers: int, alone: dict[str, str]
) -> None:
    summary = run_workflow(flow, tmp_path, executor, workers)
    summary.raise_if_failed()
    assert checksums(summary.folder) == alone
