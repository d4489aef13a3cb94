"""Procedural neuropil with exactly known answers: a pure function of a seed and coordinates."""

from bouton.phantom.generate import SYNAPSE_COLUMNS, PhantomBlock, generate, join_rows
from bouton.phantom.params import DEFECTS, PhantomParams, TissueParams

__all__ = ["DEFECTS", "SYNAPSE_COLUMNS", "PhantomBlock", "PhantomParams", "TissueParams", "generate", "join_rows"]
