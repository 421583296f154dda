"""Losses, optimizers, schedules, pooling, word dropout and buckets: each against its definition."""

from __future__ import annotations

import doctest
import importlib
import math

import numpy as np
import pytest
import torch
from imdb_training import losses_of, quick, small_corpus
from torch import nn
from torch.nn import functional as F

from fastrnn.imdb.batches import Batch, make_examples, split_batches
from fastrnn.imdb.ensemble import Ensemble
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.layers import layer_table
from fastrnn.imdb.losses import ACTIVATIONS, LOSSES
from fastrnn.imdb.model import SentimentModel
from fastrnn.imdb.optim import lr_factor, make_optimizer, make_schedule
from fastrnn.imdb.sequences import review_lengths
from fastrnn.imdb.training import evaluate, train

CPU = torch.device("cpu")
LABELS = torch.tensor([1.0, 0.0, 1.0, 0.0])


@pytest.mark.parametrize(
    ("loss", "of_torch"),
    [
        ("bce", nn.BCELoss()),
        ("bce-logits", nn.BCEWithLogitsLoss()),
        ("cross-entropy", lambda x, y: nn.CrossEntropyLoss()(x, y.long())),
        ("nll", lambda x, y: nn.NLLLoss()(nn.LogSoftmax(1)(x), y.long())),
        ("mse", lambda x, y: nn.MSELoss()(x, F.one_hot(y.long(), 2).float())),
        ("l1", lambda x, y: nn.L1Loss()(x, F.one_hot(y.long(), 2).float())),
    ],
)
def test_losses_are_those_of_torch(loss, of_torch):
    generator = torch.Generator().manual_seed(0)
    shape = (4,) if LOSSES[loss].outputs == 1 else (4, 2)
    outputs = torch.rand(shape, generator=generator)  # a probability, too
    assert torch.equal(LOSSES[loss].mean(outputs, LABELS), of_torch(outputs, LABELS))


def test_cross_entropy_is_the_likelihood_of_the_log_softmax():
    outputs, labels = torch.tensor([[2.0, 1.0], [0.5, 1.5]]), torch.tensor([0.0, 1.0])
    wanted = math.log(1 + math.exp(-1))
    for loss in ("cross-entropy", "nll"):
        assert LOSSES[loss].mean(outputs, labels).item() == pytest.approx(wanted)


@pytest.mark.parametrize("loss", ["cross-entropy", "nll", "mse", "l1"])
def test_the_probability_of_two_outputs_is_above_a_half_where_the_second_is_larger(loss):
    outputs = torch.tensor([[0.1, 0.4], [0.4, 0.1], [-3.0, 2.0], [1.0, 0.0], [0.0, 1.0]])
    probability = LOSSES[loss].probability(outputs)
    assert ((probability > 0.5) == (outputs[:, 1] > outputs[:, 0])).all()
    assert probability.min() >= 0 and probability.max() <= 1
    if loss in ("mse", "l1"):
        assert probability[3:].tolist() == [0, 1]


def test_probability_is_that_of_torch():
    one, two = torch.randn(4), torch.randn(4, 2)
    for loss, outputs, wanted in [
        ("bce", one, one),
        ("bce-logits", one, torch.sigmoid(one)),
        ("nll", two, torch.softmax(two, 1)[:, 1]),
    ]:
        torch.testing.assert_close(LOSSES[loss].probability(outputs), wanted)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_lies_between_head_and_loss(name):
    model = SentimentModel(quick(loss="cross-entropy", output_activation=name))
    ids = torch.randint(300, (20, 4))
    _, (h_n, _) = model.layers[0](model.embedding(ids))
    wanted = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
    outputs = wanted.get(name, lambda x: x)(model.head(h_n[0]))
    torch.testing.assert_close(model(Batch(ids)), outputs)


