"""Measurements on any image with the cohort's geometry, true or generated, with no trained model.

All need the image in HU and the condition mask (`cohort.condition_mask`), which says where the thoracic cavity is. Of a
volume, widths and areas are the largest of its axial slices, and the depth of fluid is the median.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medloom.phantom.anatomy import SLICE_LEVEL
from medloom.phantom.cohort_spec import CONDITION_LABELS
from medloom.phantom.grids import volume_points

LUNG_BELOW = -500.0  # HU
LOW_SHARE = 0.15
SMOOTHING = 0.7  # voxels
SOFT_ABOVE, SOFT_BELOW = -250.0, 250.0
FLUID_ABOVE = -150.0
# Of the half-width of the cavity: where fluid and lesions are looked for, clear of mediastinum and ribs.
FIELD = (0.36, 0.85)
FLUID_FIELD = (0.3, 0.6)
FLUID_FROM = 0.07  # share of the cavity's depth
LESION_FROM = 0.004  # share of the cavity's area
ABOUT = 12.0  # mm
CORE_HALF = 1  # voxels of a soft thing around one that is not a vessel
FRONT_OF_LESIONS = 0.15
FRONT = 0.03  # of the cavity's depth behind its middle: the heart's width is measured before it

BONE = CONDITION_LABELS["bone"]
Image = NDArray[np.floating]
Mask = NDArray[np.bool_]
SIDES = ("left", "right")


@dataclass(frozen=True)
class Measurement:
    """What an image shows.

    Attributes:
        lung_density: mean HU of aerated lung.
        low_density: HU that 15 % of aerated lung is below, noise smoothed: emphysema (Parr et al. 2006, percentile
            density). The share below -950 HU would count noise, which a generator need not repeat.
        heart_ratio: width of the heart as a share of the width of the cavity.
        fluid: for each side, depth of the fluid at the back as a share of the depth of the cavity.
        chest_width: width of the body as a share of the image's, told by the image alone.
        bone_density: mean HU of bone.
        lesion: for each side, area of solid tissue in the lung, fluid left out, as a share of the cavity's area.
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
    """Measure.

    Args:
        hu: `(rows, columns)` as an axial slice is shown, or `(R, A, S)` of a volume.
        mask: condition mask of the same shape.

    Raises:
        ValueError: shapes that differ, or a mask without a thoracic cavity.
    """
    cavity = mask == CONDITION_LABELS["thoracic cavity"]
    if hu.shape != mask.shape or not cavity.any():
        raise ValueError(f"image of {hu.shape} and mask of {mask.shape}, cavity of {int(cavity.sum())} voxels")
    aerated = cavity & (hu < LUNG_BELOW)
    lung, smooth = hu[aerated], ndimage.gaussian_filter(hu.astype(np.float64), SMOOTHING)[aerated]
    slices = list(_slices(hu, cavity))
    fluid = {side: float(np.median([_fluid(*pair, side) for pair in slices])) for side in SIDES}
    return Measurement(
        lung_density=float(lung.mean()) if lung.size else float("nan"),
        low_density=float(np.quantile(smooth, LOW_SHARE)) if lung.size else float("nan"),
        heart_ratio=max(_heart(*pair) for pair in slices),
        chest_width=_chest(hu),
        bone_density=float(hu[mask == BONE].mean()) if BONE in mask else float("nan"),
        fluid=fluid,
        lesion={side: max(_lesion(*pair, side) for pair in slices) for side in SIDES},
    )


def _slices(hu: Image, cavity: Mask) -> Iterator[tuple[Image, Mask]]:
    """Axial slices as they are shown; of a volume those about the level of a 2-D cohort, clear of the diaphragm."""
    if hu.ndim == 2:
        yield hu, cavity
        return
    heights = volume_points(hu.shape[2]).z.ravel()
    for level in np.flatnonzero(np.abs(heights - SLICE_LEVEL) <= ABOUT):
        yield hu[::-1, ::-1, level].T, cavity[::-1, ::-1, level].T


