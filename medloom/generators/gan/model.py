"""The trained networks of a GAN's side that makes images: from mask, text and noise, and, unpaired, back again."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medloom.generators.base_model import ConditionedModel, Inputs
from medloom.generators.training_data import INPUTS
from medloom.networks.conditioning import ConditionEncoder
from medloom.networks.gan_generators import ImageNetwork
from medloom.networks.text import TextEncoder

NOISE, STYLE = "noise", "style"


class GANModel(ConditionedModel):
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

    def forward(
        self, noise: Tensor, style: Tensor, inputs: Inputs, spatial: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Make images.

        Args:
            noise: standard normal `(N, C, *size)`.
            style: standard normal `(N, style width)`.
            inputs: see `context`; `labels` int64 `(N, *size)` with -1 where there is no mask; and of patches `place`
                float32 `(N, axes, 2)`, where they lie in their images.
            spatial: the mask's channels `(N, classes + 1, *size)`, in place of `labels`.

        Returns:
            Images float32 `(N, C, *size)` in [-1, 1], and the pooled condition `(N, D)`, None where none is fused.
        """
        if spatial is None:
            spatial = self.spatial(inputs["labels"], noise)
        context, mask, pooled = self.context(inputs) if self.fused else (None, None, None)
        made = self.network(noise, style, context, mask, pooled, spatial, inputs.get("place"))
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
        self, images: Tensor, own: Mapping[str, Tensor], other: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
        """Both ways: a mask to an image and back, and an image to a mask and back.

        Args:
            images: real ones `(N, C, *size)` in [-1, 1].
            own: the images' conditions without masks, with `noise` and `style`.
            other: conditions of other rows with their masks, with `noise` and `style`.

        Returns:
            Images of the other rows' masks; logits of the mask found in them; channels of the mask found in `images`;
            the images made of that mask; and the pooled conditions of `own` and `other`, or None.
        """
        made, pooled_other = self.model(other[NOISE], other[STYLE], _inputs(other))
        recovered = self.inverse(made).float()
        found = self.channels(self.inverse(images).float())
        back, pooled_own = self.model(own[NOISE], own[STYLE], _inputs(own), found)
        return made, recovered, found, back, pooled_own, pooled_other

    def channels(self, logits: Tensor) -> Tensor:
        """A mask's channels from logits, as the generator takes them: 0 or 1, with the gradient of the probabilities.

        The straight-through estimator (Bengio et al. 2013): a mask of probabilities would be told from a real one at
        once, and could hide the image in its decimals (Chu et al. 2017).
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


def _inputs(tensors: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
    return {name: tensors.get(name) for name in INPUTS}
