"""Without the kernels everything works, says why it is slow, and how to mend it."""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap

import pytest
import torch

import fastrnn

NOT_BUILT = """
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *args: None if name == "fastrnn._C" else find(name, *args)
"""
BROKEN = """
import sys
from importlib.machinery import ModuleSpec

class Broken:
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name == "fastrnn._C" else None

    def create_module(self, spec):
        raise ImportError("libmissing.so: cannot open shared object file")

    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Broken())
"""
OLD_TORCH = """
import torch
torch.__version__ = type(torch.__version__)("2.12.1+cpu")
"""
CASES = {
    "not built": (NOT_BUILT, "the kernels are not built"),
    "broken": (BROKEN, "the kernels are built but do not load: libmissing.so: cannot open"),
    "old torch": (OLD_TORCH, "the kernels need torch 2.13 or later; this is 2.12.1+cpu"),
}


def run(prelude: str, program: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, "-c", prelude + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("case", CASES)
def test_reason_and_remedy_are_given_once(case):
    prelude, reason = CASES[case]
    result = run(
        prelude,
        """
        import warnings
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            import fastrnn, fastrnn.ops, torch
            fastrnn.GRU(3, 4)(torch.zeros(2, 1, 3))
        (warning,) = [w for w in caught if "fastrnn" in str(w.message)]
        assert issubclass(warning.category, RuntimeWarning), warning
        print(warning.message)
        print("INFO")
        print(fastrnn.info())
        assert not fastrnn.info().loaded
        """,
    )
    assert result.returncode == 0, result.stderr
    warning, told = result.stdout.split("INFO")
    for text in (warning, told):
        assert reason in text
        assert "FASTRNN_BUILD_EXT=require python -m pip install" in text


def test_same_numbers():
    result = run(
        NOT_BUILT,
        """
        import torch
        from torch import nn
        import fastrnn
        from fastrnn import ops
        for name in ("RNN", "LSTM", "GRU"):
            ours = getattr(fastrnn, name)(3, 4, 2, bidirectional=True)
            theirs = getattr(nn, name)(3, 4, 2, bidirectional=True)
            theirs.load_state_dict(ours.state_dict())
            input = torch.randn(5, 2, 3)
            outputs = [module(input)[0] for module in (ours, theirs)]
            torch.testing.assert_close(*outputs)
            grads = [torch.autograd.grad(output.sum(), list(module.parameters()))
                     for output, module in zip(outputs, (ours, theirs))]
            torch.testing.assert_close(*grads)
            vmapped = torch.func.vmap(lambda x: ours(x)[0])(input[None])[0]
            torch.testing.assert_close(vmapped, outputs[1])
            halves = [module.bfloat16()(input.bfloat16())[0] for module in (ours, theirs)]
            torch.testing.assert_close(*halves, rtol=0, atol=0.02)
        gru = nn.GRU(3, 4)
        output, h_n, _ = ops.layer(
            "GRU", input, torch.zeros(2, 4), None, *gru._flat_weights, False
        )
        torch.testing.assert_close((output, h_n[None]), gru(input))
        """,
        "-W",
        "ignore:fastrnn:RuntimeWarning",
    )
    assert result.returncode == 0, result.stderr


def test_the_reference_runs():
    result = run(
        NOT_BUILT,
        """
        import torch
        import fastrnn
        from fastrnn import reference
        calls = []
        scan = reference.layer
        reference.layer = lambda *args: calls.append(args[0]) or scan(*args)
        for module in (fastrnn.RNN(3, 4), fastrnn.LSTM(3, 4), fastrnn.GRU(3, 4).bfloat16()):
            module(torch.randn(5, 2, 3, dtype=module.weight_ih_l0.dtype))
        assert calls == ["RNN_TANH", "LSTM", "GRU"], calls
        """,
        "-W",
        "ignore:fastrnn:RuntimeWarning",
    )
    assert result.returncode == 0, result.stderr


def test_import_does_little():
    """No compiler, no network, no GPU, and no warning where the kernels are loaded."""
    result = run(
        "",
        """
        import socket, subprocess, torch
        def refuse(*args, **kwargs):
            raise AssertionError("importing fastrnn did more than import")
        socket.socket.connect = subprocess.Popen.__init__ = refuse
        torch.cuda.init = torch._C._cuda_init = refuse
        import fastrnn
        assert not torch.cuda.is_initialized()
        assert fastrnn.info().loaded, fastrnn.info()
        """,
        "-W",
        "error",
    )
    assert result.returncode == 0, result.stderr


def test_info(isa):
    info = fastrnn.info()
    assert info.loaded
    assert info.reason is None
    assert info.cpu_isa == isa
    assert isa in info.cpu_isas
    assert info.threads == torch.get_num_threads()
    assert dict(info.build)["torch"].startswith("2.")


@pytest.mark.parametrize("program", ["fastrnn", "fastrnn.info"])
def test_info_as_a_program(program):
    result = subprocess.run(
        [sys.executable, "-m", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert "kernels     loaded" in result.stdout
    assert result.stderr == ""


def test_importing_the_program_leaves_the_function():
    importlib.import_module("fastrnn.info")
    assert fastrnn.info().loaded
