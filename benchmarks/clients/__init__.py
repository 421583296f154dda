"""Programs of others with recurrent layers, unchanged, before and after `fastrnn.accelerate`.

Nothing of them is copied here. They are installed from `requirements.txt`, where each has an exact
version, and none is imported before it is asked for.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from torch import Tensor, nn

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
INSTALL = "python -m pip install --no-deps -r benchmarks/clients/requirements.txt"


class Missing(Exception):
    """Why a client cannot run here, in one sentence."""


@dataclass(frozen=True)
class Program:
    """One program, ready to run."""

    model: nn.Module
    """What `accelerate` takes."""
    run: Callable[[], dict[str, Tensor]]
    """The whole program, from the same state and seed each time; gives what it computed."""


@dataclass(frozen=True)
class Client:
    """A program of somebody else, known by name."""

    module: str
    """The file here that prepares it, with a function `make` that returns a `Program`."""
    packages: tuple[str, ...]
    """What that file imports, by names of `requirements.txt`; the first is the client's own."""
    does: str
    """What a reader must know of the work."""

    def make(self) -> Program:
        """Prepares the program.

        Raises:
            Missing: a package is not installed, or in another version than the pinned one.
        """
        require(self.packages)
        made: Program = importlib.import_module(f"{__name__}.{self.module}").make()
        return made


CLIENTS = {
    "Resemblyzer": Client(
        "resemblyzer",
        ("resemblyzer", "webrtcvad-wheels", "librosa"),
        "voice embedding of 20 s of sound, trained weights: LSTM(40, 256, 3 layers), B=25, T=160",
    ),
    "denoiser": Client(
        "denoiser",
        ("denoiser",),
        "dns48 on a stream of 0.25 s: LSTM(768, 768, 2 layers), B=1, T=1 with kept states",
    ),
    "Tacotron2": Client(
        "tacotron2",
        ("torchaudio",),
        "30 frames of 2 texts: LSTMCell of 1024 units twice a frame, bidirectional LSTM on packed "
        "texts",
    ),
    "RecurrentPPO": Client(
        "recurrent_ppo",
        ("sb3-contrib", "stable-baselines3", "gymnasium"),
        "plays and trains: LSTM(4, 256) in actor and critic, T=1, 8 games",
    ),
    "pytorch-forecasting": Client(
        "forecasting",
        ("pytorch-forecasting",),
        "trains encoder and decoder, subclasses of LSTM and GRU, on packed rows, some of length 0",
    ),
}


def pins() -> dict[str, str]:
    """Version of each distribution in `requirements.txt`."""
    lines = (line.partition("#")[0].strip() for line in REQUIREMENTS.read_text().splitlines())
    return dict(line.split("==") for line in lines if line)


def require(packages: tuple[str, ...]) -> None:
    """Asks for the pinned versions of some distributions.

    Raises:
        Missing: one is not installed, or in another version.
    """
    pinned = pins()
    for name in packages:
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            raise Missing(f"{name} is not installed: {INSTALL}") from None
        if found != pinned[name]:
            raise Missing(f"{name} {found} is installed, wanted {pinned[name]}: {INSTALL}")


def load_file(package: str, *path: str) -> ModuleType:
    """Imports one file of an installed package, without the package.

    For packages that import far more than the file needs, or that do not load on this torch.
    """
    package_spec = importlib.util.find_spec(package)
    assert package_spec and package_spec.submodule_search_locations, package
    file = Path(package_spec.submodule_search_locations[0], *path)
    spec = importlib.util.spec_from_file_location(f"{package}_{file.stem}", file)
    assert spec and spec.loader, file
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
