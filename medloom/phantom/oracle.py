"""Measurements on any image with the cohort's geometry, true or generated, without a trained model.

They need the image in HU and the condition mask (`cohort_spec.condition_mask`), which locates the thoracic cavity. For
a volume, widths and areas are the largest over its axial slices, and the depth of fluid is the median.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medloom.phantom.anatomy import SLICE_LEVEL
from medloom.phantom.cohort_spec import CONDITION_LABELS
from medloom.phantom.shapes import volume_points

LUNG_BELOW = -500.0  # HU
LOW_QUANTILE = 0.15
SMOOTHING = 0.7  # voxels
SOFT_ABOVE, SOFT_BELOW = -250.0, 250.0
FLUID_ABOVE = -150.0
# Where to search for lesions and fluid, in half-widths of the cavity, clear of mediastinum and ribs.
FIELD = (0.36, 0.85)
FLUID_FIELD = (0.3, 0.6)
FLUID_FROM = 0.07  # fraction of the cavity's depth
LESION_FROM = 0.004  # fraction of the cavity's area
ABOUT = 12.0  # mm
CORE_HALF = 1  # voxels of soft tissue around each voxel of anything but a vessel
FRONT_OF_LESIONS = 0.15
FRONT = 0.03  # fraction of the cavity's depth behind its middle; the heart's width is measured in front of it

BONE = CONDITION_LABELS["bone"]
Image = NDArray[np.floating]
Mask = NDArray[np.bool_]
SIDES = ("left", "right")


@dataclass(frozen=True)
class Measurement:
    """The measurements of an image.

    Attributes:
        lung_density: mean HU of aerated lung.
        low_density: the 15th percentile of HU in smoothed aerated lung: emphysema (Parr et al. 2006, percentile
            density). The fraction below -950 HU would count noise, which a generator need not reproduce.
        heart_ratio: width of the heart relative to the width of the cavity.
        fluid: for each side, depth of the fluid at the back relative to the depth of the cavity.
        chest_width: width of the body relative to the image's, from the image only.
        bone_density: mean HU of bone.
        lesion: for each side, area of solid tissue in the lung, without fluid, relative to the cavity's area.
    """

    lung_density: float
    low_density: float
    heart_ratio: float
    chest_width: float
    bone_density: float
    fluid: dict[str, float]
    lesion: dict[str, float]

    @property
    def effusion_side(self) -> str:
        """The side with fluid, or none."""
        return _side(self.fluid, FLUID_FROM)

    @property
    def lesion_side(self) -> str:
        """The side with a solid lesion, or none."""
        return _side(self.lesion, LESION_FROM)


def measure(hu: Image, mask: NDArray[np.integer]) -> Measurement:
    """Measure an image.

    Args:
        hu: `(rows, columns)` of an axial slice as displayed, or `(R, A, S)` of a volume.
        mask: condition mask of the same shape.

    Raises:
        ValueError: different shapes, or a mask without a thoracic cavity.
    """
    cavity = mask == CONDITION_LABELS["thoracic cavity"]
    if hu.shape != mask.shape or not cavity.any():
        raise ValueError(f"image of {hu.shape} and mask of {mask.shape}, cavity of {int(cavity.sum())} voxels")
    aerated = cavity & (hu < LUNG_BELOW)
    lung, smooth = hu[aerated], ndimage.gaussian_filter(hu.astype(np.float64), SMOOTHING)[aerated]
    slices = list(_slices(hu, cavity))
    return Measurement(
        lung_density=float(lung.mean()) if lung.size else float("nan"),
        low_density=float(np.quantile(smooth, LOW_QUANTILE)) if lung.size else float("nan"),
        heart_ratio=max(_heart(*pair) for pair in slices),
        chest_width=_chest(hu),
        bone_density=float(hu[mask == BONE].mean()) if BONE in mask else float("nan"),
        fluid={side: float(np.median([_fluid(*pair, side) for pair in slices])) for side in SIDES},
        lesion={side: max(_lesion(*pair, side) for pair in slices) for side in SIDES},
    )


def _slices(hu: Image, cavity: Mask) -> Iterator[tuple[Image, Mask]]:
    """Axial slices as displayed; for a volume those near the level of a 2-D cohort, clear of the diaphragm."""
    if hu.ndim == 2:
        yield hu, cavity
        return
    heights = volume_points(hu.shape[2]).z.ravel()
    for level in np.flatnonzero(np.abs(heights - SLICE_LEVEL) <= ABOUT):
        yield hu[::-1, ::-1, level].T, cavity[::-1, ::-1, level].T


def _chest(hu: Image) -> float:
    """Fraction of the columns of an axial slice, or of a volume seen from the front, that contain the body."""
    labels, count = ndimage.label(hu > LUNG_BELOW)
    if not count:
        return 0.0
    largest = 1 + int(np.argmax(ndimage.sum_labels(labels > 0, labels, range(1, count + 1))))
    across = 1 if hu.ndim == 2 else 0
    body = (labels == largest).any(axis=tuple(axis for axis in range(hu.ndim) if axis != across))
    return float(body.sum()) / len(body)


def _box(cavity: Mask) -> tuple[int, int, int, int]:
    """First and last row and column of the cavity."""
    rows, columns = np.flatnonzero(cavity.any(axis=1)), np.flatnonzero(cavity.any(axis=0))
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def _heart(hu: Image, cavity: Mask) -> float:
    """Width of the soft tissue at the midline in the front of the cavity, relative to the width of the cavity."""
    top, bottom, first, last = _box(cavity)
    front = np.zeros_like(cavity)
    front[: round((top + bottom) / 2 + FRONT * (bottom - top)) + 1] = True
    labels, count = ndimage.label(_solid(cavity & front & (hu > SOFT_ABOVE)))
    middle = (first + last) // 2
    own = [label for label in range(1, count + 1) if (labels[:, middle - 1 : middle + 3] == label).any()]
    columns = np.flatnonzero(np.isin(labels, own).any(axis=0))
    return float(np.ptp(columns) + 1) / (last - first + 1) if len(columns) else 0.0


def _solid(soft: Mask) -> Mask:
    """Soft tissue without threads as thin as vessels."""
    return np.asarray(ndimage.binary_opening(soft, iterations=CORE_HALF))


def _field(cavity: Mask, side: str, within: tuple[float, float] = FIELD) -> Mask:
    """The columns of one lung, clear of mediastinum and chest wall; the patient's left is on the right."""
    _, _, first, last = _box(cavity)
    middle, half = (first + last) / 2, (last - first + 1) / 2
    across = (np.arange(cavity.shape[1]) - middle) / half * (1 if side == "left" else -1)
    return np.asarray(cavity & (within[0] <= across) & (across <= within[1]))


