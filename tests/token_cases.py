"""Calls of modules with token ids, and with the vectors that the ids stand for."""

from __future__ import annotations

from typing import Any

import torch
from cases import evaluate
from tolerances import assert_matches
from torch import Tensor, nn
from torch.nn.functional import embedding as rows_of

SHAPES = [
    (7, 5, 6, 3, 8),
    (5, 3, 40, 9, 13),
    (1, 4, 9, 5, 8),
    (6, 1, 20, 4, 33),
    (9, 20, 50, 17, 8),
]


def draw(steps: int, batch: int, vocabulary: int, dtype: torch.dtype = torch.int64) -> Tensor:
    return torch.randint(0, vocabulary, (steps, batch)).to(dtype)


def with_ids(module: Any, ids: Tensor, weight: Tensor | None, **options: Any) -> Any:
    """A call for `evaluate`, whose input is the embedding; nothing where there is none."""

    def call(module: Any, input: Tensor, *hx: Any) -> Any:
        return module(ids, *hx, embedding=None if weight is None else input, **options)

    return call


def with_vectors(ids: Tensor, one_hot: int = 0) -> Any:
    """The same for a module that takes the vectors that ids stand for."""

    def call(module: Any, input: Tensor, *hx: Any) -> Any:
        if one_hot:
            return module(nn.functional.one_hot(ids.long(), one_hot).to(input.dtype), *hx)
        return module(rows_of(ids, input), *hx)

    return call


def compare(ours: Any, theirs: Any, ids: Tensor, weight: Tensor | None, hx: Any = None) -> Any:
    """Results and gradients by everything; those without gradients have the same bits."""
    dtype = theirs.weight_ih_l0.dtype
    wide = (
        None
        if hx is None
        else hx.to(dtype)
        if isinstance(hx, Tensor)
        else [*map(dtype_to(dtype), hx)]
    )
    frozen = {"input"} if weight is None else set()
    given = torch.zeros(1, dtype=ours.weight_ih_l0.dtype) if weight is None else weight
    one_hot = ours.input_size if weight is None else 0
    actual = evaluate(ours, given, hx, frozen=frozen, call=with_ids(ours, ids, weight))
    expected = evaluate(
        theirs, given.to(dtype), wide, frozen=frozen, call=with_vectors(ids, one_hot)
    )
    assert_matches(actual, expected)
    with torch.no_grad():
        output, finals = ours(ids, hx, embedding=weight)
    finals = list(finals) if isinstance(finals, tuple) else [finals]
    assert_matches([output, *finals], list(actual[0]), fraction=0)
    return actual


def dtype_to(dtype: torch.dtype) -> Any:
    return lambda tensor: tensor.to(dtype)
