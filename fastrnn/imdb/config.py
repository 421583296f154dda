"""The settings of one training run: a frozen dataclass, checked when it is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from types import NoneType
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from fastrnn.imdb.errors import DataError


class Rule(NamedTuple):
    """What the value of a setting must satisfy, for the check and for the message."""

    text: str
    holds: Callable[[Any], bool]


AT_LEAST_ONE = Rule("at least 1", lambda value: value >= 1)
NOT_NEGATIVE = Rule("at least 0", lambda value: value >= 0)
POSITIVE = Rule("above 0", lambda value: 0 < value < float("inf"))
PROBABILITY = Rule("at least 0 and below 1", lambda value: 0 <= value < 1)
FRACTION = Rule("above 0 and below 1", lambda value: 0 < value < 1)
# A checkpoint's settings build a model: these bounds keep a damaged file from asking for more
# layers or elements than can be counted.
SIZE = Rule("between 1 and 1,000,000", lambda value: 1 <= value <= 1_000_000)
LAYERS = Rule("between 1 and 100", lambda value: 1 <= value <= 100)
# Ids 0 to 3 are padding, start, unknown and a gap: the most frequent word is 4.
WORDS = Rule("between 5 and 1,000,000", lambda value: 5 <= value <= 1_000_000)


def setting(default: Any, group: str, text: str, rule: Rule | None = None) -> Any:
    """Declares a field of `Config`; `text` is its comment here and its help on the command line."""
    return field(default=default, metadata={"group": group, "text": text, "rule": rule})


@dataclass(frozen=True)
class Config:
    """All that decides a training run; `fastrnn-imdb train` has one option for each field.

    Raises:
        DataError: a value is of the wrong type or out of range, or two values exclude each other.

    Example:
        >>> Config(cell="gru", hidden_size=16).option("hidden_size")
        '--hidden-size'
        >>> Config(batch_size=0)
        Traceback (most recent call last):
        ...
        fastrnn.imdb.errors.DataError: --batch-size must be at least 1, got 0
    """

    preset: str | None = setting(None, "Run", "Named set of settings to start from.")

    data: str | None = setting(
        None, "Data", "Where the reviews are: a folder, archive or npz file."
    )
    num_words: int = setting(500, "Data", "Size of the vocabulary, special ids included.", WORDS)
    maxlen: int = setting(100, "Data", "Tokens of a review that are read.", AT_LEAST_ONE)
    padding: Literal["pre", "post"] = setting("pre", "Data", "Side on which short reviews grow.")
    truncating: Literal["pre", "post"] = setting("pre", "Data", "Side on which long reviews lose.")
    validation_fraction: float = setting(
        0.2, "Data", "Part of the training reviews held out for validation.", FRACTION
    )

    cell: Literal["rnn", "lstm", "gru"] = setting("lstm", "Model", "Kind of recurrent layer.")
    hidden_size: int = setting(8, "Model", "Hidden units in each layer.", SIZE)
    layers: int = setting(1, "Model", "Recurrent layers.", LAYERS)
    bidirectional: bool = setting(False, "Model", "Read in both directions.")
    one_hot: bool = setting(False, "Model", "One-hot vectors instead of an embedding.")
    embedding_size: int = setting(16, "Model", "Width of the embedding.", SIZE)
    dropout: float = setting(
        0.0, "Model", "Dropout between recurrent layers, as torch.nn's `dropout`.", PROBABILITY
    )
    input_dropout: float = setting(
        0.0,
        "Model",
        "Dropout on each layer's input, one mask for all time steps, as Keras' `dropout`.",
        PROBABILITY,
    )
    init: Literal["torch", "keras"] = setting("torch", "Model", "Whose initial weights.")
    backend: Literal["fastrnn", "torch", "reference"] = setting(
        "fastrnn", "Model", "Recurrent layers of fastrnn, of torch.nn, or in plain PyTorch."
    )

    loss: Literal["bce", "bce-logits"] = setting(
        "bce-logits", "Training", "Cross-entropy of the sigmoid, or of the logits (more exact)."
    )
    optimizer: Literal["adam", "sgd", "rmsprop"] = setting("adam", "Training", "Optimizer.")
    lr: float = setting(1e-3, "Training", "Learning rate.", POSITIVE)
    batch_size: int = setting(64, "Training", "Reviews in a step.", AT_LEAST_ONE)
    epochs: int = setting(100, "Training", "Epochs at most.", AT_LEAST_ONE)
    patience: int = setting(
        3, "Training", "Epochs without a better validation loss before stopping.", AT_LEAST_ONE
    )
    seed: int = setting(42, "Training", "Seed of weights, order and dropout.", NOT_NEGATIVE)

    run_dir: str | None = setting(None, "Run", "Folder for the results, new or empty.")
    threads: int | None = setting(None, "Run", "CPU threads; torch decides if unset.", AT_LEAST_ONE)
    device: str = setting("cpu", "Run", "Device, such as cpu, cuda or cuda:1.")

    def __post_init__(self) -> None:
        """Checks each field by its type and rule, then the fields together."""
        hints = get_type_hints(Config)
        for each in fields(self):
            _check(self.option(each.name), getattr(self, each.name), hints[each.name], each)
        if self.dropout and self.layers == 1:
            raise DataError(
                f"--dropout {self.dropout} acts between recurrent layers, and --layers is 1: "
                "use --input-dropout, or --dropout 0"
            )

    @staticmethod
    def option(name: str) -> str:
        """Returns the command line's name of field `name`."""
        return "--" + name.replace("_", "-")

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as plain values, for JSON and checkpoints."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Config:
        """Returns the settings that `to_dict` gave.

        Raises:
            DataError: a setting is missing, unknown or wrong.
        """
        known = {each.name for each in fields(cls)}
        if known != set(values):
            odd = ", ".join(sorted(map(str, known ^ set(values))))
            raise DataError(f"settings must be the fields of Config; missing or unknown: {odd}")
        return cls(**values)


def _check(option: str, value: Any, hint: Any, declared: Any) -> None:
    """Raises DataError if `value` has not the type `hint` or breaks the field's rule."""
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise DataError(f"{option} must be {' or '.join(get_args(hint))}, got {value!r}")
        return
    kinds = get_args(hint) or (hint,)
    if value is None and NoneType in kinds:
        return
    kind = kinds[0]
    # An int does for a float, but True is no number here although bool is a kind of int.
    accepted = (int, float) if kind is float else (kind,)
    if not isinstance(value, accepted) or (kind is not bool and isinstance(value, bool)):
        raise DataError(f"{option} must be of type {kind.__name__}, got {value!r}")
    rule: Rule | None = declared.metadata["rule"]
    if rule is not None and not rule.holds(value):
        raise DataError(f"{option} must be {rule.text}, got {value}")
