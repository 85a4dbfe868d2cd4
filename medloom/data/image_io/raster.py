"""Reading PNG and JPEG, writing PNG and TIFF, and the levels that raster and DICOM files store."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.files import atomic_file
from medloom.core.image import Header, Image, channel_first, choose_frame, full_scale_of
from medloom.core.spec import COLOUR, GREY, HU, RELATIVE
from medloom.data.image_io.reading import explained_reading, require_sane_size

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

FORMATS = {"PNG": ("PNG",), "JPEG": ("JPEG", "MPO")}
GREY_MODES = ("1", "L", "LA")
ORIENTATION_TAG = 0x0112
PNG_FORM_OFFSET = 24
PNG_GREY_TYPES, PNG_ALPHA_TYPES = (0, 4), (4, 6)
ROUNDING = 1e-3  # fraction of the range by which computed values may exceed it


def composite_on_black(pixels: NDArray[np.generic], full_scale: float) -> NDArray[np.float32]:
    """Composite `(rows, columns, C + 1)`, alpha last and not premultiplied, on black: float32 `(rows, columns, C)`."""
    values = pixels.astype(np.float32)
    return values[..., :-1] * (values[..., -1:] / np.float32(full_scale))


def turn(pixels: NDArray[np.generic], orientation: int) -> NDArray[np.generic]:
    """Rotate and flip rows and columns for display, by an EXIF or TIFF orientation (1 to 8)."""
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _read(kind: str, path: Path, frame: int | None, unit: str | None) -> Image:
    """Read a PNG (1 to 16 bits, grey, colour or palette; alpha is composited on black) or a JPEG (grey or colour).

    Images are rotated by their EXIF orientation.
    """
    choose_frame(path, 1, frame)
    with explained_reading(path, kind):
        with _opened(path, kind) as opened:
            require_sane_size(path, opened.size)
            bits = _bits(path, kind)
            pixels = _deep_pixels(path) if bits == 16 else _pillow_pixels(opened)
            pixels = turn(pixels, opened.getexif().get(ORIENTATION_TAG, 1))
        planes = channel_first(pixels)
    return Image(planes, COLOUR if len(planes) == 3 else GREY, full_scale_of(bits))


def _header(kind: str, path: Path, unit: str | None) -> Header:
    """The header of a PNG or a JPEG."""
    with explained_reading(path, kind), _opened(path, kind) as opened:
        rows_and_columns = (opened.height, opened.width)
        require_sane_size(path, rows_and_columns)
        # For a PNG without EXIF before its pixels, getexif would decode all pixels to look behind them.
        looked_up = opened.format != "PNG" or "exif" in opened.info
        if looked_up and int(opened.getexif().get(ORIENTATION_TAG, 1)) in (5, 6, 7, 8):
            rows_and_columns = rows_and_columns[::-1]
        # Pillow opens 16-bit grey with alpha as colour.
        grey = _png_form(path)[1] in PNG_GREY_TYPES if opened.format == "PNG" else opened.mode in GREY_MODES
        return Header(kind, rows_and_columns, 1 if grey else 3, _bits(path, kind), GREY if grey else COLOUR, frames=1)


read_png, png_header = partial(_read, "PNG"), partial(_header, "PNG")
read_jpeg, jpeg_header = partial(_read, "JPEG"), partial(_header, "JPEG")


def _opened(path: Path, kind: str) -> "PillowImage":
    from PIL import Image as Pillow
    from PIL import MpoImagePlugin  # noqa: F401  Registers MPO, which Pillow otherwise does not know here.

    return Pillow.open(path, formats=FORMATS[kind])


def _bits(path: Path, kind: str) -> int:
    return 16 if kind == "PNG" and _png_form(path)[0] == 16 else 8


def _png_form(path: Path) -> tuple[int, int]:
    """Bit depth and colour type: the two bytes after the size in a PNG's first chunk."""
    with path.open("rb") as stream:
        stream.seek(PNG_FORM_OFFSET)
        depth, colour_type = stream.read(2)
    return depth, colour_type


def _deep_samples(path: Path) -> NDArray[np.generic]:
    # Pillow silently drops 8 of the 16 bits in colour or with alpha.
    import imagecodecs

    pixels: NDArray[np.generic] = imagecodecs.png_decode(path.read_bytes())
    return pixels


def _deep_pixels(path: Path) -> NDArray[np.generic]:
    pixels = _deep_samples(path)
    if pixels.ndim == 3 and pixels.shape[-1] in (2, 4):
        pixels = composite_on_black(pixels, 65535)
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels


def _pillow_pixels(opened: "PillowImage") -> NDArray[np.generic]:
    opened.load()
    grey = opened.mode in GREY_MODES
    if "A" in opened.mode or "transparency" in opened.info:
        composited = composite_on_black(np.asarray(opened.convert("LA" if grey else "RGBA")), 255)
        return composited[..., 0] if grey else composited
    return np.asarray(opened.convert("L" if grey else "RGB"))


