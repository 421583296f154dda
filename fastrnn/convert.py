"""`accelerate` and `restore`: models of other people on our kernels, without changing the models.

The default mode leaves every type as it is, because much code asks for it (`isinstance`, `type(m)
is nn.LSTM`, pickles, quantisation, scripting). It marks instances, and wraps the forward of torch's
classes once: marked instances run here, all others as before.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final, TypeVar

import torch
from torch import nn
from torch.nn.utils import parametrize

from fastrnn import at_once, cells, modules, ops, recurrent

__all__ = ["accelerate", "restore"]

Model = TypeVar("Model", bound=nn.Module | Collection[nn.Module])

# The mark in an instance's `__dict__`, and its two values. Text, so that a pickle, a deep copy or a
# TorchScript file that holds it needs no fastrnn.
_MARK: Final = "_fastrnn"
_WRAPPED: Final = "wrapped"
_SWAPPED: Final = "swapped"

_SWAPS: Final[dict[type[nn.RNNBase], type[nn.RNNBase]]] = {
    nn.RNN: modules.RNN,
    nn.LSTM: modules.LSTM,
    nn.GRU: modules.GRU,
}

_CELLS: Final[tuple[type[nn.RNNCellBase], ...]] = (nn.RNNCell, nn.LSTMCell, nn.GRUCell)

# What torch's forward calls on the module, and ours not in every case.
_HOOKS: Final = (
    "check_input",
    "check_hidden_size",
    "check_forward_args",
    "get_expected_hidden_size",
    "get_expected_cell_size",
    "permute_hidden",
)

_wrappers: set[Any] = set()

# What dynamo does with each function that is called; None where it is not at work. Private in
# torch, and without a public equal; test_accelerate_tools.py fails if torch takes it away.
_dynamo_callback: Callable[[], Any] = getattr(
    torch._C._dynamo.eval_frame, "get_eval_frame_callback", lambda: None
)


def accelerate(model: Model, *, compile: bool = False, report: bool = False) -> Model:
    """Lets the recurrent modules of a model run on the kernels of fastrnn, in place.

    Every `torch.nn.RNN`, `LSTM`, `GRU`, `RNNCell`, `LSTMCell` and `GRUCell` in it, of subclasses
    too, keeps its type, parameters, hooks and state; calls that the kernels do not know run
    torch's own code. Call it after the model is built and its weights are loaded, and before
    `torch.compile`. Calling it again changes nothing; `restore` undoes it.

    Deep copies and unpickled copies stay accelerated in a process that has called `accelerate`,
    and run torch's code elsewhere, with fastrnn installed or not. Code that builds its modules
    anew when it loads them needs a new call. TorchScript and traces hold torch's own functions, and
    ONNX files standard operators.

    Args:
        model: a module, or a collection of modules. A plain Python list inside a module hides its
            modules from torch, and so from here: pass the list too.
        compile: whether to make each `RNN`, `LSTM` and `GRU` an instance of fastrnn's class of the
            same name, which `torch.compile` takes in a full graph, as it takes no `torch.nn.LSTM`.
            Parameters, hooks and the object itself stay, but `isinstance(m, torch.nn.LSTM)` is
            false then, and tools that look for the class pass it by: `restore` before quantisation
            and before pickling for others. Instances of subclasses keep their class and are
            accelerated as by default; so are cells, which compile in a full graph as they are.
            Default: False.
        report: whether to print what `fastrnn.explain(model)` tells. Default: False.

    Returns:
        `model` itself.

    Raises:
        TypeError: `model` is neither a module nor a collection of modules.

    Example:
        >>> model = nn.Sequential(nn.LSTM(16, 8, batch_first=True))
        >>> accelerate(model) is model, type(model[0])
        (True, <class 'torch.nn.modules.rnn.LSTM'>)
    """
    for module in _modules(model, "accelerate"):
        base = torch_class(module)
        if base is None or refusal(module) is not None:
            continue
        if compile and _swap(module, _SWAPS):
            module.__dict__[_MARK] = _SWAPPED
        else:
            _wrap(base)
            module.__dict__[_MARK] = _WRAPPED
    if report:
        from fastrnn.explain import explain  # which asks this file how a module was accelerated

        for root in _roots(model, "accelerate"):
            print(explain(root))
    return model


def restore(model: Model) -> Model:
    """Undoes `accelerate` in place, in both its modes; leaves all other modules as they are.

    The forward of torch's classes stays wrapped, which costs other instances nothing measurable.

    Args:
        model: as for `accelerate`.

    Returns:
        `model` itself.

    Raises:
        TypeError: `model` is neither a module nor a collection of modules.
        RuntimeError: something changed the class of a module after `accelerate(compile=True)`.

    Example:
        >>> lstm = accelerate(nn.LSTM(16, 8), compile=True)
        >>> isinstance(lstm, nn.LSTM), isinstance(restore(lstm), nn.LSTM)
        (False, True)
    """
    back = {ours: theirs for theirs, ours in _SWAPS.items()}
    for module in _modules(model, "restore"):
        mark = module.__dict__.get(_MARK)
        if mark == _SWAPPED and not _swap(module, back):
            raise RuntimeError(
                f"restore: the class of a {type(module).__name__} was changed after "
                "accelerate(compile=True), so it cannot be torch's again: undo that change first"
            )
        module.__dict__.pop(_MARK, None)
    return model


def torch_class(module: nn.Module) -> type[nn.RNNBase] | type[nn.RNNCellBase] | None:
    """The recurrent class of `torch.nn` that `module` is an instance of, or of a subclass."""
    classes: tuple[Any, ...] = (*_SWAPS, *_CELLS)
    return next((cls for cls in classes if isinstance(module, cls)), None)


def mode_of(module: nn.Module) -> str:
    """How a recurrent module came here: a word or two for a table."""
    mark = module.__dict__.get(_MARK)
    if mark is not None:
        return "accelerated" if mark == _WRAPPED else "accelerated for compile"
    return "fastrnn" if isinstance(module, modules._Recurrent | cells._Cell) else "torch"


def refusal(module: nn.Module) -> str | None:
    """Why `accelerate` leaves an instance of torch's class to torch, or None."""
    base = torch_class(module)
    for name in _HOOKS:
        if getattr(type(module), name, None) is not getattr(base, name, None):
            return f"{type(module).__name__} has a {name} of its own, which torch's forward calls"
    return None


