"""A few steps of training in one of several processes: what test_distributed.py starts.

`python distributed_training.py RANK WORLD_SIZE STORE OUT` writes, for each case, the losses that
the process saw and the weights at the end. Global batches are the same whatever the number of
processes; each takes its part of the rows.
"""

from __future__ import annotations

import datetime
import sys
from typing import Any

import torch
import torch.distributed as dist
from cases import build
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

import fastrnn

CASES = [(kind, mode) for kind in ("ddp", "fsdp") for mode in ("LSTM", "GRU")]
BATCH, STEPS = 6, 7


class Model(nn.Module):
    def __init__(self, mode: str) -> None:
        super().__init__()
        self.embedding = nn.Linear(3, 4)
        self.rnn = build(fastrnn, mode, 4, 6, 2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(12, 2)

    def forward(self, input: Tensor) -> Tensor:
        output, _ = self.rnn(self.embedding(input))
        return self.head(output[:, -1])


def wrap(kind: str, model: Model) -> nn.Module:
    if kind == "ddp":
        return DistributedDataParallel(model)
    if kind == "fsdp":
        fully_shard(model.rnn)
        fully_shard(model)
    return model


def train(kind: str, mode: str, rank: int, world_size: int) -> tuple[list[float], dict[str, Any]]:
    torch.manual_seed(0)
    model = Model(mode)
    wrapped = wrap(kind, model)
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.5, momentum=0.9)
    generator = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(4):
        input = torch.randn(BATCH, STEPS, 3, generator=generator)
        target = (input[:, 0, 0] > 0).long()
        rows = slice(rank * BATCH // world_size, (rank + 1) * BATCH // world_size)
        loss = nn.functional.cross_entropy(wrapped(input[rows]), target[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    state = {
        name: value.full_tensor() if isinstance(value, DTensor) else value.detach()
        for name, value in model.state_dict().items()
    }
    return losses, state


def main(rank: str, world_size: str, store: str, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(store, int(world_size)),
        rank=int(rank),
        world_size=int(world_size),
        timeout=datetime.timedelta(seconds=60),
    )
    try:
        torch.save({case: train(*case, int(rank), int(world_size)) for case in CASES}, out)
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
