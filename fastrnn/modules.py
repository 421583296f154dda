"""`RNN`, `LSTM` and `GRU`: the modules of `torch.nn` of the same names, on fused kernels."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from fastrnn import ops

__all__ = ["GRU", "LSTM", "RNN"]


class _Recurrent(nn.RNNBase):
    """What the three modules share.

    A subclass of `RNNBase`, not of `torch.nn.LSTM` and so on, because `torch.compile` refuses
    instances of those in a full graph.
    """

    # Runs one layer in one direction. A subclass may put `fastrnn.reference.layer` here.
    _layer = staticmethod(ops.layer)

    # The module of torch.nn that this one stands in for.
    _stock: ClassVar[type[nn.RNNBase]]

    # Tensors of state that a layer carries from step to step.
    _state_count: ClassVar[int] = 1

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Runs the module over a sequence; shapes are in the documentation of the class.

        Args:
            input: a tensor, or a `torch.nn.utils.rnn.PackedSequence`. Packed sequences run
                through torch's own code: correct, and not accelerated.
            hx: the first state or states; zeros when None.

        Returns:
            The output, and the last state or states in the form of `hx`.

        Raises:
            ValueError: the input has a number of dimensions or a dtype that does not fit.
            RuntimeError: a size does not fit, or the sequence is empty. Types and texts of both
                errors are those of `torch.nn`.
        """
        # Skips torch's check where it would find nothing, because it is slow. Parametrized,
        # swapped or deleted weights are not in _parameters as they are in _flat_weights.
        parameters = self._parameters
        for name, weight in zip(self._flat_weights_names, self._flat_weights, strict=True):
            if parameters.get(name) is not weight:
                self._update_flat_weights()
                break
        states = () if hx is None else self._states(hx)
        weights: list[Any] = self._flat_weights
        if states is not None and self._runs_at_once(input, states, weights):
            output, h_n, c_n = ops.inference(
                self.mode,
                input,
                states,
                weights,
                num_layers=self.num_layers,
                bidirectional=self.bidirectional,
                batch_first=self.batch_first,
            )
            return output, self._hidden((h_n,) if c_n is None else (h_n, c_n))
        if states is None or not self._takes(input, states):
            return self._stock.forward(self, input, hx)

        is_batched = input.dim() == 3
        if not is_batched:
            input = input.unsqueeze(0 if self.batch_first else 1)
            states = tuple(state.unsqueeze(1) for state in states)
        if states:
            self.check_forward_args(input, self._hidden(states), None)
        else:
            self.check_input(input, None)
        if self.batch_first:
            input = input.transpose(0, 1)

        output, states = self._run_layers(input, states)

        if not is_batched:
            return output.squeeze(1), self._hidden(tuple(state.squeeze(1) for state in states))
        return output.transpose(0, 1) if self.batch_first else output, self._hidden(states)

    def _run_layers(
        self, input: Tensor, states: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """From `input (T, B, I)` to `output (T, B, D*H)`.

        The states are `(num_layers * D, B, H)`; zeros where none are given.
        """
        directions = 2 if self.bidirectional else 1
        count = self.num_layers * directions
        if states:
            firsts = list(zip(*(state.unbind(0) for state in states), strict=True))
        else:
            # A tensor for each state: torch.compile wants the arguments of a layer distinct.
            zeros = (
                input.new_zeros(input.size(1), self.hidden_size) for _ in range(self._state_count)
            )
            firsts = [tuple(zeros)] * count
        weights: list[Any] = self._flat_weights
        per_layer = len(weights) // count
        finals: list[tuple[Any, ...]] = []
        for layer in range(self.num_layers):
            outputs = []
            for direction in range(directions):
                k = layer * directions + direction
                weight_ih, weight_hh, *biases = weights[k * per_layer : (k + 1) * per_layer]
                bias_ih, bias_hh = biases or (None, None)
                hx, *cx = firsts[k]
                output, h_n, c_n = self._layer(
                    self.mode,
                    input,
                    hx,
                    cx[0] if cx else None,
                    weight_ih,
                    weight_hh,
                    bias_ih,
                    bias_hh,
                    direction == 1,
                )
                outputs.append(output)
                finals.append((h_n, c_n) if cx else (h_n,))
            input = outputs[0] if directions == 1 else torch.cat(outputs, -1)
            if self.dropout and self.training and layer < self.num_layers - 1:
                input = dropout(input, self.dropout)
        if count == 1:  # a view costs autograd less than a stack of one
            return input, tuple(state.unsqueeze(0) for state in finals[0])
        return input, tuple(torch.stack(state) for state in zip(*finals, strict=True))

    def _runs_at_once(self, input: Any, states: tuple[Any, ...], weights: list[Any]) -> bool:
        """Whether one op can do the whole call: no gradients, no dropout, and nothing to refuse.

        Written for speed: this is the path of small models that are called step by step.
        """
        if torch.is_grad_enabled() or not isinstance(input, Tensor) or input.dim() != 3:
            return False
        shape = input.shape
        steps, batch = (shape[1], shape[0]) if self.batch_first else (shape[0], shape[1])
        if steps == 0 or shape[2] != self.input_size or (self.training and self.dropout):
            return False
        if states:
            layers = self.num_layers * (2 if self.bidirectional else 1)
            wanted = (layers, batch, self.hidden_size)
            for state in states:
                if not isinstance(state, Tensor) or state.shape != wanted:
                    return False
        return (
            self._layer is ops.layer
            and ops.has_kernel(input, *states, *weights)
            and not torch._C._is_any_autocast_enabled()
            and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        )

    def _takes(self, input: Any, states: tuple[Any, ...]) -> bool:
        """Whether a call is for `_layer`; torch's own code runs, or refuses, all others."""
        if not isinstance(input, Tensor) or input.dim() not in (2, 3):
            return False
        weight: Any = self._flat_weights[0]
        time_dim = 1 if self.batch_first and input.dim() == 3 else 0
        return (
            input.size(time_dim) > 0
            and input.device == weight.device
            and all(
                isinstance(state, Tensor)
                and state.dim() == input.dim()
                and state.dtype is input.dtype
                and state.device == input.device
                for state in states
            )
            # A `_layer` that a subclass chose runs wherever it can.
            and (self._layer is not ops.layer or ops.is_best_for(input))
            and not torch._C._is_any_autocast_enabled()
            # A trace stays portable: it holds torch's functions, not ours.
            and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        )

    def _states(self, hx: Any) -> tuple[Any, ...] | None:
        """The states in `hx` as a tuple, or None where `hx` has not the form of the module."""
        return (hx,)

    def _hidden(self, states: tuple[Tensor, ...]) -> Any:
        """The states in the form that `hx` has."""
        return states[0]


class RNN(_Recurrent):
    r"""Elman network over a sequence, one or more layers, as `torch.nn.RNN`.

    .. math:: h_t = \tanh(W_{ih} x_t + b_{ih} + W_{hh} h_{t-1} + b_{hh})

    or the same with ReLU. Parameters, their names and first values, `state_dict`, results and
    errors are those of `torch.nn.RNN`. Deliberate difference: as with `torch.nn.LSTM`, the output
    must not be changed in place before backward, which raises RuntimeError then.

    The kernels run float32, float64, bfloat16 and float16 on the CPU; the last two are computed in
    float32 and rounded where they are stored. Other devices, packed sequences, autocast and tracing
    go through torch's own code. Where the kernels are not built, `fastrnn.reference` runs in their
    place, for every device and dtype.

    Args:
        input_size: features `I` of the input.
        hidden_size: features `H` of the hidden state.
        num_layers: layers; each takes the output of the one before. Default: 1.
        nonlinearity: "tanh" or "relu". Default: "tanh".
        bias: whether there are `bias_ih` and `bias_hh`. Default: True.
        batch_first: whether input and output are `(B, T, ...)`, not `(T, B, ...)`. Default: False.
        dropout: probability of zeroing an output of each layer but the last, in training.
            Default: 0.
        bidirectional: whether each layer also runs from the end. `D` is 2 then, else 1.
            Default: False.
        device: where the parameters live. Default: torch's.
        dtype: of the parameters. Default: torch's.

    Inputs:
        - input: `(T, B, I)`, or `(B, T, I)` with `batch_first`, or `(T, I)`.
        - hx: `(D * num_layers, B, H)`, or `(D * num_layers, H)` where input is `(T, I)`.
          Default: zeros.

    Outputs:
        - output: `(T, B, D * H)` or as input; the last layer's hidden state at every time step.
        - h_n: shaped as hx; the last hidden state of each layer and direction.

    Raises:
        ValueError: `proj_size` is given, or a value is out of range.
        TypeError: an argument has the wrong type.

    Example:
        >>> rnn = RNN(10, 20, num_layers=2, nonlinearity="relu")
        >>> output, h_n = rnn(torch.randn(5, 3, 10))
        >>> output.shape, h_n.shape
        (torch.Size([5, 3, 20]), torch.Size([2, 3, 20]))
    """

    _stock = nn.RNN

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _refuse_proj_size(kwargs)
        if len(args) > 3:
            self.nonlinearity = args[3]
            args = args[:3] + args[4:]
        else:
            self.nonlinearity = kwargs.pop("nonlinearity", "tanh")
        if self.nonlinearity not in ("tanh", "relu"):
            raise ValueError(
                f"Unknown nonlinearity '{self.nonlinearity}'. Select from 'tanh' or 'relu'."
            )
        super().__init__(f"RNN_{self.nonlinearity.upper()}", *args, **kwargs)


class GRU(_Recurrent):
    r"""Gated recurrent unit over a sequence, one or more layers, as `torch.nn.GRU`.

    .. math::
        r_t &= \sigma(W_{ir} x_t + b_{ir} + W_{hr} h_{t-1} + b_{hr}) \\
        z_t &= \sigma(W_{iz} x_t + b_{iz} + W_{hz} h_{t-1} + b_{hz}) \\
        n_t &= \tanh(W_{in} x_t + b_{in} + r_t \odot (W_{hn} h_{t-1} + b_{hn})) \\
        h_t &= (1 - z_t) \odot n_t + z_t \odot h_{t-1}

    The cell is that of Cho et al. (arXiv:1406.1078) except that the reset gate `r` comes after
    the matrix product, as in torch and cuDNN. Parameters, their names and first values,
    `state_dict`, results and errors are those of `torch.nn.GRU`. Deliberate difference: as with
    `torch.nn.LSTM`, the output must not be changed in place before backward, which raises
    RuntimeError then.

    The kernels run float32, float64, bfloat16 and float16 on the CPU; the last two are computed in
    float32 and rounded where they are stored. Other devices, packed sequences, autocast and tracing
    go through torch's own code. Where the kernels are not built, `fastrnn.reference` runs in their
    place, for every device and dtype.

    Args:
        input_size: features `I` of the input.
        hidden_size: features `H` of the hidden state.
        num_layers: layers; each takes the output of the one before. Default: 1.
        bias: whether there are `bias_ih` and `bias_hh`. Default: True.
        batch_first: whether input and output are `(B, T, ...)`, not `(T, B, ...)`. Default: False.
        dropout: probability of zeroing an output of each layer but the last, in training.
            Default: 0.
        bidirectional: whether each layer also runs from the end. `D` is 2 then, else 1.
            Default: False.
        device: where the parameters live. Default: torch's.
        dtype: of the parameters. Default: torch's.

    Inputs:
        - input: `(T, B, I)`, or `(B, T, I)` with `batch_first`, or `(T, I)`.
        - hx: `(D * num_layers, B, H)`, or `(D * num_layers, H)` where input is `(T, I)`.
          Default: zeros.

    Outputs:
        - output: `(T, B, D * H)` or as input; the last layer's hidden state at every time step.
        - h_n: shaped as hx; the last hidden state of each layer and direction.

    Raises:
        ValueError: `proj_size` is given, or a value is out of range.
        TypeError: an argument has the wrong type.

    Example:
        >>> gru = GRU(10, 20, bidirectional=True)
        >>> output, h_n = gru(torch.randn(5, 3, 10), torch.randn(2, 3, 20))
        >>> output.shape, h_n.shape
        (torch.Size([5, 3, 40]), torch.Size([2, 3, 20]))
    """

    _stock = nn.GRU

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _refuse_proj_size(kwargs)
        super().__init__("GRU", *args, **kwargs)


class LSTM(_Recurrent):
    r"""Long short-term memory over a sequence, one or more layers, as `torch.nn.LSTM`.

    .. math::
        i_t &= \sigma(W_{ii} x_t + b_{ii} + W_{hi} h_{t-1} + b_{hi}) \\
        f_t &= \sigma(W_{if} x_t + b_{if} + W_{hf} h_{t-1} + b_{hf}) \\
        g_t &= \tanh(W_{ig} x_t + b_{ig} + W_{hg} h_{t-1} + b_{hg}) \\
        o_t &= \sigma(W_{io} x_t + b_{io} + W_{ho} h_{t-1} + b_{ho}) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t \\
        h_t &= o_t \odot \tanh(c_t)

    Parameters, their names and first values, `state_dict`, results and errors are those of
    `torch.nn.LSTM`. Deliberate difference: no projections (`proj_size`) yet.

    The kernels run float32, float64, bfloat16 and float16 on the CPU; the last two are computed in
    float32 and rounded where they are stored. Other devices, packed sequences, autocast and tracing
    go through torch's own code. Where the kernels are not built, `fastrnn.reference` runs in their
    place, for every device and dtype.

    Args:
        input_size: features `I` of the input.
        hidden_size: features `H` of the hidden state.
        num_layers: layers; each takes the output of the one before. Default: 1.
        bias: whether there are `bias_ih` and `bias_hh`. Default: True.
        batch_first: whether input and output are `(B, T, ...)`, not `(T, B, ...)`. Default: False.
        dropout: probability of zeroing an output of each layer but the last, in training.
            Default: 0.
        bidirectional: whether each layer also runs from the end. `D` is 2 then, else 1.
            Default: False.
        proj_size: must be 0.
        device: where the parameters live. Default: torch's.
        dtype: of the parameters. Default: torch's.

    Inputs:
        - input: `(T, B, I)`, or `(B, T, I)` with `batch_first`, or `(T, I)`.
        - hx: a pair (h_0, c_0), each `(D * num_layers, B, H)`, or `(D * num_layers, H)` where
          input is `(T, I)`. Default: zeros.

    Outputs:
        - output: `(T, B, D * H)` or as input; the last layer's hidden state at every time step.
        - a pair (h_n, c_n), each shaped as in hx; the last states of each layer and direction.

    Raises:
        NotImplementedError: `proj_size` is not 0.
        ValueError: a value is out of range.
        TypeError: an argument has the wrong type.

    Example:
        >>> lstm = LSTM(10, 20, batch_first=True)
        >>> output, (h_n, c_n) = lstm(torch.randn(3, 5, 10))
        >>> output.shape, h_n.shape, c_n.shape
        (torch.Size([3, 5, 20]), torch.Size([1, 3, 20]), torch.Size([1, 3, 20]))
    """

    _stock = nn.LSTM
    _state_count = 2

    # torch.nn.LSTM overrides these for its pair of states; they work on any RNNBase.
    get_expected_cell_size = nn.LSTM.get_expected_cell_size
    check_forward_args = nn.LSTM.check_forward_args  # type: ignore[assignment]
    permute_hidden = nn.LSTM.permute_hidden  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("LSTM", *args, **kwargs)
        if self.proj_size:
            raise NotImplementedError(
                f"fastrnn.LSTM does not support projections yet: wanted proj_size 0, "
                f"got {self.proj_size}; use torch.nn.LSTM for this layer"
            )

    def _states(self, hx: Any) -> tuple[Any, ...] | None:
        return tuple(hx) if isinstance(hx, tuple | list) and len(hx) == 2 else None

    def _hidden(self, states: tuple[Tensor, ...]) -> Any:
        return states


def _refuse_proj_size(kwargs: dict[str, Any]) -> None:
    if "proj_size" in kwargs:
        raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
