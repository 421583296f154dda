"""Every form of the data: what is read, what is refused and with which words."""

from __future__ import annotations

import json
import os
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from imdb_fixtures import (
    TINY,
    TINY_TEST,
    TINY_TRAIN,
    TINY_VOCABULARY,
    Spring,
    members_of,
    regular,
    special,
    write_archive,
    write_npz,
    write_tree,
)

from fastrnn.imdb import archives, download, keras_file, review_files
from fastrnn.imdb.corpus import Corpus, Reviews, load_corpus
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.files import file_digest
from fastrnn.imdb.review_files import ReviewFiles
from fastrnn.imdb.sources import open_source, tokenise_files


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data but the test's own, and no network."""
    monkeypatch.setenv("FASTRNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FASTRNN_DATA", raising=False)
    monkeypatch.setattr(download, "URL", "http://127.0.0.1:9/aclImdb_v1.tar.gz")


def lists(reviews: Reviews) -> list[list[int]]:
    return [reviews[i].tolist() for i in range(len(reviews))]


def assert_tiny(corpus: Corpus) -> None:
    assert sorted(lists(corpus.train)) == sorted(TINY_TRAIN)
    assert sorted(lists(corpus.test)) == sorted(TINY_TEST)
    assert corpus.vocabulary == TINY_VOCABULARY
    assert not corpus.synthetic
    assert "4 training and 2 test reviews, not the full set of 25,000 each" in corpus.source


# Forms of the data


def test_reviews_are_read_in_keras_order() -> None:
    tokenised = tokenise_files(TINY)
    assert lists(tokenised.train) == TINY_TRAIN
    assert lists(tokenised.test) == TINY_TEST
    assert tokenised.train.labels.tolist() == [1, 1, 0, 0]
    assert tokenised.test.labels.tolist() == [1, 0]
    assert tokenised.vocabulary == TINY_VOCABULARY


def test_folder_or_the_folder_around_it(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "data" / "aclImdb")
    assert_tiny(load_corpus(root))
    assert_tiny(load_corpus(str(root.parent)))


def test_other_files_in_a_folder_are_passed_over(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "aclImdb")
    (root / "README").write_text("no review")
    (root / "train" / "pos" / ".DS_Store").write_bytes(b"\x00")
    assert_tiny(load_corpus(root))


@pytest.mark.parametrize(
    ("name", "packing"),
    [("a.tar", ""), ("a.tar.gz", "gz"), ("a.tgz", "gz"), ("a.tar.xz", "xz"), ("a.txz", "xz")],
)
def test_archives(tmp_path: Path, name: str, packing: str) -> None:
    assert_tiny(load_corpus(write_archive(tmp_path / name, packing=packing)))


def test_archive_unpacked_behind_its_name(tmp_path: Path) -> None:
    assert_tiny(load_corpus(write_archive(tmp_path / "a.tar.gz", packing="")))


def test_archive_with_dot_names_and_other_members(tmp_path: Path) -> None:
    others = [
        special("./aclImdb/train/pos", tarfile.DIRTYPE),
        regular("./aclImdb/README", b"read me"),
        regular("./aclImdb/train/unsup/0_0.txt", b"no label"),
        regular("./aclImdb/train/labeledBow.feat", b"9 0:9"),
    ]
    members = others + members_of(TINY, "./aclImdb/")
    assert_tiny(load_corpus(write_archive(tmp_path / "a.tar.gz", members)))


def test_home_is_expanded(tmp_path: Path) -> None:
    write_tree(tmp_path / "home" / "aclImdb")
    assert_tiny(load_corpus("~/aclImdb"))


def test_nothing_is_unpacked_to_disk(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "a.tar.gz")
    load_corpus(archive)
    (kept,) = (tmp_path / "cache").iterdir()
    assert kept.suffix == ".npz"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "cache"]


# Where the data is looked for


def test_order_of_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keras = tmp_path / "home" / ".keras" / "datasets" / "imdb.npz"
    keras.parent.mkdir(parents=True)
    publish_npz(write_npz(keras, [[1], [2]], [[1], [2]]), monkeypatch)
    assert "imdb.npz" in load_corpus().source
    monkeypatch.setenv("FASTRNN_DATA", str(write_tree(tmp_path / "variable" / "aclImdb")))
    assert "variable" in load_corpus().source
    argument = write_tree(tmp_path / "argument" / "aclImdb")
    assert "argument" in load_corpus(argument).source


