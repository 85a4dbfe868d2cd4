"""Reading PNG and JPEG."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medloom.core.image import Header, Image, channel_first, choose_frame, full_scale_of
from medloom.core.spec import COLOUR, GREY
from medloom.data.image_io.reading import explained_reading, require_sane_size

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

FORMATS = {"PNG": ("PNG",), "JPEG": ("JPEG", "MPO")}
GREY_MODES = ("1", "L", "LA")
ORIENTATION_TAG = 0x0112
PNG_FORM_OFFSET = 24
PNG_GREY_TYPES = (0, 4)


def read_png(path: Path, frame: int | None, unit: str | None) -> Image:
    """Read a PNG: 1 to 16 bits, grey, colour or palette, alpha composited on black."""
    return _read(path, "PNG", frame)


def read_jpeg(path: Path, frame: int | None, unit: str | None) -> Image:
    """Read a JPEG, grey or colour, turned as its EXIF orientation says."""
    return _read(path, "JPEG", frame)


def png_header(path: Path, unit: str | None) -> Header:
    """The header of a PNG."""
    return _header(path, "PNG")


def jpeg_header(path: Path, unit: str | None) -> Header:
    """The header of a JPEG."""
    return _header(path, "JPEG")


def composite_on_black(pixels: NDArray[Any], full_scale: float) -> NDArray[np.float32]:
    """`(rows, columns, C + 1)`, alpha last and not premultiplied, as float32 `(rows, columns, C)` over black."""
    values = pixels.astype(np.float32)
    return values[..., :-1] * (values[..., -1:] / np.float32(full_scale))


def turn(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Rows and columns as an EXIF or TIFF orientation (1 to 8) says that they are to be shown."""
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _read(path: Path, kind: str, frame: int | None) -> Image:
    choose_frame(path, 1, frame)
    with explained_reading(path, kind):
        with _opened(path, kind) as opened:
            require_sane_size(path, opened.size)
            bits = _bits(path, kind)
            pixels = _deep_pixels(path) if bits == 16 else _pillow_pixels(opened)
            pixels = turn(pixels, opened.getexif().get(ORIENTATION_TAG, 1))
        planes = channel_first(pixels)
    return Image(planes, COLOUR if len(planes) == 3 else GREY, full_scale_of(bits))


def _header(path: Path, kind: str) -> Header:
    with explained_reading(path, kind), _opened(path, kind) as opened:
        rows_and_columns = (opened.height, opened.width)
        require_sane_size(path, rows_and_columns)
        if _header_orientation(opened) in (5, 6, 7, 8):
            rows_and_columns = rows_and_columns[::-1]
        grey = _is_grey(path, opened)
        return Header(kind, rows_and_columns, 1 if grey else 3, _bits(path, kind), GREY if grey else COLOUR, frames=1)


def _opened(path: Path, kind: str) -> "PillowImage":
    from PIL import Image as Pillow

    return Pillow.open(path, formats=FORMATS[kind])


def _header_orientation(opened: "PillowImage") -> int:
    # Of a PNG without EXIF before its pixels, getexif would decode all pixels to look behind them.
    if opened.format == "PNG" and "exif" not in opened.info:
        return 1
    return int(opened.getexif().get(ORIENTATION_TAG, 1))


def _bits(path: Path, kind: str) -> int:
    if kind != "PNG":
        return 8
    return 16 if _png_form(path)[0] == 16 else 8


def _png_form(path: Path) -> tuple[int, int]:
    """Bit depth and colour type, the two bytes after the size in a PNG's first chunk."""
    with path.open("rb") as stream:
        stream.seek(PNG_FORM_OFFSET)
        depth, colour_type = stream.read(2)
    return depth, colour_type


def _is_grey(path: Path, opened: "PillowImage") -> bool:
    # Pillow opens 16-bit grey with alpha as colour.
    return _png_form(path)[1] in PNG_GREY_TYPES if opened.format == "PNG" else opened.mode in GREY_MODES


def _deep_pixels(path: Path) -> NDArray[Any]:
    # Pillow silently gives 8 of the 16 bits in colour or with alpha.
    import imagecodecs

    pixels = imagecodecs.png_decode(path.read_bytes())
    if pixels.ndim == 3 and pixels.shape[-1] in (2, 4):
        pixels = composite_on_black(pixels, 65535)
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels


def _pillow_pixels(opened: "PillowImage") -> NDArray[Any]:
    opened.load()
    grey = opened.mode in GREY_MODES
    if "A" in opened.mode or "transparency" in opened.info:
        shown = composite_on_black(np.asarray(opened.convert("LA" if grey else "RGBA")), 255)
        return shown[..., 0] if grey else shown
    return np.asarray(opened.convert("L" if grey else "RGB"))
