"""`RNNCell`, `LSTMCell` and `GRUCell`: one time step, on the kernels of the sequence modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fastrnn import dispatch, ops, reference
from fastrnn._stock import StandIn

__all__ = ["GRUCell", "LSTMCell", "RNNCell"]

_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")

_RNN_MODES = {"tanh": "RNN_TANH", "relu": "RNN_RELU"}

# Where torch's matrix products outweigh what one op saves. Measured on one Zen 3 core, float32.
_FEW_ROWS = 8
_TRAINED_WORK = 1 << 25
_ELMAN_UNITS = 256


def forward(
    cell: nn.RNNCellBase, input: Any, hx: Any, *, kind: str, stock: Callable[..., Any]
) -> Any:
    """What `cell(input, hx)` returns, for a cell of fastrnn or of torch.

    The kernels run what they know and do faster, and the reference runs under function transforms,
    of which torch's own cells know little. Everything else is torch's, and so is what has to be
    refused. Compilers get torch's cells too, whose ordinary functions they fuse.

    Args:
        cell: whose weights count.
        input: `(B, I)` or `(I,)`.
        hx: the state or states, or None.
        kind: "RNN", "LSTM" or "GRU".
        stock: torch's own forward of that kind.
    """
    # First, because the questions below cost as much as so small a cell.
    if kind == "RNN" and not _elman_pays(cell.hidden_size) and not ops.is_transformed():
        return stock(cell, input, hx)
    mode = mode_of(cell, kind)
    weights = weights_of(cell)
    states = states_of(cell, kind, input, hx)
    if mode is None or states is None or not takes(mode, input, states, weights):
        return stock(cell, input, hx)
    is_batched = input.dim() == 2
    if not is_batched:
        input = input.unsqueeze(0)
        states = tuple(state.unsqueeze(0) for state in states)
    h, c = step(mode, input, states[0], states[1] if kind == "LSTM" else None, weights)
    if not is_batched:
        h, c = h.squeeze(0), None if c is None else c.squeeze(0)
    return h if c is None else (h, c)


def step(
    mode: str, input: Tensor, hx: Tensor, cx: Tensor | None, weights: list[Any]
) -> tuple[Tensor, Tensor | None]:
    """One time step: as `fastrnn.ops.layer`, with less Python where no gradient is wanted.

    Args:
        mode: one of `fastrnn.reference.MODES`.
        input: `(B, I)`.
        hx: hidden state, `(B, H)`.
        cx: cell state, `(B, H)`; None unless the mode is "LSTM".
        weights: the four of `fastrnn.ops.layer`.

    Returns:
        The next states, `(B, H)` each; the second is None unless the mode is "LSTM".
    """
    input = input.unsqueeze(0)
    if torch.is_grad_enabled() or ops.is_transformed():
        weight_ih, weight_hh, bias_ih, bias_hh = weights
        _, h, c = ops.layer(mode, input, hx, cx, weight_ih, weight_hh, bias_ih, bias_hh, False)
        return h, c
    code = reference.MODES.index(mode)
    _, h, c, _ = torch.ops.fastrnn._layer_forward.default(
        input, hx, cx, *weights, code, False, False
    )
    return h, None if cx is None else c


def mode_of(cell: nn.RNNCellBase, kind: str) -> str | None:
    """The name of the cell in `fastrnn.reference.MODES`; None for a nonlinearity torch refuses."""
    return _RNN_MODES.get(cell.__dict__["nonlinearity"]) if kind == "RNN" else kind


def weights_of(cell: nn.RNNCellBase) -> list[Any]:
    """The weights of this call, as torch's forward reads them, but faster."""
    parameters = cell._parameters
    try:
        return [parameters[name] for name in _WEIGHTS]
    except KeyError:  # parametrized, pruned, or a replica of DataParallel
        return [getattr(cell, name) for name in _WEIGHTS]


