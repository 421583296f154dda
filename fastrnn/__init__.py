"""Recurrent networks of PyTorch on fused kernels: same constructors, weights and numbers."""

from fastrnn._info import info
from fastrnn.cells import GRUCell, LSTMCell, RNNCell
from fastrnn.convert import accelerate, restore
from fastrnn.explain import explain
from fastrnn.modules import GRU, LSTM, RNN

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
    "__version__",
    "accelerate",
    "explain",
    "info",
    "restore",
]

__version__ = "0.1.0"
