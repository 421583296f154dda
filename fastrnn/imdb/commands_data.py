"""The command `data`: what the reviews are."""

from __future__ import annotations

from typing import Annotated

import typer

from fastrnn.imdb import tables
from fastrnn.imdb.corpus import load_corpus
from fastrnn.imdb.options import option_text
from fastrnn.imdb.terminal import announce, epilog, show

DATA_EPILOG = epilog("data --data aclImdb_v1.tar.gz")


def data_command(
    data: Annotated[str | None, typer.Option(help=option_text("data"))] = None,
) -> None:
    """Tells which reviews were found, how many there are and how long they are."""
    corpus = load_corpus(data)
    announce(corpus)
    show(tables.corpus(corpus))
