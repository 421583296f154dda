"""What the simulator runs is compiled from the sources as they are, or with one bug planted."""

from __future__ import annotations

import numpy as np
import pytest

from . import build
from .fixtures import library

pytestmark = pytest.mark.skipif(build.missing() is not None, reason=str(build.missing()))


def test_what_has_not_changed_is_not_compiled_again(monkeypatch):
    library.kernels()
    build.compiled.cache_clear()
    called, commands = build.called, []
    monkeypatch.setattr(
        build, "called", lambda command: commands.append(command) or called(command)
    )
    build.build("fixtures", [library.KERNELS], "plain")
    assert commands
    assert all("-E" in command for command in commands)


def test_a_mutation_compiles_the_mutated_copy_alone():
    source = build.ROOT / library.KERNELS
    before = source.read_text()
    right = build.build("fixtures", [library.KERNELS], "plain")
    wrong = build.build("fixtures", [library.KERNELS], "plain", mutation=library.NO_BARRIER)
    assert right != wrong
    assert source.read_text() == before


def test_a_mutation_in_a_header_is_seen():
    header = build.Mutation("tests/cuda_sim/cuda_sim_thread.h", "cuda_sim::sync_block(where);", "")
    simulator = library.kernels("plain", header)
    assert library.call(simulator, "wrong", 0, 0, np.zeros(64, np.float32)) == library.SUCCESS


@pytest.mark.parametrize("text", ["no such text", "__syncthreads();"])
def test_a_mutation_wants_its_text_exactly_once(text):
    count = (build.ROOT / library.KERNELS).read_text().count(text)
    assert count != 1
    mutation = build.Mutation(library.KERNELS, text, "")
    with pytest.raises(ValueError, match=f"exactly once, found it {count} times") as error:
        build.build("fixtures", [library.KERNELS], "plain", mutation=mutation)
    assert library.KERNELS in str(error.value)


def test_a_compiler_error_is_an_error_with_the_compilers_text():
    mutation = build.Mutation(library.KERNELS, "int sum = lane;", "int sum = lame;")
    with pytest.raises(build.BuildError, match=r"error: .lame. was not declared"):
        library.kernels("plain", mutation)


def test_shared_memory_is_declared_by_the_macro_alone():
    mutation = build.Mutation(library.KERNELS, "int sum = lane;", "__shared__ int sum; sum = 0;")
    with pytest.raises(build.BuildError, match="__shared__"):
        library.kernels("plain", mutation)


def test_headers_are_looked_for_in_cuda_home_first(monkeypatch, tmp_path):
    include = tmp_path / "include"
    (include / "crt").mkdir(parents=True)
    (include / "nv").mkdir()
    for name in build.HEADERS:
        (include / name).touch()
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert build.cuda_include.__wrapped__() == include
    (include / "cuda_fp16.h").unlink()
    assert build.cuda_include.__wrapped__() != include


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(build, "cuda_include", lambda: None)
    assert "pip install nvidia-cuda-runtime nvidia-cuda-crt" in build.missing()
    monkeypatch.setenv("CXX", "no-such-compiler -m64")
    assert "'no-such-compiler'" in build.missing()
