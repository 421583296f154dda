"""Networks that learn side by side, each by itself, and judge together."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastrnn.imdb.batches import Batch
from fastrnn.imdb.config import Config
from fastrnn.imdb.model import SentimentModel


class Ensemble(nn.Module):
    """The networks of a model, `members` of them, with their own weights and their own dropout.

    In training each network's outputs stand for themselves, so that the mean loss over all of them
    is the mean of the networks' own losses: none learns to lean on another. Otherwise the outputs
    are the mean over the networks, whose mistakes partly cancel.

    Args:
        config: the settings of each network, and their number.
        ngrams: as `SentimentModel` takes them.

    Example:
        >>> model = Ensemble(Config(members=3))
        >>> batch = Batch(torch.zeros(100, 2, dtype=torch.int32))
        >>> model(batch).shape, model.eval()(batch).shape
        (torch.Size([6]), torch.Size([2]))
    """

    def __init__(self, config: Config, ngrams: int = 0) -> None:
        """Builds the networks."""
        super().__init__()
        self.networks = nn.ModuleList(SentimentModel(config, ngrams) for _ in range(config.members))

    def forward(self, batch: Batch) -> Tensor:
        """Returns what the loss takes: for each review, (B,) or (B, 2).

        In training for each network and review, (members * B,) or (members * B, 2).
        """
        outputs: list[Tensor] = [network(batch) for network in self.networks]
        if len(outputs) == 1:
            return outputs[0]  # to join one takes copies of it, at every step
        return torch.cat(outputs) if self.training else torch.stack(outputs).mean(0)
