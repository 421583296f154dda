"""`RNN`, `LSTM` and `GRU`: the modules of `torch.nn` of the same names, on fused kernels."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from fastrnn import at_once, dropout, ops, recurrent, tokens
from fastrnn._stock import StandIn
from fastrnn.dropout import Masking

__all__ = ["GRU", "LSTM", "RNN"]


class _Recurrent(StandIn, Masking):
    """What the three modules share.

    A subclass of `RNNBase`, not of `torch.nn.LSTM` and so on, because `torch.compile` refuses
    instances of those in a full graph.
    """

    # Runs one layer in one direction. A subclass may put `fastrnn.reference.layer` here.
    _layer = staticmethod(ops.layer)

    # The module of torch.nn that this one stands in for.
    _stock: ClassVar[type[nn.RNNBase]]

    def __prepare_scriptable__(self) -> nn.Module:
        """As for other modules; but torch's would leave the masks out."""
        if dropout.is_on(self):
            raise RuntimeError(
                "torch.jit.script compiles torch's module, which has no input_dropout and no "
                "recurrent_dropout; call eval() on the module first, or set both to 0"
            )
        return super().__prepare_scriptable__()

    def forward(
        self,
        input: Any,
        hx: Any = None,
        *,
        lengths: Any = None,
        padding: str = "right",
        output: bool = True,
        embedding: Any = None,
    ) -> Any:
        """Runs the module over a sequence; shapes are in the documentation of the class.

        Args:
            input: a tensor, or a `torch.nn.utils.rnn.PackedSequence`. Integers, int32 or int64,
                are token ids `(T, B)`, `(B, T)` with `batch_first`, or `(T,)`: each stands for a
                one-hot vector, or a row of `embedding`, which is not made. `torch.nn` takes none.
            hx: the first state or states; zeros when None.
            lengths: steps of each row, a tensor of integers `(B,)` in any order and on any device;
                zeros are allowed. `torch.nn` has no such argument. Steps beyond a row's length
                give zeros in the output, cost no work and get no gradient; the reverse direction
                begins at a row's last step. A call waits for lengths that are on a GPU. Default:
                None, all rows have all steps.
            padding: with `lengths`, whether rows are padded on the "right", behind their last
                step, or on the "left", before their first, as Keras pads. Default: "right".
            output: False where the last states are all that is wanted: without gradients the
                output is not even written then. Default: True.
            embedding: with ids, the features of each token, `(V, input_size)`, of the weights'
                dtype. Its gradient is dense. Default: None, ids stand for one-hot vectors.

        Returns:
            The output, or None where it is not wanted, and the last state or states in the form
            of `hx`.

        Raises:
            ValueError: dimensions, dtype or lengths do not fit; an id is out of range, which is
                named with its position; `embedding` has a shape that does not fit.
            TypeError: lengths are no integers; `embedding` has another dtype, or comes without ids.
            RuntimeError: a size does not fit, or the sequence is empty. Types and texts of the
                errors about input and hx are those of `torch.nn`.

        Example:
            >>> output, h_n = GRU(10, 20)(torch.randn(5, 2, 10), lengths=torch.tensor([5, 2]))
            >>> output[2:, 1].count_nonzero(), bool((output[1, 1] == h_n[0, 1]).all())
            (tensor(0), True)
            >>> words = torch.nn.Embedding(500, 10)
            >>> GRU(10, 20)(torch.tensor([[3, 499], [0, 3]]), embedding=words.weight)[0].shape
            torch.Size([2, 2, 20])
        """
        if lengths is None and self._layer is ops.layer:
            results = at_once.run(self, input, hx, output, embedding)
            if results is not None:
                return results
        layer, stock = self._layer, self._stock.forward
        if embedding is None and not tokens.has_ids(input):
            return recurrent.forward(
                self, input, hx, lengths, padding, output, layer=layer, stock=stock
            )
        return tokens.forward(
            self, input, hx, lengths, padding, output, embedding, layer=layer, stock=stock
        )


