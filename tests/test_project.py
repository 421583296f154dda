"""The project's own rules: short files and functions, each fact once, a README that fits."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

import fastrnn
from benchmarks import readme

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
README = (ROOT / "README.md").read_text()
TEXT = {".py", ".cpp", ".h", ".inl", ".cu", ".cuh", ".md", ".toml", ".yaml"}


def project_files(*suffixes):
    folders = [ROOT / name for name in ("fastrnn", "csrc", "tests", "benchmarks")]
    found = [*ROOT.glob("*"), *(path for folder in folders for path in folder.rglob("*"))]
    return sorted(path for path in found if path.suffix in suffixes)


def name(path):
    return str(path.relative_to(ROOT))


def function_lengths(source):
    """Yields (name, lines) of every function in Python source."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.end_lineno - node.lineno + 1


def test_function_lengths_counts_every_line():
    source = "def one(): pass\nclass A:\n  async def three(self):\n    a = 1\n    return a\n"
    assert dict(function_lengths(source)) == {"one": 1, "three": 3}


def test_files_have_at_most_400_lines():
    lengths = {name(path): len(path.read_text().splitlines()) for path in project_files(*TEXT)}
    assert len(lengths) > 20
    assert {path: lines for path, lines in lengths.items() if lines > 400} == {}


def test_functions_have_at_most_60_lines():
    too_long = [
        (name(path), function, lines)
        for path in project_files(".py")
        for function, lines in function_lengths(path.read_text())
        if lines > 60
    ]
    assert too_long == []


def test_version_stands_once():
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    places = [
        name(path)
        for path in [ROOT / "pyproject.toml", *ROOT.glob("fastrnn/**/*.py")]
        if f'"{fastrnn.__version__}"' in path.read_text()
    ]
    assert len(places) == 1, places


def test_lint_tools_are_pinned_in_pyproject_alone():
    pins = [entry.split("==") for entry in PYPROJECT["project"]["optional-dependencies"]["lint"]]
    assert all(len(pin) == 2 for pin in pins), pins
    elsewhere = [ROOT / path for path in (".pre-commit-config.yaml", ".ci/run", "Makefile")]
    for path in [*elsewhere, *ROOT.glob("*.md")]:
        assert [pin for _, pin in pins if pin in path.read_text()] == [], name(path)


@pytest.mark.parametrize(
    ("page", "table"),
    [
        (readme.README, "benchmarks"),
        (readme.README, "lengths"),
        (readme.README, "clients"),
        (readme.FEATURES, "bfloat16"),
        (readme.FEATURES, "tokens"),
        (readme.FEATURES, "dropout"),
        (readme.FEATURES, "imdb-presets"),
    ],
)
def test_pages_have_a_measured_table_or_say_that_they_have_not(page, table):
    shown = readme.split(page.read_text(), table)[1]
    assert shown == "Not measured yet.\n" or "\n|---|" in shown


def test_readme_lists_the_environment_variables_that_the_code_reads():
    macros = {"FASTRNN_TORCH_VERSION", "FASTRNN_CUDA_VERSION"}
    sources = [ROOT / "setup.py", *ROOT.glob("fastrnn/**/*.py"), *ROOT.glob("csrc/**/*.[chi]*")]
    read = {found for path in sources for found in re.findall(r'"(FASTRNN_\w+)"', path.read_text())}
    assert set(re.findall(r"^\| `(FASTRNN_\w+)` ", README, re.MULTILINE)) == read - macros


def test_links_in_the_pages_lead_to_files_of_the_project():
    for page in ROOT.glob("*.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (ROOT / target).exists(), f"{page.name}: {target}"


def test_examples_in_the_readme_run():
    examples = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert examples
    for example in examples:
        exec(compile(example, "README.md", "exec"), {})
