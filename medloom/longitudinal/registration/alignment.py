"""Registration of one pair: the prior image on the current image's grid, its motion, and how well it fits."""

import re
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.image import Image
from medloom.longitudinal.registration.geometry import (
    Grid,
    Matrix,
    Motion,
    Value,
    common_space,
    index_matrix,
    motion_of,
    sample,
    sample_nearest,
)
from medloom.longitudinal.registration.search import (
    OFF,
    WORK_PIXELS,
    RegistrationOptions,
    Work,
    one_thread,
    search,
    step_for,
)

LEAST_PIXELS = 8  # along each axis: smaller images show nothing that could be matched
CLIPPED = (1.0, 99.0)  # percentiles between which the search uses intensities


@dataclass(frozen=True, eq=False)
class Registration:
    """A prior image registered to a current image.

    Attributes:
        image: the prior image on the current image's grid, float32 `(C, *spatial)` in its own unit, with the current
            image's spacing and affine; without data (`padding`) it has its lowest value.
        matrix: float64 `(d + 1, d + 1)`, from index of the current image to index of the prior one.
        motion: the same in readable form.
        moving_size: pixels of each axis of the prior image.
        score: normalised cross-correlation of the two images, -1 to 1, where both have data, at the search's size.
        score_before: the same without motion.
        overlap: fraction of the smaller image that lies in the other.
        reason: why the result is rejected, or None if it passed.
    """

    image: Image
    matrix: Matrix
    motion: Motion
    moving_size: tuple[int, ...]
    score: float
    score_before: float
    overlap: float
    reason: str | None

    @property
    def passed(self) -> bool:
        """Whether the motion is within its bounds and the images match."""
        return self.reason is None

    @property
    def inside(self) -> NDArray[np.bool_]:
        """bool `(*spatial)`, true where the prior image has data on the current image's grid."""
        return np.ones(self.image.size, dtype=bool) if self.image.padding is None else ~self.image.padding


def register(moving: Image, fixed: Image, options: RegistrationOptions | None = None) -> Registration:
    """Register a prior image to a current image of the same patient.

    Args:
        moving: the prior image.
        fixed: the current image; size, spacing and position may differ.
        options: see RegistrationOptions.

    Returns:
        The result. A rejected result states the reason and still holds what was found (no motion if the search failed).

    Raises:
        UserError: different numbers of axes, fewer than LEAST_PIXELS along an axis, a constant image, or values that
            are not finite.
    """
    options = options or RegistrationOptions()
    moving_grid, fixed_grid, unit = common_space(moving, fixed)
    step = step_for(fixed_grid, options.size, WORK_PIXELS)
    ours = _work(fixed, fixed_grid, "current").reduced(step)
    theirs = _work(moving, moving_grid, "prior").reduced(step)
    identity = np.eye(fixed_grid.dims + 1)
    world, stopped = identity, None
    if options.transform != OFF:
        try:
            with one_thread():
                world = search(theirs, ours, options)
        except RuntimeError as error:
            # SimpleITK's message has several lines; the last states the cause, with an address in memory.
            last = re.sub(r"\(0x[0-9a-f]+\)", "", str(error).strip().splitlines()[-1])
            stopped = f"the search failed: {last.strip()}"
    score, overlap = _fit(theirs, ours, world)
    motion = motion_of(world, fixed_grid, unit)
    matrix = index_matrix(world, moving_grid, fixed_grid)
    known = np.ones(moving.size, dtype=bool) if moving.padding is None else ~moving.padding
    inside = sample_nearest(known.astype(np.uint8), matrix, fixed.size, 0) > 0
    lowest = np.float32(moving.pixels[:, known].min())
    pixels = sample(np.where(known, moving.pixels, lowest), matrix, fixed.size)
    return Registration(
        image=replace(
            moving,
            pixels=np.where(inside, pixels, lowest),
            spacing=fixed.spacing,
            affine=fixed.affine,
            padding=None if inside.all() else ~inside,
            frame=None,
            stored_axes=None,
        ),
        matrix=matrix,
        motion=motion,
        moving_size=moving.size,
        score=score,
        score_before=_fit(theirs, ours, identity)[0],
        overlap=overlap,
        reason=stopped or _objection(world, motion, score, overlap, options),
    )


