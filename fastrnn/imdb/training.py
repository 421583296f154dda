"""Training with early stopping, and evaluation. Nothing here writes a file."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits

from fastrnn.imdb.config import Config
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.model import SentimentModel, initialise
from fastrnn.imdb.reviews import Corpus, Reviews
from fastrnn.imdb.sequences import kept_words, pad_reviews, validation_split

# One fused update for all parameters: at these sizes the loop over them costs as much as a layer.
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": partial(torch.optim.Adam, fused=True),
    "sgd": partial(torch.optim.SGD, fused=True),
    "rmsprop": torch.optim.RMSprop,
}


class Examples(NamedTuple):
    """Padded reviews and their labels on the device."""

    ids: Tensor
    """int32 (N, T)."""
    labels: Tensor
    """float32 (N,), 1 for a positive review."""


class Scores(NamedTuple):
    """How well a model does on a set of reviews."""

    loss: float
    accuracy: float
    f1: float


class Epoch(NamedTuple):
    """A line of the history."""

    epoch: int
    train_loss: float
    validation_loss: float
    validation_accuracy: float
    seconds: float


@dataclass
class State:
    """A training under way, as the `on_epoch` callback sees it."""

    config: Config
    model: SentimentModel
    optimizer: torch.optim.Optimizer
    steps_per_epoch: int
    vocabulary: tuple[str, ...]
    """The words that the model knows, most frequent first; empty when the source has none."""
    history: list[Epoch] = field(default_factory=list)

    @property
    def best(self) -> Epoch:
        """The epoch of the lowest validation loss, the first of equals."""
        return min(self.history, key=lambda epoch: epoch.validation_loss)

    @property
    def improved(self) -> bool:
        """Whether the last epoch is the best."""
        return bool(self.history) and self.best is self.history[-1]


@dataclass(frozen=True)
class Result:
    """A finished training; the model has the weights of the best epoch."""

    config: Config
    model: SentimentModel
    history: list[Epoch]
    best: Epoch
    validation: Scores
    test: Scores


def train(
    config: Config,
    corpus: Corpus,
    *,
    on_step: Callable[[Tensor], None] = lambda loss: None,
    on_epoch: Callable[[State], None] = lambda state: None,
) -> Result:
    """Trains a model until its validation loss no longer falls, and scores the best epoch.

    Args:
        config: the settings; `data`, `run_dir` and `threads` are the caller's business.
        corpus: the reviews.
        on_step: called after each step with its loss, a detached scalar.
        on_epoch: called before the first epoch and after each; may save the state.

    Returns:
        The model with the best epoch's weights restored, the history, and the scores on the
        validation and test reviews.

    Raises:
        DataError: the device is not there, the corpus is too small to split, or the loss is no
            longer finite.
    """
    device = find_device(config.device)
    model = _new_model(config).to(device)
    optimizer = OPTIMIZERS[config.optimizer](model.parameters(), lr=config.lr)
    training, validation = _training_examples(config, corpus, device)
    # A generator of its own: the order of the reviews does not depend on how much dropout draws.
    order = torch.Generator().manual_seed(config.seed)
    steps = math.ceil(len(training.ids) / config.batch_size)
    words = kept_words(corpus.vocabulary, config.num_words)
    state = State(config, model, optimizer, steps, words)
    best_weights = {}
    on_epoch(state)
    for epoch in range(1, config.epochs + 1):
        started = time.perf_counter()
        permutation = torch.randperm(len(training.ids), generator=order).to(device)
        train_loss = _train_epoch(state, training, permutation, on_step)
        scores = evaluate(model, validation, config)
        seconds = time.perf_counter() - started
        if not math.isfinite(train_loss + scores.loss):
            raise DataError(
                f"training: the loss is not finite in epoch {epoch}: try an --lr below {config.lr}"
            )
        state.history.append(Epoch(epoch, train_loss, scores.loss, scores.accuracy, seconds))
        if state.improved:
            best_weights = copy.deepcopy(model.state_dict())
        on_epoch(state)
        if epoch - state.best.epoch >= config.patience:
            break
    model.load_state_dict(best_weights)
    return Result(
        config,
        model,
        state.history,
        state.best,
        validation=evaluate(model, validation, config),
        test=evaluate(model, make_examples(config, corpus.test, device), config),
    )


def _new_model(config: Config) -> SentimentModel:
    """Seeds torch's generator, which dropout draws from later, and draws the weights."""
    torch.manual_seed(config.seed)
    model = SentimentModel(config)
    initialise(model, config.init)
    return model


def _train_epoch(
    state: State, examples: Examples, order: Tensor, on_step: Callable[[Tensor], None]
) -> float:
    """Makes one step for each batch of `order`; returns the mean loss."""
    model, optimizer = state.model, state.optimizer
    model.train()
    total = torch.zeros((), device=order.device)
    for batch in torch.split(order, state.config.batch_size):
        logits = model(examples.ids[batch].t())
        loss = _loss(state.config, logits, examples.labels[batch])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += loss.detach() * len(batch)
        on_step(loss.detach())
    return total.item() / len(order)


@torch.no_grad()
def evaluate(model: SentimentModel, examples: Examples, config: Config) -> Scores:
    """Scores `model` on `examples`, without dropout, in batches of the training's size."""
    model.eval()
    batches = torch.split(examples.ids, config.batch_size)
    logits = torch.cat([model(ids.t()) for ids in batches])
    truth, guess = examples.labels.cpu() > 0.5, logits.cpu() > 0
    return Scores(
        loss=_loss(config, logits, examples.labels).item(),
        accuracy=float(accuracy_score(truth, guess)),
        f1=float(f1_score(truth, guess, zero_division=0.0)),
    )


def make_examples(config: Config, reviews: Reviews, device: torch.device) -> Examples:
    """Returns `reviews` padded and cut as `config` says."""
    ids = pad_reviews(
        reviews,
        num_words=config.num_words,
        maxlen=config.maxlen,
        padding=config.padding,
        truncating=config.truncating,
    )
    return Examples(
        torch.from_numpy(ids).to(device, torch.int32),
        torch.from_numpy(reviews.labels).to(device, torch.float32),
    )


def _training_examples(
    config: Config, corpus: Corpus, device: torch.device
) -> tuple[Examples, Examples]:
    whole = make_examples(config, corpus.train, device)
    parts = validation_split(len(corpus.train), config.validation_fraction)
    training, validation = (Examples(whole.ids[part], whole.labels[part]) for part in parts)
    return training, validation


def _loss(config: Config, logits: Tensor, labels: Tensor) -> Tensor:
    if config.loss == "bce":
        return binary_cross_entropy(torch.sigmoid(logits), labels)
    return binary_cross_entropy_with_logits(logits, labels)


def find_device(name: str) -> torch.device:
    """Returns the device called `name`.

    Raises:
        DataError: there is no such device here.
    """
    try:
        device = torch.device(name)
        torch.zeros((), device=device).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"--device {name} cannot be used here: {reason}") from error
    return device
