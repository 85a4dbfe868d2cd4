"""A projection of the erect thorax that looks like a frontal chest X-ray, with masks of what is seen in it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medloom.phantom.anatomy import BASE, ERECT, TOP, Anatomy, Visit
from medloom.phantom.grids import centred
from medloom.phantom.shapes import Points
from medloom.phantom.thorax import LABELS, render

FIELD = 380.0  # mm of the detector, both ways
WATER = 0.019  # 1/mm, linear attenuation of water at about 70 keV
DEEP = 48  # samples along a ray
DEPTH = 320.0  # mm
BONE_WEIGHT = 0.35  # at diagnostic energies bone attenuates more than its HU say: the photoelectric part
MIDDLE = (TOP + BASE) / 2
SHOWN = (0.7, 6.2)  # line integrals that become black and white
NOISE = 0.006
# In the order in which one covers the other. Ribs cross the lungs, so that bone is told beside the thorax only.
PAINTED = ("body", "bone", "thoracic cavity", "left lung", "right lung", "heart", "airway", "lesion")


@dataclass(frozen=True, eq=False)
class Projection:
    """A frontal image, as it is shown: the patient's left is on the right.

    Attributes:
        levels: float32 `(size, size)`, 0 to 255; air is dark.
        masks: bool `(size, size)` by label: where a ray meets the structure.
    """

    levels: NDArray[np.float32]
    masks: dict[str, NDArray[np.bool_]]

    @property
    def labels(self) -> NDArray[np.uint8]:
        """A label map uint8 `(size, size)`: of the structures that a ray meets, the one that a reader would name."""
        painted = np.zeros(self.levels.shape, np.uint8)
        for name in PAINTED:
            painted[self.masks[name]] = LABELS[name]
        return painted


def project(anatomy: Anatomy, visit: Visit, size: int, noisy: bool = True) -> Projection:
    """Parallel rays from back to front through the erect thorax, after Beer and Lambert.

    Args:
        anatomy: of the patient at the visit.
        visit: position and noise.
        size: pixels of each axis.
        noisy: whether the detector's noise is added.
    """
    step = FIELD / size
    across, along = centred(size, step), centred(DEEP, DEPTH / DEEP)
    up = MIDDLE - centred(size, step)
    grid = Points(across[None, :, None], along[None, None, :], up[:, None, None], step)
    volume = render(anatomy, grid.moved(visit.shift, visit.turn), posture=ERECT)
    dense = 1 + volume.hu.astype(np.float64) / 1000
    attenuation = WATER * (np.clip(dense, 0, None) + BONE_WEIGHT * np.clip(dense - 1.1, 0, None))
    total = attenuation.sum(axis=2) * (DEPTH / DEEP)
    low, high = SHOWN
    shown = np.clip((total - low) / (high - low), 0, 1)
    if noisy:
        shown = shown + NOISE * np.random.Generator(np.random.Philox(visit.seed)).standard_normal(shown.shape)
    masks = {name: (volume.labels == value).any(axis=2) for name, value in LABELS.items() if value}
    return Projection((255 * np.clip(shown, 0, 1)).astype(np.float32), masks)
