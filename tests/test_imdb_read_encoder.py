"""New text becomes what training would have made of it, and is read as the trained model reads."""

from __future__ import annotations

import dataclasses
import doctest

import numpy as np
import pytest
import torch
from imdb_training import quick

from fastrnn.imdb import encoder as encoders
from fastrnn.imdb import tokens
from fastrnn.imdb.batches import Batch, make_examples
from fastrnn.imdb.checkpoint import Trained
from fastrnn.imdb.encoder import Encoder
from fastrnn.imdb.ensemble import Ensemble
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.model import initialise
from fastrnn.imdb.reader import Reader
from fastrnn.imdb.review_files import texts_and_labels
from fastrnn.imdb.reviews import Reviews
from fastrnn.imdb.sequences import kept_words
from fastrnn.imdb.sources import tokenise_files
from fastrnn.imdb.synthetic import synthetic_reviews

CPU = torch.device("cpu")
FILES = synthetic_reviews(train=60, test=40)
TOKENISED = tokenise_files(FILES)


def encoder_of(config, vocabulary=TOKENISED.vocabulary):
    return Encoder(config, kept_words(vocabulary, config.num_words))


def reader_of(config):
    model = Ensemble(config)
    initialise(model, config.init)
    # Larger weights than training starts from, so that words matter.
    torch.nn.init.normal_(model.networks[0].embedding.weight, std=2.0)
    return Reader(Trained(config, model, kept_words(TOKENISED.vocabulary, config.num_words)), CPU)


def test_examples_in_the_docstrings():
    assert doctest.testmod(encoders).attempted > 0
    assert doctest.testmod(encoders).failed == 0


@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize("truncating", ["pre", "post"])
@pytest.mark.parametrize("maxlen", [1, 2, 20, 400])
@pytest.mark.parametrize("num_words", [5, 300, 100_000])
def test_training_reviews_become_what_training_makes_of_them(
    padding, truncating, maxlen, num_words
):
    config = quick(padding=padding, truncating=truncating, maxlen=maxlen, num_words=num_words)
    encoder = encoder_of(config)
    texts, _ = texts_and_labels(FILES, "train")
    ours = encoder.examples([encoder.words(text) for text in texts], CPU)
    wanted = make_examples(config, TOKENISED.train, CPU)
    assert ours.ids.dtype == wanted.ids.dtype
    assert torch.equal(ours.ids, wanted.ids)


def test_words_that_no_training_review_has_are_rare_words():
    encoder = encoder_of(quick())
    ids = encoder.examples([["loved", "unheard-of", "loved"]], CPU).ids
    rank = TOKENISED.vocabulary.index("loved") + 1
    assert ids[0, -4:].tolist() == [1, rank + 3, 2, rank + 3]
    assert encoder.knows("loved")
    assert not encoder.knows("unheard-of")


@pytest.mark.parametrize("truncating", ["pre", "post"])
@pytest.mark.parametrize("length", [0, 1, 18, 19, 20, 21, 50])
def test_window_is_the_part_that_is_read(truncating, length):
    config = quick(truncating=truncating, num_words=100_000)
    encoder = encoder_of(config)
    words = list(TOKENISED.vocabulary[:length])
    row = encoder.examples([words], CPU).ids[0]
    read = [TOKENISED.vocabulary[number - 4] for number in row.tolist() if number > 3]
    assert words[encoder.window(length)] == read


def test_a_model_without_words_says_how_to_get_some():
    with pytest.raises(DataError, match=r"imdb_word_index\.json.*train again"):
        Encoder(quick(), ())


def test_a_model_whose_weights_are_no_numbers_is_refused():
    model = Ensemble(quick())
    with torch.no_grad():
        model.networks[0].head.bias[0] = float("nan")
    with pytest.raises(DataError, match="not finite"):
        Reader(Trained(quick(), model, ("film",)), CPU)


