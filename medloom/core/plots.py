"""How images become pictures: the shown slice of a volume, levels, and where the patient's right and left are."""

import numpy as np
from numpy.typing import NDArray

from medloom.core.image import Header, Image

# The axis of a volume in RAS order that a plane lies across.
PLANES = {"axial": 2, "coronal": 1, "sagittal": 0}
# What stands at the left and at the right edge of a picture in the radiological convention.
RADIOLOGICAL = ("R", "L")
OPPOSITE = {"R": "L", "L": "R", "A": "P", "P": "A", "H": "F", "F": "H"}


def flat(image: NDArray[np.float32], level: int | None = None) -> NDArray[np.float32]:
    """A 2-D image `(C, H, W)` itself, or an axial slice `(C, H, W)` of a volume in RAS order.

    Args:
        image: `(C, *spatial)`.
        level: index of the slice from the feet; None for the middle one.
    """
    return image if image.ndim < 4 else planar(image, PLANES["axial"], level)


def planar(image: NDArray[np.float32], axis: int, level: int | None = None) -> NDArray[np.float32]:
    """A slice `(C, H, W)` across an axis of a volume `(C, X, Y, Z)`.

    In RAS order it has the radiological convention: the patient's right on the left; anterior up, from the side on the
    left; and the head up.

    Args:
        image: the volume.
        axis: 0, 1 or 2; see PLANES.
        level: index along the axis; None for the middle one.
    """
    cut: NDArray[np.float32] = np.take(image, image.shape[axis + 1] // 2 if level is None else level, axis=axis + 1)
    return cut[:, ::-1, ::-1].transpose(0, 2, 1)


def planes_of(oriented: bool) -> dict[str, int]:
    """The planes of a volume, each with the axis that it lies across; numbered where its orientation is not known."""
    return dict(PLANES) if oriented else {f"across axis {axis + 1}": axis for axis in sorted(PLANES.values())}


def levels_of(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A flat image `(C, H, W)` in [-1, 1] as uint8 `(H, W, 3)`."""
    levels = np.clip(np.rint((image + 1) * 127.5), 0, 255).astype(np.uint8)
    return np.moveaxis(np.repeat(levels, 3, axis=0) if len(levels) == 1 else levels, 0, -1)


def sides_of(image: Image | Header) -> tuple[str, str] | None:
    """The patient's sides at the left and the right edge of the picture that `flat` gives of an image.

    Args:
        image: the image, or the header of its file.

    Returns:
        ("R", "L") or ("L", "R"); None where the file does not state it, or from the side.
    """
    if len(image.size) == 3:
        # A slice in a volume's file has the file's axes, which may have been made up to write it.
        return RADIOLOGICAL if image.affine is not None and min(image.size) > 1 else None
    left, right, _, _ = edges_of(image)
    return (left, right) if left in RADIOLOGICAL and right in RADIOLOGICAL else None


def edges_of(image: Image | Header) -> tuple[str | None, str | None, str | None, str | None]:
    """What of the patient lies at the left, right, upper and lower edge of a 2-D image, as one letter each.

    R, L, A, P, H and F: right, left, anterior, posterior, head and feet; None where the file does not state it.

    Args:
        image: two-dimensional.
    """
    ends: list[str | None] = [None, None]
    if image.affine is not None:
        ends = [_towards(image.affine[:3, 1]), _towards(image.affine[:3, 0])]
    elif image.directions is not None and len(image.directions) > 1:
        ends = [direction[:1] if direction[:1] in OPPOSITE else None for direction in image.directions[:2]]
    (right, below), (left, above) = ends, [None if end is None else OPPOSITE[end] for end in ends]
    return left, right, above, below


def _towards(along: NDArray[np.float64]) -> str:
    """The letter that a direction in RAS leads to."""
    axis = int(np.abs(along).argmax())
    return ("RL", "AP", "HF")[axis][0 if along[axis] > 0 else 1]
