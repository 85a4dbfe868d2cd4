"""The trained part of a token generator: text encoder, condition encoder and transformer as one module."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medloom.generators.base_model import ConditionedModel, Inputs
from medloom.networks.conditioning import ConditionEncoder
from medloom.networks.text import TextEncoder
from medloom.networks.token_transformer import TokenTransformer


@dataclass(frozen=True)
class Told:
    """A condition as the transformer takes it; the same in all steps of decoding.

    Attributes:
        tensors: context, context_mask, pooled, mask, prior and coarse; see `TokenTransformer.forward`.
    """

    tensors: Mapping[str, Tensor | None]


class TokenModel(ConditionedModel):
    """Predicts masked tokens from a condition given as tensors.

    Attributes:
        network: the transformer.
    """

    condition: ConditionEncoder

    def __init__(
        self,
        text: TextEncoder,
        condition: ConditionEncoder,
        network: TokenTransformer,
        mask_classes: Sequence[int] = (),
    ) -> None:
        super().__init__(text, condition, mask_classes, int(network.config.prior))
        self.network = network

    def told(self, inputs: Inputs) -> Told:
        """What the transformer is told: text and condition encoded, mask and earlier tokens on its grid.

        Args:
            inputs: see `ConditionedModel.context`; `labels` int64 `(N, *size)`, `prior` float `(N, 2, *grid)` (tokens,
                and 1 where there are any) and `coarse` int64 `(N, *coarse grid)`, where the network takes them.
        """
        context, mask, pooled = self.context(inputs)
        grid, codes = self.network.config.grid, self.network.config.codes
        prior = inputs.get("prior")
        earlier = None
        if self.prior_channels and prior is not None:
            tokens = prior[:, 0].round().long()
            earlier = torch.where(prior[:, 1] > 0, tokens, torch.full_like(tokens, codes)).flatten(1)
        channels = self.spatial(inputs.get("labels"), context.new_zeros(len(context), 1, *grid))
        named = {"context": context, "context_mask": mask, "pooled": pooled}
        return Told({**named, "mask": channels, "prior": earlier, "coarse": inputs.get("coarse")})

    def forward(self, tokens: Tensor, inputs: Inputs, wanted: Tensor | None = None) -> Tensor:
        """Logits `(N, L, codes)` of tokens int64 `(N, L)`, or of the `wanted` ones `(M, codes)`."""
        logits: Tensor = self.network(tokens, **self.told(inputs).tensors, wanted=wanted)
        return logits
