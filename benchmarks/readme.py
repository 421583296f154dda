"""The measured tables of README.md and benchmarks/README.md, put between marks by programs."""

from __future__ import annotations

from pathlib import Path

from fastrnn.imdb.files import write_file

README = Path(__file__).parents[1] / "README.md"
FEATURES = Path(__file__).with_name("README.md")
"""The page of what is measured of single features."""


def split(page: str, table: str) -> tuple[str, str, str]:
    """Splits a page at the marks of a table.

    Returns:
        What comes before the table, with the mark; the table; what comes after it, with the mark.

    Raises:
        ValueError: the page does not hold each of the two marks once, in order.
    """
    begin, end = f"<!-- {table}:begin -->\n", f"<!-- {table}:end -->"
    start, stop = page.find(begin) + len(begin), page.find(end)
    if page.count(begin) != 1 or page.count(end) != 1 or stop < start:
        raise ValueError(f"the page must hold {begin.strip()} and then {end}, once each")
    return page[:start], page[start:stop], page[stop:]


def put(path: Path, table: str, text: str) -> None:
    """Puts `text` in the place of a table.

    Raises:
        ValueError: the page does not hold the marks of the table; it is left as it is.
    """
    before, _, after = split(path.read_text(), table)
    write_file(path, (before + text + after).encode())
