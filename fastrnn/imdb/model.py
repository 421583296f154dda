"""The network: words to vectors, recurrent layers one after another, and what they say of a review.

What the numbers mean that it gives, `fastrnn.imdb.losses` knows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fastrnn
from fastrnn import reference
from fastrnn.embedding import embed
from fastrnn.imdb.batches import Batch
from fastrnn.imdb.config import Config
from fastrnn.imdb.losses import ACTIVATIONS, LOSSES, activation_before
from fastrnn.imdb.ngrams import KINDS
from fastrnn.imdb.sequences import OUT_OF_VOCABULARY
from fastrnn.lengths import valid


class OneHot(nn.Module):
    """Ids to one-hot vectors of one batch; the whole set would take gigabytes.

    Example:
        >>> OneHot(3)(torch.tensor([2, 0], dtype=torch.int32))
        tensor([[0., 0., 1.],
                [1., 0., 0.]])
    """

    def __init__(self, size: int) -> None:
        """Makes vectors of `size` elements."""
        super().__init__()
        self.size = size

    def forward(self, ids: Tensor) -> Tensor:
        """Returns float32 of shape (*ids.shape, size) for `ids` of any shape and integer type."""
        vectors = torch.zeros(*ids.shape, self.size, device=ids.device)
        return vectors.scatter_(-1, ids.long().unsqueeze(-1), 1.0)


class NgramEmbedding(nn.EmbeddingBag):
    """The sum of the vectors of the n-grams that end at a token; that of number 0 stays zero.

    All vectors begin at zero: a network that begins with random ones never unlearns those of the
    many n-grams that it rarely meets.

    Example:
        >>> NgramEmbedding(9, 4)(torch.zeros(5, 2, 3, dtype=torch.int32)).shape
        torch.Size([5, 2, 4])
    """

    def __init__(self, count: int, size: int) -> None:
        """Makes `count` vectors of `size` elements."""
        super().__init__(count, size, mode="sum", padding_idx=0)

    def reset_parameters(self) -> None:
        """Makes all vectors zero."""
        nn.init.zeros_(self.weight)

    def forward(self, numbers: Tensor) -> Tensor:  # type: ignore[override]
        """From int32 (T, B, n) to (T, B, size)."""
        steps, batch, each = numbers.shape
        return super().forward(numbers.view(-1, each)).view(steps, batch, -1)


class SentimentModel(nn.Module):
    """Embedding or one-hot → recurrent layers → last state or pooling → linear → activation.

    The layers are single-layer modules one after another and all dropout but the recurrent is drawn
    between them, here, so that every backend draws the same random numbers in the same order.

    Args:
        config: sizes, cell, dropout, pooling, loss and backend; its `init` and `seed` are for
            `initialise`.
        ngrams: of how many n-grams it learns an embedding, where `features` is "learned".

    Example:
        >>> model = SentimentModel(Config(cell="gru", backend="torch"))
        >>> batch = Batch(torch.zeros(100, 3, dtype=torch.int32))
        >>> model(batch).shape
        torch.Size([3])
    """

    def __init__(self, config: Config, ngrams: int = 0) -> None:
        """Builds the layers."""
        super().__init__()
        self.config = config
        self.embedding = (
            OneHot(config.num_words)
            if config.one_hot
            else nn.Embedding(config.num_words, config.embedding_size)
        )
        features = config.num_words if config.one_hot else config.embedding_size
        if config.features == "learned":
            self.ngrams = NgramEmbedding(1 + ngrams, features)
        elif config.features != "none":
            features += KINDS[config.features].channels
        inputs, recurrent = features, _recurrent_class(config)
        self.layers = nn.ModuleList()
        for _ in range(config.layers):
            self.layers.append(
                recurrent(features, config.hidden_size, bidirectional=config.bidirectional)
            )
            features = config.hidden_size * (2 if config.bidirectional else 1)
        self.pooled = features * (2 if config.pooling == "max-mean" else 1)
        past = inputs if config.shortcut else 0
        self.head = nn.Linear(self.pooled + past, LOSSES[config.loss].outputs)

    def forward(self, batch: Batch) -> Tensor:
        """Returns what the loss takes: one number for each review, (B,), or two, (B, 2)."""
        config = self.config
        x, embedding = self._first_input(self._drop_words(batch.ids), batch.marks)
        inputs = x
        for index, layer in enumerate(self.layers):
            if index:
                embedding = None
                x = self._drop_inputs(dropout(x, config.dropout, self.training))
            wants_output = index < len(self.layers) - 1 or config.pooling != "last"
            x, h_n = _run(layer, x, batch.lengths, wants_output, embedding)
        features = (
            h_n.transpose(0, 1).flatten(1)  # (directions, B, H) before
            if config.pooling == "last"
            else _pool(config.pooling, x, batch.lengths, batch.owners)
        )
        if config.shortcut:
            past = _root_sum(inputs, batch.lengths, batch.owners)
            features = torch.cat([features, past], 1)
        features = dropout(features, config.head_dropout, self.training)
        activation = ACTIVATIONS[activation_before(config.loss, config.output_activation)]
        outputs: Tensor = activation(self.head(features))
        return outputs.squeeze(1)

    def _drop_words(self, ids: Tensor) -> Tensor:
        if not self.training or not self.config.word_dropout:
            return ids
        dropped = torch.rand(ids.shape, device=ids.device) < self.config.word_dropout
        return ids.masked_fill(dropped & (ids > OUT_OF_VOCABULARY), OUT_OF_VOCABULARY)

    def _first_input(self, ids: Tensor, marks: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Returns what the first layer reads, and the embedding if those are ids of its rows.

        Layers of fastrnn read ids, at less cost than vectors; a mask needs vectors to lie on, and a
        shortcut vectors to add.
        """
        config = self.config
        if marks is not None:
            return self._beside(self.embedding(ids), marks), None
        drops = self.training and config.input_dropout > 0
        if config.backend == "torch" or config.shortcut or (drops and config.one_hot):
            return self._drop_inputs(self.embedding(ids)), None
        if isinstance(self.embedding, OneHot):
            return ids, None
        weight = self.embedding.weight
        if not drops:
            return ids, weight
        return embed(ids, weight, self._input_mask(weight, ids.size(1))), None

    def _beside(self, words: Tensor, marks: Tensor) -> Tensor:
        """Returns vectors (T, B, features) of words and of the marks (T, B, C) beside them."""
        dropped = self.config.feature_dropout if self.training else 0
        if dropped:
            marks = marks * (torch.rand(marks.shape, device=marks.device) >= dropped)
        if self.config.features == "learned":
            return self._drop_inputs(words + self.ngrams(marks) / (1 - dropped))
        return torch.cat([self._drop_inputs(words), marks.to(words.dtype)], -1)

    def _drop_inputs(self, x: Tensor) -> Tensor:
        if not self.training or not self.config.input_dropout:
            return x
        return x * self._input_mask(x, x.size(1))

    def _input_mask(self, like: Tensor, batch: int) -> Tensor:
        """One mask (B, I) for all time steps (Gal and Ghahramani 2016), Keras' `dropout`."""
        return dropout(like.new_ones(batch, like.size(-1)), self.config.input_dropout)


