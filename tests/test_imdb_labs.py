"""The labs: each learns on its small data, answers from its figures, and runs on reviews."""

from __future__ import annotations

import json
import re

import pytest
import torch
from torch.nn import functional as F

from fastrnn.imdb import cli
from fastrnn.imdb.labs import LABS, base, find_lab, sentences
from fastrnn.imdb.labs.base import ACCURACY, FIRST, LAST, Curve, Part, Run

ON_REVIEWS = ["hidden-size", "layers", "activation", "loss", "optimizers"]


@pytest.fixture(scope="module")
def small():
    """All labs on their small data, with two seeds."""
    return {name: base.run_small(lab, [0, 1], None) for name, lab in LABS.items()}


def values(small, name, figure):
    part = small[name]
    return {variant: part.values(variant, figure) for variant in part.runs}


@pytest.mark.parametrize(
    "name", [name for name in LABS if name not in ("loss-functions", "activation")]
)
def test_losses_fall(name, small):
    for variant, runs in small[name].runs.items():
        for run in runs:
            assert run.figures[LAST] < run.figures[FIRST], (name, variant)


def test_regression_learns_by_heart(small):
    for last in values(small, "regression", LAST).values():
        assert max(last) < 0.15


def test_four_sentences_begin_near_chance_and_fall_as_reported(small):
    (first,), (last,) = (
        values(small, "four-sentences", figure).values() for figure in (FIRST, LAST)
    )
    assert first == pytest.approx([0.675] * 2, abs=0.15)
    assert last == pytest.approx([0.583] * 2, abs=0.15)


def test_vocabulary_has_ten_entries():
    assert len(sentences.VOCABULARY) == len(set(sentences.VOCABULARY)) == 10


def test_padding_of_sentences_changes_nothing():
    torch.manual_seed(0)
    model = sentences.Classifier(sentences.Choice())
    texts = sorted(sentences.SENTENCES, key=lambda each: len(each[0]))
    ids, lengths, labels = sentences._batch(texts)
    assert lengths.tolist() == [3, 3, 5, 5]
    assert labels.tolist() == [label for _, label in texts]
    alone = torch.cat([model(ids[i : i + 1, :length], lengths[i : i + 1]) for i, length
                       in enumerate(lengths)])  # fmt: skip
    torch.testing.assert_close(model(ids, lengths), alone)


def test_activations_hold_the_loss_back(small):
    last = {name: sum(each) for name, each in values(small, "activation", LAST).items()}
    assert last["none"] < last["sigmoid"]
    assert last["none"] < last["ReLU"]


def test_optimizers(small):
    last = {name: max(each) for name, each in values(small, "optimizers", LAST).items()}
    assert last["1→1, SGD 0.01"] < 3  # of noise with variance 1
    assert last["1→1, Adam 0.001"] > 100  # its small steps have not arrived
    assert last["1→1, Adam 0.01"] < last["1→1, Adam 0.001"]


def test_equal_losses_are_equal(small):
    by_torch, by_hand = (
        values(small, "loss-functions", figure) for figure in ("by torch", "by its formula")
    )
    for name, each in by_torch.items():
        assert each == pytest.approx(by_hand[name], rel=1e-6)
    wanted = F.cross_entropy(torch.tensor([[2, 1], [0.5, 1.5]]), torch.tensor([0, 1])).item()
    for name in ("cross-entropy", "NLL of log-softmax", "BCE with logits", "BCE of sigmoid"):
        assert by_torch[name] == pytest.approx([wanted] * 2, rel=1e-6)
    answer = LABS["loss-functions"].conclude(small["loss-functions"])
    assert answer.startswith("Cross-entropy and NLL of log-softmax differ by 0 (0.3133 and")


def test_only_training_moves_weights(small):
    (trained,), (validated,) = (
        values(small, "train-validation", f"weights moved by {what}").values()
        for what in ("training", "validation")
    )
    assert min(trained) > 0.05
    assert validated == [0, 0]
    (runs,) = small["train-validation"].runs.values()
    assert len(runs[0].curves["training"].y) == len(runs[0].curves["validation"].y) == 40


def part(judge, lower, **figures):
    """A part with one figure, of which each variant has the values given."""
    runs = {
        name: [Run({judge: value}, {"training": Curve([1], [value])}) for value in each]
        for name, each in figures.items()
    }
    return Part("figures", runs, dict.fromkeys(runs, ""), judge, lower)


def test_answers_follow_the_figures():
    clear = part(LAST, True, a=[1.0, 1.1], b=[3.0, 3.1], c=[2.0, 2.1])
    assert base.extremes(clear) == (
        "A has the lowest last loss, 1.050 ± 0.071, and b the highest, 3.050 ± 0.071; the gap is "
        "more than twice its standard error, 0.071."
    )
    unclear = part(ACCURACY, False, a=[50.0, 90.0], b=[80.0, 81.0])
    assert base.extremes(unclear) == (
        "B has the highest accuracy, 80.5 ± 0.7 %, and a the lowest, 70.0 ± 28.3 %; seeds alone "
        "could make the gap: its standard error is 20."
    )
    assert "one seed does not tell" in base.extremes(part(LAST, True, a=[1.0], b=[2.0]))
    same = part(LAST, True, a=[1.0, 1.0], b=[1.0, 1.0])
    assert base.extremes(same) == "All variants have the same last loss: 1.000 ± 0.000."


