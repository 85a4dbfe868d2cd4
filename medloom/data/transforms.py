"""Transforms images between the values of their files and the model's space, in both directions."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.image import FloatArray, Image
from medloom.core.spec import COLOUR, GREY, HU, RELATIVE, ImageSpec, Intensity
from medloom.data.image_io.geometry import axial_affine, reorient
from medloom.data.placement import Placement, frame_of, place, plan, restore

HU_WINDOW = (-1000.0, 1000.0)
LEVELS = (0.0, 255.0)
PERCENTILES = (0.5, 99.5)
# Fraction of the range by which the channels of a grey image may differ.
SAME_LEVELS = 2 / 255


@dataclass(frozen=True, eq=False)
class ModelImage:
    """An image in the model's space, with the parameters of the inverse transform.

    Attributes:
        array: float32 `(C, *size)` in [-1, 1]; with a spec of patches, the whole image of any size.
        parameters: `low` and `high`, the values that became -1 and 1 (levels out of 255 under a window);
            `clipped_fraction` of the values without padding that lie outside them; `original_`, `resized_`, `offset_`
            and `scale_` of each axis, see `Placement`.
    """

    array: FloatArray
    parameters: dict[str, float]


def to_model(image: Image, spec: ImageSpec, modality: str) -> ModelImage:
    """Transform an image to the model's space: intensities to [-1, 1], then geometry; padding and border become -1.

    Raises:
        UserError: an unknown modality; a unit, number of channels, size or geometry that does not fit the spec.
    """
    intensity = spec.of(modality)
    if len(image.pixels) == 3 and not intensity.colour and is_grey(image):
        image = replace(image, pixels=image.pixels.mean(axis=0, keepdims=True), unit=GREY)
    if len(image.pixels) > spec.channels:
        raise UserError(f"a colour image cannot be put into the model's one channel (modality {modality}).")
    if len(image.pixels) == 3 and not intensity.colour:
        raise UserError(f"an image of modality {modality} is in colour, and the model's are in {intensity.unit}.")
    taken = (COLOUR, GREY) if intensity.colour else (intensity.unit,)
    if intensity.kind == "window" and image.unit not in taken:
        raise UserError(
            f"an image of modality {modality} is in {image.unit} and the model's window is in {intensity.unit};"
            f" allowed: {', '.join(taken)}. Give the unit of files that do not state it, or another modality."
        )
    image = oriented(image, spec)
    values = image.pixels
    if intensity.kind == "window" and image.unit in (GREY, COLOUR) and image.full_scale != LEVELS[1]:
        # Levels under a window are out of 255.
        values = values * np.float32(LEVELS[1] / image.full_scale)
    considered = values if image.padding is None else values[:, ~image.padding]
    low, high = intensity.low, intensity.high
    if intensity.kind == "percentile":
        if not considered.size:
            raise UserError("an image consists of padding, and has no percentiles; leave it out.")
        low, high = (float(value) for value in np.percentile(considered, (intensity.low, intensity.high)))
        if not low < high:
            raise UserError(
                f"an image has the value {low:g} at both its {intensity.low:g}th and its {intensity.high:g}th"
                " percentile: it is almost constant; leave it out."
            )
    scaled = np.clip((values - low) * (2 / (high - low)) - 1, -1, 1).astype(np.float32)
    if image.padding is not None:
        scaled[:, image.padding] = -1
    placement = plan(image.size, image.spacing, spec)
    array = np.clip(place(scaled, placement, frame_of(placement, spec)), -1, 1)
    clipped = float(((considered < low) | (considered > high)).mean()) if considered.size else 0.0
    return ModelImage(
        np.repeat(array, spec.channels // len(array), axis=0),
        {"low": low, "high": high, "clipped_fraction": clipped, **placement.to_parameters()},
    )


def is_grey(image: Image) -> bool:
    """Whether the three channels are one, as programs write grey images; compression may change a level or two."""
    return float(np.ptp(image.pixels, axis=0).max(initial=0)) <= SAME_LEVELS * image.full_scale


def from_model(
    array: NDArray[np.floating],
    spec: ImageSpec,
    modality: str,
    parameters: Mapping[str, float] | None = None,
    reference: Image | None = None,
    restore_geometry: bool = False,
    placement: Placement | None = None,
) -> Image:
    """Transform an array in the model's space back to values of the modality.

    Args:
        array: `(C, *size)` in [-1, 1], of any size with a spec of patches; values outside are clipped; grey modalities
            take the mean of three channels.
        spec: the model's space.
        modality: chooses the intensity map.
        parameters: from `to_model` for the original image. Without them, a percentile modality has relative values from
            0 to 1.
        reference: the original image; gives the geometry, and with `parameters` the unit of a percentile modality.
        restore_geometry: restore the size of the original without the border; cropped parts have the lowest value.
            Otherwise the image stays on the model's grid.
        placement: of the array on the reference's grid, instead of that of parameters or reference (for patches).

    Returns:
        HU, levels out of 255, or relative values; spacing and affine describe the returned pixels.

    Raises:
        UserError: an array of another shape than the spec's, or an unknown original geometry that is to be restored.
    """
    intensity = spec.of(modality)
    if (
        array.shape[:1] != spec.shape[:1]
        or array.ndim != len(spec.shape)
        or (not spec.patch and array.shape != spec.shape)
    ):
        raise UserError(f"an array of shape {array.shape} is not of the model's shape {spec.shape}.")
    scaled = np.clip(np.asarray(array, dtype=np.float32), -1, 1)
    if not intensity.colour:
        scaled = scaled.mean(axis=0, keepdims=True, dtype=np.float32)
    known = None if reference is None else oriented(reference, spec)
    if placement is None and parameters is not None:
        placement = Placement.from_parameters(parameters, spec.spatial_dims)
    elif placement is None and known is not None:
        placement = plan(known.size, known.spacing, spec)
    if restore_geometry:
        if placement is None:
            raise UserError("the original geometry cannot be restored without the reference or its parameters.")
        scaled = restore(scaled, placement)

    unit, full_scale = intensity.output_unit, LEVELS[1] if intensity.unit in (GREY, COLOUR) else math.nan
    low, high = (intensity.low, intensity.high) if intensity.kind == "window" else (0.0, 1.0)
    if intensity.kind == "percentile" and parameters is not None:
        low, high = parameters["low"], parameters["high"]
        if reference is not None:
            unit, full_scale = reference.unit, reference.full_scale
    values = ((scaled + 1) * np.float32((high - low) / 2) + np.float32(low)).astype(np.float32, copy=False)

    # Spacing and affine of the model's grid, or of the original grid if it is restored.
    directions = None
    if known is not None:
        affine, spacing, own_modality, directions = known.affine, known.spacing, known.modality, known.directions
        change = None if restore_geometry or placement is None else (placement.matrix(), placement.scale)
    else:
        own_modality, spacing = None, spec.spacing
        affine = axial_affine(spec.spacing) if spec.spacing and spec.orientation is not None else None
        change = None
        if restore_geometry and placement is not None:
            change = np.linalg.inv(placement.matrix()).astype(np.float64), tuple(1 / scale for scale in placement.scale)
    if change is not None:
        affine = None if affine is None else affine @ change[0]
        spacing = None if spacing is None else tuple(mm * scale for mm, scale in zip(spacing, change[1], strict=True))
    unoriented = spec.spatial_dims == 3 and spec.orientation is None
    return Image(
        values, unit, full_scale, spacing, affine, modality=own_modality, directions=directions, unoriented=unoriented
    )


def choose_intensity(units: Counter[tuple[str, float]], hu_window: tuple[float, float] = HU_WINDOW) -> Intensity:
    """The intensity map of one modality, from the number of its files with each (unit, full scale).

    HU are mapped by `hu_window`; colour and 8-bit grey by levels 0 to 255; deeper grey and relative values by each
    image's own 0.5th to 99.5th percentile.

    Raises:
        UserError: no files, or incompatible units (states the number of files of each).
    """
    counts: Counter[str] = Counter()
    for (unit, _), count in units.items():
        counts[unit] += count
    if not counts:
        raise UserError("no image to choose an intensity map from; the manifest has no row of the modality.")
    if (HU in counts and len(counts) > 1) or (COLOUR in counts and RELATIVE in counts):
        listed = " and ".join(f"{count} in {unit}" for unit, count in sorted(counts.items()))
        raise UserError(
            f"images of one modality are in different units ({listed}): split them into two modalities, or give the"
            " unit of files that do not state it."
        )
    if HU in counts:
        return Intensity("window", HU, *hu_window)
    if COLOUR in counts:
        return Intensity("window", COLOUR, *LEVELS)
    if RELATIVE not in counts and all(full_scale == LEVELS[1] for _, full_scale in units):
        return Intensity("window", GREY, *LEVELS)
    return Intensity("percentile", RELATIVE, *PERCENTILES)


def oriented(image: Image, spec: ImageSpec) -> Image:
    """An image with its axes in the spec's orientation.

    Raises:
        UserError: one of the two states how axes lie in the patient and the other does not.
    """
    if spec.orientation is not None:
        if image.unoriented:
            raise UserError(
                "the volume states no orientation (both codes of a NIfTI are 0, or the header has no directions), and"
                " the model's images do: left and right could be swapped; state it in the file, or give another."
            )
        return reorient(image, spec.orientation)
    if spec.spatial_dims == 3 and image.affine is not None:
        raise UserError(
            "the volume states an orientation, and the model's training images state none: left and right could be"
            " swapped; give a volume like those."
        )
    return image
