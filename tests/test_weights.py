"""Whatever replaces, ties, converts or computes weights: the next call uses what torch.nn would."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from cases import MODES, OpCalls, build, evaluate, make_states, pair
from test_errors import error_of
from tolerances import assert_matches
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import fastrnn

NAME = "weight_hh_l0"


def new_parameters(module: Any) -> None:
    for name, weight in list(module.named_parameters()):
        setattr(module, name, nn.Parameter(torch.randn_like(weight)))


def load_assigned(module: Any) -> None:
    state = {name: torch.randn_like(weight) for name, weight in module.state_dict().items()}
    module.load_state_dict(state, assign=True)


def load_in_part(module: Any) -> None:
    keys = module.load_state_dict(
        {NAME: torch.randn(2), "other": torch.ones(1)}
        | {NAME: torch.randn_like(getattr(module, NAME))},
        strict=False,
    )
    assert keys.unexpected_keys == ["other"] and len(keys.missing_keys) > 3


def through_meta(module: Any) -> None:
    module.to("meta").to_empty(device="cpu").reset_parameters()


def swap_tensors(module: Any) -> None:
    fresh = nn.Parameter(torch.randn_like(getattr(module, NAME)))
    module._flat_weight_refs.clear()  # as torch.nn.RNNBase does before it swaps
    torch.utils.swap_tensors(getattr(module, NAME), fresh)
    module._init_flat_weights()


def swap_on_conversion(module: Any) -> None:
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        module.double().float()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


def overwrite_on_conversion(module: Any) -> None:
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        module.double().float()
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)


def flat_vector(module: Any) -> None:
    """Every weight becomes a view of one vector, at any offset."""
    vector = nn.utils.parameters_to_vector(module.parameters()).detach()
    nn.utils.vector_to_parameters(2 * vector, module.parameters())


def pruned(module: Any) -> None:
    prune.random_unstructured(module, NAME, amount=0.3)
    prune.l1_unstructured(module, "weight_ih_l0", amount=4)


def pruned_for_good(module: Any) -> None:
    pruned(module)
    prune.remove(module, NAME)


def parametrized_and_back(module: Any) -> None:
    parametrizations.weight_norm(module, NAME)
    parametrize.remove_parametrizations(module, NAME)


def weight_drop(module: Any) -> None:
    """As the AWD-LSTM does: each call drops other weights, and the module holds no parameter."""
    raw = nn.Parameter(getattr(module, NAME).data)
    delattr(module, NAME)
    module.register_parameter(NAME + "_raw", raw)
    module.flatten_parameters = lambda: None

    def drop(module: Any, args: Any) -> None:
        setattr(module, NAME, 1 * nn.functional.dropout(raw, 0.5, module.training))

    drop(module, ())
    module.register_forward_pre_hook(drop)


def tied_layers(module: Any) -> None:
    module.weight_hh_l1 = module.weight_hh_l0
    module.bias_hh_l1 = module.bias_ih_l1 = module.bias_hh_l0


def tied_directions(module: Any) -> None:
    module.weight_hh_l0_reverse = module.weight_hh_l0


def tied_modules(module: Any) -> None:
    other = type(module)(5, 6, 2, bidirectional=True)
    module.weight_hh_l0, module.weight_ih_l1 = other.weight_hh_l0, other.weight_ih_l1


def initialised(module: Any) -> None:
    for layer in module.all_weights:
        for weight in layer:
            nn.init.xavier_normal_(weight) if weight.dim() == 2 else nn.init.zeros_(weight)
    hidden = module.hidden_size
    module.bias_ih_l0.data[hidden // 2 :].fill_(1)


NAMED = (
    new_parameters,
    load_assigned,
    load_in_part,
    through_meta,
    swap_tensors,
    swap_on_conversion,
    overwrite_on_conversion,
    flat_vector,
    pruned,
    pruned_for_good,
    parametrized_and_back,
    weight_drop,
    tied_layers,
    tied_directions,
    tied_modules,
    initialised,
)
CHANGES: dict[str, Callable[[Any], Any]] = {change.__name__: change for change in NAMED} | {
    "weight_norm": lambda module: parametrizations.weight_norm(module, NAME),
    "spectral_norm": lambda module: parametrizations.spectral_norm(module, NAME),
    "orthogonal": lambda module: parametrizations.orthogonal(module, NAME),
    "old weight_norm": lambda module: nn.utils.weight_norm(module, NAME),
    "old spectral_norm": lambda module: nn.utils.spectral_norm(module, NAME),
    "reset_parameters": lambda module: module.reset_parameters(),
    "share_memory": lambda module: module.share_memory(),
    "half and back": lambda module: module.half().float(),
    "double and back": lambda module: module.double().to(torch.float32),
}


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:`torch.nn.utils.spectral_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("change", CHANGES)
def test_changed_weights(change, mode):
    """In a call before and after the change, without gradients, and over three training steps."""
    modules = pair(mode, 5, 6, 2, bidirectional=True)
    input, hx = torch.randn(4, 3, 5), make_states(modules[0], 3)

    def on_both(call: Callable[[Any], Any]) -> None:
        results = []
        for module in modules:
            torch.manual_seed(1)
            results.append(call(module))
        assert_matches(*results)

    on_both(lambda module: module(input, hx)[0].detach())
    on_both(lambda module: CHANGES[change](module) and None)
    for _ in range(3):
        on_both(lambda module: evaluate(module, input, hx))
        on_both(lambda module: run(module.eval(), input, hx))
        on_both(lambda module: step(module.train(), input))


def run(module: Any, input: torch.Tensor, hx: Any) -> Any:
    with torch.no_grad(), OpCalls() as ops:
        output, finals = module(input, hx)
    if isinstance(module, fastrnn.modules._Recurrent):
        assert ops.names() == ["_inference"]
    return output, finals


def step(module: Any, input: torch.Tensor) -> None:
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    module(input)[0].square().sum().backward()
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimizer.step()
    for weight in module.parameters():  # as optimisers do that replace what they update
        weight.data = weight.data - 0.01 * weight.data


@pytest.mark.parametrize("mode", MODES)
def test_gradients_reach_what_the_weight_was_computed_from(mode):
    ours, theirs = pair(mode, 5, 6)
    input = torch.randn(4, 3, 5)
    gradients = []
    for module in (ours, theirs):
        raw = module.weight_hh_l0.detach().clone().requires_grad_()
        del module.weight_hh_l0
        module.weight_hh_l0 = raw * 2
        (gradient,) = torch.autograd.grad(module(input)[0].square().sum(), raw)
        gradients.append(gradient)
    assert_matches(*gradients)


@pytest.mark.parametrize("mode", MODES)
def test_functional_call_with_parametrizations_and_ties(mode):
    modules = pair(mode, 5, 6, 2)
    input = torch.randn(4, 3, 5)
    for module in modules:
        torch.manual_seed(1)
        parametrizations.weight_norm(module, NAME)
        module.bias_hh_l1 = module.bias_hh_l0
    state = {name: torch.randn_like(weight) for name, weight in modules[1].named_parameters()}
    for names in (list(state), list(state)[:1]):
        some = {name: state[name].requires_grad_() for name in names}
        results = []
        for module in modules:
            output, _ = torch.func.functional_call(module, some, (input,))
            results.append((output, torch.autograd.grad(output.sum(), list(some.values()))))
        assert_matches(*results)
    assert_matches(evaluate(modules[0], input), evaluate(modules[1], input))


def on_meta(mode: str) -> Any:
    with torch.device("meta"):
        module = build(fastrnn, mode, 5, 6, 2)
    module.to_empty(device="cpu").reset_parameters()
    return module


def assigned(mode: str) -> Any:
    with torch.device("meta"):
        module = build(fastrnn, mode, 5, 6, 2)
    module.load_state_dict(build(nn, mode, 5, 6, 2).state_dict(), assign=True)
    return module


def by_default(mode: str) -> Any:
    torch.set_default_dtype(torch.float64)
    try:
        return build(fastrnn, mode, 5, 6, 2).float()
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("construct", [on_meta, assigned, by_default])
@pytest.mark.parametrize("mode", MODES)
def test_made_without_values_first(mode, construct):
    ours, theirs = construct(mode), build(nn, mode, 5, 6, 2)
    theirs.load_state_dict(ours.state_dict())
    input = torch.randn(4, 3, 5)
    with OpCalls() as ops:
        assert_matches(evaluate(ours, input), evaluate(theirs, input))
    assert ops.names().count("_layer_forward") == 2


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_skip_init_knows_no_device(name):
    """It looks for `device` in the signature, which torch's recurrent modules do not show."""
    ours, theirs = (
        error_of(lambda p=p: nn.utils.skip_init(getattr(p, name), 5, 6)) for p in (fastrnn, nn)
    )
    assert ours == theirs


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_meta(mode, grad):
    ours, theirs = (build(p, mode, 5, 6, 2, device="meta") for p in (fastrnn, nn))
    input = torch.empty(4, 3, 5, device="meta")
    with torch.set_grad_enabled(grad):
        (output, finals), (want_output, want_finals) = ours(input), theirs(input)
    finals, want_finals = ((f,) if mode != "LSTM" else f for f in (finals, want_finals))
    for actual, expected in zip((output, *finals), (want_output, *want_finals), strict=True):
        assert (actual.shape, actual.device.type) == (expected.shape, "meta")
        assert actual.stride() == expected.stride()
        assert actual.requires_grad == expected.requires_grad == grad
    if grad:
        output.sum().backward()
        assert ours.weight_hh_l0.grad.device.type == "meta"


@pytest.mark.parametrize("mode", MODES)
def test_copies_after_use(mode):
    """Saved, copied and shared after training steps and calls whose packed weights are kept."""
    module = build(fastrnn, mode, 5, 6, 2)
    input = torch.randn(4, 3, 5)
    step(module, input)
    run(module, input, None)
    expected = evaluate(module, input)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    replica = module._replicate_for_data_parallel()
    for name, weight in module.named_parameters():
        setattr(replica, name, weight.detach().clone())
    copies = [
        copy.deepcopy(module),
        copy.copy(module),
        pickle.loads(pickle.dumps(module)),
        torch.load(file, weights_only=False),
    ]
    for copied in copies:
        assert_matches(evaluate(copied, input), expected, fraction=0)
    with torch.no_grad():
        assert_matches(replica(input)[0], expected[0][0])
    averaged = torch.optim.swa_utils.AveragedModel(module)
    averaged.update_parameters(module)
    assert_matches(evaluate(averaged.module, input), expected, fraction=0)
