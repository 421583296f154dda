"""ONNX Runtime: inference on a hand-built graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.cases import Problem
from benchmarks.engines.base import Engine, Workload, library
from benchmarks.engines.onnx_graph import onnx_model


class Inference(Workload):
    """One run of the session; it allocates its outputs, as a user's call does."""

    def __init__(self, session: Any, problem: Problem) -> None:
        self.run = session.run
        self.feed = {"X": problem.input.numpy()}

    def __call__(self) -> None:
        self.output, self.state = self.run(None, self.feed)

    def results(self) -> dict[str, Tensor]:
        return {"output": torch.from_numpy(self.output), "h_n": torch.from_numpy(self.state)}


class OnnxRuntime(Engine):
    """Its CPU provider has no bfloat16 layers."""

    packages = ("onnxruntime", "onnx")
    passes = ("inference",)
    dtypes = ("float32",)

    def start(self, threads: int) -> None:
        runtime = library("onnxruntime")
        self.session = runtime.InferenceSession
        self.options = runtime.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.options.inter_op_num_threads = 1
        # Its threads would keep spinning into the time of the next engine.
        self.options.add_session_config_entry("session.force_spinning_stop", "1")

    def make(self, problem: Problem) -> Workload:
        model = onnx_model(problem)
        return Inference(
            self.session(model, self.options, providers=["CPUExecutionProvider"]), problem
        )
