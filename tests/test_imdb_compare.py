"""`fastrnn-imdb compare`: what it trains, keeps, goes on from, tables, draws and refuses."""

from __future__ import annotations

import doctest
import importlib
import json
import multiprocessing
import re
import signal
from dataclasses import replace

import pytest
from imdb_programs import program, wait_for
from imdb_training import quick, small_corpus

from fastrnn.imdb import cli, compare, report, sweep
from fastrnn.imdb.errors import DataError
from fastrnn.imdb.presets import PRESETS
from fastrnn.imdb.sweep import Record, Trial, run_trials

pytestmark = pytest.mark.usefixtures("in_empty_folder")

OPTIONS = ("--presets", "lstm,onehot-rnn", "--seeds", "0,1", "--epochs", "2", "--jobs", "1")
NAMES = [
    f"{preset}-{backend}-{seed}"
    for preset in ("lstm", "onehot-rnn")
    for seed in (0, 1)
    for backend in ("fastrnn", "torch")
]


@pytest.fixture(scope="module")
def compared(data, tmp_path_factory):
    """The folder of a finished comparison."""
    folder = tmp_path_factory.mktemp("compared") / "folder"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTRNN_CACHE", str(folder.parent / "cache"))
        assert cli.run(["compare", "--data", data, *OPTIONS, "--out", str(folder)]) == 0
    return folder


def read(folder):
    """The records of a comparison by name."""
    paths = (folder / "trainings").glob("*.json")
    return {path.stem: Record.from_dict(json.loads(path.read_text())) for path in paths}


def learnt(records):
    """What two comparisons of the same settings must agree in: all but the time they took."""
    return {
        name: [epoch._replace(seconds=0) for epoch in record.history]
        for name, record in records.items()
    }


@pytest.mark.parametrize("name", ["compare", "machine", "tables", "commands_compare"])
def test_examples(name):
    result = doctest.testmod(importlib.import_module(f"fastrnn.imdb.{name}"))
    assert result.attempted > 0
    assert result.failed == 0


def test_keeps_all_runs_and_both_backends_learn_the_same(compared):
    files = {path.name for path in compared.iterdir()}
    assert files == {"trainings", "report.html", "losses-lstm.png", "losses-onehot-rnn.png"}
    records = read(compared)
    assert set(records) == set(NAMES)
    for name, record in records.items():
        assert f"{record.config.preset}-{record.config.backend}-{record.config.seed}" == name
        assert len(record.history) == 2
        assert record.summary["threads"] == 1
    for name in NAMES:
        ours, stock = records[name], records[name.replace("fastrnn", "torch")]
        for one, other in zip(ours.history, stock.history, strict=True):
            assert one.validation_loss == pytest.approx(other.validation_loss, abs=1e-4)


def test_prints_the_table_on_stdout_and_the_runs_on_stderr(data, compared, capsys, monkeypatch):
    monkeypatch.setattr(sweep, "train", None)  # all are there: nothing is trained
    assert cli.run(["compare", "--data", data, *OPTIONS, "--out", str(compared)]) == 0
    out, err = capsys.readouterr()
    assert [line.split(":")[0] for line in err.splitlines()] == NAMES
    assert re.search(r"^ *lstm +fastrnn +832 / .* 800 / .* 2 \(\d\), ", out, re.MULTILINE)
    assert "…" not in out  # no name is cut
    for preset in ("lstm", "onehot-rnn"):
        for backend in ("fastrnn", "torch"):
            assert re.search(rf"^ *{preset} +{backend} ", out, re.MULTILINE)
    assert out.endswith(f"Report: {compared / 'report.html'}\n")
    assert "Traceback" not in err


