"""The trained part of a diffusion generator: text encoder, condition encoder and denoiser as one module."""

from collections.abc import Sequence

from torch import Tensor, nn

from medloom.generators.base_model import ConditionalModel
from medloom.generators.tensors import ConditionTensors
from medloom.networks.conditioning import ConditionEncoder
from medloom.networks.text import TextEncoder


class DiffusionModel(ConditionalModel):
    """Predicts from a noisy image, its time, and a condition given as tensors.

    Attributes:
        denoiser: see `medloom.networks.denoiser.Denoiser`.
    """

    def __init__(
        self,
        text: TextEncoder,
        condition: ConditionEncoder | None,
        denoiser: nn.Module,
        mask_classes: Sequence[int] = (),
        prior_channels: int = 0,
    ) -> None:
        super().__init__(text, condition, mask_classes, prior_channels)
        self.denoiser = denoiser

    def forward(self, x: Tensor, t: Tensor, inputs: ConditionTensors) -> Tensor:
        """Predict.

        Args:
            x: `(N, C, *spatial)`.
            t: float `(N,)` in 0..1000.
            inputs: the condition.

        Returns:
            `(N, C, *spatial)`.
        """
        spatial = self.spatial(inputs.mask_labels, x, inputs.prior)
        context, mask, pooled = self.context(inputs)
        prediction: Tensor = self.denoiser(x, t, context, mask, pooled, spatial, inputs.patch_position)
        return prediction
