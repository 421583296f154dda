"""Optimizers and the course of the learning rate, as the settings ask for them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.nn import Parameter
from torch.optim.lr_scheduler import LambdaLR

from fastrnn.imdb.config import Config


def make_optimizer(config: Config, parameters: Iterable[Parameter]) -> torch.optim.Optimizer:
    """Returns the optimizer of `config` for `parameters`.

    All parameters are updated in one fused or grouped call: at the presets' sizes a loop over them
    costs as much as a recurrent layer.
    """
    given: dict[str, Any] = {"lr": config.lr}
    if config.optimizer == "rmsprop":
        return _uncompiled(torch.optim.RMSprop)(parameters, **given, foreach=True)
    given["fused"] = True
    if config.optimizer == "sgd":
        return _uncompiled(torch.optim.SGD)(parameters, **given, momentum=config.momentum)
    if config.optimizer == "adam":
        return _uncompiled(torch.optim.Adam)(parameters, **given)
    if config.weight_decay is not None:
        given["weight_decay"] = config.weight_decay
    return _uncompiled(torch.optim.AdamW)(parameters, **given)


def _uncompiled(optimizer: type[torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
    """Returns the class with its methods as they are beneath what torch wraps them in.

    The wrappers are for programs that torch.compile makes; they load the compiler at the first
    call, which takes as long as loading torch.
    """
    wrapped = ("add_param_group", "load_state_dict", "state_dict", "step")
    methods = {name: inspect.unwrap(getattr(optimizer, name)) for name in wrapped}
    methods["step"] = torch.no_grad()(methods["step"])  # as its wrapper does
    return type(optimizer.__name__, (optimizer,), methods)


def make_schedule(
    config: Config, optimizer: torch.optim.Optimizer, steps_per_epoch: int, done: int = 0
) -> LambdaLR | None:
    """Returns what sets the learning rate before each step, or None where it never changes.

    Args:
        config: the settings.
        optimizer: whose rate is set, at once for the next step.
        steps_per_epoch: steps in an epoch.
        done: steps that are behind. Default: 0.
    """
    if config.schedule == "constant" and not config.warmup_steps:
        return None
    for group in optimizer.param_groups:
        group["initial_lr"] = config.lr
    return LambdaLR(
        optimizer, lambda step: lr_factor(config, step, steps_per_epoch), last_epoch=done - 1
    )


def lr_factor(config: Config, step: int, steps_per_epoch: int) -> float:
    """Returns by what `config.lr` is multiplied at a step, counted from 0.

    The rate grows from lr / warmup_steps to lr, in equal parts, over the first `warmup_steps`.
    Then it stays, or falls: "linear" and "cosine" end at `final_lr` of it after `epochs`, "step"
    multiplies it by `step_factor` after every `step_epochs`.

    Example:
        >>> config = Config(schedule="linear", warmup_steps=2, epochs=1)
        >>> [lr_factor(config, step, steps_per_epoch=6) for step in range(7)]
        [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "step":
        return config.step_factor ** (step // (config.step_epochs * steps_per_epoch))
    falling = max(1, config.epochs * steps_per_epoch - config.warmup_steps)
    done = min(1.0, (step - config.warmup_steps) / falling)
    left = (1 + math.cos(math.pi * done)) / 2 if config.schedule == "cosine" else 1 - done
    return config.final_lr + (1 - config.final_lr) * left
