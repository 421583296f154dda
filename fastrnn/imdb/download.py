"""The published archive of the data set, fetched once and verified."""

from __future__ import annotations

import os
from pathlib import Path

import pooch

from fastrnn.imdb.errors import DataError
from fastrnn.imdb.files import file_digest

URL = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
MD5 = "7c2ac02c03563afcf9b574c7e56c153a"  # the only checksum that is widely published
TIMEOUT_S = 20


def cache_folder() -> Path:
    """Where downloads and tokenised reviews are kept: $FASTRNN_CACHE or the platform's place."""
    return Path(os.environ.get("FASTRNN_CACHE") or pooch.os_cache("fastrnn")).expanduser()


def published_archive(folder: Path, *, offline: bool) -> Path:
    """The published archive in ``folder``, downloaded (84 MB) unless it is there already.

    Raises:
        DataError: It is not there and cannot be had; nothing is left behind.
    """
    path = folder / Path(URL).name
    if path.is_file() and file_digest(path, "md5") == MD5:
        return path
    if offline:
        raise DataError(f"no copy of the data set in {folder}, and downloads are off")
    downloader = pooch.HTTPDownloader(timeout=TIMEOUT_S)
    try:
        pooch.retrieve(URL, f"md5:{MD5}", path.name, folder, downloader=downloader)
    # Requests' errors are OSErrors. In both cases pooch has removed what it got.
    except OSError as error:
        raise DataError(
            f"{URL} could not be downloaded ({error.strerror or type(error).__name__})"
        ) from error
    except ValueError as error:
        raise DataError(f"{URL} gave a file whose md5 is not {MD5}") from error
    return path
