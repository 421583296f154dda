"""Training learns, stops when it should, and does not depend on the backend."""

from __future__ import annotations

import copy
import doctest

import numpy as np
import pytest
import torch
from imdb_training import losses_of, quick, small_corpus

from fastrnn.imdb import metrics
from fastrnn.imdb.batches import Batch, make_examples
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.training import evaluate, find_device, train


@pytest.mark.parametrize(
    ("preset", "given"),
    [("lstm", {}), ("gru", {}), ("lstm-2layer", {}), ("torch-rnn", {"cell": "gru"})],
)
def test_learns(preset, given):
    config = quick(preset, num_words=500, maxlen=60, epochs=10, lr=0.01, **given)
    result = train(config, small_corpus(1200, 300))
    assert result.history[-1].train_loss < 0.8 * result.history[0].train_loss
    assert result.validation.accuracy > 0.75
    assert result.test.accuracy > 0.75
    assert result.test.f1 > 0.7


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop"])
@pytest.mark.parametrize("loss", ["bce", "bce-logits"])
def test_every_optimizer_and_loss_lowers_the_loss(optimizer, loss):
    lr = 0.5 if optimizer == "sgd" else 0.01
    config = quick(optimizer=optimizer, loss=loss, lr=lr, init="keras", epochs=8, maxlen=40)
    history = train(config, small_corpus()).history
    assert history[-1].train_loss < history[0].train_loss - 0.005


def test_the_two_losses_are_the_same_function():
    first, second = (losses_of(quick(loss=loss))[0] for loss in ("bce", "bce-logits"))
    np.testing.assert_allclose(first, second, rtol=1e-5)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("backend", ["fastrnn", "reference"])
def test_backends_give_the_same_losses(cell, layers, backend):
    given = dict(cell=cell, layers=layers, input_dropout=0.2, dropout=0.2 * (layers - 1))
    wanted, _ = losses_of(quick(**given, backend="torch"))
    losses, _ = losses_of(quick(**given, backend=backend))
    assert len(losses) == 2 * 5  # epochs, batches of 64 in 320 reviews
    # Ten steps of float32 rounding, which Adam may enlarge where a gradient is near zero.
    np.testing.assert_allclose(losses, wanted, rtol=1e-5)


def test_bidirectional_backends_give_the_same_losses():
    wanted, _ = losses_of(quick(bidirectional=True, layers=2, backend="torch"))
    losses, _ = losses_of(quick(bidirectional=True, layers=2, backend="fastrnn"))
    np.testing.assert_allclose(losses, wanted, rtol=1e-5)


