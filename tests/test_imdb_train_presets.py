"""Presets have the sizes that the texts report, and wrong settings are refused by name."""

from __future__ import annotations

import doctest
import importlib

import pytest

from fastrnn.imdb.config import Config
from fastrnn.imdb.ensemble import Ensemble
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.layers import layer_table
from fastrnn.imdb.presets import PRESETS, configure

# Keras' counts as the texts print them: recurrent layers, and the whole model.
KERAS_PARAMETERS = {
    "onehot-rnn": ([1_672], 1_681),
    "embedding-rnn": ([200], 8_209),
    "lstm": ([800], 8_809),
    "lstm-dropout": ([800], 8_809),
    "lstm-recurrent-dropout": ([800], 8_809),
    "lstm-2layer": ([800, 544], 9_353),
    "gru": ([624], 8_633),
}
# torch.nn has two biases for each gate.
TORCH_PARAMETERS = {
    "onehot-rnn": ([1_680], 1_689),
    "embedding-rnn": ([208], 8_217),
    "lstm": ([832], 8_841),
    "lstm-dropout": ([832], 8_841),
    "lstm-recurrent-dropout": ([832], 8_841),
    "lstm-2layer": ([832, 576], 9_417),
    "gru": ([624], 8_633),
    "torch-rnn": ([208], 8_217),
    "torch-lstm-2layer": ([832, 576], 9_417),
}


@pytest.mark.parametrize("name", PRESETS)
def test_parameter_counts(name):
    config = configure(name)
    *rows, total = layer_table(Ensemble(config), config)
    recurrent = rows[1:-1]
    counts = [row.torch_parameters for row in recurrent]
    assert (counts, total.torch_parameters) == TORCH_PARAMETERS[name]
    if name in KERAS_PARAMETERS:
        counts = [row.keras_parameters for row in recurrent]
        assert (counts, total.keras_parameters) == KERAS_PARAMETERS[name]


def test_torch_count_is_that_of_torch():
    config = configure("torch-lstm-2layer", bidirectional=True)
    model = Ensemble(config)
    total = layer_table(model, config)[-1]
    assert total.torch_parameters == sum(p.numel() for p in model.parameters())


def test_given_options_override_the_preset_and_none_does_not():
    config = configure("gru", hidden_size=32, lr=None)
    assert (config.preset, config.cell, config.hidden_size) == ("gru", "gru", 32)
    assert config.lr == configure("gru").lr


def test_embedding_size_turns_one_hot_off():
    assert not configure("onehot-rnn", embedding_size=16).one_hot
    with pytest.raises(DataError, match="--one-hot and --embedding-size exclude each other"):
        configure(one_hot=True, embedding_size=16)


def test_unknown_preset_names_the_known():
    with pytest.raises(DataError, match="no preset 'lstn'; there are onehot-rnn, embedding-rnn"):
        configure("lstn")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cell": "elman"}, "--cell must be rnn or lstm or gru, got 'elman'"),
        ({"hidden_size": 0}, "--hidden-size must be between 1 and 1,000,000, got 0"),
        ({"hidden_size": 8.0}, "--hidden-size must be of type int, got 8.0"),
        ({"hidden_size": True}, "--hidden-size must be of type int, got True"),
        ({"bidirectional": 1}, "--bidirectional must be of type bool, got 1"),
        ({"layers": 101}, "--layers must be between 1 and 100, got 101"),
        ({"num_words": 4}, "--num-words must be between 5 and 1,000,000, got 4"),
        ({"lr": 0.0}, "--lr must be above 0, got 0.0"),
        ({"lr": float("nan")}, "--lr must be above 0, got nan"),
        ({"input_dropout": 1.0}, "--input-dropout must be at least 0 and below 1, got 1.0"),
        ({"validation_fraction": 1.0}, "--validation-fraction must be at least 0 and below 1"),
        ({"seed": -1}, "--seed must be at least 0, got -1"),
        ({"threads": 0}, "--threads must be at least 1, got 0"),
        ({"device": None}, "--device must be of type str, got None"),
        ({"dropout": 0.5}, "--dropout 0.5 acts between recurrent layers, and --layers is 1"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_wrong_settings_are_refused(wrong, message):
    with pytest.raises(DataError) as caught:
        configure(**wrong) if None not in wrong.values() else Config(**wrong)
    assert message in str(caught.value)


def test_config_survives_a_round_trip_and_refuses_unknown_fields():
    config = configure("onehot-rnn", threads=2)
    assert Config.from_dict(config.to_dict()) == config
    with pytest.raises(DataError, match="missing or unknown: colour"):
        Config.from_dict({**config.to_dict(), "colour": "red"})


@pytest.mark.parametrize("name", ["config", "presets", "model", "runs"])
def test_examples_in_the_documentation(name):
    result = doctest.testmod(importlib.import_module(f"fastrnn.imdb.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
