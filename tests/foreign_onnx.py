"""A network that someone else could have made, as ONNX."""

from __future__ import annotations

import numpy as np


def foreign(op: str = "Sigmoid", channels: int = 1, dims: tuple = ("n", 1, "z", "y", "x"), **more: str) -> bytes:
    """A graph that someone else could have made: a mean over 3 x 3 x 3 voxels, then ``op``."""
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.full((channels, 1, 3, 3, 3), 1 / 27, np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["in", "w"], ["mean"], pads=[1] * 6),
        helper.make_node(op, ["mean"], ["out"], **more),
    ]
    into = helper.make_tensor_value_info("in", TensorProto.FLOAT, dims)
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [dims[0], channels, *dims[2:]])
    graph = helper.make_graph(nodes, "g", [into], [out], [weight])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("lab", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="lab").SerializeToString()
