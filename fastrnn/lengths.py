"""Rows of different lengths: what `lengths` means, and the way to rows without padding and back.

Padded arrays are `(T, B, features)`. Packed ones are `(rows, features)`, as the data of a
`torch.nn.utils.rnn.PackedSequence`: the first step of all rows, longest row first, then the second
of those that have one, and so on.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastrnn import _extension, exported, ops

PADDINGS = ("right", "left")
"""Where rows are padded: behind their last step, or before their first."""


class Order(NamedTuple):
    """How the rows of a padded array come in a packed one.

    As in a `PackedSequence`, the indices are on the device of the rows.

    Attributes:
        sorted_indices: `(B,)`, the rows' indices, longest first.
        unsorted_indices: `(B,)`, where each row is among them.
        batch_sizes: `(T,)`, on the CPU, how many rows there are at each step; zeros at the end
            where no row has `T` steps.
    """

    sorted_indices: Tensor
    unsorted_indices: Tensor
    batch_sizes: Tensor


def check(lengths: Any, padding: str, steps: int, batch: int) -> Tensor:
    """The lengths as an int64 tensor on the CPU, after all checks.

    Args:
        lengths: what the user gave.
        padding: one of `PADDINGS`.
        steps: `T` of the input.
        batch: `B` of the input.

    Raises:
        TypeError: `lengths` is not a tensor of integers.
        ValueError: its shape is not `(B,)`, a length is not from 0 to `T`, or `padding` is unknown.

    Example:
        >>> check(torch.tensor([3, 0], dtype=torch.uint8), "right", steps=3, batch=2)
        tensor([3, 0])
    """
    if padding not in PADDINGS:
        raise ValueError(f"padding must be 'right' or 'left', got {padding!r}")
    if not isinstance(lengths, Tensor):
        raise TypeError(
            f"lengths must be a tensor of integers, got {type(lengths).__name__}: "
            "torch.tensor(...) makes one of a list"
        )
    if lengths.dtype.is_floating_point or lengths.dtype.is_complex or lengths.dtype is torch.bool:
        raise TypeError(f"lengths must be a tensor of integers, got dtype {lengths.dtype}")
    if lengths.shape != (batch,):
        raise ValueError(
            f"lengths must have one length for each of the {batch} rows of input, "
            f"shape ({batch},), got {tuple(lengths.shape)}"
        )
    checked: Tensor = lengths.detach().to("cpu", torch.int64).contiguous()
    # A compiled call is safe too, since the ops check; under a function transform there may be no
    # values to read, and a mask of wrong ones does no harm.
    if not torch.compiler.is_compiling() and not ops.is_transformed():
        for row, length in enumerate(checked.tolist()):
            if not 0 <= length <= steps:
                raise ValueError(
                    f"lengths must be from 0 to the {steps} steps of input, "
                    f"got {length} for row {row}"
                )
    return checked


def valid(lengths: Tensor, padding: str, steps: int) -> Tensor:
    """Which steps of a padded array are a row's own: `(T, B)`, bool.

    Example:
        >>> valid(torch.tensor([2, 1]), "left", steps=3).int()
        tensor([[0, 0],
                [1, 0],
                [1, 1]], dtype=torch.int32)
    """
    times = torch.arange(steps, device=lengths.device).unsqueeze(1)
    return times >= steps - lengths if padding == "left" else times < lengths


def sort(lengths: Tensor, steps: int, device: torch.device) -> Order:
    """How rows of such lengths, as `check` returns them, are packed on a device.

    Example:
        >>> sort(torch.tensor([1, 3, 0]), steps=4, device=torch.device("cpu")).batch_sizes
        tensor([2, 1, 1, 0])
    """
    order = Order(*torch.ops.fastrnn._sort_lengths.default(lengths, steps))
    if device.type == "cpu":
        return order
    indices = torch.stack(order[:2]).to(device, non_blocking=True)
    return Order(indices[0], indices[1], order.batch_sizes)


def pack(input: Tensor, order: Order, padding: str) -> Tensor:
    """From `(T, B, features)` to `(rows, features)`, or from ids `(T, B)` to `(rows,)`.

    `torch.compile` and `torch.export` get `T * B` rows, of which the last are zeros, because they
    want to know shapes before lengths.
    """
    run: Any = torch.ops.fastrnn.pack.default if exported.is_tracing() else _Pack.apply
    result: Tensor = run(input, *_arguments(order, padding))
    return result


def unpack(packed: Tensor, order: Order, padding: str) -> Tensor:
    """From `(rows, features)` to `(T, B, features)`, zeros where a row has no step."""
    run: Any = torch.ops.fastrnn.unpack.default if exported.is_tracing() else _Unpack.apply
    result: Tensor = run(packed, *_arguments(order, padding))
    return result


def _arguments(order: Order, padding: str) -> tuple[Tensor, Tensor, bool, bool]:
    """What `pack` and `unpack` take beside the array: `trim` is the last."""
    trim = not torch.compiler.is_compiling()
    return order.sorted_indices, order.batch_sizes, padding == "left", trim


class _Pack(torch.autograd.Function):
    """`_pack`, whose gradient is `_unpack`. Both take what the other needs."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, *order: Any) -> Tensor:
        _save(ctx, *order)
        result: Tensor = torch.ops.fastrnn._pack.default(input, *order)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        return _Unpack.apply(grads[0], *_saved(ctx)), None, None, None, None  # type: ignore[no-untyped-call]


