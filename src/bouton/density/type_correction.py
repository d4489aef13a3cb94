"""Densities of excitatory and inhibitory synapses corrected for what a detector misses, invents and mixes up."""

from __future__ import annotations

from dataclasses import replace

from bouton.density.blocks import DensityBlocks
from bouton.density.correction import class_matrix, corrected_classes, corrected_share
from bouton.density.dispersion import missing
from bouton.density.finding import Finding
from bouton.density.type_samples import TYPES, TypeCounts, TypeSamples, unavailable

SHARE = "excitatory share, corrected"
CONTRADICTED = (
    "not available: fewer are called {} than synapses of the other type alone make, by the labelled samples: they "
    "are of another detector or tissue"
)


def type_findings(blocks: DensityBlocks, counts: TypeCounts, samples: TypeSamples | None) -> list[Finding]:
    """Return the corrected density of each type, um-3, and the corrected share of excitatory synapses."""
    asked = [
        Finding(
            f"corrected density, {name}",
            f"How dense are true {name} synapses, given what the detector misses, invents and mixes up?",
            "density, um-3",
        )
        for name in TYPES
    ]
    asked.append(Finding(SHARE, "Which share of true synapses is excitatory?", "excitatory over both types"))
    note = missing(blocks) or unavailable(counts, samples)
    if note or samples is None:
        return [replace(each, n=len(blocks), note=note) for each in asked]
    numbers = corrected_classes(counts.called, samples.classes)
    for name, high in zip(TYPES, numbers[:, 2], strict=True):
        if high == 0:
            return [replace(each, n=len(blocks), note=CONTRADICTED.format(name)) for each in asked]
    note = _told(counts, samples)
    found = [*(numbers / float(blocks.exposure_um3.sum())), corrected_share(counts.called, samples.classes)]
    return [
        replace(each, value=float(value), low=float(low), high=float(high), n=len(blocks), note=note)
        for each, (value, low, high) in zip(asked, found, strict=True)
    ]


def _told(counts: TypeCounts, samples: TypeSamples) -> str:
    e, i = samples.both
    note = (
        f"detected {counts.excitatory:,} excitatory and {counts.inhibitory:,} inhibitory, labelled "
        f"{e.true} and {i.true} true, {e.detections} and {i.detections} detected; takes rates as the same everywhere"
    )
    if counts.unknown:
        note += f"; {100 * counts.unknown:.1f} % of no type: taken as missed, as in the labelled samples"
    true = class_matrix(samples.classes) @ counts.called
    if (true < 0).any():
        note += f"; {TYPES[int(true.argmin())]}: no more than synapses of the other type taken for it, so 0"
    return note
