"""How well a detector tells excitatory from inhibitory synapses, by labelled samples, and what it called so.

What people say of a labelled sample, in whole numbers, made into the samples of :mod:`bouton.density.correction`. A
true synapse that is found and gets no type is not found as far as types go; so it counts as missed, and the corrected
numbers hold where the detector leaves types open, if the labelled synapses tell how often.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np

from bouton.density.correction import ClassSamples, LabelledShare
from bouton.errors import SpecError

TYPES = ("excitatory", "inhibitory")
NOT_GIVEN = "not available: no labelled samples of excitatory and inhibitory synapses are given"


@dataclass(frozen=True)
class TypeSample:
    """What labelled samples say of one type.

    Attributes
    ----------
    called_excitatory, called_inhibitory : int
        Of labelled true synapses of this type: those that were found and called so.
    missed : int
        Of these, those that were not found.
    detections : int
        Labelled detections that were called this type, at least 1.
    no_synapse : int
        Of these, those that are no synapse at all.
    no_type : int
        Of labelled true synapses of this type: those that were found, but got no type.
    """

    called_excitatory: int
    called_inhibitory: int
    missed: int
    detections: int
    no_synapse: int
    no_type: int = 0

    # Read by what makes parameters of a workflow file: a misspelt key is refused.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    @property
    def typed(self) -> int:
        """Labelled true synapses that were found and got a type."""
        return self.called_excitatory + self.called_inhibitory

    @property
    def true(self) -> int:
        """Labelled true synapses."""
        return self.typed + self.no_type + self.missed


@dataclass(frozen=True)
class TypeSamples:
    """What labelled samples say of both types.

    Raises
    ------
    SpecError
        A number is negative, a sample is empty, or the detector does not tell the types apart.
    """

    excitatory: TypeSample
    inhibitory: TypeSample

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        for name, sample in zip(TYPES, self.both, strict=True):
            _check(name, sample)
        (ee, ie), (ei, ii) = ((s.called_excitatory, s.called_inhibitory) for s in self.both)
        if ee * ii <= ei * ie:
            raise SpecError(
                f"of true excitatory synapses {ee} called excitatory and {ie} inhibitory, of inhibitory ones {ei} and "
                f"{ii}: types are guessed",
                expected="a larger share of excitatory than of inhibitory synapses called excitatory",
                fix="look whether the two are exchanged",
            )

    @property
    def both(self) -> tuple[TypeSample, TypeSample]:
        """The two, excitatory first."""
        return self.excitatory, self.inhibitory

    @property
    def no_type(self) -> int:
        """Labelled true synapses that were found without a type."""
        return sum(sample.no_type for sample in self.both)

    @property
    def classes(self) -> ClassSamples:
        """The same for any number of classes."""
        return ClassSamples(
            [LabelledShare(sample.typed, sample.true) for sample in self.both],
            [LabelledShare(sample.no_synapse, sample.detections) for sample in self.both],
            np.stack([np.array([s.called_excitatory, s.called_inhibitory]) for s in self.both], axis=1),
        )


@dataclass(frozen=True)
class TypeCounts:
    """Counted synapses that are called excitatory, called inhibitory, and all with those of unknown type."""

    excitatory: int
    inhibitory: int
    synapses: int

    @property
    def called(self) -> np.ndarray:
        """Synapses of each type, int64 (2,)."""
        return np.array([self.excitatory, self.inhibitory], np.int64)

    @property
    def unknown(self) -> float:
        """Share of the synapses whose type is not known, 0 to 1; 0 of none."""
        return 1 - (self.excitatory + self.inhibitory) / self.synapses if self.synapses else 0.0


def unavailable(counts: TypeCounts, samples: TypeSamples | None) -> str:
    """Return why these numbers cannot be corrected; an empty text where they can."""
    if samples is None:
        return NOT_GIVEN
    if counts.unknown == 1:
        return "not available: the type of no synapse is known"
    if counts.unknown < 0:
        return "not available: more synapses have a type than were counted"
    if counts.unknown and not samples.no_type:
        return (
            f"not available: the type of {100 * counts.unknown:.1f} % of the synapses is not known, and no labelled "
            "synapse is no_type"
        )
    return ""


def _check(name: str, sample: TypeSample) -> None:
    for field in fields(sample):
        value = getattr(sample, field.name)
        if value < 0:
            raise SpecError(f"{name}: {field.name} = {value}", expected="at least 0")
    if not sample.typed:
        raise SpecError(
            f"{name}: no labelled true synapse was found and got a type", expected="at least 1", fix="label more"
        )
    if sample.detections <= sample.no_synapse:
        raise SpecError(
            f"{name}: no_synapse = {sample.no_synapse} of detections = {sample.detections}",
            expected="at least 1 detection, and not all of them wrong",
            fix="label more detections",
        )