def apply_to_labels(registration: Registration, labels: NDArray[Value], outside: int = 0) -> NDArray[Value]:
    """Resample a label map of the prior image to the current image's grid, by nearest neighbour.

    Args:
        registration: of the image.
        labels: integers or bool `(*spatial)` on the prior image's grid.
        outside: the label where the prior image has no data.

    Returns:
        `(*spatial)` of the current image, in the labels' dtype.

    Raises:
        UserError: the sizes of labels and prior image differ.
    """
    if labels.shape != registration.moving_size:
        raise UserError(
            f"labels of {labels.shape} pixels do not fit the prior image, which has {registration.moving_size}; give"
            " labels on its grid."
        )
    sampled = sample_nearest(labels.astype(np.int64), registration.matrix, registration.image.size, outside)
    return np.where(registration.inside, sampled, outside).astype(labels.dtype)


def clipped(image: Image) -> NDArray[np.float32]:
    """The mean over channels, scaled to 0..1 between percentiles CLIPPED: float32 `(*spatial)`; padding has the mean.

    Raises:
        UserError: values that are not finite, or an almost constant image.
    """
    grey = image.pixels.mean(axis=0, dtype=np.float64)
    values = grey if image.padding is None else grey[~image.padding]
    if not np.isfinite(values).all():
        raise UserError("it holds values that are not finite (NaN or infinite); repair it or leave the pair out.")
    low, high = np.percentile(values, CLIPPED) if values.size else (0.0, 0.0)
    if not low < high:
        raise UserError(
            f"it is almost constant: percentiles {CLIPPED[0]:g} and {CLIPPED[1]:g} are both {low:g}; leave the pair"
            " out."
        )
    scaled = np.clip((grey - low) / (high - low), 0, 1)
    # Blurring carries some padding into the image; the mean disturbs it least.
    if image.padding is not None:
        scaled[image.padding] = scaled[~image.padding].mean()
    return np.asarray(scaled, np.float32)


def _work(image: Image, grid: Grid, which: str) -> Work:
    try:
        if min(image.size) < LEAST_PIXELS:
            raise UserError(
                f"it has {' x '.join(map(str, image.size))} pixels, but needs {LEAST_PIXELS} along each axis; leave the"
                " pair out."
            )
        pixels = clipped(image)
    except UserError as error:
        raise UserError(f"the {which} image of a pair cannot be registered: {error}") from error
    return Work(pixels, np.ones(image.size, dtype=bool) if image.padding is None else ~image.padding, grid)


def _fit(moving: Work, fixed: Work, world: Matrix) -> tuple[float, float]:
    """Normalised cross-correlation where both images have data, and the overlap as a fraction of the smaller image."""
    laid = moving.on(world, fixed.grid)
    both = laid.known & fixed.known
    # Pixels of the fixed image per pixel of the moving image.
    covered = 1 / abs(np.linalg.det(index_matrix(world, moving.grid, fixed.grid)[:-1, :-1]))
    overlap = min(1.0, float(both.sum() / min(fixed.known.sum(), moving.known.sum() * covered)))
    one, other = (values[both].astype(np.float64) for values in (laid.pixels, fixed.pixels))
    if not one.size:
        return 0.0, 0.0
    one, other = one - one.mean(), other - other.mean()
    # numpy's sums, because the last bits of a dot product depend on the number of threads.
    spread = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return (float((one * other).sum()) / spread if spread > 0 else 0.0), overlap


def _objection(world: Matrix, motion: Motion, score: float, overlap: float, options: RegistrationOptions) -> str | None:
    """Why a result is rejected, or None; with the transform off only images without overlap are rejected."""
    if overlap == 0:
        return "the two images have no pixel in common"
    if options.transform == OFF:
        return None
    # The factors by which the moving image grows, over all directions.
    factors = 1 / np.linalg.svd(world[:-1, :-1], compute_uv=False)
    least, most = float(factors.min()), float(factors.max())
    found = f"{motion.scale:.3g}" if options.transform != "affine" else f"{least:.3g} to {most:.3g}"
    objections = (
        (
            least < options.min_scale or most > options.max_scale,
            f"scale {found} is outside {options.min_scale:g} to {options.max_scale:g}",
        ),
        (motion.angle > options.max_rotation, f"rotation {motion.angle:.3g} degrees is above {options.max_rotation:g}"),
        (overlap < options.min_overlap, f"overlap {overlap:.2f} is below {options.min_overlap:g}"),
        (score < options.min_score, f"score {score:.2f} is below {options.min_score:g}"),
    )
    return next((reason for holds, reason in objections if holds), None)
