"""What setup.py says and does in a copy of the project, when building is refused or fails."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
KNOBS = (
    "FASTRNN_BUILD_EXT",
    "FASTRNN_BUILD_CUDA",
    "FASTRNN_CUDA_ARCHS",
    "CUDA_HOME",
    "MAX_JOBS",
    "CXX",
)
NO_CUDA = {"CUDA_HOME": "/nonexistent"}


@pytest.fixture
def project(tmp_path):
    for name in (
        "setup.py",
        "build_cuda.py",
        "pyproject.toml",
        "MANIFEST.in",
        "README.md",
        "LICENSE",
    ):
        shutil.copy(ROOT / name, tmp_path)
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    for name in ("csrc", "fastrnn"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    return tmp_path


def run_setup(project, *arguments, **variables):
    environment = {name: value for name, value in os.environ.items() if name not in KNOBS}
    return subprocess.run(
        [sys.executable, "setup.py", *arguments],
        cwd=project,
        env=environment | variables,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("variable", "value", "wanted"),
    [
        ("FASTRNN_BUILD_EXT", "yes", "must be one of 0, 1, require, got 'yes'."),
        ("FASTRNN_BUILD_CUDA", "on", "must be one of 0, 1, auto, got 'on'."),
        (
            "FASTRNN_CUDA_ARCHS",
            "8.0",
            "must be compute capabilities from 8.0 on without their dots",
        ),
        ("FASTRNN_CUDA_ARCHS", "80,90", "as '80;90', got '80,90'."),
        ("FASTRNN_CUDA_ARCHS", "75;80", "as '80;90', got '75;80'."),
        ("MAX_JOBS", "0", "must be a positive whole number, got '0'."),
        ("MAX_JOBS", "many", "must be a positive whole number, got 'many'."),
    ],
)
def test_knob_that_cannot_be_met_is_refused(project, variable, value, wanted):
    result = run_setup(project, "--version", **{variable: value})
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"fastrnn: {variable}")
    assert wanted in result.stderr


@pytest.fixture
def without_torch(project):
    (project / "torch.py").write_text("raise ModuleNotFoundError('no torch here')")
    return project


def test_build_without_torch_says_how_to_get_it(without_torch):
    result = run_setup(without_torch, "--version")
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "cannot import PyTorch or pybind11 (no torch here)" in result.stderr
    assert "--no-build-isolation" in result.stderr


def test_build_of_no_extension_needs_no_torch(without_torch):
    result = run_setup(without_torch, "--version", FASTRNN_BUILD_EXT="0")
    assert result.returncode == 0, result.stderr


@pytest.fixture(params=["no-compiler", "broken-source"])
def failing(request, project):
    """A project whose build fails, the variables that make it so, and the reason to be given."""
    if request.param == "no-compiler":
        return project, {"CXX": "/nonexistent/c++"}, "no C++ compiler '/nonexistent/c++'"
    for source in project.glob("csrc/**/*.cpp"):
        source.unlink()
    (project / "csrc" / "ops.cpp").write_text('#error "broken on purpose"\n')
    return project, {}, "Error compiling objects for extension"


def test_failing_build_is_an_error_where_required(failing):
    project, variables, reason = failing
    required = {"FASTRNN_BUILD_EXT": "require"}
    result = run_setup(project, "build_ext", **required, **NO_CUDA, **variables)
    assert result.returncode == 1
    last_line = result.stderr.splitlines()[-1]
    assert last_line.startswith(f"fastrnn: fastrnn._C could not be built ({reason}")
    assert "FASTRNN_BUILD_EXT=require forbids the fallback." in last_line
    assert "Traceback" not in result.stderr


def test_failing_build_leaves_the_fallback_and_no_older_extension(failing):
    project, variables, reason = failing
    older = project / "fastrnn" / f"_C{sysconfig.get_config_var('EXT_SUFFIX')}"
    older.touch()
    result = run_setup(project, "build_ext", "--inplace", **NO_CUDA, **variables)
    assert result.returncode == 0
    assert reason in result.stderr
    assert "CUDA" not in result.stderr
    assert "installing the slower pure-PyTorch fallback" in result.stderr
    assert not older.exists()


def test_source_distribution_holds_all_sources(project):
    result = run_setup(project, "--quiet", "sdist", FASTRNN_BUILD_EXT="0")
    assert result.returncode == 0, result.stderr
    (archive,) = (project / "dist").iterdir()
    with tarfile.open(archive) as opened:
        held = {str(Path(*Path(name).parts[1:])) for name in opened.getnames()}
    sources = [path for path in (project / "csrc").rglob("*") if path.is_file()]
    assert {path.suffix for path in sources} >= {".cpp", ".h", ".inl", ".cu", ".cuh", ".json"}
    wanted = {str(path.relative_to(project)) for path in sources}
    assert wanted | {"setup.py", "build_cuda.py", "pyproject.toml", "LICENSE"} <= held
