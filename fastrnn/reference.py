"""The cells and their scan over time in plain PyTorch: the definition every kernel is held to.

Differentiable twice, usable under `torch.func` transforms, on any device and for any floating
dtype. It is the oracle of the tests, the path of second derivatives and of function transforms,
and what `fastrnn.ops.layer` runs where no kernel applies.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import embedding as rows_of
from torch.nn.functional import linear

MODES = ("RNN_TANH", "RNN_RELU", "LSTM", "GRU")
"""The cells, under the names `torch.nn.RNNBase` gives them; the index is their code in the ops."""

State = tuple[Tensor, ...]
"""What a cell carries from step to step: `(hx,)`, or `(hx, cx)` for the LSTM; each `(B, H)`."""

Step = Callable[[Tensor, Tensor, State], State]
"""One time step: `igates (B, G*H)` from the input, `hgates (B, G*H)` from `hx`, and the state."""


def layer(
    mode: str,
    input: Tensor,
    hx: Tensor,
    cx: Tensor | None,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    reverse: bool,
    valid: Tensor | None = None,
    weight_hr: Tensor | None = None,
    embedding: Tensor | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Runs one layer in one direction over a sequence, as `torch.nn.RNN`, `LSTM` and `GRU` do.

    Args:
        mode: one of `MODES`.
        input: `(T, B, I)` with `T >= 1`; or token ids `(T, B)`, int32 or int64.
        hx: first hidden state, `(B, H)`.
        cx: first cell state, `(B, H)`; None unless the mode is "LSTM".
        weight_ih: `(G*H, I)`; G is 4 for LSTM (i, f, g, o), 3 for GRU (r, z, n), 1 otherwise.
        weight_hh: `(G*H, H)`.
        bias_ih: `(G*H,)` or None.
        bias_hh: `(G*H,)` or None.
        reverse: whether to go from the last time step to the first.
        valid: which steps are a row's own, `(T, B)` bool; all others give zeros and leave the
            state as it is. Default: None, all of them.
        weight_hr: projection of the LSTM's hidden state, `(P, H)`. Default: None, no projection.
        embedding: with ids, the features of each token, `(V, I)`. Default: None, one-hot vectors
            of `I` tokens.
        mask: `(B, H)`, multiplies the previous hidden state before `weight_hh` does and nowhere
            else; the kernels give it no gradient. Default: None, ones.

    Returns:
        `output (T, B, H)` in the time order of `input`, `h_n (B, H)`, and `c_n (B, H)` or None.
        With a projection, `P` is in place of `H` in `output`, `h_n`, `hx`, `mask` and
        `weight_hh (G*H, P)`.
        No result shares memory with another or with an argument.

    Example:
        >>> x, h = torch.ones(2, 1, 1), torch.zeros(1, 1)
        >>> one = torch.ones(1, 1)
        >>> output, h_n, c_n = layer("RNN_RELU", x, h, None, one, one, None, None, reverse=False)
        >>> output.flatten().tolist(), h_n.item(), c_n
        ([1.0, 2.0], 2.0, None)
    """
    if valid is not None:  # what is beside the rows may be NaN, and NaN times zero is too
        input = torch.where(valid if input.dim() == 2 else valid.unsqueeze(-1), input, 0)

    def step(igates: Tensor, state: State) -> State:
        h = state[0] if mask is None else state[0] * mask
        new = _STEPS[mode](igates, linear(h, weight_hh, bias_hh), state)
        return new if weight_hr is None else (linear(new[0], weight_hr), *new[1:])

    state = (hx,) if cx is None else (hx, cx)
    sums = _input_sums(input, weight_ih, bias_ih, embedding)
    outputs, (h_n, *c_n) = _scan(step, sums, state, reverse, valid)
    return torch.stack(outputs), h_n, c_n[0] if c_n else None


def _scan(
    step: Callable[[Tensor, State], State],
    igates: Tensor,
    state: State,
    reverse: bool,
    valid: Tensor | None,
) -> tuple[list[Tensor], State]:
    """The hidden states in the order of `igates (T, B, G*H)`, and the last state."""
    # unbind, not indexing: its gradient is one stack instead of T zero-filled tensors.
    inputs = igates.unbind(0)
    own = None if valid is None else valid.unsqueeze(-1).unbind(0)
    outputs = []
    for t in reversed(range(len(inputs))) if reverse else range(len(inputs)):
        new = step(inputs[t], state)
        outputs.append(new[0] if own is None else torch.where(own[t], new[0], 0))
        state = new if own is None else _where(own[t], new, state)
    if reverse:
        outputs.reverse()
    return outputs, state


def _input_sums(
    input: Tensor, weight_ih: Tensor, bias_ih: Tensor | None, embedding: Tensor | None
) -> Tensor:
    if input.dim() == 3:
        return linear(input, weight_ih, bias_ih)
    if embedding is not None:
        return linear(rows_of(input, embedding), weight_ih, bias_ih)
    sums = rows_of(input, weight_ih.t())
    return sums if bias_ih is None else sums + bias_ih


def _where(mask: Tensor, new: State, old: State) -> State:
    return tuple(torch.where(mask, n, o) for n, o in zip(new, old, strict=True))


def _tanh_step(igates: Tensor, hgates: Tensor, state: State) -> State:
    return (torch.tanh(igates + hgates),)


def _relu_step(igates: Tensor, hgates: Tensor, state: State) -> State:
    return (torch.relu(igates + hgates),)


def _lstm_step(igates: Tensor, hgates: Tensor, state: State) -> State:
    _, cx = state
    i, f, g, o = (igates + hgates).chunk(4, -1)
    cx = torch.sigmoid(f) * cx + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cx), cx


def _gru_step(igates: Tensor, hgates: Tensor, state: State) -> State:
    (hx,) = state
    r_i, z_i, n_i = igates.chunk(3, -1)
    r_h, z_h, n_h = hgates.chunk(3, -1)
    r = torch.sigmoid(r_i + r_h)
    z = torch.sigmoid(z_i + z_h)
    # As torch.nn.GRU and cuDNN, unlike the first paper (arXiv:1406.1078): the reset gate comes
    # after the matrix product and multiplies its bias too.
    n = torch.tanh(n_i + r * n_h)
    return (n + z * (hx - n),)


_STEPS: dict[str, Step] = {
    "RNN_TANH": _tanh_step,
    "RNN_RELU": _relu_step,
    "LSTM": _lstm_step,
    "GRU": _gru_step,
}
