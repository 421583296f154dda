"""The labs on four sentences: what each choice of the sentiment network does to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import mean
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fastrnn
from fastrnn.imdb.labs.base import (
    ACCURACY,
    F1,
    FIRST,
    LAST,
    VALIDATION_ACCURACY,
    VALIDATION_LOSS,
    Lab,
    Part,
    Run,
    Variant,
    course,
    extremes,
    fit,
    sentence,
)
from fastrnn.imdb.metrics import accuracy_and_f1
from fastrnn.imdb.tokens import split_words

SENTENCES = (
    ("I love this great film", 1),
    ("I hate this bad film", 0),
    ("A great story", 1),
    ("A bad story", 0),
)
_WORDS = sorted({word for text, _ in SENTENCES for word in split_words(text)})
VOCABULARY = ("", *_WORDS)  # id 0 is padding
DATA = f"{len(SENTENCES)} sentences, a vocabulary of {len(VOCABULARY)}"


class Choice(NamedTuple):
    """What the labs vary; the defaults are those of the lab `four-sentences`."""

    hidden: int = 16
    layers: int = 1
    embedding: int = 10
    batch: int = 2
    lr: float = 1e-3
    activation: Callable[[Tensor], Tensor] = torch.nn.Identity()
    mse: bool = False


class Classifier(nn.Module):
    """Embedding → RNN → linear to two scores, then an activation."""

    def __init__(self, choice: Choice) -> None:
        """Builds the layers."""
        super().__init__()
        self.embedding = nn.Embedding(len(VOCABULARY), choice.embedding)
        self.rnn = fastrnn.RNN(choice.embedding, choice.hidden, choice.layers, batch_first=True)
        self.head = nn.Linear(choice.hidden, 2)
        self.activation = choice.activation

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Returns the scores (B, 2) of padded sentences `ids` (B, T) of `lengths` (B,)."""
        _, h_n = self.rnn(self.embedding(ids), lengths=lengths)
        scores: Tensor = self.activation(self.head(h_n[-1]))
        return scores


def _batch(examples: Sequence[tuple[str, int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Pads sentences; returns ids (B, T), lengths (B,) and labels (B,), all int64."""
    ids = [torch.tensor([VOCABULARY.index(w) for w in split_words(text)]) for text, _ in examples]
    lengths = torch.tensor([len(each) for each in ids])
    labels = torch.tensor([label for _, label in examples])
    return nn.utils.rnn.pad_sequence(ids, batch_first=True), lengths, labels


def _one_hot_mse(scores: Tensor, labels: Tensor) -> Tensor:
    return F.mse_loss(scores, F.one_hot(labels, 2).to(scores.dtype))


def _train(choice: Choice, seed: int, epochs: int) -> Run:
    model = Classifier(choice)

    def batches() -> Iterator[tuple[Tensor, ...]]:
        for order in torch.split(torch.randperm(len(SENTENCES)), choice.batch):
            yield _batch([SENTENCES[index] for index in order])

    loss = _one_hot_mse if choice.mse else F.cross_entropy
    optimizer = torch.optim.Adam(model.parameters(), lr=choice.lr)
    losses = fit(model, optimizer, loss, batches, epochs)
    ids, lengths, labels = _batch(SENTENCES)
    with torch.no_grad():
        guesses = model.eval()(ids, lengths).argmax(1)
    accuracy, f1 = accuracy_and_f1(labels > 0, guesses > 0)
    return Run(
        {
            FIRST: losses.y[0],
            LAST: losses.y[-1],
            ACCURACY: 100 * accuracy,
            F1: 100 * f1,
        },
        {"training": losses},
    )


def _variant(name: str, reported: str = "", **changes: Any) -> Variant:
    return Variant(name, partial(_train, Choice(**changes)), reported)


def _lab(question: str, *variants: Variant, **more: Any) -> Lab:
    settings = {"judge": LAST, "conclude": extremes, **more}
    return Lab(question, DATA, 10, variants, **settings)


def _loss_and_accuracy(part: Part) -> str:
    text = course(part, "four sentences")
    return sentence(f"{text}, and {part.text('four sentences', ACCURACY)} % are told right")


def _loss_against_accuracy(part: Part) -> str:
    """The value of a loss against what its model gets right."""
    small = LAST in next(iter(part.runs.values()))[0].figures
    loss, accuracy = (LAST, ACCURACY) if small else (VALIDATION_LOSS, VALIDATION_ACCURACY)
    losses, accuracies = (
        {name: mean(part.values(name, figure)) for name in part.runs} for figure in (loss, accuracy)
    )
    lowest = min(losses, key=losses.__getitem__)
    best = [name for name in accuracies if accuracies[name] == max(accuracies.values())]
    return sentence(
        f"{lowest} has the lowest {loss}, {part.text(lowest, loss)}, and {' and '.join(best)} the "
        f"best accuracy, {part.text(best[0], accuracy)} %: values of different losses do not "
        "compare, accuracy and F1 do"
    )


LABS = {
    "four-sentences": _lab(
        "Does a small recurrent network learn the sentiment of four sentences?",
        _variant("four sentences", ".675 → .583"),
        conclude=_loss_and_accuracy,
    ),
    "hidden-size": _lab(
        "What do the sizes of state, embedding and batch and the learning rate change?",
        _variant("hidden 8", hidden=8),
        _variant("hidden 16", ".675 → .583"),
        _variant("hidden 32", hidden=32),
        _variant("embedding 5", embedding=5),
        _variant("embedding 20", embedding=20),
        _variant("batch 1", batch=1),
        _variant("batch 4", batch=4),
        _variant("learning rate 0.01", lr=1e-2),
        imdb={
            "hidden 8": {"hidden_size": 8},
            "hidden 16": {"hidden_size": 16},
            "hidden 32": {"hidden_size": 32},
            "embedding 8": {"embedding_size": 8},
            "embedding 32": {"embedding_size": 32},
            "batch 32": {"batch_size": 32},
            "batch 128": {"batch_size": 128},
            "learning rate 0.003": {"lr": 3e-3},
        },
    ),
    "layers": _lab(
        "What does a second recurrent layer change?",
        _variant("1 layer"),
        _variant("2 layers", ".744 → .595", layers=2),
        imdb={"1 layer": {"layers": 1}, "2 layers": {"layers": 2}},
    ),
    "activation": _lab(
        "What does an activation after the output layer do to training by cross-entropy?",
        _variant("none"),
        _variant("ReLU", ".693, stuck", activation=torch.relu),
        _variant("tanh", ".698 → .632", activation=torch.tanh),
        _variant("sigmoid", ".698 → .675", activation=torch.sigmoid),
        imdb={
            name: {"loss": "cross-entropy", "output_activation": name.lower()}
            for name in ("none", "ReLU", "tanh", "sigmoid")
        },
    ),
    "loss": _lab(
        "Which loss is better, and what does its value say?",
        _variant("cross-entropy", ".675 → .583"),
        _variant("MSE", ".816 → .430", mse=True),
        judge=ACCURACY,
        conclude=_loss_against_accuracy,
        imdb={
            name: {"loss": name.lower()}
            for name in ("BCE", "BCE-logits", "cross-entropy", "NLL", "MSE", "L1")
        },
    ),
}
