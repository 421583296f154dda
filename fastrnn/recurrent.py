"""How a recurrent module runs a sequence: layers, directions, states and lengths.

The module is any `torch.nn.RNNBase`, of fastrnn or of torch: what is read of it are the attributes
and weights that torch's own forward reads.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from fastrnn import dispatch, dropout, onnx, ops, reference
from fastrnn import lengths as ragged
from fastrnn.dispatch import Layer


def forward(
    module: nn.RNNBase,
    input: Any,
    hx: Any,
    lengths: Any = None,
    padding: str = "right",
    output: bool = True,
    *,
    layer: Layer,
    stock: Callable[..., Any],
) -> tuple[Any, Any]:
    """What `module(input, hx)` returns.

    Args:
        module: whose weights and options count.
        input: a tensor, or a `PackedSequence`.
        hx: the first state or states, or None.
        lengths: as `fastrnn.lengths.check` takes them, or None.
        padding: one of `fastrnn.lengths.PADDINGS`.
        output: else None takes the place of the output.
        layer: runs one layer in one direction.
        stock: torch's own forward, for the calls that it alone runs or refuses.
    """
    weights = weights_of(module)
    states = () if hx is None else dispatch.states_in(hx, module.mode)
    if states is None:
        return _without(output, stock(module, input, hx))
    given = input
    if torch._C._is_any_autocast_enabled():
        input, states, weights = dispatch.autocast(input, states, weights)
    masks = dropout.is_on(module)
    if masks and (dispatch.is_traced() or onnx.is_exporting()):
        layer = reference.layer  # which others can read; torch's own and ONNX's have no masks
    if lengths is not None:
        return _forward_lengths(module, input, states, lengths, padding, weights, layer, output)
    if isinstance(input, PackedSequence):
        if (
            layer is ops.layer
            and dispatch.has_kernel(module, input.data, states, weights)
            and _fits(module, input, states)
        ):
            return _forward_packed(module, input, states, weights, output)
        if masks:
            return _forward_unpacked(module, input, states, weights, layer, output)
        return _without(output, stock(module, given, hx))
    if layer is ops.layer and dispatch.runs_at_once(module, input, states, weights):
        result, states = infer(module, input, states, weights, module.batch_first, output)
        return result, as_hx(states)
    if not dispatch.takes(module, input, states, weights, layer):
        return _without(output, stock(module, given, hx))
    return _without(output, _forward_padded(module, input, states, weights, layer))


def _forward_padded(
    module: nn.RNNBase, input: Tensor, states: tuple[Any, ...], weights: list[Any], layer: Layer
) -> tuple[Any, Any]:
    is_batched = input.dim() == 3
    if not is_batched:
        input = input.unsqueeze(0 if module.batch_first else 1)
        states = tuple(state.unsqueeze(1) for state in states)
    check(module, input, states)
    if module.batch_first:
        input = input.transpose(0, 1)

    if onnx.is_exporting() and not dropout.is_on(module):
        result, states = onnx.run_layers(module, input, states, weights)
    else:
        result, states = run_layers(module, input, states, weights, layer, input.size(1))

    if not is_batched:
        result = result.squeeze(1)
        states = tuple(state.squeeze(1) for state in states)
    elif module.batch_first:
        result = result.transpose(0, 1)
    return result, as_hx(states)


def _without(output: bool, results: tuple[Any, Any]) -> tuple[Any, Any]:
    return results if output else (None, results[1])


def _forward_packed(
    module: nn.RNNBase,
    input: PackedSequence,
    states: tuple[Any, ...],
    weights: list[Any],
    output: bool,
) -> tuple[Any, Any]:
    data, batch_sizes, sorted_indices, unsorted_indices = input
    states = permuted(states, sorted_indices)
    result, states = _run_packed(module, data, states, weights, input, output)
    hidden = as_hx(permuted(states, unsorted_indices))
    if result is None:
        return None, hidden
    return PackedSequence(result, batch_sizes, sorted_indices, unsorted_indices), hidden


def _forward_unpacked(
    module: nn.RNNBase,
    input: PackedSequence,
    states: tuple[Any, ...],
    weights: list[Any],
    layer: Layer,
    output: bool,
) -> tuple[Any, Any]:
    """By padded arrays: for masks where there is no kernel, which torch's own code has not."""
    padded, lengths = pad_packed_sequence(input, module.batch_first)
    result, hidden = _forward_lengths(
        module, padded, states, lengths, "right", weights, layer, output
    )
    if result is None:
        return None, hidden
    is_sorted = input.sorted_indices is None
    return pack_padded_sequence(result, lengths, module.batch_first, is_sorted), hidden


