"""The search for the transform: the best correlation of coarse images, refined by mutual information.

Coarse search (Padfield 2012, masked normalised cross-correlation): Fourier transforms evaluate all shifts at once, for
several rotations and scales. Local mean and spread are removed first, so that exposure and large shadows do not matter.
Refinement (Mattes et al. 2003): regular-step gradient descent on mutual information, coarse to fine.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.image import FloatArray
from medloom.core.limits import check_limits, limited
from medloom.core.lookup import look_up
from medloom.longitudinal.registration.geometry import Grid, Matrix, index_matrix, sample, sample_nearest, similarity

if TYPE_CHECKING:
    import SimpleITK

# Most pixels of the coarse search along an axis and in all; a cube is 24 voxels wide.
COARSE_SIZE, COARSE_PIXELS = 64, 24**3
WORK_PIXELS = 100**3
STARTS = (1 / 3, 2 / 3)  # fractions of the largest rotation and scale from which the coarse search starts
LOCAL = 1 / 8  # neighbourhood of the local mean and spread, as a fraction of the longest axis
LEAST_SPREAD = 0.05  # of intensities from 0 to 1: less is noise
SMALLEST_LEVEL = 16  # fewest pixels of an image along an axis at a level
STEP, LAST_STEP = 1.0, 0.01  # of the optimiser, in pixels of the search
GRADIENT_TOLERANCE = 1e-6
OFF = "off"


# Families of transforms, and whether each changes sizes.
TRANSFORMS = {OFF: False, "rigid": False, "similarity": True, "affine": True}


@dataclass(frozen=True)
class RegistrationOptions:
    """How to register a prior image to a current one, and when the result is accepted.

    Attributes:
        transform: off (resampling to the grid of the current image only), rigid, similarity or affine.
        min_scale: smallest allowed factor by which the prior image grows in any direction.
        max_scale: largest allowed factor.
        max_rotation: largest allowed rotation in degrees.
        min_overlap: smallest allowed overlap, as a fraction of the smaller image.
        min_score: smallest allowed normalised cross-correlation, -1 to 1.
        size: pixels of the longest axis during the search; larger images are reduced.
        levels: factors by which the images are reduced further, coarse to fine.
        sampling: fraction of the pixels that the metric uses, in (0, 1].
        bins: of the joint histogram.
        iterations: most steps per level.
        seed: of the choice of pixels.
    """

    transform: str = "similarity"
    min_scale: float = limited(0.7, above=0, at_most=1)
    max_scale: float = limited(1.4, at_least=1)
    max_rotation: float = limited(20.0, at_least=0, at_most=180)
    min_overlap: float = limited(0.7, above=0, at_most=1)
    min_score: float = limited(0.6, at_least=-1, at_most=1)
    size: int = limited(256, at_least=16)
    levels: tuple[int, ...] = limited((4, 2), at_least=1)
    sampling: float = limited(0.5, above=0, at_most=1)
    bins: int = limited(32, at_least=8)
    iterations: int = limited(100, at_least=1)
    seed: int = limited(0, at_least=0, below=2**32 - 1)

    def __post_init__(self) -> None:
        look_up(TRANSFORMS, self.transform, "transform of registration")
        check_limits(self, form="registration option {} = {}")
        if not self.levels:
            raise UserError("registration option levels: give at least one.")


@dataclass(frozen=True, eq=False)
class Work:
    """An image prepared for the search.

    Attributes:
        pixels: float32 `(*spatial)`, 0 to 1.
        known: bool `(*spatial)`, False on padding.
        grid: the grid of the pixels.
    """

    pixels: FloatArray
    known: NDArray[np.bool_]
    grid: Grid

    def on(self, world: Matrix, grid: Grid) -> "Work":
        """The image sampled on a grid in the other image's space."""
        matrix = index_matrix(world, self.grid, grid)
        known = sample_nearest(self.known.astype(np.uint8), matrix, grid.size, 0) > 0
        return Work(sample(self.pixels[None], matrix, grid.size)[0], known, grid)

    def reduced(self, step: float) -> "Work":
        """The image on a grid with steps of at least that length."""
        return self.on(np.eye(self.grid.dims + 1), self.grid.reduced(step))


def step_for(grid: Grid, longest: int, most: int) -> float:
    """The step for which a grid has at most `longest` pixels along an axis and `most` in all."""
    extent = grid.steps * np.array(grid.size)
    return float(max(extent.max() / longest, (extent.prod() / most) ** (1 / grid.dims)))


