"""How build_cuda finds nvcc, chooses architectures and compiles what changed; with a false nvcc."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import build_cuda
from tests.test_build import ROOT, run_setup

FALSE_NVCC = """#!/bin/sh
case "$*" in
  *--dryrun*)
    echo '#$ TOP={home}'
    echo '#$ INCLUDES="-I{home}/include" "-I{home}/none"'
    echo '#$ LIBRARIES=  "-L{home}/lib/stubs" "-L{home}/lib"' ;;
  *--version*) echo 'Cuda compilation tools, release 12.6, V12.6.85' ;;
  *--list-gpu-code*) printf 'sm_75\\nsm_80\\nsm_90\\n' ;;
  *)
    for output; do :; done
    echo "begin $output" >> "{home}/log"
    sleep 0.05
    echo "end $output" >> "{home}/log"
    echo 'ptxas info: nothing'
    grep -l broken csrc/cuda/*.cu && echo 'k.cu(3): error: planted' && exit 2
    touch "${{output#-o=}}" ;;
esac
"""


def program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def home(tmp_path):
    """A toolkit whose nvcc writes in `log` what it is asked to compile."""
    folder = tmp_path / "a toolkit"
    program(folder / "bin" / "nvcc", FALSE_NVCC.format(home=folder))
    for name in ("include/cuda_runtime_api.h", "lib/libcudart_static.a"):
        (folder / name).parent.mkdir()
        (folder / name).touch()
    return folder


@pytest.fixture
def toolkit(home):
    return build_cuda.ask(str(home / "bin" / "nvcc"))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with three files of kernels and a header, where builds run."""
    folder = tmp_path / "project"
    sources = folder / "csrc" / "cuda"
    sources.mkdir(parents=True)
    for name in ("kernels_a.cu", "kernels_b.cu", "kernels_double.cu", "device.cuh"):
        (sources / name).write_text(name)
    monkeypatch.chdir(folder)
    return folder


def compiled(home, toolkit, archs=("80",), jobs=1, strict=False):
    """Returns the names of the objects that compile_kernels compiled anew."""
    log = home / "log"
    log.unlink(missing_ok=True)
    objects = build_cuda.compile_kernels(toolkit, archs, jobs, strict=strict)
    assert [path.name for path in objects] == ["kernels_a.o", "kernels_b.o", "kernels_double.o"]
    assert all(path.exists() for path in objects)
    lines = log.read_text().splitlines() if log.exists() else []
    return {line.split("/")[-1] for line in lines if line.startswith("begin")}


def test_nvcc_tells_where_its_files_are(home, toolkit):
    assert toolkit.version == "12.6.85"
    assert toolkit.archs == ("75", "80", "90")
    assert toolkit.include_dirs == (str(home / "include"),)
    assert toolkit.library_dirs == (str(home / "lib"),)


@pytest.mark.skipif(build_cuda.find("nvcc") is None, reason="no nvcc")
def test_nvcc_behind_a_script_tells_where_its_files_are(tmp_path):
    nvcc = build_cuda.find("nvcc")
    shim = program(tmp_path / "bin" / "nvcc", f'#!/bin/sh\nexec "{nvcc}" "$@"\n')
    toolkit = build_cuda.ask(shim)
    assert toolkit.include_dirs == build_cuda.ask(nvcc).include_dirs
    assert any(Path(path, "cuda_fp16.h").exists() for path in toolkit.include_dirs)
    assert any(Path(path, "libcudart_static.a").exists() for path in toolkit.library_dirs)


def test_cuda_home_comes_first_then_path_then_pip(home, tmp_path, monkeypatch):
    on_path = program(tmp_path / "path" / "nvcc", "")
    pip = tmp_path / "site" / "nvidia"
    of_pip = program(pip / "cu13" / "bin" / "nvidia-only", "")
    monkeypatch.setattr(
        build_cuda.importlib.util,
        "find_spec",
        lambda name: type("Spec", (), {"submodule_search_locations": [str(pip)]}),
    )
    path = {"PATH": str(tmp_path / "path")}
    assert build_cuda.find("nvcc", path) == on_path
    assert build_cuda.find("nvcc", path | {"CUDA_HOME": str(home)}) == str(home / "bin" / "nvcc")
    assert build_cuda.find("nvcc", path | {"CUDA_HOME": "/nonexistent"}) is None
    assert build_cuda.find("nvidia-only", path) == of_pip


def test_architectures(toolkit):
    assert build_cuda.choose_archs(toolkit, None) == ("80", "90")
    assert build_cuda.choose_archs(toolkit, "90;80;90") == ("80", "90")
    with pytest.raises(
        build_cuda.Unusable, match=r"nvcc 12.6.85 cannot compile for sm_100, sm_120"
    ):
        build_cuda.choose_archs(toolkit, "120;90;100")


def test_code_for_each_architecture_and_for_newer_ones(toolkit, tmp_path):
    source = tmp_path / "kernels_float.cu"
    command = build_cuda.command(toolkit, ["80", "100"], source, tmp_path / "o", strict=False)
    assert [word for word in command if word.startswith("-gencode")] == [
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_100,code=sm_100",
        "-gencode=arch=compute_100,code=compute_100",
    ]


def test_only_what_changed_is_compiled_again(home, toolkit, project):
    every = {"kernels_a.o", "kernels_b.o", "kernels_double.o"}
    assert compiled(home, toolkit) == every
    assert compiled(home, toolkit) == set()
    assert (project / "build/cuda/kernels_a.ptxas").read_text() == "ptxas info: nothing\n"
    (project / "csrc/cuda/kernels_b.cu").write_text("changed")
    assert compiled(home, toolkit) == {"kernels_b.o"}
    (project / "csrc/cuda/device.cuh").write_text("changed")
    assert compiled(home, toolkit) == every
    assert compiled(home, toolkit, archs=("80", "90")) == every
    assert compiled(home, toolkit, archs=("80", "90"), strict=True) == every
    (project / "build/cuda/kernels_a.o").unlink()
    assert compiled(home, toolkit, archs=("80", "90"), strict=True) == {"kernels_a.o"}


@pytest.mark.parametrize("jobs", [1, 2])
def test_no_more_compilers_at_once_than_jobs(home, toolkit, project, jobs):
    compiled(home, toolkit, jobs=jobs)
    running = most = 0
    for line in (home / "log").read_text().splitlines():
        running += 1 if line.startswith("begin") else -1
        most = max(most, running)
    assert most == jobs


def test_failure_is_told_and_tried_again(home, toolkit, project):
    source = project / "csrc/cuda/kernels_a.cu"
    source.write_text("broken")
    for _ in range(2):
        with pytest.raises(build_cuda.Unusable, match=r"k.cu\(3\): error: planted$"):
            compiled(home, toolkit)
    source.write_text("mended")
    assert "kernels_a.o" in compiled(home, toolkit)


@pytest.mark.parametrize("name", ["cuda_runtime_api.h", "libcudart_static.a"])
def test_missing_file_of_the_toolkit_is_named(home, project, name):
    folder = home / ("include" if name.endswith("h") else "lib")
    (folder / name).unlink()
    toolkit = build_cuda.ask(str(home / "bin" / "nvcc"))
    with pytest.raises(build_cuda.Unusable, match=f"has no {name} in .*{folder.name}"):
        compiled(home, toolkit)


@pytest.fixture
def broken(tmp_path):
    """A copy of the build files with C++ that does not compile."""
    for name in ("setup.py", "build_cuda.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for package in ("", "labs", "page"):
        (tmp_path / "fastrnn" / "imdb" / package).mkdir(parents=True, exist_ok=True)
    (tmp_path / "fastrnn" / "__init__.py").write_text('__version__ = "0"')
    (tmp_path / "csrc" / "cuda").mkdir(parents=True)
    for path in ("csrc/ops.cpp", "csrc/cuda/plan.cpp", "csrc/cuda/ops.cpp"):
        (tmp_path / path).write_text('#error "broken on purpose"\n')
    return tmp_path


BUILT_NONE = "the CUDA kernels cannot be built"


def test_without_nvcc_one_quiet_line(broken):
    result = run_setup(broken, "build_ext", CUDA_HOME="/nonexistent")
    assert (
        "fastrnn: building for the CPU only, see FASTRNN_BUILD_CUDA in setup.py." in result.stdout
    )
    assert "CUDA" not in result.stderr


def test_build_by_pip_finds_this_part_of_the_build(broken):
    build = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    environment = os.environ | {"CUDA_HOME": "/nonexistent", "FASTRNN_BUILD_EXT": "1"}
    result = subprocess.run(
        [sys.executable, "-P", "-c", build],
        cwd=broken,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert "building for the CPU only" in result.stdout, result.stderr
    assert "Error compiling objects" in result.stderr


@pytest.mark.parametrize(
    "required", [{"FASTRNN_BUILD_CUDA": "1"}, {"FASTRNN_BUILD_EXT": "require"}]
)
def test_unusable_nvcc_is_an_error_where_kernels_are_required(broken, home, required):
    (home / "lib" / "libcudart_static.a").unlink()
    result = run_setup(broken, "build_ext", CUDA_HOME=str(home), **required)
    assert result.returncode == 1
    last_line = result.stderr.splitlines()[-1]
    assert last_line.startswith(f"fastrnn: {BUILT_NONE} ({home}/bin/nvcc has no libcudart_static.a")
    assert last_line.endswith("mend that, or set FASTRNN_BUILD_CUDA=0 to go without them.")


@pytest.mark.parametrize(
    ("archs", "reason"),
    [("120", "12.6.85 cannot compile for sm_120"), ("80", "k.cu(3): error: planted")],
)
def test_unusable_nvcc_is_a_warning_otherwise(broken, home, archs, reason):
    (broken / "csrc" / "cuda" / "kernels_broken.cu").write_text("broken")
    result = run_setup(broken, "build_ext", CUDA_HOME=str(home), FASTRNN_CUDA_ARCHS=archs)
    assert f"fastrnn: {BUILT_NONE} (" in result.stderr
    assert f"{reason}), going without them." in result.stderr
    assert "fastrnn._C could not be built" in result.stderr  # it went on, to the C++
    assert "-DFASTRNN_CUDA_ARCHS= " in result.stdout
    assert result.returncode == 0


def test_kernels_required_and_no_nvcc(broken):
    result = run_setup(broken, "build_ext", CUDA_HOME="/nonexistent", FASTRNN_BUILD_CUDA="1")
    assert result.returncode == 1
    assert f"fastrnn: {BUILT_NONE} (found no nvcc in CUDA_HOME if set" in result.stderr


def test_kernels_required_and_the_fallback_instead(broken, home):
    result = run_setup(broken, "build_ext", CUDA_HOME=str(home), FASTRNN_BUILD_CUDA="1")
    assert result.returncode == 1
    assert "-DFASTRNN_CUDA_ARCHS=80,90 " in result.stdout
    assert "FASTRNN_BUILD_CUDA=1 forbids the fallback." in result.stderr.splitlines()[-1]
    result = run_setup(broken, "--version", FASTRNN_BUILD_EXT="0", FASTRNN_BUILD_CUDA="1")
    assert result.returncode == 1
    assert "cannot be met with FASTRNN_BUILD_EXT=0" in result.stderr
