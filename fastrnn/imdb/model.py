"""The network: words to vectors, recurrent layers one after another, one logit for a review."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

import fastrnn
from fastrnn import reference
from fastrnn.imdb.config import Config


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


class SentimentModel(nn.Module):
    """Embedding or one-hot → recurrent layers → final hidden state → linear to one logit.

    The layers are single-layer modules one after another and all dropout is drawn between them,
    here, so that every backend draws the same random numbers in the same order.

    Args:
        config: sizes, cell, dropout and backend; its `init` and `seed` are for `initialise`.

    Example:
        >>> model = SentimentModel(Config(cell="gru", backend="torch"))
        >>> model(torch.zeros(100, 3, dtype=torch.int32)).shape
        torch.Size([3])
    """

    def __init__(self, config: Config) -> None:
        """Builds the layers."""
        super().__init__()
        self.dropout = config.dropout
        self.input_dropout = config.input_dropout
        self.embedding = (
            OneHot(config.num_words)
            if config.one_hot
            else nn.Embedding(config.num_words, config.embedding_size)
        )
        features = config.num_words if config.one_hot else config.embedding_size
        recurrent = _recurrent_class(config)
        self.layers = nn.ModuleList()
        for _ in range(config.layers):
            self.layers.append(
                recurrent(features, config.hidden_size, bidirectional=config.bidirectional)
            )
            features = config.hidden_size * (2 if config.bidirectional else 1)
        self.head = nn.Linear(features, 1)

    def forward(self, ids: Tensor) -> Tensor:
        """Returns the logits (B,) of reviews `ids` (T, B); above 0 is a positive review."""
        x = self.embedding(ids)
        for index, layer in enumerate(self.layers):
            if index:
                x = dropout(x, self.dropout, self.training)
            x, state = layer(self._drop_inputs(x))
        h_n = state[0] if isinstance(state, tuple) else state  # (directions, B, H)
        logits: Tensor = self.head(h_n.transpose(0, 1).flatten(1))
        return logits.squeeze(1)

    def _drop_inputs(self, x: Tensor) -> Tensor:
        """One mask (B, I) for all time steps (Gal and Ghahramani 2016), Keras' `dropout`."""
        if not self.training or not self.input_dropout:
            return x
        return x * dropout(torch.ones_like(x[0]), self.input_dropout)


def _recurrent_class(config: Config) -> Callable[..., nn.RNNBase]:
    library = torch.nn if config.backend == "torch" else fastrnn
    module: type[nn.RNNBase] = getattr(library, config.cell.upper())
    if config.backend != "reference":
        return module
    return type(module.__name__, (module,), {"_layer": staticmethod(reference.layer)})


@torch.no_grad()
def initialise(model: SentimentModel, init: str) -> None:
    """Draws all parameters anew from torch's global generator, in the same order for each backend.

    Args:
        model: the model, on the CPU so that every device starts from the same numbers.
        init: "torch" for the modules' own defaults; "keras" for those of `keras.layers`: embedding
            uniform in ±0.05, kernels Glorot uniform, recurrent kernels orthogonal, biases zero and
            the LSTM's forget bias one.
    """
    for module in model.modules():
        if init == "torch" and isinstance(module, nn.Embedding | nn.Linear | nn.RNNBase):
            module.reset_parameters()
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


class LayerRow(NamedTuple):
    """A line of the layer table: counts of parameters as torch and as Keras have them."""

    name: str
    output: str
    torch_parameters: int
    keras_parameters: int


def layer_table(model: SentimentModel, config: Config) -> list[LayerRow]:
    """Returns a row for each layer, then one for the total, as Keras' `summary()` does.

    Keras has one bias for each gate where torch has two, except in the GRU (`reset_after`).
    """
    directions = 2 if config.bidirectional else 1
    features = config.num_words if config.one_hot else config.embedding_size
    names = ["one-hot" if config.one_hot else "embedding"]
    names += [f"{config.cell} {index}" for index in range(1, config.layers + 1)]
    outputs = [f"(T, B, {features})"]
    outputs += [f"(T, B, {config.hidden_size * directions})"] * (config.layers - 1)
    outputs += [f"(B, {config.hidden_size * directions})", "(B,)"]
    modules = [model.embedding, *model.layers, model.head]
    rows = [
        LayerRow(name, output, _count(module), _count(module) - _surplus_biases(module))
        for name, output, module in zip([*names, "linear"], outputs, modules, strict=True)
    ]
    torch_total = sum(row.torch_parameters for row in rows)
    keras_total = sum(row.keras_parameters for row in rows)
    return [*rows, LayerRow("total", "", torch_total, keras_total)]


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _surplus_biases(module: nn.Module) -> int:
    if not isinstance(module, nn.RNNBase) or module.mode == "GRU":
        return 0
    return sum(p.numel() for name, p in module.named_parameters() if name.startswith("bias_hh"))
