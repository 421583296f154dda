"""`torch.export`: saved, loaded where fastrnn is imported, and compiled ahead of time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import MODES, NIGHTLY, build, evaluate, make_states
from tolerances import assert_matches
from torch import Tensor, nn

import fastrnn

LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "both": {"num_layers": 2, "bidirectional": True, "batch_first": True},
}
# Exporting takes seconds: all of these are in the nightly profile alone.
GRADS = [True, False]
CASES = [
    (mode, layout, strict)
    for mode in MODES
    for layout in LAYOUTS
    for strict in (False, True)
    if NIGHTLY or (layout == "both" and (mode in ("LSTM", "GRU") or not strict))
]
SIZES = [(5, 3), (9, 2), (1, 4), (30, 1)]
OPS = {True: "fastrnn.layer", False: "fastrnn._inference"}

pytestmark = [
    # An RNNBase re-reads weights that the exporter swapped: torch warns so for its own modules too.
    pytest.mark.filterwarnings("ignore:The tensor attributes .*_flat_weights:UserWarning"),
    # Tracing an autograd.Function, dynamo makes an instance of it, against torch's own advice.
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),  # torch's copying of graphs
    # torch's own import of inductor.
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning"),
]


def arguments_of(module: nn.RNNBase, size: tuple[int, int]) -> tuple[Tensor, Any]:
    steps, batch = size
    shape = (batch, steps) if module.batch_first else (steps, batch)
    return torch.randn(*shape, module.input_size), make_states(module, batch)


def export(module: nn.RNNBase, strict: bool) -> torch.export.ExportedProgram:
    dynamic = torch.export.Dim.DYNAMIC
    state = {1: dynamic}
    states = (state, state) if module.mode == "LSTM" else state
    return torch.export.export(
        module,
        arguments_of(module, (5, 3)),
        dynamic_shapes=({0: dynamic, 1: dynamic}, states),
        strict=strict,
    )


def ops_of(program: torch.export.ExportedProgram) -> set[str]:
    """The names of our ops, also of those in graphs inside the graph."""
    return {
        str(node.target).removesuffix(".default")
        for graph in program.graph_module.modules()
        for node in getattr(graph, "graph", torch.fx.Graph()).nodes
        if str(node.target).startswith("fastrnn.")
    }


@pytest.mark.parametrize("grad", GRADS, ids=["grad", "no_grad"])
@pytest.mark.parametrize(("mode", "layout", "strict"), CASES)
def test_any_length_and_batch(mode, layout, strict, grad):
    module = build(fastrnn, mode, 4, 6, **LAYOUTS[layout])
    with torch.set_grad_enabled(grad):
        program = export(module, strict)
    assert ops_of(program) == {OPS[grad]}
    for call in (program.module(), program.run_decompositions().module()):
        for size in SIZES:
            arguments = arguments_of(module, size)
            assert_matches(call(*arguments), module(*arguments))


@pytest.mark.parametrize("grad", GRADS, ids=["grad", "no_grad"])
@pytest.mark.parametrize("padding", ["right", "left"])
def test_lengths(padding, grad):
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = fastrnn.GRU(4, 6, 2, bidirectional=True)

        def forward(self, input: Tensor, lengths: Tensor) -> Any:
            return self.rnn(input, lengths=lengths, padding=padding)

    dynamic = torch.export.Dim.DYNAMIC
    model = Padded()
    with torch.set_grad_enabled(grad):
        program = torch.export.export(
            model,
            (torch.randn(5, 3, 4), torch.tensor([5, 0, 3])),
            dynamic_shapes=({0: dynamic, 1: dynamic}, {0: dynamic}),
        )
    assert ops_of(program) >= {OPS[grad], "fastrnn.pack" if grad else "fastrnn._pack"}
    for steps, lengths in ((5, [1, 5, 2]), (8, [3, 8, 0, 8])):
        arguments = (torch.randn(steps, len(lengths), 4), torch.tensor(lengths))
        assert_matches(program.module()(*arguments), model(*arguments))


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "non-strict"])
@pytest.mark.parametrize(
    ("mode", "options"), [("LSTM", {}), ("LSTM", {"proj_size": 3}), ("GRU", {})], ids=str
)
def test_programs_train(mode, options, strict):
    """With raw ops, which have no gradient, torch would warn and leave weights as they are."""
    module = build(fastrnn, mode, 4, 6, **LAYOUTS["both"], **options)
    program = export(module, strict).module()
    for size in SIZES:
        arguments = arguments_of(module, size)
        assert_matches(evaluate(program, *arguments), evaluate(module, *arguments))


LOAD = """
import sys, torch
import fastrnn
program = torch.export.load(sys.argv[1])
inputs = torch.load(sys.argv[2])
torch.save([program.module()(*arguments) for arguments in inputs], sys.argv[3])
"""


@pytest.mark.parametrize("grad", GRADS, ids=["grad", "no_grad"])
def test_a_saved_program_runs_in_another_process(grad, tmp_path):
    module = fastrnn.LSTM(4, 6, 2, bidirectional=True, batch_first=True)
    with torch.set_grad_enabled(grad):
        torch.export.save(export(module, strict=False), tmp_path / "program.pt2")
    inputs = [arguments_of(module, size) for size in SIZES]
    torch.save(inputs, tmp_path / "inputs.pt")
    files = [str(tmp_path / name) for name in ("program.pt2", "inputs.pt", "outputs.pt")]
    result = subprocess.run(
        [sys.executable, "-c", LOAD, *files],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=Path(fastrnn.__file__).parents[1],
    )
    assert result.returncode == 0, result.stderr
    outputs = torch.load(tmp_path / "outputs.pt")
    assert_matches(outputs, [module(*arguments) for arguments in inputs])


@pytest.mark.parametrize("grad", GRADS if NIGHTLY else [False])
def test_ahead_of_time(grad, tmp_path):
    """AOTInductor finds the ops in whatever process has imported fastrnn."""

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = fastrnn.GRU(4, 6)

        def forward(self, input: Tensor) -> Tensor:
            output, _ = self.rnn(input)
            return torch.relu(output[-1])

    model = Classifier()
    dynamic = torch.export.Dim.DYNAMIC
    with torch.set_grad_enabled(grad):
        program = torch.export.export(
            model, (torch.randn(5, 3, 4),), dynamic_shapes=({0: dynamic, 1: dynamic},)
        )
    path = torch._inductor.aoti_compile_and_package(
        program, package_path=str(tmp_path / "model.pt2")
    )
    compiled = torch._inductor.aoti_load_package(path)
    for steps, batch in SIZES:
        input = torch.randn(steps, batch, 4)
        assert_matches(compiled(input), model(input))
