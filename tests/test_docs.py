"""The examples in the documentation of the public modules run and print what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest
import torch


@pytest.mark.parametrize(
    "name",
    ["_info", "cells", "convert", "explain", "lengths", "modules", "onnx", "ops", "reference"],
)
def test_examples(name):
    # Not `import fastrnn.explain as ...`, which would give the function of that name.
    module = importlib.import_module(f"fastrnn.{name}")
    result = doctest.testmod(module, extraglobs={"torch": torch})
    assert result.attempted > 0
    assert result.failed == 0
