"""Registered pairs as a picture for people: before, after, later, checkerboard and difference."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.files import atomic_file
from medloom.core.image import FloatArray, Image
from medloom.core.plots import flat
from medloom.longitudinal.registration.alignment import Registration, clipped
from medloom.longitudinal.registration.geometry import common_space, index_matrix, sample

TITLES = ("earlier, as it was", "earlier, registered", "later", "registered and later in turn", "later less registered")
TILES = 8  # of the checkerboard along the longer axis
ROW_INCHES, DOTS = 1.9, 100


def registration_sheet(
    path: Path, triples: Sequence[tuple[Image, Image, Registration]], titles: Sequence[str] | None = None
) -> None:
    """Write a picture with a row a pair; volumes by their middle axial slice.

    Args:
        path: of the picture, a `.png`.
        triples: earlier image, later image and registration.
        titles: a line a pair, beside what is known of the registration.

    Raises:
        UserError: no pair, or not a title a pair.
    """
    from matplotlib.figure import Figure

    if not triples or (titles is not None and len(titles) != len(triples)):
        raise UserError(
            f"a sheet of {len(triples)} pairs with {len(titles or ())} titles; give one or more and as many."
        )
    canvas = Figure(figsize=(ROW_INCHES * len(TITLES), ROW_INCHES * len(triples) + 0.3), dpi=DOTS, layout="constrained")
    axes = canvas.subplots(len(triples), len(TITLES), squeeze=False)
    for row, (moving, fixed, registration) in enumerate(triples):
        _row(axes[row], panels(moving, fixed, registration))
        _label(axes[row][0], titles[row] if titles else "", registration)
    for axis, title in zip(axes[0], TITLES, strict=True):
        axis.set_title(title, fontsize=7)
    with atomic_file(path) as temporary:
        canvas.savefig(temporary, format="png")


def panels(moving: Image, fixed: Image, registration: Registration) -> list[FloatArray]:
    """The pictures of TITLES, each `(H, W)`: the first four 0 to 1, the difference -1 to 1.

    Each image between its own percentiles, so that exposure does not hide the anatomy; 0 where the earlier one has no
    data.
    """
    moving_grid, fixed_grid, _ = common_space(moving, fixed)
    unmoved = index_matrix(np.eye(fixed_grid.dims + 1), moving_grid, fixed_grid)
    earlier, later, both = clipped(moving)[None], clipped(fixed), registration.inside
    before, after = (sample(earlier, matrix, fixed.size)[0] for matrix in (unmoved, registration.matrix))
    after = np.where(both, after, 0)
    mixed = np.where(_checkerboard(later.shape), after, later)
    difference = np.where(both, later - after, 0)
    return [_shown(part.astype(np.float32)) for part in (before, after, later, mixed, difference)]


def _checkerboard(size: tuple[int, ...]) -> NDArray[np.bool_]:
    side = max(1, -(-max(size) // TILES))
    numbers = sum(np.ix_(*(np.arange(length) // side for length in size)))
    return np.asarray(numbers) % 2 == 0


def _shown(array: FloatArray) -> FloatArray:
    return flat(array[None])[0]


def _row(axes: Sequence[Any], pictures: Sequence[FloatArray]) -> None:
    for number, (axis, picture) in enumerate(zip(axes, pictures, strict=True)):
        last = number == len(pictures) - 1
        axis.imshow(picture, cmap="RdBu_r" if last else "gray", vmin=-1 if last else 0, vmax=1)
        axis.set_xticks([])
        axis.set_yticks([])


def _label(axis: Any, title: str, registration: Registration) -> None:
    motion = registration.motion
    moved = ", ".join(f"{part:.0f}" for part in motion.translation)
    lines = [
        title,
        f"{moved} {motion.unit}, {motion.angle:.1f}°, x{motion.scale:.2f}",
        f"{registration.score_before:.2f} to {registration.score:.2f}",
        registration.reason or "",
    ]
    axis.set_ylabel("\n".join(line for line in lines if line), fontsize=5)
