"""Where an image's pixels come to lie in the model's frame, and resampling there and back.

Along each axis, index `m` of the frame lies on index `m * scale + shift` of the original image: two figures an axis
hold all of resizing, padding and cropping, and invert it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.image import Affine, FloatArray
from medloom.core.spec import RESIZE_RULES, ImageSpec

OUTSIDE = -1.0
FIELDS = ("original", "resized", "offset", "scale")


@dataclass(frozen=True)
class Placement:
    """An image of `original` pixels, resampled to `resized` and laid at `offset` in a frame.

    Attributes:
        original: pixels of each axis of the image.
        resized: pixels of each axis once resampled.
        offset: frame index of the first resampled pixel; negative where the image is cropped.
        scale: original pixels to a step of the frame.
    """

    original: tuple[int, ...]
    resized: tuple[int, ...]
    offset: tuple[int, ...]
    scale: tuple[float, ...]

    @property
    def shift(self) -> tuple[float, ...]:
        """Original index, fractional, on which frame index 0 lies: the two images' centres coincide."""
        return tuple(
            (size - 1) / 2 - scale * (resized - 1) / 2 - scale * offset
            for size, resized, offset, scale in zip(self.original, self.resized, self.offset, self.scale, strict=True)
        )

    def box(self, frame: Sequence[int]) -> tuple[slice, ...]:
        """The part of a frame of that size which shows the image; the rest is border."""
        return tuple(
            slice(max(0, offset), min(size, offset + resized))
            for offset, resized, size in zip(self.offset, self.resized, frame, strict=True)
        )

    def matrix(self) -> Affine:
        """`(4, 4)`, from frame index to original index; the third axis of a 2-D image stays."""
        matrix = np.eye(4)
        for axis, (scale, shift) in enumerate(zip(self.scale, self.shift, strict=True)):
            matrix[axis, axis], matrix[axis, 3] = scale, shift
        return matrix

    def inverse(self) -> tuple[Affine, tuple[float, ...]]:
        """The matrix from original index to frame index, and frame pixels to a step of the original."""
        matrix: Affine = np.linalg.inv(self.matrix()).astype(np.float64)
        return matrix, tuple(1 / scale for scale in self.scale)

    def to_parameters(self) -> dict[str, float]:
        """As numbers by name: `original_0`, `resized_0`, `offset_0`, `scale_0`, and so on for each axis."""
        return {f"{name}_{axis}": float(value) for name in FIELDS for axis, value in enumerate(getattr(self, name))}

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, float], axes: int) -> "Placement":
        """From what `to_parameters` gave.

        Raises:
            UserError: a name is missing.
        """
        names = [f"{name}_{axis}" for name in FIELDS for axis in range(axes)]
        missing = [name for name in names if name not in parameters]
        if missing:
            raise UserError(f"image parameters lack {', '.join(missing)}: give those that came with the image.")
        values = {name: [parameters[f"{name}_{axis}"] for axis in range(axes)] for name in FIELDS}
        original, resized, offset = (tuple(int(value) for value in values[name]) for name in FIELDS[:3])
        return cls(original, resized, offset, tuple(values["scale"]))


