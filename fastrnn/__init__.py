"""Recurrent networks of PyTorch on fused kernels: same constructors, weights and numbers."""

from fastrnn._info import info
from fastrnn.cells import GRUCell, LSTMCell, RNNCell
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
    "explain",
    "info",
]

__version__ = "0.1.0"
