"""Rooms that may not import one another name the same columns and words of synapses."""

from bouton.evaluate import synapse_checks
from bouton.phantom.generate import SYNAPSE_COLUMNS as PHANTOM_COLUMNS
from bouton.phantom.synapses import TARGETS as PHANTOM_TARGETS
from bouton.volume.synapse_columns import SYNAPSE_COLUMNS, TARGETS, TYPES


def test_a_phantom_has_every_column_in_order():
    assert list(PHANTOM_COLUMNS.items()) == list(SYNAPSE_COLUMNS.items())


def test_words_are_the_same_everywhere():
    assert set(synapse_checks.TYPES) == set(TYPES)
    assert set(synapse_checks.TARGETS) == set(TARGETS) >= set(PHANTOM_TARGETS)
