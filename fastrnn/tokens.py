"""How a recurrent module runs a sequence of token ids: `module(ids, embedding=weight)`.

Where kernels take ids they look up input products in a table of tokens. Elsewhere the rows of the
embedding are looked up, and all is as with any other input; one-hot vectors run through
`fastrnn.reference` there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from fastrnn import dispatch, dropout, onnx, ops, recurrent, reference
from fastrnn import lengths as ragged
from fastrnn.dispatch import Layer
from fastrnn.embedding import are_ids, check_range
from fastrnn.transforms import can_be_read


def has_ids(input: Any) -> bool:
    """Whether an input of a module is of token ids, packed ones too."""
    if isinstance(input, Tensor):
        return are_ids(input)
    return isinstance(input, PackedSequence) and are_ids(input.data) and input.data.dim() == 1


def forward(
    module: nn.RNNBase,
    input: Any,
    hx: Any,
    lengths: Any = None,
    padding: str = "right",
    output: bool = True,
    embedding: Any = None,
    *,
    layer: Layer,
    stock: Callable[..., Any],
) -> tuple[Any, Any]:
    """What `module(input, hx, embedding=embedding)` returns.

    Args:
        module: whose weights and options count.
        input: ids `(T, B)`, `(B, T)` or `(T,)`, or a `PackedSequence` of ids.
        embedding: `(V, input_size)`; None where ids stand for one-hot vectors.
        hx: as for `fastrnn.recurrent.forward`, and so all that follow.
        lengths: of rows, or None.
        padding: one of `fastrnn.lengths.PADDINGS`.
        output: whether it is wanted.
        layer: runs one layer.
        stock: torch's own forward.

    Raises:
        TypeError: the input holds no ids, or the embedding is none of the weights' dtype.
        ValueError: a shape or an id does not fit.
        RuntimeError: as with other inputs.
    """
    _check(module, input, embedding)
    states = () if hx is None else dispatch.states_in(hx, module.mode)
    packed = isinstance(input, PackedSequence)
    ids = input.data if packed else input
    if states is None:
        return stock(module, as_float(module, ids), hx)  # type: ignore[no-any-return]
    masks_input = dropout.masks_input(module)  # features, which a table of tokens has not
    whole = lengths is None and layer is ops.layer
    try:
        if whole and _runs_at_once(module, input, states, embedding):
            return _infer(module, ids, states, embedding, output)
        call = _Call(module, ids, states, embedding, layer)
        if call.kernels and not masks_input:
            return call.run(input, lengths, padding, output)
    except RuntimeError:
        _refuse(module, ids, embedding, lengths, padding)
        raise
    valid = _refuse(module, ids, embedding, lengths, padding)
    if embedding is None and not packed and not masks_input:
        if dispatch.is_traced() or onnx.is_exporting():
            raise ValueError(
                "traces and ONNX have no one-hot input: give embedding="
                f"torch.eye({module.input_size}), which stands for the same"
            )
        return call.run(input, lengths, padding, output)
    if valid is not None:
        ids = torch.where(valid, ids, 0)
    rows = _vectors(module, ids, embedding)
    input = input._replace(data=rows) if packed else rows
    return recurrent.forward(module, input, hx, lengths, padding, output, layer=layer, stock=stock)


def _vectors(module: nn.RNNBase, ids: Tensor, embedding: Tensor | None) -> Tensor:
    if embedding is not None:
        return functional.embedding(ids, embedding)
    weight: Any = module._flat_weights[0]
    return functional.one_hot(ids.long(), module.input_size).to(weight.dtype)


def _runs_at_once(
    module: nn.RNNBase, input: Any, states: tuple[Any, ...], embedding: Tensor | None
) -> bool:
    """As `dispatch.runs_at_once`, of ids."""
    if isinstance(input, PackedSequence) or input.dim() != 2 or input.numel() == 0:
        return False
    if torch._C._is_any_autocast_enabled() or not dispatch.wants_one_op(module, input):
        return False
    weights = recurrent.weights_of(module)
    like = weights[0] if embedding is None else embedding
    batch = input.shape[0 if module.batch_first else 1]
    return like.dtype not in ops.HALVES and dispatch.runs_rows_at_once(
        module, like, states, weights, batch
    )


def _infer(
    module: nn.RNNBase,
    ids: Tensor,
    states: tuple[Any, ...],
    embedding: Tensor | None,
    output: bool,
) -> tuple[Any, Any]:
    result, finals = recurrent.infer(
        module, ids, states, module._flat_weights, module.batch_first, output, embedding=embedding
    )
    return result, recurrent.as_hx(finals)


def as_float(module: nn.RNNBase, ids: Tensor) -> Tensor:
    """An input without memory of its own, of the sizes and dtype of the vectors that ids stand for.

    Example:
        >>> as_float(nn.LSTM(7, 2), torch.tensor([[0, 3], [6, 2]])).shape
        torch.Size([2, 2, 7])
    """
    zero: Tensor = module._flat_weights[0].detach().new_zeros(())  # type: ignore[union-attr]
    return zero.expand(*ids.shape, module.input_size)


def _check(module: nn.RNNBase, input: Any, embedding: Any) -> None:
    if not has_ids(input):
        raise TypeError(
            "with embedding, input must hold token ids: int32 or int64, (T, B), (B, T) with "
            f"batch_first, or (T,); got {_what(input)}"
        )
    if embedding is None:
        return
    size = module.input_size
    weight: Any = module._flat_weights[0]
    if not isinstance(embedding, Tensor):
        raise TypeError(f"embedding must be a tensor (V, {size}), got {_what(embedding)}")
    if embedding.dim() != 2 or embedding.shape[1] != size or embedding.shape[0] == 0:
        raise ValueError(
            f"embedding must have shape (V, input_size) = (V, {size}), V > 0, "
            f"got {tuple(embedding.shape)}"
        )
    autocasts = torch._C._is_any_autocast_enabled() and embedding.is_floating_point()
    if embedding.dtype is not weight.dtype and not autocasts:
        raise TypeError(
            f"embedding must have the weights' dtype {weight.dtype}, got {embedding.dtype}"
        )


def _what(input: Any) -> str:
    data = input.data if isinstance(input, PackedSequence) else input
    if not isinstance(data, Tensor):
        return type(data).__name__
    return f"dtype {data.dtype}, shape {tuple(data.shape)}"


def _refuse(
    module: nn.RNNBase, ids: Tensor, embedding: Tensor | None, lengths: Any, padding: str
) -> Tensor | None:
    """Refuses ids that are not tokens. Returns which are a row's own, or None where all are."""
    valid = None
    if lengths is not None and ids.dim() == 2:
        time = 1 if module.batch_first else 0
        steps, batch = ids.shape[time], ids.shape[1 - time]
        lengths = ragged.check(lengths, padding, steps, batch)
        valid = ragged.valid(lengths, padding, steps).to(ids.device)
        valid = valid.t() if module.batch_first else valid
    if can_be_read():
        check_range(ids, module.input_size if embedding is None else embedding.shape[0], valid)
    return valid