def takes(mode: str, input: Tensor, states: tuple[Any, ...], weights: list[Any]) -> bool:
    """Whether a call is for the kernels; torch's own code runs, or refuses, all others."""
    if torch._C._is_any_autocast_enabled() or torch.compiler.is_compiling() or dispatch.is_traced():
        return False
    weight_ih, weight_hh, bias_ih, bias_hh = weights
    shape, hidden = input.shape, weight_hh.shape[1]
    if len(shape) not in (1, 2) or shape[-1] != weight_ih.shape[1] or 0 in weight_ih.shape:
        return False
    wanted = (hidden,) if len(shape) == 1 else (shape[0], hidden)
    for state in states:
        if not isinstance(state, Tensor) or state.shape != wanted:
            return False
    if bias_ih is None or bias_hh is None:
        if bias_ih is not bias_hh:
            return False
        weights = weights[:2]
    return ops.is_transformed() or (
        input.is_cpu  # on CUDA torch has fused cells itself
        and ops.has_kernel(input, *states, *weights)
        and pays(mode, 1 if len(shape) == 1 else shape[0], weight_ih, weight_hh)
    )


def pays(mode: str, rows: int, weight_ih: Tensor, weight_hh: Tensor) -> bool:
    """Whether the kernel is the faster way for a single step of so many rows.

    It saves torch's many small ops, of which an Elman cell has few.
    """
    if mode not in ("LSTM", "GRU"):
        return _elman_pays(weight_hh.shape[1]) and rows <= _FEW_ROWS
    if not torch.is_grad_enabled():
        return True
    return rows * (weight_ih.numel() + weight_hh.numel()) <= _TRAINED_WORK


def _elman_pays(hidden: int) -> bool:
    return hidden >= _ELMAN_UNITS and not torch.is_grad_enabled()


def states_of(cell: nn.RNNCellBase, kind: str, input: Any, hx: Any) -> tuple[Any, ...] | None:
    """The states in `hx`, zeros for None; None where the call has not the form of the cell."""
    if not isinstance(input, Tensor):
        return None
    if hx is None:
        zeros = input.new_zeros(*input.shape[:-1], cell.hidden_size)
        return (zeros, zeros) if kind == "LSTM" else (zeros,)
    return dispatch.states_in(hx, kind)


