"""The cache of tokenised reviews, files written whole or not at all, and made-up reviews."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from imdb_fixtures import TINY, Spring, members_of, write_archive, write_tree

from fastrnn.imdb import cache, sources
from fastrnn.imdb.corpus import Corpus, load_corpus
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.files import replacing
from fastrnn.imdb.review_files import FOLDERS, ReviewFiles
from fastrnn.imdb.reviews import Tokenised
from fastrnn.imdb.sequences import pad_reviews
from fastrnn.imdb.sources import tokenise_files
from fastrnn.imdb.synthetic import synthetic_reviews, write_folders


def same(a: Corpus | Tokenised, b: Corpus | Tokenised) -> bool:
    return a.vocabulary == b.vocabulary and all(
        np.array_equal(getattr(x, field), getattr(y, field))
        for x, y in ((a.train, b.train), (a.test, b.test))
        for field in ("words", "offsets", "labels", "files")
    )


@pytest.fixture
def count_tokenising(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often reviews were tokenised since the test began."""
    calls: list[ReviewFiles] = []
    original = sources.tokenise_files

    def counting(files: ReviewFiles, tokens: str) -> Tokenised:
        calls.append(files)
        return original(files, tokens)

    monkeypatch.setattr(sources, "tokenise_files", counting)
    return lambda: len(calls)


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


# Cache


@pytest.mark.parametrize("form", ["folder", "archive"])
def test_reviews_are_tokenised_once(
    tmp_path: Path, count_tokenising: Callable[[], int], form: str
) -> None:
    data = (
        write_tree(tmp_path / "aclImdb") if form == "folder" else write_archive(tmp_path / "a.tar")
    )
    first = load_corpus(data, cache_dir=tmp_path / "cache")
    second = load_corpus(data, cache_dir=tmp_path / "cache")
    assert count_tokenising() == 1
    assert same(first, second)
    assert first.source == second.source


def test_changed_review_is_tokenised_anew(
    tmp_path: Path, count_tokenising: Callable[[], int]
) -> None:
    root = write_tree(tmp_path / "aclImdb")
    review = root / "train" / "pos" / "10_7.txt"
    load_corpus(root, cache_dir=tmp_path / "cache")
    review.write_bytes(b"a song")  # as long as before
    os.utime(review, ns=(0, 1))
    assert "song" in load_corpus(root, cache_dir=tmp_path / "cache").vocabulary
    assert count_tokenising() == 2


def test_moved_archive_is_recognised(tmp_path: Path, count_tokenising: Callable[[], int]) -> None:
    data = write_archive(tmp_path / "a.tar.gz")
    load_corpus(data, cache_dir=tmp_path / "cache")
    moved = load_corpus(data.rename(tmp_path / "b.tgz"), cache_dir=tmp_path / "cache")
    assert count_tokenising() == 1
    assert "b.tgz" in moved.source


def test_empty_vocabulary_and_reviews_are_kept(tmp_path: Path) -> None:
    files = {folder: {"0_0.txt": b"..."} for folder in FOLDERS}
    tokenised = tokenise_files(files)
    cache.store(tmp_path / "kept.npz", tokenised)
    kept = cache.load(tmp_path / "kept.npz")
    assert kept is not None
    assert same(kept, tokenised)
    assert kept.vocabulary == ()


def test_missing_cache_file(tmp_path: Path) -> None:
    assert cache.load(tmp_path / "none.npz") is None


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut short": lambda content: content[: len(content) // 2],
    "zeros inside": lambda content: content[:200] + bytes(200) + content[400:],
    "something else": lambda content: b"not an npz file",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_cache_file_is_made_anew(
    tmp_path: Path, count_tokenising: Callable[[], int], damage: str
) -> None:
    data, folder = write_archive(tmp_path / "a.tar.gz"), tmp_path / "cache"
    first = load_corpus(data, cache_dir=folder)
    whole = only_file(folder).read_bytes()
    only_file(folder).write_bytes(DAMAGE[damage](whole))
    assert same(load_corpus(data, cache_dir=folder), first)
    assert count_tokenising() == 2
    assert cache.load(only_file(folder)) is not None


def test_pickle_in_a_cache_file_is_not_opened(tmp_path: Path) -> None:
    path, mark = tmp_path / "tokens.npz", tmp_path / "sprung"
    np.savez(path, train_words=np.array([Spring(mark)], object))
    assert cache.load(path) is None
    assert not mark.exists()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_a_wrong_byte_never_gives_wrong_reviews(tmp_path: Path, place: float, value: int) -> None:
    path, tokenised = tmp_path / "kept.npz", tokenise_files(TINY)
    cache.store(path, tokenised)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] = value
    path.write_bytes(content)
    kept = cache.load(path)
    assert kept is None or same(kept, tokenised)


