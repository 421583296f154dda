"""Progress on stderr: bars where it is a terminal, and a line for each of many runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TimeElapsedColumn
from torch import Tensor

from fastrnn.imdb.state import State


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
    text = f"epoch {last.epoch}: training loss {last.train_loss:.4f}, "
    if state.config.validation_fraction:
        text += f"validation loss {last.validation_loss:.4f}, "
        text += f"accuracy {last.validation_accuracy:.4f}, "
    return f"{text}{last.seconds:.1f} s{', best so far' if state.improved else ''}"


@contextmanager
def run_progress(total: int) -> Iterator[Callable[[str], None]]:
    """Counts runs on stderr; yields what is called with a line for each that is done."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    columns = (SpinnerColumn(), *Progress.get_default_columns()[:2], MofNCompleteColumn())
    with Progress(
        *columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("runs", total=total)

        def done(line: str) -> None:
            console.print(line)
            progress.advance(task)

        yield done
