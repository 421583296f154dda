"""`fastrnn.explain` tells the path that the call then takes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import fastrnn


@pytest.mark.parametrize(
    ("args", "shape", "regime"),
    [
        ((16, 8), (100, 64, 16), "blocks of 48 rows"),
        ((512, 512), (5, 32, 512), "all rows step by step"),
        ((8192, 512), (5, 64, 8192), "all rows step by step, input product first"),
        ((128, 128), (20, 1, 128), "one row, input product first"),
        ((128, 128), (20, 128), "one row, input product first"),
        ((256, 256), (1, 4, 256), "single step"),
    ],
)
def test_regimes(args, shape, regime):
    explanation = fastrnn.explain(fastrnn.LSTM(*args), torch.randn(shape))
    assert explanation.path == "kernels"
    assert explanation.layers[0].regime.startswith(regime)
    assert regime in str(explanation)


def test_a_row_of_many_steps(isa):
    explanation = fastrnn.explain(fastrnn.LSTM(128, 128), torch.randn(100, 1, 128))
    when = "ahead" if isa.startswith("avx512") else "first"
    assert explanation.layers[0].regime == f"one row, input product {when}"


def test_each_layer_has_its_sizes():
    module = fastrnn.GRU(3, 5, num_layers=2, bidirectional=True, batch_first=True)
    layers = fastrnn.explain(module, torch.randn(7, 4, 3)).layers
    assert [layer.shape for layer in layers] == [(4, 7, 3, 5), (4, 7, 10, 5)]


def test_kept_weights_are_named_where_they_are_kept():
    module, input = fastrnn.RNN(3, 5), torch.randn(4, 2, 3)
    assert "kept" not in str(fastrnn.explain(module, input))
    with torch.no_grad():
        assert "kept" in str(fastrnn.explain(module, input))


def test_threads_share_units_where_rows_are_few():
    torch.set_num_threads(2)
    text = str(fastrnn.explain(fastrnn.LSTM(512, 512), torch.randn(20, 1, 512)))
    assert "2 threads share the hidden units" in text


def test_projections_share_rows_not_units():
    torch.set_num_threads(2)
    module = fastrnn.LSTM(512, 512, 2, proj_size=64, bidirectional=True)
    explanation = fastrnn.explain(module, torch.randn(1, 1, 512))
    assert [layer.shape for layer in explanation.layers] == [(1, 1, 512, 512), (1, 1, 128, 512)]
    text = str(explanation)
    assert "a product after each step projects h" in text
    assert "single step" not in text and "share the hidden units" not in text


def test_what_bfloat16_is_multiplied_as(isa):
    module = fastrnn.LSTM(16, 8, dtype=torch.bfloat16)
    text = str(fastrnn.explain(module, torch.randn(5, 2, 16, dtype=torch.bfloat16)))
    assert ("products are of bfloat16" in text) == (isa == "avx512_bf16")
    assert ("sums and states are float32" in text) == (isa != "avx512_bf16")


def test_paths_that_are_not_ours():
    module, input = fastrnn.RNN(3, 5), torch.randn(4, 2, 3)
    meta = fastrnn.explain(module.to("meta"), input.to("meta"))
    assert (meta.path, meta.layers) == ("torch", ())
    assert meta.reason == "there is no kernel for float32 on meta"


def test_autocast_chooses_the_dtype():
    module, input = fastrnn.GRU(3, 5), torch.randn(4, 2, 3)
    with torch.autocast("cpu", dtype=torch.float16):
        explanation = fastrnn.explain(module, input)
    assert (explanation.path, explanation.reason) == ("kernels", "they run float16 on the CPU")
    assert "float16 is stored, sums and states are float32" in str(explanation)


@pytest.mark.parametrize(
    ("module", "input", "error", "message"),
    [
        ("LSTM", torch.zeros(1, 1, 2), TypeError, "must be a torch.nn.Module, got str"),
        (fastrnn.LSTM(2, 3), [1.0], TypeError, "must be a tensor, got list"),
        (fastrnn.LSTM(2, 3), torch.zeros(2), ValueError, "2 or 3 dimensions, got 1"),
    ],
)
def test_wrong_arguments(module, input, error, message):
    with pytest.raises(error, match=message):
        fastrnn.explain(module, input)


class Model(torch.nn.Module):
    """Modules of every way in, and one that no input reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.ours = fastrnn.LSTM(3, 4)
        self.theirs = torch.nn.GRU(4, 4)
        self.rest = torch.nn.ModuleList([torch.nn.LSTM(4, 4, proj_size=2), torch.nn.RNN(4, 4)])
        self.cell = torch.nn.LSTMCell(4, 4)
        self.large = torch.nn.GRUCell(4, 600)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        output, _ = self.ours(input)
        output, _ = self.theirs(output)
        for step in output:
            h, _ = self.cell(step)
        self.large(h.repeat(100, 1))
        return h


