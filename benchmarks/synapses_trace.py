"""Does ``bouton trace`` name the right cause? Errors of known cause are put into phantoms, the confusion is counted.

    python benchmarks/synapses_trace.py [--errors 500] [--shape 90,300,300] [--seed 2010] [--folder DIR]

Each phantom's true neurons, clefts and synapses are made into the layers that a pipeline would have: a segmentation
(the true ids) and evidence (the true clefts and their two sides, blurred, of uneven strength, with noise). Then each
error is put where it belongs: into the evidence (too weak to be seen, too weak to be kept, too small, a wrong type,
reversed, another partner, something where nothing is, a bridge to a neighbour), into the segmentation (two neurons run
together, a partner cut), or into the truth (a synapse left out). The stages clefts, synapse_sides, synapses and
evaluate_synapses run as they do on any data, and the tracing sees their results alone. An injection after which the
synapse is still right made no error: it is told, and another one takes its place. A third of the synapses stay
untouched.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from bouton import load_workflow, run_workflow
from bouton.cli.trace_files import SEGMENT, Wanted, trace_run
from bouton.cli.trace_run import Given
from bouton.geometry import Box, nm_to_voxels
from bouton.phantom import SYNAPSE_COLUMNS, PhantomParams, generate
from bouton.spec import Choices
from bouton.volume import create_volume, write_table

SIZE = (40.0, 16.0, 16.0)
FIRST_SEED = 2010
MARGIN_NM = 250.0
FLOW = """
name: traced
data:
  evidence: {{path: {folder}/evidence.zarr, voxel_size_nm: [40, 16, 16]}}
  segments: {{path: {folder}/segments.zarr, voxel_size_nm: [40, 16, 16]}}
  neurons: {{path: {folder}/neurons.zarr, voxel_size_nm: [40, 16, 16]}}
  truth: {{path: {folder}/truth.parquet}}
block_zyx: {block}
steps:
  clefts:
    stage: clefts
    reads: {{synapse_evidence: evidence}}
    params: {{low: 0.5, high: 0.7, min_volume_nm3: 300000}}
  beside:
    stage: synapse_sides
    reads: {{clefts: clefts, segmentation: segments, synapse_evidence: evidence}}
  synapses:
    stage: synapses
    reads: {{sides: beside.sides, cleft_sums: beside.cleft_sums, touching: beside.touching}}
  scores:
    stage: evaluate_synapses
    reads: {{synapses: synapses, truth_synapses: truth, truth: neurons}}
    params: {{margin_nm: 100}}
"""
TRUTH_COLUMNS = {name: kind for name, kind in SYNAPSE_COLUMNS.items() if name != "target"}


@dataclass
class Tissue:
    """A phantom as a pipeline would see it; injections change it in place.

    ``cleft``, ``pre``, ``post``, ``excitatory``: float32 (z, y, x), 0 to 1.
    """

    neurons: np.ndarray
    true_clefts: np.ndarray
    synapses: dict[str, np.ndarray]
    cleft: np.ndarray
    pre: np.ndarray
    post: np.ndarray
    excitatory: np.ndarray
    segments: np.ndarray
    random: np.random.Generator
    left_out: set[int] = field(default_factory=set)
    next_id: int = 2**62

    def centre(self, row: int) -> np.ndarray:
        """Return a synapse's centre, nm (3,)."""
        return np.array([self.synapses[f"{axis}_nm"][row] for axis in "zyx"])

    def near(self, at_nm: np.ndarray, reach_nm: float) -> tuple[tuple[slice, ...], np.ndarray]:
        """Return the box around a place, and where in it voxels are at most so far away."""
        z, y, x = (int(v) for v in np.floor(at_nm / SIZE))
        whole = Box.of_shape(self.neurons.shape)
        box = Box((z, y, x), (z + 1, y + 1, x + 1)).grow(nm_to_voxels(reach_nm, SIZE)) & whole
        sides = zip(box.start, box.stop, SIZE, at_nm, strict=True)
        away = [((np.arange(a, b) + 0.5) * s - c) ** 2 for a, b, s, c in sides]
        return box.slices, away[0][:, None, None] + away[1][None, :, None] + away[2][None, None, :] <= reach_nm**2


