"""The layer table of a model, as Keras' `summary()` has it."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from fastrnn.imdb.config import Config
from fastrnn.imdb.ensemble import Ensemble
from fastrnn.imdb.model import SentimentModel


class LayerRow(NamedTuple):
    """A line of the layer table: counts of parameters as torch and as Keras have them."""

    name: str
    output: str
    torch_parameters: int
    keras_parameters: int


def layer_table(model: Ensemble, config: Config) -> list[LayerRow]:
    """Returns a row for each layer, then one for the total, as Keras' `summary()` does.

    A row counts the parameters of a layer in all networks of the model. Keras has one bias for each
    gate where torch has two, except in the GRU (`reset_after`).
    """
    network, networks = model.networks[0], len(model.networks)
    assert isinstance(network, SentimentModel)
    several = f"{networks} x " if networks > 1 else ""
    directions = 2 if config.bidirectional else 1
    features = config.num_words if config.one_hot else config.embedding_size
    names = ["one-hot" if config.one_hot else "embedding"]
    modules: list[nn.Module] = [network.embedding]
    if config.features == "learned":
        names.append("n-grams")
        modules.append(network.ngrams)
    outputs = [f"(T, B, {features})"] * len(names)
    names += [f"{config.cell} {index}" for index in range(1, config.layers + 1)]
    recurrent = config.hidden_size * directions
    outputs += [f"(T, B, {recurrent})"] * (config.layers - 1)
    outputs.append(f"(B, {network.pooled})")
    outputs.append(
        "(B,)" if network.head.out_features == 1 else f"(B, {network.head.out_features})"
    )
    modules += [*network.layers, network.head]
    rows = [
        LayerRow(
            several + name,
            output,
            networks * _count(module),
            networks * (_count(module) - _surplus_biases(module)),
        )
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
