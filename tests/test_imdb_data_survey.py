"""The survey of the reviews, by hand on a tiny set, and what the command `data` shows of it."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from imdb_training import small_corpus

from fastrnn.imdb import cli, commands_data, tables
from fastrnn.imdb.reviews import Corpus, Reviews
from fastrnn.imdb.sequences import pad_reviews
from fastrnn.imdb.survey import survey


def reviews(*documents, labels):
    offsets = np.cumsum([0, *map(len, documents)], dtype=np.int64)
    return Reviews(np.concatenate(documents).astype(np.int32), offsets, np.array(labels))


def test_a_tiny_corpus_by_hand():
    train = reviews([1, 1, 2], [1] * 149, [3] * 1000, labels=[1, 0, 1])
    corpus = Corpus(train, reviews([2, 4], labels=[0]), ("a", "b", "c", "d"), "made up", True)
    found = survey(corpus, maxlen=100)
    assert found.training == (3, 2, 1155 / 3, 150.0, 1001, [1, 1, 0, 0, 0, 0, 0, 0, 0, 1])
    assert found.test == (1, 0, 3.0, 3.0, 3, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    assert (found.vocabulary, found.ids_bytes) == (3, 3 * 100 * 4)
    assert [each.num_words for each in found.coverage] == [7]
    assert found.coverage[0].training == 1.0
    assert found.coverage[0].one_hot_bytes == 3 * 100 * 7 * 4
    cuts = {each.maxlen: each for each in found.cuts}
    assert list(cuts) == [50, 100, 200, 300, 400, 500, 1000]
    assert cuts[100].whole == pytest.approx(1 / 3)
    assert cuts[100].kept == pytest.approx((4 + 100 + 100) / 1155)
    assert cuts[1000].kept == pytest.approx(1154 / 1155)


def test_coverage_is_what_padding_keeps():
    corpus = small_corpus()
    found = survey(corpus, maxlen=20)
    assert [each.num_words for each in found.coverage][:4] == [100, 200, 500, 1000]
    for each in found.coverage:
        for part, share in ((corpus.train, each.training), (corpus.test, each.test)):
            rows = pad_reviews(part, num_words=each.num_words, maxlen=400)
            assert share == pytest.approx((rows > 3).sum() / (rows > 1).sum())
    assert found.coverage[-1].training == 1.0
    assert found.vocabulary == len(corpus.vocabulary)


@pytest.fixture
def made_up(monkeypatch):
    monkeypatch.setattr(commands_data, "load_corpus", lambda data: small_corpus())


def test_tables(made_up, capsys):
    assert cli.run(["data", "--maxlen", "50"]) == 0
    out = capsys.readouterr().out
    found = survey(small_corpus(), 50)
    assert f"words in the training reviews: {found.vocabulary:,}" in out
    row = rf"training +400 +200 +{found.training.mean:.1f} +{found.training.median:.1f}"
    assert re.search(row, out)
    longest = max(found.training.histogram)
    assert re.search(rf"\d to \d+99 +{longest} +█{{50}} ", out)
    assert re.search(r"500 +\d\d\.\d% +\d\d\.\d% +80 kB +40 MB", out)
    assert re.search(rf" 100 +{found.cuts[1].whole:.1%} +{found.cuts[1].kept:.1%}", out)


def test_json(made_up, capsys):
    assert cli.run(["data", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == json.loads(json.dumps(survey(small_corpus(), 100).to_dict()))
    assert err == "fastrnn-imdb: warning: made up for a test\n"


def test_picture(made_up, tmp_path, capsys):
    assert cli.run(["data", "--picture", str(tmp_path / "lengths.png")]) == 0
    assert (tmp_path / "lengths.png").read_bytes().startswith(b"\x89PNG\r\n")
    (tmp_path / "file").write_text("")
    assert cli.run(["data", "--picture", str(tmp_path / "file" / "a.png")]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (221e12, "221 TB")]
)
def test_sizes(number, text):
    assert tables.size(int(number)) == text
