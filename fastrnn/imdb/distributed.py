"""Several processes that train one model, as torchrun starts them; or one that trains alone."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fastrnn.imdb.errors import DataError

T = TypeVar("T")


class Team(NamedTuple):
    """The processes that train one model. Each reads its part of every batch.

    A process on its own is a team of one; nothing here costs it anything.

    Example:
        >>> Team(rank=1, size=2).part(torch.arange(5))
        (tensor([1, 3]), 0.8)
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def part(self, indices: Tensor) -> tuple[Tensor, float]:
        """Returns this process's part of a batch, and by what its mean loss is to be multiplied.

        The mean of those products over the team is the mean loss of the batch. A process for which
        nothing is left reads a review too, since all must take part, and its loss counts nothing.
        """
        own = indices[self.rank :: self.size]
        share = len(own) * self.size / len(indices)
        return (own, share) if len(own) else (indices[:1], 0.0)

    def share_of(self, batches: Sequence[Tensor]) -> Sequence[Tensor]:
        """Returns the batches that this process evaluates."""
        return batches[self.rank :: self.size]

    def total(self, values: Tensor) -> Tensor:
        """Returns the sum of the values of all processes."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def wrap(self, model: nn.Module) -> nn.Module:
        """Returns the model in the form in which its gradients are means over the team."""
        return model if self.size == 1 else DistributedDataParallel(model)

    def reseed(self, seed: int, epoch: int) -> None:
        """Gives followers random numbers of their own, which seed and epoch alone decide.

        The leader goes on with its numbers, which a checkpoint keeps.
        """
        if not self.leads:
            torch.manual_seed(seed + 1_000_003 * epoch + self.rank)

    def share(self, work: Callable[[], T]) -> T:
        """Returns to every process what `work` gives in the leader, or ends all if it fails there.

        Raises:
            SystemExit: in a follower; the leader raises what `work` raised.
        """
        if self.size == 1:
            return work()
        outcome: list[Any] = [None, False]
        try:
            if self.leads:
                outcome = [work(), True]
        finally:
            dist.broadcast_object_list(outcome)
        if not outcome[1]:
            raise SystemExit(2)
        value: T = outcome[0]
        return value

    def in_turn(self, work: Callable[[], T]) -> T:
        """Does `work` in the leader, and then in all others, who find what it left in caches."""
        done: list[T] = []

        def lead() -> None:
            done.append(work())

        self.share(lead)
        return done[0] if done else work()

    def take_device(self, device: str) -> None:
        """Makes "cuda" mean a GPU of its own for each process of a machine.

        Raises:
            DataError: one GPU is asked for by number.
        """
        kind, _, index = device.partition(":")
        if self.size == 1 or kind != "cuda":
            return
        if index:
            raise DataError(f"--device {device}: under torchrun each process takes one, give cuda")
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


ALONE = Team()


class Left(Exception):
    """A process of the team has ended, so that the others cannot go on."""


@contextmanager
def joined_team() -> Iterator[Team]:
    """Joins the processes that torchrun started, or gives a team of one.

    Raises:
        Left: another process ended before its time, or torchrun ends this one for that.
    """
    if not dist.is_torchelastic_launched():
        yield ALONE
        return
    before = signal.signal(signal.SIGTERM, _leave)
    dist.init_process_group()  # gloo for the CPU, and nccl too where there is a GPU
    try:
        yield Team(dist.get_rank(), dist.get_world_size())
    except RuntimeError as error:
        if not _is_of_a_lost_process(error):
            raise
        raise Left from error
    finally:
        signal.signal(signal.SIGTERM, before)
    dist.destroy_process_group()  # not after an error: it would wait for who is lost


def end_of_team(code: int) -> None:
    """Ends a process that torchrun started, with exit code `code`; returns in any other.

    Python's own end would race with gloo's threads: DistributedDataParallel leaks the process
    group (torch 2.13), so they outlive it, and one that frees a tensor of Python meanwhile aborts
    the process, whose work was done.
    """
    if dist.is_torchelastic_launched():
        sys.stderr.flush()  # stdout is by now
        os._exit(code)


def _leave(number: int, frame: Any) -> NoReturn:
    raise Left


def _is_of_a_lost_process(error: RuntimeError) -> bool:
    """Whether a collective failed; gloo's failures have no class of their own."""
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()