@pytest.mark.parametrize(
    ("loss", "activation", "accepted"),
    [
        ("bce", "none", "sigmoid"),
        ("bce", "tanh", "sigmoid"),
        ("bce-logits", "sigmoid", "none or tanh"),
        ("bce-logits", "relu", "none or tanh"),
    ],
)
def test_senseless_pairs_are_refused(loss, activation, accepted):
    message = f"--loss {loss} goes with --output-activation {accepted}, got {activation}"
    with pytest.raises(DataError, match=message):
        quick(loss=loss, output_activation=activation)


@pytest.mark.parametrize(
    ("loss", "activation"),
    [(name, each) for name, loss in LOSSES.items() for each in (*loss.activations, None)],
)
def test_every_other_pair_trains(loss, activation):
    losses, _ = losses_of(quick(loss=loss, output_activation=activation, epochs=1))
    assert np.isfinite(losses).all()


def test_settings_of_other_optimizers_are_refused():
    with pytest.raises(DataError, match=r"--momentum 0\.9 is for --optimizer sgd, got adam"):
        quick(momentum=0.9)
    with pytest.raises(DataError, match=r"--weight-decay 0\.1 is for --optimizer adamw, got sgd"):
        quick(optimizer="sgd", weight_decay=0.1)


@pytest.mark.parametrize(
    ("given", "of_torch"),
    [
        ({"optimizer": "sgd"}, lambda p: torch.optim.SGD(p, lr=0.1)),
        ({"optimizer": "sgd", "momentum": 0.9}, lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
        ({"optimizer": "adam"}, lambda p: torch.optim.Adam(p, 0.1)),
        ({"optimizer": "adamw"}, lambda p: torch.optim.AdamW(p, 0.1)),
        (
            {"optimizer": "adamw", "weight_decay": 0.5},
            lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.5),
        ),
        ({"optimizer": "rmsprop"}, lambda p: torch.optim.RMSprop(p, 0.1)),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_optimizers_are_those_of_torch(given, of_torch):
    pairs = []
    for make in (lambda p: make_optimizer(quick(**given, lr=0.1), p), of_torch):
        weight = nn.Parameter(torch.tensor([1.0, -2.0]))
        optimizer = make([weight])
        for _ in range(3):
            optimizer.zero_grad()
            (weight**3).sum().backward()
            optimizer.step()
        pairs.append(weight.detach())
    torch.testing.assert_close(*pairs)
    assert not torch.equal(pairs[0], torch.tensor([1.0, -2.0]))


def factors(steps_per_epoch=10, steps=20, **given):
    config = quick(**{"epochs": 2, **given})
    return [lr_factor(config, step, steps_per_epoch) for step in range(steps)]


def test_schedules():
    assert factors() == [1.0] * 20
    assert factors(warmup_steps=4)[:6] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    linear = factors(schedule="linear", final_lr=0.1, steps=21)
    np.testing.assert_allclose(linear, np.linspace(1, 0.1, 21))
    cosine = factors(schedule="cosine", steps=21)
    np.testing.assert_allclose(cosine, (1 + np.cos(np.linspace(0, np.pi, 21))) / 2, atol=1e-12)
    step = factors(schedule="step", step_epochs=1, step_factor=0.5, steps=30)
    assert step == [1.0] * 10 + [0.5] * 10 + [0.25] * 10
    # Warm-up longer than the training, and steps behind its end, divide by nothing.
    assert factors(schedule="linear", warmup_steps=40, steps=50)[39:] == [1.0] * 2 + [0.0] * 9


def test_schedule_sets_the_rate_of_each_step():
    config = quick(schedule="linear", warmup_steps=2, epochs=1, lr=0.5)
    weight = nn.Parameter(torch.ones(1))
    optimizer = make_optimizer(config, [weight])
    schedule = make_schedule(config, optimizer, steps_per_epoch=6)
    rates = []
    for _ in range(6):
        rates.append(optimizer.param_groups[0]["lr"])
        weight.grad = torch.ones(1)
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.25, 0.5, 0.5, 0.375, 0.25, 0.125])
    assert make_schedule(quick(), optimizer, 6) is None


