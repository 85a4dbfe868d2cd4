"""The trained networks of a GAN's side that makes images: from mask, text and noise, and, unpaired, back again."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medloom.generators.base_model import ConditionalModel
from medloom.generators.tensors import ConditionTensors
from medloom.networks.conditioning import ConditionEncoder
from medloom.networks.gan_generators import ImageNetwork
from medloom.networks.text import TextEncoder


@dataclass(frozen=True, eq=False)
class GANInputs:
    """What an image is generated from.

    Attributes:
        noise: standard normal `(N, C, *size)`.
        style: standard normal `(N, style width)`.
        condition: the conditions' tensors.
    """

    noise: Tensor
    style: Tensor
    condition: ConditionTensors

    def to(self, device: torch.device) -> "GANInputs":
        """On another device, without waiting for the copy."""
        noise, style = (tensor.to(device, non_blocking=True) for tensor in (self.noise, self.style))
        return GANInputs(noise, style, self.condition.to(device))


class GANModel(ConditionalModel):
    """Makes an image from noise and a condition given as tensors.

    Attributes:
        network: see `medloom.networks.gan_generators.ImageNetwork`.
    """

    def __init__(
        self, text: TextEncoder, condition: ConditionEncoder, network: ImageNetwork, mask_classes: Sequence[int]
    ) -> None:
        super().__init__(text, condition, mask_classes)
        self.network = network

    @property
    def fused(self) -> bool:
        """Whether text, modality and table reach the network."""
        return self.network.config.fusion != "none"

    def forward(self, inputs: GANInputs, spatial: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Generate images.

        Args:
            inputs: noise and condition.
            spatial: the mask's channels `(N, classes + 1, *size)`, instead of the condition's label maps.

        Returns:
            Images float32 `(N, C, *size)` in [-1, 1], and the pooled condition `(N, D)`, None where none is fused.
        """
        condition = inputs.condition
        if spatial is None:
            spatial = self.spatial(condition.mask_labels, inputs.noise)
        context, mask, pooled = self.context(condition) if self.fused else (None, None, None)
        made = self.network(inputs.noise, inputs.style, context, mask, pooled, spatial, condition.patch_position)
        return torch.tanh(made.float()), pooled


class Cycle(nn.Module):
    """A generator and the network that finds the mask in an image (Zhu et al. 2017, CycleGAN, figure 3).

    Attributes:
        model: from mask to image.
        inverse: from image to logits of the mask's classes, of no class, and of lying outside of the mask.
    """

    def __init__(self, model: GANModel, inverse: ImageNetwork) -> None:
        super().__init__()
        self.model = model
        self.inverse = inverse

    def forward(
        self, images: Tensor, own: GANInputs, other: GANInputs
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
        """Both ways: a mask to an image and back, and an image to a mask and back.

        Args:
            images: real ones `(N, C, *size)` in [-1, 1].
            own: the images' conditions without masks.
            other: conditions of other rows with their masks.

        Returns:
            Images of the other rows' masks; logits of the mask found in them; channels of the mask found in `images`;
            the images made of that mask; and the pooled conditions of `own` and `other`, or None.
        """
        made, pooled_other = self.model(other)
        recovered = self.inverse(made).float()
        found = self.channels(self.inverse(images).float())
        back, pooled_own = self.model(own, found)
        return made, recovered, found, back, pooled_own, pooled_other

    def channels(self, logits: Tensor) -> Tensor:
        """A mask's channels from logits, as the generator takes them: 0 or 1, with the gradient of the probabilities.

        The straight-through estimator (Bengio et al. 2013): a mask of probabilities would differ from
        a real one at first sight, and could hide the image in its decimals (Chu et al. 2017).
        """
        probabilities = logits.softmax(1)
        hard = F.one_hot(logits.argmax(1), logits.shape[1]).movedim(-1, 1).to(probabilities.dtype)
        shares = hard + probabilities - probabilities.detach()
        count = len(self.model.mask_classes)
        return torch.cat([shares[:, :count], 1.0 - shares[:, -1:]], dim=1)

    def classes(self, labels: Tensor) -> Tensor:
        """The place of each label among `inverse`'s logits, int64 `(N, *size)`."""
        count = len(self.model.mask_classes)
        places = torch.where(labels < 0, count + 1, torch.full_like(labels, count))
        for place, label in enumerate(self.model.mask_classes):
            places = torch.where(labels == label, place, places)
        return places
