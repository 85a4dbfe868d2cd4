"""The small grey pictures in which copies are looked for: of a slice itself, of a volume its means along three axes."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from medloom.core.progress import progress
from medloom.core.spec import ImageSpec
from medloom.data.dataset import ImageSource
from medloom.evaluation.copies.spectra import SIZE
from medloom.evaluation.images.sets import ImageSet

# Pixels a side of volumes before their means are taken.
VOLUME = 48
AT_ONCE = 64

Pictures = NDArray[np.float32]


def pictures(members: ImageSet, spec: ImageSpec, unit: str | None, size: int = SIZE) -> Pictures:
    """Pictures of a set, float32 from 0 to 1: `(n, 1, size, size)` of slices, `(n, 3, size, size)` of volumes.

    Args:
        members: the set.
        spec: the space of the evaluation, whose intensities are used.
        unit: of files that do not state theirs.
        size: pixels a side.

    Raises:
        UserError: an image that cannot be read; names the file.
    """
    own = (size, size) if spec.spatial_dims == 2 else (VOLUME,) * 3
    source = ImageSource(members.samples, replace(spec, size=own, resize="pad", spacing=None), unit, {})
    parts = []
    with progress(f"reading pictures of {members.name}", len(members), "images", 0) as advance:
        for start in range(0, len(members), AT_ONCE):
            rows = range(start, min(start + AT_ONCE, len(members)))
            parts.append(_views(source.images(rows).mean(axis=1), size))
            advance(len(rows))
    return np.concatenate(parts)


def _views(grey: NDArray[np.float32], size: int) -> Pictures:
    """`(n, *axes)` in [-1, 1] as pictures."""
    values = np.asarray((np.clip(grey, -1, 1) + 1) / 2, np.float32)
    if values.ndim == 3:
        return values[:, None]
    means = torch.from_numpy(np.stack([values.mean(axis=axis) for axis in (1, 2, 3)], axis=1))
    return np.asarray(F.interpolate(means, (size, size), mode="bilinear", align_corners=False))


def halved(values: Pictures) -> Pictures:
    """Pictures with half as many pixels a side, each a mean of four."""
    *outer, rows, columns = values.shape
    return np.asarray(values.reshape(*outer, rows // 2, 2, columns // 2, 2).mean(axis=(-3, -1)), np.float32)
