"""`python -m benchmarks.compare BASE [HEAD]`: fastrnn of two commits, timed case by case.

Each commit is checked out into a git worktree of its own, in a temporary folder, and its extension
is built there with this interpreter's torch; the worktrees are removed at the end, after an error
or Ctrl-C too. Without HEAD the working tree as it is, with its extension as it was last built, is
compared with BASE.

Both run the cases of this working tree's benchmarks/test_layers.py, by pytest-benchmark, so that
the same program measures both. They run in processes of their own, one after the other for several
rounds, and each round in the reverse order of the one before, so that a machine that slows down
does not favour one. In a round each gives its median for a case; the figure is the median over the
rounds of base / head, with the least and the greatest. Above 1 HEAD is faster. Where all rounds say
the same, the table names the slower; where they do not, nothing was found.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean, median

ROOT = Path(__file__).parents[1]
BUILD = ("setup.py", "build_ext", "--inplace")
CASES = "benchmarks/test_layers.py"
LOADED = """
import pathlib, sys, fastrnn
tree = pathlib.Path(sys.argv[1]).resolve()
found = pathlib.Path(fastrnn.__file__).resolve()
if tree not in found.parents:
    sys.exit(f"Python imports fastrnn from {found.parent}")
if not fastrnn.info().loaded:
    sys.exit(f"its kernels are not loaded: {fastrnn.info().reason}")
"""

Times = dict[str, float]
"""Median seconds of each case in one run."""


class CompareError(Exception):
    """Nothing can be compared; the text says why in one sentence."""


@dataclass(frozen=True)
class Comparison:
    """One case: milliseconds, and base / head over the rounds."""

    case: str
    base_ms: float
    head_ms: float
    low: float
    ratio: float
    high: float

    @property
    def slower(self) -> str:
        """The side that lost every round."""
        return "head" if self.high < 1 else "base" if self.low > 1 else ""


def git(root: Path, *arguments: str) -> str:
    """What git prints."""
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise CompareError(f"git {' '.join(arguments)} failed: {last_line(done.stderr)}")
    return done.stdout.strip()


def last_line(text: str) -> str:
    """The last line that is not empty, where programs say what was wrong."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no output")


