"""Exponential moving average of weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class ExponentialMovingAverage:
    """Averages the trainable parameters of a module.

    The decay is min(decay, (1 + step) / (10 + step)), so that the average of a short run forgets its first weights.

    Attributes:
        shadow: parameter name -> averaged value, float32, on the parameter's device.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = module
        self.decay = decay
        self.shadow: dict[str, Tensor] = {name: p.detach().clone() for name, p in _trainable(module)}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Include the module's weights after optimiser step `step` (from 1) in the average."""
        decay = min(self.decay, (1 + step) / (10 + step))
        names = list(self.shadow)
        current = dict(_trainable(self.module))
        torch._foreach_lerp_([self.shadow[n] for n in names], [current[n].detach() for n in names], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the module has the averaged weights."""
        own = {name: p.detach().clone() for name, p in _trainable(self.module)}
        self._write(self.shadow)
        try:
            yield
        finally:
            self._write(own)

    @torch.no_grad()
    def load(self, shadow: dict[str, Tensor]) -> None:
        """Restore averaged values."""
        for name, value in self.shadow.items():
            value.copy_(shadow[name])

    @torch.no_grad()
    def _write(self, values: dict[str, Tensor]) -> None:
        for name, parameter in _trainable(self.module):
            parameter.copy_(values[name])


def _trainable(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in module.named_parameters() if p.requires_grad)