def _fluid(hu: Image, cavity: Mask, side: str) -> float:
    """Depth of the soft tissue that reaches the back of the cavity without a gap: a high quantile over columns."""
    top, bottom, _, _ = _box(cavity)
    field = _field(cavity, side, FLUID_FIELD)
    # Voxels with nothing but soft tissue behind them; the last voxel of a column is partly wall and is ignored.
    behind = np.cumsum((field & (hu < FLUID_ABOVE))[::-1], axis=0)[::-1]
    wall = field & (np.cumsum(field[::-1], axis=0)[::-1] == 1)
    depths = (field & ~wall & (behind == 0)).sum(axis=0)[field.any(axis=0)]
    return float(np.quantile(depths, 0.75)) / (bottom - top + 1) if len(depths) else 0.0


def _lesion(hu: Image, cavity: Mask, side: str) -> float:
    """Area of solid tissue in the lung that is not connected to the heart in front; 0 if fluid would hide it."""
    top, bottom, first, last = _box(cavity)
    if _fluid(hu, cavity, side) >= FLUID_FROM:
        return 0.0
    soft = _solid(ndimage.binary_erosion(cavity) & (hu > SOFT_ABOVE) & (hu < SOFT_BELOW))
    front = np.arange(len(hu))[:, None] <= (top + bottom) / 2 + FRONT_OF_LESIONS * (bottom - top)
    labels, _ = ndimage.label(soft & front)
    middle = (first + last) // 2
    heart = np.isin(labels, np.unique(labels[:, middle - 1 : middle + 3])) & (labels > 0)
    return float((_field(cavity, side) & soft & ~heart).sum()) / float(cavity.sum())


def _side(sizes: dict[str, float], least: float) -> str:
    side = max(SIDES, key=lambda name: sizes[name])
    return side if sizes[side] >= least else "none"
