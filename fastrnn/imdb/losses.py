"""The losses: how many numbers the output layer gives, what they are compared with, what they say.

A model ends in one number for each review, or in two, the first for a negative review and the
second for a positive one. Only this file knows how a probability is read from them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from fastrnn.imdb.errors import DataError

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda outputs: outputs,
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}
"""What may lie between the output layer and the loss, by the names of `--output-activation`."""


class Loss(NamedTuple):
    """A loss and what it asks of the model that it trains."""

    outputs: int
    """Numbers for each review that the output layer gives: 1 or 2."""
    activations: tuple[str, ...]
    """Those of `ACTIVATIONS` that make sense before it; the first is taken if none is asked for."""
    mean: Callable[[Tensor, Tensor], Tensor]
    """From outputs (B,) or (B, 2) and labels (B,), float32 of 0 and 1, to the mean loss."""
    probability: Callable[[Tensor], Tensor]
    """From outputs (B,) or (B, 2) to the probability (B,) that a review is positive."""


def _one_hot(labels: Tensor) -> Tensor:
    return torch.stack([1 - labels, labels], -1)


def _softmax(outputs: Tensor) -> Tensor:
    return torch.softmax(outputs, -1)[:, 1]


def _from_regression(outputs: Tensor) -> Tensor:
    """Both outputs estimate a probability, so the mean of the two estimates is taken."""
    return ((1 + outputs[:, 1] - outputs[:, 0]) / 2).clamp(0, 1)


ANY = tuple(ACTIVATIONS)

LOSSES = {
    "bce": Loss(1, ("sigmoid",), F.binary_cross_entropy, lambda outputs: outputs),
    # A logit that cannot be negative calls every review positive.
    "bce-logits": Loss(
        1, ("none", "tanh"), F.binary_cross_entropy_with_logits, lambda outputs: outputs.sigmoid()
    ),
    "cross-entropy": Loss(
        2, ANY, lambda outputs, labels: F.cross_entropy(outputs, labels.long()), _softmax
    ),
    "nll": Loss(
        2,
        ANY,
        lambda outputs, labels: F.nll_loss(F.log_softmax(outputs, -1), labels.long()),
        _softmax,
    ),
    "mse": Loss(
        2, ANY, lambda outputs, labels: F.mse_loss(outputs, _one_hot(labels)), _from_regression
    ),
    "l1": Loss(
        2, ANY, lambda outputs, labels: F.l1_loss(outputs, _one_hot(labels)), _from_regression
    ),
}
"""The losses by the names of `--loss`."""


def activation_before(loss: str, asked: str | None) -> str:
    """Returns the name of the activation before `loss`: `asked`, or the loss's own where None.

    Raises:
        DataError: the two make no sense together.

    Example:
        >>> activation_before("bce", None)
        'sigmoid'
        >>> activation_before("bce", "tanh")
        Traceback (most recent call last):
        ...
        fastrnn.imdb.errors.DataError: --loss bce goes with --output-activation sigmoid, got tanh
    """
    accepted = LOSSES[loss].activations
    if asked is None:
        return accepted[0]
    if asked not in accepted:
        raise DataError(
            f"--loss {loss} goes with --output-activation {' or '.join(accepted)}, got {asked}"
        )
    return asked
