"""The optional packages behind parts of the program, and what to say where they are missing."""

from __future__ import annotations

from importlib.util import find_spec

from fastrnn.imdb.errors import DataError

# What each extra of pyproject.toml installs, by the names that are imported.
EXTRAS = {
    "imdb": ("typer", "rich", "matplotlib", "sklearn", "scipy", "pooch", "jinja2"),
    "tensorboard": ("tensorboard",),
    "serve": ("starlette", "uvicorn", "jinja2"),
}


def require(extra: str, what: str) -> None:
    """Checks that an extra is installed; `what` needs it.

    Raises:
        DataError: a package is missing; the message says how to install it.
    """
    missing = [name for name in EXTRAS[extra] if find_spec(name) is None]
    if missing:
        raise DataError(f"{what} needs {', '.join(missing)}: pip install 'fastrnn[{extra}]'")
