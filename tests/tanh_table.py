"""The table of tanh by polynomials. `python -m tests.tanh_table` puts it into tanh_table.inl.

tanh has 32 intervals above zero: four to an octave, so that the leading bits of a number are its
interval, and the first of them reaches down to zero. In each a polynomial in the distance from its
middle takes the values of tanh at the roots of a Chebyshev polynomial.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.polynomial import Polynomial
from numpy.polynomial.chebyshev import chebpts1

FILE = Path(__file__).parents[1] / "csrc/cpu/tanh_table.inl"
BEGIN, END = "// begin: python -m tests.tanh_table\n", "// end\n"

DEGREE = 5
FIRST = 0.0625  # the first quarter of an octave that is an interval
INTERVALS = 32
SATURATED = 9.02  # above it tanh is 1 in float32


def lower_end(interval: int) -> float:
    """The least number whose leading bits are those of `interval`."""
    return FIRST * 2.0 ** (interval // 4) * (1 + interval % 4 / 4)


def polynomial(interval: int) -> tuple[float, list[float]]:
    """Returns the middle of an interval, and the coefficients from the constant one on."""
    low, high = lower_end(interval), lower_end(interval + 1)
    if low > SATURATED:
        return low, [1.0] + [0.0] * DEGREE
    if interval == 0:  # tanh(x) / x, so that small results are as exact as large ones
        x = high * (chebpts1(DEGREE) + 1) / 2
        return 0.0, [0.0, *Polynomial.fit(x, np.tanh(x) / x, DEGREE - 1).convert().coef]
    middle, half = (low + high) / 2, (high - low) / 2
    distance = half * chebpts1(DEGREE + 1)
    fit = Polynomial.fit(distance, np.tanh(middle + distance), DEGREE)
    return middle, list(fit.convert().coef)


def columns() -> np.ndarray:
    """Returns middles, then coefficients of each degree, as float32; by the bits of a number.

    The bits are the low five of the exponent and the upper two of the fraction.
    """
    table = np.zeros((DEGREE + 2, INTERVALS), np.float32)
    for interval in range(INTERVALS):
        bits = np.float32(lower_end(interval)).view(np.uint32) >> 21
        middle, coefficients = polynomial(interval)
        table[:, bits % INTERVALS] = [middle, *coefficients]
    return table


def text() -> str:
    """The table as C++ code."""
    lines = [f"alignas(64) constexpr float kTanh[{DEGREE + 2}][{INTERVALS}] = {{"]
    for column in columns():
        lines.append("    {")
        numbers = [f"{number:.9g}" for number in column]
        numbers = [n if re.search(r"[.e]", n) else n + "." for n in numbers]
        for start in range(0, INTERVALS, 4):
            lines.append("        " + ", ".join(n + "f" for n in numbers[start : start + 4]) + ",")
        lines.append("    },")
    return "\n".join([*lines, "};"]) + "\n"


def split() -> list[str]:
    """Returns the file before the table, the table there, and what follows."""
    before, rest = FILE.read_text().split(BEGIN)
    return [before, *rest.split(END)]


def main() -> None:
    before, _, after = split()
    FILE.write_text(before + BEGIN + text() + END + after)


if __name__ == "__main__":
    main()
