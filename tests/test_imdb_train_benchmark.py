"""The program that puts a comparison of all presets into the README."""

from __future__ import annotations

import dataclasses
import json

import pytest
from imdb_training import quick, small_corpus

from benchmarks import imdb_presets
from fastrnn.imdb import compare
from fastrnn.imdb.presets import PRESETS
from fastrnn.imdb.sweep import Trial, run_trials

BEGIN, END = "<!-- imdb-presets:begin -->\n", "<!-- imdb-presets:end -->"
PAGE = f"# Title\n{BEGIN}old\n{END}\nend\n"


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A folder as `compare` fills it, from made-up reviews that pass for real ones."""
    corpus = dataclasses.replace(small_corpus(), synthetic=False, source="/secret/path")
    trials = [
        Trial(f"{name}-{seed}", quick(name, epochs=1, seed=seed))
        for name in PRESETS
        for seed in (7, 8)
    ]
    folder = tmp_path_factory.mktemp("compared")
    run_trials(trials, corpus, folder / "trainings", jobs=1)
    return folder


def run(folder, tmp_path, page=PAGE):
    results, readme = tmp_path / "results.json", tmp_path / "README.md"
    readme.write_text(page)
    imdb_presets.main([str(folder), "--results", str(results), "--readme", str(readme)])
    return json.loads(results.read_text()), readme.read_text()


def test_writes_json_and_table(compared, tmp_path):
    results, page = run(compared, tmp_path)
    runs = [(run["preset"], run["seed"]) for run in results["runs"]]
    assert runs == [(name, seed) for name in PRESETS for seed in (7, 8)]
    assert "secret" not in json.dumps(results) + page
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    # Without runs on torch.nn its column would be empty.
    assert lines[0] == f"| {' | '.join(compare.TITLES[:-1])} |"
    assert [line.split(" | ")[0] for line in lines[1:]] == [f"| {name}" for name in PRESETS]
    assert len({line.count(" | ") for line in lines}) == 1
    assert "Seeds 7, 8 (mean ± standard deviation)" in page
    assert page.startswith("# Title\n<!--") and page.endswith("-->\nend\n")
    assert "\nold\n" not in page
    for mark in (BEGIN, END):
        assert page.count(mark) == 1


@pytest.mark.parametrize("page", ["nothing", BEGIN, PAGE + PAGE])
def test_page_without_its_marks_is_left_as_it_is(page, compared, tmp_path):
    with pytest.raises(ValueError, match="imdb-presets:begin"):
        run(compared, tmp_path, page)
    assert (tmp_path / "README.md").read_text() == page
    assert not (tmp_path / "results.json").exists()


def test_made_up_and_missing_runs_are_not_tabled(tmp_path):
    trial = Trial("lstm", quick("lstm", epochs=1))
    run_trials([trial], small_corpus(), tmp_path / "one" / "trainings", jobs=1)
    with pytest.raises(SystemExit, match="no run of embedding-rnn"):
        run(tmp_path / "one", tmp_path)
    all_made_up = [Trial(name, quick(name, epochs=1)) for name in PRESETS]
    run_trials(all_made_up, small_corpus(), tmp_path / "all" / "trainings", jobs=1)
    with pytest.raises(SystemExit, match="no table of made-up reviews"):
        run(tmp_path / "all", tmp_path)
