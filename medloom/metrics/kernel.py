"""The kernel distance between two sets of features: squared maximum mean discrepancy of a cubic kernel."""

from dataclasses import dataclass

import numpy as np

from medloom.core.errors import UserError
from medloom.core.seeds import numpy_generator
from medloom.metrics.matrices import Matrix, check_features, parts, placed, squared_lengths, wide


@dataclass(frozen=True)
class KernelDistance:
    """A kernel distance over subsets, as usually published (KID).

    Attributes:
        mean: over the subsets; unbiased, so that it is negative about half of the time for equal distributions.
        std: standard deviation over the subsets; not the uncertainty of the mean.
        size: samples per side of a subset.

    Examples:
        >>> medloom.metrics.kernel_distance(np.zeros((8, 1)), np.ones((8, 1)), seed=0)
        KernelDistance(mean=7.0, std=0.0, size=4)
    """

    mean: float
    std: float
    size: int


def kernel_distance(x: np.ndarray, y: np.ndarray, seed: int, subsets: int = 100, largest: int = 1000) -> KernelDistance:
    """KID (Binkowski et al. 2018): `squared_mmd` over random subsets of min(largest, n / 2) samples.

    Args:
        x: features `(n, d)`.
        y: features `(m, d)`.
        seed: of the subsets, which are drawn without replacement.
        subsets: number of subsets.
        largest: most samples per side of a subset.

    Raises:
        UserError: as `squared_mmd`; fewer than four samples on a side; or an option below 2.

    Examples:
        >>> x, y = np.zeros((8, 1)), np.ones((8, 1))
        >>> medloom.metrics.kernel_distance(x, y, seed=0).mean
        7.0
    """
    x, y = check_features(x, y)
    size = min(largest, len(x) // 2, len(y) // 2)
    if size < 2 or subsets < 2:
        raise UserError(
            f"KID with {subsets} subsets of {size} of {len(x)} and {len(y)} samples; give at least two subsets"
            " and at least four samples per set."
        )
    rng = numpy_generator("kid", seed)
    placed_x, placed_y = placed(3 * subsets * size**2 * x.shape[1], x, y)
    drawn = [
        _mmd(placed_x[rng.permutation(len(x))[:size]], placed_y[rng.permutation(len(y))[:size]], x.shape[1])
        for _ in range(subsets)
    ]
    return KernelDistance(float(np.mean(drawn)), float(np.std(drawn, ddof=1)), size)


def squared_mmd(x: np.ndarray, y: np.ndarray, width: int | None = None) -> float:
    """The unbiased estimate of MMD^2 with k(x, y) = (x.y / d + 1)^3 (Gretton et al. 2012, eq. 3).

    Pairs of a sample with itself are excluded, and all pairs between the sets count, so that the expectation is 0 for
    equal distributions. The estimate for a set and itself, which are not independent, is below 0.

    Args:
        x: features `(n, d)`, finite, n >= 2.
        y: features `(m, d)`, finite, m >= 2.
        width: d of the kernel, if the features are coordinates in a subspace of a space of `width` dimensions.

    Raises:
        UserError: wrong shapes, fewer than two samples, or values that are not finite.

    Examples:
        >>> medloom.metrics.squared_mmd(np.zeros((4, 1)), np.ones((4, 1)))
        7.0
    """
    x, y = check_features(x, y)
    placed_x, placed_y = placed((len(x) + len(y)) ** 2 * x.shape[1], x, y)
    return _mmd(placed_x, placed_y, width or x.shape[1])


def _mmd(x: Matrix, y: Matrix, width: int) -> float:
    within = 0.0
    for z in (x, y):
        diagonal = float(sum(_cubed(squared_lengths(wide(part)) / width).sum() for part in parts(z)))
        within += (_total(z, z, width) - diagonal) / (len(z) * (len(z) - 1))
    return float(within - 2 * _total(x, y, width) / (len(x) * len(y)))


def _total(x: Matrix, y: Matrix, width: int) -> float:
    """The sum of the kernel over all pairs, computed in float64 for a block of rows at a time."""
    other = wide(y).T
    return float(sum(_cubed(wide(part) @ other / width).sum() for part in parts(x)))


def _cubed(products: Matrix) -> Matrix:
    products += 1
    return products * products * products
