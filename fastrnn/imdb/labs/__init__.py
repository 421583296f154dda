"""The experiments of the lab sheet, each with a question, small data and a plain answer."""

from __future__ import annotations

from fastrnn.imdb.errors import DataError
from fastrnn.imdb.labs import numbers, sentences
from fastrnn.imdb.labs.base import Lab

ORDER = (
    "regression",
    "four-sentences",
    "hidden-size",
    "layers",
    "activation",
    "loss",
    "optimizers",
    "loss-functions",
    "train-validation",
)
_FOUND = {**sentences.LABS, **numbers.LABS}
LABS: dict[str, Lab] = {name: _FOUND[name] for name in ORDER}


def find_lab(name: str) -> Lab:
    """Returns a lab by its name.

    Raises:
        DataError: there is none of that name.
    """
    if name not in LABS:
        raise DataError(f"there is no lab {name!r}; there are {', '.join(LABS)}, or 'list'")
    return LABS[name]
