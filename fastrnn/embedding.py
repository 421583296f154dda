"""Token ids: what they may be, and the rows of an embedding that they stand for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fastrnn import _extension, exported
from fastrnn.transforms import can_be_read, is_transformed

ID_DTYPES = (torch.int32, torch.int64)
"""What holds token ids."""

COMPUTED_DTYPES = (torch.float32, torch.float64)
"""What the kernels compute in."""


def are_ids(input: Any) -> bool:
    """Whether an input is a tensor of token ids: `(T, B)`, or `(T,)` for a single row."""
    return isinstance(input, Tensor) and input.dtype in ID_DTYPES and input.dim() in (1, 2)


def check_range(ids: Tensor, vocabulary: int, valid: Tensor | None = None) -> None:
    """Refuses ids that are not tokens.

    Args:
        ids: of any shape and device; on a GPU, the call waits for them.
        vocabulary: how many tokens there are.
        valid: which ids count, of the same shape, bool. Default: None, all.

    Raises:
        ValueError: an id is not from 0 to `vocabulary - 1`; the first is named.

    Example:
        >>> check_range(torch.tensor([[1, 7], [0, 2]]), vocabulary=3)
        Traceback (most recent call last):
        ...
        ValueError: ids must be from 0 to 2, one for each of the 3 tokens, got 7 at position (0, 1)
    """
    wrong = (ids < 0) | (ids >= vocabulary)
    if valid is not None:
        wrong = wrong & valid
    if not bool(wrong.any()):
        return
    place = tuple(wrong.nonzero()[0].tolist())
    raise ValueError(
        f"ids must be from 0 to {vocabulary - 1}, one for each of the {vocabulary} tokens, "
        f"got {int(ids[place])} at position {place}"
    )


def embed(ids: Tensor, embedding: Tensor, mask: Tensor | None = None) -> Tensor:
    """Rows of an embedding, each times the mask of its sequence: Keras' input dropout in one pass.

    The gradient of `embedding` is dense and the same for any number of threads. `ids` and `mask`
    have none.

    Args:
        ids: `(T, B)`, int32 or int64, from 0 to `V - 1`.
        embedding: `(V, I)`. float32 and float64 on the CPU have kernels of their own, which
            bfloat16 and float16 use by way of float32; all others go by way of
            `torch.nn.functional.embedding`.
        mask: `(B, I)`, of the dtype and device of `embedding`; the same for all steps. Default:
            None, ones.

    Returns:
        `(T, B, I)`, of the dtype of `embedding`.

    Raises:
        TypeError: a dtype does not fit.
        ValueError: a shape does not fit, or an id is out of range.

    Example:
        >>> rows = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> embed(torch.tensor([[0], [1]]), rows, torch.tensor([[0.0, 2.0]])).tolist()
        [[[0.0, 4.0]], [[0.0, 8.0]]]
    """
    _check(ids, embedding, mask)
    if not (
        _extension.loaded
        and embedding.is_cpu
        and ids.numel() > 0
        and not is_transformed()
        and not torch.onnx.is_in_onnx_export()
    ):
        if can_be_read():
            check_range(ids, embedding.shape[0])
        rows = functional.embedding(ids, embedding)
        return rows if mask is None else rows * mask.detach()
    if embedding.dtype not in COMPUTED_DTYPES:
        factors = None if mask is None else mask.float()
        return embed(ids, embedding.float(), factors).to(embedding.dtype)
    run: Any = torch.ops.fastrnn.embed.default if exported.is_tracing() else _Embed.apply
    try:
        result: Tensor = run(embedding, ids, mask)
    except RuntimeError:
        if can_be_read():
            check_range(ids, embedding.shape[0])
        raise
    return result


def _check(ids: Tensor, embedding: Tensor, mask: Tensor | None) -> None:
    if not are_ids(ids):
        raise TypeError(f"ids must be a tensor of int32 or int64, got {_what(ids)}")
    if ids.dim() != 2:
        raise ValueError(f"ids must be (T, B), got shape {tuple(ids.shape)}")
    if not isinstance(embedding, Tensor) or not embedding.is_floating_point():
        raise TypeError(f"embedding must be a floating-point tensor, got {_what(embedding)}")
    if embedding.dim() != 2 or embedding.shape[0] == 0:
        raise ValueError(f"embedding must be (V, I), V > 0, got shape {tuple(embedding.shape)}")
    if mask is None:
        return
    if not isinstance(mask, Tensor) or mask.dtype is not embedding.dtype:
        raise TypeError(f"mask must have the embedding's {embedding.dtype}, got {_what(mask)}")
    wanted = (ids.shape[1], embedding.shape[1])
    if mask.shape != wanted:
        raise ValueError(f"mask must be (B, I) = {wanted}, got shape {tuple(mask.shape)}")


def _what(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"dtype {value.dtype}, shape {tuple(value.shape)}"


class _Embed(torch.autograd.Function):
    """`_embed`, whose gradient is `_Sum`."""

    @staticmethod
    def forward(ctx: Any, embedding: Tensor, ids: Tensor, mask: Tensor | None) -> Tensor:
        ctx.save_for_backward(ids, mask)
        ctx.vocabulary = embedding.shape[0]
        result: Tensor = torch.ops.fastrnn._embed.default(ids, embedding, mask)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        ids, mask = ctx.saved_tensors
        return _Sum.apply(grads[0], ids, mask, ctx.vocabulary), None, None  # type: ignore[no-untyped-call]


class _Sum(torch.autograd.Function):
    """`_embed_backward`, whose gradient is `_Embed`."""

    @staticmethod
    def forward(
        ctx: Any, grad: Tensor, ids: Tensor, mask: Tensor | None, vocabulary: int
    ) -> Tensor:
        ctx.save_for_backward(ids, mask)
        result: Tensor = torch.ops.fastrnn._embed_backward.default(grad, ids, mask, vocabulary)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        ids, mask = ctx.saved_tensors
        return _Embed.apply(grads[0], ids, mask), None, None, None  # type: ignore[no-untyped-call]


def _fake_embed(ids: Tensor, embedding: Tensor, mask: Tensor | None = None) -> Tensor:
    return embedding.new_empty(*ids.shape, embedding.shape[1])


def _fake_embed_backward(grad: Tensor, ids: Tensor, mask: Tensor | None, vocabulary: int) -> Tensor:
    return grad.new_empty(vocabulary, grad.shape[2])


if _extension.loaded:
    torch.library.register_fake("fastrnn::_embed", _fake_embed)
    torch.library.register_fake("fastrnn::_embed_backward", _fake_embed_backward)
    exported.define("embed(Tensor embedding, Tensor ids, Tensor? mask) -> Tensor", _Embed.apply)