def resolve(root: Path, revision: str) -> str:
    """The commit that a revision names."""
    try:
        return git(root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    except CompareError:
        raise CompareError(f"{revision!r} names no commit of the repository in {root}.") from None


@contextmanager
def checked_out(root: Path, commit: str) -> Iterator[Path]:
    """A worktree of a commit, with this working tree's benchmarks, for as long as the block."""
    with tempfile.TemporaryDirectory(prefix="fastrnn-compare-") as folder:
        tree = Path(folder) / "tree"
        try:
            git(root, "worktree", "add", "--quiet", "--detach", str(tree), commit)
            shutil.rmtree(tree / "benchmarks", ignore_errors=True)
            shutil.copytree(root / "benchmarks", tree / "benchmarks")
            yield tree
        finally:
            if tree.exists():
                git(root, "worktree", "remove", "--force", str(tree))


def python(tree: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs this interpreter in a tree, and on its packages."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree)} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def build(tree: Path, name: str) -> None:
    """Builds the extension of a tree in place, for the CPU; MAX_JOBS limits the compilers."""
    print(f"Building {name} ...", flush=True)
    done = python(tree, *BUILD, FASTRNN_BUILD_EXT="require", FASTRNN_BUILD_CUDA="0")
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        raise CompareError(f"{name} could not be built: {last_line(done.stdout)}")


def check_loaded(tree: Path, name: str) -> None:
    """Makes sure that what is timed is what was asked for."""
    done = python(tree, "-c", LOADED, str(tree))
    if done.returncode:
        raise CompareError(f"{name} cannot be timed, {last_line(done.stdout)}")


def check_expression(expression: str) -> None:
    """Asks pytest, which would refuse it only after the builds."""
    with tempfile.TemporaryDirectory() as empty:
        done = python(Path(empty), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", expression)
    if done.returncode == 4:  # pytest's own code: wrong usage
        raise CompareError(f"pytest cannot read -k ({last_line(done.stdout)}).")


def time_cases(tree: Path, name: str, expression: str) -> Times:
    """Runs the cases once."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.json"
        options = ["-q", "-p", "no:cacheprovider", "-p", "pytest_benchmark.plugin"]
        options += [f"--benchmark-json={results}", "-k", expression]
        # Other plugins are no part of what is timed.
        plugins = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        done = python(tree, "-m", "pytest", CASES, *options, **plugins)
        if done.returncode == 5:  # pytest's own code: no test was selected
            raise CompareError(f"no case of {CASES} fits {expression!r}.")
        if done.returncode:
            print(done.stdout, file=sys.stderr)
            raise CompareError(f"the cases failed on {name}: {last_line(done.stdout)}")
        found = json.loads(results.read_text())["benchmarks"]
    return {each["name"]: each["stats"]["median"] for each in found}


def compare(base: Sequence[Times], head: Sequence[Times]) -> list[Comparison]:
    """Sums up the rounds: entries of the same place in both belong together."""
    comparisons = []
    for case in base[0]:
        ratios = [before[case] / after[case] for before, after in zip(base, head, strict=True)]
        base_ms, head_ms = (1e3 * median(times[case] for times in side) for side in (base, head))
        comparisons.append(
            Comparison(case, base_ms, head_ms, min(ratios), median(ratios), max(ratios))
        )
    return comparisons


def table(comparisons: Sequence[Comparison]) -> str:
    """One line for each case, then the mean."""
    width = max(len(each.case) for each in comparisons) + 2
    lines = [
        f"{'case':{width}}{'base ms':>10}{'head ms':>10}   base / head (least to greatest)  slower"
    ]
    for each in comparisons:
        ratio = f"{each.ratio:.3f} ({each.low:.3f} to {each.high:.3f})"
        times = f"{each.base_ms:10.4g}{each.head_ms:10.4g}"
        lines.append(f"{each.case:{width}}{times}   {ratio:33}{each.slower}".rstrip())
    mean = geometric_mean(each.ratio for each in comparisons)
    lines.append(f"Geometric mean of base / head over {len(comparisons)} cases: {mean:.3f}")
    return "\n".join(lines)


def measure(trees: Mapping[str, Path], expression: str, rounds: int) -> list[Comparison]:
    """Times both sides, in an order that turns round each time."""
    times: dict[str, list[Times]] = {name: [] for name in trees}
    order = list(trees)
    for index in range(rounds):
        for name in order:
            print(f"Round {index + 1} of {rounds}: {name}", flush=True)
            times[name].append(time_cases(trees[name], name, expression))
        order.reverse()
    return compare(*times.values())


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.compare", description="Time fastrnn of two commits, case by case."
    )
    parser.add_argument("base", metavar="BASE", help="a revision that git knows")
    parser.add_argument(
        "head", metavar="HEAD", nargs="?", help="another; default: the working tree as it is"
    )
    parser.add_argument(
        "-k",
        dest="expression",
        metavar="EXPR",
        help="only the cases that fit, as pytest's -k: 'GRU and 100x64x16x8'",
    )
    parser.add_argument("--rounds", type=int, choices=range(1, 100), default=3, metavar="N")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None, root: Path = ROOT) -> None:
    """Does what the command line asks for."""
    options = arguments(argv)
    expression = "fastrnn" + (f" and ({options.expression})" if options.expression else "")
    try:
        check_expression(expression)
        commits = {"base": resolve(root, options.base)}
        if options.head:
            commits["head"] = resolve(root, options.head)
        with ExitStack() as stack:
            trees = {}
            for side, commit in commits.items():
                trees[side] = stack.enter_context(checked_out(root, commit))
                build(trees[side], f"{side}, {commit[:7]},")
            trees.setdefault("head", root)
            for side, tree in trees.items():
                check_loaded(tree, side)
            comparisons = measure(trees, expression, options.rounds)
    except CompareError as error:
        sys.exit(f"Nothing is compared: {error}")
    except KeyboardInterrupt:
        sys.exit("Interrupted; the temporary worktrees are removed.")
    print(table(comparisons))


if __name__ == "__main__":
    main()
