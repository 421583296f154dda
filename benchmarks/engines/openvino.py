"""OpenVINO: inference on the same graph as ONNX Runtime."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.cases import Problem
from benchmarks.engines.base import Engine, Unavailable, Workload, library
from benchmarks.engines.onnx_graph import onnx_model

PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


class Inference(Workload):
    """One inference on tensors that stay bound."""

    def __init__(self, request: Any, input: Any) -> None:
        self.request = request
        request.set_input_tensor(input)

    def __call__(self) -> None:
        self.request.infer()

    def results(self) -> dict[str, Tensor]:
        output, state = (self.request.get_output_tensor(index).data for index in range(2))
        return {"output": torch.from_numpy(output.copy()), "h_n": torch.from_numpy(state.copy())}


class OpenVINO(Engine):
    """bfloat16 is a hint for its inside: input and output stay float32."""

    packages = ("openvino", "onnx")
    passes = ("inference",)

    def start(self, threads: int) -> None:
        self.openvino = library("openvino")
        self.core = self.openvino.Core()
        self.options = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }

    def make(self, problem: Problem) -> Workload:
        wanted = PRECISIONS[problem.case.dtype]
        if wanted == "bf16" and "BF16" not in self.core.get_property(
            "CPU", "OPTIMIZATION_CAPABILITIES"
        ):
            raise Unavailable("its CPU plugin has no bfloat16 on this processor")
        model = self.core.read_model(onnx_model(problem), b"")
        compiled = self.core.compile_model(
            model, "CPU", {**self.options, "INFERENCE_PRECISION_HINT": wanted}
        )
        input = self.openvino.Tensor(problem.input.float().numpy())
        return Inference(compiled.create_infer_request(), input)
