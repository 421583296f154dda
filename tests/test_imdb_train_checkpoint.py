"""Checkpoints are whole or absent, harmless to read, and damaged ones are refused by name."""

from __future__ import annotations

import dataclasses
import os
import pickle

import pytest
import torch
from imdb_training import quick, small_corpus
from killed_training import assert_same

from fastrnn.imdb import checkpoint as checkpoints
from fastrnn.imdb.batches import Batch
from fastrnn.imdb.checkpoint import load_checkpoint, load_model, save_checkpoint, save_model
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.training import train


@pytest.fixture(scope="module")
def state():
    states = []
    train(quick("lstm-2layer", epochs=1), small_corpus(), on_epoch=states.append)
    return states[-1]


@pytest.fixture
def path(state, tmp_path):
    save_checkpoint(tmp_path / "last.pt", state)
    return tmp_path / "last.pt"


def assert_refused(path, *words):
    with pytest.raises(DataError) as caught:
        load_model(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: this checkpoint cannot be used: ")
    assert "\n" not in message
    for word in words:
        assert word in message


def rewrite(path, **changes):
    content = torch.load(path, weights_only=True)
    torch.save({**content, **changes}, path)


def test_holds_all_that_it_should(path, state):
    loaded = load_checkpoint(path)
    assert loaded.config == state.config
    assert loaded.epoch == 1
    assert loaded.vocabulary == small_corpus().vocabulary[:296]
    assert loaded.model.keys() == state.model.state_dict().keys()
    for name, value in state.model.state_dict().items():
        assert torch.equal(loaded.model[name], value)
    kept, wanted = loaded.snapshot, state.snapshot()
    for name in ("model", "best_weights", "optimizer", "generators"):
        assert_same(getattr(kept, name), getattr(wanted, name))
    assert kept.history == wanted.history and len(kept.history) == 1
    assert {int(each["step"]) for each in kept.optimizer.values()} == {5}
    # The weights of the best epoch are in the file once, where it is the last.
    assert all(kept.best_weights[k].data_ptr() == each.data_ptr() for k, each in kept.model.items())


def test_a_model_alone_is_enough_to_use_it(tmp_path, state, path):
    save_model(tmp_path / "best.pt", state)
    loaded = load_checkpoint(tmp_path / "best.pt")
    assert loaded.snapshot is None
    assert_same(load_model(tmp_path / "best.pt").model.state_dict(), state.model.state_dict())
    assert 2 * (tmp_path / "best.pt").stat().st_size < path.stat().st_size


def test_loaded_model_gives_the_same_logits(path, state):
    config, model, vocabulary, _ = load_model(path)
    assert vocabulary == state.vocabulary
    ids = torch.randint(config.num_words, (20, 4))
    model.eval()
    state.model.eval()
    assert torch.equal(model(Batch(ids)), state.model(Batch(ids)))


def test_weights_load_into_every_backend(path, state):
    rewrite(path, config={**state.config.to_dict(), "backend": "reference"})
    model = load_model(path).model
    ids = torch.randint(300, (20, 4))
    model.eval()
    state.model.eval()
    torch.testing.assert_close(model(Batch(ids)), state.model(Batch(ids)))


def test_a_failing_write_leaves_the_old_file(path, state, monkeypatch):
    before = path.read_bytes()

    def fail(content, file):
        file.write(b"half a checkpoint")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.torch, "save", fail)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, state)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == ["last.pt"]


def test_an_interrupt_before_the_file_is_whole_leaves_the_old_one(path, state, monkeypatch):
    before = path.read_bytes()

    def interrupt(file):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, state)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_an_interrupt_that_torch_buries_is_an_interrupt(path, state, monkeypatch):
    """torch closes its archive after an interrupt, fails, and raises that failure instead."""

    def save(content, file):
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("unexpected pos 26752 vs 26644")

    before = path.read_bytes()
    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, state)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_of_torch_stays_one(path, state, monkeypatch):
    def save(content, file):
        raise RuntimeError("cannot serialise")

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(RuntimeError, match="cannot serialise"):
        save_checkpoint(path, state)


