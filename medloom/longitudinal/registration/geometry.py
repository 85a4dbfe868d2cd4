"""Grids in a common space, motions between them, and sampling one image on the grid of another.

The unit of the common space is mm if both images state the size of their pixels, else pixels of the current image. A
world matrix maps points of the current (fixed) image to points of the prior (moving) one, as resampling requires.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.image import FloatArray, Image

Matrix = NDArray[np.float64]
Vector = Sequence[float] | NDArray[np.float64]
Value = TypeVar("Value", bound=np.generic)

# Images without spacing whose shorter sides differ by more than this factor are assumed to differ in resolution.
RESOLUTION = 1.25


@dataclass(frozen=True, eq=False)
class Grid:
    """The pixels of an image in the common space.

    Attributes:
        size: pixels of each axis.
        matrix: `(d + 1, d + 1)`, index to point.
    """

    size: tuple[int, ...]
    matrix: Matrix

    @property
    def dims(self) -> int:
        """2 or 3."""
        return len(self.size)

    @property
    def steps(self) -> NDArray[np.float64]:
        """Length of a step along each axis."""
        return np.asarray(np.linalg.norm(self.matrix[:-1, :-1], axis=0))

    @property
    def directions(self) -> Matrix:
        """`(d, d)`, one column per axis with its unit vector."""
        return self.matrix[:-1, :-1] / self.steps

    @property
    def centre(self) -> NDArray[np.float64]:
        """The point in the middle."""
        return self.matrix[:-1, :-1] @ ((np.array(self.size) - 1) / 2) + self.matrix[:-1, -1]

    def reduced(self, step: float) -> "Grid":
        """A grid of the same extent with steps of at least that length."""
        factors = np.maximum(step / self.steps, 1.0)
        size = np.maximum(1, np.rint(np.array(self.size) / factors)).astype(int)
        change = np.diag([*factors, 1.0])
        change[:-1, -1] = (np.array(self.size) - 1) / 2 - factors * (size - 1) / 2
        return Grid(tuple(size.tolist()), self.matrix @ change)


@dataclass(frozen=True)
class Motion:
    """How the prior image was moved.

    Attributes:
        translation: of the point at the current image's centre, along rows and columns in 2-D and along the patient's
            axes R, A, S in 3-D, in `unit`.
        rotation: degrees; in 2-D one angle, positive counter-clockwise as displayed; in 3-D the rotation vector (axis
            times angle).
        scale: factor by which lengths grew, the geometric mean over directions.
        unit: mm, or px (pixels of the current image).
    """

    translation: tuple[float, ...]
    rotation: tuple[float, ...]
    scale: float
    unit: str

    @property
    def angle(self) -> float:
        """The total rotation in degrees, unsigned."""
        return float(np.linalg.norm(self.rotation))


def common_space(moving: Image, fixed: Image) -> tuple[Grid, Grid, str]:
    """The two images' grids in one space, moving first, and its unit.

    Volumes that both have an affine keep their position in RAS mm. The centres of all other images coincide. Their
    spacing is used if both state it; otherwise their pixels are taken to be equally long, or, if their shorter sides
    differ by more than RESOLUTION, their shorter sides.

    Raises:
        UserError: different numbers of axes.
    """
    dims = len(fixed.size)
    if len(moving.size) != dims:
        raise UserError(
            f"an image of {len(moving.size)} axes cannot be registered to one of {dims}; give two images of equal axes."
        )
    if dims == 3 and moving.affine is not None and fixed.affine is not None:
        return Grid(moving.size, moving.affine), Grid(fixed.size, fixed.affine), "mm"
    if moving.spacing is not None and fixed.spacing is not None:
        return _centred(moving.size, moving.spacing), _centred(fixed.size, fixed.spacing), "mm"
    ratio = min(fixed.size) / min(moving.size)
    length = ratio if max(ratio, 1 / ratio) > RESOLUTION else 1.0
    return _centred(moving.size, (length,) * dims), _centred(fixed.size, (1.0,) * dims), "px"


def similarity(translation: Vector, rotation: Vector, scale: float, centre: Vector) -> Matrix:
    """`(d + 1, d + 1)`: rotation and scaling about a centre, then translation.

    Args:
        translation: `(d,)`.
        rotation: degrees, as in `Motion`.
        scale: factor.
        centre: `(d,)`.
    """
    from scipy.spatial.transform import Rotation

    middle = np.asarray(centre, dtype=np.float64)
    if len(rotation) == 3:
        turn = np.asarray(Rotation.from_rotvec(rotation, degrees=True).as_matrix())
    else:
        cosine, sine = np.cos(np.deg2rad(rotation[0])), np.sin(np.deg2rad(rotation[0]))
        turn = np.array([[cosine, -sine], [sine, cosine]])
    matrix = np.eye(len(middle) + 1)
    matrix[:-1, :-1] = scale * turn
    matrix[:-1, -1] = middle + translation - matrix[:-1, :-1] @ middle
    return matrix


def motion_of(world: Matrix, fixed: Grid, unit: str) -> Motion:
    """The motion of the moving image for a world matrix."""
    from scipy.spatial.transform import Rotation

    back = np.linalg.inv(world)
    linear, centre = back[:-1, :-1], fixed.centre
    left, values, right = np.linalg.svd(linear)
    moved = linear @ centre + back[:-1, -1] - centre
    turn, scale = left @ right, float(np.exp(np.log(values).mean()))
    if len(turn) == 3:
        angles = tuple(Rotation.from_matrix(turn).as_rotvec(degrees=True).tolist())
    else:
        angles = (float(np.rad2deg(np.arctan2(turn[1, 0], turn[0, 0]))),)
    return Motion(tuple(moved.tolist()), angles, scale, unit)


def index_matrix(world: Matrix, moving: Grid, fixed: Grid) -> Matrix:
    """`(d + 1, d + 1)`, from index of the fixed image to index of the moving one."""
    return np.asarray(np.linalg.inv(moving.matrix) @ world @ fixed.matrix, dtype=np.float64)


def sample(pixels: FloatArray, matrix: Matrix, size: Sequence[int]) -> FloatArray:
    """Sample `(C, *spatial)` at index `matrix @ i` for each index `i` of a grid; edge values extend beyond the edge.

    Detail that is finer than the grid is blurred first.
    """
    from scipy.ndimage import affine_transform, gaussian_filter

    step = np.abs(np.diag(matrix)[:-1]).clip(np.linalg.norm(matrix[:-1, :-1], axis=1))
    sigma = np.maximum(step - 1, 0) / 2
    smooth = gaussian_filter(pixels, (0.0, *sigma), mode="nearest") if sigma.max() > 0.05 else pixels
    linear, shift = matrix[:-1, :-1], matrix[:-1, -1]
    planes = [affine_transform(plane, linear, shift, tuple(size), order=1, mode="nearest") for plane in smooth]
    return np.stack(planes).astype(np.float32, copy=False)


def sample_nearest(values: NDArray[Value], matrix: Matrix, size: Sequence[int], outside: int) -> NDArray[Value]:
    """Sample `(*spatial)` at the nearest pixel; `outside` beyond the image's outer pixel edges."""
    from scipy.ndimage import affine_transform

    # A frame of one pixel: positions up to half a pixel beyond the last centre are inside the image.
    framed = np.pad(values, 1, constant_values=outside)
    shift = matrix[:-1, -1] + 1
    return np.asarray(
        affine_transform(framed, matrix[:-1, :-1], shift, tuple(size), order=0, mode="constant", cval=outside)
    )


def _centred(size: tuple[int, ...], steps: Sequence[float]) -> Grid:
    matrix = np.diag([*steps, 1.0])
    matrix[:-1, -1] = -np.asarray(steps) * (np.array(size) - 1) / 2
    return Grid(size, matrix)
