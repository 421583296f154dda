"""What a module is beside its maths: hooks, attributes, lists of weights, old pickles."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from cases import MODES, OpCalls, build, evaluate, make_states, pair
from test_errors import outcome
from tolerances import assert_matches
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import fastrnn


def tensors(nested: Any) -> list[Tensor]:
    if isinstance(nested, Tensor):
        return [nested.detach().clone()]
    return [t for item in nested for t in tensors(item)] if isinstance(nested, tuple) else []


def hooked(module: Any, seen: list[Any]) -> Any:
    """Registers every kind of hook; some change what passes through them."""

    def double_input(module: Any, args: Any) -> Any:
        return (2 * args[0], *args[1:])

    def note(what: str, *values: Any) -> None:
        seen.append((what, tensors(values)))

    module.register_forward_pre_hook(double_input)
    module.register_forward_pre_hook(
        lambda m, args, kwargs: note("pre", args, tuple(kwargs.values())), with_kwargs=True
    )
    module.register_forward_hook(lambda m, args, result: note("forward", args, result))
    module.register_forward_hook(lambda m, args, result: (3 * result[0], result[1]))
    module.register_full_backward_pre_hook(lambda m, grads: note("backward pre", grads))
    module.register_full_backward_pre_hook(
        lambda m, grads: tuple(None if g is None else 2 * g for g in grads)
    )
    module.register_full_backward_hook(lambda m, into, out: note("backward", into, out))
    module.register_full_backward_hook(lambda m, into, out: (5 * into[0], *into[1:]))
    module.weight_hh_l0.register_hook(lambda grad: 7 * grad)
    module.bias_ih_l1.register_post_accumulate_grad_hook(lambda p: note("accumulated", p.grad))
    return module


@pytest.mark.parametrize("states", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_hooks(mode, states):
    modules = pair(mode, 5, 6, 2)
    input = torch.randn(4, 3, 5)
    hx = make_states(modules[0], 3) if states else None
    results = []
    for module in modules:
        seen: list[Any] = []
        hooked(module, seen)
        x = input.clone().requires_grad_()
        output, _ = module(x) if hx is None else module(x, hx=hx)
        output.square().sum().backward()
        gradients = {name: weight.grad for name, weight in module.named_parameters()}
        results.append((output.detach(), x.grad, gradients, seen))
    assert [what for what, _ in results[0][3]] == [what for what, _ in results[1][3]]
    assert_matches(results[0][:3], results[1][:3])
    assert_matches(*([values for _, values in result[3]] for result in results))


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_gradient_checkpointing(mode, use_reentrant):
    """Dropout draws the same numbers again when the forward is run again."""
    module = build(fastrnn, mode, 5, 6, 3, dropout=0.5)
    input = torch.randn(4, 3, 5, requires_grad=True)
    gradients = []
    for checkpointed in (False, True):
        torch.manual_seed(2)
        if checkpointed:
            with OpCalls() as ops:
                output, _ = checkpoint(module, input, use_reentrant=use_reentrant)
                output.square().sum().backward()
            assert ops.names().count("_layer_forward") == 6
        else:
            module(input)[0].square().sum().backward()
        gradients.append([t.grad for t in (input, *module.parameters())])
        input.grad = None
        module.zero_grad()
    assert_matches(*gradients, fraction=0)


@pytest.mark.parametrize("mode", MODES)
def test_saved_tensor_hooks(mode):
    ours, theirs = pair(mode, 5, 6)
    input = torch.randn(4, 3, 5)
    with torch.autograd.graph.save_on_cpu():
        actual = evaluate(ours, input)
    packed = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t) or t, lambda t: t):
        evaluate(ours, input)
    assert packed
    assert_matches(actual, evaluate(theirs, input))


@pytest.mark.parametrize("mode", MODES)
def test_attributes_changed_after_construction(mode):
    ours, theirs = pair(mode, 5, 6, 2)
    input = torch.randn(4, 3, 5)
    changes: list[dict[str, Any]] = [
        {"batch_first": True},
        {"dropout": 0.5},
        {"dropout": 1},
        {"training": False},
        {"dropout": 0.0, "batch_first": False},
    ]
    if mode.startswith("RNN"):
        other = "RNN_RELU" if mode == "RNN_TANH" else "RNN_TANH"
        changes.append({"mode": other})
    for change in changes:
        results = []
        for module in (ours, theirs):
            for name, value in change.items():
                setattr(module, name, value)
            torch.manual_seed(4)
            results.append(evaluate(module, input))
            with torch.no_grad():
                results[-1] = (*results[-1], module.eval()(input)[0])
            module.training = change.get("training", True)
        assert_matches(*results)
        assert repr(ours) == repr(theirs)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_lists_of_weights(mode, bias):
    ours, theirs = pair(mode, 5, 6, 2, bidirectional=True, bias=bias)
    assert ours._all_weights == theirs._all_weights
    assert ours._flat_weights_names == theirs._flat_weights_names
    assert [[w.shape for w in layer] for layer in ours.all_weights] == [
        [w.shape for w in layer] for layer in theirs.all_weights
    ]
    own = [getattr(ours, name) for name in ours._flat_weights_names]
    flat = [w for layer in ours.all_weights for w in layer]
    assert all(a is b is c for a, b, c in zip(own, flat, ours._flat_weights, strict=True))
    assert all(ref() is w for ref, w in zip(ours._flat_weight_refs, own, strict=True))
    assert ours.__constants__ == theirs.__constants__
    ours.flatten_parameters()
    assert all(a is b for a, b in zip(own, ours._flat_weights, strict=True))
    ours.flatten_parameters = lambda: None  # as some clients do
    ours.double()
    assert ours._flat_weights[0] is ours.weight_ih_l0
    assert ours(torch.randn(4, 3, 5, dtype=torch.float64))[0].dtype is torch.float64


@pytest.mark.parametrize("mode", MODES)
def test_reset_parameters_draws_what_torch_draws(mode):
    modules = pair(mode, 5, 6, 2)
    for module in modules:
        torch.manual_seed(6)
        module.reset_parameters()
    assert_matches(dict(modules[0].state_dict()), dict(modules[1].state_dict()), fraction=0)


def test_a_subclass_may_override_what_torch_calls():
    class Orthogonal(fastrnn.LSTM):
        def reset_parameters(self) -> None:
            for weight in self.parameters():
                nn.init.constant_(weight, 0.5)

        def check_forward_args(self, input: Any, hidden: Any, batch_sizes: Any) -> None:
            checked.append(tuple(input.shape))
            super().check_forward_args(input, hidden, batch_sizes)

    checked: list[Any] = []
    module = Orthogonal(5, 6)
    assert all((weight == 0.5).all() for weight in module.parameters())
    module(torch.randn(4, 3, 5), (torch.zeros(1, 3, 6),) * 2)
    assert checked == [(4, 3, 5)]


OLD_STATES = {
    "before proj_size": lambda state, module: state.pop("proj_size"),
    "all_weights of names": lambda state, module: state.update(
        all_weights=state.pop("_all_weights")
    ),
    "lists of weights": lambda state, module: state.update(
        _all_weights=[[None] * 4] * len(module._all_weights)
    ),
    "all_weights of weights": lambda state, module: state.update(
        all_weights=module.all_weights, _all_weights=None
    ),
    "before flat weights": lambda state, module: state.pop("_flat_weights"),
    "before names": lambda state, module: state.pop("_flat_weights_names"),
    "before lists": lambda state, module: state.pop("_all_weights"),
    "before most hooks": lambda state, module: [
        state.pop(name)
        for name in list(state)
        if "hook" in name and name not in ("_forward_hooks", "_backward_hooks")
    ],
    "of today": lambda state, module: None,
}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("age", OLD_STATES)
@pytest.mark.parametrize("mode", MODES)
def test_old_pickles(mode, age, bias):
    """States that other versions of torch wrote: read, or refused, as torch.nn reads them."""
    input = torch.randn(4, 3, 5)
    results = []
    for module in pair(mode, 5, 6, 2, bias=bias):
        state = copy.deepcopy(module).__getstate__()
        OLD_STATES[age](state, module)
        restored = type(module).__new__(type(module))
        failed = outcome(lambda r=restored, s=state: r.__setstate__(s))
        results.append((failed, restored))
    (failed, ours), (theirs_failed, theirs) = results
    assert failed == theirs_failed
    if failed != (None, []):
        return
    called = outcome(lambda: ours(input))
    assert called == outcome(lambda: theirs(input))
    if age != "before names":
        assert called[0][0] is tuple
        assert_matches(evaluate(ours, input), evaluate(theirs, input))
        assert repr(ours) == repr(theirs)


@pytest.mark.parametrize("mode", MODES)
def test_load_state_dict_of_torch(mode):
    """Into a model, by prefix, from a file that knows nothing of fastrnn; and its complaints."""
    ours, theirs = (nn.ModuleDict({"rnn": module}) for module in pair(mode, 5, 6))
    assert_matches(dict(ours.state_dict()), dict(theirs.state_dict()), fraction=0)
    wrong = dict(theirs.state_dict())
    wrong["rnn.weight_hh_l0"] = torch.zeros(2, 2)
    wrong["rnn.other"] = wrong.pop("rnn.weight_ih_l0")
    for strict in (True, False):
        for assign in (True, False):
            failed = [
                outcome(lambda m=m, k=(strict, assign): m.load_state_dict(wrong, *k))
                for m in (ours, theirs)
            ]
            assert failed[0] == failed[1]
