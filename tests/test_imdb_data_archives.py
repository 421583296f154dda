"""Archives that are hostile, damaged or too large: refused with the reason, nothing left behind."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from imdb_fixtures import TINY, members_of, regular, special, write_archive

from fastrnn.imdb import archives, review_files
from fastrnn.imdb.archives import read_archive
from fastrnn.imdb.errors import DataError

HOSTILE = {
    "path upwards": (regular("aclImdb/../../evil.txt"), "leads out of the archive"),
    "absolute path": (regular("/etc/passwd"), "leads out of the archive"),
    "symbolic link": (
        special("aclImdb/train/pos/99_9.txt", tarfile.SYMTYPE, "/etc/passwd"),
        "no links or devices",
    ),
    "hard link": (
        special("aclImdb/train/pos/99_9.txt", tarfile.LNKTYPE, "aclImdb/train/pos/2_9.txt"),
        "no links or devices",
    ),
    "device": (special("aclImdb/train/pos/99_9.txt", tarfile.CHRTYPE), "no links or devices"),
    "pipe": (special("aclImdb/train/pos/99_9.txt", tarfile.FIFOTYPE), "no links or devices"),
    "sparse file": (
        special("aclImdb/train/pos/99_9.txt", tarfile.GNUTYPE_SPARSE),
        "no links or devices",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_members_are_refused(tmp_path: Path, case: str) -> None:
    member, reason = HOSTILE[case]
    data = write_archive(tmp_path / "a.tar.gz", [*members_of(TINY), member])
    with pytest.raises(DataError, match=rf"member '.*' refused: .*{reason}"):
        read_archive(data)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


def test_member_that_appears_twice_is_refused(tmp_path: Path) -> None:
    data = write_archive(tmp_path / "a.tar.gz", members_of(TINY) + members_of(TINY)[:1])
    with pytest.raises(DataError, match=r"train/pos/2_9\.txt is in the archive twice"):
        read_archive(data)


@pytest.mark.parametrize("member", ["aclImdb/imdb.vocab", "aclImdb/train/unsup/0_0.txt"])
def test_archive_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: str
) -> None:
    monkeypatch.setattr(archives, "MAX_UNPACKED_BYTES", 100_000)
    data = write_archive(tmp_path / "a.tar.gz", [*members_of(TINY), regular(member, bytes(10**6))])
    assert data.stat().st_size < 10_000
    with pytest.raises(DataError, match="must unpack to at most 100,000 bytes"):
        read_archive(data)


@pytest.mark.parametrize("packing", ["gz", "xz"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.99])
def test_truncated_archive_is_refused(tmp_path: Path, packing: str, kept: float) -> None:
    whole = write_archive(tmp_path / "whole", packing=packing).read_bytes()
    data = tmp_path / f"a.tar.{packing}"
    data.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(DataError, match=r"a\.tar\.\w+: the archive is cut short or damaged"):
        read_archive(data)


def test_wrong_checksum_at_the_end_of_the_stream_is_noticed(tmp_path: Path) -> None:
    data = write_archive(tmp_path / "a.tar.gz")
    content = bytearray(data.read_bytes())
    content[-8] ^= 1  # the first byte of gzip's CRC
    data.write_bytes(content)
    with pytest.raises(DataError, match="cut short or damaged"):
        read_archive(data)


def test_web_page_in_the_place_of_an_archive(tmp_path: Path) -> None:
    data = tmp_path / "aclImdb_v1.tar.gz"
    data.write_text("<html>404</html>")
    with pytest.raises(DataError, match="fetch it again"):
        read_archive(data)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), packing=st.sampled_from(["", "gz", "xz"]))
def test_random_damage_gives_a_data_error_or_does_no_harm(
    tmp_path: Path, data: st.DataObject, packing: str
) -> None:
    archive = write_archive(tmp_path / "a.tar", packing=packing)
    content = bytearray(archive.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    archive.write_bytes(content)
    try:
        files = read_archive(archive)
    except DataError:
        return
    if packing:  # both packings carry checksums
        assert files == TINY
    else:
        review_files.check(files, "")
