"""Finds nvcc and compiles the CUDA kernels for setup.py; needs no torch.

The kernels know nothing of torch, so their objects serve every Python and torch. They lie in
build/cuda, each beside what ptxas told of registers and memory, which the tests read.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

# Ampere and Ada, Hopper, Blackwell in data centres and on desks; a GPU runs what was compiled for
# its own or an older minor version.
ARCHS = ("80", "90", "100", "120")
OBJECTS = Path("build", "cuda")
PLACES = "CUDA_HOME if set, else PATH, /usr/local/cuda or pip's packages nvidia-cuda-*"


class Unusable(Exception):
    """Why the CUDA kernels cannot be built, as a clause."""


@dataclass(frozen=True)
class Toolkit:
    """An nvcc and what it says of itself."""

    nvcc: str
    version: str
    archs: tuple[str, ...]  # that it compiles for
    include_dirs: tuple[str, ...]
    library_dirs: tuple[str, ...]


def find(program: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """Returns the program that is first in PLACES."""
    if home := environment.get("CUDA_HOME"):
        return shutil.which(program, path=str(Path(home, "bin")))
    packages = importlib.util.find_spec("nvidia")
    roots = [Path(root) for root in (packages and packages.submodule_search_locations) or ()]
    folders = [
        Path("/usr/local/cuda/bin"),
        *(bin for root in roots for bin in root.glob("cu*/bin")),
    ]
    path = os.pathsep.join([environment.get("PATH", os.defpath), *map(str, folders)])
    return shutil.which(program, path=path)


def ask(nvcc: str) -> Toolkit:
    """Lets nvcc tell where its files are: it may be a script that calls another one."""
    told = run([nvcc, "--dryrun", "-E", "-x", "cu", os.devnull])
    settings = dict(re.findall(r"^#\$ (\w+) *= *(.*)$", told, re.MULTILINE))
    words = shlex.split(" ".join(settings.get(name, "") for name in ("INCLUDES", "LIBRARIES")))
    include_dirs = existing(word[2:] for word in words if word.startswith("-I"))
    library_dirs = [word[2:] for word in words if word.startswith("-L")]
    library_dirs += [f"{settings['TOP']}/lib"] if "TOP" in settings else []  # where pip's are
    found = re.search(r"release .*, V([\d.]+)", run([nvcc, "--version"]))
    archs = re.findall(r"^sm_(\d+)$", run([nvcc, "--list-gpu-code"]), re.MULTILINE)
    version = found[1] if found else "of unknown version"
    return Toolkit(nvcc, version, tuple(archs), include_dirs, existing(library_dirs))


def run(command: Sequence[str]) -> str:
    """Returns what a command prints, stdout and stderr in one."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
    except OSError as error:
        raise Unusable(f"{command[0]} cannot be run: {error.strerror}") from error
    if done.returncode:
        lines = done.stdout.splitlines()
        problems = [line for line in lines if re.search("error|fatal", line)] or lines[-1:]
        raise Unusable(f"`{shlex.join(command)}` failed: {'; '.join(problems[:3])}")
    return done.stdout


def existing(folders: Iterable[str]) -> tuple[str, ...]:
    """Returns those folders that exist, each once."""
    return tuple(dict.fromkeys(os.path.realpath(path) for path in folders if Path(path).is_dir()))


def choose_archs(toolkit: Toolkit, asked: str | None) -> tuple[str, ...]:
    """Returns those asked for, the oldest first, or those of the default that nvcc knows."""
    if asked is None:
        archs = [arch for arch in ARCHS if arch in toolkit.archs]
        missing = [] if archs else list(ARCHS)
    else:
        archs = sorted(set(asked.split(";")), key=int)
        missing = [arch for arch in archs if arch not in toolkit.archs]
    if missing:
        raise Unusable(
            f"{toolkit.nvcc} {toolkit.version} cannot compile for sm_{', sm_'.join(missing)}"
        )
    return tuple(archs)


def command(
    toolkit: Toolkit, archs: Sequence[str], source: Path, object: Path, strict: bool
) -> list[str]:
    """Returns the call of nvcc for one file: code for each architecture, PTX for newer ones.

    ptxas warns of spills, other local memory, and double precision where the file's elements are
    narrower; where `strict`, every warning is an error.
    """
    ptxas = ["-v", "-warn-spills", "-warn-lmem-usage"]
    if "double" not in source.stem:
        ptxas.append("-warn-double-usage")
    gencode = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in archs]
    gencode.append(f"-gencode=arch=compute_{archs[-1]},code=compute_{archs[-1]}")
    cxx = shutil.which(os.environ.get("CXX", ""))  # not where it has arguments
    return [
        toolkit.nvcc,
        *([f"-ccbin={cxx}"] if cxx else []),
        "-std=c++20",
        "-O3",
        "-fmad=false",  # rounding is the choice of the source: it says fma where it means it
        "--expt-relaxed-constexpr",  # the sizes of cells are constexpr functions of the host, too
        "-Xcompiler=-fPIC,-fvisibility=hidden,-g0",
        "-Xfatbin=-compress-all",
        *(["-Werror=all-warnings"] if strict else []),
        "-Xptxas=" + ",".join([*ptxas, *(["-Werror"] if strict else [])]),
        *gencode,
        "-c",
        str(source),
        f"-o={object}",
    ]


def compile_kernels(
    toolkit: Toolkit, archs: Sequence[str], jobs: int, *, strict: bool
) -> list[Path]:
    """Compiles csrc/cuda/kernels_*.cu, what changed of them, and returns the objects."""
    if not any(Path(folder, "cuda_runtime_api.h").exists() for folder in toolkit.include_dirs):
        raise Unusable(f"{toolkit.nvcc} has no cuda_runtime_api.h in {toolkit.include_dirs}")
    if not any(Path(folder, "libcudart_static.a").exists() for folder in toolkit.library_dirs):
        raise Unusable(f"{toolkit.nvcc} has no libcudart_static.a in {toolkit.library_dirs}")
    OBJECTS.mkdir(parents=True, exist_ok=True)
    headers = hashlib.sha256(toolkit.version.encode())
    for header in sorted([*Path("csrc").glob("*.h"), *Path("csrc", "cuda").glob("*.*h")]):
        headers.update(header.read_bytes())

    def compile_one(source: Path) -> Path:
        object = OBJECTS / f"{source.stem}.o"
        call = command(toolkit, archs, source, object, strict)
        digest = headers.copy()
        digest.update(source.read_bytes() + shlex.join(call).encode())
        stamp = object.with_suffix(".stamp")
        fresh = object.exists() and stamp.exists() and stamp.read_text() == digest.hexdigest()
        if not fresh:
            stamp.unlink(missing_ok=True)
            print(shlex.join(call), flush=True)
            object.with_suffix(".ptxas").write_text(run(call))
            stamp.write_text(digest.hexdigest())
        return object

    pool = ThreadPoolExecutor(jobs)
    try:
        return list(pool.map(compile_one, sorted(Path("csrc", "cuda").glob("kernels_*.cu"))))
    finally:
        pool.shutdown(cancel_futures=True)  # when one fails, the others need not begin
