"""Registers and memory of the CUDA kernels: what ptxas reported of the last build, and the budget.

`python -m tests.cuda_budget` shows where they differ, `--write` makes the last build's the budget.
"""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import build_cuda

ROOT = Path(__file__).resolve().parents[1]
BUDGET = ROOT / "csrc" / "cuda" / "budget.json"


@dataclass(frozen=True)
class Usage:
    """What a kernel takes on an architecture: registers of a thread, else bytes."""

    kernel: str
    arch: str
    registers: int
    shared: int
    stack: int
    spilled: int


def readable(mangled):
    """Returns names of C++ without namespaces, arguments and results."""
    names = subprocess.run(
        ["c++filt"], input="\n".join(mangled), capture_output=True, text=True, check=True
    ).stdout.splitlines()
    cut = (re.sub(r"^void |\w+::|\(.*\)$", "", name).replace("> >", ">>") for name in names)
    return dict(zip(mangled, cut, strict=True))


def parse(report):
    """Yields the Usage of each kernel in what `ptxas -v` printed."""
    parts = re.split(r"Compiling entry function '(\w+)' for 'sm_(\w+)'", report)[1:]
    names = readable(parts[::3])
    memory = r"^ *(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    for kernel, arch, told in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        # Not all that ptxas says there is of this kernel: a warning comes before its kernel's name.
        frames = [[int(size) for size in line] for line in re.findall(memory, told, re.MULTILINE)]
        used = re.search(r"Used (\d+) registers(?:.*, (\d+) bytes smem)?", told)
        yield Usage(
            names[kernel],
            arch,
            registers=int(used[1]),
            shared=int(used[2] or 0),
            stack=sum(stack for stack, _, _ in frames),
            spilled=sum(stores + loads for _, stores, loads in frames),
        )


def reports():
    """Returns what ptxas printed of each file of kernels in the last build of this folder."""
    names = [path.stem for path in (ROOT / "csrc" / "cuda").glob("kernels_*.cu")]
    paths = [ROOT / build_cuda.OBJECTS / f"{name}.ptxas" for name in sorted(names)]
    return {path.stem: path.read_text() for path in paths if path.exists()}


def last_build():
    return [usage for report in reports().values() for usage in parse(report)]


def excess(usages, budget):
    """Returns a line for each kernel that has no budget or takes more than it has."""
    lines = []
    for usage in sorted(usages, key=lambda usage: (usage.kernel, int(usage.arch))):
        where = f"{usage.kernel} on sm_{usage.arch}"
        allowed = budget["kernels"].get(usage.kernel, {}).get(usage.arch)
        taken = [usage.registers, usage.shared]
        if allowed is None:
            lines.append(f"{where} has no budget, takes {taken}")
        elif any(one > other for one, other in zip(taken, allowed, strict=True)):
            lines.append(f"{where} takes {taken}, its budget is {allowed}")
    return lines


def as_json(usages, version):
    """Returns the text of a budget that fits exactly, with a line for each kernel."""
    kernels = {}
    for usage in sorted(usages, key=lambda usage: (usage.kernel, int(usage.arch))):
        kernels.setdefault(usage.kernel, {})[usage.arch] = [usage.registers, usage.shared]
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(of)}" for name, of in kernels.items())
    unit = "architecture: [registers of a thread, bytes of static shared memory]"
    head = f'"nvcc": {json.dumps(version)},\n"unit": {json.dumps(unit)}'
    return f'{{\n{head},\n"kernels": {{\n{lines}\n}}\n}}\n'


def main():
    from fastrnn import _C

    usages = last_build()
    if not usages:
        sys.exit("no build of CUDA kernels in build/cuda: build with FASTRNN_BUILD_CUDA=1")
    if sys.argv[1:] == ["--write"]:
        BUDGET.write_text(as_json(usages, _C.build_info()["cuda"]))
    else:
        print("\n".join(excess(usages, json.loads(BUDGET.read_text()))) or "within the budget")


if __name__ == "__main__":
    main()
