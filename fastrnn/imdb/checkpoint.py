"""Checkpoints: written whole or not at all, and read without running what they contain."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastrnn.imdb.config import Config
from fastrnn.imdb.ensemble import Ensemble
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.files import replacing, sync_folder
from fastrnn.imdb.ngrams import KINDS, NgramTable
from fastrnn.imdb.sequences import kept_words, known_words
from fastrnn.imdb.state import Snapshot, State, layout

FORMAT = 5  # 1 had no vocabulary, 2 no way to go on, 3 no n-grams, 4 one network alone


class Checkpoint(NamedTuple):
    """What a checkpoint file holds."""

    config: Config
    epoch: int
    """Complete epochs behind the weights; 0 before the first."""
    vocabulary: tuple[str, ...]
    """The words that the model knows, most frequent first; empty when its source had none."""
    table: NgramTable | None
    """The n-grams that the model knows, where it reads any."""
    model: dict[str, Tensor]
    snapshot: Snapshot | None
    """From which training can go on, where the file keeps it; not checked yet."""


class Trained(NamedTuple):
    """What is needed to use a model."""

    config: Config
    model: Ensemble
    vocabulary: tuple[str, ...]
    """As in `Checkpoint`."""
    table: NgramTable | None = None
    """As in `Checkpoint`."""


def save_checkpoint(path: Path, state: State) -> None:
    """Writes `state` to `path` in one step: a crash or Ctrl-C leaves the file that was there.

    Training can go on from this file, and when the function returns a power cut cannot undo it.
    """
    kept = state.snapshot()._asdict()
    _save(path, {**_model_of(state), "snapshot": {**kept, "model": None}})


def save_model(path: Path, state: State) -> None:
    """As `save_checkpoint`, only what is needed to use the model."""
    _save(path, {**_model_of(state), "snapshot": None})


def _model_of(state: State) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "config": state.config.to_dict(),
        "epoch": len(state.history),
        "vocabulary": list(state.vocabulary),
        "ngrams": None if state.table is None else _tensors(state.table),
        "model": state.model.state_dict(),
    }


def _tensors(table: NgramTable) -> dict[str, Tensor]:
    return {"keys": torch.from_numpy(table.keys), "scores": torch.from_numpy(table.scores)}


def _save(path: Path, content: dict[str, Any]) -> None:
    # In memory first: an interrupt in a write that torch's C++ asked for would pass through it.
    whole = io.BytesIO()
    try:
        torch.save(content, whole)
    except RuntimeError as error:
        # Closing its archive after an interrupt, torch fails again and buries it.
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        raise
    with replacing(path) as file:
        file.write(whole.getbuffer())
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a file that `save_checkpoint` wrote, with its tensors on the CPU.

    The file is not trusted: it is read with `weights_only`, and its settings are checked.

    Raises:
        DataError: the file is not there, damaged, or not a checkpoint of this program.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; give a checkpoint, as RUN_DIR/best.pt")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load does not compare the checksums
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can fail anywhere in the reader
        raise _not_usable(path, "it is damaged, or not written by torch.save") from error
    if damaged is not None:
        raise _not_usable(path, f"it is damaged in {damaged}")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise _not_usable(
            path, f"it is no checkpoint of this program in format {FORMAT}; train the model again"
        )
    try:
        config = Config.from_dict(content["config"])
        vocabulary = _checked_vocabulary(content["vocabulary"], config)
        kept = content["snapshot"]
        snapshot = None if kept is None else Snapshot(**{**kept, "model": content["model"]})
        table = _checked_table(content["ngrams"], config)
        return Checkpoint(config, content["epoch"], vocabulary, table, content["model"], snapshot)
    except (AttributeError, DataError, KeyError, TypeError) as error:
        raise _not_usable(path, f"its content is incomplete or wrong ({error})") from error


def load_model(path: Path) -> Trained:
    """Reads a checkpoint's settings, its model, on the CPU, and the words that the model knows.

    Raises:
        DataError: as `load_checkpoint`, or the weights do not fit the settings.
    """
    checkpoint = load_checkpoint(path)
    # Nothing is allocated before the sizes that the settings ask for equal those of the weights.
    with torch.device("meta"):
        ngrams = 0 if checkpoint.table is None else len(checkpoint.table)
        model = Ensemble(checkpoint.config, ngrams)
    if layout(model.state_dict()) != layout(checkpoint.model):
        raise _not_usable(path, "its weights do not fit its settings")
    model.load_state_dict(checkpoint.model, assign=True)
    return Trained(checkpoint.config, model, checkpoint.vocabulary, checkpoint.table)


def _checked_vocabulary(words: Any, config: Config) -> tuple[str, ...]:
    if not isinstance(words, list) or not all(type(word) is str for word in words):
        raise DataError("the vocabulary must be a list of words")
    if kept_words(words, config.num_words) != tuple(words):
        raise DataError(f"--num-words {config.num_words} has no room for {len(words):,} words")
    if len(set(words)) != len(words) or "" in words:
        raise DataError("the words of the vocabulary must differ and not be empty")
    return tuple(words)


def _checked_table(ngrams: Any, config: Config) -> NgramTable | None:
    if config.features == "none":
        return None
    return NgramTable(
        KINDS[config.features],
        known_words(config.num_words),
        ngrams["keys"].numpy(),
        ngrams["scores"].numpy(),
    )


def _not_usable(path: Path, reason: str) -> DataError:
    return DataError(f"{path}: this checkpoint cannot be used: {reason}")
