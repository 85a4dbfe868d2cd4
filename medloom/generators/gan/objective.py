"""The two sides' losses, put together from their terms."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from medloom.generators.gan.adversary import Adversary, Shown
from medloom.generators.gan.losses import (
    ERRORS,
    correlation_loss,
    discriminator_loss,
    feature_loss,
    generator_loss,
    mask_loss,
    r1_penalty,
)
from medloom.generators.gan.options import GANOptions
from medloom.networks.discriminators import frozen

Figures = Mapping[str, Tensor]


@dataclass(frozen=True)
class Made:
    """What one call of the generator's side gave.

    Attributes:
        image: an image `(N, C, *size)` that should be like `truth`.
        truth: a real one.
        fake: what the adversary is to take for real.
        real: the like of it.
        found: logits of the mask found in a generated image `(N, K, *size)`, or None.
        classes: the mask that it was made of, int64 `(N, *size)`, or None.
    """

    image: Tensor
    truth: Tensor
    fake: Shown
    real: Shown
    found: Tensor | None = None
    classes: Tensor | None = None


class GANObjective:
    """The losses of both phases.

    Attributes:
        options: which terms, with which weights.
        adversary: the discriminators, or None.
    """

    def __init__(self, options: GANOptions, adversary: Adversary | None) -> None:
        self.options = options
        self.adversary = adversary

    def faithful(self, made: Made) -> tuple[Tensor, Figures]:
        """The terms that need no adversary, weighted and summed, and each of them."""
        options = self.options
        parts = {
            "reconstruction": (options.reconstruction_weight, ERRORS[options.reconstruction](made.image, made.truth)),
            "correlation": (options.correlation_weight, correlation_loss(made.image, made.truth)),
        }
        if made.found is not None and made.classes is not None:
            parts["mask"] = (options.mask_weight, mask_loss(made.found, made.classes))
        total = torch.stack([weight * value for weight, value in parts.values()]).sum()
        return total, {name: value for name, (_, value) in parts.items()}

    def generator(self, made: Made) -> tuple[Tensor, Figures]:
        """The generator's loss and its terms; no gradient reaches the adversary."""
        total, parts = self.faithful(made)
        figures = dict(parts)
        if self.adversary is not None:
            with frozen(self.adversary):
                figures["adversarial"], figures["features"] = self._judged(self.adversary, made)
            total = total + self.options.adversarial_weight * figures["adversarial"]
            total = total + self.options.feature_weight * figures["features"]
        return total, {f"generator/{name}": value for name, value in figures.items()}

    def _judged(self, adversary: Adversary, made: Made) -> tuple[Tensor, Tensor]:
        """The adversarial and the feature term."""
        fake, judge = made.fake, adversary.images
        features = judge.features(fake.images, fake.spatial)
        adversarial = generator_loss(self.options.adversary, judge.logits(features, fake.pooled))
        if adversary.masks is not None and fake.masks is not None:
            adversarial = adversarial + generator_loss(self.options.adversary, adversary.masks(fake.masks, None, None))
        if not self.options.feature_weight:
            return adversarial, torch.zeros_like(adversarial)
        with torch.no_grad():
            real = judge.features(made.real.images, made.real.spatial)
        return adversarial, feature_loss(features, real)

    def discriminator(self, module: nn.Module, real: Shown, fake: Shown, step: int) -> tuple[Tensor, Figures]:
        """The discriminators' loss, and how they judge real and generated images on average.

        Args:
            module: the adversary as prepared for several processes.
            real: without gradients.
            fake: without gradients.
            step: optimiser step, from 0.
        """
        options = self.options
        # Steps are counted from 1 here, as a phase's own pace is.
        penalised = options.r1 > 0 and (step + 1) % options.r1_every == 0
        if penalised:
            watched = {name: getattr(real, name) for name in ("images", "masks") if getattr(real, name) is not None}
            real = replace(real, **{name: value.detach().requires_grad_() for name, value in watched.items()})
        both = real.joined(fake)
        # One call, so that several processes average gradients once.
        judged = module(both.images, both.spatial, both.pooled, both.masks, precise=penalised)
        halves = [[logits.chunk(2) for logits in scales] for scales in judged if scales]
        total = torch.stack(
            [discriminator_loss(options.adversary, [r for r, _ in scales], [f for _, f in scales]) for scales in halves]
        ).sum()
        figures = {
            "discriminator/real": torch.stack([r.float().mean() for r, _ in halves[0]]).mean(),
            "discriminator/fake": torch.stack([f.float().mean() for _, f in halves[0]]).mean(),
        }
        if penalised:
            inputs = [value for value in (real.images, real.masks) if value is not None]
            pairs = zip(halves, inputs, strict=True)
            penalty = torch.stack([r1_penalty([r for r, _ in scales], x) for scales, x in pairs]).sum()
            # Lazily, and so much stronger (Karras et al. 2020, StyleGAN2, appendix B).
            total = total + 0.5 * options.r1 * options.r1_every * penalty
            figures["discriminator/r1"] = penalty
        return total, figures
