"""What an autoencoder is trained for: to give images back, to look like them, and to have plain latents."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medloom.core.seeds import initial_weights
from medloom.core.spec import ImageSpec
from medloom.generators.autoencoder.options import AutoencoderOptions
from medloom.networks.discriminators import (
    PatchDiscriminator,
    frozen,
    hinge_discriminator_loss,
    hinge_generator_loss,
)
from medloom.networks.perceptual import NONE, perceptual_distance

# Bounds of the adaptive weight, as in Esser et al.'s code.
LEAST_GRADIENT, LARGEST_WEIGHT = 1e-4, 1e4


class AutoencoderLosses:
    """The two sides' losses (Esser et al. 2021, eq. 5 to 7; Rombach et al. 2022, appendix G).

    Attributes:
        options: which losses, with which weights.
        discriminator: judges patches, or None where no loss needs it.
        distance: the perceptual distance, or None.
    """

    def __init__(self, options: AutoencoderOptions, spec: ImageSpec, seed: int, device: torch.device) -> None:
        """Make what the losses need, on `device`; the discriminator's weights are drawn from `seed`."""
        self.options = options
        self.discriminator = _discriminator(options, spec, seed, device)
        name = options.perceptual if options.perceptual_weight else NONE
        distance = perceptual_distance(name, self.discriminator)
        self.distance = distance.to(device) if distance is not None else None

    def autoencoder(
        self, reconstructions: Tensor, latents: Mapping[str, Tensor], images: Tensor, step: int
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The autoencoder's loss and its parts; no gradient reaches the discriminator.

        Args:
            reconstructions: float32 `(N, C, *size)`; gradients flow to them.
            latents: what the latents cost, by name: `kl` or `quantizer`; and further figures.
            images: the originals in [-1, 1].
            step: optimiser step.
        """
        options = self.options
        error = F.l1_loss if options.error == "l1" else F.mse_loss
        parts = {"error": error(reconstructions, images), **latents}
        faithful = parts["error"]
        with self._frozen_discriminator():
            if self.distance is not None and (step >= options.adversarial_start or not options.uses_features):
                parts["perceptual"] = self.distance(reconstructions, images).mean()
                faithful = faithful + options.perceptual_weight * parts["perceptual"]
            weights = {"kl": options.kl_weight, "quantizer": options.quantizer_weight}
            total = faithful + sum(weight * parts[name] for name, weight in weights.items() if name in parts)
            if self.discriminator is not None and options.adversarial_weight and step >= options.adversarial_start:
                parts["adversarial"] = hinge_generator_loss(self.discriminator(reconstructions))
                weight = self._adversarial_weight(faithful, parts["adversarial"], reconstructions)
                parts["adversarial weight"] = weight
                total = total + weight * parts["adversarial"]
        return total, {f"autoencoder/{name}": value for name, value in parts.items()}

    def _adversarial_weight(self, faithful: Tensor, adversarial: Tensor, reconstructions: Tensor) -> Tensor:
        weight = torch.tensor(self.options.adversarial_weight, device=reconstructions.device)
        if self.options.adaptive:
            weight = weight * balance(faithful, adversarial, reconstructions)
        return weight

    @contextmanager
    def _frozen_discriminator(self) -> Iterator[None]:
        if self.discriminator is None:
            yield
            return
        with frozen(self.discriminator):
            yield

    @staticmethod
    def judge(discriminator: nn.Module, images: Tensor, reconstructions: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The discriminator's loss, and how it judges originals and reconstructions on average.

        Args:
            discriminator: as prepared for several processes.
            images: `(N, C, *size)` in [-1, 1].
            reconstructions: of the same shape, without gradients.
        """
        # One call, so that several processes average gradients once.
        real, fake = discriminator(torch.cat([images, reconstructions])).float().chunk(2)
        figures = {"discriminator/real": real.mean(), "discriminator/fake": fake.mean()}
        return hinge_discriminator_loss(real, fake), figures


def _discriminator(
    options: AutoencoderOptions, spec: ImageSpec, seed: int, device: torch.device
) -> PatchDiscriminator | None:
    if not options.needs_discriminator:
        return None
    with initial_weights(seed, "discriminator"):
        network = PatchDiscriminator(
            spec.spatial_dims,
            spec.channels,
            options.discriminator_width,
            options.discriminator_layers,
            options.discriminator_norm,
        )
    network.require_size(spec.size)
    return network.to(device)


def divergence(moments: Tensor, values: int) -> Tensor:
    """Divergence of the posteriors from the standard normal distribution, in nats per value of the images.

    Args:
        moments: mean and log-variance, `(N, 2 C, *latent)`.
        values: number of values in the N images.
    """
    mean, log_variance = moments.float().chunk(2, dim=1)
    log_variance = log_variance.clamp(-30.0, 20.0)
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum() / values


def balance(faithful: Tensor, adversarial: Tensor, reconstructions: Tensor) -> Tensor:
    """How often the adversarial gradient goes into that of the other losses (Esser et al. 2021, eq. 7).

    Measured at the reconstructions, not at the decoder's last weights: the two differ by one linear layer, and this
    leaves the autoencoder's own graph alone.
    """
    first, second = (_steepness(loss, reconstructions) for loss in (faithful, adversarial))
    return (first / (second + LEAST_GRADIENT)).clamp(max=LARGEST_WEIGHT)


def _steepness(loss: Tensor, reconstructions: Tensor) -> Tensor:
    """Root mean square of the gradient of the summed loss at each value: of order one whatever the batch's size."""
    (gradient,) = torch.autograd.grad(loss * reconstructions.numel(), reconstructions, retain_graph=True)
    return gradient.square().mean().sqrt()
