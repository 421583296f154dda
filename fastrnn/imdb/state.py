"""A training under way: all that decides how it goes on, and how another process takes it over."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from fastrnn.imdb.config import Config
from fastrnn.imdb.ensemble import Ensemble
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.ngrams import NgramTable
from fastrnn.imdb.optim import make_optimizer, make_schedule


class Epoch(NamedTuple):
    """A line of the history."""

    epoch: int
    train_loss: float
    validation_loss: float
    """NaN, as the accuracy, where all reviews are for training."""
    validation_accuracy: float
    seconds: float


class Snapshot(NamedTuple):
    """What is kept of a state between two epochs, in values that a checkpoint can hold.

    The learning rate is not kept: settings and number of steps tell it.
    """

    model: dict[str, Tensor]
    best_weights: dict[str, Tensor]
    """Of the best epoch so far; empty before the first."""
    optimizer: dict[int, dict[str, Any]]
    """What the optimizer remembers of each parameter, by their order in the model."""
    history: list[tuple[Any, ...]]
    generators: dict[str, Tensor]
    """States: "torch" draws dropout on the CPU, "device" on a GPU, "order" the reviews' order."""
    fingerprint: int
    """Of the reviews."""


@dataclass
class State:
    """A training under way, as the `on_epoch` callback sees it.

    Args:
        config: the settings.
        model: the model, on its device and with its first weights.
        steps_per_epoch: batches of the training reviews.
        vocabulary: the words that the model knows, most frequent first; empty when the source has
            none.
        table: the n-grams that the model knows, where it reads any.
        fingerprint: a number that other reviews are unlikely to have.
    """

    config: Config
    model: Ensemble
    steps_per_epoch: int
    vocabulary: tuple[str, ...]
    table: NgramTable | None = None
    fingerprint: int = 0
    history: list[Epoch] = field(default_factory=list)
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    optimizer: torch.optim.Optimizer = field(init=False)
    schedule: LRScheduler | None = field(init=False)
    """What sets the learning rate before each step; None where it never changes."""
    order: torch.Generator = field(init=False)
    """One of its own: how much dropout draws does not change the order of the reviews."""

    def __post_init__(self) -> None:
        """Makes what the settings decide."""
        self.optimizer = make_optimizer(self.config, self.model.parameters())
        self.schedule = make_schedule(self.config, self.optimizer, self.steps_per_epoch)
        self.order = torch.Generator().manual_seed(self.config.seed)

    @property
    def best(self) -> Epoch:
        """The epoch of the lowest validation loss, the first of equals; the last if unscored."""
        if self.config.validation_fraction == 0:
            return self.history[-1]
        return min(self.history, key=lambda epoch: epoch.validation_loss)

    @property
    def improved(self) -> bool:
        """Whether the last epoch is the best."""
        return bool(self.history) and self.best is self.history[-1]

    @property
    def is_over(self) -> bool:
        """Whether the last epoch is behind, or too many without a better validation loss."""
        if not self.history:
            return False
        done = self.history[-1].epoch
        return done >= self.config.epochs or done - self.best.epoch >= self.config.patience

    def add(self, epoch: Epoch) -> None:
        """Ends an epoch, and keeps the weights if it is the best so far."""
        self.history.append(epoch)
        if self.improved:
            self.best_weights = copy.deepcopy(self.model.state_dict())

    def snapshot(self) -> Snapshot:
        """Returns all that `restore` needs, without copying the tensors."""
        generators = {"torch": torch.get_rng_state(), "order": self.order.get_state()}
        device = torch.device(self.config.device)
        if device.type == "cuda":
            generators["device"] = torch.cuda.get_rng_state(device)
        weights = self.model.state_dict()
        return Snapshot(
            weights,
            weights if self.improved else self.best_weights,  # a file holds the same tensors once
            self.optimizer.state_dict()["state"],
            [tuple(epoch) for epoch in self.history],
            generators,
            self.fingerprint,
        )

    def restore(self, kept: Snapshot) -> None:
        """Goes on where the state of `kept` was, which may come from a file that lies.

        Raises:
            DataError: it is of other reviews, or does not fit the settings.
        """
        if kept.fingerprint != self.fingerprint:
            raise DataError("--resume: the reviews are not those with which the run began")
        try:
            history = [Epoch(*line) for line in kept.history]
            _check("history", _counts_up(history, self.config.validation_fraction == 0))
            _check("weights", layout(kept.model) == layout(self.model.state_dict()))
            best = layout(self.model.state_dict()) if history else {}
            _check("best weights", layout(kept.best_weights) == best)
            remembered = _remembered(self.config, self.model) if history else {}
            _check(
                "optimizer",
                {index: layout(each) for index, each in kept.optimizer.items()} == remembered,
            )
            self.order.set_state(kept.generators["order"])
            torch.set_rng_state(kept.generators["torch"])
            if "device" in kept.generators:
                torch.cuda.set_rng_state(kept.generators["device"], self.config.device)
        except (AttributeError, KeyError, RuntimeError, TypeError) as error:
            raise _unfit(str(error).splitlines()[0]) from error
        self.history = history
        self.model.load_state_dict(kept.model)
        self.best_weights = kept.best_weights
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": kept.optimizer, "param_groups": groups})
        steps = len(history) * self.steps_per_epoch
        self.schedule = make_schedule(self.config, self.optimizer, self.steps_per_epoch, steps)


def _counts_up(history: list[Epoch], unscored: bool) -> bool:
    """Whether it has epochs 1, 2, 3 and so on, and no figure but what is wanted."""
    if unscored:
        history = [
            epoch._replace(validation_loss=0.0, validation_accuracy=0.0) for epoch in history
        ]
    numbers = [value for epoch in history for value in epoch]
    return all(type(value) in (int, float) and math.isfinite(value) for value in numbers) and [
        epoch.epoch for epoch in history
    ] == list(range(1, len(history) + 1))


def layout(values: Any) -> Any:
    """What two dictionaries of tensors and numbers from a file must agree in, or else None.

    Example:
        >>> layout({"step": 3, "bias": torch.zeros(2)})
        {'step': (3,), 'bias': (torch.Size([2]), torch.float32)}
    """
    if not isinstance(values, dict):
        return None
    return {
        name: (value.shape, value.dtype) if isinstance(value, Tensor) else (value,)
        for name, value in values.items()
    }


def _remembered(config: Config, model: nn.Module) -> dict[int, dict[str, Any]]:
    """The layout of what the optimizer remembers after a step, found by making one."""
    stand_ins = [nn.Parameter(torch.zeros_like(each)) for each in model.parameters()]
    optimizer = make_optimizer(config, stand_ins)
    for each in stand_ins:
        each.grad = torch.zeros_like(each)
    optimizer.step()
    return {index: layout(each) for index, each in optimizer.state_dict()["state"].items()}


def _check(name: str, fits: bool) -> None:
    if not fits:
        raise _unfit(f"its {name} has another form")


def _unfit(reason: str) -> DataError:
    return DataError(f"--resume: the checkpoint does not fit its settings: {reason}")
