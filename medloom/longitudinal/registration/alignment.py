"""One pair: the earlier image on the later one's grid, with what was done to it and how well it fits."""

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.image import Image
from medloom.longitudinal.registration.geometry import (
    Grid,
    Matrix,
    Motion,
    common_space,
    index_matrix,
    motion_of,
    sample,
    sample_nearest,
    stretches,
)
from medloom.longitudinal.registration.options import OFF, RegistrationOptions
from medloom.longitudinal.registration.search import WORK_PIXELS, Work, one_thread, search, step_for

LEAST_PIXELS = 8  # along each axis: less shows nothing that could be matched
CLIPPED = (1.0, 99.0)  # percentiles of the intensities that the search looks at


@dataclass(frozen=True, eq=False)
class Registration:
    """The earlier image brought onto the later one.

    Attributes:
        image: the earlier image on the later one's grid, pixels float32 `(C, *spatial)` in its own unit, with the
            later one's spacing and affine; where it has no data (`padding`), its lowest value.
        matrix: float64 `(d + 1, d + 1)`, index of the later image to index of the earlier one.
        motion: the same in readable form.
        moving_size: pixels of each axis of the earlier image.
        score: normalised cross-correlation of the two, -1 to 1, where both have data, at the size of the search.
        score_before: the same with no motion.
        overlap: share of the smaller image that lies in the other.
        reason: why the result is not to be trusted, or None where it passed.
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
        """Whether the motion is within its bounds and the images fit."""
        return self.reason is None

    @property
    def inside(self) -> NDArray[np.bool_]:
        """bool `(*spatial)`: where the earlier image has data on the later one's grid."""
        return np.ones(self.image.size, dtype=bool) if self.image.padding is None else ~self.image.padding


def register(moving: Image, fixed: Image, options: RegistrationOptions | None = None) -> Registration:
    """Bring an earlier image onto a later one of the same patient.

    Args:
        moving: the earlier image.
        fixed: the later image; any other size, spacing or position.
        options: see there.

    Returns:
        The result; one that did not pass says why, and holds what was found all the same (no motion at all where the
        search could not go on).

    Raises:
        UserError: images of different numbers of axes, fewer than LEAST_PIXELS along one, an image of one value, or
            values that are not finite.
    """
    options = options or RegistrationOptions()
    moving_grid, fixed_grid, unit = common_space(moving, fixed)
    step = step_for(fixed_grid, options.size, WORK_PIXELS)
    ours = _work(fixed, fixed_grid, "later").reduced(step)
    theirs = _work(moving, moving_grid, "earlier").reduced(step)
    identity = np.eye(fixed_grid.dims + 1)
    world, stopped = identity, None
    if options.transform != OFF:
        try:
            with one_thread():
                world = search(theirs, ours, options)
        except RuntimeError as error:
            stopped = _said(error)
    score, overlap = _fit(theirs, ours, world)
    motion = motion_of(world, fixed_grid, unit)
    matrix = index_matrix(world, moving_grid, fixed_grid)
    return Registration(
        image=_resampled(moving, fixed, matrix),
        matrix=matrix,
        motion=motion,
        moving_size=moving.size,
        score=score,
        score_before=_fit(theirs, ours, identity)[0],
        overlap=overlap,
        reason=stopped or _objection(world, motion, score, overlap, options),
    )


def apply_to_labels(registration: Registration, labels: NDArray[Any], outside: int = 0) -> NDArray[Any]:
    """A label map of the earlier image on the later one's grid, by nearest neighbour.

    Args:
        registration: of the image.
        labels: whole numbers or bool `(*spatial)` on the earlier image's grid.
        outside: the label where the earlier image has no data.

    Returns:
        `(*spatial)` of the later image, in the labels' dtype.

    Raises:
        UserError: labels of another size than the earlier image.
    """
    if labels.shape != registration.moving_size:
        raise UserError(
            f"labels of {labels.shape} pixels do not lie on the earlier image, which has {registration.moving_size};"
            " give labels of its grid."
        )
    values = labels.astype(np.int64)
    sampled = sample_nearest(values, registration.matrix, registration.image.size, outside)
    return np.where(registration.inside, sampled, outside).astype(labels.dtype)


