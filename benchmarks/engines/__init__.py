"""The programs that are timed, one a file. None is imported before it is asked for."""

from __future__ import annotations

import importlib

from benchmarks.engines.base import Engine, Unavailable, Workload

__all__ = ["ENGINES", "FASTRNN", "TORCH", "Engine", "Unavailable", "Workload", "engine"]

TORCH = "torch.nn"
FASTRNN = "fastrnn"

# Name in the report -> class. In this order they are started: oneDNN finds no device once
# OpenVINO has loaded its own copy of the threading library.
ENGINES = {
    TORCH: "torch_nn.TorchNN",
    FASTRNN: "torch_nn.FastRNN",
    "torch.compile": "torch_compile.TorchCompile",
    "oneDNN": "onednn.OneDNN",
    "ONNX Runtime": "onnx_runtime.OnnxRuntime",
    "OpenVINO": "openvino.OpenVINO",
    "JAX scan": "jax_scan.JaxScan",
    "Keras JAX": "keras_jax.KerasJax",
}


def engine(name: str) -> Engine:
    """The engine of that name in the report; only `start` imports what it runs."""
    module, kind = ENGINES[name].split(".")
    made: Engine = getattr(importlib.import_module(f"{__name__}.{module}"), kind)()
    return made
