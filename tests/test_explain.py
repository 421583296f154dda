"""`fastrnn.explain` tells the path that the call then takes."""

from __future__ import annotations

import pytest
import torch

import fastrnn


@pytest.mark.parametrize(
    ("args", "shape", "regime"),
    [
        ((16, 8), (100, 64, 16), "blocks of 48 rows"),
        ((1024, 1024), (5, 32, 1024), "all rows step by step"),
        ((128, 128), (100, 1, 128), "one row, input product first"),
        ((128, 128), (100, 128), "one row, input product first"),
        ((256, 256), (1, 4, 256), "single step"),
    ],
)
def test_regimes(args, shape, regime):
    explanation = fastrnn.explain(fastrnn.LSTM(*args), torch.randn(shape))
    assert explanation.path == "kernels"
    assert explanation.layers[0].regime.startswith(regime)
    assert regime in str(explanation)


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


def test_paths_that_are_not_ours():
    module, input = fastrnn.RNN(3, 5), torch.randn(4, 2, 3)
    projected = fastrnn.explain(fastrnn.LSTM(3, 5, proj_size=2), input)
    assert (projected.path, projected.layers) == ("torch", ())
    assert projected.reason == "there is no kernel for projections (proj_size)"
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