def clipped(image: Image) -> NDArray[np.float32]:
    """Channels averaged, float32 `(*spatial)` from 0 to 1 between percentiles CLIPPED; padding takes the mean.

    Raises:
        UserError: values that are not finite, or all but one value.
    """
    grey = image.pixels.mean(axis=0, dtype=np.float64)
    values = grey if image.padding is None else grey[~image.padding]
    if not np.isfinite(values).all():
        raise UserError("it holds values that are not finite (NaN or infinite); repair it or leave the pair out.")
    low, high = np.percentile(values, CLIPPED) if values.size else (0.0, 0.0)
    if not low < high:
        raise UserError(
            f"it is all but constant: percentiles {CLIPPED[0]:g} and {CLIPPED[1]:g} are both {low:g}; leave the pair"
            " out."
        )
    shown = np.clip((grey - low) / (high - low), 0, 1)
    # Blurring takes a little of what lies beside it to the edge of the padding, and the mean says least there.
    if image.padding is not None:
        shown[image.padding] = shown[~image.padding].mean()
    return shown.astype(np.float32)


def _said(error: RuntimeError) -> str:
    """SimpleITK's words run over several lines; the last says what happened, and to which address in memory."""
    last = str(error).strip().splitlines()[-1]
    return "the search could not go on: " + re.sub(r"\(0x[0-9a-f]+\)", "", last).strip()


def _work(image: Image, grid: Grid, which: str) -> Work:
    try:
        if min(image.size) < LEAST_PIXELS:
            size = " x ".join(map(str, image.size))
            raise UserError(f"it has {size} pixels, and {LEAST_PIXELS} along each axis are needed; leave the pair out.")
        pixels = clipped(image)
    except UserError as error:
        raise UserError(f"the {which} image of a pair cannot be registered: {error}") from error
    known = np.ones(image.size, dtype=bool) if image.padding is None else ~image.padding
    return Work(pixels, known, grid)


def _fit(moving: Work, fixed: Work, world: Matrix) -> tuple[float, float]:
    """Normalised cross-correlation where both have data, and the share of the smaller image that this is."""
    laid = moving.on(world, fixed.grid)
    both = laid.known & fixed.known
    # A pixel of the moving image covers so many of the fixed one.
    covered = 1 / abs(np.linalg.det(index_matrix(world, moving.grid, fixed.grid)[:-1, :-1]))
    moved = moving.known.sum() * covered
    overlap = min(1.0, float(both.sum() / min(fixed.known.sum(), moved)))
    one, other = (values[both].astype(np.float64) for values in (laid.pixels, fixed.pixels))
    if not one.size:
        return 0.0, 0.0
    one, other = one - one.mean(), other - other.mean()
    # Sums by numpy: bits of a scalar product depend on the number of threads.
    spread = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return (float((one * other).sum()) / spread if spread > 0 else 0.0), overlap


def _objection(world: Matrix, motion: Motion, score: float, overlap: float, options: RegistrationOptions) -> str | None:
    """Why a result is not to be trusted, or None; with transform off only images that do not meet are objected to."""
    if overlap == 0:
        return "the two images have no pixel in common"
    if options.transform == OFF:
        return None
    least, most = stretches(world)
    if least < options.min_scale or most > options.max_scale:
        found = f"{motion.scale:.3g}" if options.transform != "affine" else f"{least:.3g} to {most:.3g}"
        return f"scale {found} is outside {options.min_scale:g} to {options.max_scale:g}"
    if motion.angle > options.max_rotation:
        return f"rotation {motion.angle:.3g} degrees is above {options.max_rotation:g}"
    if overlap < options.min_overlap:
        return f"overlap {overlap:.2f} is below {options.min_overlap:g}"
    if score < options.min_score:
        return f"score {score:.2f} is below {options.min_score:g}"
    return None


def _resampled(moving: Image, fixed: Image, matrix: Matrix) -> Image:
    known = np.ones(moving.size, dtype=bool) if moving.padding is None else ~moving.padding
    inside = sample_nearest(known.astype(np.uint8), matrix, fixed.size, 0) > 0
    lowest = np.float32(moving.pixels[:, known].min())
    pixels = sample(np.where(known, moving.pixels, lowest), matrix, fixed.size)
    return replace(
        moving,
        pixels=np.where(inside, pixels, lowest),
        spacing=fixed.spacing,
        affine=fixed.affine,
        padding=None if inside.all() else ~inside,
        frame=None,
        stored_axes=None,
    )