def test_table_has_the_known_figures(compared):
    records = read(compared)
    rows = compare.make_rows(records[name] for name in NAMES)
    assert [(row.preset, row.backend) for row in rows] == [
        ("lstm", "fastrnn"),
        ("lstm", "torch"),
        ("onehot-rnn", "fastrnn"),
        ("onehot-rnn", "torch"),
    ]
    titles, (ours, stock, *_) = compare.table(rows)
    # The texts report no test accuracy of these presets.
    assert titles == (*compare.TITLES[:9], *compare.TITLES[10:])
    line = dict(zip(titles, ours, strict=True))
    assert line["recurrent / all parameters"] == "832 / 8,841"
    assert line["as Keras counts"] == "800 / 8,809"
    accuracies = [100 * records[f"lstm-fastrnn-{seed}"].validation.accuracy for seed in (0, 1)]
    mean = sum(accuracies) / 2
    deviation = abs(accuracies[0] - accuracies[1]) / 2**0.5
    assert line["validation accuracy, %"] == f"{mean:.1f} ± {deviation:.1f}"
    assert line["difference"] == f"{mean - 80.88:+.1f}"
    ratios = [
        records[f"lstm-torch-{seed}"].seconds_per_epoch
        / records[f"lstm-fastrnn-{seed}"].seconds_per_epoch
        for seed in (0, 1)
    ]
    assert line["torch / fastrnn"] == f"{sum(ratios) / 2:.1f}"
    assert stock[-1] == ""


def test_first_epoch_counts_for_the_time_only_where_it_is_alone(compared):
    record = read(compared)[NAMES[0]]
    first, second = record.history
    assert record.seconds_per_epoch == second.seconds
    assert replace(record, history=[first]).seconds_per_epoch == first.seconds


def test_far_from_the_report_is_explained(compared):
    records = [read(compared)[f"lstm-fastrnn-{seed}"] for seed in (0, 1)]
    (row,) = compare.make_rows(records)
    lowest, highest = sorted(row.validation)
    (text,) = compare.explanations([row])
    assert f"lstm on fastrnn is {80.88 - (lowest + highest) / 2:.1f} points below" in text
    assert f"between {lowest:.1f} and {highest:.1f} %" in text
    assert "was cut at the limit of 2 epochs" in text
    good = records[0].summary["validation"] | {"accuracy": 0.9}
    lucky = replace(records[0], summary=records[0].summary | {"validation": good})
    (text,) = compare.explanations(compare.make_rows([lucky]))
    assert text.startswith("lstm on fastrnn is 9.1 points above the report; one seed does not show")
    assert text.endswith("Training ended in epoch 2, the text's in 17.")
    made_up = [replace(each, summary=each.summary | {"synthetic": True}) for each in records]
    assert compare.explanations(compare.make_rows(made_up)) == []


def test_goes_on_after_an_interrupt(data, compared, tmp_path, monkeypatch, capsys):
    trained = []
    train = sweep.train

    def interrupted(config, corpus):
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(config)
        return train(config, corpus)

    monkeypatch.setattr(sweep, "train", interrupted)
    command = ["compare", "--data", data, *OPTIONS, "--out", "new"]
    assert cli.run(command) == 130
    assert "interrupted; 3 of 8 runs are kept in new" in capsys.readouterr().err
    assert set(read(tmp_path / "new")) == set(NAMES[:3])
    assert not (tmp_path / "new" / "report.html").exists()
    trained.clear()
    monkeypatch.setattr(
        sweep, "train", lambda config, corpus: trained.append(config) or train(config, corpus)
    )
    assert cli.run(command) == 0
    assert len(trained) == 5
    assert learnt(read(tmp_path / "new")) == learnt(read(compared))


def test_interrupt_and_kill_of_a_comparison_in_processes(data, compared, tmp_path):
    out = tmp_path / "new"
    command = ["compare", "--data", data, *OPTIONS[:-1], "2", "--out", str(out)]
    for number in (signal.SIGKILL, signal.SIGINT):
        there = len(list(out.glob("*/*.json")))
        with program(*command) as process:
            wait_for(lambda: len(list(out.glob("*/*.json"))) > there, process)  # noqa: B023
            process.send_signal(number)
            # Workers hold the same streams: this returns when all of them have ended.
            _, err = process.communicate(timeout=60)
        assert "Traceback" not in err
        assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert 2 <= len(read(out)) <= 8
    assert cli.run([*command, "--jobs", "1"]) == 0
    assert learnt(read(out)) == learnt(read(compared))


def test_killed_worker_is_told(tmp_path):
    trials = [Trial(str(seed), quick("lstm", seed=seed, epochs=50)) for seed in range(4)]

    def kill(trial, record):
        multiprocessing.active_children()[0].kill()

    with pytest.raises(DataError, match=r"a training process was killed.*goes on from what"):
        run_trials(trials, small_corpus(), tmp_path, jobs=2, on_record=kill)
    assert 1 <= len(list(tmp_path.glob("*.json"))) < 4


