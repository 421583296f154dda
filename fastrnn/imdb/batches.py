"""Reviews as tensors on the device, and the batches in which a model reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastrnn.imdb.config import Config
from fastrnn.imdb.ngrams import Marks, NgramTable
from fastrnn.imdb.reviews import Reviews
from fastrnn.imdb.sequences import PADDING, number_reviews, pad_reviews, review_lengths


class Batch(NamedTuple):
    """What a model reads at once."""

    ids: Tensor
    """int32 (T, B)."""
    lengths: Tensor | None = None
    """Steps of each review that are read, int64 (B,) on the CPU: what is behind them is padding.
    None where all steps are read, padding too, as Keras reads them without a mask."""
    marks: Tensor | None = None
    """What is read beside the ids, (T, B, C): float16 scores, or int32 n-grams; or None."""
    owners: Tensor | None = None
    """Where columns are pieces of reviews, the review of each, int64 (B,), increasing from 0."""


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


class Segmented(NamedTuple):
    """Reviews that are cut into pieces, so that long ones take no longer than short ones.

    As `Examples`, all of a data set; without padding.
    """

    ids: Tensor
    """int32 (tokens,), those of all reviews one after another."""
    labels: Tensor
    """float32 (N,)."""
    spans: Tensor
    """int64 (N, 2), on the CPU: where the part of a review that is read begins and ends."""
    segment: int
    """Tokens of a piece; the last of a review may have less."""
    marks: Tensor | None
    """(tokens, C), as in `Batch`."""
    lengths: None = None
    """Pieces are of one length, whatever the length of a review."""

    def take(self, indices: Tensor) -> tuple[Batch, Tensor]:
        """Returns the pieces of the reviews at `indices`, int64 on the CPU, and their labels."""
        here, (first, last) = self.ids.device, self.spans[indices].unbind(1)
        pieces = (last - first + self.segment - 1) // self.segment
        owners = torch.repeat_interleave(pieces)
        place = torch.arange(len(owners)) - (pieces.cumsum(0) - pieces)[owners]
        begins = first[owners] + place * self.segment
        lengths = (last[owners] - begins).clamp_(max=self.segment)
        steps = torch.arange(int(lengths.max())).unsqueeze(1)
        padding = (steps >= lengths).to(here)
        tokens = (begins + steps).clamp_(max=len(self.ids) - 1).to(here)
        marks = None if self.marks is None else self.marks[tokens]
        ids = self.ids[tokens].masked_fill_(padding, PADDING)
        return Batch(ids, lengths, marks, owners.to(here)), self.labels[indices.to(here)]


def make_examples(
    config: Config,
    reviews: Reviews,
    device: torch.device,
    table: NgramTable | None = None,
    marks: Marks | None = None,
) -> Examples | Segmented:
    """Returns `reviews` padded, or segmented, and cut as `config` says.

    Where padding is not read, it is put behind a review, whatever side the settings name.

    Args:
        config: the settings.
        reviews: n reviews.
        device: where they shall be.
        table: marks the tokens, where the settings want features. Default: None.
        marks: those of training reviews, which must not be marked by the table. Default: None.
    """
    if config.segment is not None:
        if table is not None and marks is None:
            marks = table.marks(reviews)
        return _segmented(config, reviews, config.segment, marks, device)
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


def _segmented(
    config: Config, reviews: Reviews, segment: int, marks: Marks | None, device: torch.device
) -> Segmented:
    ids, offsets = number_reviews(reviews, config.num_words)
    begins, ends = offsets[:-1], offsets[1:]
    if config.truncating == "pre":
        begins = np.maximum(begins, ends - config.maxlen)
    else:
        ends = np.minimum(ends, begins + config.maxlen)
    if marks is not None:  # the start number has none
        marks = np.insert(marks, reviews.offsets[:-1], 0, axis=0)
    return Segmented(
        torch.from_numpy(ids).to(device),
        torch.from_numpy(reviews.labels).to(device, torch.float32),
        torch.from_numpy(np.stack([begins, ends], 1)),
        segment,
        None if marks is None else torch.from_numpy(marks).to(device),
    )


def reads_lengths(config: Config) -> bool:
    """Whether a model reads only the steps that are a review's own, and no padding."""
    return config.batches == "bucketed" or config.pooling != "last"


def split_batches(
    config: Config, examples: Examples | Segmented, order: torch.Generator | None = None
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