def rows(report: Any) -> dict[str, tuple[str, ...]]:
    return {use.name: (use.cls, use.mode, use.path, use.calls) for use in report.uses}


def test_a_report_of_a_model():
    model, input = Model(), torch.randn(5, 2, 3)
    accelerated = [model.theirs, model.cell, model.large]
    fastrnn.accelerate(accelerated)
    report = fastrnn.explain(model, input)
    assert rows(report) == {
        "ours": ("fastrnn.LSTM", "fastrnn", "kernels", 1),
        "theirs": ("torch.nn.GRU", "accelerated", "kernels", 1),
        "rest.0": ("torch.nn.LSTM", "torch", "", 0),
        "rest.1": ("torch.nn.RNN", "torch", "", 0),
        "cell": ("torch.nn.LSTMCell", "accelerated", "kernels", 5),
        "large": ("torch.nn.GRUCell", "accelerated", "torch", 1),
    }
    head, *lines = str(report).splitlines()
    assert head.split() == ["module", "class", "sizes", "mode", "runs", "on", "calls", "why"]
    assert len(lines) == 6
    assert "faster for 200 rows of this size with gradients" in lines[-1]
    fastrnn.accelerate(model.theirs, compile=True)
    assert rows(fastrnn.explain(model))["theirs"] == (
        "fastrnn.GRU",
        "accelerated for compile",
        "kernels",
        None,
    )
    assert not model.ours._forward_pre_hooks


def test_a_report_tells_each_path_of_a_module_apart():
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = torch.nn.GRU(3, 4)

        def forward(self, input: torch.Tensor) -> None:
            self.gru(input)
            self.gru(input)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                self.gru(input)

    uses = fastrnn.explain(fastrnn.accelerate(Twice()), torch.randn(5, 2, 3)).uses
    assert [(use.name, use.calls) for use in uses] == [("gru", 2), ("gru", 1)]
    assert ["float32" in uses[0].reason, "bfloat16" in uses[1].reason] == [True, True]


def test_a_report_after_accelerate(capsys):
    model = fastrnn.accelerate(torch.nn.Sequential(torch.nn.LSTM(3, 4)), report=True)
    told = capsys.readouterr().out
    assert told == f"{fastrnn.explain(model)}\n"
    assert "accelerated" in told and "kernels" in told
    assert str(fastrnn.explain(torch.nn.Linear(2, 3))) == "no recurrent modules"


def test_reasons_of_torchs_path():
    def reason(module: torch.nn.Module, *inputs: torch.Tensor) -> str:
        (use,) = fastrnn.explain(torch.nn.Sequential(module), *inputs).uses
        assert use.path == "torch"
        return use.reason

    class Own(torch.nn.RNNBase):
        pass

    assert reason(torch.nn.GRU(3, 4)) == "it is not accelerated"
    assert reason(Own("GRU", 3, 4)) == "Own has code of its own"
    cell = fastrnn.accelerate(torch.nn.GRUCell(3, 4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert reason(cell) == "its own cells know what autocast casts"
    meta = fastrnn.accelerate(torch.nn.GRUCell(3, 4, device="meta"))
    assert reason(meta) == "there is no kernel for float32 on meta"


def test_a_single_accelerated_module_is_explained_in_detail():
    module = fastrnn.accelerate(torch.nn.LSTM(16, 8))
    explanation = fastrnn.explain(module, torch.randn(100, 64, 16))
    assert explanation.path == "kernels"
    assert len(explanation.layers) == 1
    stock = fastrnn.explain(torch.nn.LSTM(16, 8), torch.randn(100, 64, 16))
    assert (stock.path, stock.reason, stock.layers) == ("torch", "it is not accelerated", ())
