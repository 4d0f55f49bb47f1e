"""The fast normalisation is the formula of section 3.3: values, gradients, any block size, any float type."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.network import response_norm as rn
from model.network.response_norm import (
    blocked_map_norm,
    blocked_norm,
    fused_map_norm,
    fused_norm,
    map_norm,
    reference_map_norm,
    reference_norm,
    response_norm,
)
from model.network.tables import ResponseNorm

NORM = ResponseNorm()
FORMS = [(blocked_norm, blocked_map_norm), (fused_norm, fused_map_norm)]  # a CPU's and a GPU's; both run on a CPU
forms = pytest.mark.parametrize(("response_norm", "map_norm"), FORMS, ids=["blocked", "fused"])
Norm = Callable[..., Tensor]


def activations(*shape: int, seed: int = 0, scale: float = 30.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


def test_the_reference_is_the_papers_formula_by_hand() -> None:
    x = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64).view(1, 4, 1, 1)
    sums = torch.tensor([1 + 4 + 9, 1 + 4 + 9 + 16, 1 + 4 + 9 + 16, 4 + 9 + 16], dtype=torch.float64).view(1, 4, 1, 1)
    torch.testing.assert_close(reference_norm(x, NORM), x / (2 + 1e-4 * sums) ** 0.75, rtol=1e-15, atol=0)


def test_the_reference_is_torchs_op_with_alpha_times_size() -> None:
    """torch divides alpha by the window's size, the paper's formula does not."""
    x = activations(2, 16, 5, 5)
    torchs = F.local_response_norm(x, size=5, alpha=5e-4, beta=0.75, k=2.0)
    torch.testing.assert_close(reference_norm(x, NORM), torchs, rtol=1e-12, atol=0)


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 3),
    channels=st.integers(1, 12),
    groups=st.sampled_from([1, 2]),
    side=st.integers(1, 4),
    size=st.sampled_from([1, 3, 5, 9]),
    beta=st.sampled_from([0.5, 0.75, 1.0]),
    k=st.sampled_from([1.0, 2.0]),
    block=st.sampled_from([1, 1 << 10, 1 << 20]),
    form=st.sampled_from(FORMS),
    seed=st.integers(0, 99),
)
def test_fast_equals_the_reference(
    batch: int,
    channels: int,
    groups: int,
    side: int,
    size: int,
    beta: float,
    k: float,
    block: int,
    form: tuple[Norm, Norm],
    seed: int,
) -> None:
    x = activations(batch, channels * groups, side, side, seed=seed)
    norm = ResponseNorm(size=size, alpha=1e-2, beta=beta, k=k)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rn, "BLOCK_BYTES", block)
        torch.testing.assert_close(form[0](x, norm, groups), reference_norm(x, norm, groups), rtol=1e-12, atol=0)
        torch.testing.assert_close(form[1](x, norm), reference_map_norm(x, norm), rtol=1e-12, atol=1e-15)


@forms
@pytest.mark.parametrize("block", [1, 1 << 20])
@pytest.mark.parametrize("groups", [1, 2])
def test_the_backward_pass_passes_gradcheck(
    response_norm: Norm, map_norm: Norm, groups: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rn, "BLOCK_BYTES", block)
    norm = ResponseNorm(alpha=0.05)  # large enough that both terms of the gradient count
    x = activations(2, 6, 3, 2, scale=2.0).requires_grad_()  # windows of 5 in groups of 3
    assert torch.autograd.gradcheck(lambda x: response_norm(x, norm, groups), (x,))
    assert torch.autograd.gradcheck(lambda x: map_norm(x, norm), (x,))


@forms
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_float32_gradients_equal_autograd_through_the_reference(
    response_norm: Norm, map_norm: Norm, layout: torch.memory_format
) -> None:
    del map_norm
    x = activations(4, 96, 9, 9).float().contiguous(memory_format=layout).requires_grad_()
    g = activations(4, 96, 9, 9, seed=1).float()
    (fast,) = torch.autograd.grad(response_norm(x, NORM, 2), x, g)
    wide = x.detach().double().requires_grad_()
    (slow,) = torch.autograd.grad(reference_norm(wide, NORM, 2), wide, g.double())
    torch.testing.assert_close(fast.double(), slow, rtol=1e-5, atol=1e-5)


@forms
def test_bfloat16_stays_within_its_own_rounding(response_norm: Norm, map_norm: Norm) -> None:
    x = activations(4, 96, 9, 9).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        fast, fast_map = response_norm(x, NORM, 2), map_norm(x, NORM)
    assert fast.dtype == fast_map.dtype == torch.bfloat16
    wide = x.double()
    for out, reference in ((fast, reference_norm(wide, NORM, 2)), (fast_map, reference_map_norm(wide, NORM))):
        assert (out.double() - reference).abs().max() <= 4 * 2**-8 * wide.abs().max()  # four roundings to 8 bits


def test_on_a_gpu_bfloat16_is_computed_in_float32_and_rounded_once() -> None:
    x = activations(4, 96, 9, 9).bfloat16()
    assert torch.equal(fused_norm(x, NORM, 2), fused_norm(x.float(), NORM, 2).bfloat16())
    assert torch.equal(fused_map_norm(x, NORM), fused_map_norm(x.float(), NORM).bfloat16())


@forms
def test_windows_do_not_cross_the_seam_between_columns(response_norm: Norm, map_norm: Norm) -> None:
    del map_norm
    x = activations(1, 8, 2, 2)
    changed = x.clone()
    changed[:, 4:] *= 2
    torch.testing.assert_close(response_norm(x, NORM, 2)[:, :4], response_norm(changed, NORM, 2)[:, :4], rtol=0, atol=0)
    assert not torch.equal(response_norm(x, NORM, 1)[:, :4], response_norm(changed, NORM, 1)[:, :4])


@forms
def test_an_empty_batch_passes_through(response_norm: Norm, map_norm: Norm) -> None:
    assert response_norm(torch.empty(0, 8, 3, 3), NORM, 2).shape == (0, 8, 3, 3)
    assert map_norm(torch.empty(0, 8, 3, 3), NORM).shape == (0, 8, 3, 3)


@forms
def test_channels_last_stays_channels_last(response_norm: Norm, map_norm: Norm) -> None:
    x = activations(2, 8, 3, 3).contiguous(memory_format=torch.channels_last)
    for out in (response_norm(x, NORM, 2), map_norm(x, NORM)):
        assert out.is_contiguous(memory_format=torch.channels_last)


def test_other_devices_take_the_form_that_torch_compile_can_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rn, "_Normalise", None)
    assert response_norm(torch.empty(2, 8, 3, 3, device="meta"), NORM, 2).shape == (2, 8, 3, 3)
    assert map_norm(torch.empty(2, 8, 3, 3, device="meta"), NORM).shape == (2, 8, 3, 3)
    x = activations(2, 8, 3, 3).requires_grad_()
    traced = torch.compile(fused_norm, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(traced(x, NORM, 2), fused_norm(x, NORM, 2))
    (got,), (wanted,) = (torch.autograd.grad(f(x, NORM, 2).sum(), x) for f in (traced, fused_norm))
    torch.testing.assert_close(got, wanted)


@pytest.mark.gpu
@pytest.mark.filterwarnings("default")  # a compiler's remarks differ from version to version
@pytest.mark.parametrize(
    ("fast", "reference"),
    [(partial(response_norm, groups=2), partial(reference_norm, groups=2)), (map_norm, reference_map_norm)],
    ids=["response_norm", "map_norm"],
)
def test_a_gpu_computes_the_same(fast: Norm, reference: Norm) -> None:
    x, g = activations(4, 96, 9, 9).float(), activations(4, 96, 9, 9, seed=1).float()
    here = x.clone().requires_grad_()
    there = x.cuda().contiguous(memory_format=torch.channels_last).requires_grad_()
    expected = reference(here, NORM)
    (gradient,) = torch.autograd.grad(expected, here, g)
    compiled: Norm = torch.compile(fast, fullgraph=True)
    for form in (fast, compiled):
        out = form(there, NORM)
        torch.testing.assert_close(out.cpu(), expected, rtol=1e-5, atol=1e-5)
        (found,) = torch.autograd.grad(out, there, g.cuda())
        torch.testing.assert_close(found.cpu(), gradient, rtol=1e-4, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.filterwarnings("default")  # a compiler's remarks differ from version to version
def test_torch_compile_makes_one_kernel_of_it() -> None:
    x = activations(4, 96, 9, 9).bfloat16().cuda().contiguous(memory_format=torch.channels_last)
    form: Norm = torch.compile(partial(response_norm, norm=NORM, groups=2), fullgraph=True)
    form(x)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        form(x)
        torch.cuda.synchronize()
    kernels = {event.key: event.count for event in profile.key_averages() if event.key.startswith("triton_")}
    assert list(kernels.values()) == [1], kernels