@pytest.mark.parametrize(("last", "verb"), [(0.5, "falls"), (0.999, "stays"), (1.5, "rises")])
def test_course(last, verb):
    run = Run({FIRST: 1.0, LAST: last}, {})
    text = base.course(Part("", {"net": [run]}, {"net": ""}, LAST, True), "net")
    assert text == f"the loss of net {verb} from 1 to {last:.3g}"


@pytest.mark.parametrize("name", LABS)
def test_table_and_plot(name, small):
    titles, lines = base.table(small[name])
    assert [line[0] for line in lines] == [variant.name for variant in LABS[name].variants]
    assert {len(line) for line in lines} == {len(titles)}
    reported = [variant.reported for variant in LABS[name].variants]
    if any(reported):
        assert titles[-1] == "reported"
        assert [line[-1] for line in lines] == reported
    assert base.plot(small[name]).startswith(b"\x89PNG\r\n")


def test_same_seed_same_figures():
    lab = find_lab("four-sentences")
    once, again = (base.run_small(lab, [3], 2) for _ in range(2))
    assert base.to_dict(once) == base.to_dict(again)


def test_labs_on_reviews_have_settings_of_one_kind_each():
    assert [name for name, lab in LABS.items() if lab.imdb] == ON_REVIEWS
    for name in ON_REVIEWS:
        trials = base.plan_imdb(LABS[name], [0, 1], None)
        assert len({trial.name for trial in trials}) == 2 * len(LABS[name].imdb)
        assert all(re.fullmatch(r"[a-z0-9.-]+", trial.name) for trial in trials)


@pytest.mark.usefixtures("in_empty_folder")
def test_command_on_small_data_and_reviews(data, tmp_path, capsys):
    command = ["lab", "layers", "--imdb", "--data", data, "--seeds", "0,1", "--epochs", "2"]
    assert cli.run([*command, "--jobs", "1"]) == 0
    out, err = capsys.readouterr()
    folder = tmp_path / "runs" / "lab-layers"
    assert {path.name for path in folder.iterdir()} == {
        "small.png", "small.json", "imdb.png", "imdb.json", "trainings",
    }  # fmt: skip
    for name in ("small", "imdb"):
        kept = json.loads((folder / f"{name}.json").read_text())
        assert kept["answer"] in out
        assert [each["name"] for each in kept["variants"]] == ["1 layer", "2 layers"]
        assert all(len(each["runs"]) == 2 for each in kept["variants"])
        assert f"Plot: runs/lab-layers/{name}.png" in out
    (figures,) = {tuple(run["figures"]) for each in kept["variants"] for run in each["runs"]}
    assert {"test accuracy, %", "test F1, %", "validation accuracy, %"} < set(figures)
    assert [line.split(":")[0] for line in err.splitlines()] == [
        "1-layer-0", "1-layer-1", "2-layers-0", "2-layers-1",
    ]  # fmt: skip
    assert ".744 → .595" in out


def test_list_and_help(capsys):
    assert cli.run(["lab", "list"]) == 0
    out = capsys.readouterr().out
    for name, lab in LABS.items():
        assert re.search(rf"^ *{name} +{re.escape(lab.question)}", out, re.MULTILINE)
    assert cli.run(["lab", "--help"]) == 0
    assert "fastrnn-imdb lab hidden-size" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["colour"], "there is no lab 'colour'; there are regression, four-sentences"),
        (["regression", "--imdb"], "has no part on the reviews (--imdb); these have: hidden-size"),
        (["layers", "--data", "x"], "--data is where the film reviews are: give --imdb, too"),
        (["layers", "--seeds", "a"], "--seeds must be whole numbers"),
        (["layers", "--seeds", "0,0"], "--seeds must be at least 0 and different"),
        (["layers", "--out", "/dev/null"], "--out /dev/null cannot be made (File exists)"),
        (["layers", "--seeds", "-1"], "--seeds must be at least 0 and different"),
    ],
)
def test_mistakes(arguments, words, capsys):
    assert cli.run(["lab", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fastrnn-imdb: ")
    assert words in err


@pytest.mark.usefixtures("in_empty_folder")
def test_interrupt(data, monkeypatch, capsys):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    command = ["lab", "layers", "--imdb", "--data", data, "--seeds", "0", "--epochs", "1"]
    monkeypatch.setattr("fastrnn.imdb.sweep.train", interrupt)
    assert cli.run([*command, "--jobs", "1"]) == 130
    assert "interrupted; 0 of 2 runs are kept" in capsys.readouterr().err
    monkeypatch.setattr(base, "run_small", interrupt)
    assert cli.run(["lab", "layers"]) == 130
    assert "Traceback" not in capsys.readouterr().err