def _forward_lengths(
    module: nn.RNNBase,
    input: Any,
    states: tuple[Any, ...],
    lengths: Any,
    padding: str,
    weights: list[Any],
    layer: Layer,
    output: bool,
) -> tuple[Any, Any]:
    if not isinstance(input, Tensor) or input.dim() != 3:
        raise ValueError(
            "lengths go with a padded input of three dimensions, got "
            + (f"{input.dim()}" if isinstance(input, Tensor) else type(input).__name__)
        )
    check(module, input, states)
    if module.batch_first:
        input = input.transpose(0, 1)
    steps, batch, _ = input.shape
    if steps == 0:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
    lengths = ragged.check(lengths, padding, steps, batch)
    if not states:
        count = module.num_layers * (2 if module.bidirectional else 1)
        states = tuple(input.new_zeros(count, batch, size) for size in state_sizes(module))
    result: Tensor | None
    if onnx.is_exporting() and not module.proj_size and not dropout.is_on(module):
        lengths = lengths.to(input.device)
        result, states = onnx.run_layers(module, input, states, weights, lengths, padding)
    elif layer is ops.layer and dispatch.has_kernel(module, input, states, weights):
        order = ragged.sort(lengths, steps, input.device)
        packed = ragged.pack(input, order, padding)
        states = permuted(states, order.sorted_indices)
        result, states = _run_packed(module, packed, states, weights, order, output)
        if result is not None:
            result = ragged.unpack(result, order, padding)
        states = permuted(states, order.unsorted_indices)
    else:
        valid = ragged.valid(lengths, padding, steps).to(input.device)
        masked = functools.partial(reference.layer, valid=valid)
        result, states = run_layers(module, input, states, weights, masked, batch)
    if module.batch_first and result is not None:
        result = result.transpose(0, 1)
    return _without(output, (result, as_hx(states)))


def _run_packed(
    module: nn.RNNBase,
    packed: Tensor,
    states: tuple[Tensor, ...],
    weights: list[Any],
    order: ragged.Order | PackedSequence,
    output: bool,
) -> tuple[Tensor | None, tuple[Tensor, ...]]:
    """From `packed (rows, I)` to `(rows, D*H)`, or None, and the last states, by kernels."""
    batch_sizes = order.batch_sizes
    if dispatch.wants_one_op(module, packed):
        return infer(module, packed, states, weights, False, output, batch_sizes)
    batch = states[0].size(1) if states else int(batch_sizes[0])
    layer = functools.partial(ops.layer, batch_sizes=batch_sizes)
    result, states = run_layers(module, packed, states, weights, layer, batch, order)
    return result if output else None, states


def infer(
    module: nn.RNNBase,
    input: Tensor,
    states: tuple[Tensor, ...],
    weights: list[Any],
    batch_first: bool,
    output: bool,
    batch_sizes: Tensor | None = None,
    embedding: Tensor | None = None,
) -> tuple[Tensor | None, tuple[Tensor, ...]]:
    """The output, if it is wanted, and the last states, without gradients."""
    result, h_n, c_n = ops.inference(
        module.mode,
        input,
        states,
        weights,
        num_layers=module.num_layers,
        bidirectional=module.bidirectional,
        batch_first=batch_first,
        batch_sizes=batch_sizes,
        wants_output=output,
        embedding=embedding,
    )
    return result if output else None, (h_n,) if c_n is None else (h_n, c_n)


