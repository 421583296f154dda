"""Training with early stopping, and evaluation. Nothing here writes a file."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from fastrnn.imdb.batches import Examples, Segmented, make_examples, split_batches
from fastrnn.imdb.config import Config
from fastrnn.imdb.distributed import ALONE, Team
from fastrnn.imdb.ensemble import Ensemble
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.losses import LOSSES
from fastrnn.imdb.metrics import accuracy_and_f1
from fastrnn.imdb.model import initialise
from fastrnn.imdb.preparation import Prepared, prepare
from fastrnn.imdb.reviews import Corpus
from fastrnn.imdb.sequences import kept_words
from fastrnn.imdb.state import Epoch, Snapshot, State


class Scores(NamedTuple):
    """How well a model does on a set of reviews."""

    loss: float
    accuracy: float
    f1: float


@dataclass(frozen=True)
class Result:
    """A finished training; the model has the weights of the best epoch."""

    config: Config
    model: Ensemble
    history: list[Epoch]
    best: Epoch
    validation: Scores
    """All NaN where all reviews were for training."""
    test: Scores


def train(
    config: Config,
    corpus: Corpus,
    *,
    resume: Snapshot | None = None,
    team: Team = ALONE,
    on_step: Callable[[Tensor], None] = lambda loss: None,
    on_epoch: Callable[[State], None] = lambda state: None,
) -> Result:
    """Trains a model until its validation loss no longer falls, and scores the best epoch.

    Args:
        config: the settings; `data`, `run_dir` and `threads` are the caller's business.
        corpus: the reviews.
        resume: what was kept of a state with the same settings and reviews, to go on from there:
            the end is the same, to the bit, as if nothing had come between. Default: None.
        team: the processes that train together; all must call this alike. Default: this one alone.
        on_step: called after each step with its loss, a detached scalar.
        on_epoch: called before the first epoch and after each; may save the state.

    Returns:
        The model with the best epoch's weights restored, which is the last where there are no
        validation reviews, the history, and the scores on the validation and test reviews.

    Raises:
        DataError: the device is not there, the corpus is too small to split, the loss is no
            longer finite, or `resume` does not fit.
    """
    device = find_device(config.device)
    prepared = prepare(config, corpus, device)
    table = prepared.table
    model = _new_model(config, 0 if table is None else len(table)).to(device)
    state = State(
        config,
        model,
        math.ceil(len(prepared.training.labels) / config.batch_size),
        kept_words(corpus.vocabulary, config.num_words),
        table,
        corpus.train.fingerprint(),
    )
    if resume is not None:
        state.restore(resume)
    trained = team.wrap(model)
    on_epoch(state)
    while not state.is_over:
        _run_epoch(state, trained, prepared, team, on_step)
        on_epoch(state)
    model.load_state_dict(state.best_weights)
    return Result(
        config,
        model,
        state.history,
        state.best,
        validation=_evaluate(model, prepared.validation, config, team),
        test=evaluate(model, make_examples(config, corpus.test, device, table), config, team),
    )


def _new_model(config: Config, ngrams: int) -> Ensemble:
    """Seeds torch's generator, which dropout draws from later, and draws the weights."""
    torch.manual_seed(config.seed)
    model = Ensemble(config, ngrams)
    initialise(model, config.init)
    return model


def _run_epoch(
    state: State,
    trained: nn.Module,
    prepared: Prepared,
    team: Team,
    on_step: Callable[[Tensor], None],
) -> None:
    started = time.perf_counter()
    number = len(state.history) + 1
    team.reseed(state.config.seed, number)
    batches = split_batches(state.config, prepared.training, state.order)
    train_loss = _train_epoch(state, trained, prepared.training, batches, team, on_step)
    scores = _evaluate(state.model, prepared.validation, state.config, team)
    seconds = time.perf_counter() - started
    finite = math.isfinite(train_loss) and (
        prepared.validation is None or math.isfinite(scores.loss)
    )
    if not finite:
        raise DataError(
            f"training: the loss is not finite in epoch {number}: try an --lr below "
            f"{state.config.lr}"
        )
    state.add(Epoch(number, train_loss, scores.loss, scores.accuracy, seconds))


def _train_epoch(
    state: State,
    trained: nn.Module,
    examples: Examples | Segmented,
    batches: Sequence[Tensor],
    team: Team,
    on_step: Callable[[Tensor], None],
) -> float:
    """Makes one step of `trained`, the state's model, for each batch; returns the mean loss."""
    optimizer, config = state.optimizer, state.config
    mean_loss, parameters = LOSSES[config.loss].mean, list(trained.parameters())
    trained.train()
    losses = []
    for indices in batches:
        own, share = team.part(indices)
        batch, labels = examples.take(own)
        repeated = labels.expand(config.members, -1).flatten()  # unlike repeat(), no copy for one
        loss = mean_loss(trained(batch), repeated)
        if team.size > 1:
            loss = loss * share
        for parameter in parameters:  # a quarter of the time of optimizer.zero_grad()
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        if config.clip_norm is not None:
            clip_grad_norm_(parameters, config.clip_norm)
        optimizer.step()
        if state.schedule is not None:
            state.schedule.step()
        losses.append(loss.detach())
        on_step(losses[-1])
    sizes = torch.tensor([len(indices) for indices in batches], device=loss.device)
    total = team.total(torch.stack(losses)) / team.size
    return ((total * sizes).sum() / sizes.sum()).item()


@torch.no_grad()
def outputs_of(
    model: Ensemble, examples: Examples | Segmented, config: Config, team: Team = ALONE
) -> Tensor:
    """Returns what `model` gives for `examples`, in their order: (N,) or (N, 2), as for the loss.

    It reads them without dropout, in batches of the training's size; each process of the team some.
    """
    model.eval()
    batches = split_batches(config, examples)
    labels, each = examples.labels, LOSSES[config.loss].outputs
    outputs = labels.new_zeros(len(labels) if each == 1 else (len(labels), each))
    for indices in team.share_of(batches):
        outputs[indices.to(outputs.device)] = model(examples.take(indices)[0])
    return team.total(outputs)


@torch.no_grad()
def evaluate(
    model: Ensemble, examples: Examples | Segmented, config: Config, team: Team = ALONE
) -> Scores:
    """Scores `model` on `examples`, as `outputs_of` reads them."""
    outputs, labels = outputs_of(model, examples, config, team), examples.labels
    loss = LOSSES[config.loss]
    truth, guess = labels > 0.5, loss.probability(outputs) > 0.5
    return Scores(loss.mean(outputs, labels).item(), *accuracy_and_f1(truth, guess))


def _evaluate(
    model: Ensemble, examples: Examples | Segmented | None, config: Config, team: Team
) -> Scores:
    if examples is None:
        return Scores(math.nan, math.nan, math.nan)
    return evaluate(model, examples, config, team)


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
