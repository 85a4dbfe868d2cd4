"""Reading TIFF: grey, colour and palette of 1 to 16 bits, and float."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.image import Header, Image, channel_first, choose_frame, full_scale_of
from medloom.core.spec import COLOUR, GREY, RELATIVE
from medloom.data.image_io.raster import composite_on_black, turn
from medloom.data.image_io.reading import explained_reading, require_sane_size

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
JPEG_COMPRESSIONS = (6, 7)
REDUCED_COPY = 1
UNASSOCIATED_ALPHA = 2
ORIENTATION_TAG = 274


def read_tiff(path: Path, frame: int | None, unit: str | None) -> Image:
    """Read one page of a TIFF; levels of other than 8 or 16 bits are scaled to the next of the two."""
    import tifffile

    with explained_reading(path, "TIFF"), tifffile.TiffFile(path) as opened:
        pages = _full_pages(opened)
        page = pages[choose_frame(path, len(pages), frame)]
        _require_readable(path, page)
        _require_complete(path, page)
        planes, page_unit = channel_first(turn(_displayed(page), _orientation(page))), _unit(page)
    bits = 8 if page.photometric == PALETTE else _bits(page)
    return Image(planes, page_unit, float("nan") if page_unit == RELATIVE else full_scale_of(bits), frame=frame)


def tiff_header(path: Path, unit: str | None) -> Header:
    """The header of a TIFF's first page."""
    import tifffile

    with explained_reading(path, "TIFF"), tifffile.TiffFile(path) as opened:
        pages = _full_pages(opened)
        page = pages[0]
        _require_readable(path, page)
        size, page_unit = (page.imagelength, page.imagewidth), _unit(page)
        return Header(
            "TIFF",
            size[::-1] if _orientation(page) in (5, 6, 7, 8) else size,
            3 if page_unit == COLOUR else 1,
            8 if page.photometric == PALETTE else _bits(page),
            page_unit,
            len(pages),
        )


def tiff_samples(path: Path, frame: int | None) -> NDArray[np.generic]:
    """The samples of a TIFF's page: indices of a palette, levels unscaled; of one bit white is 1."""
    import tifffile

    with explained_reading(path, "TIFF"), tifffile.TiffFile(path) as opened:
        pages = _full_pages(opened)
        page = pages[choose_frame(path, len(pages), frame)]
        _require_readable(path, page)
        _require_complete(path, page)
        stored: NDArray[np.generic] = page.asarray()
        samples = np.moveaxis(stored, 0, -1) if page.axes.startswith("S") else stored
        colours = 3 if page.photometric in (RGB, YCBCR) else 1
        samples = samples[..., :colours] if samples.ndim == 3 else samples
        samples = samples[..., 0] if samples.ndim == 3 and colours == 1 else samples
        if page.photometric == WHITE_IS_ZERO and samples.dtype.kind == "b":
            samples = np.logical_not(samples)
        return turn(samples, _orientation(page))


def _full_pages(opened: "TiffFile") -> "list[TiffPage]":
    return [page for page in opened.pages if not page.subfiletype & REDUCED_COPY]


def _bits(page: "TiffPage") -> int:
    return int(page.dtype.itemsize * 8) if page.dtype.kind == "f" else int(page.bitspersample)


def _orientation(page: "TiffPage") -> int:
    return int(getattr(page.tags.get(ORIENTATION_TAG), "value", 1))


def _unit(page: "TiffPage") -> str:
    if page.photometric in (RGB, PALETTE, YCBCR):
        return COLOUR
    return GREY if page.dtype.kind in "ub" and _bits(page) <= 16 else RELATIVE


def _require_readable(path: Path, page: "TiffPage") -> None:
    require_sane_size(path, (page.imagelength, page.imagewidth))
    photometric = page.photometric
    if photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, YCBCR) or (
        photometric == YCBCR and page.compression not in JPEG_COMPRESSIONS
    ):
        raise UserError(f"{path} stores TIFF colours as {photometric}; save it as grey, RGB or palette.")
    colours = 3 if photometric in (RGB, YCBCR) else 1
    if page.imagedepth > 1 or page.samplesperpixel - len(page.extrasamples or ()) != colours:
        raise UserError(
            f"{path} is a TIFF of shape {page.shape} (axes {page.axes}); only one grey or RGB image per page is read."
        )
    if _unit(page) == COLOUR and (page.dtype.kind not in "ub" or _bits(page) > 16):
        raise UserError(f"{path} is a colour TIFF of {page.dtype} values; save it with 8 or 16 bits per channel.")


def _require_complete(path: Path, page: "TiffPage") -> None:
    # A missing or short strip would be filled with zeros.
    ends = [start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if 0 in page.databytecounts or not ends or max(ends) > path.stat().st_size:
        raise UserError(f"{path} is cut short: its pixels should end at byte {max(ends, default=0)}; copy it again.")


def _displayed(page: "TiffPage") -> NDArray[np.generic]:
    """`(rows, columns)` or `(rows, columns, 3)`, larger is brighter, levels relative to the full scale."""
    stored: NDArray[np.generic] = page.asarray()
    if page.axes.startswith("S"):
        stored = np.moveaxis(stored, 0, -1)
    if page.photometric == PALETTE:
        palette = np.asarray(page.colormap)
        # The standard requires 16-bit entries; some writers give 8.
        return np.asarray((palette >> 8 if palette.max() > 255 else palette).T[stored.astype(np.uint16)])
    unit = _unit(page)
    colours = 3 if unit == COLOUR else 1
    if stored.ndim == 2:
        stored = stored[..., None]
    values, full_scale = stored.astype(np.float32), full_scale_of(_bits(page))
    if unit != RELATIVE:
        values = values * np.float32(full_scale / (2 ** _bits(page) - 1))
    displayed = values[..., :colours]
    if page.photometric == WHITE_IS_ZERO:
        displayed = -displayed if unit == RELATIVE else full_scale - displayed
    if (page.extrasamples or (0,))[0] == UNASSOCIATED_ALPHA:
        displayed = composite_on_black(np.concatenate([displayed, values[..., colours : colours + 1]], -1), full_scale)
    return displayed[..., 0] if colours == 1 else displayed
