"""The commands that use a trained model: `evaluate`, `predict`, `explain`, `serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fastrnn.imdb import tables
from fastrnn.imdb.batches import make_examples
from fastrnn.imdb.checkpoint import load_model
from fastrnn.imdb.corpus import load_corpus
from fastrnn.imdb.encoder import Encoder
from fastrnn.imdb.options import option_text
from fastrnn.imdb.terminal import (
    announce,
    epilog,
    show,
    show_json,
    use_threads,
    warn_of_made_up,
)
from fastrnn.imdb.training import evaluate, find_device

CheckpointArgument = Annotated[
    Path, typer.Argument(help="A checkpoint, such as RUN_DIR/best.pt.", show_default=False)
]
DeviceOption = Annotated[str, typer.Option(help=option_text("device"))]
ThreadsOption = Annotated[int | None, typer.Option(help=option_text("threads"), min=1)]

EVALUATE_EPILOG = epilog("evaluate runs/NAME/best.pt --data aclImdb_v1.tar.gz")


def evaluate_command(
    checkpoint: CheckpointArgument,
    data: Annotated[
        str | None, typer.Option(help=f"{option_text('data')} Default as trained.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of a table.")
    ] = False,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
) -> None:
    """Scores a saved checkpoint on the test reviews.

    The words keep the numbers that they had in training, whatever data is given.
    """
    config, model, vocabulary = load_model(checkpoint)
    place = find_device(device)
    corpus = load_corpus(data or config.data)
    if as_json:
        warn_of_made_up(corpus)
    else:
        announce(corpus)
    use_threads(threads)
    reviews = corpus.test
    if vocabulary and corpus.vocabulary:
        reviews = Encoder(config, vocabulary).renumbered(reviews, corpus.vocabulary)
    scores = evaluate(model.to(place), make_examples(config, reviews, place), config)
    if as_json:
        show_json({"source": corpus.source, "synthetic": corpus.synthetic, **scores._asdict()})
    else:
        show(tables.scores({"test": scores}))
