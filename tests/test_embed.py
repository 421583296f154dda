"""`fastrnn.ops.embed`: rows of an embedding times a mask."""

from __future__ import annotations

import pytest
import torch
from tolerances import assert_matches
from torch.nn.functional import embedding as rows_of

from fastrnn import ops


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(7, 5, 6, 3), (4, 3, 200, 33), (1, 1, 2, 1), (300, 9, 3, 16)])
def test_equal_to_torch(shape, dtype, masked, isa):
    steps, batch, vocabulary, features = shape
    ids = torch.randint(0, vocabulary, (steps, batch))
    weight = torch.randn(vocabulary, features).to(dtype).requires_grad_()
    mask = torch.rand(batch, features).round().to(dtype) * 2 if masked else None
    factors = torch.randn(steps, batch, features)
    wide = weight.detach().double().requires_grad_()
    expected = rows_of(ids, wide) * (1 if mask is None else mask.double())
    wanted = torch.autograd.grad((expected * factors).sum(), wide)
    seen = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        actual = ops.embed(ids.int() if threads == 1 else ids, weight, mask)
        assert actual.dtype is dtype
        assert_matches(actual.detach(), expected.detach())
        seen.append(torch.autograd.grad((actual * factors.to(dtype)).sum(), weight))
    assert_matches(seen[1], seen[0], fraction=0)
    assert_matches(seen[0], wanted)


def test_derivatives_and_library_checks():
    ids, mask = torch.randint(0, 4, (3, 2)), torch.rand(2, 3).double()
    weight = torch.randn(4, 3).double().requires_grad_()
    for given in (None, mask):
        assert torch.autograd.gradcheck(lambda w, given=given: ops.embed(ids, w, given), weight)
        assert torch.autograd.gradgradcheck(lambda w, given=given: ops.embed(ids, w, given), weight)
        torch.library.opcheck(torch.ops.fastrnn._embed.default, (ids, weight.detach(), given))
        grad = torch.randn(3, 2, 3).double()
        torch.library.opcheck(torch.ops.fastrnn._embed_backward.default, (grad, ids, given, 4))
    assert not mask.requires_grad


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiles_and_is_transformed():
    ids, weight, mask = torch.randint(0, 4, (3, 2)), torch.randn(4, 3), torch.rand(2, 3)
    expected = ops.embed(ids, weight, mask)
    compiled = torch.compile(ops.embed, fullgraph=True, backend="aot_eager")
    assert_matches(compiled(ids, weight, mask), expected)
    each = torch.func.vmap(ops.embed, (None, 0, None))(ids, torch.stack([weight, -weight]), mask)
    assert_matches(each, torch.stack([expected, -expected]))


@pytest.mark.parametrize(
    ("error", "text", "arguments"),
    [
        (TypeError, "int32 or int64.*float32", (torch.zeros(3, 2), torch.zeros(4, 3))),
        (ValueError, r"\(T, B\), got shape \(3,\)", (torch.zeros(3).int(), torch.zeros(4, 3))),
        (TypeError, "floating-point.*list", (torch.zeros(3, 2).int(), [0.0])),
        (ValueError, r"\(V, I\), V > 0", (torch.zeros(3, 2).int(), torch.zeros(4))),
        (ValueError, r"\(2, 3\), got shape \(3, 3\)",
         (torch.zeros(3, 2).int(), torch.zeros(4, 3), torch.zeros(3, 3))),
        (TypeError, "mask must have.*float64",
         (torch.zeros(3, 2).int(), torch.zeros(4, 3), torch.zeros(2, 3).double())),
        (ValueError, r"got 4 at position \(0, 0\)", (torch.full((3, 2), 4), torch.zeros(4, 3))),
        (ValueError, "got 4 at", (torch.full((3, 2), 4), torch.zeros(4, 3).bfloat16())),
    ],
)  # fmt: skip
def test_wrong_arguments(error, text, arguments):
    with pytest.raises(error, match=text):
        ops.embed(*arguments)


def test_no_ids_at_all():
    assert ops.embed(torch.zeros(3, 0).int(), torch.zeros(4, 3)).shape == (3, 0, 3)
    assert ops.embed(torch.zeros(0, 3).int(), torch.zeros(4, 3)).shape == (0, 3, 3)