def test_archive_in_the_cache_is_used_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "elsewhere"
    cache.mkdir()
    archive = write_archive(cache / "aclImdb_v1.tar.gz")
    monkeypatch.setattr(download, "MD5", file_digest(archive, "md5"))
    assert_tiny(load_corpus(cache_dir=cache, offline=True))


@pytest.mark.parametrize("offline", [True, False])
def test_synthetic_reviews_when_nothing_can_be_had(tmp_path: Path, offline: bool) -> None:
    corpus = load_corpus(offline=offline)
    assert corpus.synthetic
    assert len(corpus.train) == len(corpus.test) == 2000
    assert corpus.source.startswith("synthetic reviews, 2,000 training and 2,000 test, because")
    assert "say nothing about IMDB" in corpus.source
    assert "downloads are off" in corpus.source if offline else "ConnectionError" in corpus.source
    assert not list(tmp_path.rglob("*.tar.gz"))


@pytest.mark.parametrize("way", ["argument", "empty argument", "variable"])
def test_wrong_name_is_never_replaced_by_synthetic_reviews(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    wrong = str(tmp_path / "missing.tar.gz")
    monkeypatch.chdir(tmp_path)
    if way == "variable":
        monkeypatch.setenv("FASTRNN_DATA", wrong)
    with pytest.raises(DataError, match=r"no such file|neither train nor test"):
        load_corpus({"argument": wrong, "empty argument": "", "variable": None}[way])


def test_unknown_kind_of_file(tmp_path: Path) -> None:
    file = tmp_path / "reviews.csv"
    file.write_text("text,label\n")
    with pytest.raises(
        DataError, match=r"not a file of a known kind; wanted is the aclImdb folder"
    ):
        load_corpus(file)


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "aclImdb")
    (root / "train" / "pos" / "99_9.txt").symlink_to(tmp_path / "gone")
    with pytest.raises(DataError, match=r"cannot be read: .*99_9\.txt"):
        load_corpus(root)


# Download


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An archive on a web server of the test's own, in the place of the published one."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    folder = tmp_path / "web"
    folder.mkdir()
    archive = write_archive(folder / "aclImdb_v1.tar.gz")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(
            download, "URL", f"http://127.0.0.1:{server.server_port}/{archive.name}"
        )
        monkeypatch.setattr(download, "MD5", file_digest(archive, "md5"))
        yield archive
        server.shutdown()
        thread.join()


def test_download_happens_once(tmp_path: Path, served: Path) -> None:
    assert_tiny(load_corpus())
    served.unlink()
    assert_tiny(load_corpus())
    assert (tmp_path / "cache" / served.name).is_file()


def test_damaged_download_is_fetched_again(tmp_path: Path, served: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / served.name).write_bytes(b"half an arch")
    assert_tiny(load_corpus())


