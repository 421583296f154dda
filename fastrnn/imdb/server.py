"""The web server of `fastrnn-imdb serve`: one page for people, one address for programs."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import parse_qs

import anyio.to_thread
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastrnn.imdb.errors import DataError
from fastrnn.imdb.page import Page
from fastrnn.imdb.reader import Explanation, Reader

API = "/api/explain"
FORM, JSON = "application/x-www-form-urlencoded", "application/json"
MAX_CHARACTERS = 20_000  # the longest published review has 14 thousand
MAX_BODY = 16 * MAX_CHARACTERS  # a character takes up to twelve bytes in a form or in JSON
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
WILDCARDS = ("", "0.0.0.0", "::")


class Site:
    """Answers requests with what a model makes of the text in them.

    Args:
        reader: The model.
        about: A sentence about the model, for the page.
    """

    def __init__(self, reader: Reader, about: str) -> None:
        """Prepares the page."""
        self.page = Page(about, MAX_CHARACTERS)
        self._reader = reader
        # One call at a time: torch's threads have the cores already.
        self._turn = anyio.CapacityLimiter(1)

    async def show(self, request: Request) -> Response:
        """The page, with the result if a form with a text was sent."""
        if request.method != "POST":
            return HTMLResponse(self.page.render())
        _check_type(request, FORM)
        text = _text_of_form(await _body(request))
        return HTMLResponse(self.page.render(text, await self._explain(text)))

    async def api(self, request: Request) -> Response:
        """The result for {"text": …}, as `fastrnn-imdb explain --json` prints it."""
        _check_type(request, JSON)
        explanation = await self._explain(_text_of_json(await _body(request)))
        return JSONResponse(explanation.to_dict())

    async def refuse(self, request: Request, error: Exception) -> Response:
        """What was wrong with a request, in the form in which the answer would have been."""
        assert isinstance(error, HTTPException)
        status, headers = error.status_code, error.headers
        if request.url.path == API:
            return JSONResponse({"error": error.detail}, status, headers)
        return HTMLResponse(self.page.render(error=error.detail), status, headers)

    async def _explain(self, text: str) -> Explanation:
        if len(text) > MAX_CHARACTERS:
            raise HTTPException(
                413, f"a review may have {MAX_CHARACTERS:,} characters, this has {len(text):,}"
            )
        return await anyio.to_thread.run_sync(self._reader.explain, text, limiter=self._turn)


class Headers:
    """Adds headers to each answer that keep a page to what it brings.

    Args:
        app: What gives the answers.
        policy: The Content-Security-Policy.
    """

    def __init__(self, app: ASGIApp, policy: str) -> None:
        """Keeps the headers."""
        self._app = app
        self._headers = {
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""

        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        await self._app(scope, receive, send_more)


def make_app(reader: Reader, about: str, hosts: Sequence[str]) -> Starlette:
    """Returns the web application.

    Args:
        reader: The model.
        about: A sentence about the model, for the page.
        hosts: Names under which it may be asked for, or "*". A foreign page that has its own name
            lead to this machine is refused by them.
    """
    site = Site(reader, about)
    return Starlette(
        routes=[
            Route("/", site.show, methods=["GET", "POST"]),
            Route(API, site.api, methods=["POST"]),
        ],
        middleware=[
            Middleware(Headers, policy=site.page.policy),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
        ],
        exception_handlers={HTTPException: site.refuse},
    )


def allowed_hosts(host: str) -> list[str]:
    """Returns the names under which a server that listens on `host` may be asked for.

    Example:
        >>> allowed_hosts("192.168.0.5")
        ['localhost', '127.0.0.1', '[::1]', '192.168.0.5']
    """
    if host in WILDCARDS:
        return ["*"]
    return [*LOOPBACK, f"[{host}]" if ":" in host else host]


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens; port 0 takes a free one.

    Raises:
        DataError: The address is not to be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        raise DataError(
            f"--host {host} --port {port}: cannot listen there: {error}; --port 0 takes a free port"
        ) from error


def address(listener: socket.socket) -> str:
    """Returns the address of a listening socket, for a browser on this machine.

    Example:
        >>> with listen("127.0.0.1", 0) as listener:
        ...     address(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}/"
        True
    """
    host, port = listener.getsockname()[:2]
    if host in WILDCARDS:
        host = "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def make_server(app: Starlette) -> uvicorn.Server:
    """Returns the server; told to stop, it gives answers under way two seconds."""
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=64,
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)


def run(app: Starlette, listener: socket.socket) -> None:
    """Serves on a listening socket until Ctrl-C."""
    # The signal is raised again after a clean end.
    with suppress(KeyboardInterrupt):
        make_server(app).run(sockets=[listener])


def _check_type(request: Request, wanted: str) -> None:
    found = request.headers.get("content-type", "nothing")
    if found.partition(";")[0].strip().lower() != wanted:
        raise HTTPException(415, f"the body must be of type {wanted}, got {found}")


async def _body(request: Request) -> bytes:
    """The body of a request; one that is too long is not read to its end."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise HTTPException(413, f"a request may have {MAX_BODY:,} bytes, this has more")
    return bytes(body)


def _text_of_form(body: bytes) -> str:
    try:
        fields = parse_qs(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(body),
            errors="strict",
            max_num_fields=8,
        )
        (text,) = fields["text"]
    except (ValueError, KeyError):
        raise HTTPException(400, "the form must have one field, text, in UTF-8") from None
    return text


def _text_of_json(body: bytes) -> str:
    try:
        value = json.loads(body)
        text = value["text"] if isinstance(value, dict) and set(value) == {"text"} else None
        if isinstance(text, str):
            text.encode()  # half of a surrogate pair is no text
            return text
    except (ValueError, RecursionError):
        pass
    raise HTTPException(400, 'the body must be JSON of the form {"text": "a review"}')