@dataclass(frozen=True)
class Injected:
    """One error: what was done, the cause that tracing must name, the true synapse (its id), or the place."""

    kind: str
    cause: str
    truth_id: int
    at_nm: tuple[float, float, float]


def make_tissue(seed: int, shape: tuple[int, int, int]) -> Tissue:
    """Return a phantom with perfect evidence."""
    made = generate(Box.of_shape(shape), PhantomParams(seed=seed, voxel_size_nm=SIZE))
    cleft, pre, post, excitatory = (np.zeros(shape, np.float32) for _ in range(4))
    tissue = Tissue(
        made.neuron_ids, made.clefts, made.synapses, cleft, pre, post, excitatory, made.neuron_ids.copy(),
        np.random.default_rng(seed),
    )  # fmt: skip
    for row in range(len(made.synapses["id"])):
        add_evidence(tissue, row)
    return tissue


def add_evidence(tissue: Tissue, row: int) -> None:
    """Write what a detector would say of one true synapse."""
    place, _ = tissue.near(tissue.centre(row), 400.0)
    mine = tissue.true_clefts[place] == tissue.synapses["id"][row]
    if not mine.any():
        return
    away = ndimage.distance_transform_edt(~mine, sampling=SIZE)
    strength, sides = tissue.random.uniform(0.84, 1.0), tissue.random.uniform(0.6, 0.9)
    soft = np.clip(1.2 - away / 60.0, 0, 1) * strength
    tissue.cleft[place] = np.maximum(tissue.cleft[place], soft)
    for side, values in (("pre", tissue.pre), ("post", tissue.post)):
        here = (tissue.neurons[place] == tissue.synapses[f"{side}_id"][row]) & (away < 200)
        values[place][here] = sides
    if tissue.synapses["type"][row] == "excitatory":
        tissue.excitatory[place][away < 100] = 0.9


def weak(tissue: Tissue, row: int) -> tuple[str, str]:
    """Make the evidence too weak for any voxel to be seen."""
    place, near = tissue.near(tissue.centre(row), 270.0)
    tissue.cleft[place][near] *= tissue.random.uniform(0.05, 0.48)
    return "threshold", "not_visible"


def faint(tissue: Tissue, row: int) -> tuple[str, str]:
    """Make the evidence too weak for its component to be kept."""
    place, near = tissue.near(tissue.centre(row), 270.0)
    tissue.cleft[place][near] *= tissue.random.uniform(0.56, 0.66) / tissue.cleft[place][near].max()
    return "peak", "removed"


def small(tissue: Tissue, row: int) -> tuple[str, str]:
    """Leave a few voxels of the cleft."""
    centre = tissue.centre(row)
    place, near = tissue.near(centre, 270.0)
    kept = np.zeros_like(near)
    values = np.where(near & (tissue.true_clefts[place] == tissue.synapses["id"][row]), tissue.cleft[place], 0)
    z, y, x = np.unravel_index(int(np.argmax(values)), values.shape)
    kept[z, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] = True
    tissue.cleft[place][near & ~kept] *= 0.3
    return "small object", "removed"


def merged(tissue: Tissue, row: int) -> tuple[str, str]:
    """Run the two neurons together around the synapse."""
    place, near = tissue.near(tissue.centre(row), 300.0)
    pre, post = tissue.synapses["pre_id"][row], tissue.synapses["post_id"][row]
    here = near & (tissue.neurons[place] == post)
    tissue.segments[place][here] = pre
    return "merge", "no_contact_merge"


def cut_off(tissue: Tissue, row: int) -> tuple[str, str]:
    """Give the part of a partner beside the cleft another id."""
    tissue.next_id += 1
    return _cut(tissue, row, tissue.next_id, "split")


