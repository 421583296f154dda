"""The folder of one training run: checkpoints, history, tables, plots and the result."""

from __future__ import annotations

import csv
import io
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy
import torch

import fastrnn
from fastrnn.imdb import plots
from fastrnn.imdb.checkpoint import load_checkpoint, save_checkpoint, save_model
from fastrnn.imdb.config import Config
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.files import remove_leftovers, write_file
from fastrnn.imdb.layers import layer_table
from fastrnn.imdb.reviews import Corpus
from fastrnn.imdb.state import Epoch, Snapshot, State
from fastrnn.imdb.tables import layers_text
from fastrnn.imdb.training import Result

SETTINGS = "config.json"


class RunFolder:
    """The folder of a run, which need not be there yet.

    Args:
        path: where it is; `start` makes it, with its parents.

    Example:
        >>> RunFolder(Path("runs") / "first").last.as_posix()
        'runs/first/last.pt'
    """

    def __init__(self, path: Path) -> None:
        """Looks at nothing yet."""
        self.path = path

    def require_free(self) -> None:
        """Raises DataError if there is something at the path already, but for an empty folder."""
        if self.path.exists() and not (self.path.is_dir() and not any(self.path.iterdir())):
            raise DataError(
                f"--run-dir {self.path} exists and is not an empty folder: give a new one, or "
                "--resume to go on with the run in it"
            )

    def settings(self) -> Config | None:
        """Returns the settings of the run that is there, or None if there is none.

        What a killed run left half written is removed.

        Raises:
            DataError: a file of the run cannot be used.
        """
        if not self.path.is_dir():
            return None
        remove_leftovers(self.path)
        if self.last.exists():
            return load_checkpoint(self.last).config
        file = self.path / SETTINGS
        if not file.exists():
            return None
        try:
            return Config.from_dict(json.loads(file.read_bytes()))
        except (ValueError, TypeError) as error:  # DataError is a ValueError
            raise DataError(f"{file}: these settings cannot be used: {error}") from error

    @property
    def best(self) -> Path:
        """Checkpoint of the epoch with the lowest validation loss."""
        return self.path / "best.pt"

    @property
    def last(self) -> Path:
        """Checkpoint of the last complete epoch."""
        return self.path / "last.pt"

    def start(self, config: Config, corpus: Corpus) -> Snapshot | None:
        """Writes what is known before training: settings and review lengths.

        Returns:
            From where to go on, or None from the beginning.
        """
        self._write_json(SETTINGS, config.to_dict())
        self._write("review_lengths.png", plots.review_lengths(corpus))
        return load_checkpoint(self.last).snapshot if self.last.exists() else None

    def update(self, state: State) -> None:
        """Writes checkpoints and history; an `on_epoch` callback of `train`."""
        if not state.history:
            rows = layer_table(state.model, state.config)
            self._write_json("layers.json", [row._asdict() for row in rows])
            self._write("layers.txt", layers_text(rows).encode())
        save_checkpoint(self.last, state)
        if state.improved:
            save_model(self.best, state)
        self._write("history.csv", _history_csv(state.history))

    def finish(self, result: Result, corpus: Corpus) -> None:
        """Writes the result and the plot of the losses."""
        self._write_json("result.json", summarise(result, corpus))
        self._write("loss.png", plots.losses(result.history, result.best.epoch))

    def _write(self, name: str, content: bytes) -> None:
        write_file(self.path / name, content)

    def _write_json(self, name: str, value: Any) -> None:
        self._write(name, (json.dumps(value, indent=2) + "\n").encode())


def _history_csv(history: list[Epoch]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Epoch._fields)
    writer.writerows(history)
    return text.getvalue().encode()


def summarise(result: Result, corpus: Corpus) -> dict[str, Any]:
    """Returns the result as plain values, with what is needed to compare it with another's."""
    total = layer_table(result.model, result.config)[-1]
    return {
        "preset": result.config.preset,
        "backend": result.config.backend,
        "source": corpus.source,
        "synthetic": corpus.synthetic,
        "epochs": len(result.history),
        "best_epoch": result.best.epoch,
        "seconds_per_epoch": sum(epoch.seconds for epoch in result.history) / len(result.history),
        "validation": (result.validation._asdict() if result.config.validation_fraction else None),
        "test": result.test._asdict(),
        "torch_parameters": total.torch_parameters,
        "keras_parameters": total.keras_parameters,
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "fastrnn": fastrnn.__version__,
            "torch": torch.__version__,
            "numpy": numpy.__version__,
            "scikit-learn": version("scikit-learn"),
            "matplotlib": version("matplotlib"),
        },
    }
