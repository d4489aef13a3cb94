"""Which steps of a run made its synapses, found by following what reads what, and their layers open for reading."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bouton.errors import DataError, SpecError
from bouton.geometry import NM, Box
from bouton.segment.components import relabel
from bouton.segment.history import cut
from bouton.volume import TableData, Volume, check_volume, open_volume, read_table
from bouton.volume.run_folder import Run, RunStep
from bouton.volume.run_layers import RunLayer, read_layer, run_layers
from bouton.volume.synapse_columns import CENTRE_COLUMNS, POST_COLUMNS, PRE_COLUMNS
from bouton.volume.synapse_tables import read_synapses

TRUTH_COLUMNS = ("id", *CENTRE_COLUMNS, "pre_id", "post_id", "type")
SYNAPSE_COLUMNS = (*TRUTH_COLUMNS, *PRE_COLUMNS, *POST_COLUMNS)
INTEGERS = ("uint64", "uint32", "uint16", "uint8", "int64", "int32", "int16")


@dataclass(frozen=True)
class Given:
    """What the command line gives in place of what the run's evaluation read, and which evaluation is meant."""

    step: str | None = None
    truth_synapses: Path | None = None
    truth: Path | None = None
    truth_dataset: str | None = None
    second_annotator: Path | None = None


class Source:
    """One layer: what holds it, which layer of the run it is (None for a file of its own), where it has voxels.

    With ``mapping`` (ids, roots) what is read is relabelled.
    """

    def __init__(
        self,
        volume: Volume,
        layer: RunLayer | None,
        bounds: Box,
        mapping: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        self.volume, self.layer, self.bounds, self.mapping = volume, layer, bounds, mapping
        self.shape, self.dtype = volume.shape, np.dtype(volume.dtype)

    def read(self, box: Box) -> np.ndarray:
        """Return the voxels of ``box``, (z, y, x): labels as uint64; of several channels the first."""
        values = self.volume.read(box) if self.layer is None else read_layer(self.volume, self.layer, box)
        values = values[0] if values.ndim == 4 else values
        return values if self.mapping is None else relabel(values.astype(np.uint64, copy=False), *self.mapping)


@dataclass(frozen=True)
class Traced:
    """All that the tracing reads of a run.

    Attributes
    ----------
    run : Run
    synapses, truth : TableData
    second : TableData or None
        The second annotator's synapses.
    sources : mapping of str -> Source
        ``image``, ``evidence``, ``clefts``, ``segments``, ``fragments``, ``truth``: those there are.
    tables : mapping of str -> TableData
        ``candidates``, ``merged_synapses``, ``merges``, ``region_graph``: those there are.
    steps : mapping of str -> RunStep
        By stage: ``clefts``, ``synapses``, ``evaluate_synapses``: those there are.
    bounds : Box
        What is scored.
    threshold : float
        Of the agglomeration; NaN without one.
    missing : list of str
        What could not be asked, in words.
    """

    run: Run
    synapses: TableData
    truth: TableData
    second: TableData | None
    sources: Mapping[str, Source]
    tables: Mapping[str, TableData]
    steps: Mapping[str, RunStep]
    bounds: Box
    threshold: float
    missing: list[str] = field(default_factory=list)

    @property
    def voxel_size_nm(self) -> NM:
        """Of the run, z, y, x."""
        return self.run.voxel_size_nm

    def param(self, stage: str, name: str, otherwise: Any) -> Any:
        """Return a parameter of the step of that stage."""
        step = self.steps.get(stage)
        return otherwise if step is None else step.params.get(name, otherwise)


_LOST = {
    "evidence": "no layer synapse_evidence: whether the detector saw a synapse is told by the clefts alone",
    "clefts": "no layer clefts: places are compared by the positions of synapses alone",
    "segments": "no segmentation: whether the neurons meet there was not asked",
    "truth": "no volume of true neurons: segments are taken for true neurons",
    "candidates": "no table of removed candidates: which rule removed a cleft is not known",
    "merges": "no agglomeration: which edge to cut or to join is not known",
}


def read_run(run: Run, given: Given) -> Traced:
    """Find and open what the tracing needs.

    Raises
    ------
    SpecError, DataError
        There is no truth, no table of synapses, or they do not fit the run.
    """
    scored = _scoring_step(run, given)
    reads = {} if scored is None else dict(scored.reads)
    ref = reads.get("synapses") or _last_synapses(run)
    above = list(_upstream(run, ref))
    truth = _truth_table(run, given, reads)
    synapses = _checked(run.table(ref), SYNAPSE_COLUMNS, ref)
    beside = next((s for s in above if {"clefts", "segmentation"} <= set(s.reads)), None)
    steps = {stage: found for stage in ("clefts", "synapses") if (found := _of_stage(above, stage))}
    if scored is not None:
        steps["evaluate_synapses"] = scored
    tables, threshold = _tables(run, steps, above)
    sources = _sources(run, above, beside, _mapping(tables, threshold))
    bounds = Box.parse((scored or run.steps[ref.partition(".")[0]]).bounds_zyx)
    neurons = _truth_volume(run, given, reads, bounds)
    if neurons is not None:
        sources["truth"] = neurons
    second = _checked(_file(given.second_annotator, run), TRUTH_COLUMNS, "--second-annotator") if (
        given.second_annotator
    ) else None  # fmt: skip
    missing = [text for name, text in _LOST.items() if name not in sources and name not in tables]
    return Traced(run, synapses, truth, second, sources, tables, steps, bounds, threshold, missing)


def _scoring_step(run: Run, given: Given) -> RunStep | None:
    found = [s for s in run.steps.values() if s.stage == "evaluate_synapses" and s.state == "done"]
    if given.step:
        named = [s for s in found if s.name == given.step]
        if not named:
            names = ", ".join(s.name for s in found) or "none"
            raise SpecError(f"no finished step {given.step!r} of stage evaluate_synapses", expected=f"one of {names}")
        return named[0]
    if not found and given.truth_synapses is None:
        waiting = [s for s in run.steps.values() if s.stage == "evaluate_synapses"]
        if waiting:
            names = ", ".join(f"{s.name} ({s.state})" for s in waiting)
            raise SpecError(
                f"the step that compares synapses with the truth is not done: {names}", where=run.name,
                expected="a finished step of stage evaluate_synapses",
                fix="bouton status RUN says why; run the workflow again to finish it, or give --truth-synapses FILE",
            )  # fmt: skip
        raise SpecError(
            "the run compares its synapses with no truth", where=run.name,
            expected="a finished step of stage evaluate_synapses, or true synapses",
            fix="--truth-synapses FILE --truth VOLUME",
        )  # fmt: skip
    return found[-1] if found else None


def _last_synapses(run: Run) -> str:
    for step in reversed(list(run.steps.values())):
        if step.stage in ("synapses", "synapse_types") and step.state == "done" and "synapses" in step.outputs:
            return f"{step.name}.synapses"
    raise SpecError("no finished table of synapses", where=run.name, fix="bouton run the workflow to its end")


def _upstream(run: Run, ref: str) -> Iterator[RunStep]:
    """Yield the step of a reference and all that it is made from, the nearest first."""
    waiting, seen = [ref], set()
    while waiting:
        name = waiting.pop(0).partition(".")[0]
        if name in seen or name not in run.steps:
            continue
        seen.add(name)
        yield run.steps[name]
        waiting += run.steps[name].reads.values()


def _of_stage(steps: list[RunStep], stage: str) -> RunStep | None:
    return next((step for step in steps if step.stage == stage), None)


def _cutting(steps: list[RunStep]) -> RunStep | None:
    """Return the nearest step that cuts an agglomeration at a threshold."""
    return next((step for step in steps if "merges" in step.reads and "threshold" in step.params), None)


def _tables(run: Run, steps: Mapping[str, RunStep], above: list[RunStep]) -> tuple[dict[str, TableData], float]:
    refs = {}
    for stage, output in (("clefts", "candidates"), ("synapses", "merged_synapses")):
        if stage in steps and output in steps[stage].outputs:
            refs[output] = f"{steps[stage].name}.{output}"
    cutting = _cutting(above)
    if cutting is not None:
        refs["merges"] = cutting.reads["merges"]
        maker = run.steps.get(refs["merges"].partition(".")[0])
        if maker is not None and "region_graph" in maker.outputs:
            refs["region_graph"] = f"{maker.name}.region_graph"
    threshold = float(cutting.params["threshold"]) if cutting else float("nan")
    return {name: run.table(ref) for name, ref in refs.items()}, threshold


def _mapping(tables: Mapping[str, TableData], threshold: float) -> tuple[np.ndarray, np.ndarray] | None:
    return cut(tables["merges"], threshold) if "merges" in tables else None


def _sources(
    run: Run, above: list[RunStep], beside: RunStep | None, mapping: tuple[np.ndarray, np.ndarray] | None
) -> dict[str, Source]:
    """Return the layers beside which synapses were found; with an agglomeration, segments are mapped fragments."""
    layers = {layer.ref: layer for layer in run_layers(run)}
    refs: dict[str, str] = {}
    reading = next((s for s in above if "synapse_evidence" in s.reads), None)
    if reading is not None:
        refs["evidence"] = reading.reads["synapse_evidence"]
    clefts = _of_stage(above, "clefts")
    if clefts is not None:
        refs["evidence"] = clefts.reads["synapse_evidence"]
    if beside is not None:
        refs |= {"clefts": beside.reads["clefts"], "segments": beside.reads["segmentation"]}
    found = {name: _source(run, layers, ref) for name, ref in refs.items()}
    image = next((layer for layer in layers.values() if layer.kind == "image"), None)
    if image is not None:
        found["image"] = _source(run, layers, image.ref)
    return _with_fragments({n: s for n, s in found.items() if s is not None}, run, layers, above, mapping)


def _with_fragments(
    found: dict[str, Source],
    run: Run,
    layers: Mapping[str, RunLayer],
    above: list[RunStep],
    mapping: tuple[np.ndarray, np.ndarray] | None,
) -> dict[str, Source]:
    cutting = _cutting(above)
    if mapping is None or cutting is None or "segments" not in found:
        return found
    fragments = _source(run, layers, cutting.reads["fragments"]) if "fragments" in cutting.reads else found["segments"]
    if fragments is None:
        return found
    if "fragments" not in cutting.reads:
        # synapses are assigned to fragments, and merged in the table alone
        found["segments"] = Source(fragments.volume, fragments.layer, fragments.bounds, mapping)
    return found | {"fragments": fragments}


def _source(run: Run, layers: Mapping[str, RunLayer], ref: str) -> Source | None:
    full = ref
    if not ref.startswith("data:") and "." not in ref and ref in run.steps:
        full = f"{ref}.{next(iter(run.steps[ref].outputs), '')}"
    layer = layers.get(full)
    return None if layer is None else Source(run.volume(full), layer, layer.bounds)


def _truth_table(run: Run, given: Given, reads: Mapping[str, str]) -> TableData:
    if given.truth_synapses is not None:
        table = _checked(_file(given.truth_synapses, run), TRUTH_COLUMNS, str(given.truth_synapses))
        if not len(table["id"]):
            raise DataError(
                "no true synapse in the table", where=str(given.truth_synapses), expected="at least one",
                fix="give the table of true synapses; without any, every found one would count as false",
            )  # fmt: skip
        return table
    return _checked(run.table(reads["truth_synapses"]), TRUTH_COLUMNS, reads["truth_synapses"])


def _file(path: Path, run: Run) -> TableData:
    """Return a table of synapses: Parquet as it is, any other kind of file through :func:`read_synapses`."""
    return read_table(path) if path.suffix == ".parquet" else read_synapses(path, run.voxel_size_nm)


def _truth_volume(run: Run, given: Given, reads: Mapping[str, str], bounds: Box) -> Source | None:
    if given.truth is None:
        layers = {layer.ref: layer for layer in run_layers(run)}
        return _source(run, layers, reads["truth"]) if "truth" in reads else None
    volume = open_volume(given.truth, given.truth_dataset)
    check_volume(volume, dtypes=INTEGERS, channels=None, role="truth")
    if volume.voxel_size_nm is not None and not np.allclose(volume.voxel_size_nm, run.voxel_size_nm, rtol=1e-3):
        raise DataError(
            f"truth with voxels of {volume.voxel_size_nm} nm", where=str(given.truth),
            expected=f"{run.voxel_size_nm} nm (z, y, x), as the run", fix="bring it to the run's grid",
        )  # fmt: skip
    if not volume.box.contains(bounds):
        raise DataError(
            f"truth covers {volume.box}", where=str(given.truth), expected=f"all that is scored, {bounds}",
            fix="give a truth on the run's grid",
        )  # fmt: skip
    return Source(volume, None, volume.box)


def _checked(table: TableData, columns: tuple[str, ...], where: str) -> TableData:
    lost = [name for name in columns if name not in table]
    if lost:
        raise DataError(f"no column {', '.join(lost)}", where=where, expected=", ".join(columns))
    if len(np.unique(table["id"])) != len(table["id"]):
        raise DataError("ids that occur twice", where=where, expected="one row an id")
    return table
