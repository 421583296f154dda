"""One recurrent layer as an ONNX model, for the engines that read such models."""

from __future__ import annotations

import torch

from benchmarks.cases import Problem
from benchmarks.engines.base import library, reorder_gates

# Which of torch's gates stands where: LSTM i, f, g, o to ONNX' i, o, f, c; GRU r, z, n to z, r, h.
GATE_ORDER = {"RNN": (0,), "LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}


def onnx_model(problem: Problem) -> bytes:
    """The model, serialised: input X (T, B, I) to Y (T, B, H) and Y_h, float32.

    The layer's own output has an axis for directions, which Squeeze removes.
    """
    helper, numpy_helper = library("onnx.helper"), library("onnx.numpy_helper")
    real, shape = library("onnx").TensorProto.FLOAT, problem.case.shape
    order = GATE_ORDER[problem.case.cell]
    weights = {name: reorder_gates(value.float(), order) for name, value in problem.weights.items()}
    constants = {
        "W": weights["weight_ih_l0"][None],
        "R": weights["weight_hh_l0"][None],
        "bias": torch.cat([weights["bias_ih_l0"], weights["bias_hh_l0"]])[None],
        "direction": torch.tensor([1]),
    }
    # torch's GRU applies the reset gate after the matrix product.
    options = {"linear_before_reset": 1} if problem.case.cell == "GRU" else {}
    layer = helper.make_node(
        problem.case.cell, ["X", "W", "R", "bias"], ["Y4", "Y_h"], hidden_size=shape.H, **options
    )
    graph = helper.make_graph(
        [layer, helper.make_node("Squeeze", ["Y4", "direction"], ["Y"])],
        "layer",
        [helper.make_tensor_value_info("X", real, [shape.T, shape.B, shape.I])],
        [
            helper.make_tensor_value_info("Y", real, [shape.T, shape.B, shape.H]),
            helper.make_tensor_value_info("Y_h", real, [1, shape.B, shape.H]),
        ],
        [numpy_helper.from_array(value.numpy(), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    library("onnx.checker").check_model(model)
    serialised: bytes = model.SerializeToString()
    return serialised
