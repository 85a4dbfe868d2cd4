"""Gradients of convolutions of few voxels in bfloat16 on a CPU, where oneDNN's own are wrong."""

import pytest
import torch
from monai.networks.nets.autoencoderkl import Encoder
from torch import Tensor, nn

from medloom.networks.blocks import Conv3d, with_right_gradients


def leave_nan_behind() -> None:
    """What is allocated next holds nan, unless it is written."""
    for size in (2**12, 2**14, 2**16, 2**18, 2**20):
        torch.full((size,), float("nan"))


def gradient(layer: nn.Module, x: Tensor, precise: bool) -> Tensor:
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=not precise):
        y = layer(x)
    leave_nan_behind()
    y.float().square().mean().backward()
    assert layer.weight.grad is not None
    return layer.weight.grad.clone()


@pytest.mark.parametrize(("kernel", "depth"), [(3, 1), (3, 2), (3, 3), (4, 2), (4, 3), (4, 4)])
def test_they_are_those_of_fp32(kernel: int, depth: int) -> None:
    layer = Conv3d(16, 16, kernel, padding=1)
    x = torch.randn(4, 16, depth, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = gradient(layer, x, precise=True)
    for _ in range(10):
        found = gradient(layer, x, precise=False)
        assert float((found - expected).abs().max()) < 0.02 * float(expected.abs().max())


def test_a_librarys_network_keeps_its_weights() -> None:
    encoder = Encoder(
        spatial_dims=3,
        in_channels=1,
        channels=(8, 8),
        out_channels=4,
        num_res_blocks=(1, 1),
        norm_num_groups=4,
        norm_eps=1e-6,
        attention_levels=(False, False),
        with_nonlocal_attn=False,
    ).eval()
    x = torch.ones(1, 1, 4, 4, 4)
    before, names = encoder(x), list(encoder.state_dict())
    changed = with_right_gradients(encoder)
    assert any(isinstance(layer, Conv3d) for layer in changed.modules())
    assert not any(type(layer) is nn.Conv3d for layer in changed.modules())
    assert list(changed.state_dict()) == names
    assert torch.equal(changed(x), before)