def _chest(hu: Image) -> float:
    """Columns of an axial slice, or of a volume seen from the front, in which there is a body."""
    labels, count = ndimage.label(hu > LUNG_BELOW)
    if not count:
        return 0.0
    largest = 1 + int(np.argmax(ndimage.sum_labels(labels > 0, labels, range(1, count + 1))))
    across = 1 if hu.ndim == 2 else 0
    seen = (labels == largest).any(axis=tuple(axis for axis in range(hu.ndim) if axis != across))
    return float(seen.sum()) / len(seen)


def _box(cavity: Mask) -> tuple[int, int, int, int]:
    """First and last row and column of the cavity."""
    rows, columns = np.flatnonzero(cavity.any(axis=1)), np.flatnonzero(cavity.any(axis=0))
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def _heart(hu: Image, cavity: Mask) -> float:
    """Width of the soft thing around the midline in the front of the cavity, by the width of the cavity."""
    top, bottom, first, last = _box(cavity)
    front = np.zeros_like(cavity)
    front[: round((top + bottom) / 2 + FRONT * (bottom - top)) + 1] = True
    soft = _solid(cavity & front & (hu > SOFT_ABOVE))
    labels, count = ndimage.label(soft)
    middle = (first + last) // 2
    own = [label for label in range(1, count + 1) if (labels[:, middle - 1 : middle + 3] == label).any()]
    columns = np.flatnonzero(np.isin(labels, own).any(axis=0))
    return float(np.ptp(columns) + 1) / (last - first + 1) if len(columns) else 0.0


def _solid(soft: Mask) -> Mask:
    """What is left of soft tissue when threads as thin as vessels are taken off."""
    return np.asarray(ndimage.binary_opening(soft, iterations=CORE_HALF))


def _field(cavity: Mask, side: str, share: tuple[float, float] = FIELD) -> Mask:
    """The columns of one lung, clear of mediastinum and chest wall; the patient's left is on the right."""
    _, _, first, last = _box(cavity)
    middle, half = (first + last) / 2, (last - first + 1) / 2
    across = (np.arange(cavity.shape[1]) - middle) / half * (1 if side == "left" else -1)
    return np.asarray(cavity & (share[0] <= across) & (across <= share[1]))


def _fluid(hu: Image, cavity: Mask, side: str) -> float:
    """Depth of the soft tissue that reaches the back of the cavity without a gap, a high quantile over columns."""
    top, bottom, _, _ = _box(cavity)
    depths = _layer(hu, _field(cavity, side, FLUID_FIELD)).sum(axis=0)
    depths = depths[_field(cavity, side, FLUID_FIELD).any(axis=0)]
    return float(np.quantile(depths, 0.75)) / (bottom - top + 1) if len(depths) else 0.0


def _layer(hu: Image, field: Mask) -> Mask:
    """Voxels of a field with nothing but soft tissue behind them; the last one of a column, half wall, is left out."""
    behind = np.cumsum((field & (hu < FLUID_ABOVE))[::-1], axis=0)[::-1]
    wall = field & (np.cumsum(field[::-1], axis=0)[::-1] == 1)
    # Air in the last voxel belongs to no layer.
    return np.asarray(field & ~wall & (behind == 0))


def _lesion(hu: Image, cavity: Mask, side: str) -> float:
    """Area of what is solid in the lung and not connected with the heart in front; 0 beside fluid, which hides it."""
    top, bottom, first, last = _box(cavity)
    if _fluid(hu, cavity, side) >= FLUID_FROM:
        return 0.0
    soft = _solid(ndimage.binary_erosion(cavity) & (hu > SOFT_ABOVE) & (hu < SOFT_BELOW))
    front = np.arange(len(hu))[:, None] <= (top + bottom) / 2 + FRONT_OF_LESIONS * (bottom - top)
    labels, _ = ndimage.label(soft & front)
    middle = (first + last) // 2
    heart = np.isin(labels, np.unique(labels[:, middle - 1 : middle + 3])) & (labels > 0)
    return float((_field(cavity, side) & soft & ~heart).sum()) / float(cavity.sum())


def _side(shares: dict[str, float], least: float) -> str:
    side = max(SIDES, key=lambda name: shares[name])
    return side if shares[side] >= least else "none"
