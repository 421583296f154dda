"""The web server: what it answers, what it refuses, and how it ends."""

from __future__ import annotations

import doctest
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from urllib.parse import quote_plus, urlsplit

import pytest
import torch
from imdb_site import serving
from imdb_training import write_checkpoint

from fastrnn.imdb import cli, extras, server
from fastrnn.imdb.checkpoint import load_model
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.reader import Explanation, Reader

FORM = {"Content-Type": server.FORM}
JSON = {"Content-Type": server.JSON}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("trained") / "best.pt")


@pytest.fixture(scope="module")
def reader(checkpoint):
    return Reader(load_model(checkpoint), torch.device("cpu"))


@pytest.fixture(scope="module")
def site(reader):
    with serving(reader) as address:
        yield address


def ask(site, path="/", body=None, headers=None, method=None):
    """Returns status, headers and text of an answer."""
    connection = http.client.HTTPConnection(urlsplit(site).netloc, timeout=30)
    try:
        method = method or ("GET" if body is None else "POST")
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


def ask_form(site, text):
    return ask(site, body=f"text={quote_plus(text)}", headers=FORM)


def ask_json(site, value):
    body = value if isinstance(value, bytes) else json.dumps(value)
    status, _, answer = ask(site, server.API, body, JSON)
    return status, json.loads(answer)


def words_of(page):
    """Returns the words that a page shows, as a browser would read them."""
    part = page.split('<p id="words">', 1)[1].split("</p>", 1)[0]
    return [unescape(word) for word in re.findall(r">([^<]+)</(?:span|del)>", part)]


def test_examples_in_the_docstrings():
    assert doctest.testmod(server).attempted > 0
    assert doctest.testmod(server).failed == 0


def test_the_page_is_whole_and_asks_nobody(site):
    status, headers, page = ask(site)
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert "About the model." in page
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert "http" not in page
    assert "style=" not in page


def test_headers_of_every_answer(site):
    answers = [
        ask(site),
        ask(site, "/nowhere"),
        ask(site, server.API, "{", JSON),
        ask(site, headers={"Host": "evil.example"}),
    ]
    assert [status for status, _, _ in answers] == [200, 404, 400, 400]
    for _, headers, _ in answers:
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        assert "Server" not in headers


def test_json_is_what_the_command_prints(site, checkpoint, capsys):
    text = "A superb film, then awful"
    assert cli.run(["explain", str(checkpoint), text, "--json"]) == 0
    assert ask_json(site, {"text": text}) == (200, json.loads(capsys.readouterr().out))


def test_a_form_works_without_a_script(site, reader):
    text = "A superb film, then awful"
    status, _, page = ask_form(site, text)
    prediction = reader.explain(text).prediction
    assert status == 200
    assert words_of(page) == ["a", "superb", "film", "then", "awful"]
    assert f"<strong>{prediction.label}</strong>" in page
    assert f"{100 * prediction.probability:.1f} % positive" in page
    assert f"{text}</textarea>" in page


@pytest.mark.parametrize(
    "text",
    [
        "",
        " .,!",
        "caf\u00e9 \u96fb\u5f71 \U0001f600 \u202e \u0130stanbul",
        "a\x00b \x1b[31m \x85 \r\n c",
        "w" * 19_000,
        "film " * 3_900,
        "+ & = % ; text=2",
    ],
    ids=["empty", "separators", "unicode", "controls", "long-word", "long", "form"],
)
def test_odd_texts(site, reader, text):
    wanted = [step.word for step in reader.explain(text).steps]
    status, answer = ask_json(site, {"text": text})
    assert (status, [step["word"] for step in answer["steps"]]) == (200, wanted)
    status, _, page = ask_form(site, text)
    assert status == 200
    assert len(words_of(page)) == len(wanted)


def test_markup_in_a_text_stays_text(site):
    # No letter of these separates words, and so all arrive in the page.
    text = "</textarea><script>alert(1)</script> '\"><img src=x onerror=alert(1)> it's&amp; {{ 7 }}"
    _, _, page = ask_form(site, text)
    assert page.count("<script>") == 1
    assert page.count("</textarea>") == 1
    assert "<img" not in page
    assert "onerror=alert" in page  # harmless in the text area
    assert "{{ 7 }}" in page
    shown = unescape(page.split("<textarea", 1)[1].split(">", 1)[1].split("</textarea>")[0])
    assert shown.strip() == text
    _, _, page = ask(site, body="text=x", headers={"Content-Type": "<b>bold</b>"})
    assert "<b>" not in page


def test_words_are_escaped_too(reader, monkeypatch):
    with serving(reader) as site:
        monkeypatch.setattr(reader.encoder, "words", str.split)
        text = "<b>bold</b> \"&'"
        _, _, page = ask_form(site, text)
        assert words_of(page) == text.split()
        assert "<b>" not in page