def png_samples(path: Path) -> NDArray[np.generic]:
    """The samples of a PNG as stored: indices of a palette, levels of few bits unscaled; turned like the image.

    Raises:
        UserError: partly transparent, where a sample may mean nothing.
    """
    with explained_reading(path, "PNG"), _opened(path, "PNG") as opened:
        require_sane_size(path, opened.size)
        bits, colour_type = _png_form(path)
        opened.load()
        samples: NDArray[np.generic] = _deep_samples(path) if bits == 16 else np.asarray(opened)
        if opened.mode == "L" and bits < 8:
            # Pillow scales levels of 2 and 4 bits to 8.
            samples = np.floor_divide(samples, 255 // (2**bits - 1))
        if colour_type in PNG_ALPHA_TYPES:
            if (samples[..., -1] != samples[..., -1].max()).any():
                raise UserError(f"{path} is partly transparent; save the labels without transparency.")
            samples = samples[..., :-1]
            samples = samples[..., 0] if samples.shape[-1] == 1 else samples
        return turn(samples.astype(np.uint16), opened.getexif().get(ORIENTATION_TAG, 1))


def require_levels(path: Path, image: Image) -> float:
    """The value that becomes the largest level; refuses values outside 0 to it.

    Raises:
        UserError: names the range of the values.
    """
    top = 1.0 if image.unit == RELATIVE else image.full_scale
    low, high = float(image.pixels.min()), float(image.pixels.max())
    if not (low >= -ROUNDING * top and high <= top * (1 + ROUNDING)):
        raise UserError(
            f"{path}: {image.unit} values range from {low:g} to {high:g}, but only 0 to {top:g} can be written as"
            " levels; write the image as .nii.gz or .tif."
        )
    return top


def to_levels(path: Path, image: Image) -> NDArray[np.unsignedinteger]:
    """The levels to store: uint8 or uint16 `(rows, columns)` or `(rows, columns, 3)`; relative 0 to 1 become 0 to 255.

    Raises:
        UserError: a volume, HU, or values outside the range of the unit.
    """
    if len(image.size) != 2:
        raise UserError(f"{path}: the image is a volume; write it as .nii.gz, .mha or .nrrd.")
    if image.unit == HU:
        raise UserError(f"{path}: HU cannot be written as levels; write the image as .dcm or .nii.gz.")
    top = require_levels(path, image)
    scale = 255.0 if image.unit == RELATIVE else image.full_scale
    levels = np.rint(np.clip(image.pixels / top, 0, 1) * scale).astype(np.uint8 if scale == 255 else np.uint16)
    return levels[0] if len(levels) == 1 else np.ascontiguousarray(np.moveaxis(levels, 0, -1))


def write_png(path: Path, image: Image, provenance: Mapping[str, str]) -> None:
    """Write 8-bit grey or colour, or 16-bit grey, with one text chunk per entry of the provenance."""
    from PIL import Image as Pillow
    from PIL.PngImagePlugin import PngInfo

    levels = to_levels(path, image)
    if levels.ndim == 3 and levels.dtype == np.uint16:
        raise UserError(f"{path}: PNG is written with 8 bits per colour and the image has 16; write it as .tif.")
    chunks = PngInfo()
    for name, value in provenance.items():
        chunks.add_text(name, value)
    with atomic_file(path, flushed=False) as temporary:
        Pillow.fromarray(levels).save(temporary, format="PNG", pnginfo=chunks)


def write_tiff(path: Path, image: Image, provenance: Mapping[str, str]) -> None:
    """Write 8- or 16-bit levels, or float32 relative values; the description holds the provenance as JSON."""
    import tifffile

    if len(image.size) != 2:
        raise UserError(f"{path}: the image is a volume; write it as .nii.gz, .mha or .nrrd.")
    pixels = image.pixels[0] if image.unit == RELATIVE and len(image.pixels) == 1 else to_levels(path, image)
    with atomic_file(path, flushed=False) as temporary:
        tifffile.imwrite(
            temporary,
            pixels,
            photometric="rgb" if pixels.ndim == 3 else "minisblack",
            compression="deflate",
            description=json.dumps(dict(provenance)),
            metadata=None,
        )


def png_provenance(path: Path) -> dict[str, str]:
    """The text chunks of a PNG that is marked SYNTHETIC; otherwise empty."""
    with explained_reading(path, "PNG"), _opened(path, "PNG") as opened:
        chunks = {str(name): str(value) for name, value in opened.text.items()}
    return chunks if "SYNTHETIC" in chunks else {}


def tiff_provenance(path: Path) -> dict[str, str]:
    """The JSON description of a TIFF that is marked SYNTHETIC; otherwise empty."""
    import tifffile

    with explained_reading(path, "TIFF"), tifffile.TiffFile(path) as opened:
        description = opened.pages[0].description
        return dict(json.loads(description)) if description.startswith('{"SYNTHETIC"') else {}
