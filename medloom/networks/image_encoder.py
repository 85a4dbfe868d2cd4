"""A small convolutional encoder from an image to one vector, in two and three dimensions."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from medloom.networks import blocks


class ImageEncoder(nn.Module):
    """Halves the image once per width, with a residual convolution at each size, and averages over all positions."""

    def __init__(self, dims: int, channels: int, widths: Sequence[int]) -> None:
        """Make an encoder with fresh weights.

        Args:
            dims: 2 or 3.
            channels: of the images.
            widths: feature channels of each size; the last is the width of the vector.
        """
        super().__init__()
        inputs = [channels, *widths[:-1]]
        self.enter = nn.ModuleList(blocks.convolution(dims, a, b) for a, b in zip(inputs, widths, strict=True))
        self.norms = nn.ModuleList(blocks.group_norm(width) for width in widths)
        self.stay = nn.ModuleList(blocks.convolution(dims, width, width) for width in widths)
        self.last = nn.LayerNorm(widths[-1])

    def forward(self, images: Tensor) -> Tensor:
        """`(N, C, *size)` in [-1, 1] to float32 `(N, width)`."""
        x = blocks.channels_last(images)
        for enter, norm, stay in zip(self.enter, self.norms, self.stay, strict=True):
            x = blocks.downsample(enter(x))
            x = x + stay(F.silu(norm(x)))
        vector: Tensor = self.last(x.float().flatten(2).mean(2))
        return vector
