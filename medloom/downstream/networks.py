"""Networks that classify images, in two and three dimensions, with their penultimate features in reach."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from medloom.networks.blocks import CONVOLUTION

NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
SMALL_WIDTHS = (32, 64, 128)
DENSENET_WIDTH = 1024


class HeadedNetwork(nn.Module):
    """A body that gives features, and one linear layer on them.

    Args:
        body: maps images `(N, C, *spatial)` in [-1, 1] to features `(N, width)`.
        width: number of features.
        classes: number of classes.
    """

    def __init__(self, body: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(width, classes)

    def features(self, x: Tensor) -> Tensor:
        """Penultimate features `(N, width)` of images `(N, C, *spatial)` in [-1, 1]."""
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(N, classes)` of images `(N, C, *spatial)` in [-1, 1]."""
        return self.head(self.features(x))


class ResidualBlock(nn.Module):
    """Two convolutions with a shortcut (He et al. 2016); the first halves each axis where `stride` is 2."""

    def __init__(self, dims: int, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            CONVOLUTION[dims](inputs, outputs, 3, stride, 1, bias=False),
            NORM[dims](outputs),
            nn.ReLU(inplace=True),
            CONVOLUTION[dims](outputs, outputs, 3, 1, 1, bias=False),
            NORM[dims](outputs),
        )
        self.shortcut = CONVOLUTION[dims](inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, inputs, *spatial)` to `(N, outputs, *spatial / stride)`."""
        return torch.relu(self.main(x) + self.shortcut(x))


class MeanOverSpace(nn.Module):
    """The mean over all spatial axes."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, C, *spatial)` to `(N, C)`."""
        return x.flatten(2).mean(dim=2)


def small(channels: int, classes: int, dims: int) -> HeadedNetwork:
    """A residual network of about 0.3 million weights (0.9 in 3-D) and 128 features, for 64-pixel images on a CPU.

    Args:
        channels: of the images, 1 or 3.
        classes: number of classes.
        dims: spatial axes, 2 or 3.
    """
    first, *others = SMALL_WIDTHS
    layers: list[nn.Module] = [
        CONVOLUTION[dims](channels, first, 5, 2, 2, bias=False),
        NORM[dims](first),
        nn.ReLU(inplace=True),
        ResidualBlock(dims, first, first, 1),
    ]
    for inputs, outputs in zip(SMALL_WIDTHS, others, strict=False):
        layers.append(ResidualBlock(dims, inputs, outputs, 2))
    return HeadedNetwork(nn.Sequential(*layers, MeanOverSpace()), SMALL_WIDTHS[-1], classes)


def densenet121(channels: int, classes: int, dims: int) -> HeadedNetwork:
    """DenseNet-121 (Huang et al. 2017) as MONAI has it, from random weights; 1024 features. Axes of 32 pixels or more.

    Args:
        channels: of the images, 1 or 3.
        classes: number of classes.
        dims: spatial axes, 2 or 3.
    """
    from monai.networks.nets import DenseNet121

    body = DenseNet121(spatial_dims=dims, in_channels=channels, out_channels=classes).features
    return HeadedNetwork(nn.Sequential(body, nn.ReLU(inplace=True), MeanOverSpace()), DENSENET_WIDTH, classes)


NETWORKS: dict[str, Callable[[int, int, int], HeadedNetwork]] = {"small": small, "densenet121": densenet121}
