"""A progress bar on stderr, silent where stderr is no terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn
from torch import Tensor

from fastrnn.imdb.training import State


@contextmanager
def training_progress() -> Iterator[tuple[Callable[[Tensor], None], Callable[[State], None]]]:
    """Shows steps, epochs and losses; yields the two callbacks that `train` wants for it."""
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns()[:-1], TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("")

        def on_step(loss: Tensor) -> None:
            progress.advance(task)

        def on_epoch(state: State) -> None:
            epochs = len(state.history)
            if epochs and not progress.disable:
                console.print(_line(state))
            text = f"epoch {epochs + 1} of at most {state.config.epochs}"
            progress.reset(task, total=state.steps_per_epoch, description=text)

        yield on_step, on_epoch


def _line(state: State) -> str:
    last = state.history[-1]
    return (
        f"epoch {last.epoch}: training loss {last.train_loss:.4f}, validation loss "
        f"{last.validation_loss:.4f}, accuracy {last.validation_accuracy:.4f}, "
        f"{last.seconds:.1f} s{', best so far' if state.improved else ''}"
    )