class _Cell(StandIn, nn.RNNCellBase):
    """What the three cells share.

    Subclasses of `RNNCellBase`, as the modules for sequences are of `RNNBase`.
    """

    # The cell of torch.nn that this one stands in for.
    _stock: ClassVar[type[nn.RNNCellBase]]

    _kind: ClassVar[str]

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Runs one time step; shapes are in the documentation of the class.

        Args:
            input: a tensor.
            hx: the state or states; zeros when None.

        Returns:
            The next state or states, in the form of `hx`.

        Raises:
            ValueError: the input or a state has a number of dimensions that does not fit.
            RuntimeError: a size or a dtype does not fit. Types and texts of both errors are those
                of `torch.nn`.
        """
        return forward(self, input, hx, kind=self._kind, stock=self._stock.forward)


class RNNCell(_Cell):
    r"""One step of an Elman network, as `torch.nn.RNNCell`.

    .. math:: h' = \tanh(W_{ih} x + b_{ih} + W_{hh} h + b_{hh})

    or the same with ReLU. Parameters, their names and first values, `state_dict`, results and
    errors are those of `torch.nn.RNNCell`.

    The kernels run float32, float64, bfloat16 and float16 on the CPU. Torch's own code runs all
    else: other devices, autocast, traces, gradients, few units or more than a few rows, and
    everything where the kernels are not built.

    Args:
        input_size: features `I` of the input.
        hidden_size: features `H` of the state.
        bias: whether there are `bias_ih` and `bias_hh`. Default: True.
        nonlinearity: "tanh" or "relu". Default: "tanh".
        device: where the parameters live. Default: torch's.
        dtype: of the parameters. Default: torch's.

    Inputs:
        - input: `(B, I)` or `(I,)`.
        - hx: `(B, H)`, or `(H,)` where input is `(I,)`. Default: zeros.

    Outputs:
        - the next state, shaped as hx.

    Raises:
        RuntimeError: in a call, where `nonlinearity` is unknown.

    Example:
        >>> cell, h = RNNCell(10, 20), torch.zeros(3, 20)
        >>> for x in torch.randn(6, 3, 10):
        ...     h = cell(x, h)
        >>> h.shape
        torch.Size([3, 20])
    """

    _stock = nn.RNNCell
    _kind = "RNN"
    __constants__ = nn.RNNCell.__constants__

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, num_chunks=1, device=device, dtype=dtype)
        self.nonlinearity = nonlinearity


class LSTMCell(_Cell):
    r"""One step of a long short-term memory, as `torch.nn.LSTMCell`.

    .. math::
        i &= \sigma(W_{ii} x + b_{ii} + W_{hi} h + b_{hi}) \\
        f &= \sigma(W_{if} x + b_{if} + W_{hf} h + b_{hf}) \\
        g &= \tanh(W_{ig} x + b_{ig} + W_{hg} h + b_{hg}) \\
        o &= \sigma(W_{io} x + b_{io} + W_{ho} h + b_{ho}) \\
        c' &= f \odot c + i \odot g \\
        h' &= o \odot \tanh(c')

    Parameters, their names and first values, `state_dict`, results and errors are those of
    `torch.nn.LSTMCell`.

    The kernels run float32, float64, bfloat16 and float16 on the CPU. Torch's own code runs all
    else: other devices, autocast, traces, gradients of many rows of large weights, and everything
    where the kernels are not built.

    Args:
        input_size: features `I` of the input.
        hidden_size: features `H` of the states.
        bias: whether there are `bias_ih` and `bias_hh`. Default: True.
        device: where the parameters live. Default: torch's.
        dtype: of the parameters. Default: torch's.

    Inputs:
        - input: `(B, I)` or `(I,)`.
        - hx: a pair (h, c), each `(B, H)`, or `(H,)` where input is `(I,)`. Default: zeros.

    Outputs:
        - the next pair of states, shaped as in hx.

    Example:
        >>> cell = LSTMCell(10, 20)
        >>> h, c = cell(torch.randn(3, 10))
        >>> h, c = cell(torch.randn(3, 10), (h, c))
        >>> h.shape, c.shape
        (torch.Size([3, 20]), torch.Size([3, 20]))
    """

    _stock = nn.LSTMCell
    _kind = "LSTM"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, num_chunks=4, device=device, dtype=dtype)


class GRUCell(_Cell):
    r"""One step of a gated recurrent unit, as `torch.nn.GRUCell`.

    .. math::
        r &= \sigma(W_{ir} x + b_{ir} + W_{hr} h + b_{hr}) \\
        z &= \sigma(W_{iz} x + b_{iz} + W_{hz} h + b_{hz}) \\
        n &= \tanh(W_{in} x + b_{in} + r \odot (W_{hn} h + b_{hn})) \\
        h' &= (1 - z) \odot n + z \odot h

    Parameters, their names and first values, `state_dict`, results and errors are those of
    `torch.nn.GRUCell`.

    The kernels run float32, float64, bfloat16 and float16 on the CPU. Torch's own code runs all
    else: other devices, autocast, traces, gradients of many rows of large weights, and everything
    where the kernels are not built.

    Args:
        input_size: features `I` of the input.
        hidden_size: features `H` of the state.
        bias: whether there are `bias_ih` and `bias_hh`. Default: True.
        device: where the parameters live. Default: torch's.
        dtype: of the parameters. Default: torch's.

    Inputs:
        - input: `(B, I)` or `(I,)`.
        - hx: `(B, H)`, or `(H,)` where input is `(I,)`. Default: zeros.

    Outputs:
        - the next state, shaped as hx.

    Example:
        >>> cell, h = GRUCell(10, 20), None
        >>> for x in torch.randn(6, 3, 10):
        ...     h = cell(x, h)
        >>> h.shape
        torch.Size([3, 20])
    """

    _stock = nn.GRUCell
    _kind = "GRU"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, num_chunks=3, device=device, dtype=dtype)