def test_training_follows_its_schedule():
    plain, _ = losses_of(quick(optimizer="sgd", lr=0.5, epochs=1))
    frozen, _ = losses_of(quick(optimizer="sgd", lr=0.5, epochs=1, warmup_steps=1_000_000))
    assert frozen[0] == plain[0]
    _, still = losses_of(quick(optimizer="sgd", lr=1e-30, epochs=1))
    for ours, untouched in zip(
        losses_of(quick(optimizer="sgd", lr=1.0, epochs=1, warmup_steps=10**9))[1]
        .model.state_dict()
        .values(),
        still.model.state_dict().values(),
        strict=True,
    ):
        torch.testing.assert_close(ours, untouched, atol=1e-6, rtol=0)


def test_clipping_bounds_each_step():
    config = quick(optimizer="sgd", lr=1.0, clip_norm=1e-3, epochs=1, loss="mse")
    before, steps = None, []

    def on_epoch(state):
        nonlocal before
        weights = torch.cat([p.detach().flatten() for p in state.model.parameters()])
        if before is not None:
            steps.append((weights - before).norm().item())
        before = weights

    train(config, small_corpus(), on_epoch=on_epoch)
    assert 0 < steps[0] <= 5 * 1e-3 * 1.001


@pytest.mark.parametrize("pooling", ["max", "mean", "max-mean"])
@pytest.mark.parametrize("backend", ["torch", "fastrnn", "reference"])
def test_pooling_reads_the_own_steps_of_both_directions(pooling, backend):
    config = quick(pooling=pooling, bidirectional=True, backend=backend, cell="gru")
    torch.manual_seed(0)
    model = SentimentModel(config)
    lengths = torch.tensor([7, 1, 4])
    ids = torch.randint(3, 300, (7, 3), dtype=torch.int32)
    stock = nn.GRU(16, 8, bidirectional=True)
    stock.load_state_dict(model.layers[0].state_dict())
    rows = []
    for row, length in enumerate(lengths.tolist()):
        output, _ = stock(model.embedding(ids[:length, row]))
        pools = {"max": output.max(0).values, "mean": output.mean(0)}
        rows.append(torch.cat([pools[name] for name in pooling.split("-")]))
    wanted = model.head(torch.stack(rows)).squeeze(1)
    torch.testing.assert_close(model(Batch(ids, lengths)), wanted)
    whole = torch.full((3,), 7)
    torch.testing.assert_close(model(Batch(ids)), model(Batch(ids, whole)))


def test_layer_table_shows_pooling_and_two_outputs():
    config = quick(pooling="max-mean", bidirectional=True, loss="nll")
    rows = layer_table(Ensemble(config), config)
    assert [row.output for row in rows] == ["(T, B, 16)", "(B, 32)", "(B, 2)", ""]
    assert rows[-2].torch_parameters == 32 * 2 + 2


def test_word_dropout_makes_words_unknown_in_training_only():
    model = SentimentModel(quick(word_dropout=0.3))
    ids = torch.arange(300, dtype=torch.int32).repeat(40, 1)
    dropped = model._drop_words(ids)
    assert dropped.dtype == torch.int32
    assert torch.equal(dropped[:, :3], ids[:, :3])  # padding, start and unknown stay
    changed = dropped != ids
    assert (dropped[changed] == 2).all()
    assert 0.27 < changed[:, 3:].float().mean() < 0.33
    model.eval()
    assert model._drop_words(ids) is ids


