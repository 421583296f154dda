"""Loads the compiled kernels, `fastrnn._C`; keeps the reason when it cannot, and warns once."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Final

import torch

MINIMUM_TORCH: Final = "2.13"
"""The kernels use torch's stable ABI of this version: any later torch runs them as they are."""

REMEDY: Final = "FASTRNN_BUILD_EXT=require python -m pip install --no-build-isolation -e ."
"""The command that builds the kernels, to be run in a checkout of fastrnn."""


def _load() -> str | None:
    """Loads `fastrnn._C`, which registers the ops. Returns why it could not, or None."""
    if importlib.util.find_spec("fastrnn._C") is None:
        return "the kernels are not built"
    if torch.__version__ < MINIMUM_TORCH:  # compares versions, not strings: it is a TorchVersion
        return f"the kernels need torch {MINIMUM_TORCH} or later; this is {torch.__version__}"
    try:
        import fastrnn._C  # noqa: F401
    except (ImportError, OSError) as error:
        return f"the kernels are built but do not load: {error}"
    return None


reason: Final = _load()
"""Why the kernels are not loaded; None when they are."""

loaded: Final = reason is None
"""Whether the kernels are loaded."""

if not loaded:
    warnings.warn(
        f"fastrnn runs its reference in plain PyTorch, slower but with the same results: {reason}. "
        f"To mend it, run this in a checkout of fastrnn: {REMEDY}",
        RuntimeWarning,
        stacklevel=2,
    )
