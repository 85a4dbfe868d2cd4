"""The search for the transform: where images correlate best when coarse, then mutual information from there.

Coarse search (Padfield 2012, masked normalised cross-correlation): all shifts at once by Fourier transforms, for some
turns and scales, of images whose local mean and spread are taken out, so that exposure and large shadows do not decide.
Refinement (Mattes et al. 2003): mutual information by regular steps down the gradient, coarse to fine.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.core.image import FloatArray
from medloom.longitudinal.registration.geometry import Grid, Matrix, index_matrix, sample, sample_nearest, similarity
from medloom.longitudinal.registration.options import RegistrationOptions

# The coarse search works at so many pixels along an axis, and in all: a cube is 24 voxels wide.
COARSE_SIZE, COARSE_PIXELS = 64, 24**3
WORK_PIXELS = 100**3
SHARES = (1 / 3, 2 / 3)  # of the largest turn and scale, from which the coarse search starts
LOCAL = 1 / 8  # neighbourhood of the local mean and spread, share of the longest axis
LEAST_SPREAD = 0.05  # of intensities from 0 to 1: less is noise
SMALLEST_LEVEL = 16  # pixels that an image has at least along an axis at a level
STEP, LAST_STEP = 1.0, 0.01  # of the optimiser, in pixels of the search
GRADIENT_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Work:
    """An image as the search sees it.

    Attributes:
        pixels: float32 `(*spatial)`, 0 to 1.
        known: bool `(*spatial)`, False on padding.
        grid: where they lie.
    """

    pixels: FloatArray
    known: NDArray[np.bool_]
    grid: Grid

    def on(self, world: Matrix, grid: Grid) -> "Work":
        """Sampled on a grid of the other image's space."""
        matrix = index_matrix(world, self.grid, grid)
        known = sample_nearest(self.known.astype(np.uint8), matrix, grid.size, 0) > 0
        return Work(sample(self.pixels[None], matrix, grid.size)[0], known, grid)

    def reduced(self, step: float) -> "Work":
        """With steps of at least that length."""
        return self.on(np.eye(self.grid.dims + 1), self.grid.reduced(step))


def step_for(grid: Grid, longest: int, most: int) -> float:
    """The step at which a grid has at most `longest` pixels along an axis and `most` in all."""
    extent = grid.steps * np.array(grid.size)
    return float(max(extent.max() / longest, (extent.prod() / most) ** (1 / grid.dims)))


def search(moving: Work, fixed: Work, options: RegistrationOptions) -> Matrix:
    """The world matrix that brings the moving image onto the fixed one.

    Raises:
        RuntimeError: SimpleITK found no step to take (the images share too little, say).
    """
    world = coarse_match(moving, fixed, options)
    for transform in options.family.make(fixed.grid.dims):
        world = _refined(transform, world, moving, fixed, options)
    return world


def coarse_match(moving: Work, fixed: Work, options: RegistrationOptions) -> Matrix:
    """The best world matrix among all shifts with some turns and scales."""
    step = step_for(fixed.grid, COARSE_SIZE, COARSE_PIXELS)
    small, other = fixed.reduced(step), moving.reduced(step)
    evened = _evened(small)
    best, found = -np.inf, np.eye(fixed.grid.dims + 1)
    for linear in _starts(fixed.grid.dims, options):
        world, grid = _laid(linear, small.grid, other.grid)
        turned = other.on(world, grid)
        score, shift = _best_shift(evened, _evened(turned), small.known, turned.known, options.min_overlap)
        if score > best:
            moved = np.eye(grid.dims + 1)
            moved[:-1, -1] = shift
            # The index of the fixed grid goes to that of the turned one, which lies in fixed space already.
            best, found = score, world @ grid.matrix @ moved @ np.linalg.inv(small.grid.matrix)
    return found


@contextmanager
def one_thread() -> Iterator[None]:
    """SimpleITK on one thread: sums in the same order on any machine, and workers that do not crowd each other."""
    import SimpleITK

    before = SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads()
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def _starts(dims: int, options: RegistrationOptions) -> Iterator[Matrix]:
    """Linear parts `(d + 1, d + 1)`: turns about each axis with scales, where the family scales, within the bounds."""
    axes = 1 if dims == 2 else 3
    turns = [np.zeros(axes)]
    turns += [
        share * options.max_rotation * axis for axis in np.eye(axes) for share in (*SHARES, *(-s for s in SHARES))
    ]
    factors = [bound**share for bound in (options.min_scale, options.max_scale) for share in SHARES]
    scales = [1.0, *factors] if options.family.scales else [1.0]
    for scale, turn in product(scales, turns):
        yield similarity(np.zeros(dims), turn.tolist(), float(scale), np.zeros(dims))


def _laid(linear: Matrix, fixed: Grid, moving: Grid) -> tuple[Matrix, Grid]:
    """A world matrix with that linear part, centres together, and a grid like the fixed one for all of the moving."""
    world = linear.copy()
    world[:-1, -1] = moving.centre - linear[:-1, :-1] @ fixed.centre
    axes = np.linalg.inv(linear[:-1, :-1] @ fixed.matrix[:-1, :-1]) @ moving.matrix[:-1, :-1]
    size = np.ceil(np.abs(axes) @ np.array(moving.size)).astype(int) + 1
    matrix = fixed.matrix.copy()
    matrix[:-1, -1] = fixed.centre - fixed.matrix[:-1, :-1] @ ((size - 1) / 2)
    return world, Grid(tuple(size.tolist()), matrix)


