"""Reads the image parts of conditions: masks, prior images and regions, in the space of one model.

Training, sampling and evaluation share it, so that a mask means the same in all of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.image import Image
from medloom.core.mask_spec import NO_MASK, MaskSpec
from medloom.core.spec import COLOUR, GREY, RELATIVE, ImageSpec
from medloom.core.types import Condition, ImagePart
from medloom.data.image_io.label_maps import check_labels
from medloom.data.images import check_pixels, read_header, read_image
from medloom.data.masks import Labels, model_labels, read_labels, read_mask
from medloom.data.padding import Extent, extent_of
from medloom.data.transforms import LEVELS, ModelImage, oriented, to_model
from medloom.data.units import unit_for


@dataclass(frozen=True)
class ConditionReader:
    """Reads the image parts of conditions.

    Attributes:
        spec: the model's image space.
        masks: the classes of the masks, and which of them are visible to the model.
        unit: of values in files that do not state it (NIfTI, MetaImage, NRRD).
    """

    spec: ImageSpec
    masks: MaskSpec = field(default_factory=MaskSpec)
    unit: str | None = None

    def modality(self, condition: Condition) -> str:
        """The modality of a condition's image: the requested one, or the model's only one."""
        return condition.modality or next(iter(self.spec.intensity))

    def mask(self, condition: Condition) -> Image:
        """The mask on the grid of its file, `(1, *size)`; volumes in RAS order.

        Raises:
            UserError: not a label map.
        """
        return _label_map(_given(condition.mask))

    def labels(self, condition: Condition, image: Path | None = None) -> Labels:
        """The label map of a condition on the model's grid, int16 `(*size)`; see `data.masks.read_labels`.

        Args:
            condition: without a mask all labels are -1.
            image: the mask's image, or None for a mask without one.

        Raises:
            UserError: not a label map, not on the grid of its image, or a label that is not among the classes.
        """
        if condition.mask is None:
            return np.full(self.spec.size, NO_MASK, np.int16)
        if isinstance(condition.mask, Path):
            return read_labels(condition.mask, self.spec, image, self.masks)
        return model_labels(self.mask(condition), named(condition.mask, "mask"), self.spec, self.masks)

    def prior(self, condition: Condition) -> NDArray[np.float32]:
        """The prior image of a condition in the model's space, float32 `(C, *size)` in [-1, 1].

        Raises:
            UserError: unreadable, not finite, constant, or outside the model's space.
        """
        return self.model_image(_given(condition.prior), self.modality(condition)).array

    def reference(self, condition: Condition) -> Image | None:
        """The image that gives a generated one its geometry: the mask, else the prior image, else none.

        A mask whose file states no spacing leaves it to the prior image.
        """
        mask = None if condition.mask is None else self.mask(condition)
        if condition.prior is None or (mask is not None and mask.spacing is not None):
            return mask
        prior = self._image(condition.prior, self.modality(condition))
        return prior if mask is None or prior.spacing is not None else mask

    def extent(self, condition: Condition) -> Extent | None:
        """Pixels of the frame that a condition's image fills, as its mask does, else its prior image; None without.

        Of a file only the header is read.

        Raises:
            UserError: an unreadable header, or outside the model's space.
        """
        part = condition.prior if condition.mask is None else condition.mask
        if isinstance(part, Path):
            header = read_header(part)
            return extent_of(header.size, header.spacing, self.spec)
        if part is None:
            return None
        image = self.mask(condition) if condition.mask is not None else self._image(part, self.modality(condition))
        image = oriented(image, self.spec)
        return extent_of(image.size, image.spacing, self.spec)

    def region(self, part: ImagePart) -> NDArray[np.float32]:
        """Where an edit may change an image: float32 `(1, *size)`, 1 at every label above 0 of a label map."""
        labels = model_labels(_label_map(part), named(part, "region"), self.spec, MaskSpec())
        return (labels > 0)[None].astype(np.float32)

    def check_region(self, part: ImagePart, conditions: Sequence[Condition]) -> None:
        """Refuse a region that is not drawn on the grid of the prior images.

        Raises:
            UserError: unreadable, no label map, or of another size than one of them.
        """
        region, name = oriented(_label_map(part), self.spec), named(part, "region")
        edited = [condition for condition in conditions if condition.prior is not None]
        for condition in {condition.prior_file or id(condition): condition for condition in edited}.values():
            prior = oriented(self._image(_given(condition.prior), self.modality(condition)), self.spec)
            if region.size != prior.size:
                raise UserError(
                    f"{name}: a region of {_pixels(region)} and a prior image ({named(condition.prior, 'prior')}) of"
                    f" {_pixels(prior)}; draw the region on the prior image's grid."
                )

    def model_image(self, part: ImagePart, modality: str) -> ModelImage:
        """One image in the model's space.

        Raises:
            UserError: unreadable, not finite, constant, or outside the spec; names the file.
        """
        image, name = self._image(part, modality), named(part, "image")
        check_pixels(image, name)
        try:
            return to_model(image, self.spec, modality)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error

    def _image(self, part: ImagePart, modality: str) -> Image:
        """An image from a file or from memory; an array is in the unit of the modality.

        Raises:
            UserError: unreadable, or an array with other axes than the model's, or with values that are not finite or
                no levels.
        """
        if isinstance(part, Path):
            return read_image(part, unit=unit_for(self.unit, modality, part))
        if isinstance(part, Image):
            # Levels without a full scale are out of 255, like the model's own.
            levels = part.unit in (GREY, COLOUR) and math.isnan(part.full_scale)
            return replace(part, full_scale=LEVELS[1]) if levels else part
        dims, unit = self.spec.spatial_dims, self.spec.of(modality).unit
        if part.ndim not in (dims, dims + 1):
            raise UserError(
                f"{named(part, 'image')} has the shape {part.shape}; give an image of {dims} axes, or its channels"
                " first."
            )
        values = np.asarray(part if part.ndim > dims else part[None], np.float32)
        if lost := int((~np.isfinite(values)).sum()):
            raise UserError(
                f"{named(part, 'image')} holds {lost} values that are not finite (NaN or infinite); repair it."
            )
        low, high, full = values.min(), values.max(), 65535.0 if part.dtype == np.uint16 else LEVELS[1]
        if unit in (GREY, COLOUR) and not 0 <= low <= high <= full:
            raise UserError(f"{named(part, 'image')} has values from {low:g} to {high:g}; levels are 0 to {full:g}.")
        return Image(values, unit, full if unit in (GREY, COLOUR) else math.nan)


def named(part: ImagePart | None, what: str) -> Path:
    """The path of an image part, or a description of one in memory, for messages."""
    return part if isinstance(part, Path) else Path(f"the {what} in memory")


def _given(part: ImagePart | None) -> ImagePart:
    if part is None:
        raise ValueError("the condition lacks this image part")
    return part


def _pixels(image: Image) -> str:
    return f"{' x '.join(map(str, image.size))} pixels"


def _label_map(part: ImagePart) -> Image:
    """A label map from a file or from memory."""
    if isinstance(part, Path):
        return read_mask(part)
    image = part if isinstance(part, Image) else Image(np.asarray(part, np.float32)[None], RELATIVE)
    return check_labels(image, named(part, "mask"))
