"""One layer in one direction, or a whole module without gradients: kernel or reference.

The raw ops (`torch.ops.fastrnn._layer_forward` and `_layer_backward`) have no autograd of their
own: called with tensors that require a gradient they return results without one. Call `layer`,
which chooses between kernel and reference and has the gradient of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastrnn import _extension, _fakes, devices, exported, reference
from fastrnn.embedding import COMPUTED_DTYPES, are_ids
from fastrnn.embedding import embed as embed
from fastrnn.transforms import is_transformed as is_transformed

HALVES = (torch.bfloat16, torch.float16)
"""What the kernels store as itself and compute in float32."""

KERNEL_DTYPES = (*COMPUTED_DTYPES, *HALVES)
"""What the kernels run."""

# Hidden weights of no more elements are never rounded: csrc/cpu/plan.cpp.
_FEW_WEIGHTS = 8192


def layer(
    mode: str,
    input: Tensor,
    hx: Tensor,
    cx: Tensor | None,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    reverse: bool,
    batch_sizes: Tensor | None = None,
    weight_hr: Tensor | None = None,
    embedding: Tensor | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Runs one layer in one direction over a sequence, by the kernel where one applies.

    Arguments and results are those of `fastrnn.reference.layer`, which runs the call when the
    extension is not loaded, under `torch.func` transforms and forward-mode differentiation, and
    for devices, dtypes or mixtures of dtypes that the kernels do not know. Second derivatives go
    through the reference too.

    With `batch_sizes (T,)`, int64 on the CPU, which do not grow, input and output are packed
    (`fastrnn.lengths`), and rows are those of `hx`, longest first; only `has_kernel` calls may
    have them. Packed ids are `(rows,)`. The kernels check that ids are tokens; torch's functions,
    which run them elsewhere, do so on the CPU alone.

    Example:
        >>> x, h = torch.ones(2, 1, 1), torch.zeros(1, 1)
        >>> one = torch.ones(1, 1)
        >>> output, h_n, c_n = layer("RNN_RELU", x, h, None, one, one, None, None, reverse=False)
        >>> output.flatten().tolist(), h_n.item(), c_n
        ([1.0, 2.0], 2.0, None)
    """
    run = _exported if _extension.loaded and exported.is_tracing() else _layer
    tensors = (input, hx, cx, weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, embedding, mask)
    output, h_n, *c_n = run(*tensors, batch_sizes, mode, reverse)
    return output, h_n, c_n[0] if c_n else None


def _exported(*args: Any) -> Any:
    return torch.ops.fastrnn.layer.default(*args)


def _layer(*args: Any) -> Any:
    """What `layer` does in a running program. A third result is there for the LSTM alone."""
    *tensors, batch_sizes, mode, reverse = args
    input, hx, cx, _, weight_hh, _, _, weight_hr, _, mask = tensors
    ids = are_ids(input)
    there = [t for t in (tensors[1:] if ids else tensors) if t is not None]
    if batch_sizes is None and not has_kernel(
        *there, projects=weight_hr is not None, masks=mask is not None
    ):
        results = reference.layer(*_reference_arguments(mode, tensors, reverse))
        return [result for result in results if result is not None]
    in_float32 = ids or weight_hr is not None or mask is not None
    if in_float32 and hx.is_cpu and hx.dtype in HALVES:
        wide = (t.float() if t is not None and t.dtype in HALVES else t for t in tensors)
        return [result.to(hx.dtype) for result in _layer(*wide, batch_sizes, mode, reverse)]
    if ids and not hx.is_cpu:
        return _layer(*_without_ids(tensors), batch_sizes, mode, reverse)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        return _Layer.apply(*args)  # type: ignore[no-untyped-call]
    code = reference.MODES.index(mode)
    rounds = may_round(weight_hh, input)
    output, h_n, c_n, _ = torch.ops.fastrnn._layer_forward.default(
        *tensors[:7], code, reverse, False, rounds, batch_sizes, *tensors[7:]
    )
    return [output, h_n] if cx is None else [output, h_n, c_n]


