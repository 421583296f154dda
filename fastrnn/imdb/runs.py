"""The folder of one training run: checkpoints, history, tables, plots and the result."""

from __future__ import annotations

import csv
import io
import json
import platform
from pathlib import Path
from typing import Any

import matplotlib
import numpy
import sklearn
import torch

import fastrnn
from fastrnn.imdb import plots
from fastrnn.imdb.checkpoint import save_checkpoint
from fastrnn.imdb.config import Config
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.files import replacing
from fastrnn.imdb.model import layer_table
from fastrnn.imdb.reviews import Corpus
from fastrnn.imdb.tables import layers_text
from fastrnn.imdb.training import Epoch, Result, State


class RunFolder:
    """A new folder that a training run fills.

    Args:
        path: a folder that does not exist or is empty; `start` makes it, with its parents.

    Raises:
        DataError: there is something at `path` already.

    Example:
        >>> RunFolder(Path("runs") / "first").last.as_posix()
        'runs/first/last.pt'
    """

    def __init__(self, path: Path) -> None:
        """Checks that the path is free."""
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise DataError(f"--run-dir {path} exists and is not an empty folder: give a new one")
        self.path = path

    @property
    def best(self) -> Path:
        """Checkpoint of the epoch with the lowest validation loss."""
        return self.path / "best.pt"

    @property
    def last(self) -> Path:
        """Checkpoint of the last complete epoch."""
        return self.path / "last.pt"

    def start(self, config: Config, corpus: Corpus) -> None:
        """Writes what is known before training: settings and review lengths."""
        self._write_json("config.json", config.to_dict())
        self._write("review_lengths.png", plots.review_lengths(corpus))

    def update(self, state: State) -> None:
        """Writes checkpoints and history; an `on_epoch` callback of `train`."""
        if not state.history:
            rows = layer_table(state.model, state.config)
            self._write_json("layers.json", [row._asdict() for row in rows])
            self._write("layers.txt", layers_text(rows).encode())
        save_checkpoint(self.last, state)
        if state.improved:
            save_checkpoint(self.best, state)
        self._write("history.csv", _history_csv(state.history))

    def finish(self, result: Result, corpus: Corpus) -> None:
        """Writes the result and the plot of the losses."""
        self._write_json("result.json", summarise(result, corpus))
        self._write("loss.png", plots.losses(result.history, result.best.epoch))

    def _write(self, name: str, content: bytes) -> None:
        with replacing(self.path / name) as file:
            file.write(content)

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
        "validation": result.validation._asdict(),
        "test": result.test._asdict(),
        "torch_parameters": total.torch_parameters,
        "keras_parameters": total.keras_parameters,
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "fastrnn": fastrnn.__version__,
            "torch": torch.__version__,
            "numpy": numpy.__version__,
            "scikit-learn": sklearn.__version__,
            "matplotlib": matplotlib.__version__,
        },
    }
