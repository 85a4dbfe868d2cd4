"""Patch discriminators: each output judges whether one patch of an image, given its condition, is real."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from medloom.core.errors import UserError
from medloom.networks.blocks import CONVOLUTION, downsample, group_norm

NORMS = ("spectral", "group")
KERNEL = 4
SLOPE = 0.2
WIDEST = 8

# Features of each scale, of each hidden layer.
Features = list[list[Tensor]]


class PatchDiscriminator(nn.Module):
    """The PatchGAN discriminator (Isola et al. 2017, appendix 6.1.2) in two or three dimensions.

    With three layers a patch is 70 pixels wide. The spectral norm (Miyato et al. 2018) bounds each layer's slope and
    does not normalise activations. The group norm is closest to the original and does not mix the images of a batch.
    """

    def __init__(self, dims: int, channels: int, width: int, layers: int = 3, norm: str = "spectral") -> None:
        """Make a discriminator with fresh weights.

        Args:
            dims: 2 or 3 spatial axes.
            channels: of an image.
            width: feature channels of the first layer; each further layer doubles them, up to 8 times.
            layers: layers that halve the image.
            norm: spectral or group.

        Raises:
            UserError: an unknown norm.
        """
        super().__init__()
        if norm not in NORMS:
            raise UserError(f"discriminator norm {norm!r} is not known; allowed: {', '.join(NORMS)}.")
        widths = [width * min(2**level, WIDEST) for level in range(layers + 1)]
        strides = [2] * layers + [1]
        inputs = [channels, *widths]
        self.blocks = nn.ModuleList(
            _block(dims, inputs[level], widths[level], strides[level], norm, normalise=level > 0)
            for level in range(layers + 1)
        )
        self.judge = _convolution(dims, widths[-1], 1, 1, norm)

    def require_size(self, size: tuple[int, ...]) -> None:
        """Refuse images that are too small for one patch.

        Raises:
            UserError: states the smallest size.
        """
        layers = len(self.blocks) - 1
        smallest = 3 * 2**layers
        if min(size) < smallest:
            raise UserError(
                f"images of {size} pixels are too small for a discriminator of {layers} layers, which needs at least"
                f" {smallest} pixels per axis; use larger images, or no discriminator."
            )

    def features(self, images: Tensor) -> list[Tensor]:
        """Activations after each hidden layer, first to last, each `(N, C', *size')`.

        Args:
            images: `(N, C, *size)` in [-1, 1]; see `require_size`.
        """
        found: list[Tensor] = []
        for block in self.blocks:
            images = block(images)
            found.append(images)
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(N, 1, *patches)`, high for patches that seem real, of images `(N, C, *size)` in [-1, 1]."""
        logits: Tensor = self.judge(self.features(images)[-1])
        return logits


def _block(dims: int, inputs: int, outputs: int, stride: int, norm: str, normalise: bool) -> nn.Sequential:
    # The first layer is not normalised, so that overall brightness is not lost (Isola et al. 2017).
    between = group_norm(outputs) if norm == "group" and normalise else nn.Identity()
    return nn.Sequential(_convolution(dims, inputs, outputs, stride, norm), between, nn.LeakyReLU(SLOPE))


def _convolution(dims: int, inputs: int, outputs: int, stride: int, norm: str) -> nn.Module:
    layer: nn.Module = CONVOLUTION[dims](inputs, outputs, KERNEL, stride=stride, padding=1)
    return spectral_norm(layer) if norm == "spectral" else layer


class ConditionalDiscriminator(nn.Module):
    """Judges patches of images at full size, half, a quarter, ... (Wang et al. 2018, pix2pixHD, section 3.2).

    The mask's channels are joined to the image's. The inner product of the pooled condition with a patch's last
    features is added to the patch's logit (Miyato and Koyama 2018, arXiv 1802.05637, eq. 6).
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
        """Make a discriminator with fresh weights.

        Args:
            dims: 2 or 3.
            channels: of the image.
            spatial_channels: of the mask; 0 for a discriminator without a mask.
            pooled: width of the pooled condition; 0 for a discriminator without one.
            width: feature channels of the first layer.
            layers: layers that halve the image.
            scales: number of sizes at which images are judged.
            norm: spectral or group.
        """
        super().__init__()
        self.scales = nn.ModuleList(
            PatchDiscriminator(dims, channels + spatial_channels, width, layers, norm) for _ in range(scales)
        )
        self.takes_spatial = spatial_channels > 0
        # No learnt scale and shift: a pooled vector that grows in training must not grow here.
        self.pooled_norm = nn.LayerNorm(pooled, elementwise_affine=False) if pooled else None
        last = width * min(2**layers, WIDEST)
        self.projections = nn.ModuleList()
        for _ in range(scales if pooled else 0):
            layer = nn.Linear(pooled, last, bias=False)
            self.projections.append(spectral_norm(layer) if norm == "spectral" else layer)

    @property
    def patches(self) -> Sequence[PatchDiscriminator]:
        """The discriminator of each scale."""
        return [scale for scale in self.scales if isinstance(scale, PatchDiscriminator)]

    def smallest(self) -> int:
        """The fewest pixels per axis that leave a patch at the coarsest scale."""
        return int(3 * 2 ** (len(self.patches[0].blocks) - 1) * 2 ** (len(self.scales) - 1))

    def features(self, images: Tensor, spatial: Tensor | None) -> Features:
        """Activations after each hidden layer of each scale.

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
        """Logits `(N, 1, *patches)` of each scale, high for patches that seem real."""
        last = [layers[-1] for layers in features]
        logits = [patches.judge(x) for patches, x in zip(self.patches, last, strict=True)]
        if self.pooled_norm is None:
            return logits
        if pooled is None:
            raise ValueError("this discriminator was built with a condition and got none")
        # Of length 1, like the weights of the judge under the spectral norm.
        known = self.pooled_norm(pooled) / math.sqrt(pooled.shape[1])
        return [
            logit + _over_patches(torch.einsum("nc...,nc->n...", x, projection(known).to(x.dtype))[:, None])
            for logit, x, projection in zip(logits, last, self.projections, strict=True)
        ]

    def forward(self, images: Tensor, spatial: Tensor | None, pooled: Tensor | None) -> list[Tensor]:
        """`logits` of the `features` of images `(N, C, *size)`, the mask's channels and the pooled `(N, P)`."""
        return self.logits(self.features(images, spatial), pooled)


def _over_patches(values: Tensor) -> Tensor:
    """The mean of `(N, 1, *size)` over the features that determine each patch's logit."""
    mean = F.avg_pool2d if values.ndim == 4 else F.avg_pool3d
    # Explicit padding: torch's 3-D pooling refuses sizes below the kernel's even if its own padding makes up for it.
    padded, valid = (F.pad(x, (1, 1) * (values.ndim - 2)) for x in (values, torch.ones_like(values)))
    return mean(padded, KERNEL, stride=1) / mean(valid, KERNEL, stride=1)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Within the block a module passes gradients on to its input and does not change itself.

    Its parameters get no gradients from computations in the block, even if the backward pass runs later, and its
    buffers (the spectral norm's vectors) stay.
    """
    training = module.training
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    module.eval().requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
        module.train(training)


def hinge_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Mean of max(0, 1 - D(x)) + max(0, 1 + D(G)), halved (Lim & Ye 2017), of logits of any shape."""
    return 0.5 * (F.relu(1.0 - real.float()).mean() + F.relu(1.0 + fake.float()).mean())


def hinge_generator_loss(fake: Tensor) -> Tensor:
    """Mean of -D(G), the generator's side of the hinge loss, of logits of any shape."""
    return -fake.float().mean()
