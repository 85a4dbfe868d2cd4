"""A projection of the erect thorax that resembles a frontal chest X-ray, with masks of its structures."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medloom.phantom.anatomy import ERECT, Anatomy, Visit
from medloom.phantom.shapes import MIDDLE, Points, centred
from medloom.phantom.thorax import LABELS, render

FIELD = 380.0  # mm of the detector, both ways
WATER = 0.019  # 1/mm, linear attenuation of water at about 70 keV
DEEP = 48  # samples along a ray
DEPTH = 320.0  # mm
BONE_WEIGHT = 0.35  # photoelectric part: at diagnostic energies bone attenuates more than its HU suggest
WINDOW = (0.7, 6.2)  # line integrals that become black and white
NOISE = 0.006
# Later labels cover earlier ones. Ribs cross the lungs, so bone is labelled outside of the thorax only.
PAINTED = ("body", "bone", "thoracic cavity", "left lung", "right lung", "heart", "airway", "lesion")


@dataclass(frozen=True, eq=False)
class Projection:
    """A frontal image as displayed: the patient's left is on the right.

    Attributes:
        levels: float32 `(size, size)`, 0 to 255; air is dark.
        masks: bool `(size, size)` by label, true where a ray meets the structure.
    """

    levels: NDArray[np.float32]
    masks: dict[str, NDArray[np.bool_]]

    @property
    def labels(self) -> NDArray[np.uint8]:
        """A label map uint8 `(size, size)`: among the structures on a ray, the one that a reader would name."""
        painted = np.zeros(self.levels.shape, np.uint8)
        for name in PAINTED:
            painted[self.masks[name]] = LABELS[name]
        return painted


def project(anatomy: Anatomy, visit: Visit, size: int, noisy: bool = True) -> Projection:
    """Project the erect thorax by parallel rays from back to front (Beer-Lambert law).

    Args:
        anatomy: of the patient at the visit.
        visit: gives position and noise.
        size: pixels per axis.
        noisy: whether to add the detector's noise.
    """
    step = FIELD / size
    across, along = centred(size, step), centred(DEEP, DEPTH / DEEP)
    up = MIDDLE - centred(size, step)
    grid = Points(across[None, :, None], along[None, None, :], up[:, None, None], step)
    volume = render(anatomy, grid.moved(visit.shift, visit.turn), posture=ERECT)
    dense = 1 + volume.hu.astype(np.float64) / 1000
    attenuation = WATER * (np.clip(dense, 0, None) + BONE_WEIGHT * np.clip(dense - 1.1, 0, None))
    total = attenuation.sum(axis=2) * (DEPTH / DEEP)
    levels = np.clip((total - WINDOW[0]) / (WINDOW[1] - WINDOW[0]), 0, 1)
    if noisy:
        levels = levels + NOISE * np.random.Generator(np.random.Philox(visit.seed)).standard_normal(levels.shape)
    masks = {name: (volume.labels == value).any(axis=2) for name, value in LABELS.items() if value}
    return Projection((255 * np.clip(levels, 0, 1)).astype(np.float32), masks)
