"""The one error that the sentiment program raises for mistakes its user can mend."""

from __future__ import annotations


class DataError(ValueError):
    """Data or a setting that cannot be used; the message says what, where and how to mend it.

    The command line prints the message without a traceback and exits with code 2.
    """
