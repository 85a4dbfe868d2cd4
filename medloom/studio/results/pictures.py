"""Pictures of images for the browser: a window of values, a slice of a volume, as PNG that says SYNTHETIC."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

from medloom.core.errors import UserError
from medloom.core.files import content_stamp
from medloom.core.image import Image
from medloom.core.plots import PLANES, edges_of, flat, planar
from medloom.core.spec import HU
from medloom.data.images import read_image
from medloom.studio.results.remembered import Remembered

# Images in memory: two of 512 x 512 x 1,000 voxels, or thousands of X-rays.
REMEMBERED = Remembered(2**31)
# Of Hounsfield units where nothing else is asked for.
WIDE = (-1000.0, 1000.0)


def open_image(path: Path, unit: str | None = None) -> Image:
    """An image, read once as long as its file stays the same.

    Args:
        path: of the file.
        unit: of its values where the format does not state it.

    Raises:
        UserError: it is gone or damaged.
    """
    try:
        stamp = content_stamp(path)
    except OSError as error:
        raise UserError("the file of this image is not there any more.") from error
    return REMEMBERED.get((path, unit, stamp), lambda: read_image(path, unit=unit))


def usual_window(image: Image) -> tuple[float, float]:
    """The lowest and the highest value that is distinguished where nothing else is asked for, as the file states it."""
    if image.window is not None and image.window[0] < image.pixels.max() and image.window[1] > image.pixels.min():
        return image.window
    if not np.isnan(image.full_scale):
        return 0.0, float(image.full_scale)
    if image.unit == HU:
        low, high = float(image.pixels.min()), float(image.pixels.max())
        return max(low, WIDE[0]), min(high, WIDE[1])
    low, high = (float(value) for value in np.percentile(image.pixels, (0.5, 99.5)))
    return low, max(high, low + 1e-6)


def window_of_labels(mask: Image) -> tuple[float, float]:
    """The window in which all labels of a mask differ."""
    return 0.0, max(1.0, float(mask.pixels.max()))


def picture_of(
    image: Image,
    window: tuple[float, float] | None = None,
    plane: str | None = None,
    level: int | None = None,
    side: int | None = None,
    synthetic: bool = True,
) -> bytes:
    """A PNG of an image.

    Args:
        image: the image.
        window: values that are black and white; None, or what is no number, for `usual_window`.
        plane: of a volume: axial, coronal or sagittal.
        level: slice of the volume; None for the middle one.
        side: pixels of the longer side at most; None for the image's own.
        synthetic: whether it is a generated image; its file says so.
    """
    pixels = image.pixels
    if pixels.ndim == 4:
        pixels = flat(pixels, level) if plane is None else planar(pixels, PLANES[plane], level)
    low, high = usual_window(image) if window is None or not np.isfinite(window).all() else window
    levels = np.clip(np.rint((pixels - low) / max(high - low, 1e-6) * 255), 0, 255).astype(np.uint8)
    picture = Pillow.fromarray(levels[0] if len(levels) == 1 else np.moveaxis(levels, 0, -1))
    if side is not None:
        picture.thumbnail((max(1, side), max(1, side)))
    return png_of(picture, synthetic)


def png_of(picture: Any, synthetic: bool) -> bytes:
    """A picture as the bytes of a PNG; that of a generated image says SYNTHETIC."""
    said, stream = PngInfo(), io.BytesIO()
    if synthetic:
        said.add_text("SYNTHETIC", "YES")
    picture.save(stream, "PNG", pnginfo=said)
    return stream.getvalue()


def pixels_of(image: Image) -> tuple[bytes, str]:
    """The values as `(C, *spatial)` in C order, little-endian, and what they are: int16 where that holds them all."""
    values = image.pixels
    small = np.iinfo(np.int16).min <= values.min() and values.max() <= np.iinfo(np.int16).max
    if small and np.array_equal(values, whole := values.astype("<i2")):
        return whole.tobytes(), "int16"
    return np.ascontiguousarray(values, dtype="<f4").tobytes(), "float32"


def viewer_facts(image: Image) -> dict[str, Any]:
    """What the viewer needs to know of an image: shape, unit, window, mm of a pixel, and what lies at its edges."""
    low, high = usual_window(image)
    return {
        "shape": list(image.pixels.shape),
        "unit": image.unit,
        "low": low,
        "high": high,
        "spacing": None if image.spacing is None else list(image.spacing),
        "edges": list(edges_of(image)) if len(image.size) == 2 else None,
        "affine": None if image.affine is None else image.affine.tolist(),
        "oriented": image.affine is not None and not image.unoriented,
    }
