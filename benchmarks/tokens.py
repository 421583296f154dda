"""`python -m benchmarks.tokens`: what token ids save over the vectors that they stand for.

Three ways to run the same ids, for inference and for training, in one process and shuffled order,
after their results and gradients were compared:

- ids: fastrnn, called with the ids, and `embedding=weight` where tokens have features;
- vectors: fastrnn, called with the rows of `nn.Embedding`, or with one-hot vectors;
- torch: torch.nn, called with the same vectors.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, one_hot

import fastrnn
from benchmarks.cases import CELLS, PASSES, Shape
from benchmarks.check import agree
from benchmarks.readme import FEATURES, put
from benchmarks.report import facts_text, machine, ms_text, ratio_text, save
from benchmarks.timing import Spread, interleave, ratios

RESULTS = Path(__file__).parent / "results" / "tokens.json"

Way = Callable[[], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Case:
    """Ids `(T, B)` of a vocabulary; `shape.I` features for each, or as many as there are tokens."""

    shape: Shape
    vocabulary: int

    @property
    def one_hot(self) -> bool:
        """Whether the ids stand for one-hot vectors."""
        return self.shape.I == self.vocabulary


CASES = (
    Case(Shape(100, 64, 16, 8), 500),
    Case(Shape(100, 64, 500, 8), 500),
    Case(Shape(100, 64, 64, 256), 500),
    Case(Shape(100, 64, 256, 256), 30000),
    Case(Shape(20, 16, 30000, 64), 30000),
)


def draw_ids(case: Case) -> Tensor:
    """As words of a text: the probability of a token falls with its rank."""
    generator = torch.Generator().manual_seed(0)
    ranks = 1 / torch.arange(1, case.vocabulary + 1, dtype=torch.float64)
    count = case.shape.T * case.shape.B
    ids = torch.multinomial(ranks, count, replacement=True, generator=generator)
    return ids.view(case.shape.T, case.shape.B)


def ways(cell: str, case: Case, step: str) -> dict[str, Way]:
    """What runs, by name: each call gives the output, or the gradients of weights and embedding."""
    shape, ids = case.shape, draw_ids(case)
    theirs = getattr(nn, cell)(shape.I, shape.H)
    ours = getattr(fastrnn, cell)(shape.I, shape.H)
    ours.load_state_dict(theirs.state_dict())
    rows = None if case.one_hot else torch.randn(case.vocabulary, shape.I, requires_grad=True)
    weights = torch.randn(shape.T, shape.B, shape.H)

    def vectors() -> Tensor:
        if rows is None:
            return one_hot(ids, case.vocabulary).float()
        return embedding(ids, rows)

    def timed(module: nn.Module, call: Callable[[], Any]) -> Way:
        by = [*module.parameters(), *([] if rows is None else [rows])]

        def infer() -> tuple[Tensor, ...]:
            with torch.no_grad():
                return (call()[0],)

        def train() -> tuple[Tensor, ...]:
            return torch.autograd.grad((call()[0] * weights).sum(), by)

        return infer if step == "inference" else train

    return {
        "ids": timed(ours, lambda: ours(ids, embedding=rows)),
        "vectors": timed(ours, lambda: ours(vectors())),
        "torch": timed(theirs, lambda: theirs(vectors())),
    }


def check(variants: Mapping[str, Way]) -> None:
    """Compares the results of all ways.

    Raises:
        ValueError: two differ; such work is not timed.
    """
    wanted = variants["torch"]()
    for name, way in variants.items():
        agree(way(), wanted, f"{name}: a result")


def measure(cell: str, case: Case, step: str, budget_s: float) -> dict[str, Any]:
    """One row: milliseconds by way, and how many times as long as `ids` the others take."""
    variants = ways(cell, case, step)
    check(variants)
    times = interleave(variants, budget_s=budget_s, min_iterations=9)
    return {
        "cell": cell,
        "shape": str(case.shape),
        "vocabulary": case.vocabulary,
        "one_hot": case.one_hot,
        "pass": step,
        "ms": {name: vars(Spread.of([1e3 * t for t in each])) for name, each in times.items()},
        "over_ids": {name: vars(ratios(times, name, "ids")) for name in times if name != "ids"},
    }


def markdown(results: Mapping[str, Any]) -> str:
    """The table of benchmarks/README.md."""
    lines = [
        f"{facts_text(results['machine'])}. One thread, float32.",
        "",
        "| T,B,I,H | tokens | cell | pass | with ids, ms | "
        "fastrnn on vectors / with ids (quartiles) | torch.nn on vectors / with ids |",
        "|---|---|---|---|--:|:--|:--|",
    ]
    for row in results["rows"]:
        over = {name: ratio_text(each) for name, each in row["over_ids"].items()}
        tokens = f"{row['vocabulary']}, {'one-hot' if row['one_hot'] else 'embedded'}"
        lines.append(
            f"| {row['shape']} | {tokens} | {row['cell']} | {row['pass']} | "
            f"{ms_text(row['ms']['ids']['median'])} | {over['vectors']} | {over['torch']} |"
        )
    return "\n".join(lines) + "\n"


def slower(results: Mapping[str, Any]) -> list[str]:
    """The rows in which something else took less time than ids."""
    return [
        f"{row['shape']} {row['cell']} {row['pass']}: {name} takes {each['median']:.2f} of its time"
        for row in results["rows"]
        for name, each in row["over_ids"].items()
        if each["median"] < 1
    ]


def run(cells: list[str], cases: tuple[Case, ...], budget_s: float) -> dict[str, Any]:
    """Measures all that is asked for."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = [
        measure(cell, case, step, budget_s) for case in cases for cell in cells for step in PASSES
    ]
    return {"machine": machine(torch.float32), "rows": rows}


def main(argv: list[str] | None = None, cases: tuple[Case, ...] = CASES) -> None:
    """Does what the command line asks for."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.tokens", description="Time token ids against vectors."
    )
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=CELLS)
    parser.add_argument("--budget", type=float, default=8, help="seconds per row (default: 8)")
    parser.add_argument(
        "--json", type=Path, default=RESULTS, metavar="PATH", help=f"results (default: {RESULTS})"
    )
    parser.add_argument(
        "--readme", action="store_true", help="put the table into benchmarks/README.md"
    )
    options = parser.parse_args(argv)
    if not fastrnn.info().loaded:
        parser.exit(1, f"fastrnn's kernels are missing: {fastrnn.info().reason}.\n")
    results = run(options.cells, cases, options.budget)
    print(markdown(results), end="")
    print("\n".join(["", "Faster than ids:", *(slower(results) or ["nothing"])]))
    save(options.json, results)
    if options.readme:
        put(FEATURES, "tokens", markdown(results))


if __name__ == "__main__":
    main()