def test_the_seed_decides():
    first, _ = losses_of(quick(input_dropout=0.2, seed=1))
    again, _ = losses_of(quick(input_dropout=0.2, seed=1))
    other, _ = losses_of(quick(input_dropout=0.2, seed=2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_dropout_does_not_change_the_order_of_the_reviews(monkeypatch):
    seen = []
    for input_dropout in (0.0, 0.5):
        batches = []
        seen.append(batches)
        train(
            quick(input_dropout=input_dropout),
            small_corpus(),
            on_epoch=lambda state, batches=batches: (
                state.history
                or state.model.register_forward_pre_hook(
                    lambda model, inputs: batches.append(inputs[0].ids.clone())
                )
            ),
        )
    assert len(seen[0]) > 10
    assert all(torch.equal(*pair) for pair in zip(*seen, strict=True))


def test_early_stopping_restores_the_best_weights():
    weights = []
    # Few reviews and large steps: the model soon knows them by heart.
    config = quick(epochs=60, patience=3, lr=0.05)
    result = train(
        config,
        small_corpus(),
        on_epoch=lambda state: weights.append(copy.deepcopy(state.model.state_dict())),
    )
    best = result.best.epoch
    assert len(result.history) == best + 3 < 60
    assert result.best.validation_loss == min(e.validation_loss for e in result.history)
    assert len(weights) == len(result.history) + 1  # and once before the first epoch
    for name, value in result.model.state_dict().items():
        assert torch.equal(value, weights[best][name])
        assert not torch.equal(value, weights[-1][name])
    assert result.validation.loss == result.best.validation_loss
    assert result.validation.accuracy == result.best.validation_accuracy


def test_scores_are_those_of_their_definitions():
    config = quick()
    result = train(config, small_corpus())
    examples = make_examples(config, small_corpus().test, torch.device("cpu"))
    scores = evaluate(result.model, examples, config)
    with torch.no_grad():
        probability = torch.sigmoid(result.model(Batch(examples.ids.t())))
    guess, truth = probability > 0.5, examples.labels > 0.5
    hits = (guess & truth).sum().item()
    assert scores == result.test
    assert scores.accuracy == pytest.approx((guess == truth).float().mean().item())
    assert scores.f1 == pytest.approx(2 * hits / (guess.sum() + truth.sum()).item())
    chosen = torch.where(truth, probability, 1 - probability)
    assert scores.loss == pytest.approx(-chosen.log().mean().item(), rel=1e-5)


@pytest.mark.parametrize("truth_share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("guess_share", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("count", [1, 7, 1000])
def test_counted_scores_are_those_of_scikit_learn(count, truth_share, guess_share):
    wanted = pytest.importorskip("sklearn.metrics")
    truth, guess = torch.rand(count) < truth_share, torch.rand(count) < guess_share
    accuracy, f1 = metrics.accuracy_and_f1(truth, guess)
    assert accuracy == wanted.accuracy_score(truth, guess)
    assert f1 == wanted.f1_score(truth, guess, zero_division=0.0)


def test_examples_of_scores():
    result = doctest.testmod(metrics)
    assert result.attempted > 0
    assert result.failed == 0


def test_one_hot_vectors_exist_for_one_batch_at_a_time():
    largest = 0

    def note_size(module, inputs, output):
        nonlocal largest
        largest = max(largest, output.numel())

    def watch(state):
        if not state.history:
            state.model.networks[0].embedding.register_forward_hook(note_size)

    config = quick(one_hot=True, batch_size=16, epochs=1, cell="rnn")
    train(config, small_corpus(), on_epoch=watch)
    assert largest == 16 * config.maxlen * config.num_words


def test_diverging_says_so():
    with pytest.raises(DataError, match=r"not finite in epoch \d+: try an --lr below 1e\+38"):
        train(quick(optimizer="sgd", lr=1e38, epochs=20), small_corpus())


@pytest.mark.parametrize("device", ["meta", "abacus", "cuda:99"])
def test_absent_device_is_refused(device):
    with pytest.raises(DataError, match=f"--device {device} cannot be used here: "):
        find_device(device)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_trains_on_cuda():
    losses, _ = losses_of(quick(device="cuda"))
    wanted, _ = losses_of(quick())
    np.testing.assert_allclose(losses, wanted, rtol=1e-3)


def test_examples_are_cut_and_filled_as_the_settings_say():
    corpus, cpu = small_corpus(), torch.device("cpu")
    whole = make_examples(quick(maxlen=400), corpus.test, cpu).ids
    length = int((whole[0] != 0).sum())
    review = whole[0, -length:]
    assert whole[0, 0] == 0 and review[0] == 1
    post = make_examples(quick(maxlen=400, padding="post"), corpus.test, cpu).ids
    assert torch.equal(post[0, :length], review)
    cut = make_examples(quick(maxlen=20), corpus.test, cpu)
    assert torch.equal(cut.ids[0], review[-20:])
    cut = make_examples(quick(maxlen=20, truncating="post"), corpus.test, cpu)
    assert torch.equal(cut.ids[0], review[:20])
    assert cut.ids.dtype == torch.int32
    assert cut.labels.tolist() == corpus.test.labels.tolist()
