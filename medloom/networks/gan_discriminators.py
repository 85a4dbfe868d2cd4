"""Patch discriminators at several scales that judge an image together with its mask and its text."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from medloom.networks.blocks import downsample
from medloom.networks.discriminators import KERNEL, WIDEST, PatchDiscriminator

# Features of each scale, of each hidden layer.
Features = list[list[Tensor]]


class ConditionalDiscriminator(nn.Module):
    """Judges patches of images at full size, half, a quarter, ... (Wang et al. 2018, pix2pixHD, section 3.2).

    The mask's channels are joined to the image's, and the pooled condition adds to each patch's logit its
    inner product with the last features of the patch (Miyato and Koyama 2018, arXiv 1802.05637, eq. 6).
    """

    def __init__(
        self,
        dims: int,
        channels: int,
        spatial_channels: int,
        pooled: int,
        width: int,
        layers: int,
        scales: int,
        norm: str,
    ) -> None:
        """Make one with fresh weights.

        Args:
            dims: 2 or 3.
            channels: of the image.
            spatial_channels: of the mask; 0 for a discriminator that sees none.
            pooled: width of the pooled condition; 0 for one that sees none.
            width: feature channels of the first layer.
            layers: layers that halve the image.
            scales: how many sizes are judged.
            norm: spectral or group.
        """
        super().__init__()
        self.scales = nn.ModuleList(
            PatchDiscriminator(dims, channels + spatial_channels, width, layers, norm) for _ in range(scales)
        )
        self.takes_spatial = spatial_channels > 0
        # Without a scale and shift of its own, so that a pooled vector that grows in training does not grow here.
        self.pooled_norm = nn.LayerNorm(pooled, elementwise_affine=False) if pooled else None
        last = width * min(2**layers, WIDEST)
        self.projections = nn.ModuleList(_projection(pooled, last, norm) for _ in range(scales if pooled else 0))

    @property
    def patches(self) -> Sequence[PatchDiscriminator]:
        """The discriminator of each scale."""
        return [scale for scale in self.scales if isinstance(scale, PatchDiscriminator)]

    def smallest(self) -> int:
        """Pixels of an axis that an image needs for a patch at the coarsest scale."""
        layers = len(self.patches[0].blocks) - 1
        return 3 * 2**layers * 2 ** (len(self.scales) - 1)

    def features(self, images: Tensor, spatial: Tensor | None) -> Features:
        """Activations of each scale after each of its hidden layers.

        Args:
            images: `(N, C, *size)` in [-1, 1].
            spatial: `(N, S, *size)`, the mask's channels.
        """
        x = images
        if self.takes_spatial:
            if spatial is None:
                raise ValueError("this discriminator was built with a mask and got none")
            x = torch.cat([images, spatial.to(images.dtype)], dim=1)
        found: Features = []
        for number, patches in enumerate(self.patches):
            x = downsample(x) if number else x
            found.append(patches.features(x))
        return found

    def logits(self, features: Features, pooled: Tensor | None) -> list[Tensor]:
        """Logits `(N, 1, *patches)` of each scale, high where a patch seems real."""
        last = [layers[-1] for layers in features]
        logits = [patches.judge(x) for patches, x in zip(self.patches, last, strict=True)]
        if self.pooled_norm is None:
            return logits
        if pooled is None:
            raise ValueError("this discriminator was built with a condition and got none")
        # Of length 1, as the weights of a judge under the spectral norm are.
        known = self.pooled_norm(pooled) / math.sqrt(pooled.shape[1])
        return [
            logit + _over_patches(torch.einsum("nc...,nc->n...", x, projection(known).to(x.dtype))[:, None])
            for logit, x, projection in zip(logits, last, self.projections, strict=True)
        ]

    def forward(self, images: Tensor, spatial: Tensor | None, pooled: Tensor | None) -> list[Tensor]:
        """`logits` of the `features` of images `(N, C, *size)`, the mask's channels and the pooled `(N, P)`."""
        return self.logits(self.features(images, spatial), pooled)


def _over_patches(values: Tensor) -> Tensor:
    """The mean of `(N, 1, *size)` over the features that each patch's logit is computed from."""
    mean = F.avg_pool2d if values.ndim == 4 else F.avg_pool3d
    # Padded by hand, since torch's 3-D pooling refuses sizes below the kernel's, its own padding aside.
    padded, there = (F.pad(x, (1, 1) * (values.ndim - 2)) for x in (values, torch.ones_like(values)))
    return mean(padded, KERNEL, stride=1) / mean(there, KERNEL, stride=1)


def _projection(pooled: int, features: int, norm: str) -> nn.Module:
    layer = nn.Linear(pooled, features, bias=False)
    return spectral_norm(layer) if norm == "spectral" else layer
