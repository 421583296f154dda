"""`python -m fastrnn.info` prints what `fastrnn.info()` returns."""

import sys
from typing import Any

from fastrnn._info import info

if __name__ == "__main__":
    print(info())
else:
    modules: dict[str, Any] = sys.modules
    modules[__name__] = info  # so that importing this file leaves `fastrnn.info` the function
