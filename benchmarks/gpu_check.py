"""`python -m benchmarks gpu-check`: tests, checks and times the CUDA kernels on the GPU here."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import fastrnn
from benchmarks import gpu_model, report
from benchmarks.cases import Shape
from benchmarks.engines import FASTRNN, TORCH
from benchmarks.gpu_cases import PASSES, TOLERANCES, GpuCase, all_cases, errors, is_correct, works
from benchmarks.timing import Spread, interleave, ratios
from fastrnn import devices

ROOT = Path(__file__).parents[1]
OUT = Path("runs") / "gpu-check"
LIMITS = {"budget_s": 1, "min_iterations": 7}
NO_GPU = 2  # the exit status
TO_BUILD = (
    "build them where nvcc is found, by `FASTRNN_BUILD_EXT=require "
    "FASTRNN_BUILD_CUDA=1 python -m pip install --no-build-isolation -e .`"
)
SANITIZERS = ("memcheck", "racecheck", "synccheck")
Times = dict[str, list[float]]


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks gpu-check",
        description="Run the tests on the GPU here, then check and time the CUDA kernels against "
        "torch.nn, on both sides of each limit of its cuDNN path.",
    )
    parser.add_argument(
        "--out", type=Path, default=OUT, metavar="FOLDER",
        help="for gpu-check.json and plots; default: %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--skip-tests", action="store_true", help="only check and time, when the tests have passed"
    )
    return parser.parse_args(argv)


def no_gpu() -> str | None:
    """Why nothing can run on a GPU here, or None."""
    if torch.cuda.is_available():
        return None
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA, install one that is built with it"
    return f"torch {torch.__version__} finds no GPU, see `nvidia-smi`"


def gpu_facts() -> dict[str, Any]:
    """What a reader must know of the GPU and the software on it."""
    properties: Any = torch.cuda.get_device_properties(0)
    return {
        "device": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "shared_bytes": properties.shared_memory_per_block_optin,
        "memory_bytes": properties.total_memory,
        "driver": driver(),
        "cuda_of_torch": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "kernels": dict(fastrnn.info().build),
        "archs": list(fastrnn.info().cuda_archs),
        **report.machine_facts(),
    }


def driver() -> str:
    """The driver's version, as its own program tells."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    try:
        return subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown, nvidia-smi does not tell"


def device_here() -> gpu_model.Device:
    """The GPU here, as the model takes it."""
    properties: Any = torch.cuda.get_device_properties(0)
    return gpu_model.Device(
        devices.cuda_limits(0),
        properties.shared_memory_per_multiprocessor,
        properties.max_threads_per_multi_processor,
        properties.clock_rate / 1e6,  # of kHz
    )


def run_tests() -> dict[str, str]:
    """Runs the suite, and small cases under each sanitizer; tells how each ended."""
    found = {"tests": call([sys.executable, "-m", "pytest", "-q", "tests"])}
    small = [sys.executable, "-m", "benchmarks.gpu_cases"]
    sanitizer = shutil.which("compute-sanitizer")
    for tool in SANITIZERS:
        found[tool] = (
            call([sanitizer, "--tool", tool, "--error-exitcode", "9", *small])
            if sanitizer
            else "not run, compute-sanitizer is not on PATH"
        )
    return found


def call(command: Sequence[str]) -> str:
    """Runs a command in which a test that finds no GPU fails; "passed" or how it ended."""
    print(f"\n{' '.join(command)}", flush=True)
    environment = {**os.environ, "FAIL_WITHOUT_CUDA": "1"}
    code = subprocess.call(command, cwd=ROOT, env=environment)
    return "passed" if code == 0 else f"failed with status {code}"


class Moment:
    """A point in the work of the current stream; the difference of two is seconds."""

    def __init__(self) -> None:
        self.event = torch.cuda.Event(enable_timing=True)
        self.event.record()

    def __sub__(self, earlier: Moment) -> float:
        self.event.synchronize()
        return earlier.event.elapsed_time(self.event) / 1e3


def time_pass(there: Mapping[str, Any], step: str) -> Times:
    """Seconds of each engine in each iteration, from an idle GPU to an idle one."""

    def prepare(name: str) -> None:
        if step == "backward":
            there[name].prepare()
        torch.cuda.synchronize()

    variants = {name: getattr(work, step) for name, work in there.items()}
    return interleave(variants, **LIMITS, prepare=prepare, clock=Moment)


def measure(
    case: GpuCase, device: str, timed: Callable[[Mapping[str, Any], str], Times]
) -> list[dict[str, Any]]:
    """Checks a case against torch.nn in float64 on the CPU and, where it is right, times it.

    Returns:
        A row for each pass.
    """
    reference, there = works(case, device)
    wanted = reference.results()
    found = {name: errors(work.results(), wanted) for name, work in there.items()}
    right = is_correct(found[FASTRNN], case.dtype)
    common = {
        **asdict(case), "case": str(case), "allowed": TOLERANCES[case.dtype], "correct": right,
        "errors": {name: max(each.values()) for name, each in found.items()},
    }  # fmt: skip
    if not right:
        return [{**common, "pass": step, "errors_of": found[FASTRNN]} for step in PASSES]
    rows = []
    for step in PASSES:
        times = timed(there, step)
        rows.append(
            {
                **common,
                "pass": step,
                "cudnn": case.cudnn(step != "forward"),
                "iterations": len(times[TORCH]),
                "ms": {name: 1e3 * Spread.of(values).median for name, values in times.items()},
                "ratio": asdict(ratios(times, TORCH, FASTRNN)),
            }
        )
    return rows


