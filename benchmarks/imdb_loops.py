"""Epochs of one engine in a process of its own; run by benchmarks.imdb_epoch.

python -m benchmarks.imdb_loops JOB

takes a `Job` and prints a `Result` for each of its cells, all as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import TypedDict

import numpy as np

from benchmarks.engines.keras_jax import LAYERS
from benchmarks.timing import no_garbage_collection

WORDS, LENGTH, BATCH, EMBEDDING, HIDDEN = 500, 100, 64, 16, 8
ENGINES = ("torch", "fastrnn", "keras-jax", "floor")


@dataclass(frozen=True)
class Job:
    """What one process does: `epochs` timed ones for each cell, after one that warms up."""

    engine: str
    cells: tuple[str, ...]
    threads: int
    sequences: int
    epochs: int


class Result(TypedDict):
    """Of each timed epoch: seconds, and those of CPU time on all threads; mean losses of all."""

    seconds: list[float]
    cpu_seconds: list[float]
    losses: list[float]


class Clock:
    """Marks the bounds of epochs, in seconds that pass and in those that the CPU works."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, float]] = []

    def mark(self) -> None:
        self.marks.append((time.perf_counter(), time.process_time()))

    def result(self, losses: list[float]) -> Result:
        """The epochs but the first, that warms up; each has a mark at its begin and its end."""
        pairs = list(zip(self.marks[2::2], self.marks[3::2], strict=True))
        seconds, cpu_seconds = (
            [end[kind] - begin[kind] for begin, end in pairs] for kind in range(2)
        )
        return {"seconds": seconds, "cpu_seconds": cpu_seconds, "losses": losses}


def data(sequences: int) -> tuple[np.ndarray, np.ndarray]:
    """Random ids (sequences, LENGTH), int32, and the labels, which depend on them: 0 or 1."""
    ids = np.random.default_rng(0).integers(0, WORDS, (sequences, LENGTH), dtype="int32")
    return ids, (ids.mean(1) > (WORDS - 1) / 2).astype("float32")


def torch_epochs(job: Job, cell: str) -> Result:
    """Trains the model on torch, `job.epochs` epochs after one of warm-up.

    The loop is the same for every engine, and is the shortest a user of torch would write: indices
    shuffled once per epoch, one index_select per batch, steps first, and Adam's fused form. Layers
    of fastrnn read the ids; the others read their vectors.
    """
    import torch
    from torch import nn

    import fastrnn

    torch.set_num_threads(job.threads)
    torch.manual_seed(0)
    ids, labels = map(torch.from_numpy, data(job.sequences))
    embedding = nn.Embedding(WORDS, EMBEDDING)
    if job.engine == "floor":  # no recurrent layer: the mean over time
        layers, head = [], nn.Linear(EMBEDDING, 1)
    else:
        library = {"torch": nn, "fastrnn": fastrnn}[job.engine]
        layers, head = [getattr(library, cell)(EMBEDDING, HIDDEN)], nn.Linear(HIDDEN, 1)

    def logits(batch: torch.Tensor) -> torch.Tensor:
        ids = batch.t()  # (T, B)
        if not layers:
            return head(embedding(ids).mean(0)).squeeze(1)
        if job.engine == "fastrnn":
            _, state = layers[0](ids, embedding=embedding.weight)
        else:
            _, state = layers[0](embedding(ids))
        h_n = state[0] if cell == "LSTM" else state
        return head(h_n[-1]).squeeze(1)

    parameters = nn.ModuleList([embedding, *layers, head]).parameters()
    optimizer = torch.optim.Adam(parameters, fused=True)
    criterion = nn.BCEWithLogitsLoss()

    def epoch() -> float:
        losses = []
        for batch in torch.randperm(job.sequences).split(BATCH):
            optimizer.zero_grad()
            loss = criterion(logits(ids.index_select(0, batch)), labels.index_select(0, batch))
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses).mean().item()

    clock, losses = Clock(), []
    for _ in range(1 + job.epochs):
        clock.mark()
        losses.append(epoch())
        clock.mark()
    return clock.result(losses)


def keras_epochs(job: Job, cell: str) -> Result:
    """The same model by Keras' own `fit`, compiled by JAX in the epoch of warm-up."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    ids, labels = data(job.sequences)
    model = keras.Sequential(
        [
            layers.Input((LENGTH,), dtype="int32"),
            layers.Embedding(WORDS, EMBEDDING),
            getattr(layers, LAYERS[cell])(HIDDEN),
            layers.Dense(1),
        ]
    )
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(optimizer="adam", loss=loss)
    clock = Clock()
    bounds = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: clock.mark(),
        on_epoch_end=lambda epoch, logs: clock.mark(),
    )
    history = model.fit(
        ids,
        labels,
        batch_size=BATCH,
        epochs=1 + job.epochs,
        verbose=0,
        callbacks=[bounds],
    )
    return clock.result(history.history["loss"])


def run(job: Job) -> dict[str, Result]:
    """Runs the epochs of each cell."""
    epochs = keras_epochs if job.engine == "keras-jax" else torch_epochs
    with no_garbage_collection():
        return {cell: epochs(job, cell) for cell in job.cells}


def encode(job: Job) -> str:
    """The command line argument for a job."""
    return json.dumps(asdict(job))


def decode(text: str) -> Job:
    """The job of a command line argument."""
    fields = json.loads(text)
    return Job(**{**fields, "cells": tuple(fields["cells"])})


if __name__ == "__main__":
    print(json.dumps(run(decode(sys.argv[1]))))