class _Call:
    """The arguments of a call, as autocast wants them, and whether kernels take its ids."""

    def __init__(
        self,
        module: nn.RNNBase,
        ids: Tensor,
        states: tuple[Any, ...],
        embedding: Tensor | None,
        layer: Layer,
    ) -> None:
        like, weights = as_float(module, ids), recurrent.weights_of(module)
        if torch._C._is_any_autocast_enabled():
            _, _, [*cast] = dispatch.autocast(like, (), [embedding])
            like, states, weights = dispatch.autocast(like, states, weights)
            (embedding,) = cast
        self.module, self.states, self.weights = module, states, weights
        self.embedding, self.dtype = embedding, like.dtype
        self.kernels = (
            layer is ops.layer
            and ids.is_cpu
            and ids.numel() > 0
            and dispatch.has_kernel(module, like, states, weights)
            and not onnx.is_exporting()
        )
        self.layer = layer if embedding is None else functools.partial(_first, layer, embedding)

    def run(self, input: Any, lengths: Any, padding: str, output: bool) -> tuple[Any, Any]:
        """The results of the module."""
        if isinstance(input, PackedSequence):
            return self._run_packed(input, output)
        module, ids, states = self.module, input, self.states
        single = ids.dim() == 1
        if single:
            if lengths is not None:
                raise ValueError("lengths go with ids of two dimensions, got 1")
            ids = ids.unsqueeze(0 if module.batch_first else 1)
            states = tuple(state.unsqueeze(1) for state in states)
        self._check(ids, states)
        if module.batch_first:
            ids = ids.t()
        steps, batch = ids.shape
        if steps == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        if lengths is None:
            result, states = self._layers(ids, states, batch, output)
        else:
            lengths = ragged.check(lengths, padding, steps, batch)
            result, states = self._run_lengths(ids, states, lengths, padding, output)
        if single:
            result = None if result is None else result.squeeze(1)
            states = tuple(state.squeeze(1) for state in states)
        elif module.batch_first and result is not None:
            result = result.transpose(0, 1)
        return result if output else None, recurrent.as_hx(states)

    def _run_packed(self, input: PackedSequence, output: bool) -> tuple[Any, Any]:
        ids, batch_sizes, sorted_indices, unsorted_indices = input
        self._check(ids, self.states, batch_sizes)
        states = recurrent.permuted(self.states, sorted_indices)
        result, states = self._layers(ids, states, int(batch_sizes[0]), output, input)
        hidden = recurrent.as_hx(recurrent.permuted(states, unsorted_indices))
        if result is None:
            return None, hidden
        return PackedSequence(result, batch_sizes, sorted_indices, unsorted_indices), hidden

    def _run_lengths(
        self, ids: Tensor, states: tuple[Any, ...], lengths: Tensor, padding: str, output: bool
    ) -> tuple[Tensor | None, tuple[Tensor, ...]]:
        steps, batch = ids.shape
        if not self.kernels:
            valid = ragged.valid(lengths, padding, steps).to(ids.device)
            masked = functools.partial(reference.layer, valid=valid)
            zeros = states or self._zeros(batch)
            return recurrent.run_layers(self.module, ids, zeros, self.weights, masked, batch)
        order = ragged.sort(lengths, steps, ids.device)
        rows = ragged.pack(ids, order, padding)
        states = recurrent.permuted(states, order.sorted_indices) or self._zeros(batch)
        result, states = self._layers(rows, states, batch, output, order)
        if result is not None:
            result = ragged.unpack(result, order, padding)
        return result, recurrent.permuted(states, order.unsorted_indices)

    def _layers(
        self,
        ids: Tensor,
        states: tuple[Any, ...],
        batch: int,
        output: bool,
        order: ragged.Order | PackedSequence | None = None,
    ) -> tuple[Tensor | None, tuple[Tensor, ...]]:
        """From ids `(T, B)`, or packed ones, to `output (T, B, D * H)` and the last states."""
        module, weights = self.module, self.weights
        batch_sizes = None if order is None else order.batch_sizes
        if self.kernels and self.dtype not in ops.HALVES and dispatch.wants_one_op(module, ids):
            return recurrent.infer(
                module, ids, states, weights, False, output, batch_sizes, self.embedding
            )
        layer = self.layer
        if batch_sizes is not None:
            layer = functools.partial(layer, batch_sizes=batch_sizes)
        states = states or self._zeros(batch)
        result, states = recurrent.run_layers(module, ids, states, weights, layer, batch, order)
        return result if output else None, states

    def _zeros(self, batch: int) -> tuple[Tensor, ...]:
        module = self.module
        count = module.num_layers * (2 if module.bidirectional else 1)
        sizes = recurrent.state_sizes(module)
        return tuple(self.weights[0].new_zeros(count, batch, size) for size in sizes)

    def _check(
        self, ids: Tensor, states: tuple[Any, ...], batch_sizes: Tensor | None = None
    ) -> None:
        """Raises torch's errors for sizes that do not fit."""
        for state in states:
            if state.dim() != 3:
                raise RuntimeError(
                    f"hx must have one dimension more than ids, or than `(B,)`, got {state.dim()}"
                )
        recurrent.check(self.module, as_float(self.module, ids), states, batch_sizes)


def _first(
    layer: Layer, embedding: Tensor, mode: str, input: Tensor, *args: Any, **kwargs: Any
) -> Any:
    """Runs a layer, of which the first has ids for its input."""
    if are_ids(input):
        kwargs["embedding"] = embedding
    return layer(mode, input, *args, **kwargs)