def test_folder_that_cannot_be_written_costs_a_warning(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in the way")
    with pytest.warns(UserWarning, match="cannot keep the tokenised reviews .* FASTRNN_CACHE"):
        corpus = load_corpus(write_archive(tmp_path / "a.tar"), cache_dir=tmp_path / "cache")
    assert len(corpus.train) == 4


def test_failed_reading_keeps_nothing(tmp_path: Path) -> None:
    members = members_of({"train/pos": TINY["train/pos"]})
    with pytest.raises(DataError):
        load_corpus(write_archive(tmp_path / "a.tar", members), cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


# Whole files


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, RuntimeError])
@pytest.mark.parametrize("before", [None, b"old"])
def test_interrupted_write_changes_nothing(
    tmp_path: Path, error: type[BaseException], before: bytes | None
) -> None:
    path = tmp_path / "file"
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(error), replacing(path) as file:
        file.write(b"half")
        file.flush()
        raise error
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == (
        {} if before is None else {"file": before}
    )


def test_interrupted_cache_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(file: object, **_: object) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_corpus(write_archive(tmp_path / "a.tar"), cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_readers_see_old_or_new_content_but_no_mixture(tmp_path: Path) -> None:
    path, contents = tmp_path / "file", [bytes([i]) * 10_000 for i in range(50)]
    path.write_bytes(contents[0])
    seen: list[bytes] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for content in contents:
        with replacing(path) as file:
            file.write(content[:5_000])
            file.flush()
            file.write(content[5_000:])
    done.set()
    reader.join()
    assert seen
    assert set(seen) <= set(contents)


# Made-up reviews


def test_synthetic_reviews_are_the_same_every_time() -> None:
    files = synthetic_reviews(train=6, test=4)
    assert files == synthetic_reviews(train=6, test=4)
    assert files != synthetic_reviews(train=6, test=4, seed=1)
    assert {folder: len(contents) for folder, contents in files.items()} == {
        "train/pos": 3,
        "train/neg": 3,
        "test/pos": 2,
        "test/neg": 2,
    }


@pytest.mark.parametrize("sizes", [(3, 2), (2, 0), (2, -2)])
def test_synthetic_sizes_are_checked(sizes: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=r"synthetic_reviews: \w+ must be even and at least 2"):
        synthetic_reviews(*sizes)


def test_synthetic_folders_load_like_real_ones(tmp_path: Path) -> None:
    files = synthetic_reviews(train=20, test=10)
    write_folders(files, tmp_path / "data" / "aclImdb")
    corpus = load_corpus(tmp_path / "data", cache_dir=tmp_path / "cache")
    assert (len(corpus.train), len(corpus.test)) == (20, 10)
    assert corpus.train.labels.sum() == 10
    assert not corpus.synthetic
    with pytest.raises(DataError, match="exists already"):
        write_folders(files, tmp_path / "data" / "aclImdb")


def test_interrupted_folders_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: Path, content: bytes) -> None:
        raise KeyboardInterrupt

    files = synthetic_reviews(train=2, test=2)
    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_folders(files, tmp_path / "aclImdb")
    assert list(tmp_path.iterdir()) == []


def test_small_network_learns_synthetic_reviews() -> None:
    tokenised = tokenise_files(synthetic_reviews(train=1000, test=1000))
    inputs, test_inputs = (
        torch.from_numpy(pad_reviews(reviews, num_words=500, maxlen=100))
        for reviews in (tokenised.train, tokenised.test)
    )
    labels = torch.from_numpy(tokenised.train.labels).float()
    torch.manual_seed(0)
    embedding, layer = torch.nn.Embedding(500, 16), torch.nn.RNN(16, 8, batch_first=True)
    head = torch.nn.Linear(8, 1)
    parameters = [p for part in (embedding, layer, head) for p in part.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=5e-3)

    def logits(numbers: torch.Tensor) -> torch.Tensor:
        return head(layer(embedding(numbers))[1][0])[:, 0]

    for _ in range(8):
        for batch in torch.randperm(len(labels)).split(32):
            optimizer.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(
                logits(inputs[batch]), labels[batch]
            ).backward()
            optimizer.step()
    with torch.no_grad():
        right = (logits(test_inputs) > 0).numpy() == tokenised.test.labels
    assert right.mean() > 0.75
