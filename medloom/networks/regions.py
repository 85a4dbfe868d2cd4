"""Regions of a mask's classes: which pixels they hold, outputs with weights of their own, styles from a condition."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medloom.networks import blocks


def partition(mask: Tensor) -> Tensor:
    """The regions of a mask, none of which overlap: its classes, and the rest of where there is a mask.

    What acts in one region then needs no counterweight in the others.

    Args:
        mask: `(N, R, *size)`: the share of each place in each class, and last 1 where there is a mask.

    Returns:
        The same with the last channel less the classes.
    """
    classes, there = mask[:, :-1], mask[:, -1:]
    return torch.cat([classes, there - classes.sum(dim=1, keepdim=True)], dim=1)


def by_region(found: Tensor, mask: Tensor | None, patch: int = 1) -> Tensor:
    """What was found for each region of a mask where that region is, and for no region where there is no mask.

    A network's last convolution then has weights of its own for each region: what an attribute changes in one need not
    be undone in the next, within a folded pixel or beside it.

    Args:
        found: `(N, (1 + R) C patch^axes, *size / patch)`; first what holds where there is no mask.
        mask: `(N, R, *size)`, see `partition`; None for a model without masks.
        patch: pixels of each axis that are folded.

    Returns:
        `(N, C, *size)`.
    """
    count = 1 if mask is None else 1 + mask.shape[1]
    parts = [blocks.channels_to_space(part, patch) for part in found.chunk(count, dim=1)]
    if mask is None:
        return parts[0]
    regions = partition(mask).to(found.dtype)
    output = parts[0] * (1 - regions.sum(dim=1, keepdim=True))
    for number, part in enumerate(parts[1:]):
        output = output + part * regions[:, number : number + 1]
    return output


class RegionStyles(nn.Module):
    """Channels that hold, in each region of a map, a few numbers computed from the pooled vector, zero-initialised.

    After SEAN (Zhu et al. 2020). An attribute that changes one region only, as age changes bone, reaches it directly;
    otherwise a network has to learn products of region and attribute. With `axes` the numbers also vary linearly along
    each axis of the image, so that a side named in the text reaches its half directly.
    """

    def __init__(self, regions: int, pooled: int, width: int, axes: int = 0) -> None:
        super().__init__()
        self.axes = axes
        self.projection = blocks.zeroed(nn.Linear(pooled, (1 + axes) * regions * width))

    def forward(self, mask: Tensor, pooled: Tensor, position: Tensor | None = None) -> Tensor:
        """`mask` `(N, R, *size)` as in `partition`, `pooled` `(N, P)`, `position` as in `blocks.coordinates`.

        Returns:
            `(N, W, *size)`.
        """
        styles = self.projection(F.silu(pooled)).reshape(len(pooled), (1 + self.axes) * mask.shape[1], -1)
        regions = partition(mask)
        if self.axes:
            along = blocks.coordinates(mask, position).unbind(1)
            # The map along each axis has fewer channels than the styles and needs no gradient.
            regions = torch.cat([regions, *(regions * axis[:, None] for axis in along)], dim=1)
        return torch.einsum("nm...,nmw->nw...", regions, styles.to(regions.dtype))
