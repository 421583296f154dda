"""Networks that learn side by side: each by itself, and one model to all else of the program."""

import doctest

import pytest
import torch
from imdb_training import losses_of, quick, small_corpus, write_checkpoint

from fastrnn.imdb import ensemble
from fastrnn.imdb.batches import Batch
from fastrnn.imdb.checkpoint import load_checkpoint, load_model, save_checkpoint
from fastrnn.imdb.ensemble import Ensemble
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.layers import layer_table
from fastrnn.imdb.losses import LOSSES
from fastrnn.imdb.model import initialise
from fastrnn.imdb.reader import Reader
from fastrnn.imdb.training import train

CPU = torch.device("cpu")
IDS = torch.randint(300, (20, 5), generator=torch.Generator().manual_seed(2), dtype=torch.int32)


def build(**given):
    torch.manual_seed(0)
    model = Ensemble(quick(**{"members": 3, **given}))
    initialise(model, "keras")
    return model


def test_examples_in_the_docstrings():
    assert doctest.testmod(ensemble).attempted > 0


def test_networks_begin_with_weights_of_their_own():
    first, *others = build().networks
    for other in others:
        assert not torch.equal(other.embedding.weight, first.embedding.weight)
        assert not torch.equal(other.head.weight, first.head.weight)


@pytest.mark.parametrize("loss", ["bce", "bce-logits", "nll"])
def test_outputs_are_the_mean_of_those_of_the_networks(loss):
    model = build(loss=loss).eval()
    each = [network(Batch(IDS)) for network in model.networks]
    torch.testing.assert_close(model(Batch(IDS)), sum(each) / 3)
    assert (each[0] - each[1]).abs().max() > 1e-3


@pytest.mark.parametrize("training", [True, False])
def test_outputs_of_a_network_alone_are_passed_on(training):
    model, given = build(members=1).train(training), []
    model.networks[0].register_forward_hook(lambda network, inputs, output: given.append(output))
    assert model(Batch(IDS)) is given[0]


@pytest.mark.parametrize("loss", ["bce-logits", "cross-entropy"])
def test_each_network_learns_from_its_own_mistakes(loss):
    model, mean = build(loss=loss), LOSSES[loss].mean
    labels = torch.tensor([1.0, 0, 0, 1, 1])
    together = mean(model(Batch(IDS)), labels.repeat(3))
    together.backward()
    alone = []
    for network in model.networks:
        own = mean(network(Batch(IDS)), labels)
        alone.append(own.item())
        wanted = torch.autograd.grad(own / 3, list(network.parameters()))
        for parameter, gradient in zip(network.parameters(), wanted, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)
    assert together.item() == pytest.approx(sum(alone) / 3)


def test_dropout_of_the_networks_is_independent():
    model = build(word_dropout=0.5)
    for network in model.networks[1:]:
        network.load_state_dict(model.networks[0].state_dict())
    first, second, third = model(Batch(IDS)).view(3, -1)
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


def test_the_loss_of_a_step_is_the_mean_over_the_networks():
    losses, result = losses_of(quick("lstm", members=2, epochs=4, lr=0.02))
    assert losses[0] == pytest.approx(0.693, abs=0.02)
    assert result.history[-1].train_loss < 0.3
    assert result.test.accuracy > 0.75


def test_layer_table_counts_all_networks():
    config = quick(members=2, cell="lstm")
    model = Ensemble(config)
    *rows, total = layer_table(model, config)
    assert [row.name for row in rows] == ["2 x embedding", "2 x lstm 1", "2 x linear"]
    assert total.torch_parameters == sum(each.numel() for each in model.parameters())
    assert total.torch_parameters - total.keras_parameters == 2 * 32


def test_a_checkpoint_goes_on_and_reads_text(tmp_path):
    config = quick(members=2, epochs=3, word_dropout=0.1, lr=0.02)

    def keep(state):
        save_checkpoint(tmp_path / f"{len(state.history)}.pt", state)

    whole = train(config, small_corpus(), on_epoch=keep)
    resumed = train(config, small_corpus(), resume=load_checkpoint(tmp_path / "1.pt").snapshot)
    for ours, theirs in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    reader = Reader(load_model(tmp_path / "3.pt"), CPU)
    assert "2 networks" in reader.about
    words = small_corpus().vocabulary[:5]
    (prediction,) = reader.predict([" ".join(words)])
    assert reader.explain(" ".join(words)).prediction.probability == prediction.probability


def test_a_file_that_lies_about_their_number_is_refused(tmp_path):
    path = write_checkpoint(tmp_path / "last.pt", members=2)
    content = torch.load(path, weights_only=True)
    torch.save({**content, "config": {**content["config"], "members": 3}}, path)
    with pytest.raises(DataError, match="weights do not fit"):
        load_model(path)


@pytest.mark.parametrize("members", [0, 101])
def test_their_number_is_checked(members):
    with pytest.raises(DataError, match="--members must be between 1 and 100"):
        quick(members=members)
