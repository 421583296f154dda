"""The network: its input, its initial weights, its dropout, and which state it reads."""

from __future__ import annotations

import pytest
import torch
from imdb_training import quick
from torch import nn
from torch.nn.functional import one_hot

import fastrnn
from fastrnn import reference
from fastrnn.imdb.batches import Batch
from fastrnn.imdb.model import OneHot, SentimentModel, initialise


def build(**given):
    config = quick(**given)
    torch.manual_seed(0)
    model = SentimentModel(config)
    initialise(model, config.init)
    return model


def random_ids(steps=7, batch=5, words=300):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(words, (steps, batch), generator=generator, dtype=torch.int32)


def test_one_hot_equals_torch():
    ids = random_ids(words=11)
    assert torch.equal(OneHot(11)(ids), one_hot(ids.long(), 11).float())


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_logits_come_from_the_final_states(cell, bidirectional):
    model = build(cell=cell, layers=2, bidirectional=bidirectional)
    stock = getattr(nn, cell.upper())(16, 8, num_layers=2, bidirectional=bidirectional)
    weights = {
        f"{name.replace('_l0', f'_l{index}')}": weight
        for index, layer in enumerate(model.layers)
        for name, weight in layer.state_dict().items()
    }
    stock.load_state_dict(weights)
    ids = random_ids()
    _, state = stock(model.embedding(ids))
    h_n = state[0] if cell == "lstm" else state
    last = torch.cat(list(h_n[-2:] if bidirectional else h_n[-1:]), dim=1)
    torch.testing.assert_close(model(Batch(ids)), model.head(last).squeeze(1))


def test_input_dropout_is_one_mask_for_all_steps():
    model = build(input_dropout=0.5)
    x = torch.ones(6, 4, 16)
    dropped = model._drop_inputs(x)
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(dropped, dropped[:1].expand_as(x))
    model.eval()
    assert torch.equal(model._drop_inputs(x), x)


def test_dropout_acts_between_layers_in_training_only():
    model = build(layers=2, dropout=0.5)
    ids = random_ids()
    assert not torch.equal(model(Batch(ids)), model(Batch(ids)))
    model.eval()
    assert torch.equal(model(Batch(ids)), model(Batch(ids)))


def test_torch_init_is_that_of_torch():
    model = build(init="torch")
    expected = [nn.Embedding(300, 16), nn.LSTM(16, 8), nn.Linear(8, 1)]
    # The modules draw once when they are made, and `initialise` draws the same way anew.
    torch.manual_seed(0)
    SentimentModel(quick())
    for module in expected:
        module.reset_parameters()
    ours = [model.embedding, model.layers[0], model.head]
    for module, wanted in zip(ours, expected, strict=True):
        for parameter, value in zip(module.parameters(), wanted.parameters(), strict=True):
            assert torch.equal(parameter, value)


def test_small_init_is_that_of_torch_but_for_the_embedding():
    torch_s, small = (build(init=init) for init in ("torch", "small"))
    for (name, ours), theirs in zip(small.named_parameters(), torch_s.parameters(), strict=True):
        assert torch.equal(ours, theirs * 0.1 if name == "embedding.weight" else theirs)


@pytest.mark.parametrize(("cell", "gates"), [("rnn", 1), ("lstm", 4), ("gru", 3)])
def test_keras_init(cell, gates):
    model = build(cell=cell, init="keras", hidden_size=12, num_words=5000)
    layer = model.layers[0]
    embedding = model.embedding.weight
    assert 0.049 < embedding.abs().max() <= 0.05
    glorot = (6 / (16 + gates * 12)) ** 0.5
    assert 0.9 * glorot < layer.weight_ih_l0.abs().max() <= glorot
    kernel = layer.weight_hh_l0
    torch.testing.assert_close(kernel.T @ kernel, torch.eye(12), atol=1e-5, rtol=0)
    bias = torch.zeros(gates, 12)
    if cell == "lstm":
        bias[1] = 1.0
    assert torch.equal(layer.bias_ih_l0, bias.flatten())
    assert not layer.bias_hh_l0.any()
    assert not model.head.bias.any()
    assert model.head.weight.abs().max() <= (6 / 13) ** 0.5


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_backends_are_what_they_are_called(cell, monkeypatch):
    assert type(build(cell=cell, backend="torch").layers[0]) is getattr(nn, cell.upper())
    assert type(build(cell=cell, backend="fastrnn").layers[0]) is getattr(fastrnn, cell.upper())

    modes = []

    def spy(mode, *arguments):
        modes.append(mode)
        return layer(mode, *arguments)

    layer = reference.layer
    monkeypatch.setattr(reference, "layer", spy)
    build(cell=cell, layers=2, backend="reference")(Batch(random_ids()))
    assert modes == [build(cell=cell).layers[0].mode] * 2