def unlabelled(tissue: Tissue, row: int) -> tuple[str, str]:
    """Leave the part of a partner beside the cleft without a segment."""
    return _cut(tissue, row, 0, "split, no segment")


def _cut(tissue: Tissue, row: int, new: int, name: str) -> tuple[str, str]:
    side = "pre" if tissue.random.random() < 0.5 else "post"
    place, _ = tissue.near(tissue.centre(row), 450.0)
    mine = tissue.true_clefts[place] == tissue.synapses["id"][row]
    away = ndimage.distance_transform_edt(~mine, sampling=SIZE)
    here = (tissue.neurons[place] == tissue.synapses[f"{side}_id"][row]) & (away < 130)
    tissue.segments[place][here] = np.uint64(new)
    return name, "no_contact_split"


def swapped(tissue: Tissue, row: int) -> tuple[str, str] | None:
    """Let a third neuron beside the cleft look like the partner; None where there is none."""
    place, _ = tissue.near(tissue.centre(row), 400.0)
    mine = tissue.true_clefts[place] == tissue.synapses["id"][row]
    away = ndimage.distance_transform_edt(~mine, sampling=SIZE)
    pair = [tissue.synapses[f"{side}_id"][row] for side in ("pre", "post")]
    ids, counts = np.unique(tissue.neurons[place][away < 95], return_counts=True)
    others = [(n, i) for i, n in zip(ids, counts, strict=True) if i not in pair and i and n >= 30]
    if not others:
        return None
    third = max(others)[1]
    side = int(tissue.random.random() < 0.5)
    values = (tissue.pre, tissue.post)[side]
    values[place][(tissue.neurons[place] == pair[side]) & (away < 230)] = 0.0
    values[place][(tissue.neurons[place] == third) & (away < 230)] = 0.95
    return "swapped partner", "partner_swapped"


def reversed_(tissue: Tissue, row: int) -> tuple[str, str]:
    """Exchange the evidence for pre and post."""
    place, near = tissue.near(tissue.centre(row), 270.0)
    pre, post = tissue.pre[place][near], tissue.post[place][near]
    tissue.pre[place][near], tissue.post[place][near] = post, pre
    return "polarity", "polarity_reversed"


def other_type(tissue: Tissue, row: int) -> tuple[str, str]:
    """Turn the evidence for the type round."""
    place, near = tissue.near(tissue.centre(row), 270.0)
    tissue.excitatory[place][near] = 0.9 - tissue.excitatory[place][near]
    return "type", "type_wrong"


def forgotten(tissue: Tissue, row: int) -> tuple[str, str]:
    """Leave the synapse out of the truth."""
    tissue.left_out.add(int(tissue.synapses["id"][row]))
    return "missing truth", "truth_doubtful"


def bridged(tissue: Tissue, row: int) -> tuple[str, str] | None:
    """Join the cleft to its nearest neighbour's by a bridge of evidence; None where that is too far."""
    centres = np.stack([tissue.synapses[f"{axis}_nm"] for axis in "zyx"], axis=1)
    away, other = (v[1] for v in cKDTree(centres).query(centres[row], 2))
    if away > 750:
        return None
    for share in np.linspace(0, 1, 60):
        place, near = tissue.near(centres[row] * (1 - share) + centres[int(other)] * share, 45.0)
        tissue.cleft[place][near] = np.maximum(tissue.cleft[place][near], 0.8)
    return "bridge", "merged_away"


INJECTIONS: tuple[Callable[[Tissue, int], tuple[str, str] | None], ...] = (
    weak, faint, small, merged, cut_off, unlabelled, swapped, reversed_, other_type, forgotten, bridged,
)  # fmt: skip
PERIOD = len(INJECTIONS) + 1


