"""A log of the training for TensorBoard, if one is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fastrnn.imdb.state import State


@contextmanager
def tensorboard_log(folder: Path) -> Iterator[Callable[[State], None]]:
    """Writes losses, accuracy, learning rate and seconds of each epoch into a folder.

    A run that goes on there takes the place of what a killed one wrote behind its last epoch.

    Args:
        folder: made if it is not there.

    Yields:
        A callback for `on_epoch` of `train`.
    """
    from torch.utils.tensorboard import SummaryWriter  # the package is large and seldom wanted

    writers: list[SummaryWriter] = []

    def on_epoch(state: State) -> None:
        if not state.history:
            return
        last = state.history[-1]
        if not writers:
            writers.append(SummaryWriter(str(folder), purge_step=last.epoch))
        values = {
            "loss/training": last.train_loss,
            "loss/validation": last.validation_loss,
            "accuracy/validation": last.validation_accuracy,
            "learning rate": state.optimizer.param_groups[0]["lr"],
            "seconds": last.seconds,
        }
        for name, value in values.items():
            writers[0].add_scalar(name, value, last.epoch)
        writers[0].flush()

    try:
        yield on_epoch
    finally:
        for writer in writers:
            writer.close()