def test_is_on_disk_before_it_takes_its_name(path, state, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (events.append("fsync"), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda *a: (events.append("replace"), replace(*a)))
    save_checkpoint(path, state)
    assert events == ["fsync", "replace", "fsync"]  # the file, its name, the folder


def test_absent_file(tmp_path):
    with pytest.raises(DataError, match="there is no such file; give a checkpoint"):
        load_model(tmp_path / "none.pt")
    with pytest.raises(DataError, match="there is no such file; give a checkpoint"):
        load_model(tmp_path)


@pytest.mark.parametrize("part", [0, 0.01, 0.5, 0.99])
def test_cut_short(path, part):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    assert_refused(path, "damaged")


def test_one_changed_bit_in_the_weights_is_noticed(path, state):
    save_model(path, state)
    weights = state.model.state_dict()["networks.0.layers.1.weight_hh_l0"].numpy().tobytes()
    content = path.read_bytes()
    assert content.count(weights) == 1
    place = content.index(weights) + len(weights) // 2
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    assert_refused(path, "damaged in ")


@pytest.mark.parametrize("content", [b"", b"a text", pickle.dumps({"format": 1})])
def test_other_files(path, content):
    path.write_bytes(content)
    assert_refused(path)


def test_code_in_a_file_does_not_run(path, tmp_path):
    class Attack:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "attacked"),))

    torch.save({"format": 3, "config": Attack()}, path)
    assert_refused(path, "damaged")
    assert not (tmp_path / "attacked").exists()


def test_wrong_content(path, state):
    torch.save([1, 2], path)
    assert_refused(path, "no checkpoint of this program in format 5")
    save_checkpoint(path, state)
    rewrite(path, format=3)
    assert_refused(path, "no checkpoint of this program in format 5; train the model again")
    save_checkpoint(path, state)
    rewrite(path, config={"cell": "lstm"})
    assert_refused(path, "missing or unknown: backend, batch_size")
    rewrite(path, config="lstm")
    assert_refused(path, "incomplete or wrong")
    rewrite(path, config={**state.config.to_dict(), "hidden_size": 10**9})
    assert_refused(path, "--hidden-size must be between 1 and 1,000,000, got 1000000000")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (None, "must be a list of words"),
        ("the and", "must be a list of words"),
        (["the", 1], "must be a list of words"),
        ([str(number) for number in range(297)], "--num-words 300 has no room for 297 words"),
        (["the", "the"], "must differ and not be empty"),
        (["the", ""], "must differ and not be empty"),
    ],
)
def test_wrong_vocabulary(path, words, reason):
    rewrite(path, vocabulary=words)
    assert_refused(path, "incomplete or wrong", reason)


def test_a_source_without_words_gives_an_empty_vocabulary(tmp_path):
    states = []
    corpus = dataclasses.replace(small_corpus(), vocabulary=())
    train(quick(epochs=1), corpus, on_epoch=states.append)
    save_checkpoint(tmp_path / "last.pt", states[0])
    assert load_model(tmp_path / "last.pt").vocabulary == ()


@pytest.mark.parametrize("change", [{"hidden_size": 10**6}, {"num_words": 301}, {"layers": 1}])
def test_weights_that_do_not_fit_the_settings(path, state, change):
    rewrite(path, config=dataclasses.replace(state.config, **change).to_dict())
    assert_refused(path, "weights do not fit its settings")


def test_weights_of_another_type(path, state):
    weights = {name: value.double() for name, value in state.model.state_dict().items()}
    rewrite(path, model=weights)
    assert_refused(path, "weights do not fit its settings")
    rewrite(path, model={**weights, "networks.0.head.bias": 1.0})
    assert_refused(path, "weights do not fit its settings")