def _without_ids(tensors: Sequence[Any]) -> tuple[Any, ...]:
    """The arguments of an equal layer with float input, which is all that kernels for CUDA take."""
    input, hx, cx, weight_ih, *others, embedding, mask = tensors
    if embedding is None:  # the input product is there already
        embedding = weight_ih.t()
        weight_ih = torch.eye(embedding.shape[1], dtype=weight_ih.dtype, device=weight_ih.device)
    rows = torch.nn.functional.embedding(input, embedding)
    return rows, hx, cx, weight_ih, *others, None, mask


def inference(
    mode: str,
    input: Tensor,
    states: tuple[Tensor, ...],
    weights: list[Tensor],
    *,
    num_layers: int,
    bidirectional: bool,
    batch_first: bool = False,
    batch_sizes: Tensor | None = None,
    wants_output: bool = True,
    embedding: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Runs all layers and directions of a module by one op, without gradients.

    Args:
        mode: one of `fastrnn.reference.MODES`.
        input: `(T, B, I)`, or `(B, T, I)` with `batch_first`; `T >= 1`. With `batch_sizes`
            packed, as the output is then. Or ids, without the `I`; float32 and float64 only.
        states: one or, for the LSTM, two tensors `(num_layers * D, B, H)`; zeros where empty.
        weights: of all layers and directions, in the order of `torch.nn.RNNBase._flat_weights`.
        num_layers: layers; each takes the output of the one before.
        bidirectional: whether each layer also runs from the end; `D` is 2 then, else 1.
        batch_first: the order of input and output, where they are not packed. Default: False.
        batch_sizes: as for `layer`. Default: None.
        wants_output: else the output is empty, and not even written. Default: True.
        embedding: with ids, as for `layer`. Default: None.

    Returns:
        `output (T, B, D * H)`, or `(B, T, D * H)` with `batch_first`, and the last states: `h_n`
        and `c_n`, shaped as `states`; `c_n` is None unless the mode is "LSTM".

    Raises:
        RuntimeError: a shape, a dtype or a device does not fit; `has_kernel` tells of the last two.

    Example:
        >>> one = torch.ones(1, 1)
        >>> inference("RNN_RELU", torch.ones(2, 1, 1), (), [one, one], num_layers=1,
        ...     bidirectional=False)[0].flatten()
        tensor([1., 2.])
    """
    if not states and batch_sizes is None and torch.compiler.is_exporting():
        # AOTInductor hands an empty list to the op as None.
        batch = input.shape[0 if batch_first else 1]
        shape = (num_layers * (2 if bidirectional else 1), batch, weights[1].shape[1])
        states = tuple(weights[1].new_zeros(shape) for _ in range(2 if mode == "LSTM" else 1))
    output, h_n, c_n = torch.ops.fastrnn._inference.default(
        input,
        states,
        weights,
        reference.MODES.index(mode),
        num_layers,
        bidirectional,
        batch_first,
        may_round(weights[1], input, batch_first),
        batch_sizes,
        wants_output,
        embedding,
    )
    return output, h_n, c_n if mode == "LSTM" else None


def has_kernel(
    input: Tensor, *others: Tensor | None, projects: bool = False, masks: bool = False
) -> bool:
    """Whether the kernels can run `input` with the other tensors of the call, all being there.

    Args:
        input: whose dtype and device count.
        others: which must have the same.
        projects: whether one of them is `weight_hr`. Default: False.
        masks: whether one of them is `mask`. Default: False.
    """
    if masks and (projects or not input.is_cpu):
        return False
    return _has_kernel(input, projects) and not is_transformed() and are_like(input, others)


def are_like(input: Tensor, others: Sequence[Any]) -> bool:
    """Whether all are tensors of the dtype and device of `input`."""
    dtype, on_cpu = input.dtype, input.is_cpu
    for other in others:
        if not isinstance(other, Tensor) or other.dtype is not dtype:
            return False
        # To ask for the device costs ten times as much.
        if not other.is_cpu if on_cpu else other.device != input.device:
            return False
    return True


def is_best_for(input: Tensor, projects: bool = False) -> bool:
    """Whether `layer` is the path to take for `input`, rather than torch's own RNN functions.

    It is when a kernel runs it; when there are no kernels at all, so that the reference gives the
    same behaviour everywhere; and under function transforms and forward-mode differentiation, which
    torch's own functions support in part only. Otherwise torch's are faster than the reference.
    """
    return not _extension.loaded or _has_kernel(input, projects) or is_transformed()


def rounds_products() -> bool:
    """Whether torch may round the factors of float32 matrix products on the CPU to bfloat16.

    So it may after `torch.set_float32_matmul_precision("medium")`, or an equal of it in
    `torch.backends`. Then calls without gradients of one float32 row over several steps, which wait
    for the hidden weights from memory, read these rounded to bfloat16; all other numbers, and all
    sums, stay float32. Calls with gradients round nothing: a gradient is that of the function which
    was computed. Smaller weights, larger batches and single steps would gain nothing.
    `torch.compile` reads the setting once, when it traces.
    """
    # torch.get_float32_matmul_precision raises where torch.backends alone was set.
    return bool(torch._C._get_fp32_precision_getter("mkldnn", "matmul") == "bf16")


# What torch.compiler.assume_constant_result does, after it has imported the whole compiler.
rounds_products._dynamo_marked_constant = True  # type: ignore[attr-defined]


def may_round(weight_hh: Tensor, input: Tensor, batch_first: bool = False) -> bool:
    """Whether to let the kernels round; asks first what costs least."""
    if weight_hh.numel() <= _FEW_WEIGHTS:
        return False
    shape = input.shape  # slicing it would cost more than all the rest
    if len(shape) != 3:  # packed, of more than one row; or ids
        return False
    steps, batch = (shape[1], shape[0]) if batch_first else (shape[0], shape[1])
    return batch == 1 and steps > 1 and input.is_cpu and rounds_products()


def _has_kernel(tensor: Tensor, projects: bool) -> bool:
    if not _extension.loaded or tensor.dtype not in KERNEL_DTYPES:
        return False
    if tensor.is_cpu:
        return True
    if not tensor.is_cuda or projects:
        return False
    return devices.cuda_refusal(tensor.get_device()) is None


class _Layer(torch.autograd.Function):
    """`_layer_forward` with its gradient. The tensors of `layer`, batch_sizes, mode, reverse."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor, ...]:
        *tensors, batch_sizes, mode, reverse = args
        code = reference.MODES.index(mode)
        output, h_n, c_n, reserve = torch.ops.fastrnn._layer_forward.default(
            *tensors[:7], code, reverse, True, False, batch_sizes, *tensors[7:]
        )
        ctx.mode, ctx.reverse = mode, reverse
        # An unused result gets None for its gradient, and the kernel skips it.
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, output, reserve, batch_sizes)
        return (output, h_n, c_n) if mode == "LSTM" else (output, h_n)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        *tensors, output, reserve, batch_sizes = ctx.saved_tensors
        needed = ctx.needs_input_grad[: len(tensors)]
        if all(grad is None for grad in grads):
            return (None,) * len(ctx.needs_input_grad)
        with_graph = torch.is_grad_enabled() and not torch.compiler.is_compiling()
        if with_graph or is_transformed():
            results = _reference_backward(
                ctx.mode, ctx.reverse, tensors, batch_sizes, needed, grads, with_graph
            )
            return (*results, None, None, None)
        grad_output, grad_h_n, *grad_c_n = grads
        input, hx, cx, weight_ih, weight_hh, _, _, weight_hr, embedding, mask = tensors
        results = torch.ops.fastrnn._layer_backward.default(
            grad_output,
            grad_h_n,
            grad_c_n[0] if grad_c_n else None,
            input,
            hx,
            cx,
            weight_ih,
            weight_hh,
            output,
            reserve,
            reference.MODES.index(ctx.mode),
            ctx.reverse,
            sum(1 << k for k, need in enumerate(needed) if need),
            batch_sizes,
            weight_hr,
            embedding,
            mask,
        )
        wanted = (r if need else None for r, need in zip(results, needed, strict=False))
        return (*wanted, None, None, None, None)


