"""What viewers see of a run."""

from bouton.view.annotations import SynapseLines
from bouton.view.neuroglancer import Place, layer_url, neuroglancer_state
from bouton.view.precomputed import chunk_bytes, volume_info

__all__ = ["Place", "SynapseLines", "chunk_bytes", "layer_url", "neuroglancer_state", "volume_info"]
