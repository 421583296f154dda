"""Compiles CUDA sources for the simulator, as they are or with one planted bug.

    library = build.build("kernels", ["csrc/cuda/kernels_float.cu"], "plain")
    simulator = Simulator(library)
    mutation = Mutation("csrc/cuda/recurrence.cuh", "__syncthreads();", "")
    program = build.build("races", [..., "tests/cuda_sim/driver.cpp"], "tsan", mutation=mutation)
    build.run(program, "lstm")

Objects are kept by the hash of their preprocessed source, so a mutation compiles again what it
touches and nothing else.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = "tests/cuda_sim"
KEPT = ROOT / "build" / "cuda_sim"  # git ignores it
COMPILERS = 2  # at once


@dataclass(frozen=True)
class Kind:
    """How kernels are compiled, and the runtime that takes the place of the GPU."""

    kernels: tuple[str, ...]
    runtime: tuple[str, ...]
    link: tuple[str, ...] = ()
    is_program: bool = False
    environment: dict[str, str] = field(default_factory=dict)


ASAN = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
KINDS = {
    # Shared libraries: an error ends the launch.
    "plain": Kind(("-O2",), ("-O2",)),
    "preempt": Kind(("-O2", "-fsanitize-coverage=trace-pc"), ("-O2",)),
    # As "plain" is on CPUs that fiber.cpp has no assembly for.
    "portable": Kind(("-O2",), ("-O2", "-DCUDA_SIM_UCONTEXT")),
    # Programs: an error ends them. ThreadSanitizer must not see the runtime, which is hardware.
    "asan": Kind(
        (*ASAN, "-fno-omit-frame-pointer"),
        (*ASAN, "-DCUDA_SIM_EXIT_ON_ERROR"),
        ASAN,
        is_program=True,
        environment={"ASAN_OPTIONS": "detect_leaks=0"},
    ),
    "tsan": Kind(
        ("-O1", "-fsanitize=thread"),
        ("-O1", "-DCUDA_SIM_TSAN", "-DCUDA_SIM_EXIT_ON_ERROR"),
        ("-fsanitize=thread",),
        is_program=True,
        environment={"TSAN_OPTIONS": "halt_on_error=1 exitcode=66"},
    ),
}


@dataclass(frozen=True)
class Mutation:
    """One bug: in `file` of the project, the text `old`, which stands there once, becomes `new`."""

    file: str
    old: str
    new: str

    def apply(self, root: Path) -> None:
        path = root / self.file
        text = path.read_text()
        if text.count(self.old) != 1:
            raise ValueError(
                f"a mutation of {self.file} wants its text there exactly once, found it "
                f"{text.count(self.old)} times; write more or other lines of it: {self.old!r}"
            )
        path.write_text(text.replace(self.old, self.new))


class BuildError(RuntimeError):
    """A compiler's or linker's refusal, with what it wrote."""


# The last two are those of the pip packages nvidia-cuda-crt and nvidia-cuda-cccl.
HEADERS = (
    "cuda_runtime_api.h",
    "cuda_fp16.h",
    "cuda_bf16.h",
    "crt/host_defines.h",
    "nv/target",
)


@cache
def cuda_include() -> Path | None:
    """The folder of NVIDIA's headers: CUDA_HOME's, /usr/local/cuda's, or that of a pip package."""
    spec = importlib.util.find_spec("nvidia")
    packages = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    homes = [Path(os.environ["CUDA_HOME"])] if "CUDA_HOME" in os.environ else []
    folders = [home / "include" for home in (*homes, Path("/usr/local/cuda"))]
    folders += [found for package in packages for found in sorted(package.glob("*/include"))]
    return next((f for f in folders if all((f / name).exists() for name in HEADERS)), None)


def missing() -> str | None:
    """Why nothing can be built here, or None."""
    if shutil.which(compiler()[0]) is None:
        return f"no C++ compiler {compiler()[0]!r} (CXX names another)"
    if cuda_include() is None:
        return (
            "NVIDIA's headers are in none of CUDA_HOME/include, /usr/local/cuda/include and the "
            "pip packages (pip install nvidia-cuda-runtime nvidia-cuda-crt "
            "nvidia-cuda-cccl, of one version of CUDA)"
        )
    return None


