"""How much better than others of its prompt an image is: rewards to advantages."""

import numpy as np
from numpy.typing import NDArray

# Of standard deviations: below it rewards are alike, and differences are noise of their computation.
ALIKE = 1e-6


def centred(rewards: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rewards less the mean of their prompt: the images of a prompt are compared with each other alone.

    Args:
        rewards: `(prompts, group)`, NaN for an image that has none.

    Returns:
        `(prompts, group)`; 0 for an image without a reward, and where a prompt has fewer than two.
    """
    counts = np.isfinite(rewards).sum(1, keepdims=True)
    sums = np.nansum(rewards, axis=1, keepdims=True)
    return np.nan_to_num(np.where(counts > 1, rewards - sums / np.maximum(counts, 1), 0.0), nan=0.0)


def scaled(differences: NDArray[np.float64], deviation: float, clip: float) -> NDArray[np.float64]:
    """Differences from the mean of a prompt as advantages, in standard deviations of all prompts.

    One standard deviation for all prompts (Liu et al. 2025, Dr. GRPO): by its own, a prompt whose images are all about
    equally good would weigh as much as one with good and bad ones.

    Args:
        differences: of `centred`.
        deviation: the standard deviation of all of them, those of other processes included.
        clip: largest size of an advantage.
    """
    if deviation < ALIKE:
        return np.zeros_like(differences)
    return np.clip(differences / deviation, -clip, clip)
