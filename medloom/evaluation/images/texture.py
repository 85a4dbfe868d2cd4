"""Grey levels, sharpness and grain of an image as a few dozen numbers, which need no training and no download.

Networks that were trained on small sets look at shapes and overlook blur, grain and compression. These numbers see
them: quantiles of grey levels, and in each octave of an image pyramid the energy, its heavy tails, its direction, and
the local contrast.

Volumes are measured along all three axes at once, which sees what is wrong between slices only. 203 blocks of real MRI
of 32 x 32 x 32 voxels had an excess Frechet distance of 0.36 [0.24, 0.47] when blurred along one axis (0.8 voxels), of
0.29 [0.23, 0.35] when their slices were moved by a voxel at random, and of 0.08 [0.06, 0.11] when neighbouring slices
changed places. The same numbers of slices had 0.13 to 0.44, 0.04 to 0.31 and 0.00 to 0.12, according to the plane: no
plane saw what the volumes did not show, so there is no texture by slices.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
CONTRASTS = (0.05, 0.25, 0.5, 0.75, 0.95)
# Octaves, those of them whose local contrast counts, and the least pixels of an octave's shortest axis.
OCTAVES, FINE_OCTAVES, SHORTEST = 4, 2, 8
# Pixels over which local contrast is measured, and the one that counts as none.
NEAR, NO_CONTRAST = 5, 1e-3
SMALLEST = 1e-8
# Standard deviations of real images beyond which a number counts no more, and the least deviation of one.
MOST, LEAST_DEVIATION = 8.0, 1e-3

Images = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Texture:
    """Textures in standard deviations of real images.

    Attributes:
        mean: of the numbers of real images, `(d,)`.
        deviation: of the same, `(d,)`.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @classmethod
    def of(cls, real: Images) -> "Texture":
        """The scales of real images `(N, C, *size)` in [-1, 1]."""
        values = textures(real)
        return cls(values.mean(axis=0), np.maximum(values.std(axis=0), LEAST_DEVIATION))

    def __call__(self, images: Images) -> NDArray[np.float32]:
        """Features `(N, d)` of images `(N, C, *size)` in [-1, 1]."""
        return np.clip((textures(images) - self.mean) / self.deviation, -MOST, MOST).astype(np.float32)


def textures(images: Images) -> NDArray[np.float64]:
    """The numbers of images `(N, C, *size)` in [-1, 1]: float64 `(N, d)`."""
    with ThreadPoolExecutor() as pool:
        return np.array(list(pool.map(_texture, images)))


def _texture(image: Images) -> list[float]:
    channels = (np.asarray(image, np.float32) + 1) / 2
    grey = channels.mean(axis=0)
    numbers = list(np.quantile(grey, QUANTILES))
    for end in (grey <= grey.min() + SMALLEST, grey >= grey.max() - SMALLEST):
        numbers.append(math.log(NO_CONTRAST + float(end.mean())))
    if len(channels) > 1:
        for channel in channels - grey:
            numbers += [float(channel.mean()), math.log(NO_CONTRAST + float(channel.std()))]
    for octave in range(OCTAVES):
        if min(grey.shape) < SHORTEST:
            # Volumes of few slices end here, all of them alike.
            break
        coarse = ndimage.gaussian_filter(grey, 1.0, mode="nearest")
        band = grey - coarse
        energy = float(band.var()) + SMALLEST
        numbers += [math.log(energy), math.log(1 + float((band**4).mean()) / energy**2)]
        if octave < FINE_OCTAVES:
            steps = [float(np.diff(grey, axis=axis).var()) + SMALLEST for axis in range(grey.ndim)]
            numbers += [math.log(one / other) for one, other in pairwise(steps)]
            local = np.sqrt(ndimage.uniform_filter(band * band, NEAR).clip(min=0))
            numbers += [math.log(NO_CONTRAST + float(value)) for value in np.quantile(local, CONTRASTS)]
        grey = coarse[(slice(None, None, 2),) * grey.ndim]
    return numbers
