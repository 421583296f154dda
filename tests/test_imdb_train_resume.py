"""A killed run goes on from its last complete epoch and ends as if nothing had ended it."""

from __future__ import annotations

import copy
import json

import killed_training
import pytest
import torch
from imdb_training import quick, small_corpus

from fastrnn.imdb import cli, commands_train
from fastrnn.imdb.checkpoint import load_checkpoint
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.runs import RunFolder
from fastrnn.imdb.training import train

VARIED = {
    "adam": dict(input_dropout=0.3),
    "sgd": dict(optimizer="sgd", momentum=0.9, schedule="cosine", warmup_steps=3, lr=0.5),
    "plain-sgd": dict(optimizer="sgd", schedule="step", step_epochs=2, lr=0.5),
    "rmsprop": dict(optimizer="rmsprop", batches="bucketed", word_dropout=0.2, pooling="max"),
    "adamw": dict(optimizer="adamw", layers=2, dropout=0.4, clip_norm=0.1, loss="cross-entropy"),
}


class Killed(Exception):
    pass


def kept_after(config, epochs):
    """What a checkpoint of a run holds that ends after so many epochs."""
    kept = None

    def on_epoch(state):
        nonlocal kept
        if len(state.history) == epochs:
            kept = copy.deepcopy(state.snapshot())
            raise Killed

    with pytest.raises(Killed):
        train(config, small_corpus(), on_epoch=on_epoch)
    return kept


@pytest.mark.parametrize("name", VARIED)
@pytest.mark.parametrize("epochs", [0, 1, 3, 4])
def test_ends_with_the_same_bits(name, epochs):
    config = quick(**{"epochs": 4, "patience": 100, **VARIED[name]})
    states = []
    whole = train(config, small_corpus(), on_epoch=lambda s: states.append(s))
    kept = kept_after(config, epochs)
    torch.manual_seed(99)  # another process has other numbers
    ends = []
    resumed = train(config, small_corpus(), resume=kept, on_epoch=lambda s: ends.append(s))
    assert len(ends) == 1 + 4 - epochs
    killed_training.assert_same(whole.model.state_dict(), resumed.model.state_dict())
    last, again = states[-1].snapshot(), ends[-1].snapshot()
    for part in ("best_weights", "optimizer", "generators"):
        killed_training.assert_same(getattr(last, part), getattr(again, part))
    assert [line[:-1] for line in last.history] == [line[:-1] for line in again.history]
    assert whole.test == resumed.test and whole.best[:-1] == resumed.best[:-1]


def test_patience_counts_the_epochs_before():
    config = quick(epochs=60, patience=3, lr=0.05)
    whole = train(config, small_corpus())
    kept = kept_after(config, whole.best.epoch + 1)
    resumed = train(config, small_corpus(), resume=kept)
    assert [line[:-1] for line in resumed.history] == [line[:-1] for line in whole.history]
    killed_training.assert_same(whole.model.state_dict(), resumed.model.state_dict())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda kept: kept._replace(fingerprint=1), "the reviews are not those"),
        (lambda kept: kept._replace(model={}), "its weights has another form"),
        (lambda kept: kept._replace(best_weights={}), "its best weights has another form"),
        (lambda kept: kept._replace(best_weights=None), "does not fit its settings"),
        (lambda kept: kept._replace(optimizer={}), "its optimizer has another form"),
        (lambda kept: kept._replace(optimizer=[1]), "does not fit its settings"),
        (lambda kept: kept._replace(history=[(1, 2)]), "does not fit its settings"),
        (lambda kept: kept._replace(history=[(2, 0.1, 0.1, 0.5, 1.0)]), "its history has"),
        (lambda kept: kept._replace(history=[(1, "a", 0.1, 0.5, 1.0)]), "its history has"),
        (lambda kept: kept._replace(history=7), "does not fit its settings"),
        (lambda kept: kept._replace(generators={}), "does not fit its settings: 'order'"),
        (
            lambda kept: kept._replace(generators={**kept.generators, "order": torch.zeros(3)}),
            "does not fit its settings",
        ),
    ],
)
def test_what_does_not_fit_is_refused(change, words):
    config = quick(epochs=2)
    with pytest.raises(DataError, match=f"--resume: .*{words}"):
        train(config, small_corpus(), resume=change(kept_after(config, 1)))


