"""Label maps as files store them: palette indices, samples of few bits, equal colour channels, rescaled integers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.frames import split_frame
from medloom.core.image import Image, channel_first
from medloom.core.spec import RELATIVE
from medloom.data.image_io.raster import png_samples
from medloom.data.image_io.reading import require_file
from medloom.data.image_io.tiff import tiff_samples

LARGEST_LABEL = int(np.iinfo(np.int16).max)
# Labels that a file rescales are this close to whole numbers.
WHOLE = 1e-3
PNG, TIFF = (".png",), (".tif", ".tiff")


def stored_labels(path: Path) -> Image | None:
    """The samples of a PNG or TIFF as labels, not as intensities: indices of palettes, 1 to 16 bits unscaled.

    None for other formats, whose values are the samples.

    Raises:
        UserError: missing, damaged, or with transparency.
    """
    path, frame = split_frame(path)
    if path.is_dir() or path.suffix.lower() not in (*PNG, *TIFF):
        return None
    require_file(path)
    number = frame if isinstance(frame, int) else None
    samples = tiff_samples(path, number) if path.suffix.lower() in TIFF else png_samples(path)
    return Image(channel_first(samples), RELATIVE)


def check_labels(mask: Image, path: Path) -> Image:
    """An image as a label map of one channel: equal channels are one, values within 0.001 of whole numbers are these.

    Raises:
        UserError: the image is in colour, or has values that are not whole numbers from 0 to 32767.
    """
    values: NDArray[np.float32] = mask.pixels
    if len(values) > 1 and all(np.array_equal(channel, values[0]) for channel in values[1:]):
        values = values[:1]
    if len(values) != 1:
        raise UserError(
            f"{path} is not a label map: it is in colour; save it with one channel whose values are the labels, or as a"
            " palette image whose indices are."
        )
    whole = np.rint(values)
    if not np.abs(values - whole).max(initial=0.0) <= WHOLE:
        raise UserError(f"{path} is not a label map: it has values that are not whole numbers.")
    if whole.min() < 0 or whole.max() > LARGEST_LABEL:
        raise UserError(
            f"{path} is not a label map: its values range from {whole.min():g} to {whole.max():g}, labels from 0 to"
            f" {LARGEST_LABEL}."
        )
    return replace(mask, pixels=np.ascontiguousarray(whole, dtype=np.float32))
