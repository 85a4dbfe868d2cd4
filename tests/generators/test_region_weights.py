"""Weights by which small regions of a mask count as much as large ones, and errors of the regions' means."""

import pytest
import torch

from medloom.generators.diffusion.task import region_weights


def regions_of(labels: torch.Tensor, classes: int) -> torch.Tensor:
    return torch.stack([labels == number for number in range(classes)], dim=1).float()


def test_regions_count_alike_at_one_and_pixels_at_zero() -> None:
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    labels[0, 0, 0] = 1
    labels[0, 3] = 2
    regions = regions_of(labels, 3)
    assert torch.equal(region_weights(regions, 0.0), torch.ones(1, 1, 4, 4))
    weights = region_weights(regions, 1.0)
    totals = [float((weights[0, 0] * regions[0, region]).sum()) for region in range(3)]
    assert totals == pytest.approx([16 / 3] * 3)
    half = region_weights(regions, 0.5)
    assert float(half.mean()) == pytest.approx(1.0)
    assert float(half[0, 0, 0, 0] / half[0, 0, 3, 0]) == pytest.approx(2.0)  # a quarter of the area


def test_an_image_without_a_mask_weighs_all_alike_and_an_absent_class_is_no_harm() -> None:
    labels = torch.tensor([[[-1, -1], [-1, -1]], [[0, 0], [0, 1]]])
    weights = region_weights(regions_of(labels, 3), 0.7)
    assert torch.equal(weights[0], torch.ones(1, 2, 2))
    assert weights.isfinite().all() and float(weights[1].mean()) == pytest.approx(1.0)


def test_padding_beyond_a_mask_is_learnt_as_well() -> None:
    """Labels of -1 are in no region; a place without weight would never be trained on."""
    labels = torch.tensor([[[-1, -1, -1], [0, 0, 1], [-1, -1, -1]]])
    for balance in (0.25, 1.0):
        weights = region_weights(regions_of(labels, 2), balance)[0, 0]
        inside = region_weights(regions_of(labels[:, 1:2], 2), balance)[0, 0]
        torch.testing.assert_close(weights[1:2], inside)
        torch.testing.assert_close(weights[[0, 2]], torch.ones(2, 3))


def test_a_weight_of_the_mask_alone_moves_no_minimiser() -> None:
    """The best constant for each place is the mean of the targets there, whatever the weight of the place."""
    labels = torch.zeros(1, 2, 2, dtype=torch.long)
    labels[0, 0, 0] = 1
    weights = region_weights(regions_of(labels, 2), 1.0)
    targets = torch.randn(50, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    best = torch.zeros(1, 1, 2, 2, requires_grad=True)
    (weights * (best - targets).square()).mean().backward()
    gradient = best.grad
    assert gradient is not None
    torch.testing.assert_close(gradient / weights, -2 * targets.mean(0, keepdim=True) / 4)
