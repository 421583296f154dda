"""The page of `fastrnn-imdb serve`, as one self-contained HTML document."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from fastrnn.imdb.explained import moves, reading, shade
from fastrnn.imdb.reader import Explanation, label

SHADES = 20  # steps in which colours go from negative to positive

EXAMPLES = (
    "A slow start, but what a wonderful ending!",
    "Great music, a great cast, and still the worst film of the year.",
    "Not bad at all. One of the best, in fact.",
)


class Page:
    """Renders the page.

    Args:
        about: A sentence about the model.
        limit: Characters that a review may have.
    """

    def __init__(self, about: str, limit: int) -> None:
        """Reads the parts of the page."""
        folder = files(__package__)
        style = (folder / "page.css").read_text(encoding="utf-8") + _shades()
        script = (folder / "page.js").read_text(encoding="utf-8")
        # Everything that is not the page's own text is escaped.
        environment = Environment(
            autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        self._template = environment.from_string(
            (folder / "page.html.jinja").read_text(encoding="utf-8"),
            {
                "about": about,
                "limit": limit,
                "style": Markup(style),
                "script": Markup(script),
                "examples": EXAMPLES,
                "label": label,
            },
        )
        self.policy = (
            f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
            "connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; "
            "frame-ancestors 'none'"
        )
        """The Content-Security-Policy: nothing runs or loads but what this page brings."""

    def render(
        self, text: str = "", explanation: Explanation | None = None, error: str | None = None
    ) -> str:
        """The page with a text in its form, and what is known about it."""
        known = {} if explanation is None else _result(explanation)
        return self._template.render(text=text, error=error, **{"prediction": None, **known})


def _result(explanation: Explanation) -> dict[str, object]:
    probabilities = [explanation.before, *(step.probability or 0.0 for step in explanation.read)]
    return {
        "prediction": explanation.prediction,
        "reading": reading(explanation.prediction),
        "before": explanation.before,
        "steps": explanation.steps,
        "read": explanation.read,
        "moves": moves(explanation),
        "points": " ".join(
            f"{place},{100 * (1 - each):.1f}" for place, each in enumerate(probabilities)
        ),
    }


def _shades() -> str:
    """The colours as classes: a style in the word itself would need a laxer policy."""
    rules = []
    for step in range(SHADES + 1):
        colour = f"rgb{shade(step / SHADES)}"
        rules.append(f".shade-{step} {{ fill: {colour}; background: {colour}; }}\n")
    return "".join(rules)


def _hash(content: str) -> str:
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    return f"'sha256-{digest}'"