def plan(original: tuple[int, ...], spacing: Sequence[float] | None, spec: ImageSpec) -> Placement:
    """How an image of `original` pixels, at `spacing` mm, is laid in the spec's frame.

    With a spec spacing, the image is resampled to it and padded or cropped about its centre; otherwise the resize rule
    holds. Aspect is that of pixels. A spec of patches has no frame: the image is resampled to the spacing, if there is
    one, and stays whole.

    Raises:
        UserError: another number of axes; no spacing where one is needed; rule none and another size.
    """
    if len(original) != spec.spatial_dims:
        raise UserError(
            f"an image of {_times(original)} has {len(original)} axes and the model has {_times(spec.size)}."
        )
    if spec.spacing is not None:
        if spacing is None:
            raise UserError(
                f"an image of {_times(original)} states no spacing in mm and the model's is {_times(spec.spacing)} mm;"
                " write the spacing in its header or train without spacing."
            )
        scale = tuple(target / own for target, own in zip(spec.spacing, spacing, strict=True))
        resized = tuple(max(1, round(size / step)) for size, step in zip(original, scale, strict=True))
    else:
        resized = original if spec.patch else _resized(original, spec)
        scale = tuple(size / new for size, new in zip(original, resized, strict=True))
    frame = resized if spec.patch else spec.size
    offset = tuple((length - new) // 2 for length, new in zip(frame, resized, strict=True))
    return Placement(original, resized, offset, scale)


def frame_of(placement: Placement, spec: ImageSpec) -> tuple[int, ...]:
    """The size that an image has once placed: the spec's, or with patches that of the whole image."""
    return placement.resized if spec.patch else spec.size


def place(array: FloatArray, placement: Placement, frame: Sequence[int]) -> FloatArray:
    """Resample `(C, *original)` and lay it in `(C, *frame)`; the border is -1."""
    resized = _resample(array, placement)
    box = placement.box(frame)
    placed: FloatArray = np.full((len(array), *frame), OUTSIDE, dtype=np.float32)
    source = tuple(
        slice(part.start - offset, part.stop - offset) for part, offset in zip(box, placement.offset, strict=True)
    )
    placed[(slice(None), *box)] = resized[(slice(None), *source)]
    return placed


def restore(array: FloatArray, placement: Placement) -> FloatArray:
    """Bring `(C, *frame)` back to `(C, *original)`: border cut off, resampled; what was cropped is -1."""
    box = placement.box(array.shape[1:])
    shown = array[(slice(None), *box)]
    step = [1 / scale for scale in placement.scale]
    start = [
        -shift / scale - part.start for shift, scale, part in zip(placement.shift, placement.scale, box, strict=True)
    ]
    restored = _linear(_smoothed(shown, step), placement.original, step, start)
    for axis, size in enumerate(shown.shape[1:]):
        index = np.arange(placement.original[axis]) * step[axis] + start[axis]
        # Cropped pixels lie half a frame pixel or more outside; a little is left for rounding.
        cropped = (index < -0.5 - 1e-6) | (index > size - 0.5 + 1e-6)
        if shown.shape[axis + 1] < placement.resized[axis]:
            np.moveaxis(restored, axis + 1, 0)[cropped] = OUTSIDE
    return restored


def _times(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def _resized(original: tuple[int, ...], spec: ImageSpec) -> tuple[int, ...]:
    if spec.resize == "none":
        if original != spec.size:
            raise UserError(
                f"an image of {_times(original)} does not have the model's size {_times(spec.size)} and the resize rule"
                f" is none; choose one of {', '.join(rule for rule in RESIZE_RULES if rule != 'none')}."
            )
        return original
    if spec.resize == "stretch":
        return spec.size
    factors = [frame / size for frame, size in zip(spec.size, original, strict=True)]
    factor = min(factors) if spec.resize == "pad" else max(factors)
    return tuple(max(1, round(size * factor)) for size in original)


def _resample(array: FloatArray, placement: Placement) -> FloatArray:
    if placement.resized == placement.original and all(math.isclose(scale, 1) for scale in placement.scale):
        return array
    exact = all(
        math.isclose(scale * new, size)
        for scale, new, size in zip(placement.scale, placement.resized, placement.original, strict=True)
    )
    if exact and len(placement.original) == 2:
        return _antialiased(array, placement.resized)
    start = [
        shift + scale * offset
        for shift, scale, offset in zip(placement.shift, placement.scale, placement.offset, strict=True)
    ]
    return _linear(_smoothed(array, placement.scale), placement.resized, placement.scale, start)


def _antialiased(array: FloatArray, size: tuple[int, ...]) -> FloatArray:
    import torch

    pixels = torch.from_numpy(np.ascontiguousarray(array))[None]
    resized = torch.nn.functional.interpolate(pixels, size=list(size), mode="bilinear", antialias=True)
    return np.asarray(resized[0].numpy(), dtype=np.float32)


def _smoothed(array: FloatArray, step: Sequence[float]) -> FloatArray:
    """Blur each axis that is to be sampled every `step` > 1 pixels, so that finer detail does not fold back."""
    from scipy.ndimage import gaussian_filter

    sigma = [max(0.0, (width - 1) / 2) for width in step]
    if not any(sigma):
        return array
    return np.asarray(gaussian_filter(array, (0.0, *sigma), mode="nearest"), dtype=np.float32)


def _linear(array: FloatArray, size: Sequence[int], step: Sequence[float], start: Sequence[float]) -> FloatArray:
    """Sample linearly at index `i * step + start` of each spatial axis; the edge value goes on beyond the edge."""
    from scipy.ndimage import affine_transform

    sampled: NDArray[Any] = np.stack(
        [affine_transform(channel, np.asarray(step), start, tuple(size), order=1, mode="nearest") for channel in array]
    )
    return sampled.astype(np.float32, copy=False)
