"""Tokenised reviews kept between runs: reading 50,000 files takes seconds, this a fraction."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from fastrnn.imdb.files import replacing
from fastrnn.imdb.reviews import Reviews, Tokenised

FORMAT = 2  # raise it when tokens.py, the order of reviews or this file's fields change


_FIELDS = ("words", "offsets", "labels", "files")


def cache_file(folder: Path, fingerprint: str, tokens: str) -> Path:
    """Where the reviews of the source with this fingerprint, cut by these rules, are kept."""
    return folder / f"tokens-{FORMAT}-{tokens}-{fingerprint[:32]}.npz"


def load(path: Path) -> Tokenised | None:
    """The tokenised reviews in a file; None when the file is missing or unusable."""
    try:
        # Opened here: given a name, np.load leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            train, test = (
                Reviews(*(arrays.get(f"{split}_{field}") for field in _FIELDS))
                for split in ("train", "test")
            )
            text = arrays["vocabulary"].tobytes().decode("utf-8")
    except Exception:  # whatever ails the file, its source is at hand to make it anew
        return None
    return Tokenised(train, test, tuple(text.split("\n")) if text else ())


def store(path: Path, tokenised: Tokenised) -> None:
    """Keep tokenised reviews in a file; a folder that cannot be written costs a warning."""
    # Words hold no newline: the tokeniser cuts there.
    text = "\n".join(tokenised.vocabulary).encode("utf-8")
    arrays: dict[str, Any] = {"vocabulary": np.frombuffer(text, np.uint8)}
    for split, reviews in (("train", tokenised.train), ("test", tokenised.test)):
        for field in _FIELDS:
            if (values := getattr(reviews, field)) is not None:
                arrays[f"{split}_{field}"] = values
    try:
        with replacing(path) as file:
            np.savez(file, **arrays)
    except OSError as error:
        warnings.warn(
            f"{path}: cannot keep the tokenised reviews ({error}); every run will tokenise them "
            "again. Set FASTRNN_CACHE to a folder that can be written",
            stacklevel=2,
        )
