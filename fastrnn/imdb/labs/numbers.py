"""The labs on numbers: regression, optimizers, losses, and training against validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from statistics import mean

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import fastrnn
from fastrnn.imdb.curves import Curve
from fastrnn.imdb.labs.base import (
    FIRST,
    LAST,
    Lab,
    Part,
    Run,
    Variant,
    course,
    extremes,
    fit,
    sentence,
)


class Regression(nn.Module):
    """RNN → linear to one number: from the last state, or from the output of each step."""

    def __init__(self, layers: int, each_step: bool) -> None:
        """Builds the layers: 10 features, 20 hidden units."""
        super().__init__()
        self.rnn = fastrnn.RNN(10, 20, layers, batch_first=True)
        self.head = nn.Linear(20, 1)
        self.each_step = each_step

    def forward(self, x: Tensor) -> Tensor:
        """Returns (B, 1), or (B, T, 1) for each step, for `x` (B, T, 10)."""
        output, h_n = self.rnn(x)
        y: Tensor = self.head(output if self.each_step else h_n[-1])
        return y


def _regression(
    layers: int, shape: tuple[int, int, int], each_step: bool, seed: int, epochs: int
) -> Run:
    model = Regression(layers, each_step)
    x = torch.randn(shape)
    y = torch.randn(*shape[:-1], 1) if each_step else torch.randn(shape[0], 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return _losses(fit(model, optimizer, F.mse_loss, lambda: [(x, y)], epochs))


def _losses(training: Curve) -> Run:
    return Run({FIRST: training.y[0], LAST: training.y[-1]}, {"training": training})


def _courses(part: Part) -> str:
    return sentence("; ".join(course(part, variant) for variant in part.runs))


def _linear() -> nn.Module:
    return nn.Linear(1, 1)


def _small() -> nn.Module:
    return nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 1))


def _optimizer(
    model_of: Callable[[], nn.Module],
    optimizer_of: Callable[..., torch.optim.Optimizer],
    seed: int,
    epochs: int,
) -> Run:
    x = torch.linspace(0, 10, 100).unsqueeze(1)
    y = 3 * x + 2 + torch.randn(x.shape)
    model = model_of()
    return _losses(
        fit(model, optimizer_of(model.parameters()), F.mse_loss, lambda: [(x, y)], epochs)
    )


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD 0.01": partial(torch.optim.SGD, lr=1e-2),
    "SGD 0.01, momentum 0.9": partial(torch.optim.SGD, lr=1e-2, momentum=0.9),
    "Adam 0.001": partial(torch.optim.Adam, lr=1e-3),
    "Adam 0.01": partial(torch.optim.Adam, lr=1e-2),
}
REPORTED_OF_OPTIMIZERS = {
    "1→1, Adam 0.001": "211 → 198 by epoch 72",
    "1→4→1, SGD 0.01": "304 → 83",
}


def _optimizer_variants() -> Iterator[Variant]:
    for network, model_of in (("1→1", _linear), ("1→4→1", _small)):
        for optimizer, optimizer_of in OPTIMIZERS.items():
            name = f"{network}, {optimizer}"
            run = partial(_optimizer, model_of, optimizer_of)
            yield Variant(name, run, REPORTED_OF_OPTIMIZERS.get(name, ""))


SCORES = ((2.0, 1.0), (0.5, 1.5))
CLASSES = (0, 1)
BY_TORCH, BY_HAND = "by torch", "by its formula"
CROSS_ENTROPY, NLL = "cross-entropy", "NLL of log-softmax"
LOGITS, BCE = "BCE with logits", "BCE of sigmoid"


def _nll(scores: Tensor, classes: Tensor) -> Tensor:
    return F.nll_loss(F.log_softmax(scores, 1), classes)


def _logit(scores: Tensor) -> Tensor:
    """Two scores as one logit, that of class 1."""
    return scores[:, 1] - scores[:, 0]


def _bce(scores: Tensor, classes: Tensor) -> Tensor:
    return F.binary_cross_entropy(torch.sigmoid(_logit(scores)), classes.to(scores.dtype))


def _bce_logits(scores: Tensor, classes: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(_logit(scores), classes.to(scores.dtype))


def _mse(scores: Tensor, classes: Tensor) -> Tensor:
    return F.mse_loss(scores, F.one_hot(classes, 2).to(scores.dtype))


def _l1(scores: Tensor, classes: Tensor) -> Tensor:
    return F.l1_loss(scores, F.one_hot(classes, 2).to(scores.dtype))


def _formula(power: int, scores: Tensor, classes: Tensor) -> float:
    """Mean distance to one-hot rows in a power, or with power 0 the mean of -log p(class)."""
    chosen = scores[torch.arange(len(classes)), classes]
    if power == 0:
        return float((scores.exp().sum(1).log() - chosen).mean())
    others = scores.sum(1) - chosen
    return float((((chosen - 1).abs() ** power + others.abs() ** power) / 2).mean())


def _loss_value(
    loss: Callable[[Tensor, Tensor], Tensor], power: int, seed: int, epochs: int
) -> Run:
    scores, classes = torch.tensor(SCORES, dtype=torch.float64), torch.tensor(CLASSES)
    margins = torch.linspace(-4, 4, 81, dtype=torch.float64)
    rows = torch.stack([margins / 2, -margins / 2], 1)
    right = torch.zeros(1, dtype=torch.int64)
    values = [loss(row.unsqueeze(0), right).item() for row in rows]
    figures = {
        BY_TORCH: loss(scores, classes).item(),
        BY_HAND: _formula(power, scores, classes),
    }
    return Run(figures, {"one example": Curve(margins.tolist(), values)})


def _random_mse(seed: int, epochs: int) -> Run:
    """The sheet's other example: two random matrices, whose MSE is 2 on average."""
    one, other = torch.randn(3, 5), torch.randn(3, 5)
    figures = {
        BY_TORCH: F.mse_loss(one, other).item(),
        BY_HAND: float(((one - other).double() ** 2).sum() / one.numel()),
    }
    return Run(figures, {})


