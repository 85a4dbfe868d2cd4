"""The trained part of a token generator: text encoder, condition encoder and transformer as one module."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medloom.generators.base_model import ConditionalModel
from medloom.generators.tensors import ConditionTensors
from medloom.networks.conditioning import ConditionEncoder
from medloom.networks.text import TextEncoder
from medloom.networks.token_transformer import TokenTransformer


@dataclass(frozen=True, eq=False)
class EncodedCondition:
    """A condition as the transformer takes it, the same in all steps of decoding; see `TokenTransformer.forward`.

    Attributes:
        context: context tokens `(N, L, D)`.
        context_mask: bool `(N, L)`.
        pooled: `(N, D)`.
        mask: channels of the mask on the grid of tokens, or None.
        prior: tokens of the prior image int64 `(N, L)`, or None.
        coarse: tokens of the first stage int64 `(N, *coarse grid)`, or None.
    """

    context: Tensor
    context_mask: Tensor | None
    pooled: Tensor | None
    mask: Tensor | None = None
    prior: Tensor | None = None
    coarse: Tensor | None = None


class TokenModel(ConditionalModel):
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

    def encode(self, inputs: ConditionTensors) -> EncodedCondition:
        """Text and condition encoded, mask and prior tokens on the transformer's grid.

        Args:
            inputs: the condition; `prior` is float `(N, 2, *grid)`: tokens, and 1 where there are any.
        """
        context, mask, pooled = self.context(inputs)
        grid, codes = self.network.config.grid, self.network.config.codes
        prior = None
        if self.prior_channels and inputs.prior is not None:
            tokens = inputs.prior[:, 0].round().long()
            prior = torch.where(inputs.prior[:, 1] > 0, tokens, torch.full_like(tokens, codes)).flatten(1)
        channels = self.spatial(inputs.mask_labels, context.new_zeros(len(context), 1, *grid))
        return EncodedCondition(context, mask, pooled, channels, prior, inputs.coarse_tokens)

    def predict(self, tokens: Tensor, condition: EncodedCondition, wanted: Tensor | None = None) -> Tensor:
        """Logits `(N, L, codes)` of tokens int64 `(N, L)`, or of the `wanted` ones `(M, codes)`."""
        logits: Tensor = self.network(
            tokens,
            context=condition.context,
            context_mask=condition.context_mask,
            pooled=condition.pooled,
            mask=condition.mask,
            prior=condition.prior,
            coarse=condition.coarse,
            wanted=wanted,
        )
        return logits

    def forward(self, tokens: Tensor, inputs: ConditionTensors, wanted: Tensor | None = None) -> Tensor:
        """See `encode` and `predict`."""
        return self.predict(tokens, self.encode(inputs), wanted)
