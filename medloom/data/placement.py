"""Placement of an image in the model's frame, and resampling in both directions.

Along each axis, index `m` of the frame is index `m * scale + shift` of the original image: two numbers per axis
describe resizing, padding and cropping, and can be inverted.
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
    """An image of `original` pixels, resampled to `resized` and placed at `offset` in a frame.

    Attributes:
        original: pixels of each axis of the image.
        resized: pixels of each axis after resampling.
        offset: frame index of the first resampled pixel; negative where the image is cropped.
        scale: original pixels per step of the frame.
    """

    original: tuple[int, ...]
    resized: tuple[int, ...]
    offset: tuple[int, ...]
    scale: tuple[float, ...]

    @property
    def shift(self) -> tuple[float, ...]:
        """Fractional original index of frame index 0; the centres of both images coincide."""
        return tuple(
            (size - 1) / 2 - scale * (resized - 1) / 2 - scale * offset
            for size, resized, offset, scale in zip(self.original, self.resized, self.offset, self.scale, strict=True)
        )

    def box(self, frame: Sequence[int]) -> tuple[slice, ...]:
        """The part of a frame of that size that contains the image; the rest is border."""
        return tuple(
            slice(max(0, offset), min(size, offset + resized))
            for offset, resized, size in zip(self.offset, self.resized, frame, strict=True)
        )

    def matrix(self) -> Affine:
        """`(4, 4)`, from frame index to original index; the identity on the third axis of a 2-D image."""
        matrix = np.eye(4)
        for axis, (scale, shift) in enumerate(zip(self.scale, self.shift, strict=True)):
            matrix[axis, axis], matrix[axis, 3] = scale, shift
        return matrix

    def to_parameters(self) -> dict[str, float]:
        """As numbers by name: `original_0`, `resized_0`, `offset_0`, `scale_0`, and so on for each axis."""
        return {f"{name}_{axis}": float(value) for name in FIELDS for axis, value in enumerate(getattr(self, name))}

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, float], axes: int) -> "Placement":
        """From the values of `to_parameters`.

        Raises:
            UserError: a missing name.
        """
        names = [f"{name}_{axis}" for name in FIELDS for axis in range(axes)]
        missing = [name for name in names if name not in parameters]
        if missing:
            raise UserError(f"image parameters lack {', '.join(missing)}: give all parameters of the image.")
        values = {name: [parameters[f"{name}_{axis}"] for axis in range(axes)] for name in FIELDS}
        original, resized, offset = (tuple(int(value) for value in values[name]) for name in FIELDS[:3])
        return cls(original, resized, offset, tuple(values["scale"]))


def plan(original: tuple[int, ...], spacing: Sequence[float] | None, spec: ImageSpec) -> Placement:
    """The placement of an image of `original` pixels, at `spacing` mm, in the spec's frame.

    With a spec spacing, the image is resampled to it and padded or cropped about its centre; otherwise the resize rule
    applies, to the aspect of the pixels. A spec of patches has no frame: the image is resampled to the spacing, if any,
    and stays whole.

    Raises:
        UserError: another number of axes, a missing spacing, or another size with the resize rule none.
    """
    if len(original) != spec.spatial_dims:
        raise UserError(
            f"an image of {_times(original)} has {len(original)} axes and the model has {_times(spec.size)}."
        )
    if spec.spacing is not None:
        if spacing is None:
            raise UserError(
                f"an image of {_times(original)} states no spacing in mm and the model's is {_times(spec.spacing)} mm;"
                " write the spacing in its header, or train without spacing."
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
    """Size of a placed image: the spec's, or with patches that of the whole image."""
    return placement.resized if spec.patch else spec.size


def place(array: FloatArray, placement: Placement, frame: Sequence[int]) -> FloatArray:
    """Resample `(C, *original)` and place it in `(C, *frame)`; the border is -1."""
    resized = _resample(array, placement)
    box = placement.box(frame)
    placed: FloatArray = np.full((len(array), *frame), OUTSIDE, dtype=np.float32)
    source = tuple(
        slice(part.start - offset, part.stop - offset) for part, offset in zip(box, placement.offset, strict=True)
    )
    placed[(slice(None), *box)] = resized[(slice(None), *source)]
    return placed


def restore(array: FloatArray, placement: Placement) -> FloatArray:
    """Resample `(C, *frame)` back to `(C, *original)` without the border; cropped parts are -1."""
    box = placement.box(array.shape[1:])
    part = array[(slice(None), *box)]
    step = [1 / scale for scale in placement.scale]
    start = [
        -shift / scale - inside.start
        for shift, scale, inside in zip(placement.shift, placement.scale, box, strict=True)
    ]
    restored = _linear(_smoothed(part, step), placement.original, step, start)
    for axis, size in enumerate(part.shape[1:]):
        index = np.arange(placement.original[axis]) * step[axis] + start[axis]
        # Cropped pixels lie half a frame pixel or more outside; the margin covers rounding errors.
        cropped = (index < -0.5 - 1e-6) | (index > size - 0.5 + 1e-6)
        if part.shape[axis + 1] < placement.resized[axis]:
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
        import torch

        pixels = torch.from_numpy(np.ascontiguousarray(array))[None]
        resized = torch.nn.functional.interpolate(pixels, size=list(placement.resized), mode="bilinear", antialias=True)
        return np.asarray(resized[0].numpy(), dtype=np.float32)
    start = [
        shift + scale * offset
        for shift, scale, offset in zip(placement.shift, placement.scale, placement.offset, strict=True)
    ]
    return _linear(_smoothed(array, placement.scale), placement.resized, placement.scale, start)


def _smoothed(array: FloatArray, step: Sequence[float]) -> FloatArray:
    """Blur each axis that is sampled every `step` > 1 pixels, against aliasing."""
    from scipy.ndimage import gaussian_filter

    sigma = [max(0.0, (width - 1) / 2) for width in step]
    if not any(sigma):
        return array
    return np.asarray(gaussian_filter(array, (0.0, *sigma), mode="nearest"), dtype=np.float32)


def _linear(array: FloatArray, size: Sequence[int], step: Sequence[float], start: Sequence[float]) -> FloatArray:
    """Sample linearly at index `i * step + start` of each spatial axis; edge values continue beyond the edge."""
    from scipy.ndimage import affine_transform

    sampled: NDArray[Any] = np.stack(
        [affine_transform(channel, np.asarray(step), start, tuple(size), order=1, mode="nearest") for channel in array]
    )
    return sampled.astype(np.float32, copy=False)
