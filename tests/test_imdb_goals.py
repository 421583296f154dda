"""The presets that are made for accuracy, from training to reading new text, on made-up reviews."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from imdb_training import small_corpus

from fastrnn.imdb.checkpoint import load_checkpoint, load_model, save_checkpoint
from fastrnn.imdb.config import Config
from fastrnn.imdb.corpus import load_corpus
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.presets import GOALS, configure
from fastrnn.imdb.reader import Reader
from fastrnn.imdb.reviews import Corpus
from fastrnn.imdb.sources import tokenise_files
from fastrnn.imdb.state import State
from fastrnn.imdb.synthetic import synthetic_reviews
from fastrnn.imdb.training import Result, train

CPU = torch.device("cpu")
CORPUS = replace(
    small_corpus(), **tokenise_files(synthetic_reviews(train=200, test=40), "fine")._asdict()
)


def corpus_for(config: Config) -> Corpus:
    return CORPUS if config.tokens == "fine" else small_corpus()


def small(preset: str, **given: Any) -> Config:
    sizes: dict[str, Any] = {
        "num_words": 600,
        "hidden_size": 8,
        "embedding_size": 8,
        "batch_size": 20,
        "epochs": 2,
    }
    return configure(preset, **{**sizes, "warmup_steps": 0, "lr": 0.02, **given})


def run(config: Config, folder: Path | None = None) -> tuple[Result, State]:
    states: list[State] = []

    def on_epoch(state: State) -> None:
        states.append(state)
        if folder is not None:
            save_checkpoint(folder / f"{len(state.history)}.pt", state)

    return train(config, corpus_for(config), on_epoch=on_epoch), states[-1]


@pytest.mark.parametrize("preset", GOALS)
def test_goals_learn(preset: str) -> None:
    result, _ = run(small(preset, epochs=4))
    assert result.test.accuracy > 0.75
    assert np.isnan(result.validation.loss) == (result.config.validation_fraction == 0)


@pytest.mark.parametrize("features", ["none", "nb"])
def test_best_cpu_with_less_features(features: str) -> None:
    result, state = run(small("best-cpu", features=features, epochs=1))
    assert (state.table is None) == (features == "none")
    assert result.best.epoch == 1


def test_without_validation_the_last_epoch_is_the_best() -> None:
    result, state = run(small("best-lstm", epochs=3, patience=1))
    assert [epoch.epoch for epoch in result.history] == [1, 2, 3]
    assert result.best == result.history[-1]
    assert state.improved


def test_fewer_features_are_told_in_the_settings() -> None:
    with pytest.raises(DataError, match=r"--features must be none or learned or nb or nbsvm"):
        small("best-cpu", features="svm")


@pytest.mark.parametrize("preset", ["best-cpu", "best-lstm"])
def test_checkpoint_reads_text_as_training_read_it(preset: str, tmp_path: Path) -> None:
    config = small(preset, epochs=1)
    _, state = run(config, tmp_path)
    reader = Reader(load_model(tmp_path / "1.pt"), CPU)
    text = "A brilliant, charming film!<br />It isn't dull; 10/10."
    (prediction,) = reader.predict([text])
    examples = reader.encoder.examples([reader.encoder.words(text)], CPU)
    state.model.eval()
    with torch.no_grad():
        wanted = torch.sigmoid(state.model(examples.take(torch.tensor([0]))[0])).item()
    assert prediction.probability == pytest.approx(wanted, abs=1e-6)
    explanation = reader.explain(text)
    assert [step.word for step in explanation.steps][:4] == ["a", "brilliant", ",", "charming"]
    assert explanation.prediction.probability == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("preset", ["best-cpu", "best-lstm"])
def test_training_goes_on_from_a_checkpoint(preset: str, tmp_path: Path) -> None:
    config = small(preset)
    whole, _ = run(config, tmp_path)
    kept = load_checkpoint(tmp_path / "1.pt").snapshot
    again = train(config, CORPUS, resume=kept)
    for ours, theirs in zip(again.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("ngrams", "reason"),
    [
        (None, "incomplete or wrong"),
        ({"keys": [1, 2]}, "incomplete or wrong"),
        ({"keys": torch.tensor([2, 1]), "scores": torch.zeros(2, 2).half()}, "must increase"),
        ({"keys": torch.tensor([1, 2]), "scores": torch.zeros(2, 1).half()}, "as many scores"),
    ],
)
def test_wrong_ngrams_are_refused(ngrams: object, reason: str, tmp_path: Path) -> None:
    run(small("best-cpu", epochs=1), tmp_path)
    path = tmp_path / "1.pt"
    content = torch.load(path, weights_only=True)
    torch.save({**content, "ngrams": ngrams}, path)
    with pytest.raises(DataError, match=reason):
        load_model(path)


@pytest.mark.skipif(
    not os.environ.get("FASTRNN_DATA") or os.environ["FASTRNN_DATA"].endswith(".npz"),
    reason="FASTRNN_DATA does not name the real texts",
)
def test_quick_reaches_its_goal_on_the_real_reviews() -> None:
    result = train(configure("quick"), load_corpus())
    assert result.test.accuracy > 0.8