layer_with_gradient: Any = _Layer.apply
"""`layer` on kernels, of the tensors of `layer`, batch_sizes, mode, reverse; no question asked."""


def _reference_backward(
    mode: str,
    reverse: bool,
    tensors: list[Tensor | None],
    batch_sizes: Tensor | None,
    needed: tuple[bool, ...],
    grads: tuple[Tensor | None, ...],
    with_graph: bool,
) -> list[Tensor | None]:
    """The gradients of `layer`, differentiable again if `with_graph`.

    The forward is run again through the reference. It runs on views of the saved tensors, because
    one of them may have been computed from another (a state from the input, say), and the
    gradient of each must not contain the other's.
    """
    with torch.enable_grad():
        views: list[Any] = [None if t is None else t.view_as(t) for t in tensors]
        if batch_sizes is None:
            outputs: Any = reference.layer(*_reference_arguments(mode, views, reverse))
        else:
            outputs = _packed_reference(mode, views, reverse, batch_sizes)
    used = [(o, g) for o, g in zip(outputs, grads, strict=False) if g is not None]
    results = iter(
        torch.autograd.grad(
            [output for output, _ in used],
            [view for view, need in zip(views, needed, strict=True) if need],
            [grad for _, grad in used],
            create_graph=with_graph,
            allow_unused=True,
        )
    )
    return [next(results) if need else None for need in needed]


