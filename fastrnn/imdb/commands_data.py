"""The command `data`: what the reviews are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fastrnn.imdb import plots, tables
from fastrnn.imdb.config import Config
from fastrnn.imdb.corpus import load_corpus
from fastrnn.imdb.files import write_file
from fastrnn.imdb.options import JsonOption, option_text
from fastrnn.imdb.survey import survey
from fastrnn.imdb.terminal import announce, epilog, show, show_json, warn_of_made_up

DATA_EPILOG = epilog(
    "data --data aclImdb_v1.tar.gz --picture lengths.png", "data --json | jq .training.mean"
)


def data_command(
    data: Annotated[str | None, typer.Option(help=option_text("data"))] = None,
    maxlen: Annotated[
        int, typer.Option(help="Length of a review for the memory that is told.", min=1)
    ] = Config().maxlen,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the histogram of lengths too, into this PNG file.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Tells which reviews were found, how long they are, and what of them a model would read.

    Lengths count the start number. `num_words` counts it too, with padding, unknown and a gap: 500
    keep 496 words. Words that only test reviews have are left out of these.
    """
    corpus = load_corpus(data)
    found = survey(corpus, maxlen)
    if picture is not None:
        write_file(picture, plots.review_lengths(corpus))
    if as_json:
        warn_of_made_up(corpus)
        show_json(found.to_dict())
        return
    announce(corpus)
    print(f"Different words in the training reviews: {found.vocabulary:,}")
    for table in (
        tables.counts(found),
        tables.histogram(found.training),
        tables.cuts(found),
        tables.coverage(found),
    ):
        show(table)
