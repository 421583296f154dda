"""A trained model that reads new text: what it thinks of a review, and how it comes to think so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch

from fastrnn.imdb.checkpoint import Trained
from fastrnn.imdb.encoder import Encoder
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.losses import LOSSES
from fastrnn.imdb.training import outputs_of


@dataclass(frozen=True)
class Prediction:
    """What a model thinks of one review.

    Args:
        probability: How probable it is that the review is positive.
        words: Words of the review.
        read: Those of them that the model reads; a long review is cut.
        unknown: Those of the words read that the model does not know.
    """

    probability: float
    words: int
    read: int
    unknown: int

    @property
    def label(self) -> Literal["positive", "negative"]:
        """The more probable class."""
        return label(self.probability)

    def to_dict(self) -> dict[str, Any]:
        """The prediction as plain values, for JSON."""
        return {
            "label": self.label,
            "probability": self.probability,
            "words": self.words,
            "read": self.read,
            "unknown": self.unknown,
        }


class Step(NamedTuple):
    """One word of an explained review."""

    word: str
    state: Literal["known", "unknown", "cut"]
    """Whether the model knows the word; "cut" if it does not get to read it."""
    probability: float | None
    """That the review is positive, if it ended with this word; None if the word is cut off."""
    change: float | None
    """The probability less that before the word."""


@dataclass(frozen=True)
class Explanation:
    """How the probability moves, word by word.

    Args:
        before: The probability of the empty review.
        steps: The words of the review in their order.
    """

    before: float
    steps: tuple[Step, ...]

    @property
    def read(self) -> list[Step]:
        """The words that the model reads."""
        return [step for step in self.steps if step.state != "cut"]

    @property
    def prediction(self) -> Prediction:
        """What the model thinks of the whole review."""
        read = self.read
        last = read[-1].probability if read else self.before
        assert last is not None  # a word that is read has one
        unknown = sum(step.state == "unknown" for step in read)
        return Prediction(last, len(self.steps), len(read), unknown)

    def largest(self, count: int = 5) -> list[Step]:
        """The words that moved the probability most, the strongest first."""
        return sorted(self.read, key=lambda step: -abs(step.change or 0))[:count]

    def to_dict(self) -> dict[str, Any]:
        """The explanation as plain values, for JSON."""
        return {
            **self.prediction.to_dict(),
            "before": self.before,
            "steps": [step._asdict() for step in self.steps],
        }


class Reader:
    """Predicts and explains reviews with a trained model.

    Args:
        trained: A model with its settings and words, as `load_model` gives it.
        device: Where to compute.

    Raises:
        DataError: The model has no words, or its weights are no numbers.
    """

    def __init__(self, trained: Trained, device: torch.device) -> None:
        """Moves the model to the device."""
        if not all(weight.isfinite().all() for weight in trained.model.state_dict().values()):
            raise DataError("this model has weights that are not finite numbers: train it again")
        self.encoder = Encoder(trained.config, trained.vocabulary, trained.table)
        self._config = trained.config
        self._model = trained.model.to(device).eval()
        self._device = device

    @property
    def about(self) -> str:
        """A sentence about the model."""
        config, words = self._config, self.encoder.size
        side = "last" if config.truncating == "pre" else "first"
        layers = f"{config.layers} layers" if config.layers > 1 else "one layer"
        networks = f"{config.members} networks, each " if config.members > 1 else ""
        return (
            f"The model: {networks}{config.cell.upper()}, {layers} of {config.hidden_size} units"
            f"{' in both directions' if config.bidirectional else ''}; knows {words:,} words and "
            f"reads the {side} {config.maxlen:,} of a review."
        )

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """What the model thinks of each text."""
        documents = [self.encoder.words(text) for text in texts]
        return [
            Prediction(probability, len(words), *self._counts(words))
            for probability, words in zip(self._probabilities(documents), documents, strict=True)
        ]

    def explain(self, text: str) -> Explanation:
        """How the probability moves over the words of a text.

        After each word that the model reads it is asked what it thinks of the review that ends
        there, so that any model can be explained, whichever way it reads.
        """
        words = self.encoder.words(text)
        window = self.encoder.window(len(words))
        read = words[window]
        before, *after = self._probabilities([read[:end] for end in range(len(read) + 1)])
        steps = [
            Step(word, "known" if self.encoder.knows(word) else "unknown", now, now - earlier)
            for word, now, earlier in zip(read, after, [before, *after], strict=False)
        ]
        return Explanation(
            before, (*_cut(words[: window.start]), *steps, *_cut(words[window.stop :]))
        )

    def _counts(self, words: Sequence[str]) -> tuple[int, int]:
        read = words[self.encoder.window(len(words))]
        return len(read), sum(not self.encoder.knows(word) for word in read)

    @torch.inference_mode()
    def _probabilities(self, documents: Sequence[Sequence[str]]) -> list[float]:
        if not documents:
            return []
        examples = self.encoder.examples(documents, self._device)
        outputs = outputs_of(self._model, examples, self._config).double()
        probabilities: list[float] = LOSSES[self._config.loss].probability(outputs).tolist()
        return probabilities


def label(probability: float) -> Literal["positive", "negative"]:
    """The more probable class; negative where both are equally so, as the scores count it."""
    return "positive" if probability > 0.5 else "negative"


def _cut(words: Sequence[str]) -> list[Step]:
    return [Step(word, "cut", None, None) for word in words]
