"""Dropout by one mask for all time steps: of a layer's input, and of its previous states.

Both are in training alone and are drawn from torch's generator of the device, for each call, layer
and direction: the mask of the input first, then that of the states, each in the user's order of
rows. Yarin Gal and Zoubin Ghahramani, arXiv:1512.05287; Keras calls them `dropout` and
`recurrent_dropout`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from fastrnn import _extension
from fastrnn import lengths as ragged
from fastrnn.embedding import COMPUTED_DTYPES
from fastrnn.transforms import can_be_read


class Masking(nn.RNNBase):
    """A recurrent module with `input_dropout` and `recurrent_dropout`.

    Args:
        *args: of `torch.nn.RNNBase`.
        input_dropout: probability of zeroing a feature of a row's input at all steps. Default: 0.
        recurrent_dropout: the same of a row's previous hidden state. Default: 0.
        **kwargs: of `torch.nn.RNNBase`.

    Raises:
        ValueError: a probability is no number in the range [0, 1).
    """

    # Of modules without, which accelerate and old pickles make too. Integers, since torch.compile
    # traces all again where it meets a float.
    input_dropout: float = 0
    recurrent_dropout: float = 0

    def __init__(
        self,
        *args: Any,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._set("input_dropout", input_dropout)
        self._set("recurrent_dropout", recurrent_dropout)

    def _set(self, name: str, p: Any) -> None:
        if not isinstance(p, int | float) or isinstance(p, bool) or not 0 <= p < 1:
            raise ValueError(
                f"{name} should be a number in range [0, 1) representing the probability of an "
                f"element being zeroed, got {p!r}"
            )
        if p != 0:  # without, a module has the attributes of torch's and no more
            setattr(self, name, float(p))

    @property
    def has_masks(self) -> bool:
        """Whether there is any of both."""
        return self.input_dropout != 0 or self.recurrent_dropout != 0

    def extra_repr(self) -> str:
        """The sizes and all options that are not their defaults."""
        text = super().extra_repr()
        for name in ("input_dropout", "recurrent_dropout"):
            p = getattr(self, name)
            text += f", {name}={p}" if p else ""
        return text


def is_on(module: nn.Module) -> bool:
    """Whether a call of the module multiplies by masks."""
    # The training comes first: this is asked in every call.
    return module.training and isinstance(module, Masking) and module.has_masks


def masks_input(module: nn.Module) -> bool:
    """Whether it does the input of each layer and direction."""
    # The float comes last: torch.compile traces all again where it meets one.
    return module.training and isinstance(module, Masking) and module.input_dropout != 0


def masks_states(module: nn.Module) -> bool:
    """Whether it does the previous hidden states; which the layer itself has to do."""
    return module.training and isinstance(module, Masking) and module.recurrent_dropout != 0


def apply(
    module: nn.RNNBase,
    input: Tensor,
    hx: Tensor,
    packed: ragged.Order | PackedSequence | None = None,
) -> tuple[Tensor, Tensor | None]:
    """The masked input of a layer in one direction, and the mask of its previous states.

    Args:
        module: whose options count.
        input: `(T, B, I)`; or, with `packed`, `(rows, I)`. Where it is not masked, token ids too.
        hx: the first hidden state, `(B, features)`.
        packed: how rows are packed. Default: None, they are not.

    Returns:
        The input times a mask, or as it was, and the mask `(B, features)` or None, its rows in the
        order of the packed ones; their elements are 0 or 1 / (1 - p).

    Example:
        >>> import fastrnn
        >>> gru = fastrnn.GRU(4, 4, recurrent_dropout=0.5)
        >>> x, mask = apply(gru, torch.ones(5, 3, 4), torch.zeros(3, 4))
        >>> bool((x == 1).all()), set(mask.flatten().tolist()) <= {0.0, 2.0}
        (True, True)
    """
    if not (is_on(module) and isinstance(module, Masking)):
        return input, None
    order = None if packed is None else _order(packed)
    if module.input_dropout != 0:
        mask = _draw(input, hx.size(0), input.size(-1), module.input_dropout)
        if order is not None:
            steps = order.batch_sizes.size(0)
            mask = ragged.pack(mask.expand(steps, -1, -1), order, "right")
        input = input * mask
    if module.recurrent_dropout == 0:
        return input, None
    mask = _draw(hx, hx.size(0), hx.size(1), module.recurrent_dropout)
    return input, mask if order is None else mask.index_select(0, order.sorted_indices)


def _order(packed: ragged.Order | PackedSequence) -> ragged.Order:
    if isinstance(packed, ragged.Order):
        return packed
    data, batch_sizes, indices, _ = packed
    if indices is None:  # its rows came sorted
        indices = torch.arange(int(batch_sizes[0]), device=data.device)
    return ragged.Order(indices, indices, batch_sizes)


def _draw(like: Tensor, batch: int, features: int, p: float) -> Tensor:
    """A mask `(batch, features)` for `like`: what torch.dropout makes of ones."""
    if _extension.loaded and like.is_cpu and like.dtype in COMPUTED_DTYPES and can_be_read():
        drawn: Tensor = torch.ops.fastrnn._draw_mask.default(batch, features, p, like.dtype)
        return drawn
    return like.new_empty(batch, features).bernoulli_(1 - p).div_(1 - p)