def test_bucketed_batches_hold_every_review_once_and_little_padding():
    config = quick(batches="bucketed", maxlen=400, batch_size=40)
    examples = make_examples(config, small_corpus().train, CPU)
    lengths = review_lengths(small_corpus().train)
    assert examples.lengths.tolist() == np.minimum(lengths, 400).tolist()
    generator = torch.Generator().manual_seed(3)
    batches = split_batches(config, examples, generator)
    assert sorted(torch.cat(list(batches)).tolist()) == list(range(400))
    read = sum(len(b) * examples.lengths[b].max().item() for b in batches)
    assert read < 1.1 * examples.lengths.sum().item()
    longest = [examples.lengths[b].max().item() for b in batches]
    assert longest != sorted(longest)
    again = split_batches(config, examples, torch.Generator().manual_seed(3))
    assert all(torch.equal(*pair) for pair in zip(batches, again, strict=True))
    other = split_batches(config, examples, generator)
    assert not all(torch.equal(*pair) for pair in zip(batches, other, strict=True))
    batch, labels = examples.take(batches[0])
    assert batch.ids.shape == (batch.lengths.max().item(), 40)
    assert torch.equal(batch.ids.t() == 0, torch.arange(len(batch.ids)) >= batch.lengths[:, None])
    assert labels.tolist() == small_corpus().train.labels[batches[0].numpy()].tolist()


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("backend", ["fastrnn", "reference"])
def test_backends_agree_on_buckets_pooling_and_dropout(cell, backend):
    given = dict(
        cell=cell,
        layers=2,
        bidirectional=True,
        batches="bucketed",
        pooling="max-mean",
        word_dropout=0.1,
        input_dropout=0.2,
        dropout=0.2,
        maxlen=60,
    )
    wanted, _ = losses_of(quick(**given, backend="torch"))
    losses, _ = losses_of(quick(**given, backend=backend))
    np.testing.assert_allclose(losses, wanted, rtol=2e-5)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("backend", ["fastrnn", "reference"])
@pytest.mark.parametrize("one_hot", [False, True])
def test_backends_agree_on_every_dropout(cell, backend, one_hot):
    given = dict(
        cell=cell,
        layers=2,
        one_hot=one_hot,
        bidirectional=True,
        input_dropout=0.2,
        recurrent_dropout=0.3,
        dropout=0.2,
        word_dropout=0.1,
        epochs=1,
    )
    wanted, _ = losses_of(quick(**given, backend="torch"))
    losses, _ = losses_of(quick(**given, backend=backend))
    np.testing.assert_allclose(losses, wanted, rtol=2e-5)
    plain, _ = losses_of(quick(**{**given, "recurrent_dropout": 0.0}, backend=backend))
    assert not np.allclose(losses, plain, rtol=1e-4)


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("given", [{}, {"batches": "bucketed", "pooling": "mean"}])
def test_backends_agree_on_ids(one_hot, given):
    """Without dropout on the input, layers of fastrnn read ids and no vectors are made."""
    given = dict(cell="gru", one_hot=one_hot, epochs=1, **given)
    wanted, _ = losses_of(quick(**given, backend="torch"))
    seen = []

    def watch(state):
        if not state.history:
            state.model.networks[0].layers[0].register_forward_pre_hook(
                lambda module, inputs: seen.append(inputs[0].dtype)
            )

    losses = []
    config = quick(**given, backend="fastrnn")
    train(config, small_corpus(), on_step=lambda x: losses.append(x.item()), on_epoch=watch)
    assert set(seen) == {torch.int32}
    np.testing.assert_allclose(losses, wanted, rtol=1e-5)


def test_scores_do_not_depend_on_the_batches():
    scores = []
    for batch_size, batches in [(7, "bucketed"), (64, "bucketed"), (64, "padded")]:
        config = quick(batches=batches, batch_size=batch_size, pooling="mean", maxlen=60)
        torch.manual_seed(0)
        model = SentimentModel(config)
        scores.append(evaluate(model, make_examples(config, small_corpus().test, CPU), config))
    assert scores[0].loss == pytest.approx(scores[1].loss, rel=1e-6)
    assert scores[0].loss == pytest.approx(scores[2].loss, rel=1e-6)
    assert len({score.accuracy for score in scores}) == len({score.f1 for score in scores}) == 1


@pytest.mark.parametrize("name", ["losses", "optim", "distributed"])
def test_examples_in_the_documentation(name):
    result = doctest.testmod(importlib.import_module(f"fastrnn.imdb.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
