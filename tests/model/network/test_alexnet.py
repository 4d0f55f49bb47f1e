"""The table is the paper's network: its counts layer by layer, its 224, its two columns, its start."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.network.alexnet import AlexNet, initialise
from model.network.dropout import dropout_masks
from model.network.response_norm import fused_map_norm, fused_norm
from model.network.tables import CIFAR, PAPER, RELEASE, TABLES, Conv, Dense, Table

# Computed by hand from the figure 2 of the paper, not by this code.
PARAMETERS = {
    "conv1": 34_944,
    "conv2": 307_456,
    "conv3": 885_120,
    "conv4": 663_936,
    "conv5": 442_624,
    "fc6": 37_752_832,
    "fc7": 16_781_312,
    "fc8": 4_097_000,
}
MULTIPLY_ADDS = {
    "conv1": 105_415_200,
    "conv2": 223_948_800,
    "conv3": 149_520_384,
    "conv4": 112_140_288,
    "conv5": 74_760_192,
    "fc6": 37_748_736,
    "fc7": 16_777_216,
    "fc8": 4_096_000,
}
SMALL = Table(
    name="small",
    crop=16,
    rows=(
        Conv(8, kernel=3, padding=1, sees="image", then=("relu", "norm", "pool"), std=None),
        Conv(8, kernel=3, padding=1, std=None),
        Conv(8, kernel=3, padding=1, sees="both", then=("relu", "pool"), std=None),
        Dense(16, dropout=0.5, std=None),
        Dense(12, dropout=0.5, std=None),
        Dense(None, std=None),
    ),
)
AS_IN_2012 = replace(
    SMALL,
    name="as in 2012",
    rows=tuple(replace(row, scaling="test") if isinstance(row, Dense) else row for row in SMALL.rows),
)


def fresh(table: Table, classes: int, seed: int = 0) -> AlexNet:
    return initialise(AlexNet(table, classes), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("table", [PAPER, RELEASE], ids=lambda table: table.name)
def test_parameters_and_multiply_adds_are_the_papers(table: Table) -> None:
    with torch.device("meta"):
        network = AlexNet(table, classes=1000)
    counted: dict[str, int] = {}
    for name, layer in network.named_children():
        layer.register_forward_hook(
            lambda layer, _, out, name=name: counted.__setitem__(name, layer.weight[0].numel() * out[0].numel())
        )
    logits, embedding = network(torch.empty(1, 3, 224, 224, device="meta"))
    parameters = {name: sum(p.numel() for p in layer.parameters()) for name, layer in network.named_children()}
    assert parameters == PARAMETERS
    assert sum(parameters.values()) == 60_965_224
    assert counted == MULTIPLY_ADDS
    assert sum(counted.values()) == 724_406_816
    assert logits.shape == (1, 1000)
    assert embedding.shape == (1, 4096)


def test_the_last_window_of_conv1_hangs_over_the_right_and_bottom_edge() -> None:
    """55 windows of 11 at stride 4 start at 0, 4, ... 216, the last reading 3 zeros."""
    network = fresh(PAPER, 2)
    pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    seen: list[Tensor] = []
    network.get_submodule("conv1").register_forward_hook(lambda *call: seen.append(call[2].clone()))
    network(pixels)
    weight = network.get_parameter("conv1.weight")
    corner = (pixels[0, :, 216:, 216:] * weight[5, :, :8, :8]).sum()
    first = (pixels[0, :, :11, :11] * weight[5]).sum()
    assert seen[0].shape == (1, 96, 55, 55)
    torch.testing.assert_close(seen[0][0, 5, 54, 54], corner, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(seen[0][0, 5, 0, 0], first, rtol=1e-4, atol=1e-5)


def test_columns_meet_only_where_the_table_says() -> None:
    """Column b's conv1 reaches column a's conv2 by no path, and conv3 by one."""
    network, x = fresh(SMALL, 3), torch.randn(2, 3, 16, 16)
    taps: dict[str, Tensor] = {}
    for name in ("conv2", "conv3"):
        network.get_submodule(name).register_forward_hook(
            lambda _l, _i, out, name=name: taps.__setitem__(name, out.detach().clone())
        )
    network(x)
    before = dict(taps)
    with torch.no_grad():
        network.get_parameter("conv1.weight")[4:] *= 2
    network(x)
    assert torch.equal(taps["conv2"][:, :4], before["conv2"][:, :4])
    assert not torch.equal(taps["conv2"][:, 4:], before["conv2"][:, 4:])
    assert not torch.equal(taps["conv3"][:, :4], before["conv3"][:, :4])


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_every_preset_ends_in_4096_features(table: Table) -> None:
    assert table.width == 4096
    with torch.device("meta"):
        logits, embedding = AlexNet(table, classes=10)(torch.empty(2, 3, table.crop, table.crop, device="meta"))
    assert (tuple(logits.shape), tuple(embedding.shape)) == ((2, 10), (2, 4096))


def test_initialisation_is_the_tables_and_repeats() -> None:
    network = fresh(RELEASE, 10)
    for name, row in RELEASE.named.items():
        weight, bias = network.get_parameter(f"{name}.weight"), network.get_parameter(f"{name}.bias")
        assert row.std is not None
        assert weight.std().item() == pytest.approx(row.std, rel=0.05)
        assert torch.equal(bias, torch.full_like(bias, row.bias))
    again, other = fresh(SMALL, 3, seed=7).state_dict(), fresh(SMALL, 3, seed=8).state_dict()
    assert all(torch.equal(again[name], value) for name, value in fresh(SMALL, 3, seed=7).state_dict().items())
    assert not torch.equal(again["conv1.weight"], other["conv1.weight"])


def test_the_embedding_is_what_fc8_reads() -> None:
    network, x = fresh(SMALL, 3), torch.randn(4, 3, 16, 16)
    logits, embedding = network(x)
    torch.testing.assert_close(network.get_submodule("fc6")(embedding), logits)
    assert embedding.min() >= 0


def test_masks_drop_and_scale_the_hidden_units() -> None:
    network, x = fresh(SMALL, 3), torch.randn(4, 3, 16, 16)
    masks = dropout_masks(SMALL, seed=0, step=3, batch=4, rows=slice(None), columns=(0, 1), device=torch.device("cpu"))
    assert {name: tuple(mask.shape) for name, mask in masks.items()} == {"fc4": (4, 16), "fc5": (4, 12)}
    _, embedding = network(x, masks)
    assert not embedding[~masks["fc5"]].any()
    weight, bias = network.get_parameter("fc5.weight"), network.get_parameter("fc5.bias")
    hidden = F.relu(F.linear(seen_by(network, "fc4", x), network.get_parameter("fc4.weight")))
    expected = F.relu(F.linear(hidden * masks["fc4"] * 2, weight, bias)) * masks["fc5"] * 2
    torch.testing.assert_close(embedding, expected)


def test_the_2012_code_halves_in_the_test_pass_what_the_next_layer_reads() -> None:
    """And the embedding is not halved."""
    network, x = fresh(AS_IN_2012, 3), torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    for parameter in network.parameters():
        if parameter.ndim == 1:
            torch.nn.init.constant_(parameter, 0.25)
    w4, b4, w5, b5, w6, b6 = (network.get_parameter(f"fc{i}.{kind}") for i in (4, 5, 6) for kind in ("weight", "bias"))
    fc4 = F.relu(seen_by(network, "fc4", x) @ w4.T + b4)
    fc5 = F.relu(0.5 * fc4 @ w5.T + b5)
    logits, embedding = network(x)
    torch.testing.assert_close(embedding, fc5)
    torch.testing.assert_close(logits, 0.5 * fc5 @ w6.T + b6)
    assert torch.equal(network.dense("fc6", embedding, test=True), logits)


@pytest.mark.parametrize("table", [SMALL, AS_IN_2012], ids=lambda table: table.name)
def test_on_average_a_layer_reads_in_training_what_it_reads_in_the_test_pass(table: Table) -> None:
    """A mask of one half and its complement are an average over both: it is exact, and needs no draws."""
    network, x = fresh(table, 3), torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    kept, whole = torch.rand(4, 16) > 0.5, torch.ones(4, 12, dtype=torch.bool)
    mean = torch.stack([seen_by(network, "fc5", x, {"fc4": mask, "fc5": whole}) for mask in (kept, ~kept)]).mean(0)
    torch.testing.assert_close(mean, seen_by(network, "fc5", x))


def test_after_dropout_as_in_2012_a_fresh_layer_starts_at_half_the_scale() -> None:
    x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    masks = dropout_masks(SMALL, seed=0, step=0, batch=4, rows=slice(None), columns=(0, 1), device=torch.device("cpu"))
    for given in (masks, None):
        inverted, halved = (
            (seen_by(network, "fc5", x, given), seen_by(network, "fc6", x, given), network(x, given)[0])
            for network in (fresh(SMALL, 3), fresh(AS_IN_2012, 3))
        )
        torch.testing.assert_close(halved[0], inverted[0] / 2)  # fc7 of paper
        torch.testing.assert_close(halved[1], inverted[1] / 4)  # fc8: what it reads is half of a half
        torch.testing.assert_close(halved[2], inverted[2] / 4)


def seen_by(network: AlexNet, layer: str, x: Tensor, masks: dict[str, Tensor] | None = None) -> Tensor:
    """What `layer` reads in a forward pass."""
    seen: list[Tensor] = []
    with network.get_submodule(layer).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach())):
        network(x, masks)
    return seen[0]


def test_under_bfloat16_autocast_the_dropped_units_stay_bfloat16() -> None:
    """A float32 mask would widen every activation after it. Both factors are exact: 0 or 1, and 2."""
    network, x = fresh(SMALL, 3), torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    masks = dropout_masks(SMALL, seed=0, step=3, batch=4, rows=slice(None), columns=(0, 1), device=torch.device("cpu"))
    with torch.autocast("cpu", torch.bfloat16):
        for layer, before in (("fc5", "fc4"), ("fc6", "fc5")):
            out: list[Tensor] = []
            with network.get_submodule(before).register_forward_hook(lambda _l, _i, y, out=out: out.append(y.clone())):
                dropped = seen_by(network, layer, x, masks)
            assert dropped.dtype == torch.bfloat16
            assert torch.equal(dropped, torch.where(masks[before], 2 * F.relu(out[0]), 0))


def test_columns_and_replicas_draw_their_share_of_the_same_masks() -> None:
    def draw(rows: slice, columns: tuple[int, ...], step: int = 5) -> Tensor:
        device = torch.device("cpu")
        return dropout_masks(CIFAR, seed=1, step=step, batch=128, rows=rows, columns=columns, device=device)["fc7"]

    whole = draw(slice(None), (0, 1))
    for column, units in enumerate(whole.chunk(2, dim=1)):
        assert torch.equal(draw(slice(64, 128), (column,)), units[64:])
    assert not torch.equal(whole, draw(slice(None), (0, 1), step=6))
    share = (~whole).double().mean().item()
    assert share == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / whole.numel()))  # four standard errors


@pytest.mark.slow
def test_torch_can_trace_the_whole_network_forward_and_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    """What compiles it on a GPU, in training and in the test pass; traced with a backend that needs no compiler."""
    # A GPU's form of the norms: for a CPU nothing is compiled.
    monkeypatch.setattr("model.network.alexnet.response_norm", fused_norm)
    monkeypatch.setattr("model.network.alexnet.map_norm", fused_map_norm)
    conv1 = Conv(8, kernel=3, padding=1, sees="image", then=("relu", "norm", "map_norm", "pool"), std=None)
    network = fresh(replace(AS_IN_2012, rows=(conv1, *AS_IN_2012.rows[1:])), 3)
    x, device = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1)), torch.device("cpu")
    masks = dropout_masks(SMALL, seed=0, step=0, batch=4, rows=slice(None), columns=(0, 1), device=device)

    def run(forward: Callable[..., tuple[Tensor, Tensor]]) -> list[Tensor]:
        logits, embedding = forward(x, masks)
        gradients = torch.autograd.grad(logits.square().sum(), list(network.parameters()))
        with torch.inference_mode():
            tested = forward(x)
        return [logits.detach(), embedding.detach(), *gradients, *tested]

    traced = torch.compile(network, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(run(traced), run(network), rtol=1e-5, atol=1e-6)
