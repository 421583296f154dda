"""The program `fastrnn-imdb`: what it prints, what it writes, and how it refuses mistakes."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import sys
from dataclasses import fields

import pytest
import torch
from imdb_programs import program, wait_for

from fastrnn.imdb import cli, commands_data, commands_train
from fastrnn.imdb.__main__ import main
from fastrnn.imdb.checkpoint import load_checkpoint
from fastrnn.imdb.config import Config
from fastrnn.imdb.presets import PRESETS
from fastrnn.imdb.synthetic import synthetic_reviews, write_folders

pytestmark = pytest.mark.usefixtures("in_empty_folder")

QUICK = ("--backend", "torch", "--num-words", "300", "--maxlen", "20")
FILES = {
    "best.pt",
    "config.json",
    "history.csv",
    "last.pt",
    "layers.json",
    "layers.txt",
    "loss.png",
    "result.json",
    "review_lengths.png",
}


@pytest.fixture
def trained(data, tmp_path, capsys):
    """A finished run folder, and what the program printed."""
    folder = tmp_path / "run"
    command = ["train", "--preset", "lstm", "--epochs", "3", "--data", data]
    assert cli.run([*command, *QUICK, "--run-dir", str(folder)]) == 0
    return folder, capsys.readouterr()


def refused(capsys, *arguments):
    """Runs a command that must be refused in one line; returns the line."""
    assert cli.run([str(each) for each in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fastrnn-imdb: ")
    assert err.count("\n") == 1
    return err


def test_train_fills_the_run_folder(trained):
    folder, printed = trained
    assert {each.name for each in folder.iterdir()} == FILES
    for name in ("loss.png", "review_lengths.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG\r\n")
    config = json.loads((folder / "config.json").read_text())
    assert Config.from_dict(config).num_words == 300
    with (folder / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    assert [line["epoch"] for line in history] == ["1", "2", "3"]
    layers = json.loads((folder / "layers.json").read_text())
    assert [row["name"] for row in layers] == ["embedding", "lstm 1", "linear", "total"]
    assert layers[-1]["keras_parameters"] == 300 * 16 + 800 + 9
    assert re.search(r"lstm 1 .* 832 +800$", (folder / "layers.txt").read_text(), re.MULTILINE)
    assert printed.err == ""  # no terminal, no progress
    assert f"run folder {folder}" in printed.out.replace("\n", "")


def test_progress_on_a_terminal(data, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes any stream for a terminal then
    assert cli.run(["train", "--epochs", "2", "--data", data, *QUICK, "--run-dir", "run"]) == 0
    err = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
    assert re.search(r"epoch 1: training loss 0\.\d{4}, validation\s+loss 0\.\d{4}", err)
    assert "epoch 2 of at most 2" in err


def test_tensorboard_log(data, tmp_path, capsys, monkeypatch):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    command = ["train", "--epochs", "3", "--data", data, *QUICK, "--run-dir", "run"]
    assert cli.run([*command, "--tensorboard"]) == 0
    assert cli.run(["train", "--resume", "--run-dir", "run"]) == 0  # writes its last epoch again
    log = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    with (tmp_path / "run" / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    for name, column in [("loss/training", "train_loss"), ("accuracy/validation", None)]:
        events = log.Scalars(name)
        assert [event.step for event in events] == [1, 2, 3]
        wanted = [float(line[column or "validation_accuracy"]) for line in history]
        assert [event.value for event in events] == pytest.approx(wanted)
    assert log.Scalars("learning rate")[0].value == pytest.approx(1e-3)
    monkeypatch.setattr("fastrnn.imdb.extras.find_spec", lambda name: None)
    capsys.readouterr()
    assert cli.run([*command[:-1], "new", "--tensorboard"]) == 2
    err = capsys.readouterr().err
    assert "--tensorboard needs tensorboard: pip install 'fastrnn[tensorboard]'" in err
    assert not (tmp_path / "new").exists()


def test_full_disk_is_one_sentence(data, monkeypatch, capsys):
    def fail(self, state):
        raise OSError(28, "No space left on device", "run/last.pt")

    monkeypatch.setattr(commands_train.RunFolder, "update", fail)
    assert cli.run(["train", "--data", data, *QUICK, "--run-dir", "run"]) == 2
    err = capsys.readouterr().err
    assert err == "fastrnn-imdb: [Errno 28] No space left on device: 'run/last.pt'\n"


def test_result_tells_what_is_needed_to_compare(trained):
    folder, printed = trained
    result = json.loads((folder / "result.json").read_text())
    with (folder / "history.csv").open() as file:
        best = min(csv.DictReader(file), key=lambda line: float(line["validation_loss"]))
    assert (result["preset"], result["backend"], result["epochs"]) == ("lstm", "torch", 3)
    assert result["best_epoch"] == int(best["epoch"])
    assert result["validation"]["loss"] == float(best["validation_loss"])
    assert result["validation"]["accuracy"] == float(best["validation_accuracy"])
    assert result["torch_parameters"] - result["keras_parameters"] == 32
    assert result["seconds_per_epoch"] > 0
    assert result["versions"]["torch"] == torch.__version__
    assert "200 training and 100 test reviews" in result["source"]
    for part in ("validation", "test"):
        row = " +".join(f"{result[part][name]:.4f}" for name in ("loss", "accuracy", "f1"))
        assert re.search(f"{part} +{row}", printed.out)


def test_evaluate_reproduces_the_result(trained, capsys):
    folder, _ = trained
    test = json.loads((folder / "result.json").read_text())["test"]
    assert cli.run(["evaluate", str(folder / "best.pt")]) == 0
    row = " +".join(f"{test[name]:.4f}" for name in ("loss", "accuracy", "f1"))
    assert re.search(f"test +{row}", capsys.readouterr().out)
    assert cli.run(["evaluate", str(folder / "best.pt"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {name: found[name] for name in test} == pytest.approx(test)
    assert "200 training and 100 test reviews" in found["source"]


def test_evaluate_on_data_that_ranks_its_words_otherwise(trained, data, tmp_path, capsys):
    folder, _ = trained
    files = synthetic_reviews(train=200, test=100)
    files["train/pos"]["999_9.txt"] = b"witty " * 9000
    files["train/neg"]["999_1.txt"] = b"weak " * 9000
    other = tmp_path / "other" / "aclImdb"
    write_folders(files, other)
    for place in (data, str(other)):
        assert cli.run(["evaluate", str(folder / "best.pt"), "--data", place, "--json"]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first.pop("source") != second.pop("source")
    assert first == second


def test_nobody_reads_to_the_end(data):
    command = [sys.executable, "-m", "fastrnn.imdb", "data", "--data", data]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_best_and_last_checkpoints(data, tmp_path):
    folder = tmp_path / "run"
    # Large steps: the first epochs are the best.
    command = ["train", "--data", data, "--lr", "0.1", "--epochs", "30", "--patience", "2"]
    assert cli.run([*command, *QUICK, "--run-dir", str(folder)]) == 0
    result = json.loads((folder / "result.json").read_text())
    assert result["best_epoch"] == result["epochs"] - 2
    assert load_checkpoint(folder / "best.pt").epoch == result["best_epoch"]
    assert load_checkpoint(folder / "last.pt").epoch == result["epochs"]


def test_default_run_folder_and_one_hot_sizes(data, tmp_path, capsys):
    command = ["train", "--preset", "onehot-rnn", "--epochs", "1", "--data", data]
    assert cli.run([*command, *QUICK]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"onehot-rnn-\d{8}-\d{6}", folder.name)
    # 160 reviews of 20 ids in 4 bytes each; 300 floats for each id.
    assert re.search(r"0\.0128 MB of ids.*3\.84 MB", capsys.readouterr().out)


def test_data_tells_counts_and_lengths(data, capsys):
    assert cli.run(["data", "--data", data]) == 0
    out = capsys.readouterr().out
    assert re.search(r"training +200 +100 +\d+\.\d +\d+\.\d +\d+", out)
    assert re.search(r"test +100 +50 +\d+\.\d +\d+\.\d +\d+", out)


def test_made_up_reviews_are_announced_on_both_streams(monkeypatch, capsys):
    from imdb_training import small_corpus

    monkeypatch.setattr(commands_data, "load_corpus", lambda data: small_corpus())
    assert cli.run(["data"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Reviews: made up for a test")
    assert err == "fastrnn-imdb: warning: made up for a test\n"


def test_threads(data, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    command = ["train", "--epochs", "1", "--data", data, "--threads", "3", "--run-dir", "run"]
    assert cli.run([*command, *QUICK]) == 0
    assert cli.run(["evaluate", "run/best.pt", "--threads", "2"]) == 0
    assert asked == [3, 2]


def test_help_names_every_option_and_preset(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    assert cli.run(["train", "--help"]) == 0
    out = capsys.readouterr().out
    for field in fields(Config):
        assert f"{Config.option(field.name)} " in out
        assert field.metadata["text"] in out
    for name, preset in PRESETS.items():
        assert f"{name}: {preset.about}" in out
    for command in ([], ["--help"]):
        cli.run(command)
        out = capsys.readouterr().out
        assert all(name in out for name in ("train", "evaluate", "data"))


def test_mistakes_in_settings(capsys, data):
    assert "there is no preset 'x'; there are" in refused(capsys, "train", "--preset", "x")
    assert "--lr must be above 0, got 0.0" in refused(capsys, "train", "--lr", "0")
    line = refused(capsys, "train", "--one-hot", "--embedding-size", "4")
    assert "exclude each other" in line
    assert "--layers is 1" in refused(capsys, "train", "--dropout", "0.2")
    assert "--device abacus cannot be used" in refused(capsys, "train", "--device", "abacus")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--cell", "elman"], ["--cell", "elman"]),
        (["train", "--hidden-size", "many"], ["--hidden-size", "integer"]),
        (["train", "--colour", "red"], ["--colour"]),
        (["evaluate"], ["CHECKPOINT"]),
        (["paint"], ["paint"]),
    ],
    ids=["choice", "number", "option", "argument", "command"],
)
def test_mistakes_in_the_command_line(arguments, words, capsys):
    assert cli.run(arguments) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    for word in words:
        assert word.lower() in err.lower()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_where_there_is_none(capsys, trained):
    assert "--device cuda cannot be used here" in refused(capsys, "train", "--device", "cuda")
    checkpoint = trained[0] / "best.pt"
    line = refused(capsys, "evaluate", checkpoint, "--device", "cuda")
    assert "--device cuda cannot be used here" in line


def test_mistakes_in_paths(capsys, tmp_path, trained):
    assert "nowhere" in refused(capsys, "train", "--data", "nowhere", "--run-dir", "new")
    assert not (tmp_path / "new").exists()
    assert "nowhere" in refused(capsys, "data", "--data", "nowhere")
    folder, _ = trained
    before = {each: each.stat().st_mtime_ns for each in folder.iterdir()}
    assert f"{folder} exists and" in refused(capsys, "train", "--run-dir", folder)
    assert before == {each: each.stat().st_mtime_ns for each in folder.iterdir()}
    file = folder / "config.json"
    assert f"--run-dir {file} exists and" in refused(capsys, "train", "--run-dir", file)
    assert "there is no such file" in refused(capsys, "evaluate", "nowhere.pt")
    assert "damaged" in refused(capsys, "evaluate", file)


def test_interrupt_leaves_a_usable_checkpoint(data, tmp_path, capsys):
    folder = tmp_path / "run"
    command = [
        "train",
        "--data",
        data,
        "--epochs",
        "1000000",
        "--patience",
        "1000000",
        "--threads",
        "1",
    ]
    history = folder / "history.csv"
    with program(*command, *QUICK, "--run-dir", str(folder)) as process:
        wait_for(lambda: history.exists() and len(history.read_text().splitlines()) > 2, process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    last = folder / "last.pt"
    assert process.returncode == 130
    assert f"interrupted; the last complete epoch is in {last}" in err
    assert "Traceback" not in err
    assert load_checkpoint(last).epoch >= 2
    assert not [each for each in folder.iterdir() if each.name not in FILES]
    assert cli.run(["evaluate", str(last)]) == 0
    assert re.search(r"test +\d\.\d{4} +\d\.\d{4} +\d\.\d{4}", capsys.readouterr().out)


def test_interrupt_before_training(monkeypatch, capsys):
    def interrupt(data, tokens):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands_train, "load_corpus", interrupt)
    assert cli.run(["train", "--run-dir", "run"]) == 130
    assert "interrupted before training began" in capsys.readouterr().err


def test_missing_extra_is_one_sentence():
    code = (
        "import sys; sys.modules['typer'] = sys.modules['sklearn'] = None\n"
        "from fastrnn.imdb.__main__ import main; sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    sentence = "fastrnn-imdb needs typer, sklearn: pip install 'fastrnn[imdb]'"
    assert done.stderr.splitlines()[-1] == sentence


def test_training_loads_nothing_slow_that_it_does_not_use(data):
    command = ["train", "--preset", "quick", "--maxlen", "20", "--run-dir", "run", "--data", data]
    code = (
        f"import sys; from fastrnn.imdb import cli; assert cli.run({command}) == 0\n"
        "print([name for name in ('sklearn', 'torch._dynamo') if name in sys.modules])"
    )
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert printed.splitlines()[-1] == "[]"


def test_entry_point_uses_the_arguments_of_the_program(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fastrnn-imdb", "evaluate", "nowhere.pt"])
    assert main() == 2
    assert "fastrnn-imdb: nowhere.pt: there is no such file" in capsys.readouterr().err
