"""Procedural neuropil with exactly known answers: a pure function of a seed and coordinates."""

from bouton.phantom.generate import SYNAPSE_COLUMNS, PhantomBlock, generate, join_rows
from bouton.phantom.layers import GLIA, MYELIN, SOMA
from bouton.phantom.params import DEFECTS, UNSEEN_LOOKS, PhantomParams, TissueParams

__all__ = [
    "DEFECTS",
    "GLIA",
    "MYELIN",
    "SOMA",
    "SYNAPSE_COLUMNS",
    "UNSEEN_LOOKS",
    "PhantomBlock",
    "PhantomParams",
    "TissueParams",
    "generate",
    "join_rows",
]
