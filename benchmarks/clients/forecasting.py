"""pytorch-forecasting's LSTM and GRU (MIT), subclasses of torch's that take rows of length zero.

Their one file is loaded by path: the package imports a training framework that they do not need.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from benchmarks.clients import Program, load_file

FEATURES, UNITS = 16, 64
BATCH, PAST, FUTURE = 64, 60, 20
STEPS = 4


def make() -> Program:
    """Encoders and decoders in the package's way: states of the past start the future."""
    rnn = load_file("pytorch_forecasting", "models", "nn", "rnn.py")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.ModuleDict(
            {
                f"{role}_{kind}": rnn.get_rnn(kind)(FEATURES, UNITS, 2, batch_first=True)
                for kind in ("LSTM", "GRU")
                for role in ("encoder", "decoder")
            }
        )
        past = torch.randn(BATCH, PAST, FEATURES)
        future = torch.randn(BATCH, FUTURE, FEATURES)
        lengths = torch.randint(PAST + 1, (BATCH,))
        lengths[::8] = 0  # series that begin with what is to be forecast
        lengths[0] = PAST
        wanted = torch.randn(BATCH, FUTURE, UNITS)
    first = deepcopy(model.state_dict())

    def forecast(kind: str) -> Tensor:
        encoder, decoder = model[f"encoder_{kind}"], model[f"decoder_{kind}"]
        _, state = encoder(past, lengths=lengths, enforce_sorted=False)
        output, _ = decoder(future, state, lengths=torch.full((BATCH,), FUTURE))
        return output

    def run() -> dict[str, Tensor]:
        model.load_state_dict(first)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        losses = []
        for _ in range(STEPS):
            optimizer.zero_grad()
            outputs = [forecast(kind) for kind in ("LSTM", "GRU")]
            loss = sum(nn.functional.mse_loss(output, wanted) for output in outputs)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return {"losses": torch.stack(losses), "output": torch.stack(outputs).detach()}

    return Program(model, run)
