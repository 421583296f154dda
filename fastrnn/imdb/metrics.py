"""How well guesses fit the truth, by counting.

Written here because scikit-learn takes half as long to load as torch does; the tests hold both to
the same numbers.
"""

from __future__ import annotations

from torch import Tensor


def accuracy_and_f1(truth: Tensor, guess: Tensor) -> tuple[float, float]:
    """Returns the share of right guesses, and the F1 of the positive class.

    F1 is 0 where nothing is positive and nothing is called so.

    Args:
        truth: bool (N,), whether an example is positive.
        guess: bool (N,), whether it is called so.

    Source:
        ``sklearn.metrics.accuracy_score``, and ``f1_score`` with ``zero_division=0``.

    Example:
        >>> import torch
        >>> accuracy_and_f1(torch.tensor([True, True, False]), torch.tensor([True, False, False]))
        (0.6666666666666666, 0.6666666666666666)
    """
    right, hits = int((truth == guess).sum()), int((truth & guess).sum())
    positives = int(truth.sum()) + int(guess.sum())
    return right / len(truth), 2 * hits / positives if positives else 0.0
