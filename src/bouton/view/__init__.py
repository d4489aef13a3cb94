"""What viewers see of a run."""

from bouton.view.annotations import SynapseLines
from bouton.view.neuroglancer import MappedLayer, Place, layer_url, neuroglancer_state
from bouton.view.precomputed import chunk_bytes, volume_info

__all__ = ["MappedLayer", "Place", "SynapseLines", "chunk_bytes", "layer_url", "neuroglancer_state", "volume_info"]
