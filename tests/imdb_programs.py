"""The program `fastrnn-imdb` in a process of its own, for tests that interrupt or kill it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def program(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Starts the program, which heeds Ctrl-C; it is killed at the end if it still runs."""
    # A shell has what it starts in the background ignore Ctrl-C, and so would the program.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        [sys.executable, "-m", "fastrnn.imdb", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        signal.signal(signal.SIGINT, before)
        try:
            yield process
        finally:
            process.kill()


def wait_for(
    condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 300
) -> None:
    """Waits until `condition` holds; the process must run meanwhile."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
