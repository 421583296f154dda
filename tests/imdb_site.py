"""The web server of the sentiment program in a thread, for tests that talk to it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastrnn.imdb import server


@contextmanager
def serving(reader: Any) -> Iterator[str]:
    """Serves a reader on a free port of loopback; yields the address."""
    with server.listen("127.0.0.1", 0) as listener:
        app = server.make_app(reader, "About the model.", server.allowed_hosts("127.0.0.1"))
        made = server.make_server(app)
        thread = threading.Thread(target=made.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield server.address(listener)
        finally:
            made.should_exit = True
            thread.join()
