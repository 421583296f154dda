"""The program that times clients: on clients that the test makes up."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import ClassVar

import pytest
import torch
from torch import nn

from benchmarks import clients, readme
from benchmarks.clients import CLIENTS, Client, Missing, Program, __main__, measure
from benchmarks.timing import Spread

LIMITS = {"budget_s": 0.01, "min_iterations": 3}


class Made(Client):
    """A client of this test: one LSTM, whose result is multiplied by the next of some factors."""

    factors: ClassVar[list[float]] = [1.0]

    def make(self) -> Program:
        torch.manual_seed(0)
        module, factor = nn.LSTM(3, 5), self.factors[0]
        self.factors.append(self.factors.pop(0))
        input = torch.randn(4, 2, 3)
        return Program(module, lambda: {"h": factor * module(input)[0].detach()})


@pytest.fixture
def made(monkeypatch):
    client = Made("made", ("pytest",), "one LSTM")
    monkeypatch.setitem(CLIENTS, "made", client)
    monkeypatch.setattr(clients, "pins", lambda: {"pytest": pytest.__version__})
    monkeypatch.setattr(measure, "pins", clients.pins)
    monkeypatch.setattr(
        __main__, "run_job", lambda name, threads, limits: measure.measure(name, LIMITS)
    )
    return client


def test_every_requirement_is_pinned_and_every_client_asks_for_what_is_pinned():
    pinned = clients.pins()
    assert all(re.fullmatch(r"[\w.]+", version) for version in pinned.values())
    for client in CLIENTS.values():
        assert set(client.packages) <= set(pinned)
        assert (clients.REQUIREMENTS.parent / f"{client.module}.py").exists()


def test_missing_packages_and_other_versions_are_named(monkeypatch):
    monkeypatch.setattr(clients, "pins", lambda: {"pytest": "1.2.3", "no-such-client": "4"})
    with pytest.raises(Missing, match=rf"pytest {pytest.__version__} is .*, wanted 1\.2\.3: pyth"):
        Client("x", ("pytest",), "").make()
    with pytest.raises(Missing, match="no-such-client is not installed: python -m pip install"):
        Client("x", ("no-such-client",), "").make()


def test_file_of_a_package_is_loaded_without_the_package():
    module = clients.load_file("wsgiref", "types.py")
    assert {"WSGIApplication", "ErrorStream"} <= set(dir(module))


def test_measures_before_and_after(made):
    row = measure.measure("made", LIMITS)
    assert row["client"] == "made"
    assert row["iterations"] >= LIMITS["min_iterations"]
    assert 0 < row["recurrent_share"] < 1
    assert set(row["seconds"]) == {"before", "after"}
    assert row["ratio"]["low"] <= row["ratio"]["median"] <= row["ratio"]["high"]


def test_client_that_computes_something_else_is_not_timed(made, monkeypatch):
    monkeypatch.setattr(Made, "factors", [1.0, 1.001])
    with pytest.raises(ValueError, match=r"made: h differs from torch\.nn's by"):
        measure.measure("made", LIMITS)


def test_program_names_what_is_not_installed_and_what_is_slower(
    made, monkeypatch, tmp_path, capsys
):
    monkeypatch.setitem(CLIENTS, "gone", Client("gone", ("no-such-client",), ""))
    monkeypatch.setattr(
        clients, "pins", lambda: {"pytest": pytest.__version__, "no-such-client": "1"}
    )
    path = tmp_path / "clients.json"
    __main__.main(["--clients", "gone", "made", "--threads", "1", "--json", str(path)])
    results = json.loads(path.read_text())
    assert set(results["skipped"]) == {"gone"}
    (row,) = results["rows"]
    printed = capsys.readouterr().out
    assert "Not run: gone: no-such-client is not installed" in printed
    assert printed.splitlines()[-1] == __main__.line(row)
    row["ratio"] = asdict(Spread(0.8, 0.9, 1.1))
    assert __main__.line(row).endswith("0.90 (0.80 to 1.10) slower")


def test_program_puts_its_table_into_the_readme(made, monkeypatch, tmp_path):
    page = tmp_path / "README.md"
    page.write_text("<!-- clients:begin -->\nold\n<!-- clients:end -->\n")
    monkeypatch.setattr(readme, "README", page)
    monkeypatch.setattr(__main__, "RESULTS", tmp_path / "clients.json")
    __main__.main(["--clients", "made", "--threads", "1", "--readme"])
    table = readme.split(page.read_text(), "clients")[1]
    assert f"\n| made {pytest.__version__} | one LSTM | 1 | " in table
    assert "old" not in table
    assert json.loads((tmp_path / "clients.json").read_text())["rows"]


def test_nothing_installed_is_an_error(monkeypatch):
    monkeypatch.setitem(CLIENTS, "gone", Client("gone", ("no-such-client",), ""))
    monkeypatch.setattr(clients, "pins", lambda: {"no-such-client": "1"})
    with pytest.raises(SystemExit, match="Nothing is installed: python -m pip install --no-deps"):
        __main__.main(["--clients", "gone"])