class _Unpack(torch.autograd.Function):
    """`_unpack`, whose gradient is `_pack`."""

    @staticmethod
    def forward(ctx: Any, packed: Tensor, *order: Any) -> Tensor:
        _save(ctx, *order)
        result: Tensor = torch.ops.fastrnn._unpack.default(packed, *order[:-1])
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        return _Pack.apply(grads[0], *_saved(ctx)), None, None, None, None  # type: ignore[no-untyped-call]


def _save(ctx: Any, sorted_indices: Tensor, batch_sizes: Tensor, left: bool, trim: bool) -> None:
    ctx.save_for_backward(sorted_indices, batch_sizes)
    ctx.flags = (left, trim)


def _saved(ctx: Any) -> tuple[Any, ...]:
    return (*ctx.saved_tensors, *ctx.flags)


def pack_by_index(
    input: Tensor, sorted_indices: Tensor, batch_sizes: Tensor, left: bool, trim: bool
) -> Tensor:
    """The op `_pack` on any device, by ordinary functions of torch.

    Nothing waits for the device: what has to be known beforehand is read of `batch_sizes`.
    """
    steps, batch, *features = input.shape
    places = _places(sorted_indices, batch_sizes, left)
    rows = input.reshape(steps * batch, *features).index_select(0, places)
    if trim:
        return rows
    return torch.cat([rows, rows.new_zeros(steps * batch - rows.shape[0], *features)])


def unpack_by_index(
    packed: Tensor, sorted_indices: Tensor, batch_sizes: Tensor, left: bool
) -> Tensor:
    """The op `_unpack` on any device, by ordinary functions of torch."""
    steps, batch, features = batch_sizes.shape[0], sorted_indices.shape[0], packed.shape[1]
    places = _places(sorted_indices, batch_sizes, left)
    padded = packed.new_zeros(steps * batch, features)
    # No two rows have the same place, so the order of writing does not matter.
    padded.index_copy_(0, places, packed[: places.shape[0]])
    return padded.view(steps, batch, features)


def _places(sorted_indices: Tensor, batch_sizes: Tensor, left: bool) -> Tensor:
    """Where each row of a packed array is among the `T * B` of a padded one."""
    device = sorted_indices.device
    steps, batch = batch_sizes.shape[0], sorted_indices.shape[0]
    rows = torch.arange(batch_sizes.sum().item(), device=device)
    both = torch.stack([batch_sizes, batch_sizes.cumsum(0)]).to(device, non_blocking=True)
    sizes, ends = both.unbind(0)
    times = torch.searchsorted(ends, rows, right=True)
    ranks = rows - (ends - sizes)[times]
    if left:
        lengths = (torch.arange(batch, device=device) < sizes.unsqueeze(1)).sum(0)
        times = times + steps - lengths[ranks]
    return times * batch + sorted_indices[ranks]


def _fake_sort_lengths(lengths: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(lengths), torch.empty_like(lengths), lengths.new_empty(steps)


def _fake_pack(
    input: Tensor, sorted_indices: Tensor, batch_sizes: Tensor, left: bool, trim: bool
) -> Tensor:
    steps, batch, *features = input.shape
    rows: Any = torch.library.get_ctx().new_dynamic_size() if trim else steps * batch
    return input.new_empty(rows, *features)


def _fake_unpack(packed: Tensor, sorted_indices: Tensor, batch_sizes: Tensor, left: bool) -> Tensor:
    return packed.new_empty(batch_sizes.shape[0], sorted_indices.shape[0], packed.shape[1])


if _extension.loaded:
    # The shapes of the results, for torch.compile and torch.export.
    torch.library.register_fake("fastrnn::_sort_lengths", _fake_sort_lengths)
    torch.library.register_fake("fastrnn::_pack", _fake_pack)
    torch.library.register_fake("fastrnn::_unpack", _fake_unpack)
    torch.library.impl("fastrnn::_pack", "cuda", pack_by_index)
    torch.library.impl("fastrnn::_unpack", "cuda", unpack_by_index)
    order = "Tensor sorted_indices, Tensor batch_sizes, bool left, bool trim"
    exported.define(f"pack(Tensor input, {order}) -> Tensor", _Pack.apply)
    exported.define(f"unpack(Tensor packed, {order}) -> Tensor", _Unpack.apply)
