"""A head at the image's own resolution, for networks that work on folded pixels."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medloom.networks import blocks

# Channels of each place that the head is given by the network.
DETAIL = 4


class PixelHead(nn.Module):
    """Looks once more at the noisy image and the spatial condition, place by place, beside what the network found.

    A network on a grid of folded pixels has to carry 4 x 4 of them, their mask and the styles of their regions through
    its few channels. Thin regions, as bone, came out blurred there, and effects of an attribute on them too small. The
    head sees them as they are. Its last layer starts at zero.
    """

    def __init__(self, dims: int, width: int, patch: int, given: int, pooled: int, hidden: int, channels: int) -> None:
        """Make one.

        Args:
            dims: 2 or 3.
            width: channels of the network's features.
            patch: pixels of each axis that they fold.
            given: channels of the noisy image, the spatial condition and the coordinates together.
            pooled: channels of the vector that modulates the head: time and condition.
            hidden: channels of its one hidden layer.
            channels: of the image.
        """
        super().__init__()
        self.patch = patch
        self.detail = blocks.convolution(dims, width, DETAIL * patch**dims)
        self.mix = blocks.convolution(dims, DETAIL + given, hidden, 1)
        self.affine = blocks.Affine(pooled, hidden)
        self.output = blocks.convolution(dims, hidden, channels, 1, zero=True)

    def forward(self, features: Tensor, given: Tensor, pooled: Tensor) -> Tensor:
        """`features` `(N, W, *size / patch)`, `given` `(N, G, *size)`, `pooled` `(N, P)` to `(N, C, *size)`."""
        detail = blocks.channels_to_space(self.detail(features), self.patch)
        seen = blocks.channels_last(torch.cat([detail, given.to(detail.dtype)], dim=1))
        output: Tensor = self.output(F.silu(self.affine(self.mix(seen), pooled)))
        return output
