"""`python -m benchmarks.imdb_presets FOLDER` puts a comparison of all presets into a page.

FOLDER is what `fastrnn-imdb compare --out FOLDER` filled.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import readme
from benchmarks.report import commit, save
from fastrnn.imdb import compare, tables
from fastrnn.imdb.presets import PRESETS
from fastrnn.imdb.sweep import Record

RESULTS = Path(__file__).parent / "results" / "imdb_presets.json"
TABLE = "imdb-presets"


def read(folder: Path) -> list[Record]:
    """Reads the records of a comparison, presets in their order, backends and seeds in theirs."""
    found = [Record.from_dict(json.loads(path.read_text())) for path in folder.glob("*/*.json")]
    if missing := set(PRESETS) - {record.config.preset for record in found}:
        raise SystemExit(f"{folder}: no run of {', '.join(sorted(missing))}")
    if any(record.summary["synthetic"] for record in found):
        raise SystemExit(f"{folder}: no table of made-up reviews")
    presets = list(PRESETS)

    def place(record: Record) -> tuple[int, str, int]:
        config = record.config
        return presets.index(str(config.preset)), config.backend, config.seed

    return sorted(found, key=place)


def run_facts(record: Record) -> dict[str, Any]:
    """What is kept of a run; not where its reviews were, which may be a path of this machine."""
    return {
        "preset": record.config.preset,
        "backend": record.config.backend,
        "seed": record.config.seed,
        "epochs": len(record.history),
        "best_epoch": record.best.epoch,
        "validation": record.validation._asdict(),
        "test": record.test._asdict(),
        "seconds_per_epoch": record.seconds_per_epoch,
        "circumstances": record.circumstances,
    }


def markdown(records: Sequence[Record], at: str | None) -> str:
    """The table of the README, with what a reader must know to judge it."""
    rows = compare.make_rows(records)
    seeds = ", ".join(str(record.config.seed) for record in rows[0].records)
    made = "; and ".join(dict.fromkeys(record.circumstances for record in records))
    far = "\n".join(f"- {text}" for text in compare.explanations(rows))
    notes = " ".join(compare.notes(rows))
    return (
        f"Seeds {seeds} (mean ± standard deviation); {made}; table made at {at}. With 5,000 "
        f"validation reviews one standard error of an accuracy is 0.6 points. {notes}\n"
        f"\n{tables.markdown(compare.table(rows))}" + (f"\n{far}\n" if far else "")
    )


def main(argv: list[str] | None = None) -> None:
    """Does what the command line asks for."""
    parser = argparse.ArgumentParser("python -m benchmarks.imdb_presets", description=__doc__)
    parser.add_argument("folder", type=Path, help="what `fastrnn-imdb compare` filled")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file to write")
    parser.add_argument(
        "--readme", type=Path, default=readme.FEATURES, help="page to put the table into"
    )
    options = parser.parse_args(argv)
    records, at = read(options.folder), commit()
    readme.put(options.readme, TABLE, markdown(records, at))
    save(options.results, {"commit": at, "runs": [run_facts(record) for record in records]})


if __name__ == "__main__":
    main()