def _evened(work: Work) -> NDArray[np.float64]:
    """Local mean taken out and local spread made one, over known pixels."""
    from scipy.ndimage import gaussian_filter

    sigma, known = LOCAL * max(work.grid.size), work.known.astype(np.float64)
    share = np.maximum(gaussian_filter(known, sigma, mode="constant"), 1e-6)

    def local(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(gaussian_filter(values * known, sigma, mode="constant") / share)

    pixels = work.pixels.astype(np.float64)
    mean = local(pixels)
    spread = np.sqrt(np.maximum(local(pixels**2) - mean**2, 0))
    return np.asarray((pixels - mean) / (spread + LEAST_SPREAD) * known)


def _best_shift(
    fixed: NDArray[np.float64],
    moving: NDArray[np.float64],
    fixed_known: NDArray[np.bool_],
    moving_known: NDArray[np.bool_],
    overlap: float,
) -> tuple[float, NDArray[np.float64]]:
    """The shift `s` at which `fixed[i]` correlates best with `moving[i + s]`, and the correlation."""
    from scipy import fft

    shape = [fft.next_fast_len(a + b - 1, real=True) for a, b in zip(fixed.shape, moving.shape, strict=True)]
    ours, theirs = (
        [fft.rfftn(part, shape) for part in (known.astype(np.float64), values, values**2)]
        for known, values in ((fixed_known, fixed), (moving_known, moving))
    )

    def over(one: int, other: int) -> NDArray[np.float64]:
        return np.asarray(fft.irfftn(np.conj(ours[one]) * theirs[other], shape))

    count = np.maximum(np.rint(over(0, 0)), 1)
    mean, other_mean = over(1, 0) / count, over(0, 1) / count
    spread = (over(2, 0) / count - mean**2).clip(0) * (over(0, 2) / count - other_mean**2).clip(0)
    score = (over(1, 1) / count - mean * other_mean) / np.sqrt(np.maximum(spread, 1e-6))
    score[count < overlap * min(fixed_known.sum(), moving_known.sum())] = -np.inf
    where = np.unravel_index(int(score.argmax()), score.shape)
    shift = [at if at < length else at - whole for at, length, whole in zip(where, moving.shape, shape, strict=True)]
    return float(score[where]), np.array(shift, dtype=np.float64)


def _refined(transform: Any, world: Matrix, moving: Work, fixed: Work, options: RegistrationOptions) -> Matrix:
    """`world` after descent over the transform's parameters."""
    import SimpleITK

    # In steps of the search, the optimiser's steps mean the same in pixels and in mm.
    unit = float(fixed.grid.steps.min())
    _place_transform(transform, world, fixed.grid.centre, unit)
    method = SimpleITK.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMattesMutualInformation(options.bins)
    method.SetMetricSamplingStrategy(method.REGULAR if options.sampling < 1 else method.NONE)
    # SimpleITK takes seed 0 for "by the clock".
    method.SetMetricSamplingPercentage(options.sampling, options.seed + 1)
    if not fixed.known.all():
        method.SetMetricFixedMask(_itk_image(fixed.known.astype(np.uint8), fixed.grid, unit))
    if not moving.known.all():
        method.SetMetricMovingMask(_itk_image(moving.known.astype(np.uint8), moving.grid, unit))
    method.SetInterpolator(SimpleITK.sitkLinear)
    levels = _levels(options.levels, fixed.grid.size, moving.grid.size)
    method.SetShrinkFactorsPerLevel(levels)
    method.SetSmoothingSigmasPerLevel([level / 2 if level > 1 else 0.0 for level in levels])
    method.SetSmoothingSigmasAreSpecifiedInPhysicalUnits(False)
    method.SetOptimizerAsRegularStepGradientDescent(
        STEP, LAST_STEP, options.iterations, gradientMagnitudeTolerance=GRADIENT_TOLERANCE
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(_itk_image(fixed.pixels, fixed.grid, unit), _itk_image(moving.pixels, moving.grid, unit))
    return _world_of(transform, fixed.grid.centre, unit)


def _levels(wanted: tuple[int, ...], *sizes: tuple[int, ...]) -> list[int]:
    """The levels at which the images are still large enough; as they are where none is."""
    smallest = min(min(size) for size in sizes)
    return [level for level in wanted if smallest / level >= SMALLEST_LEVEL] or [1]


def _place_transform(transform: Any, world: Matrix, centre: NDArray[np.float64], unit: float) -> None:
    linear = world[:-1, :-1]
    transform.SetCenter((centre / unit).tolist())
    transform.SetMatrix(linear.ravel().tolist())
    transform.SetTranslation(((linear @ centre + world[:-1, -1] - centre) / unit).tolist())


def _world_of(transform: Any, centre: NDArray[np.float64], unit: float) -> Matrix:
    world = np.eye(len(centre) + 1)
    world[:-1, :-1] = np.reshape(transform.GetMatrix(), (len(centre), len(centre)))
    world[:-1, -1] = centre + np.array(transform.GetTranslation()) * unit - world[:-1, :-1] @ centre
    return world


def _itk_image(pixels: NDArray[Any], grid: Grid, unit: float) -> Any:
    """Axes of SimpleITK in the array's order: its arrays have theirs reversed."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(pixels.T))
    image.SetSpacing((grid.steps / unit).tolist())
    image.SetOrigin((grid.matrix[:-1, -1] / unit).tolist())
    image.SetDirection(grid.directions.ravel().tolist())
    return image
