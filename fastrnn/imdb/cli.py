"""The commands of `fastrnn-imdb`: results on stdout, progress and mistakes on stderr."""

from __future__ import annotations

import os
import sys

import typer

from fastrnn.imdb.commands_compare import COMPARE_EPILOG, compare_command
from fastrnn.imdb.commands_data import DATA_EPILOG, data_command
from fastrnn.imdb.commands_lab import LAB_EPILOG, lab_command
from fastrnn.imdb.commands_model import (
    EVALUATE_EPILOG,
    EXPLAIN_EPILOG,
    PREDICT_EPILOG,
    SERVE_EPILOG,
    evaluate_command,
    explain_command,
    predict_command,
    serve_command,
)
from fastrnn.imdb.commands_train import TRAIN_EPILOG, train_command
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.terminal import EXIT_CODES

app = typer.Typer(
    help="Sentiment of film reviews with recurrent networks.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("train", epilog=TRAIN_EPILOG)(train_command)
app.command("evaluate", epilog=EVALUATE_EPILOG)(evaluate_command)
app.command("predict", epilog=PREDICT_EPILOG)(predict_command)
app.command("explain", epilog=EXPLAIN_EPILOG)(explain_command)
app.command("serve", epilog=SERVE_EPILOG)(serve_command)
app.command("data", epilog=DATA_EPILOG)(data_command)
app.command("compare", epilog=COMPARE_EPILOG)(compare_command)
app.command("lab", epilog=LAB_EPILOG)(lab_command)


def run(arguments: list[str] | None = None) -> int:
    """Runs the command line `arguments`, by default the program's; returns the exit code."""
    try:
        app(arguments, prog_name="fastrnn-imdb")
    except (DataError, OSError) as error:  # OSError: a full disk, a folder without permission
        print(f"fastrnn-imdb: {error}", file=sys.stderr)
        code = 2
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    return _flushed(code)


def _flushed(code: int) -> int:
    """Writes out what is left, and returns `code`, or 1 where nobody reads it any more."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at its end, and would complain of the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code