def test_an_optimizer_state_of_another_size_is_refused():
    """The fused update would read behind its end."""
    config = quick(epochs=2)
    kept = kept_after(config, 1)
    kept.optimizer[0]["exp_avg"] = torch.zeros(1)
    with pytest.raises(DataError, match="its optimizer has another form"):
        train(config, small_corpus(), resume=kept)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs `train` on small made-up reviews in folder `run`; returns the exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands_train, "load_corpus", lambda data, tokens: small_corpus())
    settings = "--backend torch --num-words 300 --maxlen 20 --epochs 3 --threads 1".split()

    def command(*arguments, settings=settings):
        return cli.run(["train", *settings, "--run-dir", "run", *arguments])

    return command


def refusal(capsys):
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("fastrnn-imdb: ")
    return err


def test_resume_begins_what_is_not_there(run, tmp_path):
    assert run("--resume") == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["epochs"] == 3


def test_resume_needs_a_run_or_settings(run, capsys):
    assert run("--resume", settings=[]) == 2
    assert "--resume: there is no run in run; give a run folder, or" in refusal(capsys)
    assert cli.run(["train", "--resume"]) == 2
    assert "--resume needs --run-dir" in refusal(capsys)


def test_other_settings_are_refused(run, capsys):
    assert run() == 0
    capsys.readouterr()
    assert run("--resume", "--lr", "0.5") == 2
    assert "--resume: the run in run has --lr 0.001, got 0.5; leave --lr out" in refusal(capsys)
    assert run("--resume", "--preset", "gru") == 2
    assert "has --preset None, got gru" in refusal(capsys)
    assert run("--resume", "--threads", "2") == 0


def test_another_folder_is_refused(run, capsys, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("precious")
    assert run("--resume") == 2
    assert "--run-dir run exists and is not an empty folder" in refusal(capsys)
    (tmp_path / "run" / "config.json").write_text("[]")
    assert run("--resume") == 2
    assert "run/config.json: these settings cannot be used" in refusal(capsys)
    assert (tmp_path / "run" / "thesis.tex").read_text() == "precious"


def test_a_damaged_checkpoint_is_refused_and_kept(run, capsys, tmp_path):
    assert run() == 0
    last = tmp_path / "run" / "last.pt"
    last.write_bytes(last.read_bytes()[:1000])
    capsys.readouterr()
    assert run("--resume") == 2
    assert "run/last.pt: this checkpoint cannot be used: it is damaged" in refusal(capsys)
    assert last.stat().st_size == 1000


def test_killed_between_the_last_epoch_and_the_result(run, tmp_path):
    assert run() == 0
    folder = tmp_path / "run"
    wanted = killed_training.outcome(folder)
    for name in ("result.json", "loss.png", "history.csv"):
        (folder / name).unlink()
    assert run("--resume", settings=[]) == 0
    killed_training.assert_same(killed_training.outcome(folder), wanted)


def test_killed_between_last_and_best(run, tmp_path, monkeypatch):
    def die(path, state):
        raise Killed

    assert run() == 0
    wanted = killed_training.outcome(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr("fastrnn.imdb.runs.save_model", die)
        with pytest.raises(Killed):
            run()
    assert sorted(p.name for p in (tmp_path / "run").glob("*.pt")) == ["last.pt"]
    assert run("--resume") == 0
    killed_training.assert_same(killed_training.outcome(tmp_path / "run"), wanted)


def test_leftovers_of_a_killed_write_are_removed(run, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".config.json.0123456789abcdef").write_text('{"cell"')
    assert RunFolder(folder).settings() is None
    assert run("--resume") == 0
    (folder / ".last.pt.0123456789abcdef").write_bytes(b"half")
    assert run("--resume", settings=[]) == 0
    assert not list(folder.glob(".*"))


def test_best_checkpoint_has_no_snapshot_and_last_has(run, tmp_path):
    assert run() == 0
    assert load_checkpoint(tmp_path / "run" / "best.pt").snapshot is None
    kept = load_checkpoint(tmp_path / "run" / "last.pt").snapshot
    assert len(kept.history) == 3
    assert len(kept.optimizer) == 7  # embedding, four of the LSTM, two of the head


def test_random_kills(tmp_path):
    struck = killed_training.compare(tmp_path, kills=3, epochs=200)
    assert struck == sorted(struck)
