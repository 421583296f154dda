"""The commands `predict` and `explain`: what they print and draw, and how they refuse mistakes."""

from __future__ import annotations

import doctest
import io
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from imdb_training import quick, small_corpus, write_checkpoint

from fastrnn.imdb import cli, explained, terminal
from fastrnn.imdb.checkpoint import load_model
from fastrnn.imdb.inputs import chunks, given_lines
from fastrnn.imdb.reader import Explanation, Reader, Step

TEXT = "A moving film, superb and witty; unheard-of! Then dull, awful"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return str(write_checkpoint(tmp_path_factory.mktemp("trained") / "best.pt"))


@pytest.fixture(scope="module")
def reader(checkpoint):
    return Reader(load_model(Path(checkpoint)), torch.device("cpu"))


@pytest.fixture
def stdin(monkeypatch):
    """Gives the program these bytes on its standard input."""

    def give(content):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), "ascii"))

    return give


def printed(capsys, *arguments):
    assert cli.run([str(each) for each in arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def refused(capsys, *arguments):
    assert cli.run([str(each) for each in arguments]) == 2
    _, err = capsys.readouterr()
    assert err.startswith("fastrnn-imdb: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("module", [explained, terminal])
def test_examples_in_the_docstrings(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_predict_a_text(checkpoint, reader, capsys):
    (prediction,) = reader.predict([TEXT])
    out = printed(capsys, "predict", checkpoint, TEXT)
    row = rf"1 +{prediction.label} +{100 * prediction.probability:.1f} +11 +11 +\d +A moving film"
    assert re.search(row, out)
    found = json.loads(printed(capsys, "predict", checkpoint, TEXT, "--json"))
    assert found == {"line": 1, **prediction.to_dict()}


def test_predict_sees_the_difference(checkpoint, capsys):
    for opinions, label in (("superb witty moving", "positive"), ("awful dull weak", "negative")):
        text = " ".join([opinions] * 5)
        assert json.loads(printed(capsys, "predict", checkpoint, text, "--json"))["label"] == label


def test_predict_lines_of_a_file_and_of_standard_input(checkpoint, reader, capsys, tmp_path, stdin):
    # Only a newline ends a review: Unicode has others, and the real reviews hold some.
    content = "superb\x85witty\r\n\n   \nawful \u2028 caf\u00e9\nlast".encode()
    (tmp_path / "reviews.txt").write_bytes(content)
    texts = ["superb\x85witty", "awful \u2028 caf\u00e9", "last"]
    wanted = [
        {"line": line, **prediction.to_dict()}
        for line, prediction in zip((1, 4, 5), reader.predict(texts), strict=True)
    ]
    command = ["predict", checkpoint, "--json"]
    out = printed(capsys, *command, "--file", tmp_path / "reviews.txt")
    assert [json.loads(line) for line in out.splitlines()] == wanted
    for rest in (["-"], []):
        stdin(content)
        out = printed(capsys, *command, *rest)
        assert [json.loads(line) for line in out.splitlines()] == wanted
    stdin(b"")
    assert printed(capsys, *command) == ""


def test_many_lines_come_in_chunks_in_their_order(tmp_path):
    (tmp_path / "many").write_text("\n".join(str(number) for number in range(1, 601)))
    found = list(chunks(given_lines(None, tmp_path / "many")))
    assert [len(chunk) for chunk in found] == [256, 256, 88]
    assert all(given.text == str(given.line) for chunk in found for given in chunk)


def test_mistakes_in_what_is_predicted(checkpoint, capsys, tmp_path, stdin):
    command = ["predict", checkpoint]
    assert "not both" in refused(capsys, *command, "text", "--file", "reviews.txt")
    line = refused(capsys, *command, "--file", tmp_path / "none.txt")
    assert "none.txt: cannot be read: No such file or directory" in line
    assert "cannot be read" in refused(capsys, *command, "--file", tmp_path)
    (tmp_path / "latin").write_bytes(b"good\ncaf\xe9\n")
    line = refused(capsys, *command, "--file", tmp_path / "latin")
    assert "latin: line 2: must be UTF-8 text" in line
    (tmp_path / "long").write_bytes(b"a" * (1 << 20) + b"\n" + b"b" * ((1 << 20) + 1))
    line = refused(capsys, *command, "--file", tmp_path / "long")
    assert "long: line 2: a review must have at most 1,048,576 bytes" in line
    stdin(b"\xff")
    assert "standard input: line 1: must be UTF-8 text" in refused(capsys, *command, "-")
    stdin(b"\xff")
    assert "standard input: must be UTF-8 text" in refused(capsys, "explain", checkpoint, "-")


def test_a_model_without_words_and_other_files(capsys, tmp_path, checkpoint):
    path = tmp_path / "nameless.pt"
    content = torch.load(checkpoint, weights_only=True)
    torch.save({**content, "vocabulary": []}, path)
    for command in ("predict", "explain"):
        assert "this model has no words" in refused(capsys, command, path, "text")
        assert "there is no such file" in refused(capsys, command, "nowhere.pt", "text")
        assert "damaged" in refused(capsys, command, __file__, "text")
        assert "--device abacus" in refused(
            capsys, command, checkpoint, "text", "--device", "abacus"
        )


def test_explain_in_numbers(checkpoint, reader, capsys):
    explanation = reader.explain(TEXT)
    out = printed(capsys, "explain", checkpoint, TEXT)
    assert "\x1b" not in out
    assert out.startswith(explained.summary(explanation.prediction))
    assert re.search(rf"before the first\) +{100 * explanation.before:.1f}", out)
    for step in explanation.steps:
        row = rf"{step.word} +{step.state} +{100 * step.probability:.1f} +{100 * step.change:+.1f}"
        assert re.search(re.escape(row).replace(r"\ \+", " +"), out)


def test_explain_as_json(checkpoint, reader, capsys, stdin):
    wanted = json.loads(json.dumps(reader.explain(TEXT).to_dict()))
    assert json.loads(printed(capsys, "explain", checkpoint, TEXT, "--json")) == wanted
    stdin(TEXT.replace(" ", "\n").encode())
    assert json.loads(printed(capsys, "explain", checkpoint, "-", "--json")) == wanted
    assert [step["word"] for step in wanted["steps"]][:3] == ["a", "moving", "film"]
    assert wanted["steps"][-1]["probability"] == wanted["probability"]


def test_explain_in_colours(checkpoint, reader, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TERM", "xterm-256color")
    text = " ".join(["start", *["film"] * 19, "superb"])
    out = printed(capsys, "explain", checkpoint, text)
    red, green, blue = explained.shade(reader.explain(text).prediction.probability)
    assert re.search(rf"48;2;{red};{green};{blue}m\S*superb", out)
    assert re.search("\x1b\\[2;9mstart\x1b", out)  # cut off: dim and struck through
    assert "Largest moves in points: " in re.sub(r"\x1b\[[0-9;]*m", "", out)


def test_a_text_cannot_command_the_terminal(checkpoint, capsys, monkeypatch):
    text = "superb \x1b[2J\x07 [bold]witty[/bold] \x9b31m"
    for command in ("predict", "explain"):
        out = printed(capsys, command, checkpoint, text)
        assert "\x1b" not in out
        assert "\x07" not in out
        assert "\x9b" not in out
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[2J" not in printed(capsys, "explain", checkpoint, text)


@pytest.mark.parametrize("text", ["", "superb", "film " * 19, "\u96fb\u5f71 $x^2$ \x00 dull"])
def test_picture(checkpoint, capsys, tmp_path, text):
    path = tmp_path / "made" / "moves.png"
    printed(capsys, "explain", checkpoint, text, "--picture", path)
    assert path.read_bytes().startswith(b"\x89PNG\r\n")
    assert [each.name for each in path.parent.iterdir()] == ["moves.png"]


def test_picture_of_a_long_review_has_more_rows():
    def height(words):
        step = Step("film", "known", 0.5, 0.0)
        content = explained.picture(Explanation(0.5, (step,) * words))
        return int.from_bytes(content[20:24], "big")

    assert height(40) < height(41) < height(81)


def test_picture_that_cannot_be_written(checkpoint, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    line = refused(capsys, "explain", checkpoint, "good", "--picture", tmp_path / "file" / "a.png")
    assert "a.png" in line or "file" in line


def test_help_has_an_example_and_the_exit_codes(capsys):
    for command in ("predict", "explain", "evaluate", "data"):
        out = printed(capsys, command, "--help")
        assert f"fastrnn-imdb {command} " in out.split("Example", 1)[1]
        assert "Exit codes: 0 done; 2 a mistake" in out


def test_words_of_the_tests_are_known():
    words = small_corpus().vocabulary[: quick().num_words - 4]
    assert {"superb", "witty", "moving", "awful", "dull", "weak"} <= set(words)
