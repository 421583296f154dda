"""Entry point of `fastrnn-imdb` and `python -m fastrnn.imdb`."""

from __future__ import annotations

import gc
import sys

from fastrnn.imdb.errors import DataError
from fastrnn.imdb.extras import require


def main() -> int:
    """Runs the program; returns its exit code, 2 for a mistake that its user can mend."""
    try:
        require("imdb", "fastrnn-imdb")
    except DataError as error:
        print(error, file=sys.stderr)
        return 2
    from fastrnn.imdb import cli
    from fastrnn.imdb.distributed import end_of_team

    gc.freeze()  # what torch made at import lives to the end, and each full collection walks it
    code = cli.run()
    end_of_team(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
