"""denoiser (CC BY-NC 4.0): speech enhancement of a stream, one call of its LSTM per frame."""

from __future__ import annotations

import torch
from denoiser.demucs import Demucs, DemucsStreamer
from torch import Tensor

from benchmarks.clients import Program

SECONDS = 0.25


def make() -> Program:
    """The streamer on the causal model dns48, its default, with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Demucs(hidden=48, causal=True).eval()
        sound = torch.randn(1, int(SECONDS * model.sample_rate))

    def run() -> dict[str, Tensor]:
        streamer = DemucsStreamer(model)
        with torch.no_grad():
            heard = torch.cat([streamer.feed(sound), streamer.flush()], dim=1)
        h_n, c_n = streamer.lstm_state
        return {"sound": heard, "h_n": h_n, "c_n": c_n}

    return Program(model, run)