def modelled(case: GpuCase, device: gpu_model.Device) -> dict[str, Any]:
    """The plans of a case and their steps."""
    shape, size = Shape(case.T, case.B, case.I, case.H), case.torch_dtype.itemsize
    found: dict[str, Any] = {}
    for name, backward in (("forward", False), ("backward", True)):
        plan = gpu_model.plan(case.cell, shape, size, backward, device)
        step = gpu_model.step(plan, case.cell, shape, size, backward, device)
        found[name] = {"plan": plan, "step": asdict(step)}
    return {"label": gpu_model.LABEL, **found}


def line(row: Mapping[str, Any]) -> str:
    """One row of the plain table."""
    start = f"{row['case']:44}{row['pass']:10}"
    if not row["correct"]:
        worst = max(row["errors_of"], key=row["errors_of"].__getitem__)
        off = row["errors_of"][worst]
        return f"{start}WRONG: {worst} is off by {off:.1e}, allowed {row['allowed']:.0e}; not timed"
    return (
        f"{start}{row['ms'][TORCH]:10.3f}{row['ms'][FASTRNN]:12.3f}  "
        f"{report.ratio_text(row['ratio']):32}{row['cudnn']}"
    )


HEADER = (
    f"{'case (T,B,I,H)':44}{'pass':10}{'torch ms':>10}{'fastrnn ms':>12}  "
    f"{'torch.nn / fastrnn (quartiles)':32}cuDNN's algorithm"
)


def verdict(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """How many rows are faster, slower and wrong, and each that is slower."""
    timed = [row for row in rows if row["correct"]]
    slower = [row for row in timed if row["ratio"]["median"] < 1]
    wrong = sorted({row["case"] for row in rows if not row["correct"]})
    return [
        f"Faster than torch.nn: {len(timed) - len(slower)} of {len(timed)} rows; slower: "
        f"{len(slower)}; wrong and not timed: {len(wrong)} cases.",
        *(f"  wrong: {case}" for case in wrong),
        *(
            f"  slower: {row['case']} {row['pass']}: {report.ratio_text(row['ratio'])}"
            for row in sorted(slower, key=lambda row: row["ratio"]["median"])
        ),
    ]


def check_all(cases: Sequence[GpuCase], results: dict[str, Any], path: Path) -> None:
    """Measures each case and saves after each, so that an interrupted run leaves what it has."""
    # float32 means float32 in both.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    device = device_here()
    print(f"\n{HEADER}", flush=True)
    for case in cases:
        try:
            found = measure(case, "cuda", time_pass)
            model = modelled(case, device)
        except (RuntimeError, ValueError) as error:
            results["notes"].append(f"{case}: {error}")
            print(f"{case}: {error}", flush=True)
            continue
        for row in found:
            results["rows"].append({**row, "modelled": model})
            print(line(row), flush=True)
        report.save(path, results)


def main(argv: Sequence[str]) -> int:
    """Does what the command line asks for; returns the exit status."""
    options = arguments(argv)
    if not fastrnn.info().loaded:
        sys.exit(f"Nothing to check, fastrnn's kernels are not loaded: {fastrnn.info().reason}.")
    print(*gpu_model.lines(gpu_model.rows(gpu_model.DEVICES)), "", sep="\n", flush=True)
    if reason := no_gpu():
        print(f"Nothing was run: {reason}.", file=sys.stderr)
        return NO_GPU
    if refusal := devices.cuda_refusal(0):
        sys.exit(f"Nothing was run: {refusal}; {TO_BUILD}.")
    path = options.out / "gpu-check.json"
    results: dict[str, Any] = {"facts": gpu_facts(), "tests": {}, "notes": [], "rows": []}
    print(*(f"{name:20}{value}" for name, value in results["facts"].items()), sep="\n", flush=True)
    if not options.skip_tests:
        results["tests"] = run_tests()
    check_all(all_cases(), results, path)
    print("", *(f"{name:12}{how}" for name, how in results["tests"].items()), sep="\n")
    print(*verdict(results["rows"]), *results["notes"], sep="\n")
    report.save(path, results)
    from benchmarks import gpu_plots  # needs matplotlib, and all else is saved by now

    print(f"\nResults: {path}", *gpu_plots.write(options.out, results["rows"]), sep="\n")
    failed = any(how.startswith("failed") for how in results["tests"].values())
    return int(failed or bool(results["notes"]) or not all(r["correct"] for r in results["rows"]))