def search(moving: Work, fixed: Work, options: RegistrationOptions) -> Matrix:
    """The world matrix that aligns the moving image with the fixed one.

    Raises:
        RuntimeError: SimpleITK cannot proceed, e.g. because the images overlap too little.
    """
    import SimpleITK

    # First the best among all shifts with several rotations and scales of coarse images.
    dims, step = fixed.grid.dims, step_for(fixed.grid, COARSE_SIZE, COARSE_PIXELS)
    small, other = fixed.reduced(step), moving.reduced(step)
    evened = _evened(small)
    best, found = -np.inf, np.eye(dims + 1)
    for linear in _starts(dims, options):
        # The world matrix with that linear part and coinciding centres, and a grid like the fixed one that covers the
        # whole moving image.
        world, matrix = linear.copy(), small.grid.matrix.copy()
        world[:-1, -1] = other.grid.centre - linear[:-1, :-1] @ small.grid.centre
        axes = np.linalg.inv(linear[:-1, :-1] @ matrix[:-1, :-1]) @ other.grid.matrix[:-1, :-1]
        size = np.ceil(np.abs(axes) @ np.array(other.grid.size)).astype(int) + 1
        matrix[:-1, -1] = small.grid.centre - matrix[:-1, :-1] @ ((size - 1) / 2)
        grid = Grid(tuple(size.tolist()), matrix)
        turned = other.on(world, grid)
        score, shift = _best_shift(evened, _evened(turned), small.known, turned.known, options.min_overlap)
        if score > best:
            moved = np.eye(dims + 1)
            moved[:-1, -1] = shift
            # From the index of the fixed grid to that of the turned one, which already lies in fixed space.
            best, found = score, world @ grid.matrix @ moved @ np.linalg.inv(small.grid.matrix)
    # Then the refinement.
    rigid = SimpleITK.Euler2DTransform() if dims == 2 else SimpleITK.VersorRigid3DTransform()
    alike = SimpleITK.Similarity2DTransform() if dims == 2 else SimpleITK.Similarity3DTransform()
    # Starting from the best similarity, the many small shears of an affine do not lead the search astray.
    steps = {"rigid": [rigid], "similarity": [alike], "affine": [alike, SimpleITK.AffineTransform(dims)]}
    for transform in steps.get(options.transform, []):
        found = _refined(transform, found, moving, fixed, options)
    return found


@contextmanager
def one_thread() -> Iterator[None]:
    """Run SimpleITK on one thread: sums in the same order on any machine, and workers that do not compete."""
    import SimpleITK

    before = SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads()
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def _starts(dims: int, options: RegistrationOptions) -> Iterator[Matrix]:
    """Linear parts `(d + 1, d + 1)`: rotations about each axis and, if the family scales, scales within the bounds."""
    axes = 1 if dims == 2 else 3
    turns = [np.zeros(axes)]
    turns += [part * options.max_rotation * axis for axis in np.eye(axes) for part in (*STARTS, *(-s for s in STARTS))]
    factors = [bound**part for bound in (options.min_scale, options.max_scale) for part in STARTS]
    scales = [1.0, *factors] if TRANSFORMS[options.transform] else [1.0]
    for scale, turn in product(scales, turns):
        yield similarity(np.zeros(dims), turn.tolist(), float(scale), np.zeros(dims))


def _evened(work: Work) -> NDArray[np.float64]:
    """Remove the local mean and normalise the local spread, over known pixels."""
    from scipy.ndimage import gaussian_filter

    sigma, known = LOCAL * max(work.grid.size), work.known.astype(np.float64)
    weight = np.maximum(gaussian_filter(known, sigma, mode="constant"), 1e-6)

    def local(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(gaussian_filter(values * known, sigma, mode="constant") / weight)

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
    """The best correlation of `fixed[i]` with `moving[i + s]`, and the shift `s`."""
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


def _refined(
    transform: "SimpleITK.Transform", world: Matrix, moving: Work, fixed: Work, options: RegistrationOptions
) -> Matrix:
    """Refine `world` by gradient descent over the transform's parameters."""
    import SimpleITK

    # Lengths are in steps of the search, so that the optimiser's steps mean the same for pixels and mm.
    unit, centre, linear = float(fixed.grid.steps.min()), fixed.grid.centre, world[:-1, :-1]
    transform.SetCenter((centre / unit).tolist())
    transform.SetMatrix(linear.ravel().tolist())
    transform.SetTranslation(((linear @ centre + world[:-1, -1] - centre) / unit).tolist())
    method = SimpleITK.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMattesMutualInformation(options.bins)
    method.SetMetricSamplingStrategy(method.REGULAR if options.sampling < 1 else method.NONE)
    # For SimpleITK, seed 0 means the clock.
    method.SetMetricSamplingPercentage(options.sampling, options.seed + 1)
    if not fixed.known.all():
        method.SetMetricFixedMask(_itk_image(fixed.known.astype(np.uint8), fixed.grid, unit))
    if not moving.known.all():
        method.SetMetricMovingMask(_itk_image(moving.known.astype(np.uint8), moving.grid, unit))
    method.SetInterpolator(SimpleITK.sitkLinear)
    # Only levels at which the images are still large enough.
    smallest = min(*fixed.grid.size, *moving.grid.size)
    levels = [level for level in options.levels if smallest / level >= SMALLEST_LEVEL] or [1]
    method.SetShrinkFactorsPerLevel(levels)
    method.SetSmoothingSigmasPerLevel([level / 2 if level > 1 else 0.0 for level in levels])
    method.SetSmoothingSigmasAreSpecifiedInPhysicalUnits(False)
    method.SetOptimizerAsRegularStepGradientDescent(
        STEP, LAST_STEP, options.iterations, gradientMagnitudeTolerance=GRADIENT_TOLERANCE
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(_itk_image(fixed.pixels, fixed.grid, unit), _itk_image(moving.pixels, moving.grid, unit))
    refined = np.eye(len(centre) + 1)
    refined[:-1, :-1] = np.reshape(transform.GetMatrix(), (len(centre), len(centre)))
    refined[:-1, -1] = centre + np.array(transform.GetTranslation()) * unit - refined[:-1, :-1] @ centre
    return refined


def _itk_image(pixels: NDArray[np.generic], grid: Grid, unit: float) -> "SimpleITK.Image":
    """A SimpleITK image with its axes in the array's order; SimpleITK reverses the axes of arrays."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(pixels.T))
    image.SetSpacing((grid.steps / unit).tolist())
    image.SetOrigin((grid.matrix[:-1, -1] / unit).tolist())
    image.SetDirection(grid.directions.ravel().tolist())
    return image
