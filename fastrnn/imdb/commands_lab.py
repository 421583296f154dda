"""The command `lab`: the experiments of the lab sheet, with a table, a plot and an answer each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from fastrnn.imdb import tables
from fastrnn.imdb.commands_compare import (
    SEEDS_TEXT,
    DataOption,
    EpochsOption,
    JobsOption,
    listed,
    make_folder,
    train_all,
)
from fastrnn.imdb.corpus import load_corpus
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.files import write_file
from fastrnn.imdb.labs import LABS, base, find_lab
from fastrnn.imdb.labs.base import Lab, Part
from fastrnn.imdb.tables import Grid
from fastrnn.imdb.terminal import announce, epilog, show

LAB_EPILOG = epilog("lab list", "lab hidden-size", "lab optimizers --imdb --seeds 0,1,2,3")


def lab_command(
    name: Annotated[str, typer.Argument(help="A lab, or 'list' for all and what they ask.")],
    imdb: Annotated[
        bool, typer.Option("--imdb", help="On the film reviews, too; takes minutes.")
    ] = False,
    data: DataOption = None,
    seeds: Annotated[str, typer.Option(help=SEEDS_TEXT)] = "42,0,1",
    epochs: EpochsOption = None,
    jobs: JobsOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for figures and plots; default runs/lab-NAME.")
    ] = None,
) -> None:
    """Runs an experiment of the lab sheet on its small data, and with --imdb on the reviews.

    It prints a table of all variants, mean and standard deviation over the seeds, beside what the
    sheet reports, and a sentence made from the figures. The folder gets plots and all curves:
    small.png and small.json, imdb.png and imdb.json. On the reviews each run is kept as soon as
    it is done, and after an interrupt the same command goes on from there.
    """
    if name == "list":
        rows = [(each, lab.question, "yes" if lab.imdb else "") for each, lab in LABS.items()]
        show(tables.grid(Grid(("lab", "question", "--imdb"), rows)))
        return
    lab = find_lab(name)
    if imdb and not lab.imdb:
        able = ", ".join(each for each, other in LABS.items() if other.imdb)
        raise DataError(f"the lab {name!r} has no part on the reviews (--imdb); these have: {able}")
    if data is not None and not imdb:
        raise DataError("--data is where the film reviews are: give --imdb, too")
    numbers = listed(seeds, "--seeds", int)
    if min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise DataError(f"--seeds must be at least 0 and different, got {seeds}")
    folder = out or Path(f"runs/lab-{name}")
    make_folder(folder)
    print(lab.question)
    _tell(lab, base.run_small(lab, numbers, epochs), folder, "small")
    if imdb:
        corpus = load_corpus(data)
        announce(corpus)
        trials = base.plan_imdb(lab, numbers, epochs)
        records = train_all(trials, corpus, folder, jobs or torch.get_num_threads())
        title = f"{len(corpus.train):,} film reviews, preset lstm"
        _tell(lab, base.imdb_part(lab, title, records), folder, "imdb")


def _tell(lab: Lab, part: Part, folder: Path, name: str) -> None:
    """Prints a part and writes it down."""
    answer = lab.conclude(part)
    plot = folder / f"{name}.png"
    write_file(plot, base.plot(part))
    figures = {"question": lab.question, "answer": answer, **base.to_dict(part)}
    write_file(folder / f"{name}.json", (json.dumps(figures, indent=1) + "\n").encode())
    print(f"\nOn {part.title}:")
    show(tables.grid(base.table(part)))
    print(answer)
    print(f"Plot: {plot}", flush=True)
