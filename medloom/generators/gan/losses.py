"""What a GAN is trained for: to be taken for real, to be like the real image of the mask, and to be judged smoothly."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from medloom.networks.discriminators import hinge_discriminator_loss, hinge_generator_loss

# Added to variances (of values in [-1, 1]), so that an image of one value has a gradient of bounded length.
LEAST_VARIANCE = 1e-6


def lsgan_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Mean of (D(x) - 1)^2 + D(G)^2, halved (Mao et al. 2017, eq. 9 with a = 0, b = c = 1), of logits of any shape."""
    return 0.5 * ((real.float() - 1.0).square().mean() + fake.float().square().mean())


def lsgan_generator_loss(fake: Tensor) -> Tensor:
    """Mean of (D(G) - 1)^2, not halved, as in pix2pix and CycleGAN, of logits of any shape."""
    return (fake.float() - 1.0).square().mean()


# Name -> the discriminator's loss of logits of real and fake, and the generator's of fake.
ADVERSARIAL: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "lsgan": (lsgan_discriminator_loss, lsgan_generator_loss),
    "hinge": (hinge_discriminator_loss, hinge_generator_loss),
}
ERRORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l1": F.l1_loss, "l2": F.mse_loss}


def discriminator_loss(name: str, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """The discriminator's loss, mean over the scales' logits."""
    judge = ADVERSARIAL[name][0]
    return torch.stack([judge(x, y) for x, y in zip(real, fake, strict=True)]).mean()


def generator_loss(name: str, fake: Sequence[Tensor]) -> Tensor:
    """The generator's adversarial loss, mean over the scales' logits."""
    return torch.stack([ADVERSARIAL[name][1](x) for x in fake]).mean()


def correlation_loss(made: Tensor, real: Tensor) -> Tensor:
    """1 - Pearson's correlation over all values of an image, mean over the images; 0 to 2, and 1 for a flat image.

    Args:
        made: `(N, C, *size)` in [-1, 1].
        real: of the same shape.
    """
    x, y = (images.float().flatten(1) for images in (made, real))
    x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    deviations = [(values.square().mean(1) + LEAST_VARIANCE).sqrt() for values in (x, y)]
    return (1.0 - (x * y).mean(1) / (deviations[0] * deviations[1])).mean()


def feature_loss(made: Sequence[Sequence[Tensor]], real: Sequence[Sequence[Tensor]]) -> Tensor:
    """Mean absolute difference of a discriminator's features, mean over scales and layers (pix2pixHD, eq. 4).

    Args:
        made: features of each scale, of each layer, of generated images.
        real: the same of real ones; no gradient reaches them.
    """
    pairs = [
        F.l1_loss(x.float(), y.detach().float())
        for mine, theirs in zip(made, real, strict=True)
        for x, y in zip(mine, theirs, strict=True)
    ]
    return torch.stack(pairs).mean()


def r1_penalty(logits: Sequence[Tensor], images: Tensor) -> Tensor:
    """Squared length of the slope of the logits at real images (Mescheder et al. 2018, eq. 9, without gamma / 2).

    Of a logit for each patch: the slope of their sum, squared, over the number of patches; for patches that do not
    overlap that is the mean of the patches' own penalties, and it does not grow with the image. Mean over images and
    scales.

    Args:
        logits: of each scale, `(N, 1, *patches)`, computed from `images`, which need gradients.
        images: `(N, C, *size)`.
    """
    penalties = []
    for scale in logits:
        (slope,) = torch.autograd.grad(scale.float().sum(), images, create_graph=True)
        patches = scale[0].numel()
        penalties.append(slope.float().square().flatten(1).sum(1).mean() / patches)
    return torch.stack(penalties).mean()


def mask_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Cross-entropy in nats a pixel of the mask found in an image.

    Args:
        logits: `(N, K, *size)`.
        classes: int64 `(N, *size)`, 0 to K - 1.
    """
    return F.cross_entropy(logits.float(), classes)
