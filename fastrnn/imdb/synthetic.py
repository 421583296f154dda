"""Made-up reviews for runs without the real data, and for tests."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from fastrnn.imdb.errors import DataError
from fastrnn.imdb.review_files import CLASSES, FOLDERS, ReviewFiles

POSITIVE = (
    "brilliant charming clever delightful enjoyable excellent fresh funny gripping heartfelt "
    "loved moving perfect stunning superb touching warm witty wonderful worthwhile"
).split()
NEGATIVE = (
    "annoying awful bland boring clumsy disappointing dreadful dull empty feeble hated lazy "
    "painful pointless ridiculous stupid terrible tedious ugly weak"
).split()
OPINIONS = {1: POSITIVE, 0: NEGATIVE}
OPINION_SHARE = 0.25  # of all words; the rest are fillers
AGREEMENT = 0.9  # share of a review's opinions that agree with its label
FILLERS = 3_000
WORDS_PER_REVIEW = (40, 320)
RATINGS = {1: (7, 11), 0: (1, 5)}  # label: half-open range, as in the real file names


def synthetic_reviews(train: int = 2000, test: int = 2000, seed: int = 0) -> ReviewFiles:
    """Make up reviews: opinions that mostly agree with the label among invented filler words.

    The same arguments give the same reviews.

    Args:
        train: Number of training reviews, even; half are positive.
        test: Number of test reviews, even.
        seed: Seed of the generator.

    Raises:
        DataError: A size is odd or less than 2.

    Example:
        >>> sorted(synthetic_reviews(train=2, test=4)["test/pos"])
        ['0_8.txt', '1_9.txt']
    """
    sizes = {"train": train, "test": test}
    for split, size in sizes.items():
        if size < 2 or size % 2:
            raise DataError(f"synthetic_reviews: {split} must be even and at least 2, got {size}")
    rng = np.random.RandomState(seed)  # its stream is fixed for ever, unlike default_rng's
    fillers = _invented_words(rng)
    files: ReviewFiles = {folder: {} for folder in FOLDERS}
    for split, size in sizes.items():
        for name, label in CLASSES.items():
            for number in range(size // 2):
                file = f"{number}_{rng.randint(*RATINGS[label])}.txt"
                files[f"{split}/{name}"][file] = _review(rng, label, fillers).encode()
    return files


def write_folders(files: ReviewFiles, root: Path) -> None:
    """Write reviews as a new folder tree in the layout of the aclImdb data set.

    Raises:
        DataError: ``root`` exists already.
    """
    if root.exists():
        raise DataError(f"{root}: exists already; give a new folder")
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{root.name}.") as temporary:
        made = Path(temporary) / root.name
        for folder, contents in files.items():
            (made / folder).mkdir(parents=True)
            for name, content in contents.items():
                (made / folder / name).write_bytes(content)
        made.rename(root)


def _invented_words(rng: np.random.RandomState) -> list[str]:
    """Distinct words of two to four syllables."""
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    words: dict[str, None] = {}
    while len(words) < FILLERS:
        words["".join(rng.choice(syllables, rng.randint(2, 5)))] = None
    return list(words)


def _review(rng: np.random.RandomState, label: int, fillers: list[str]) -> str:
    length = rng.randint(*WORDS_PER_REVIEW)
    # Zipf's law: the word of rank r is drawn in proportion to 1 / r.
    ranks = (FILLERS ** rng.random_sample(length)).astype(int) - 1
    words = [fillers[rank] for rank in ranks]
    for place in np.flatnonzero(rng.random_sample(length) < OPINION_SHARE):
        opinions = OPINIONS[label if rng.random_sample() < AGREEMENT else 1 - label]
        words[place] = opinions[rng.randint(len(opinions))]
    return _punctuated(words)


def _punctuated(words: list[str]) -> str:
    """Sentences of nine words, two to a paragraph, marked up as the real reviews are."""
    sentences = [" ".join(words[i : i + 9]).capitalize() + "." for i in range(0, len(words), 9)]
    return "<br /><br />".join(" ".join(sentences[i : i + 2]) for i in range(0, len(sentences), 2))
