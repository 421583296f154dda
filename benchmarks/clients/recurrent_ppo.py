"""sb3-contrib's RecurrentPPO (MIT): reinforcement learning, which plays and trains in turns."""

from __future__ import annotations

from copy import deepcopy

import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.env_util import make_vec_env
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from benchmarks.clients import Program

GAMES = 8
STEPS = 32
ROUNDS = 2
# Not policy_gradient_loss: its terms were made to have mean 0, so it is mostly rounding.
LOSSES = ("loss", "value_loss", "entropy_loss")


def make() -> Program:
    """CartPole with the package's own settings, but fewer steps a round and fewer epochs."""
    with torch.random.fork_rng(devices=[]):
        games = make_vec_env("CartPole-v1", n_envs=GAMES)
        learner = RecurrentPPO(
            "MlpLstmPolicy", games, n_steps=STEPS, n_epochs=2, seed=0, device="cpu"
        )
    policy = learner.policy
    first = deepcopy((policy.state_dict(), policy.optimizer.state_dict()))

    def run() -> dict[str, Tensor]:
        policy.load_state_dict(first[0])
        policy.optimizer.load_state_dict(deepcopy(first[1]))
        losses: dict[str, list[float]] = {name: [] for name in LOSSES}
        with torch.random.fork_rng(devices=[]):
            learner.set_random_seed(0)
            for number in range(ROUNDS):
                learner.learn(GAMES * STEPS, reset_num_timesteps=number == 0)
                for name, values in losses.items():
                    values.append(float(learner.logger.name_to_value[f"train/{name}"]))
        weights = parameters_to_vector(policy.parameters()).detach()
        return {"weights": weights, **{name: torch.tensor(each) for name, each in losses.items()}}

    return Program(policy, run)
