"""A set made without a model: the mean image of each class with the texture of its images, and no structure of them.

Such pictures show the place and brightness of organs, since the mean image does, and their grain, but no patient's
anatomy. A metric that does not distinguish them from real images says nothing about synthetic ones.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medloom.core.seeds import numpy_generator

# Images of the set, in two axes and in three.
MOST, MOST_VOLUMES = 500, 60
LEAST_OF_CLASS = 3
SMALLEST = 1e-4
# Of the noise, in standard deviations of real images: at 1 it would hide the mean, by which classes are recognised.
STRENGTH = 0.5

Images = NDArray[np.floating]


def sampled(classes: Sequence[str], seed: int, per_class: int) -> NDArray[np.intp]:
    """Rows of up to `per_class` images of each class, in order."""
    names = np.asarray(classes)
    rng = numpy_generator("stand-in rows", seed)
    rows = [rng.permutation(np.flatnonzero(names == name))[:per_class] for name in sorted(set(classes))]
    return np.sort(np.concatenate(rows))


def stand_ins(real: Images, classes: Sequence[str], wanted: Sequence[str], seed: int) -> NDArray[np.float32]:
    """A stand-in for each wanted class: its mean real image plus noise with the spectrum of its images about the mean.

    Args:
        real: images `(N, C, *size)` in [-1, 1].
        classes: of each real image.
        wanted: class of each stand-in. One with fewer than three real images is made from all of them.
        seed: of the noise.

    Returns:
        float32 `(len(wanted), C, *size)` in [-1, 1].
    """
    names, asked = np.asarray(classes), np.asarray(wanted)
    axes = tuple(range(1, real.ndim - 1))
    made = np.empty((len(asked), *real.shape[1:]), np.float32)
    for name in sorted(set(wanted)):
        own = real[names == name] if (names == name).sum() >= LEAST_OF_CLASS else real
        mean, deviation = own.mean(axis=0, dtype=np.float64), own.std(axis=0, dtype=np.float64) + SMALLEST
        # The spectra of volumes are added one at a time, which takes less memory.
        power = sum(np.abs(np.fft.fftn((image - mean) / deviation, axes=axes)) ** 2 for image in own) / len(own)
        for row in np.flatnonzero(asked == name):
            noise = numpy_generator("stand-in", seed, int(row)).normal(size=real.shape[2:])
            phases = np.fft.fftn(noise) / np.sqrt(noise.size)
            texture = np.fft.ifftn(phases * np.sqrt(power), axes=axes).real
            # Noise varies as images do at each place, so that the background stays empty.
            made[row] = np.clip(mean + STRENGTH * deviation * texture, -1, 1)
    return made
