"""The commands `compare` and `lab`: many trainings, and what they say together."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import torch
import typer

from fastrnn.imdb import compare, tables
from fastrnn.imdb.corpus import load_corpus
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.options import option_text
from fastrnn.imdb.presets import PRESETS
from fastrnn.imdb.progress import run_progress
from fastrnn.imdb.report import write_report
from fastrnn.imdb.reviews import Corpus
from fastrnn.imdb.sweep import Record, Trial, run_trials
from fastrnn.imdb.terminal import announce, epilog, show

T = TypeVar("T")

COMPARE_EPILOG = epilog(
    "compare --data aclImdb_v1.tar.gz --presets lstm,gru --seeds 42 --out runs/lstm-gru"
)
SEEDS_TEXT = "Seeds, with commas between them."
DataOption = Annotated[str | None, typer.Option(help=option_text("data"))]
EpochsOption = Annotated[
    int | None, typer.Option(help="Epochs at most, instead of each training's own limit.", min=1)
]
JobsOption = Annotated[
    int | None,
    typer.Option(help="Trainings at once, of one thread each; default: one for each core.", min=1),
]


def compare_command(
    data: DataOption = None,
    presets: Annotated[str, typer.Option(help="Presets, with commas between them.")] = ",".join(
        PRESETS
    ),
    backends: Annotated[
        str, typer.Option(help=f"Any of {', '.join(compare.BACKENDS)}, with commas between them.")
    ] = "fastrnn,torch",
    seeds: Annotated[str, typer.Option(help=SEEDS_TEXT)] = "42,0,1",
    epochs: EpochsOption = None,
    jobs: JobsOption = None,
    out: Annotated[
        Path, typer.Option(help="Folder for the runs, the plots and the report.")
    ] = Path("runs/compare"),
) -> None:
    """Trains presets on several backends and seeds; tables them beside the texts' figures.

    The folder gets a report that opens in a browser (report.html), the plots in it, and each run
    as soon as it is done (trainings/*.json). After an interrupt the same command goes on from
    these.
    """
    trials = compare.plan(
        listed(presets, "--presets", str),
        listed(backends, "--backends", str),
        listed(seeds, "--seeds", int),
        epochs,
    )
    make_folder(out)
    corpus = load_corpus(data)
    announce(corpus)
    rows = compare.make_rows(train_all(trials, corpus, out, jobs or torch.get_num_threads()))
    page = write_report(out, rows)
    show(tables.grid(compare.table(rows)))
    for line in (*compare.explanations(rows), *compare.notes(rows)):
        print(line)
    print(f"Report: {page}")


def listed(text: str, option: str, kind: Callable[[str], T]) -> list[T]:
    """Returns the parts of a list with commas.

    Raises:
        DataError: it is empty or a part is not of its kind.

    Example:
        >>> listed("42, 0", "--seeds", int)
        [42, 0]
    """
    try:
        return [kind(part.strip()) for part in text.split(",")]
    except ValueError as error:
        raise DataError(
            f"{option} must be whole numbers with commas between them, as 42,0,1; got {text!r}"
        ) from error


def make_folder(out: Path) -> None:
    """Makes the folder of a command's results, before anything is trained for it.

    Raises:
        DataError: it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"--out {out} cannot be made ({error.strerror}): give a folder") from error


def train_all(trials: list[Trial], corpus: Corpus, out: Path, jobs: int) -> list[Record]:
    """Makes all runs, kept in the folder `trainings` of `out`, and tells of each on stderr.

    Raises:
        typer.Exit: 130 after Ctrl-C.
        DataError: as `run_trials`.
    """
    done = 0
    with run_progress(len(trials)) as tell:

        def on_record(trial: Trial, record: Record) -> None:
            nonlocal done
            done += 1
            tell(
                f"{trial.name}: {len(record.history)} epochs, best {record.best.epoch}, "
                f"validation accuracy {record.validation.accuracy:.4f}, "
                f"{record.seconds_per_epoch:.2f} s per epoch"
            )

        try:
            return run_trials(trials, corpus, out / "trainings", jobs=jobs, on_record=on_record)
        except KeyboardInterrupt:
            print(
                f"fastrnn-imdb: interrupted; {done} of {len(trials)} runs are kept in {out}, "
                "and the same command goes on from there",
                file=sys.stderr,
            )
            raise typer.Exit(130) from None
