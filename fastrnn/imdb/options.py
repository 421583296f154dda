"""Command-line options made from the fields of `Config`, so that each is declared once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, get_type_hints

import typer

from fastrnn.imdb.config import Config

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON instead, an object on a line.")
]


def config_options(command: Callable[..., None]) -> Callable[..., None]:
    """Gives `command(**given)` one option for each field of `Config`, None where not given.

    Other options that the command declares stay as they are.
    """
    own = [
        each.replace(annotation=get_type_hints(command, include_extras=True)[each.name])
        for each in inspect.signature(command).parameters.values()
        if each.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    hints = get_type_hints(Config)
    parameters = own + [
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                hints[each.name] | None,
                typer.Option(help=option_text(each.name), rich_help_panel=each.metadata["group"]),
            ],
        )
        for each in fields(Config)
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    return command


def option_text(name: str) -> str:
    """Returns the help text of field `name` of `Config`, with its default."""
    declared = Config.__dataclass_fields__[name]
    text: str = declared.metadata["text"]
    return text if declared.default is None else f"{text} Default {declared.default}."