def _equal_losses(part: Part) -> str:
    values = {name: mean(part.values(name, BY_TORCH)) for name in part.runs}
    apart = max(abs(mean(part.values(name, BY_HAND)) - values[name]) for name in values)
    pairs = ((CROSS_ENTROPY, NLL), (LOGITS, BCE))
    texts = [
        f"{one} and {other} differ by {abs(values[one] - values[other]):.1g} "
        f"({values[one]:.4f} and {values[other]:.4f})"
        for one, other in pairs
    ]
    return sentence(f"{'; '.join(texts)}; no value is further than {apart:.1g} from its formula")


FEATURES, EXAMPLES, HELD_OUT, BATCH = 11, 200, 50, 10


def _train_and_validate(seed: int, epochs: int) -> Run:
    x = torch.randn(EXAMPLES, FEATURES)
    y = torch.sin(x[:, :1]) + x[:, 1:2] * x[:, 2:3] + 0.1 * torch.randn(EXAMPLES, 1)
    train, held_out = (
        DataLoader(TensorDataset(x[part], y[part]), BATCH, shuffle=part.start is None)
        for part in (slice(None, -HELD_OUT), slice(-HELD_OUT, None))
    )
    model = nn.Sequential(
        nn.Linear(FEATURES, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1)
    )
    validation: list[float] = []
    moved = 0.0

    @torch.no_grad()
    def validate() -> None:
        nonlocal moved
        before = _flat(model)
        model.eval()
        losses = [F.mse_loss(model(a), b).item() * len(b) for a, b in held_out]
        validation.append(sum(losses) / HELD_OUT)
        moved = max(moved, _distance(model, before))

    start = _flat(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    training = fit(model, optimizer, F.mse_loss, lambda: train, epochs, validate)
    figures = {
        FIRST: training.y[0],
        LAST: training.y[-1],
        "first validation loss": validation[0],
        "last validation loss": validation[-1],
        "lowest validation loss": min(validation),
        MOVED_TRAINING: _distance(model, start),
        MOVED_VALIDATION: moved,
    }
    return Run(figures, {"training": training, "validation": Curve(training.x, validation)})


MOVED_TRAINING, MOVED_VALIDATION = "weights moved by training", "weights moved by validation"


def _flat(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def _distance(model: nn.Module, before: Tensor) -> float:
    """The largest change of a weight."""
    return float((_flat(model) - before).abs().max())


def _moved(part: Part) -> str:
    (name,) = part.runs
    text = {
        figure: part.text(name, figure)
        for figure in (MOVED_TRAINING, MOVED_VALIDATION, "last validation loss")
    }
    return sentence(
        f"training moves weights, by up to {text[MOVED_TRAINING]}, and validation by "
        f"{text[MOVED_VALIDATION]}; {course(part, name)} on what it trains on, and ends at "
        f"{text['last validation loss']} on what it has not seen"
    )


LABS = {
    "regression": Lab(
        "Does a recurrent network learn numbers by heart?",
        "random sequences (B, T, 10) and random numbers: one for each of 16, or for each step of 3",
        100,
        (
            Variant("1 layer on (16, 3, 10)", partial(_regression, 1, (16, 3, 10), False)),
            Variant(
                "2 layers on (3, 5, 10)",
                partial(_regression, 2, (3, 5, 10), True),
                ".549 → about .03",
            ),
        ),
        LAST,
        _courses,
    ),
    "optimizers": Lab(
        "Which optimizer gets furthest in the same number of steps?",
        "100 points of y = 3x + 2 with noise, x from 0 to 10, one step an epoch",
        100,
        tuple(_optimizer_variants()),
        LAST,
        extremes,
        imdb={
            "SGD 0.1": {"optimizer": "sgd", "lr": 0.1},
            "SGD 0.1, momentum 0.9": {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9},
            "Adam 0.001": {"optimizer": "adam", "lr": 1e-3},
            "Adam 0.01": {"optimizer": "adam", "lr": 1e-2},
            "AdamW 0.001": {"optimizer": "adamw", "lr": 1e-3},
            "RMSprop 0.001": {"optimizer": "rmsprop", "lr": 1e-3},
        },
    ),
    "loss-functions": Lab(
        "What do the losses compute, and which of them are the same?",
        f"scores {[list(row) for row in SCORES]}, classes {list(CLASSES)}",
        1,
        (
            Variant(CROSS_ENTROPY, partial(_loss_value, F.cross_entropy, 0)),
            Variant(NLL, partial(_loss_value, _nll, 0), "equal to cross-entropy"),
            Variant(LOGITS, partial(_loss_value, _bce_logits, 0)),
            Variant(BCE, partial(_loss_value, _bce, 0)),
            Variant("MSE to one-hot", partial(_loss_value, _mse, 2)),
            Variant("L1 to one-hot", partial(_loss_value, _l1, 1)),
            Variant("MSE of random numbers", _random_mse, "2.08"),
        ),
        BY_TORCH,
        _equal_losses,
        axes=("score of the right class above the other's", "loss"),
    ),
    "train-validation": Lab(
        "What differs between a pass of training and one of validation?",
        f"{EXAMPLES - HELD_OUT} examples of {FEATURES} numbers to train on and {HELD_OUT} others, "
        f"network {FEATURES}→64→32→1, batches of {BATCH}",
        40,
        (Variant(f"{FEATURES}→64→32→1", _train_and_validate),),
        LAST,
        _moved,
    ),
}
