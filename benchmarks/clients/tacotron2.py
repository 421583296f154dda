"""torchaudio's Tacotron2 (BSD-2-Clause): speech synthesis, two `LSTMCell` calls per frame.

Its one file is loaded by path: torchaudio's wheels are bound to a version of torch.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from benchmarks.clients import Program, load_file

FRAMES = 30


def make() -> Program:
    """The model as published, with random weights; it never decides to stop."""
    tacotron2 = load_file("torchaudio", "models", "tacotron2.py")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = tacotron2.Tacotron2(decoder_max_step=FRAMES, decoder_early_stopping=False).eval()
    return Program(model, lambda: infer(model))


def infer(model: torch.nn.Module) -> dict[str, Tensor]:
    """Reads two texts aloud; `model` may be scripted."""
    tokens = torch.arange(80).reshape(2, 40) % 148
    with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
        torch.manual_seed(0)  # of the dropout in its prenet, which is on in inference
        warnings.filterwarnings("ignore", "Reached max decoder steps")
        mel, _, alignments = model.infer(tokens, torch.tensor([40, 30]))
    return {"mel": mel, "alignments": alignments}