def _run(
    layer: nn.Module,
    x: Tensor,
    lengths: Tensor | None,
    wants_output: bool,
    embedding: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Returns the output (T, B, D * H), zero behind a review's end, and last h (D, B, H).

    Without `wants_output` there may be None in place of the output. With `embedding`, x are ids of
    its rows; ids alone are one-hot vectors.
    """
    if isinstance(layer, nn.RNN | nn.LSTM | nn.GRU):  # torch's own
        if lengths is None:
            output, state = layer(x)
        else:
            packed, state = layer(pack_padded_sequence(x, lengths, enforce_sorted=False))
            output = pad_packed_sequence(packed)[0] if wants_output else None
    else:
        output, state = layer(x, lengths=lengths, output=wants_output, embedding=embedding)
    return output, state[0] if isinstance(state, tuple) else state


def _pool(
    pooling: str, output: Tensor, lengths: Tensor | None, owners: Tensor | None = None
) -> Tensor:
    """From the output (T, B, F) of reviews of such lengths to (B, F), or both poolings (B, 2F).

    With `owners`, as in `Batch`, B is the number of pieces before and of reviews after.
    """
    lengths = _all_lengths(output, lengths)
    pooled = []
    if "max" in pooling:
        largest = output.masked_fill(_padding(output, lengths), -torch.inf).amax(0)
        pooled.append(largest if owners is None else _reduce(largest, owners, "amax"))
    if "mean" in pooling:
        total, steps = _sums(output, lengths, owners)
        pooled.append(total / steps)
    return torch.cat(pooled, 1)


def _root_sum(inputs: Tensor, lengths: Tensor | None, owners: Tensor | None) -> Tensor:
    """The sum (B, F) of the inputs (T, B, F) of a review, over the root of the number of its steps.

    A mean would be next to nothing where few words of many matter.
    """
    lengths = _all_lengths(inputs, lengths)
    own = inputs.masked_fill(_padding(inputs, lengths), 0)
    total, steps = _sums(own, lengths, owners)
    return total / steps.sqrt()


def _all_lengths(x: Tensor, lengths: Tensor | None) -> Tensor:
    return (torch.full(x.shape[1:2], len(x)) if lengths is None else lengths).to(x.device)


def _padding(x: Tensor, lengths: Tensor) -> Tensor:
    return ~valid(lengths, "right", len(x)).unsqueeze(-1)


def _sums(x: Tensor, lengths: Tensor, owners: Tensor | None) -> tuple[Tensor, Tensor]:
    """Of x (T, B, F), zero behind a review's end, the sum (B, F), and the steps (B, 1) of it."""
    total, steps = x.sum(0), lengths.unsqueeze(1).to(x.dtype)
    if owners is None:
        return total, steps
    return _reduce(total, owners, "sum"), _reduce(steps, owners, "sum")


def _reduce(pieces: Tensor, owners: Tensor, how: str) -> Tensor:
    """From (pieces, F) to (reviews, F); every review has a piece."""
    reviews = int(owners[-1]) + 1
    result = pieces.new_full((reviews, pieces.shape[1]), -torch.inf if how == "amax" else 0.0)
    return result.scatter_reduce(0, owners.unsqueeze(1).expand_as(pieces), pieces, how)


def _recurrent_class(config: Config) -> Callable[..., nn.Module]:
    # torch.nn knows no recurrent dropout: plain PyTorch is what a user of torch has for it.
    plain = config.backend == "reference" or (
        config.backend == "torch" and config.recurrent_dropout > 0
    )
    library = torch.nn if config.backend == "torch" and not plain else fastrnn
    module: type[nn.Module] = getattr(library, config.cell.upper())
    if plain:
        module = type(module.__name__, (module,), {"_layer": staticmethod(reference.layer)})
    if config.recurrent_dropout:
        return partial(module, recurrent_dropout=config.recurrent_dropout)
    return module


@torch.no_grad()
def initialise(model: nn.Module, init: str) -> None:
    """Draws all parameters anew from torch's global generator, in the same order for each backend.

    Args:
        model: one network or several, on the CPU so that every device starts from the same numbers.
        init: "torch" for the modules' own defaults; "small" for these, and a tenth of them for the
            embedding; "keras" for those of `keras.layers`: embedding uniform in ±0.05, kernels
            Glorot uniform, recurrent kernels orthogonal, biases zero and the LSTM's forget bias
            one.
    """
    for module in model.modules():
        if isinstance(module, NgramEmbedding):
            module.reset_parameters()
        elif init != "keras" and isinstance(module, nn.Embedding | nn.Linear | nn.RNNBase):
            module.reset_parameters()
            if init == "small" and isinstance(module, nn.Embedding):
                module.weight.mul_(0.1)
        elif isinstance(module, nn.Embedding):
            nn.init.uniform_(module.weight, -0.05, 0.05)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.RNNBase):
            _initialise_like_keras(module)


def _initialise_like_keras(module: nn.RNNBase) -> None:
    for name, parameter in module.named_parameters():
        if name.startswith("weight_ih"):
            nn.init.xavier_uniform_(parameter)
        elif name.startswith("weight_hh"):
            nn.init.orthogonal_(parameter)
        else:
            nn.init.zeros_(parameter)
            # Gates are i, f, g, o; the two biases are added, so one of them holds the one.
            if module.mode == "LSTM" and name.startswith("bias_ih"):
                parameter.view(4, -1)[1] = 1.0
