"""Reviews as tensors on the device, and the batches in which a model reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastrnn.imdb.config import Config
from fastrnn.imdb.reviews import Reviews
from fastrnn.imdb.sequences import pad_reviews, review_lengths


class Batch(NamedTuple):
    """What a model reads at once."""

    ids: Tensor
    """int32 (T, B)."""
    lengths: Tensor | None = None
    """Steps of each review that are read, int64 (B,) on the CPU: what is behind them is padding.
    None where all steps are read, padding too, as Keras reads them without a mask."""


class Examples(NamedTuple):
    """Reviews and their labels; all of a data set, in the memory of the device."""

    ids: Tensor
    """int32 (N, T), padded."""
    labels: Tensor
    """float32 (N,), 1 for a positive review."""
    lengths: Tensor | None = None
    """As in `Batch`, (N,)."""

    def take(self, indices: Tensor) -> tuple[Batch, Tensor]:
        """Returns the reviews at `indices`, int64 (B,) on the CPU, and their labels (B,)."""
        here = indices.to(self.ids.device)
        ids, labels = self.ids.index_select(0, here), self.labels.index_select(0, here)
        if self.lengths is None:
            return Batch(ids.t().contiguous()), labels
        lengths = self.lengths.index_select(0, indices)
        longest = int(lengths.max())
        return Batch(ids[:, :longest].t().contiguous(), lengths), labels


def make_examples(config: Config, reviews: Reviews, device: torch.device) -> Examples:
    """Returns `reviews` padded and cut as `config` says.

    Where padding is not read, it is put behind a review, whatever side the settings name.
    """
    by_length = reads_lengths(config)
    ids = pad_reviews(
        reviews,
        num_words=config.num_words,
        maxlen=config.maxlen,
        padding="post" if by_length else config.padding,
        truncating=config.truncating,
    )
    lengths = np.minimum(review_lengths(reviews), config.maxlen)
    return Examples(
        torch.from_numpy(ids).to(device, torch.int32),
        torch.from_numpy(reviews.labels).to(device, torch.float32),
        torch.from_numpy(lengths) if by_length else None,
    )


def reads_lengths(config: Config) -> bool:
    """Whether a model reads only the steps that are a review's own, and no padding."""
    return config.batches == "bucketed" or config.pooling != "last"


def split_batches(
    config: Config, examples: Examples, order: torch.Generator | None = None
) -> Sequence[Tensor]:
    """Returns the indices of each batch, int64 on the CPU; together they are all of the examples.

    Args:
        config: its `batch_size`, and its `batches`: "bucketed" puts reviews of similar lengths
            together, so that a batch is as short as they are.
        examples: what is to be read.
        order: shuffles the reviews, and the batches among themselves. Default: None, the order of
            the examples, or of their lengths.
    """
    count = len(examples.labels)
    indices = torch.arange(count) if order is None else torch.randperm(count, generator=order)
    if config.batches == "padded" or examples.lengths is None:
        return torch.split(indices, config.batch_size)
    by_length = examples.lengths[indices].argsort(stable=True)
    batches = torch.split(indices[by_length], config.batch_size)
    if order is None:
        return batches
    return [batches[each] for each in torch.randperm(len(batches), generator=order).tolist()]
