"""Many trainings, on all cores at once; each is kept in a file as soon as it ends."""

from __future__ import annotations

import datetime
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from fastrnn.imdb.config import Config
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.files import write_file
from fastrnn.imdb.layers import LayerRow, layer_table
from fastrnn.imdb.machine import machine_text
from fastrnn.imdb.reviews import Corpus
from fastrnn.imdb.runs import summarise
from fastrnn.imdb.state import Epoch
from fastrnn.imdb.training import Scores, train


@dataclass(frozen=True)
class Trial:
    """One training to do.

    Attributes:
        name: stem of the file that keeps its record.
        config: its settings.
    """

    name: str
    config: Config


@dataclass(frozen=True)
class Record:
    """What is kept of a finished training.

    Attributes:
        config: its settings.
        layers: the layer table, the total last.
        history: its epochs.
        summary: what `runs.summarise` tells of the result.
        circumstances: machine, trainings at once, threads, versions and day, for people.
    """

    config: Config
    layers: list[LayerRow]
    history: list[Epoch]
    summary: dict[str, Any]
    circumstances: str

    @property
    def best(self) -> Epoch:
        """The epoch whose weights were scored."""
        best: int = self.summary["best_epoch"]
        return self.history[best - 1]

    @property
    def validation(self) -> Scores:
        """Scores of the best epoch on the validation reviews."""
        return Scores(**self.summary["validation"])

    @property
    def test(self) -> Scores:
        """Scores of the best epoch on the test reviews."""
        return Scores(**self.summary["test"])

    @property
    def seconds_per_epoch(self) -> float:
        """Median over the epochs, without the first where there are more: it warms up."""
        return median(epoch.seconds for epoch in self.history[1:] or self.history)

    def to_dict(self) -> dict[str, Any]:
        """Returns the record as plain values, for JSON."""
        return {
            "config": self.config.to_dict(),
            "layers": [row._asdict() for row in self.layers],
            "history": [epoch._asdict() for epoch in self.history],
            "summary": self.summary,
            "circumstances": self.circumstances,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Record:
        """Returns the record that `to_dict` gave; raises what a wrong dictionary brings on."""
        record = cls(
            Config.from_dict(values["config"]),
            [LayerRow(**row) for row in values["layers"]],
            [Epoch(**epoch) for epoch in values["history"]],
            values["summary"],
            values["circumstances"],
        )
        _ = record.best, record.validation, record.test, record.seconds_per_epoch
        return record


def run_trials(
    trials: Sequence[Trial],
    corpus: Corpus,
    folder: Path,
    *,
    jobs: int,
    on_record: Callable[[Trial, Record], None] = lambda trial, record: None,
) -> list[Record]:
    """Trains all `trials` that `folder` does not hold yet, one on each of `jobs` cores.

    Args:
        trials: the trainings; their names are the names of the files.
        corpus: the reviews.
        folder: where the records are kept, each written whole as its training ends; what an
            interrupted call kept there is not trained again.
        jobs: processes at once, with one thread each; 1 trains in this process.
        on_record: called with each record, first with those that were there.

    Returns:
        The records in the order of `trials`.

    Raises:
        DataError: a record in the folder is of other settings, reviews or versions, or damaged;
            a training cannot be done, or its process was killed.
    """
    records: dict[str, Record] = {}

    def done(trial: Trial, record: Record) -> None:
        records[trial.name] = record
        on_record(trial, record)

    def keep(trial: Trial, record: Record) -> None:
        content = json.dumps(record.to_dict(), indent=1) + "\n"
        write_file(folder / f"{trial.name}.json", content.encode())
        done(trial, record)

    waiting = []
    for trial in trials:
        path = folder / f"{trial.name}.json"
        if path.exists():
            done(trial, _read(path, trial, corpus))
        else:
            waiting.append(trial)
    if jobs > 1 and len(waiting) > 1:
        _train_in_workers(waiting, corpus, min(jobs, len(waiting)), keep)
    else:
        torch.set_num_threads(1)
        for trial in waiting:
            keep(trial, _train(trial, corpus, at_once=1))
    return [records[trial.name] for trial in trials]


def _read(path: Path, trial: Trial, corpus: Corpus) -> Record:
    try:
        record = Record.from_dict(json.loads(path.read_bytes()))
        found = _conditions(record.config, record.summary["source"])
    except (DataError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: this record of an earlier run cannot be read ({error}): remove it, "
            "or give another --out"
        ) from error
    for name, wanted in _conditions(trial.config, corpus.source).items():
        if found[name] != wanted:
            raise DataError(
                f"{path}: was made with {name} {found[name]!r}, and now it is {wanted!r}: "
                "give another --out, or the settings of then to go on"
            )
    return record


def _conditions(config: Config, source: str) -> dict[str, Any]:
    """What must be the same for two trainings to be one."""
    return {"reviews": source, **config.to_dict()}


def _train_in_workers(
    trials: Sequence[Trial], corpus: Corpus, jobs: int, keep: Callable[[Trial, Record], None]
) -> None:
    others = multiprocessing.active_children()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _start_worker, (corpus, jobs)) as pool:
        futures = {pool.submit(_train_in_worker, trial): trial for trial in trials}
        try:
            for future in as_completed(futures):
                keep(futures[future], future.result())
        except BaseException as error:
            # Else leaving the block waits for the trainings that run; what ended is kept.
            for process in set(multiprocessing.active_children()) - set(others):
                process.kill()
            pool.shutdown(cancel_futures=True)
            if isinstance(error, BrokenProcessPool):
                raise DataError(
                    "a training process was killed, perhaps for want of memory: the same command "
                    "goes on from what is kept; fewer --jobs need less memory"
                ) from error
            raise


def _train(trial: Trial, corpus: Corpus, at_once: int) -> Record:
    try:
        result = train(trial.config, corpus)
    except DataError as error:
        raise DataError(f"{trial.name}: {error}") from error
    layers = layer_table(result.model, trial.config)
    summary = summarise(result, corpus)
    circumstances = _circumstances(summary, at_once)
    return Record(trial.config, layers, list(result.history), summary, circumstances)


def _circumstances(summary: dict[str, Any], at_once: int) -> str:
    trainings = "one training" if at_once == 1 else f"{at_once} trainings"
    versions = ", ".join(f"{name} {version}" for name, version in summary["versions"].items())
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    return f"{machine_text()}; {trainings} at once, one thread each; {versions}; {day}"


# What a worker process was started with: the reviews, and how many workers there are.
_worker: list[tuple[Corpus, int]] = []


def _start_worker(corpus: Corpus, at_once: int) -> None:
    """Makes a process ready: the parent answers Ctrl-C, and no worker outlives it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _worker.append((corpus, at_once))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _train_in_worker(trial: Trial) -> Record:
    return _train(trial, *_worker[0])
