"""Randomness as a function of names and integers, independent of previous draws.

Nothing in medloom reseeds or reads a global generator. All draws are made on the CPU, and equal on any device.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from medloom.core.errors import UserError

if TYPE_CHECKING:
    import torch

MAX_SEED = 2**63 - 1


def mix(*parts: int | str) -> int:
    """A 63-bit seed from integers and names, e.g. `mix(run_seed, "noise", step, row)`.

    A cryptographic hash makes the streams of neighbouring steps or rows independent.
    """
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") & MAX_SEED


def numpy_generator(*parts: int | str) -> np.random.Generator:
    """A numpy generator seeded by `mix(*parts)`."""
    return np.random.Generator(np.random.Philox(mix(*parts)))


def torch_generator(*parts: int | str) -> "torch.Generator":
    """A CPU torch generator seeded by `mix(*parts)`."""
    import torch

    return torch.Generator(device="cpu").manual_seed(mix(*parts))


def sample_noise(seeds: Sequence[int], shape: Sequence[int], name: str = "noise", step: int = 0) -> "torch.Tensor":
    """Standard normal noise; row k depends only on `seeds[k]`, `name` and `step`.

    Args:
        seeds: one integer per sample.
        shape: shape of one sample, `(C, *spatial)`.
        name: use of the noise, such as the initial noise or that of an ancestral step.
        step: number of the step.

    Returns:
        float32 tensor `(N, *shape)` on the CPU.
    """
    import torch

    rows = [torch.randn(tuple(shape), generator=torch_generator(name, step, seed)) for seed in seeds]
    return torch.stack(rows) if rows else torch.empty(0, *shape)


def check_seed(seed: int) -> int:
    """Return a valid seed.

    Raises:
        UserError: negative, or larger than 63 bits.
    """
    if not 0 <= seed <= MAX_SEED:
        raise UserError(f"--seed {seed} is out of range; allowed: 0 to {MAX_SEED}.")
    return seed


@contextmanager
def initial_weights(*parts: int | str) -> Iterator[None]:
    """Within the block, torch's initialisers draw from a seed; the global generator is restored afterwards."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(*parts))
        yield