def test_download_with_another_checksum_is_not_used(
    tmp_path: Path, served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MD5", "0" * 32)
    corpus = load_corpus()
    assert corpus.synthetic
    assert "whose md5 is not" in corpus.source
    assert list((tmp_path / "cache").iterdir()) == []


# Folders that are refused


def without(files: ReviewFiles, folder: str) -> ReviewFiles:
    return {name: content for name, content in files.items() if name != folder}


def with_file(files: ReviewFiles, folder: str, name: str, content: bytes = b"x") -> ReviewFiles:
    return files | {folder: files[folder] | {name: content}}


REFUSED = {
    "missing folder": (without(TINY, "test/neg"), r"test/neg"),
    "empty folder": (TINY | {"train/pos": {}}, r"train/pos has no reviews"),
    "unequal counts": (
        with_file(TINY, "train/pos", "7_7.txt"),
        r"train must have as many positive as negative reviews, got 3 and 2",
    ),
    "same id twice": (
        with_file(TINY, "test/pos", "0_8.txt"),
        r"test/pos: 0_(10|8)\.txt and 0_(10|8)\.txt have the same id",
    ),
    "odd name": (
        with_file(TINY, "test/pos", "copy of 0_8.txt"),
        r"test/pos: a review must be named ID_RATING\.txt, got 'copy of 0_8\.txt'",
    ),
    "not UTF-8": (
        TINY | {"test/neg": {"1_4.txt": b"caf\xe9"}},
        r"test/neg/1_4\.txt: must be UTF-8 text: .* position 3",
    ),
}


@pytest.mark.parametrize("form", ["folder", "archive"])
@pytest.mark.parametrize("case", REFUSED)
def test_incomplete_sets_are_refused(tmp_path: Path, form: str, case: str) -> None:
    files, message = REFUSED[case]
    if form == "folder":
        data = write_tree(tmp_path / "aclImdb", files)
    else:
        data = write_archive(tmp_path / "a.tar.gz", members_of(files))
    with pytest.raises(DataError, match=message):
        load_corpus(data)
    assert not (tmp_path / "cache").exists()


def test_altered_full_set_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {split: total_bytes(split) for split in ("train", "test")}
    monkeypatch.setattr(review_files, "FULL_SPLIT", 4)
    monkeypatch.setattr(review_files, "FULL_SPLIT_BYTES", sizes)
    load_corpus(write_archive(tmp_path / "whole.tar.gz"))
    altered = with_file(TINY, "train/pos", "10_7.txt", b"a film!")
    data = write_archive(tmp_path / "altered.tar.gz", members_of(altered))
    size = sizes["train"]
    with pytest.raises(DataError, match=f"train must have {size} bytes in all, got {size + 1}"):
        load_corpus(data)


def total_bytes(split: str) -> int:
    return sum(len(text) for name in ("pos", "neg") for text in TINY[f"{split}/{name}"].values())


def test_huge_review_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_REVIEW_BYTES", 20)
    monkeypatch.setattr(review_files, "MAX_REVIEW_BYTES", 20)
    with pytest.raises(DataError, match=r"2_9\.txt.*at most 20 bytes, got 31"):
        load_corpus(write_tree(tmp_path / "aclImdb"))
    with pytest.raises(DataError, match=r"2_9\.txt.*at most 20 bytes, got 31"):
        load_corpus(write_archive(tmp_path / "a.tar.gz"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipe_in_a_folder_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "aclImdb")
    os.mkfifo(root / "train" / "pos" / "99_9.txt")
    with pytest.raises(DataError, match=r"99_9\.txt: a review must be a file"):
        load_corpus(root)


# Keras' file


def publish_npz(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the program take this file for the published one."""
    monkeypatch.setattr(keras_file, "NPZ_SHA256", file_digest(path))
    return path


def publish_words(path: Path, ranks: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text(json.dumps(ranks), encoding="utf-8")
    monkeypatch.setattr(keras_file, "WORD_INDEX_MD5", file_digest(path, "md5"))


def test_npz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npz = write_npz(tmp_path / "imdb.npz", [[3, 1], [7], [2, 2], [88584]], [[5], []])
    tokenised = open_source(publish_npz(npz, monkeypatch)).read("keras")
    assert lists(tokenised.train) == [[3, 1], [7], [2, 2], [88584]]
    assert tokenised.train.labels.tolist() == [1, 1, 0, 0]
    assert lists(tokenised.test) == [[5], []]
    assert tokenised.vocabulary == ()


def test_npz_with_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npz = publish_npz(write_npz(tmp_path / "imdb.npz", [[1], [2]], [[1], [2]]), monkeypatch)
    assert load_corpus(npz).vocabulary == ()
    publish_words(tmp_path / "imdb_word_index.json", {"and": 2, "the": 1}, monkeypatch)
    assert load_corpus(npz).vocabulary == ("the", "and")
    (tmp_path / "imdb_word_index.json").write_text("{}")
    with pytest.raises(DataError, match=r"imdb_word_index\.json: must be .* md5 .* or remove it"):
        load_corpus(npz)


def test_unknown_npz_is_refused_before_anything_is_unpickled(tmp_path: Path) -> None:
    npz, mark = tmp_path / "imdb.npz", tmp_path / "sprung"
    np.savez(npz, x_train=np.array([Spring(mark)], object))
    with pytest.raises(DataError, match=rf"sha256 {keras_file.NPZ_SHA256}, got {file_digest(npz)}"):
        load_corpus(npz)
    assert not mark.exists()
    with np.load(npz, allow_pickle=True) as arrays:
        arrays["x_train"]
    assert mark.exists(), "the trap itself must work, or this test shows nothing"
