"""Blinded images: real and synthetic ones written by the same code, in one format and size, without any metadata."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.files import atomic_file
from medloom.core.image import Image
from medloom.core.spec import COLOUR, HU, RELATIVE
from medloom.data.images import read_header, read_image
from medloom.data.units import unit_for
from medloom.feedback.reader_study.cases import StudyImage

# Of a volume that is not in HU, the percentiles that become the ends of its scale.
PERCENTILES, TOP = (0.5, 99.5), 1000


@dataclass(frozen=True)
class Form:
    """The one form of all images of a study.

    Attributes:
        size: of all of them.
        colour: whether they are in colour.
        spacing: mm of volumes; None in 2-D.
        window: HU that become black and white; None where no image is in HU, and for volumes.
    """

    size: tuple[int, ...]
    colour: bool
    spacing: tuple[float, ...] | None
    window: tuple[float, float] | None

    @property
    def ending(self) -> str:
        """Of the files."""
        return ".png" if len(self.size) == 2 else ".nii.gz"


def form_of(images: Sequence[StudyImage], unit: str | None, window: tuple[float, ...]) -> Form:
    """The form of a study's images, from their headers.

    Args:
        images: of the study.
        unit: of values in files that do not state theirs; see `unit_for`.
        window: HU that become black and white, of 2-D images in HU; empty for none.

    Raises:
        UserError: images of several sizes, in grey and in colour, or in HU without a window; volumes of several
            spacings. Each would tell readers which are real.
    """
    if window and not (len(window) == 2 and window[0] < window[1]):
        raise UserError(f"--window {' '.join(f'{end:g}' for end in window)}: give the HU that are black and white.")
    headers = [(image, read_header(image.path, unit_for(unit, image.modality, image.path))) for image in images]
    first, stated = headers[0]
    for image, header in headers:
        if header.size != stated.size:
            raise UserError(
                f"{image.path} is of size {_sized(header.size)} and {first.path} of {_sized(stated.size)}: readers"
                " would know real images by their size; bring all to one size first."
            )
        if (header.unit == COLOUR) is not (stated.unit == COLOUR):
            raise UserError(f"{image.path} and {first.path}: one is in colour and one is grey; give one kind.")
    in_hu = {header.unit == HU for _, header in headers}
    volumes = len(stated.size) == 3
    if len(in_hu) > 1:
        raise UserError("some images are in HU and some are not; readers would know real images by it. Give one unit.")
    if True in in_hu and not volumes and not window:
        raise UserError("the images are in HU; give --window LOW HIGH, the HU that are black and white.")
    spacing = None
    if volumes:
        spacings = {tuple(round(mm, 3) for mm in header.spacing or (1.0, 1.0, 1.0)) for _, header in headers}
        if len(spacings) > 1:
            listed = " and ".join(" x ".join(f"{mm:g}" for mm in each) for each in sorted(spacings)[:2])
            raise UserError(
                f"volumes of spacings {listed} mm; readers would know real ones by it. Resample them first."
            )
        spacing = spacings.pop()
    ends = (window[0], window[1]) if window and not volumes else None
    return Form(stated.size, stated.unit == COLOUR, spacing, ends)


def write_blinded(image: StudyImage, path: Path, form: Form, unit: str | None) -> None:
    """Write an image as pixels alone: PNG of 8 bits, or NIfTI of whole numbers without names or position.

    Raises:
        UserError: an image that cannot be read, or that has values without a range.
    """
    own = read_image(image.path, unit=unit_for(unit, image.modality, image.path))
    if form.spacing is None:
        _write_png(path, _levels(own, form, image.path))
    else:
        _write_volume(path, own, form.spacing, image.path)


def _write_png(path: Path, levels: NDArray[np.uint8]) -> None:
    from PIL import Image as Pillow

    with atomic_file(path, flushed=False) as temporary:
        Pillow.fromarray(levels).save(temporary, format="PNG")


def _levels(image: Image, form: Form, path: Path) -> NDArray[np.uint8]:
    if image.unit == HU and form.window is not None:
        low, high = form.window
    else:
        low, high = 0.0, 1.0 if image.unit == RELATIVE else image.full_scale
    if not np.isfinite(image.pixels).all():
        raise UserError(f"{path} holds values that are not finite; repair it or leave it out.")
    levels = np.rint(np.clip((image.pixels - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    return levels[0] if len(levels) == 1 else np.ascontiguousarray(np.moveaxis(levels, 0, -1))


def _write_volume(path: Path, image: Image, spacing: tuple[float, ...], source: Path) -> None:
    import nibabel

    values = image.pixels[0].astype(np.float64)
    if image.unit != HU:
        low, high = np.percentile(values, PERCENTILES)
        if not high > low:
            raise UserError(f"{source} is constant; leave it out.")
        values = np.clip((values - low) / (high - low), 0, 1) * TOP
    written = nibabel.Nifti1Image(np.rint(values).astype(np.int16), np.diag([*spacing, 1.0]))
    written.header.set_xyzt_units("mm")
    with atomic_file(path) as temporary:
        nibabel.save(written, temporary)


def _sized(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))
