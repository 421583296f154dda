"""Resemblyzer (Apache-2.0): a voice encoder whose wheel holds its trained weights."""

from __future__ import annotations

import numpy as np
import torch
from resemblyzer import VoiceEncoder, sampling_rate
from torch import Tensor

from benchmarks.clients import Program

SECONDS = 20


def make() -> Program:
    """Embeds noise; the program cuts it into pieces that overlap and runs them as one batch."""
    encoder = VoiceEncoder("cpu", verbose=False)
    sound = np.random.default_rng(0).normal(0, 0.1, SECONDS * sampling_rate).astype(np.float32)

    def run() -> dict[str, Tensor]:
        embedding, pieces, _ = encoder.embed_utterance(sound, return_partials=True)
        return {"embedding": torch.from_numpy(embedding), "pieces": torch.from_numpy(pieces)}

    return Program(encoder, run)
