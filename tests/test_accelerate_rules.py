"""What code written for torch.nn relies on, beyond its documentation, in accelerated modules."""

from __future__ import annotations

import copy
import re
import timeit
from typing import Any

import pytest
import torch
from accelerated import (
    CELLS,
    SEQUENCES,
    flat,
    gradients,
    hidden_weight,
    kernel_calls,
    make_input,
    twins,
)
from tolerances import assert_matches
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

ALL = SEQUENCES + CELLS


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_kept_in_the_instance(name):
    module, stock = twins(name)
    with torch.no_grad():
        module(make_input(stock))
    assert vars(module).keys() - vars(stock).keys() == {"_fastrnn"}
    assert not any(callable(value) for key, value in vars(module).items() if key == "_fastrnn")


@pytest.mark.parametrize("name", ALL)
def test_inference_mode(name):
    """Its tensors have no version counter."""
    module, stock = twins(name)
    input = make_input(stock)
    with torch.inference_mode():
        assert_matches(flat(module(input)), flat(stock(input)))
        inside, twin = twins(name)
        for m in (inside, twin):
            m(input)
            getattr(m, hidden_weight(m)).mul_(-3)
        assert_matches(flat(inside(input)), flat(twin(input)))


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", SEQUENCES)
def test_strides_are_torchs(name, batch_first, grad):
    for options in ({}, {"bidirectional": True, "num_layers": 2}):
        module, stock = twins(name, 5, 6, batch_first=batch_first, **options)
        for shape in ((4, 3, 5), (4, 5), (1, 1, 5)):
            input = torch.randn(shape)
            with torch.set_grad_enabled(grad):
                actual, expected = flat(module(input)), flat(stock(input))
            assert [a.stride() for a in actual] == [e.stride() for e in expected]


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("name", ALL)
def test_results_may_be_zeroed_in_place(name, grad):
    module, _ = twins(name, 5, 5)
    shape = (1,) if name in CELLS else (1, 1)
    input = torch.randn(*shape, 5)
    hx = torch.randn(*shape, 5)
    hx = (hx, hx.clone()) if "LSTM" in name else hx
    with torch.set_grad_enabled(grad):
        results = [r.detach() for r in flat(module(input, hx))]
    everything = [*results, *flat(hx), input]
    kept = [t.clone() for t in everything]
    for k in range(len(results)):
        everything[k].zero_()
        kept[k].zero_()
        assert_matches(everything, kept, fraction=0)


INPUTS: dict[str, Any] = {
    "permuted": lambda m: (torch.randn(5, 3, 4).permute(2, 1, 0),),
    "expanded": lambda m: (torch.randn(1, 1, 5).expand(4, 3, 5),),
    "expanded states": lambda m: (make_input(m), states(m, torch.randn(1, 1, 6).expand(1, 3, 6))),
    "list of states": lambda m: (make_input(m), as_list(states(m, torch.randn(1, 3, 6)))),
    "empty batch": lambda m: (torch.randn(4, 0, 5),),
    "no steps": lambda m: (torch.randn(0, 3, 5),),
    "unbatched": lambda m: (torch.randn(4, 5),),
    "packed, unsorted": lambda m: (
        pack_padded_sequence(torch.randn(4, 3, 5), torch.tensor([2, 4, 1]), enforce_sorted=False),
    ),
    "packed, sorted": lambda m: (
        pack_padded_sequence(torch.randn(4, 3, 5), torch.tensor([4, 3, 1])),
        states(m, torch.randn(1, 3, 6)),
    ),
    "three dimensions of states for two": lambda m: (
        torch.randn(4, 5),
        states(m, torch.randn(1, 1, 6)),
    ),
    "four dimensions": lambda m: (torch.randn(1, 4, 3, 5),),
    "wrong features": lambda m: (torch.randn(4, 3, 7),),
    "wrong states": lambda m: (make_input(m), states(m, torch.randn(1, 2, 6))),
    "one state for two": lambda m: (make_input(m), [torch.randn(1, 3, 6)]),
    "float64": lambda m: (torch.randn(4, 3, 5, dtype=torch.float64),),
    "integers": lambda m: (torch.ones(4, 3, 5, dtype=torch.int64),),
    "nothing": lambda m: (None,),
    "no arguments": lambda m: (),
    "three arguments": lambda m: (make_input(m), None, None),
}


def states(module: Any, state: torch.Tensor) -> Any:
    return (state, state) if module.mode == "LSTM" else state


def as_list(hx: Any) -> Any:
    return list(hx) if isinstance(hx, tuple) else hx


def outcome(module: Any, arguments: Any) -> Any:
    """The tensors that a call gives, or the type and text of its error."""
    try:
        output, hx = module(*arguments)
    except Exception as error:
        return type(error), str(error)
    if isinstance(output, nn.utils.rnn.PackedSequence):
        output = [output.data, output.batch_sizes, output.sorted_indices, output.unsorted_indices]
        output = [t for t in output if t is not None]
    return [t.detach().double() for t in flat([output, hx])]


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("case", INPUTS)
@pytest.mark.parametrize("name", SEQUENCES)
def test_inputs_and_errors_are_torchs(name, case, grad):
    module, stock = twins(name)
    arguments = INPUTS[case](stock)
    with torch.set_grad_enabled(grad):
        actual, expected = outcome(module, arguments), outcome(stock, arguments)
    if isinstance(expected, tuple):
        assert actual == expected
    else:
        assert_matches(actual, expected, fraction=1e-5)