def blob(tissue: Tissue) -> Injected | None:
    """Put evidence where no synapse is: inside a neuron, or on a membrane without vesicles beside it."""
    centres = np.stack([tissue.synapses[f"{axis}_nm"] for axis in "zyx"], axis=1)
    extent = np.array(tissue.neurons.shape) * SIZE
    for _ in range(400):
        at = tissue.random.uniform(2 * MARGIN_NM, extent - 2 * MARGIN_NM)
        place, near = tissue.near(at, 110.0)
        clear = tissue.near(at, 320.0)
        if cKDTree(centres).query(at)[0] < 560 or tissue.cleft[clear[0]][clear[1]].max() > 0:
            continue
        tissue.cleft[place][near] = tissue.random.uniform(0.72, 0.97)
        if len(np.unique(tissue.neurons[place][near])) > 1:
            around = tissue.near(at, 260.0)
            tissue.pre[around[0]][around[1]] = tissue.post[around[0]][around[1]] = 0.15
        return Injected("false detection", "false_detection", 0, tuple(float(v) for v in at))
    return None


def inject(tissue: Tissue) -> list[Injected]:
    """Put errors at two of three synapses, the kinds in turn; and false detections beside them."""
    centres = np.stack([tissue.synapses[f"{axis}_nm"] for axis in "zyx"], axis=1)
    extent = np.array(tissue.neurons.shape) * SIZE
    inside = np.flatnonzero(((centres > MARGIN_NM) & (centres < extent - MARGIN_NM)).all(axis=1))
    order = tissue.random.permutation(inside)
    done, used, kind = [], set(), int(tissue.random.integers(PERIOD))
    neighbours = cKDTree(centres)
    for row in order:
        if len(used) >= 2 * len(inside) // 3:
            break
        if int(row) in used:
            continue
        kind += 1
        if kind % PERIOD == len(INJECTIONS):
            found = blob(tissue)
            done += [found] if found else []
            continue
        action = INJECTIONS[kind % PERIOD]
        other = int(neighbours.query(centres[row], 2)[1][1])
        if action is bridged and (other in used or other not in inside):
            continue
        told = action(tissue, int(row))
        if told is None:
            continue
        used |= {int(row), other} if action is bridged else {int(row)}
        done.append(Injected(*told, int(tissue.synapses["id"][row]), tuple(centres[row])))
    return done


