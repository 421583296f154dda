"""The settings of one training run: a frozen dataclass, checked when it is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from fastrnn.imdb.errors import DataError
from fastrnn.imdb.losses import activation_before


class Rule(NamedTuple):
    """What the value of a setting must satisfy, for the check and for the message."""

    text: str
    holds: Callable[[Any], bool]


AT_LEAST_ONE = Rule("at least 1", lambda value: value >= 1)
NOT_NEGATIVE = Rule("at least 0", lambda value: value >= 0)
FINITE = Rule("at least 0 and finite", lambda value: 0 <= value < float("inf"))
POSITIVE = Rule("above 0", lambda value: 0 < value < float("inf"))
PROBABILITY = Rule("at least 0 and below 1", lambda value: 0 <= value < 1)
FRACTION = Rule("above 0 and below 1", lambda value: 0 < value < 1)
SHARE = Rule("between 0 and 1", lambda value: 0 <= value <= 1)
# A checkpoint's settings build a model: these bounds keep a damaged file from asking for more
# layers or elements than can be counted.
SIZE = Rule("between 1 and 1,000,000", lambda value: 1 <= value <= 1_000_000)
FEW = Rule("between 1 and 100", lambda value: 1 <= value <= 100)
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
    tokens: Literal["keras", "fine"] = setting(
        "keras", "Data", "Keras' words; or fine: words, numbers and punctuation marks."
    )
    num_words: int = setting(500, "Data", "Size of the vocabulary, special ids included.", WORDS)
    maxlen: int = setting(100, "Data", "Tokens of a review that are read.", AT_LEAST_ONE)
    padding: Literal["pre", "post"] = setting("pre", "Data", "Side on which short reviews grow.")
    truncating: Literal["pre", "post"] = setting("pre", "Data", "Side on which long reviews lose.")
    validation_fraction: float = setting(
        0.2,
        "Data",
        "Part of the training reviews held out for validation; with 0 the last epoch is the best.",
        PROBABILITY,
    )
    split: Literal["random", "films"] = setting(
        "random",
        "Data",
        "How they are chosen: at random, or so that reviews of a film rarely come in both parts.",
    )
    segment: int | None = setting(
        None,
        "Data",
        "Cut reviews into pieces of so many tokens that are read side by side and pooled together.",
        AT_LEAST_ONE,
    )
    features: Literal["none", "learned", "nb", "nbsvm"] = setting(
        "none",
        "Data",
        "What is read beside a word: nothing; an embedding of the 2- and 3-grams that end there, "
        "learned with all else; or scores of its n-grams, from counts in reviews of both labels "
        "(nb), and from a linear classifier too (nbsvm).",
    )

    cell: Literal["rnn", "lstm", "gru"] = setting("lstm", "Model", "Kind of recurrent layer.")
    hidden_size: int = setting(8, "Model", "Hidden units in each layer.", SIZE)
    layers: int = setting(1, "Model", "Recurrent layers.", FEW)
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
    recurrent_dropout: float = setting(
        0.0,
        "Model",
        "Dropout on the previous hidden state, one mask for all time steps, as Keras'; torch.nn "
        "has none, so backend torch runs the plain PyTorch of backend reference with it.",
        PROBABILITY,
    )
    feature_dropout: float = setting(
        0.0, "Model", "Part of the n-grams or scores that training does not see.", PROBABILITY
    )
    head_dropout: float = setting(0.0, "Model", "Dropout before the output layer.", PROBABILITY)
    word_dropout: float = setting(
        0.0, "Model", "Part of the words that training reads as unknown ones.", PROBABILITY
    )
    pooling: Literal["last", "max", "mean", "max-mean"] = setting(
        "last",
        "Model",
        "What of the last layer is read: its last state, or its largest or mean output over the "
        "time steps of a review; with these, padding is not read.",
    )
    shortcut: bool = setting(
        False,
        "Model",
        "Let the output layer read the words too, past the recurrent layers: the sum of their "
        "vectors over a review.",
    )
    output_activation: Literal["none", "relu", "tanh", "sigmoid"] | None = setting(
        None, "Model", "Between output layer and loss; sigmoid for bce and else none if unset."
    )
    init: Literal["torch", "keras", "small"] = setting(
        "torch",
        "Model",
        "Whose initial weights; small: torch's, and a tenth of them for the embedding.",
    )
    members: int = setting(
        1,
        "Model",
        "Networks that learn side by side from the same batches, each by itself; their outputs are "
        "averaged.",
        FEW,
    )
    backend: Literal["fastrnn", "torch", "reference"] = setting(
        "fastrnn", "Model", "Recurrent layers of fastrnn, of torch.nn, or in plain PyTorch."
    )

    loss: Literal["bce", "bce-logits", "cross-entropy", "nll", "mse", "l1"] = setting(
        "bce-logits",
        "Training",
        "Binary cross-entropy of one probability or logit; or of two outputs the cross-entropy, "
        "the same as negative log-likelihood, or distances to one-hot labels.",
    )
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"] = setting(
        "adam", "Training", "Optimizer."
    )
    momentum: float = setting(0.0, "Training", "Momentum of sgd.", PROBABILITY)
    weight_decay: float | None = setting(
        None, "Training", "Weight decay of adamw; 0.01 if unset.", FINITE
    )
    lr: float = setting(1e-3, "Training", "Learning rate.", POSITIVE)
    schedule: Literal["constant", "linear", "cosine", "step"] = setting(
        "constant",
        "Training",
        "Course of the learning rate: linear and cosine fall until the last of --epochs.",
    )
    warmup_steps: int = setting(
        0, "Training", "Steps over which the learning rate grows to --lr.", NOT_NEGATIVE
    )
    final_lr: float = setting(
        0.0, "Training", "Part of --lr at which a linear or cosine schedule ends.", SHARE
    )
    step_epochs: int = setting(
        10, "Training", "Epochs between two falls of a step schedule.", AT_LEAST_ONE
    )
    step_factor: float = setting(
        0.1, "Training", "What --lr is multiplied by at each fall of a step schedule.", FRACTION
    )
    clip_norm: float | None = setting(
        None, "Training", "Norm above which the gradient is scaled down to it.", POSITIVE
    )
    batch_size: int = setting(64, "Training", "Reviews in a step.", AT_LEAST_ONE)
    batches: Literal["padded", "bucketed"] = setting(
        "padded",
        "Training",
        "Padded reads all of --maxlen steps; bucketed puts reviews of similar lengths together "
        "and reads no padding.",
    )
    epochs: int = setting(100, "Training", "Epochs at most.", AT_LEAST_ONE)
    patience: int = setting(
        3, "Training", "Epochs without a better validation loss before stopping.", AT_LEAST_ONE
    )
    seed: int = setting(42, "Training", "Seed of weights, order and dropout.", NOT_NEGATIVE)

    run_dir: str | None = setting(None, "Run", "Folder for the results, new or empty.")
    tensorboard: bool = setting(
        False, "Run", "Keep a log for TensorBoard in the run folder too, in `tensorboard`."
    )
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
        if self.momentum and self.optimizer != "sgd":
            raise DataError(
                f"--momentum {self.momentum} is for --optimizer sgd, got {self.optimizer}"
            )
        if self.weight_decay is not None and self.optimizer != "adamw":
            raise DataError(
                f"--weight-decay {self.weight_decay} is for --optimizer adamw, got {self.optimizer}"
            )
        if self.segment is not None and self.pooling == "last":
            raise DataError("--segment needs a --pooling other than last, over all pieces")
        if self.shortcut and self.pooling == "last":
            raise DataError("--shortcut needs a --pooling other than last")
        if self.segment is not None and self.batches == "bucketed":
            raise DataError(
                "--segment reads no padding: use --batches padded, the default, with it"
            )
        if self.segment is None and self.features != "none":
            raise DataError(f"--features {self.features} needs --segment, such as --segment 64")
        activation_before(self.loss, self.output_activation)

    @staticmethod
    def option(name: str) -> str:
        """Returns the command line's name of field `name`."""
        return "--" + name.replace("_", "-")

    @staticmethod
    def changeable() -> set[str]:
        """Returns the fields that may change while a run goes on: they decide no number of it."""
        return {"data", "run_dir", "tensorboard", "threads"}

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
    if get_origin(hint) in (Union, UnionType):
        if value is None:
            return
        hint, _ = get_args(hint)
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise DataError(f"{option} must be {' or '.join(get_args(hint))}, got {value!r}")
        return
    # An int does for a float, but True is no number here although bool is a kind of int.
    accepted = (int, float) if hint is float else (hint,)
    if not isinstance(value, accepted) or (hint is not bool and isinstance(value, bool)):
        raise DataError(f"{option} must be of type {hint.__name__}, got {value!r}")
    rule: Rule | None = declared.metadata["rule"]
    if rule is not None and not rule.holds(value):
        raise DataError(f"{option} must be {rule.text}, got {value}")