def check(
    module: nn.RNNBase,
    input: Tensor,
    states: tuple[Tensor, ...],
    batch_sizes: Tensor | None = None,
) -> None:
    """Raises torch's errors for sizes that do not fit."""
    if states:
        hidden: Any = as_hx(states)
        module.check_forward_args(input, hidden, batch_sizes)
    else:
        module.check_input(input, batch_sizes)


def _fits(module: nn.RNNBase, input: PackedSequence, states: tuple[Any, ...]) -> bool:
    """Whether the sizes are right; where not, torch has other errors for its LSTM than `check`."""
    try:
        check(module, input.data, states, input.batch_sizes)
    except (RuntimeError, ValueError):
        return False
    return True


def permuted(states: tuple[Any, ...], indices: Tensor | None) -> tuple[Any, ...]:
    """The states of rows in another order, or as they are where that is None."""
    if indices is None:
        return states
    return tuple(state.index_select(1, indices) for state in states)


def weights_of(module: nn.RNNBase) -> list[Any]:
    """The weights of this call, as torch's forward finds them.

    Skips torch's check where it would find nothing, because it is slow. Parametrized, swapped or
    deleted weights are not in _parameters as they are in _flat_weights.
    """
    parameters = module._parameters
    for name, weight in zip(module._flat_weights_names, module._flat_weights, strict=True):
        if parameters.get(name) is not weight:
            module._update_flat_weights()
            break
    return module._flat_weights


def state_sizes(module: nn.RNNBase) -> list[int]:
    """Features of each state."""
    if module.mode == "LSTM":
        return [module.proj_size or module.hidden_size, module.hidden_size]
    return [module.hidden_size]


def as_hx(states: tuple[Tensor, ...]) -> Any:
    """The states in the form that `hx` has."""
    return states if len(states) == 2 else states[0]


def run_layers(
    module: nn.RNNBase,
    input: Tensor,
    states: tuple[Tensor, ...],
    weights: list[Any],
    layer: Layer,
    batch: int,
    order: ragged.Order | PackedSequence | None = None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """From `input (T, B, I)` to `output (T, B, D*H)`, or packed arrays where `layer` wants them.

    The states are `(num_layers * D, B, H)`; zeros where none are given. With projections, whose
    weights come last in each layer, h and the output have their size. `order` is that of packed
    arrays.
    """
    directions = 2 if module.bidirectional else 1
    count = module.num_layers * directions
    if states:
        firsts = list(zip(*(state.unbind(0) for state in states), strict=True))
    else:
        # A tensor for each state: torch.compile wants the arguments of a layer distinct.
        zeros = (input.new_zeros(batch, size) for size in state_sizes(module))
        firsts = [tuple(zeros)] * count
    per_layer = len(weights) // count
    finals: list[tuple[Any, ...]] = []
    for index in range(module.num_layers):
        outputs = []
        for direction in range(directions):
            k = index * directions + direction
            weight_ih, weight_hh, *others = weights[k * per_layer : (k + 1) * per_layer]
            options = {"weight_hr": others.pop()} if module.proj_size else {}
            bias_ih, bias_hh = others or (None, None)
            hx, *cx = firsts[k]
            masked, mask = dropout.apply(module, input, hx, order)
            if mask is not None:
                options["mask"] = mask
            output, h_n, c_n = layer(
                module.mode,
                masked,
                hx,
                cx[0] if cx else None,
                weight_ih,
                weight_hh,
                bias_ih,
                bias_hh,
                direction == 1,
                **options,
            )
            outputs.append(output)
            finals.append((h_n, c_n) if cx else (h_n,))
        input = outputs[0] if directions == 1 else torch.cat(outputs, -1)
        if index < module.num_layers - 1 and dispatch.drops(module):
            input = torch.dropout(input, module.dropout, True)
    if count == 1:  # a view costs autograd less than a stack of one
        return input, tuple(state.unsqueeze(0) for state in finals[0])
    return input, tuple(torch.stack(state) for state in zip(*finals, strict=True))
