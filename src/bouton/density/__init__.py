"""Synapse density in space: counts in blocks, and tests of whether they are uniform."""
