"""Who finds the partners better: the sides that the cleft's own network paints, or a network that is shown each cleft?

    python benchmarks/synapses_network.py [--model partners-phantom] [--seeds 31 35]

Phantoms that nothing was trained on or chosen by, 96 x 384 x 384 voxels. True clefts and true neurons are given, so
that only the choice of partners counts; then predicted clefts and segmentation, as in workflows/demo.yaml.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bouton import load_workflow, open_run
from bouton.engine import run_workflow
from bouton.spec import Choices

DEMO = Path(__file__).parents[1] / "workflows" / "demo.yaml"
SEEDS = (31, 35)
GIVEN = """
name: given
grid: {{shape_zyx: [96, 384, 384], voxel_size_nm: [30, 10, 10]}}
block_zyx: [48, 192, 192]
steps:
  tissue:  {{stage: phantom, params: {{seed: {seed}}}}}
  network: {{stage: predict, reads: {{image: tissue.image}}, params: {{model: organelles-phantom}}}}
  sides:
    stage: synapse_sides
    reads: {{clefts: tissue.clefts, segmentation: tissue.neuron_ids, synapse_evidence: network.synapse_evidence}}
  shown:
    stage: partner_network
    reads: {{image: tissue.image, clefts: tissue.clefts, segmentation: tissue.neuron_ids, sides: sides.sides,
            cleft_sums: sides.cleft_sums}}
    params: {{model: {model}}}
  by_evidence:
    stage: synapses
    reads: {{sides: sides.sides, cleft_sums: sides.cleft_sums, touching: sides.touching}}
  by_network:
    stage: synapses
    reads: {{sides: shown.sides, cleft_sums: sides.cleft_sums, touching: sides.touching}}
  evidence_scores:
    stage: evaluate_synapses
    reads: {{synapses: by_evidence, truth_synapses: tissue.synapses, truth: tissue.neuron_ids}}
  network_scores:
    stage: evaluate_synapses
    reads: {{synapses: by_network, truth_synapses: tissue.synapses, truth: tissue.neuron_ids}}
"""
SHOWN = """
  shown:
    stage: partner_network
    reads: {{image: tissue.image, clefts: clefts, segmentation: fragments, sides: synapse_sides.sides,
            cleft_sums: synapse_sides.cleft_sums}}
    params: {{model: {model}}}
  by_network:
    stage: synapses
    reads: {{sides: shown.sides, cleft_sums: synapse_sides.cleft_sums, touching: synapse_sides.touching,
            merges: agglomeration.merges}}
    params: {{threshold: 0.4}}
  network_scores:
    stage: evaluate_synapses
    reads: {{synapses: by_network, truth_synapses: tissue.synapses, truth: tissue.neuron_ids}}
"""
Row = tuple[str, str, str]


def scores(text: str, seed: int, steps: tuple[str, str], folder: Path) -> tuple[str, str]:
    """Run a workflow and return, for two of its steps, the partners that are right of the matched synapses."""
    path = folder / "flow.yaml"
    path.write_text(text)
    flow = load_workflow(path, Choices(overrides=(f"steps.tissue.params.seed={seed}",)))
    run_workflow(flow, folder / f"{flow.name}{seed}", "processes", 2).raise_if_failed()
    run = open_run(folder / f"{flow.name}{seed}" / flow.name)
    found = []
    for step in steps:
        table = run.table(step)
        values = dict(zip(table["metric"], zip(table["value"], table["n"], strict=True), strict=True))
        (right, n), (way, _) = values["partners_right"], values["polarity_right"]
        found.append(f"{right:.1%} of {n} (direction {way:.1%})")
    return found[0], found[1]


def rows(model: str = "partners-phantom", seeds: tuple[int, ...] = SEEDS) -> list[Row]:
    """Return what was measured: what, target, figure."""
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        for seed in seeds:
            given = GIVEN.format(seed=seed, model=model)
            evidence, network = scores(given, seed, ("evidence_scores", "network_scores"), Path(name))
            figure = f"{network}; by the evidence of the sides {evidence}"
            found.append(
                (f"partners by the partner network, true clefts and neurons, phantom seed {seed}", "-", figure)
            )
            demo = DEMO.read_text() + SHOWN.format(model=model)
            evidence, network = scores(demo, seed, ("synapse_scores", "network_scores"), Path(name))
            figure = f"{network}; by the evidence of the sides {evidence}"
            found.append((f"the same, predicted clefts and segmentation, seed {seed}", "-", figure))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="partners-phantom", help="name, or path to a model's folder")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    given = parser.parse_args()
    for what, _, measured in rows(given.model, tuple(given.seeds)):
        print(f"{what}: {measured}")


if __name__ == "__main__":
    main()
