"""Copies of a module's trainable weights that it can take on for a while, and their exponential moving average."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightCopy:
    """The trainable parameters of a module as they were, for the module to have again within a block.

    Attributes:
        shadow: parameter name -> value, float32, on the parameter's device.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.shadow: dict[str, Tensor] = {name: p.detach().clone() for name, p in _trainable(module)}

    @torch.no_grad()
    def blend(self, decay: float) -> None:
        """Move the copy towards the module's present weights; of itself it keeps the fraction `decay`."""
        names = list(self.shadow)
        current = dict(_trainable(self.module))
        torch._foreach_lerp_([self.shadow[n] for n in names], [current[n].detach() for n in names], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the module has the weights of the copy."""
        own = {name: p.detach().clone() for name, p in _trainable(self.module)}
        self._write(self.shadow)
        try:
            yield
        finally:
            self._write(own)

    @torch.no_grad()
    def load(self, shadow: Mapping[str, Tensor]) -> None:
        """Restore values."""
        for name, value in self.shadow.items():
            value.copy_(shadow[name])

    @torch.no_grad()
    def _write(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in _trainable(self.module):
            parameter.copy_(values[name])


class ExponentialMovingAverage(WeightCopy):
    """Averages the trainable parameters of a module.

    The decay is min(decay, (1 + step) / (10 + step)), so that the average of a short run forgets its first weights.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        super().__init__(module)
        self.decay = decay

    def update(self, step: int) -> None:
        """Include the module's weights after optimiser step `step` (from 1) in the average."""
        self.blend(min(self.decay, (1 + step) / (10 + step)))


def _trainable(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in module.named_parameters() if p.requires_grad)
