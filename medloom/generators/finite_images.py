"""What a generator makes is finite, or the error says why it is not."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from medloom.core.errors import UserError
from medloom.generators.sampling import SamplingOptions
from medloom.networks.weights import first_not_finite


def require_finite_images(made: Tensor, sampling: SamplingOptions, networks: Mapping[str, nn.Module | None]) -> Tensor:
    """What was sampled, if it is finite.

    Args:
        made: what was sampled.
        sampling: how.
        networks: that made it, by what a user knows them as.

    Raises:
        UserError: names the guidance, the model's weights or the condition, whichever made it so.
    """
    if bool(torch.isfinite(made).all()):
        return made
    what = "the generated values are not finite (NaN or infinite)"
    for name, module in networks.items():
        if module is not None and (lost := first_not_finite(module.state_dict())):
            raise UserError(f"{what}: the weights of the {name} are not ({lost}); take another model.")
    scales = [scale for scale in (sampling.guidance, *sampling.guidance_by_part.values()) if scale is not None]
    if (largest := max(scales, default=1.0)) > 1:
        raise UserError(f"{what}: --guidance {largest:g} is too large for this model; give a lower one.")
    raise UserError(
        f"{what}: a condition is too far from those in training; check the numbers of its table, its mask and its"
        " prior image."
    )
