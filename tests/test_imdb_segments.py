"""Reviews cut into pieces, and marks of their tokens: from a corpus to the outputs of a model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from imdb_training import small_corpus
from torch import Tensor

from fastrnn.imdb.batches import Batch, Segmented, make_examples
from fastrnn.imdb.config import Config
from fastrnn.imdb.encoder import Encoder
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.model import SentimentModel, initialise
from fastrnn.imdb.preparation import film_groups, prepare, split_reviews
from fastrnn.imdb.reviews import Reviews
from fastrnn.imdb.sequences import kept_words
from fastrnn.imdb.sources import tokenise_files
from fastrnn.imdb.synthetic import synthetic_reviews

CPU = torch.device("cpu")
CORPUS = replace(
    small_corpus(),
    **tokenise_files(synthetic_reviews(train=200, test=40), "fine")._asdict(),
)
FEATURES = ("none", "learned", "nb", "nbsvm")


def settings(**given: object) -> Config:
    small = {"num_words": 600, "maxlen": 50, "segment": 8, "pooling": "max-mean", "tokens": "fine"}
    return Config(**{**small, **given})


def few(*lengths: int) -> Reviews:
    words = np.arange(1, sum(lengths) + 1, dtype=np.int32)
    return Reviews(words, np.cumsum([0, *lengths]), np.zeros(len(lengths), np.int64))


def pieces(batch: Batch) -> list[list[int]]:
    assert batch.lengths is not None
    return [
        batch.ids[:length, column].tolist() for column, length in enumerate(batch.lengths.tolist())
    ]


def test_reviews_in_pieces() -> None:
    examples = make_examples(settings(segment=3), few(5, 0, 2), CPU)
    batch, labels = examples.take(torch.tensor([2, 0, 1]))
    assert pieces(batch) == [[1, 9, 10], [1, 4, 5], [6, 7, 8], [1]]
    assert batch.ids[1:, 3].tolist() == [0, 0]
    assert batch.owners is not None
    assert batch.owners.tolist() == [0, 1, 1, 2]
    assert labels.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("side", "wanted"), [("pre", [[5, 6, 7], [8]]), ("post", [[1, 4, 5], [6]])]
)
def test_long_reviews_are_cut(side: str, wanted: list[list[int]]) -> None:
    config = settings(segment=3, maxlen=4, truncating=side)
    assert pieces(make_examples(config, few(5), CPU).take(torch.tensor([0]))[0]) == wanted


def test_marks_stay_with_their_tokens() -> None:
    reviews = few(5, 2)
    marks = np.stack([reviews.words, -reviews.words], 1).astype(np.float16)
    examples = make_examples(settings(segment=3, maxlen=5), reviews, CPU, marks=marks)
    batch, _ = examples.take(torch.tensor([0, 1]))
    assert batch.marks is not None
    assert pieces(batch) == [[4, 5, 6], [7, 8], [1, 9, 10]]
    assert batch.marks[:, 0, 0].tolist() == [1, 2, 3]
    assert batch.marks[:2, 1, 1].tolist() == [-4, -5]
    assert batch.marks[:, 2, 0].tolist() == [0, 6, 7]


def whole(config: Config, reviews: Reviews, model: SentimentModel) -> Tensor:
    examples = make_examples(config, reviews, CPU)
    return model(examples.take(torch.arange(len(reviews)))[0])


@pytest.mark.parametrize("backend", ["fastrnn", "torch", "reference"])
@pytest.mark.parametrize("pooling", ["max", "mean", "max-mean"])
def test_one_piece_is_the_same_as_no_pieces(pooling: str, backend: str) -> None:
    config = settings(pooling=pooling, backend=backend, segment=100, bidirectional=True)
    model = SentimentModel(config)
    uncut = replace(config, segment=None)
    torch.testing.assert_close(whole(config, CORPUS.test, model), whole(uncut, CORPUS.test, model))


def test_pieces_are_pooled_together() -> None:
    config = settings(segment=4)
    model = SentimentModel(config)
    reviews = few(9)  # pieces of 4, 4 and 2
    examples = make_examples(config, reviews, CPU)
    batch, _ = examples.take(torch.tensor([0]))
    output, _ = model.layers[0](model.embedding(batch.ids))
    steps = torch.cat([output[:4, 0], output[:4, 1], output[:2, 2]])
    wanted = model.head(torch.cat([steps.amax(0), steps.mean(0)]))
    torch.testing.assert_close(model(batch), wanted)


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("segment", [None, 4])
@pytest.mark.parametrize("backend", ["fastrnn", "torch"])
def test_shortcut_adds_the_words_of_a_review(
    one_hot: bool, segment: int | None, backend: str
) -> None:
    config = settings(segment=segment, shortcut=True, one_hot=one_hot, backend=backend)
    model, plain = SentimentModel(config), SentimentModel(replace(config, shortcut=False))
    reviews = few(9, 3)  # the padding of the second is not read
    with torch.no_grad():
        for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
            theirs.copy_(ours[:, : theirs.shape[1]] if ours.shape != theirs.shape else ours)
    weight = model.head.weight[:, model.pooled :].squeeze(0)
    past = []
    for words in ([1, *range(4, 13)], [1, *range(13, 16)]):  # after the start number
        vectors = model.embedding(torch.tensor(words))
        past.append(vectors.sum(0) @ weight / len(words) ** 0.5)
    wanted = whole(config, reviews, plain) + torch.stack(past)
    torch.testing.assert_close(whole(config, reviews, model), wanted)


def test_ngrams_that_are_left_are_read_louder_in_training() -> None:
    model = SentimentModel(settings(features="learned", feature_dropout=0.25), 9)
    torch.nn.init.ones_(model.ngrams.weight)
    words, marks = torch.zeros(200, 5, 16), torch.full((200, 5, 2), 3, dtype=torch.int32)
    read = model._beside(words, marks)
    assert read.unique().tolist() == pytest.approx([0, 4 / 3, 8 / 3])
    assert read.mean().item() == pytest.approx(2, abs=0.15)
    assert (model.eval()._beside(words, marks) == 2).all()


def test_a_shortcut_needs_pooling() -> None:
    with pytest.raises(DataError, match="--shortcut needs a --pooling other than last"):
        Config(shortcut=True)


@pytest.mark.parametrize("features", FEATURES)
def test_every_kind_of_features_learns(features: str) -> None:
    config = settings(features=features, feature_dropout=0.2 if features != "none" else 0.0)
    prepared = prepare(config, CORPUS, CPU)
    model = SentimentModel(config, len(prepared.table.keys) if prepared.table else 0)
    initialise(model, "keras")
    batch, labels = prepared.training.take(torch.arange(100))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(15):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(batch), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("features", FEATURES)
def test_new_text_is_read_as_the_test_reviews(features: str) -> None:
    config = settings(features=features)
    table = prepare(config, CORPUS, CPU).table
    encoder = Encoder(config, kept_words(CORPUS.vocabulary, config.num_words), table)
    one = CORPUS.test.select(np.array([0]))
    words = [(*CORPUS.vocabulary, "unknown")[rank - 1] for rank in one.words]
    assert "unknown" in words
    wanted, _ = make_examples(config, one, CPU, table).take(torch.tensor([0]))
    found, _ = encoder.examples([words], CPU).take(torch.tensor([0]))
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert torch.equal(ours, theirs)


def test_training_reviews_are_not_marked_by_the_table() -> None:
    config = settings(features="nb")
    prepared = prepare(config, CORPUS, CPU)
    training, _ = split_reviews(config, CORPUS.train)
    by_table = make_examples(config, training, CPU, prepared.table)
    assert isinstance(prepared.training, Segmented)
    assert not torch.equal(prepared.training.marks, by_table.marks)


def test_films_are_in_one_part() -> None:
    files = np.arange(400)
    reviews = replace(small_corpus().train, files=files)
    training, validation = split_reviews(settings(split="films"), reviews)
    assert validation is not None
    assert len(training) + len(validation) == 400
    groups = [set(film_groups(part).tolist()) for part in (training, validation)]
    assert groups[0] & groups[1] == set()


def test_split_by_films_needs_files() -> None:
    reviews = replace(small_corpus().train, files=None)
    with pytest.raises(DataError, match="--split films goes by the names of the review files"):
        split_reviews(settings(split="films"), reviews)


def test_all_reviews_for_training() -> None:
    training, validation = split_reviews(settings(validation_fraction=0.0), CORPUS.train)
    assert training is CORPUS.train
    assert validation is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pooling": "last"}, "--segment needs a --pooling other than last"),
        ({"batches": "bucketed"}, "--segment reads no padding"),
        ({"segment": None, "features": "nb"}, "--features nb needs --segment"),
    ],
)
def test_settings_that_exclude_each_other(given: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        settings(**given)