def test_reviews_of_another_corpus_get_the_numbers_of_the_model():
    encoder = encoder_of(quick(), ("good", "film", "bad"))
    reviews = Reviews(np.array([1, 2, 3, 4], np.int32), np.array([0, 4]), np.array([1]))
    renumbered = encoder.renumbered(reviews, ("bad", "unheard", "good", "film"))
    assert renumbered.words.tolist() == [3, 300, 1, 2]
    assert make_examples(quick(maxlen=5), renumbered, CPU).ids.tolist() == [[1, 6, 2, 4, 5]]
    same = encoder_of(quick()).renumbered(TOKENISED.test, TOKENISED.vocabulary)
    wanted = make_examples(quick(), TOKENISED.test, CPU)
    assert torch.equal(make_examples(quick(), same, CPU).ids, wanted.ids)


def test_predictions_are_those_of_the_model():
    config = quick(maxlen=50, batch_size=7)
    reader = reader_of(config)
    texts, _ = texts_and_labels(FILES, "train")
    predictions = reader.predict(texts)
    ids = make_examples(config, TOKENISED.train, CPU).ids
    with torch.no_grad():
        wanted = torch.sigmoid(reader._model(Batch(ids.t())))
    torch.testing.assert_close(torch.tensor([each.probability for each in predictions]), wanted)
    for text, each in zip(texts, predictions, strict=True):
        words = tokens.split_words(text)
        assert (each.words, each.read) == (len(words), min(50, len(words)))
        assert each.unknown == sum(not reader.encoder.knows(word) for word in words[-50:])
        assert each.label == ("positive" if each.probability > 0.5 else "negative")
    assert {each.label for each in predictions} == {"positive", "negative"}
    assert reader.predict([]) == []


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"truncating": "post"},
        {"padding": "post"},
        {"bidirectional": True},
        {"cell": "gru", "layers": 2},
        {"pooling": "max-mean", "bidirectional": True},
        {"batches": "bucketed", "batch_size": 5},
        {"loss": "cross-entropy"},
        {"loss": "mse", "output_activation": "sigmoid"},
        {"backend": "fastrnn"},
    ],
    ids=str,
)
def test_each_step_is_the_prediction_for_the_review_up_to_there(given):
    reader = reader_of(quick(**given))
    text = " ".join(TOKENISED.vocabulary[:30]) + " unheard"
    words = tokens.split_words(text)
    explained = reader.explain(text)
    assert [step.word for step in explained.steps] == words
    read = [step for step in explained.steps if step.state != "cut"]
    assert explained.before == pytest.approx(reader.predict([""])[0].probability)
    before = explained.before
    for end, step in enumerate(read, 1):
        prefix = " ".join(each.word for each in read[:end])
        assert step.probability == pytest.approx(reader.predict([prefix])[0].probability)
        assert step.change == pytest.approx(step.probability - before)
        before = step.probability
    assert dataclasses.asdict(explained.prediction) == pytest.approx(
        dataclasses.asdict(reader.predict([text])[0])
    )


def test_states_of_words():
    text = "unheard " + " ".join(TOKENISED.vocabulary[:19]) + " unheard"
    states = [step.state for step in reader_of(quick()).explain(text).steps]
    assert states == ["cut", *["known"] * 19, "unknown"]
    states = [step.state for step in reader_of(quick(truncating="post")).explain(text).steps]
    assert states == ["unknown", *["known"] * 18, "cut", "cut"]


def test_an_empty_review():
    explained = reader_of(quick()).explain(" ,.!")
    assert explained.steps == ()
    assert explained.largest() == []
    prediction = explained.prediction
    assert (prediction.words, prediction.read, prediction.unknown) == (0, 0, 0)
    assert prediction.probability == explained.before


def test_largest_moves_come_first():
    explained = reader_of(quick()).explain(" ".join(TOKENISED.vocabulary[:20]))
    changes = [abs(step.change) for step in explained.largest(20)]
    assert changes == sorted(changes, reverse=True)
    assert len(explained.largest()) == 5
