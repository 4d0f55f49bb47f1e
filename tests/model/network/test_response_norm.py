"""The fast normalisation is the formula of section 3.3: values, gradients, any block size, any float type."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.network import response_norm as rn
from model.network.response_norm import ResponseNorm, map_norm, reference_map_norm, reference_norm, response_norm

NORM = ResponseNorm()


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
    seed=st.integers(0, 99),
)
def test_fast_equals_the_reference(
    batch: int, channels: int, groups: int, side: int, size: int, beta: float, k: float, block: int, seed: int
) -> None:
    x = activations(batch, channels * groups, side, side, seed=seed)
    norm = ResponseNorm(size=size, alpha=1e-2, beta=beta, k=k)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rn, "BLOCK_BYTES", block)
        torch.testing.assert_close(response_norm(x, norm, groups), reference_norm(x, norm, groups), rtol=1e-12, atol=0)
        torch.testing.assert_close(map_norm(x, norm), reference_map_norm(x, norm), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("block", [1, 1 << 20])
@pytest.mark.parametrize("groups", [1, 2])
def test_the_hand_written_backward_passes_gradcheck(groups: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rn, "BLOCK_BYTES", block)
    norm = ResponseNorm(alpha=0.05)  # large enough that both terms of the gradient count
    x = activations(2, 8, 3, 3, scale=2.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: response_norm(x, norm, groups), (x,))
    assert torch.autograd.gradcheck(lambda x: map_norm(x, norm), (x,))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_float32_gradients_equal_autograd_through_the_reference(layout: torch.memory_format) -> None:
    x = activations(4, 96, 9, 9).float().contiguous(memory_format=layout).requires_grad_()
    g = activations(4, 96, 9, 9, seed=1).float()
    (fast,) = torch.autograd.grad(response_norm(x, NORM, 2), x, g)
    wide = x.detach().double().requires_grad_()
    (slow,) = torch.autograd.grad(reference_norm(wide, NORM, 2), wide, g.double())
    torch.testing.assert_close(fast.double(), slow, rtol=1e-5, atol=1e-5)


def test_bfloat16_stays_within_its_own_rounding() -> None:
    x = activations(4, 96, 9, 9).bfloat16()
    error = (response_norm(x, NORM, 2).double() - reference_norm(x.double(), NORM, 2)).abs()
    assert error.max() <= 4 * 2**-8 * x.double().abs().max()  # four roundings to 8 bits


def test_windows_do_not_cross_the_seam_between_columns() -> None:
    x = activations(1, 8, 2, 2)
    changed = x.clone()
    changed[:, 4:] *= 2
    torch.testing.assert_close(response_norm(x, NORM, 2)[:, :4], response_norm(changed, NORM, 2)[:, :4], rtol=0, atol=0)
    assert not torch.equal(response_norm(x, NORM, 1)[:, :4], response_norm(changed, NORM, 1)[:, :4])


def test_an_empty_batch_passes_through() -> None:
    assert response_norm(torch.empty(0, 8, 3, 3), NORM, 2).shape == (0, 8, 3, 3)


@pytest.mark.gpu
def test_a_gpu_computes_the_same() -> None:
    x = activations(4, 96, 9, 9).float().cuda().requires_grad_()
    out = response_norm(x, NORM, 2)
    torch.testing.assert_close(out.cpu(), reference_norm(x.cpu(), NORM, 2), rtol=1e-5, atol=1e-5)