@pytest.mark.parametrize("name", SEQUENCES)
def test_keywords_and_trainable_first_states(name):
    module, stock = twins(name)
    input, grads = make_input(stock), []
    first = torch.randn(1, 3, 6)
    for m in (module, stock):
        h0 = first.clone().requires_grad_()
        c0 = first.clone().requires_grad_()
        output, finals = m(input=input, hx=(h0, c0) if name == "LSTM" else h0)
        (output.square().mean() + flat(finals)[0].sum()).backward()
        grads.append([h0.grad, *([c0.grad] if name == "LSTM" else []), m.weight_hh_l0.grad])
    assert_matches(*grads)


@pytest.mark.parametrize("used", ["output", "states"])
@pytest.mark.parametrize("name", SEQUENCES)
def test_results_that_backward_does_not_use(name, used):
    module, stock = twins(name, 5, 6, 2)
    input, grads = make_input(stock), []
    for m in (module, stock):
        output, finals = m(input)
        (output if used == "output" else flat(finals)[-1]).square().sum().backward()
        grads.append([p.grad for p in m.parameters()])
    assert_matches(*grads)


@pytest.mark.parametrize("name", SEQUENCES)
def test_attributes_are_read_at_every_call(name):
    module, stock = twins(name, 5, 6, 2, dropout=0.9)
    input = torch.randn(4, 4, 5)
    for m in (module, stock):
        m.dropout = 0.0
    assert_matches(gradients(module, input), gradients(stock, input))
    for m in (module, stock):
        m.batch_first = True
    assert_matches(gradients(module, input), gradients(stock, input))
    for m in (module, stock):
        m.dropout = 0.9
        nn.ModuleList([m]).eval()
    assert_matches(gradients(module, input), gradients(stock, input))
    module.train()
    with torch.no_grad():
        assert not torch.equal(module(input)[0], module(input)[0])


@pytest.mark.parametrize("name", ALL)
def test_unsupported_calls_run_as_in_torch(name):
    """Other devices, dtypes, transforms, second derivatives, and hooks on weights."""
    module, stock = twins(name)
    input = make_input(stock)
    copies = [copy.deepcopy(m).to("meta") for m in (module, stock)]
    shapes = [[r.shape for r in flat(m(input.to("meta")))] for m in copies]
    assert shapes[0] == shapes[1]
    expected = [r.detach() for r in flat(stock(input))]
    mapped = flat(torch.func.vmap(module)(torch.stack([input, input])))
    assert_matches([m[1].detach() for m in mapped], expected)
    penalties = []
    for m in (module, stock):
        leaf = input.clone().requires_grad_()
        loss = flat(m(leaf))[0].square().sum()
        (grad,) = torch.autograd.grad(loss, leaf, create_graph=True)
        m.zero_grad()
        grad.square().sum().backward()
        penalties.append([p.grad for p in m.parameters()])
    assert_matches(*penalties)
    hooked = []
    for m in (module, stock):
        getattr(m, hidden_weight(m)).register_hook(lambda g: 3 * g)
        hooked.append(gradients(m, input))
    assert_matches(*hooked)


@pytest.mark.parametrize("name", SEQUENCES)
def test_flatten_parameters_is_cheap_and_may_be_replaced(name):
    module, stock = twins(name)
    input = make_input(stock)
    assert min(timeit.repeat(module.flatten_parameters, number=100, repeat=5)) < 0.05
    module.flatten_parameters()
    assert_matches(gradients(module, input), gradients(stock, input))
    module.flatten_parameters = lambda *args, **kwargs: None
    module.flatten_parameters()
    assert_matches(gradients(module, input), gradients(stock, input))


@pytest.mark.parametrize("name", ALL)
def test_replicas_of_data_parallel(name):
    """What torch.nn.parallel.replicate does with a module, on the CPU, which it refuses."""
    module, stock = twins(name)
    replica = module._replicate_for_data_parallel()
    weights = {key: p.detach().clone() * 1.0 for key, p in module.named_parameters()}
    for key, weight in weights.items():
        setattr(replica, key, weight.requires_grad_())
    input = make_input(stock)
    with torch.no_grad():
        for p in module.parameters():
            p.zero_()  # so that a replica which reads the original is found out
    with kernel_calls() as calls, torch.no_grad():
        results = flat(replica(input))
    assert len(calls) == 1
    assert_matches(results, [r.detach() for r in flat(stock(input))])
    flat(replica(input))[0].sum().backward()
    assert all(weights[key].grad is not None for key in weights)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ALL)
def test_autocast(name, dtype):
    """The casts are those of autocast; without it a dtype that does not fit is refused."""
    module, stock = twins(name)
    input = make_input(stock)
    wide = copy.deepcopy(stock).double()
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
        try:
            results = flat(module(input))
        except RuntimeError as error:  # oneDNN's on CPUs without instructions for bfloat16
            with pytest.raises(RuntimeError, match=re.escape(str(error))):
                stock(input)
            return
    expected = [r.detach() for r in flat(wide(input.double()))]
    assert_matches([r.double() for r in results], expected, fraction=2e-2)
    half = input.to(dtype)
    errors = []
    for m in (module, stock):
        with pytest.raises((ValueError, RuntimeError)) as error:
            m(half)
        errors.append((error.type, str(error.value)))
    assert errors[0] == errors[1]
    with torch.autocast("cpu", dtype=dtype):
        assert flat(module(half))[0].shape == expected[0].shape