def _reference_arguments(
    mode: str, tensors: Sequence[Any], reverse: bool, valid: Tensor | None = None
) -> tuple[Any, ...]:
    *others, weight_hr, embedding, mask = tensors
    return (mode, *others, reverse, valid, weight_hr, embedding, mask)


def _packed_reference(
    mode: str, tensors: list[Any], reverse: bool, batch_sizes: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """`fastrnn.reference.layer` for packed arrays, by way of padded ones."""
    packed, hx, *others = tensors
    batch = hx.size(0)
    steps = int((batch_sizes > 0).sum())
    ranks = torch.arange(batch, device=batch_sizes.device)
    valid = ranks < batch_sizes[:steps].unsqueeze(1)
    places = valid.flatten().nonzero().squeeze(1).to(packed.device)
    valid = valid.to(packed.device)
    features = packed.shape[1:]  # ids have none
    padded = packed.new_zeros(steps * batch, *features)
    padded = padded.index_copy(0, places, packed[: len(places)]).view(steps, batch, *features)
    padded_tensors = (padded, hx, *others)
    output, h_n, c_n = reference.layer(*_reference_arguments(mode, padded_tensors, reverse, valid))
    output = output.flatten(0, 1).index_select(0, places)
    unused = packed.size(0) - len(places)
    return torch.nn.functional.pad(output, (0, 0, 0, unused)), h_n, c_n


if _extension.loaded:
    _fakes.register()
    exported.define(
        "layer(Tensor input, Tensor hx, Tensor? cx, Tensor weight_ih, Tensor weight_hh, "
        "Tensor? bias_ih, Tensor? bias_hh, Tensor? weight_hr, Tensor? embedding, Tensor? mask, "
        "Tensor? batch_sizes, str mode, bool reverse) -> Tensor[]",
        lambda *args: list(_layer(*args)),
    )