def as_bytes(evidence: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return probabilities as uint8, with the unevenness of a detector on them."""
    noise = ndimage.gaussian_filter(random.standard_normal(evidence.shape, np.float32), (0, 0, 1, 1)) * 0.08
    return np.round(np.clip(evidence + noise * (evidence > 0), 0, 1) * 255).astype(np.uint8)


def traced_errors(tissue: Tissue, folder: Path, block: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """Run the stages over the tissue and trace; return the table of errors."""
    folder.mkdir(parents=True)
    evidence = np.stack([tissue.cleft, tissue.pre, tissue.post, tissue.excitatory])
    for name, values in (
        ("evidence", as_bytes(evidence, tissue.random)),
        ("segments", tissue.segments),
        ("neurons", tissue.neurons),
    ):
        kind = {"kind": "probability"} if name == "evidence" else {"kind": "labels"}
        volume = _created(folder / f"{name}.zarr", values, kind)
        volume.write(Box.of_shape(values.shape[-3:]), values)
    kept = ~np.isin(tissue.synapses["id"], np.array(sorted(tissue.left_out), np.uint64))
    truth = {name: tissue.synapses[name][kept] for name in TRUTH_COLUMNS}
    write_table(folder / "truth.parquet", truth, TRUTH_COLUMNS)
    path = folder / "traced.yaml"
    path.write_text(FLOW.format(folder=folder, block=list(block)))
    run = run_workflow(load_workflow(path, Choices()), folder / "runs", "serial")
    wanted = Wanted(None, None, SEGMENT, 0, run.folder / "trace")
    return trace_run(run.folder, Given(), wanted).errors


def named(errors: dict[str, np.ndarray], injected: Injected) -> str:
    """Return the cause that was named for an injected error; empty where no error was found."""
    if injected.truth_id:
        rows = np.flatnonzero(errors["truth_id"] == np.uint64(injected.truth_id))
        if len(rows):
            return str(errors["cause"][rows[0]])
    false = np.flatnonzero((errors["kind"] == "false") | (errors["truth_id"] != np.uint64(injected.truth_id)))
    if injected.kind in ("false detection", "missing truth", "bridge") and len(false):
        at = np.stack([errors[f"{axis}_nm"][false] for axis in "zyx"], axis=1)
        away = np.linalg.norm(at - injected.at_nm, axis=1)
        limit = 800.0 if injected.kind == "bridge" else 300.0
        if away.min() <= limit:
            return str(errors["cause"][false[np.argmin(away)]])
    return ""


def confusion(count: int, shape: tuple[int, int, int], folder: Path, first: int = FIRST_SEED) -> Iterator[tuple]:
    """Yield (injected error, cause named) until so many were errors; at last (None, what else was found)."""
    made, seed, strays = 0, first, Counter()
    while made < count:
        tissue = make_tissue(seed, shape)
        injected = inject(tissue)
        errors = traced_errors(tissue, folder / str(seed), (45, 150, 150))
        explained = 0
        for one in injected:
            cause = named(errors, one)
            if cause:
                made += 1
                explained += 1
            yield one, cause
        strays["errors beyond those injected"] += max(0, int((errors["cause"] != "outside").sum()) - explained)
        seed += 1
    yield None, dict(strays)


def rows(errors: int = 500, shape: tuple[int, int, int] = (90, 300, 300)) -> list[tuple[str, str, str]]:
    """Return what, target, measured: one row for the table of all benchmarks."""
    with tempfile.TemporaryDirectory() as folder:
        pairs = [(one, cause) for one, cause in confusion(errors, shape, Path(folder)) if one is not None and cause]
    right = sum(one.cause == cause for one, cause in pairs)
    share = right / len(pairs)
    return [(f"tracing: {len(pairs)} injected errors given the right cause", ">= 95 %", f"{share:.1%}")]


def main() -> None:
    """Print the confusion matrix."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--errors", type=int, default=500)
    parser.add_argument("--shape", default="90,300,300")
    parser.add_argument("--seed", type=int, default=FIRST_SEED)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    z, y, x = (int(n) for n in options.shape.split(","))
    with tempfile.TemporaryDirectory() as scratch:
        found = list(confusion(options.errors, (z, y, x), options.folder or Path(scratch), options.seed))
    print_confusion(found)


def print_confusion(found: list[tuple]) -> None:
    """Print what was injected against what was named."""
    pairs = Counter((one.kind, one.cause, cause) for one, cause in found if one is not None and cause)
    silent = Counter(one.kind for one, cause in found if one is not None and not cause)
    for kind, wanted in sorted({(k, w) for k, w, _ in pairs}):
        told = {cause: n for (k, _, cause), n in pairs.items() if k == kind}
        right = told.get(wanted, 0)
        wrong = ", ".join(f"{cause} {n}" for cause, n in sorted(told.items()) if cause != wanted)
        none = f"; {silent[kind]} made no error" if silent[kind] else ""
        print(f"{kind:20} -> {wanted:18} {right:4} of {sum(told.values()):4}{'; ' + wrong if wrong else ''}{none}")
    right = sum(n for (_, wanted, cause), n in pairs.items() if wanted == cause)
    print(f"right cause: {right} of {sum(pairs.values())} = {right / max(1, sum(pairs.values())):.1%}; {found[-1][1]}")


def _created(path: Path, values: np.ndarray, extra: dict[str, str]):
    channels = values.shape[0] if values.ndim == 4 else None
    layout = {"shape_zyx": values.shape[-3:], "dtype": values.dtype, "voxel_size_nm": SIZE, "channels": channels}
    return create_volume(path, block_zyx=(45, 150, 150), **layout, **extra)


if __name__ == "__main__":
    main()
