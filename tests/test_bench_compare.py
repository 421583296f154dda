"""The comparison of two commits, on a small repository whose build and cases take no time."""

import os
import subprocess
import textwrap

import pytest

from benchmarks import compare

PACKAGE = """
    import types
    from fastrnn import built  # what setup.py makes
    SECONDS = {seconds}
    def info():
        return types.SimpleNamespace(loaded=built.GOOD, reason="a reason")
"""
SETUP = """
    import os, sys
    assert sys.argv[1:] == ["build_ext", "--inplace"]
    assert os.environ["FASTRNN_BUILD_EXT"] == "require"
    {body}
"""
BUILDS = 'open("fastrnn/built.py", "w").write("GOOD = True")'
FAILS = 'sys.exit("first line\\nno compiler here")'
CASES = """
    import itertools
    import pytest
    import fastrnn
    @pytest.mark.benchmark(timer=itertools.count(0, fastrnn.SECONDS).__next__)
    @pytest.mark.parametrize("case", ["GRU", "RNN"])
    @pytest.mark.parametrize("implementation", ["fastrnn", "torch"])
    def test_layer(benchmark, case, implementation):
        benchmark.pedantic(str, rounds=5)
"""


def git(folder, *arguments):
    identity = ["-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    command = ["git", *identity, *arguments]
    return subprocess.check_output(command, cwd=folder, text=True).strip()


class Repository:
    """A project with the parts that the program touches."""

    def __init__(self, root):
        self.root = root
        git(root, "init", "--quiet")
        self.write(".gitignore", "built.py\n__pycache__/\n")
        self.write("pyproject.toml", "[tool.pytest.ini_options]\n")

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))

    def commit(self, seconds, setup=BUILDS, cases=""):
        self.write("fastrnn/__init__.py", PACKAGE.format(seconds=seconds))
        self.write("setup.py", SETUP.format(body=setup))
        self.write("benchmarks/test_layers.py", cases)
        git(self.root, "add", ".")
        git(self.root, "commit", "--quiet", "-m", "work")
        return git(self.root, "rev-parse", "HEAD")

    def worktrees(self):
        return git(self.root, "worktree", "list", "--porcelain").count("worktree ")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository, with an empty folder for everything temporary."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)  # a commit hook runs the tests with the project's own
    scratch, root = tmp_path / "scratch", tmp_path / "root"
    scratch.mkdir()
    root.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    yield Repository(root)
    assert list(scratch.iterdir()) == []


def main(repository, *arguments):
    compare.main(list(arguments), root=repository.root)


def test_two_commits_are_built_timed_in_turn_and_cleared_away(repository, monkeypatch, capsys):
    slow, fast = repository.commit(3.0), repository.commit(1.0)

    def time_cases(tree, name, expression):
        assert expression == "fastrnn and (GRU or RNN)"
        seconds = compare.python(tree, "-c", "import fastrnn; print(fastrnn.SECONDS)").stdout
        return {"GRU": float(seconds), "RNN": 0.5}

    monkeypatch.setattr(compare, "time_cases", time_cases)
    main(repository, slow, fast, "--rounds", "2", "-k", "GRU or RNN")
    assert repository.worktrees() == 1
    lines = capsys.readouterr().out.splitlines()
    order = [line.rsplit(": ")[-1] for line in lines if line.startswith("Round")]
    assert order == ["base", "head", "head", "base"]
    assert [line.split() for line in lines[-3:-1]] == [
        "GRU 3000 1000 3.000 (3.000 to 3.000) base".split(),
        "RNN 500 500 1.000 (1.000 to 1.000)".split(),
    ]


def test_working_tree_as_it_is_stands_for_head_and_its_cases_measure_both(repository, capsys):
    repository.commit(0.25)
    repository.write("benchmarks/test_layers.py", CASES)
    repository.write("fastrnn/__init__.py", PACKAGE.format(seconds=0.5))
    repository.write("fastrnn/built.py", "GOOD = True")
    main(repository, "HEAD", "--rounds", "1", "-k", "GRU")
    (case,) = [line.split() for line in capsys.readouterr().out.splitlines() if "GRU" in line]
    assert case == ["test_layer[fastrnn-GRU]", *"250 500 0.500 (0.500 to 0.500) head".split()]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "'nowhere' names no commit of the repository in "),
        (["good", "nowhere"], "'nowhere' names no commit of the repository in "),
        (["good", "broken"], r"head, [0-9a-f]{7}, could not be built: no compiler here$"),
        (["good"], "head cannot be timed, its kernels are not loaded: a reason$"),
        (["good", "good", "-k", "100,64"], "pytest cannot read -k .*expected"),
        (["good", "good", "-k", "LSTM"], "no case of .* fits 'fastrnn and .LSTM.'"),
        (["good", "good"], "the cases failed on base: "),
    ],
    ids=["base", "head", "build", "unbuilt", "expression", "no-case", "case"],
)
def test_errors_are_one_sentence_and_leave_nothing(repository, arguments, sentence):
    repository.commit(0.001)
    git(repository.root, "tag", "good")
    repository.commit(0.001, setup=FAILS)
    git(repository.root, "tag", "broken")
    repository.write("fastrnn/built.py", "GOOD = False")
    repository.write("benchmarks/test_layers.py", "def test_fastrnn():\n    raise OSError\n")
    with pytest.raises(SystemExit, match=f"^Nothing is compared: {sentence}"):
        main(repository, *arguments)
    assert repository.worktrees() == 1


def test_interrupt_leaves_nothing(repository, monkeypatch):
    commit = repository.commit(0.001)

    def interrupted(*_):
        assert repository.worktrees() == 3
        raise KeyboardInterrupt

    monkeypatch.setattr(compare, "time_cases", interrupted)
    with pytest.raises(SystemExit, match="Interrupted"):
        main(repository, commit, commit)
    assert repository.worktrees() == 1


def test_ratios_are_of_the_same_round():
    # The machine slows down tenfold: every ratio is the same still.
    base = [{"a": 2.0, "b": 1.0, "c": 1.0}, {"a": 20.0, "b": 10.0, "c": 10.0}]
    head = [{"a": 1.0, "b": 2.0, "c": 0.5}, {"a": 10.0, "b": 20.0, "c": 20.0}]
    first, second, third = compare.compare(base, head)
    assert (first.low, first.ratio, first.high, first.slower) == (2, 2, 2, "base")
    assert (second.ratio, second.slower) == (0.5, "head")
    assert (third.low, third.ratio, third.high, third.slower) == (0.5, 1.25, 2, "")
    assert (first.base_ms, first.head_ms) == (11_000, 5_500)
    assert compare.table([first, second]).endswith("over 2 cases: 1.000")