def has_own_forward(module: nn.Module) -> bool:
    """Whether a call of `module` begins in other code than torch's."""
    base = torch_class(module)
    return "forward" in vars(module) or (
        base is not None and type(module).forward is not base.forward
    )


def _roots(model: nn.Module | Collection[nn.Module], caller: str) -> list[nn.Module]:
    roots: list[Any] = [model]
    if isinstance(model, Collection) and not isinstance(model, nn.Module):
        roots = list(model)
    for root in roots:
        if not isinstance(root, nn.Module):
            raise TypeError(
                f"{caller}: model must be a torch.nn.Module or a collection of them, "
                f"got {type(root).__name__}"
            )
    return roots


def _modules(model: nn.Module | Collection[nn.Module], caller: str) -> Iterator[nn.Module]:
    for root in _roots(model, caller):
        yield from root.modules()


def _swap(module: nn.Module, swaps: dict[type[nn.RNNBase], type[nn.RNNBase]]) -> bool:
    """Makes `module` an instance of the other class; False where its class is none of `swaps`."""
    cls: Any = type(module)
    if cls in swaps:
        module.__class__ = swaps[cls]
        return True
    (base, *others) = cls.__bases__
    if base in swaps and not others and parametrize.is_parametrized(module):
        # parametrize makes a class for each instance, under which it finds the one before.
        module.__class__ = type(cls.__name__, (swaps[base],), dict(vars(cls)))
        return True
    return False


def _wrap(cls: type[nn.RNNBase] | type[nn.RNNCellBase]) -> None:
    """Wraps `cls.forward`, whatever it is now, unless it is wrapped already."""
    stock: Any = cls.forward
    found = stock
    while found is not None:
        if found in _wrappers:
            return
        found = getattr(found, "__wrapped__", None)
    # Not globals, which the function below does not keep.
    run, key, value = _runner(cls), _MARK, _WRAPPED

    def forward(self: Any, input: Any, hx: Any = None) -> Any:
        if self.__dict__.get(key) == value:
            return run(self, input, hx, stock=stock)
        return stock(self, input, hx)

    # torch.jit.script compiles the source of the function inside, and looks up its names
    # (PackedSequence and others) in the globals of the one outside.
    names = getattr(stock, "__globals__", forward.__globals__)
    wrapper = types.FunctionType(
        forward.__code__, names, forward.__name__, forward.__defaults__, forward.__closure__
    )
    functools.update_wrapper(wrapper, stock)
    _wrappers.add(wrapper)
    cls.forward = wrapper


def _runner(cls: type[nn.RNNBase] | type[nn.RNNCellBase]) -> Callable[..., Any]:
    """What runs a call of a marked instance of `cls`."""
    if issubclass(cls, nn.RNNCellBase):
        return functools.partial(cells.forward, kind=cls.__name__.removesuffix("Cell"))
    return _run_sequence


def _run_sequence(module: nn.RNNBase, input: Any, hx: Any, *, stock: Callable[..., Any]) -> Any:
    run = recurrent.forward
    if not torch.compiler.is_dynamo_compiling() and _dynamo_callback() is not None:
        run = _outside_of_dynamo()
    elif (results := at_once.run(module, input, hx, True)) is not None:
        return results
    return run(module, input, hx, layer=ops.layer, stock=stock)


@functools.cache
def _outside_of_dynamo() -> Callable[..., Any]:
    """`recurrent.forward` for the calls that `torch.compile` makes between its graphs.

    It refuses functions of a `torch.nn.LSTM`, but would compile, one by one, those that get only
    tensors.
    """
    disabled: Callable[..., Any] = torch.compiler.disable(recurrent.forward)  # type: ignore[no-untyped-call]
    return disabled
