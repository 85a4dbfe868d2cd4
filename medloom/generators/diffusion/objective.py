"""What a prediction's error costs, pixel by pixel."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from medloom.core.lookup import look_up

ERRORS: Mapping[str, Callable[..., Tensor]] = {"l2": F.mse_loss, "l1": F.l1_loss}


@dataclass(frozen=True)
class Objective:
    """How errors of predictions are added up.

    Attributes:
        error: l2 (squared) or l1 (absolute).
        balance: how far small regions of the mask count as much as large ones; see `region_weights`.
    """

    error: str = "l2"
    balance: float = 0.0

    def __post_init__(self) -> None:
        look_up(ERRORS, self.error, "--noise.loss")

    @property
    def by_region(self) -> bool:
        """Whether it asks for regions."""
        return bool(self.balance)

    def losses(self, prediction: Tensor, target: Tensor, regions: Tensor | None) -> Tensor:
        """The error of each sample.

        Args:
            prediction: float32 `(N, C, *spatial)`; target: the same.
            regions: `(N, R, *spatial)`, the share of each place in each region; None for a model without masks.

        Returns:
            `(N,)`.
        """
        error = ERRORS[self.error]
        errors = error(prediction, target, reduction="none")
        if regions is not None and self.balance:
            errors = errors * region_weights(regions, self.balance)
        return errors.flatten(1).mean(1)


def region_weights(regions: Tensor, balance: float) -> Tensor:
    """Weights of places, mean 1 in each image, by which regions of a mask count by their area to the power 1 - balance.

    They depend on the mask alone, which the network is told, and so change no minimiser of a squared error; they do
    change how soon a region of few pixels is learnt.

    Args:
        regions: `(N, R, *spatial)`, the share of each place in each region; they sum to 1 where there is a mask.
        balance: 0 for places alike, 1 for regions alike.

    Returns:
        `(N, 1, *spatial)`; 1 everywhere in an image without a mask.
    """
    areas = regions.flatten(2).mean(2).clamp(min=1e-6) ** -balance
    weights = torch.einsum("nr,nr...->n...", areas, regions)[:, None]
    means = weights.flatten(1).mean(1).reshape(-1, *[1] * (weights.ndim - 1))
    return torch.where(means > 0, weights / means.clamp(min=1e-12), torch.ones_like(weights))