def compiler() -> list[str]:
    """The C++ compiler and what CXX adds to it."""
    return shlex.split(os.environ.get("CXX", "g++"))


def build(
    name: str,
    sources: Sequence[str],
    kind: str,
    *,
    mutation: Mutation | None = None,
    flags: Sequence[str] = (),
    link: Sequence[str] = (),
) -> Path:
    """Returns the shared library, or for sanitizers the program, of sources and runtime.

    Args:
        name: Of the file that is built.
        sources: Relative to the project; `.cu` as well as `.cpp`.
        kind: One of `KINDS`.
        mutation: A bug to plant in a copy of the project before.
        flags: More flags for the sources, such as include folders.
        link: More flags for the linker.
    """
    how = KINDS[kind]
    root = ROOT if mutation is None else mutated(mutation)
    runtime = sorted(str(path.relative_to(ROOT)) for path in (ROOT / HERE).glob("runtime/*.cpp"))
    jobs = [(root, source, (*how.kernels, *flags)) for source in sources]
    jobs += [(ROOT, source, how.runtime) for source in runtime]
    with ThreadPoolExecutor(COMPILERS) as pool:
        objects = list(pool.map(lambda job: compiled(*job), jobs))
    # Calls of the CUDA runtime are the simulator's even in a process that has NVIDIA's loaded.
    shape = [] if how.is_program else ["-shared", "-Wl,-Bsymbolic"]
    command = [*compiler(), *shape, *how.link, *map(str, objects), *link]
    suffix = "" if how.is_program else ".so"
    return kept("linked", f"{name}-{kind}", suffix, command, hashed(*command))


@cache
def compiled(root: Path, source: str, flags: tuple[str, ...]) -> Path:
    """The object of one source, from an earlier build if nothing it includes has changed."""
    command = [*compiler(), "-std=c++20", "-g", "-fPIC", "-Wno-unknown-pragmas"]
    command += [f"-I{root / HERE}", f"-isystem{cuda_include()}", f"-ffile-prefix-map={root}/="]
    command += [*flags, "-xc++", str(root / source)]
    preprocessed = called([*command, "-E", "-fno-working-directory"]).replace(str(root), "")
    key = hashed(*(part.replace(str(root), "") for part in command), preprocessed)
    return kept("objects", Path(source).stem, ".o", [*command, "-c"], key)


def kept(folder: str, name: str, suffix: str, command: list[str], key: str) -> Path:
    """The file that a command writes, unless it is there."""
    path = KEPT / folder / f"{name}-{key}{suffix}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            written = Path(scratch) / path.name
            called([*command, "-o", str(written)])
            written.replace(path)  # at once, for others that build the same
    return path


def mutated(mutation: Mutation) -> Path:
    """A copy of what is compiled, with the mutation."""
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    root = KEPT / "mutated" / hashed(mutation.file, mutation.old, mutation.new)
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent) as scratch:
        for folder in ("csrc", HERE):
            shutil.copytree(ROOT / folder, Path(scratch) / folder, ignore=ignored)
        mutation.apply(Path(scratch))
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(scratch, root)
    return root


def hashed(*parts: str) -> str:
    return hashlib.sha256("\0".join((*parts, version())).encode()).hexdigest()[:16]


@cache
def version() -> str:
    return called([*compiler(), "--version"])


def called(command: Sequence[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise BuildError(f"{shlex.join(command)}\n{result.stderr}")
    return result.stdout


def run(program: Path, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Runs a program of a sanitizer: 0 is clean, stderr says what was found otherwise."""
    settings = {key: value for kind in KINDS.values() for key, value in kind.environment.items()}
    return subprocess.run(
        [*fixed_addresses(), str(program), *arguments],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@cache
def fixed_addresses() -> list[str]:
    """ThreadSanitizer of GCC 12 finds no place where addresses are spread widely."""
    command = ["setarch", platform.machine(), "-R"]
    if shutil.which("setarch") is None:
        return []
    probe = subprocess.run([*command, "true"], capture_output=True, check=False)
    return [] if probe.returncode else command