def refused(capsys, *arguments):
    """Runs a comparison that must be refused in one line; returns the line."""
    assert cli.run(["compare", *arguments]) == 2
    out, err = capsys.readouterr()
    line = err.splitlines()[-1]
    assert line.startswith("fastrnn-imdb: ")
    assert "Traceback" not in out + err
    return line


def test_mistakes(data, compared, capsys):
    assert "no model of the texts called 'lstn'" in refused(capsys, "--presets", "lstn")
    assert "no model of the texts called 'quick'" in refused(capsys, "--presets", "quick")
    assert "must be fastrnn or torch" in refused(capsys, "--backends", "keras")
    assert "--seeds must be whole numbers" in refused(capsys, "--seeds", "1;2")
    assert "--seed must be at least 0" in refused(capsys, "--seeds", "-1")
    assert "each named once" in refused(capsys, "--seeds", "1,1")
    assert "nowhere" in refused(capsys, "--data", "nowhere")
    line = refused(capsys, "--data", data, "--out", str(compared / "report.html"))
    assert "report.html cannot be made (File exists): give a folder" in line
    assert cli.run(["compare", "--jobs", "0"]) == 2
    capsys.readouterr()
    other = [*OPTIONS, "--epochs", "3", "--out", str(compared)]
    line = refused(capsys, "--data", data, *other)
    assert "was made with epochs 2, and now it is 3: give another --out" in line


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"config": {}}', b"\xff"])
def test_damaged_record(content, data, tmp_path, capsys):
    path = tmp_path / "new" / "trainings" / f"{NAMES[0]}.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    line = refused(capsys, "--data", data, *OPTIONS, "--out", "new")
    assert f"{path.relative_to(tmp_path)}: this record of an earlier run cannot be read" in line
    assert path.read_bytes() == content


def test_other_reviews(compared):
    record = read(compared)[NAMES[0]]
    with pytest.raises(DataError, match=r"was made with reviews '.*', and now it is 'made up for"):
        run_trials([Trial(NAMES[0], record.config)], small_corpus(), compared / "trainings", jobs=1)


def test_help_has_an_example_and_names_presets(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.run(["compare", "--help"]) == 0
    out = capsys.readouterr().out
    assert "fastrnn-imdb compare --data" in out
    assert all(name in out for name in PRESETS)


def test_report_in_a_browser(compared, browser_page):
    requests, complaints = [], []
    browser_page.on("request", lambda request: requests.append(request.url))
    browser_page.on("console", lambda message: complaints.append(message.text))
    browser_page.on("pageerror", lambda error: complaints.append(str(error)))
    page = (compared / "report.html").as_uri()
    browser_page.goto(page)
    widths = browser_page.eval_on_selector_all("img", "all => all.map(each => each.naturalWidth)")
    assert len(widths) == 2
    assert all(width > 500 for width in widths)
    results, runs = browser_page.query_selector_all("table")
    titles = [each.inner_text() for each in results.query_selector_all("th")]
    assert titles == [*compare.TITLES[:9], *compare.TITLES[10:]]
    assert len(results.query_selector_all("tbody tr")) == 4
    assert len(runs.query_selector_all("tbody tr")) == 8
    text = browser_page.inner_text("body")
    assert "Seconds per epoch: everything from shuffling" in text
    assert "200 training and 100 test reviews" in text
    assert "one training at once, one thread each; python" in text
    assert "8 of 8 runs ended at their limit of epochs" in text
    wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert browser_page.evaluate(wide)  # tables scroll by themselves
    shot = browser_page.screenshot(full_page=True)
    assert len(shot) > 50_000
    assert [url for url in requests if not url.startswith("data:")] == [page]
    assert complaints == []


def test_report_escapes_what_others_wrote(compared):
    record = read(compared)[NAMES[0]]
    bad = replace(record, summary=record.summary | {"source": "<script>alert(1)</script>"})
    rows = compare.make_rows([bad])
    page = report.html(rows, {"lstm": report.plot(rows)})
    assert "<script" not in page
    assert "&lt;script&gt;" in page
