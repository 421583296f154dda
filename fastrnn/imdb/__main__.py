"""Entry point of `fastrnn-imdb` and `python -m fastrnn.imdb`."""

from __future__ import annotations

import sys
from importlib.util import find_spec

# What the extra [imdb] installs, by the names that are imported.
EXTRA = ("typer", "rich", "matplotlib", "sklearn", "pooch")


def main() -> int:
    """Runs the program; returns its exit code, 2 for a mistake that its user can mend."""
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        print(
            f"fastrnn-imdb needs {', '.join(missing)}: pip install 'fastrnn[imdb]'",
            file=sys.stderr,
        )
        return 2
    from fastrnn.imdb import cli

    return cli.run()


if __name__ == "__main__":
    sys.exit(main())