def test_too_long(site):
    text = "a" * (server.MAX_CHARACTERS + 1)
    status, answer = ask_json(site, {"text": text})
    assert (status, answer["error"]) == (
        413,
        "a review may have 20,000 characters, this has 20,001",
    )
    status, _, page = ask_form(site, text)
    assert status == 413
    assert "this has 20,001" in page
    assert ask_json(site, {"text": "\U0001f600" * server.MAX_CHARACTERS})[0] == 200
    body = b"text=" + b"a" * (server.MAX_BODY + 10)
    assert ask(site, body=body, headers=FORM)[0] == 413
    # In parts, without a length at the beginning.
    parts = (b"a" * 10_000 for _ in range(40))
    assert ask(site, body=parts, headers=FORM)[0] == 413


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", ""])
@pytest.mark.parametrize("path", ["/", server.API])
def test_other_types_of_body(site, kind, path):
    status, _, answer = ask(site, path, "text=a", {"Content-Type": kind})
    assert status == 415
    assert "the body must be of type application/" in answer


def test_types_with_a_character_set(site):
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert ask(site, server.API, '{"text": "a"}', headers)[0] == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"text", b"a=1", b"text=a&text=b", b"text=%ff", b"\xff=1", b"text=a" + b"&b=1" * 9],
)
def test_wrong_forms(site, body):
    status, _, page = ask(site, body=body, headers=FORM)
    assert status == 400
    assert "the form must have one field, text, in UTF-8" in page


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'"text"',
        b'{"text": 1}',
        b'{"text": null}',
        b'{"text": "a", "more": 1}',
        b'{"text": "\\ud800"}',
        b"[" * 100_000,
    ],
)
def test_wrong_json(site, body):
    status, answer = ask_json(site, body)
    assert status == 400
    assert answer == {"error": 'the body must be JSON of the form {"text": "a review"}'}


def test_other_places_and_methods(site):
    status, _, page = ask(site, "/nowhere")
    assert (status, "Not Found" in page) == (404, True)
    status, headers, _ = ask(site, method="DELETE")
    assert status == 405
    assert "POST" in headers["Allow"]
    assert ask(site, server.API)[0] == 405


def test_only_asked_for_by_its_own_names(site):
    port = urlsplit(site).port
    for host in ("localhost", f"localhost:{port}", "127.0.0.1", f"[::1]:{port}", "LOCALHOST"):
        assert ask(site, headers={"Host": host})[0] == 200
    for host in ("evil.example", "127.0.0.1.evil.example", f"192.168.0.1:{port}", ""):
        assert ask(site, headers={"Host": host})[0] == 400
    assert server.allowed_hosts("0.0.0.0") == ["*"]
    assert "[fe80::1]" in server.allowed_hosts("fe80::1")


class SlowReader:
    """Waits for leave, and notices if it is asked twice at once."""

    def __init__(self):
        self.leave = threading.Event()
        self.begun = threading.Event()
        self.running = 0
        self.most = 0

    def explain(self, text):
        self.running += 1
        self.most = max(self.most, self.running)
        self.begun.set()
        assert self.leave.wait(30)
        self.running -= 1
        return Explanation(0.5, ())


def test_the_model_is_asked_once_at_a_time_and_keeps_nobody_else_waiting():
    reader = SlowReader()
    with serving(reader) as site, ThreadPoolExecutor() as pool:
        answers = [pool.submit(ask_json, site, {"text": "a"}) for _ in range(4)]
        assert reader.begun.wait(30)
        assert ask(site)[0] == 200
        reader.leave.set()
        assert [answer.result(30)[0] for answer in answers] == [200] * 4
    assert reader.most == 1


def test_an_address_that_is_taken(checkpoint, capsys):
    with server.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert cli.run(["serve", str(checkpoint), "--port", str(port)]) == 2
    err = capsys.readouterr().err
    assert f"--port {port}: cannot listen there" in err
    assert "--port 0 takes a free port" in err
    assert err.count("\n") == 1
    with pytest.raises(DataError, match="cannot listen there"):
        server.listen("no.such.host.invalid", 0)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="there is no IPv6")
def test_addresses_of_ipv6_and_of_all_interfaces():
    for host, name in (("::1", "[::1]"), ("0.0.0.0", "localhost"), ("::", "localhost")):
        with server.listen(host, 0) as listener:
            port = listener.getsockname()[1]
            assert server.address(listener) == f"http://{name}:{port}/"


def test_without_the_extra(checkpoint, monkeypatch, capsys):
    monkeypatch.setitem(extras.EXTRAS, "serve", ("starlette", "not_installed"))
    assert cli.run(["serve", str(checkpoint)]) == 2
    wanted = "fastrnn-imdb: fastrnn-imdb serve needs not_installed: pip install 'fastrnn[serve]'\n"
    assert capsys.readouterr().err == wanted


def test_the_command_serves_until_ctrl_c(checkpoint):
    command = ["serve", str(checkpoint), "--port", "0", "--threads", "1"]
    with subprocess.Popen(
        [sys.executable, "-m", "fastrnn.imdb", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            site = re.fullmatch(
                r"Serving (http://127\.0\.0\.1:\d+/) until Ctrl-C\n", process.stdout.readline()
            )[1]
            assert ask_json(site, {"text": "superb"})[0] == 200
            process.send_signal(signal.SIGINT)
            rest = process.communicate(timeout=60)
        finally:
            process.kill()
    assert rest == ("", "")
    assert process.returncode == 0