class RNN(_Recurrent):
    r"""Elman network over a sequence, one or more layers, as `torch.nn.RNN`.

    .. math:: h_t = \tanh(W_{ih} x_t + b_{ih} + W_{hh} h_{t-1} + b_{hh})

    or the same with ReLU. Parameters, their names and first values, `state_dict`, results and
    errors are those of `torch.nn.RNN`. Deliberate difference: as with `torch.nn.LSTM`, the output
    must not be changed in place before backward, which raises RuntimeError then.

    The kernels run float32, float64, bfloat16 and float16 on the CPU, and on CUDA where they are
    compiled for the GPU; the last two are computed in float32 and rounded where they are stored.
    Under autocast the results have its dtype. Other devices and tracing go through torch's own
    code. Where the kernels are not built, `fastrnn.reference` runs in their place, for every device
    and dtype.

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
        input_dropout: probability of zeroing a feature of a row's input at all time steps alike, of
            each layer and direction, in training; Keras' `dropout`. Keyword only. Default: 0.
        recurrent_dropout: probability of zeroing a unit of a row's previous hidden state where it
            comes to the recurrent weights, at all time steps alike, in training; Keras'
            `recurrent_dropout`. Keyword only. Default: 0.
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

    The kernels run float32, float64, bfloat16 and float16 on the CPU, and on CUDA where they are
    compiled for the GPU; the last two are computed in float32 and rounded where they are stored.
    Under autocast the results have its dtype. Other devices and tracing go through torch's own
    code. Where the kernels are not built, `fastrnn.reference` runs in their place, for every device
    and dtype.

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
        input_dropout: probability of zeroing a feature of a row's input at all time steps alike, of
            each layer and direction, in training; Keras' `dropout`. Keyword only. Default: 0.
        recurrent_dropout: probability of zeroing a unit of a row's previous hidden state where it
            comes to the recurrent weights, at all time steps alike, in training; Keras'
            `recurrent_dropout`. Keyword only. Default: 0.
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

    With `proj_size`, :math:`h_t = W_{hr} (o_t \odot \tanh(c_t))` (Sak et al., arXiv:1402.1128).
    Parameters, their names and first values, `state_dict`, results and errors are those of
    `torch.nn.LSTM`.

    The kernels run float32, float64, bfloat16 and float16 on the CPU, and on CUDA where they are
    compiled for the GPU; the last two are computed in float32 and rounded where they are stored.
    Under autocast the results have its dtype. Other devices, tracing, and `proj_size` on CUDA
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
        proj_size: size `P` to which each hidden state is projected, less than `hidden_size`; 0:
            no projection. Default: 0.
        input_dropout: probability of zeroing a feature of a row's input at all time steps alike, of
            each layer and direction, in training; Keras' `dropout`. Keyword only. Default: 0.
        recurrent_dropout: probability of zeroing a unit of a row's previous hidden state where it
            comes to the recurrent weights, at all time steps alike, in training; Keras'
            `recurrent_dropout`. Keyword only. Default: 0.
        device: where the parameters live. Default: torch's.
        dtype: of the parameters. Default: torch's.

    Inputs:
        - input: `(T, B, I)`, or `(B, T, I)` with `batch_first`, or `(T, I)`.
        - hx: a pair (h_0, c_0), each `(D * num_layers, B, H)`, or `(D * num_layers, H)` where
          input is `(T, I)`; with `proj_size`, `P` in place of `H` in h_0. Default: zeros.

    Outputs:
        - output: `(T, B, D * H)` or as input; the last layer's hidden state at every time step.
          With `proj_size`, `P` in place of `H`.
        - a pair (h_n, c_n), each shaped as in hx; the last states of each layer and direction.

    Raises:
        ValueError: a value is out of range.
        TypeError: an argument has the wrong type.

    Example:
        >>> lstm = LSTM(10, 20, batch_first=True)
        >>> output, (h_n, c_n) = lstm(torch.randn(3, 5, 10))
        >>> output.shape, h_n.shape, c_n.shape
        (torch.Size([3, 5, 20]), torch.Size([1, 3, 20]), torch.Size([1, 3, 20]))
    """

    _stock = nn.LSTM

    # torch.nn.LSTM overrides these for its pair of states; they work on any RNNBase.
    get_expected_cell_size = nn.LSTM.get_expected_cell_size
    check_forward_args = nn.LSTM.check_forward_args  # type: ignore[assignment]
    permute_hidden = nn.LSTM.permute_hidden  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("LSTM", *args, **kwargs)


def _refuse_proj_size(kwargs: dict[str, Any]) -> None:
    if "proj_size" in kwargs:
        raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
