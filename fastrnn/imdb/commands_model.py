"""The commands that use a trained model: `evaluate`, `predict`, `explain`, `serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fastrnn.imdb import explained, tables
from fastrnn.imdb.batches import make_examples
from fastrnn.imdb.checkpoint import load_model
from fastrnn.imdb.corpus import load_corpus
from fastrnn.imdb.encoder import Encoder
from fastrnn.imdb.extras import require
from fastrnn.imdb.files import write_file
from fastrnn.imdb.inputs import Given, chunks, given_lines, given_text
from fastrnn.imdb.options import JsonOption, option_text
from fastrnn.imdb.reader import Explanation, Prediction, Reader
from fastrnn.imdb.terminal import (
    announce,
    epilog,
    results,
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
PREDICT_EPILOG = epilog(
    'predict runs/NAME/best.pt "A gripping story, and superbly played."',
    "predict runs/NAME/best.pt --file reviews.txt --json | jq .label",
)
EXPLAIN_EPILOG = epilog(
    'explain runs/NAME/best.pt "It begins well and ends badly." --picture moves.png',
    "explain runs/NAME/best.pt - < review.txt",
)
SERVE_EPILOG = epilog("serve runs/NAME/best.pt --port 8000")


def evaluate_command(
    checkpoint: CheckpointArgument,
    data: Annotated[
        str | None, typer.Option(help=f"{option_text('data')} Default as trained.")
    ] = None,
    as_json: JsonOption = False,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
) -> None:
    """Scores a saved checkpoint on the test reviews.

    The words keep the numbers that they had in training, whatever data is given.
    """
    config, model, vocabulary, table = load_model(checkpoint)
    place = find_device(device)
    corpus = load_corpus(data or config.data, tokens=config.tokens)
    if as_json:
        warn_of_made_up(corpus)
    else:
        announce(corpus)
    use_threads(threads)
    reviews = corpus.test
    if vocabulary and corpus.vocabulary:
        reviews = Encoder(config, vocabulary).renumbered(reviews, corpus.vocabulary)
    scores = evaluate(model.to(place), make_examples(config, reviews, place, table), config)
    if as_json:
        show_json({"source": corpus.source, "synthetic": corpus.synthetic, **scores._asdict()})
    else:
        show(tables.scores({"test": scores}))


def predict_command(
    checkpoint: CheckpointArgument,
    text: Annotated[
        str | None,
        typer.Argument(help="One review; - or nothing for standard input.", show_default=False),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="A text file of reviews, each on a line of its own.")
    ] = None,
    as_json: JsonOption = False,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
) -> None:
    """Tells for reviews whether they are positive, and how probable that is.

    A file and standard input hold one review on each line, in UTF-8; blank lines are passed over.
    A review is positive where the probability is above one half.
    """
    reader = _reader(checkpoint, device, threads)
    rows: list[tuple[Given, Prediction]] = []
    for chunk in chunks(given_lines(text, file)):
        predicted = zip(chunk, reader.predict([each.text for each in chunk]), strict=True)
        if not as_json:
            rows.extend(predicted)
            continue
        for given, prediction in predicted:
            show_json({"line": given.line, **prediction.to_dict()})
    if not as_json:
        show(tables.predictions(rows))


def explain_command(
    checkpoint: CheckpointArgument,
    text: Annotated[
        str, typer.Argument(help="A review; - for standard input.", show_default=False)
    ],
    picture: Annotated[
        Path | None, typer.Option(help="Draw the moves too, into this PNG file.")
    ] = None,
    as_json: JsonOption = False,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
) -> None:
    """Shows how the probability of a positive review moves as the model reads word by word.

    After each word stands what the model thinks of the review up to there: as a colour in a
    terminal, as a number elsewhere.
    """
    reader = _reader(checkpoint, device, threads)
    explanation = reader.explain(given_text(text))
    if picture is not None:
        write_file(picture, explained.picture(explanation))
    if as_json:
        show_json(explanation.to_dict())
    else:
        _show_explanation(results(), explanation)


def serve_command(
    checkpoint: CheckpointArgument,
    host: Annotated[
        str, typer.Option(help="Address to listen on; other than loopback, others can use it.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)
    ] = 8000,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
) -> None:
    """Serves a web page on which one types a review and sees the model read it word by word.

    Its address is printed; Ctrl-C ends it, with exit code 0. Programs send {"text": "a review"} as
    JSON to /api/explain and get what `explain --json` prints.
    """
    require("serve", "fastrnn-imdb serve")
    from fastrnn.imdb import server

    reader = _reader(checkpoint, device, threads)
    with server.listen(host, port) as listener:
        app = server.make_app(reader, reader.about, server.allowed_hosts(host))
        # Requests wait in the socket from now on.
        print(f"Serving {server.address(listener)} until Ctrl-C", flush=True)
        server.run(app, listener)


def _reader(checkpoint: Path, device: str, threads: int | None) -> Reader:
    use_threads(threads)
    return Reader(load_model(checkpoint), find_device(device))


def _show_explanation(console: Console, explanation: Explanation) -> None:
    console.print(explained.summary(explanation.prediction))
    if console.color_system is None:
        console.print(explained.numbers(explanation))
        return
    console.print()
    console.print(explained.line(explanation))
    console.print()
    console.print(f"Largest moves in points: {', '.join(explained.moves(explanation))}")
    console.print(explained.legend())
