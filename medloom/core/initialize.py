"""Initial weights as a function of a seed."""

from collections.abc import Iterator
from contextlib import contextmanager

from medloom.core.seeds import mix


@contextmanager
def initial_weights(*parts: int | str) -> Iterator[None]:
    """Within the block, torch's initialisers draw from a seed; the global generator is put back afterwards."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(*parts))
        yield
