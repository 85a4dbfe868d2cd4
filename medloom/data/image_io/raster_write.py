"""Writing PNG and TIFF with their provenance, and reading it back."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from medloom.core.errors import UserError
from medloom.core.files import atomic_file
from medloom.core.image import Image
from medloom.core.spec import RELATIVE
from medloom.data.image_io.levels import to_levels
from medloom.data.image_io.reading import explained_reading


def write_png(path: Path, image: Image, provenance: Mapping[str, str]) -> None:
    """Write 8-bit grey or colour, or 16-bit grey, with one text chunk for each entry of the provenance."""
    from PIL import Image as Pillow
    from PIL.PngImagePlugin import PngInfo

    levels = to_levels(path, image)
    if levels.ndim == 3 and levels.dtype == np.uint16:
        raise UserError(f"{path}: PNG is written with 8 bits a colour and the image has 16; write it as .tif.")
    chunks = PngInfo()
    for name, value in provenance.items():
        chunks.add_text(name, value)
    with atomic_file(path) as temporary:
        Pillow.fromarray(levels).save(temporary, format="PNG", pnginfo=chunks)


def write_tiff(path: Path, image: Image, provenance: Mapping[str, str]) -> None:
    """Write 8- or 16-bit levels, or float32 for relative values; provenance as JSON in the description."""
    import tifffile

    if len(image.size) != 2:
        raise UserError(f"{path}: the image is a volume; write it as .nii.gz, .mha or .nrrd.")
    pixels = image.pixels[0] if image.unit == RELATIVE and len(image.pixels) == 1 else to_levels(path, image)
    with atomic_file(path) as temporary:
        tifffile.imwrite(
            temporary,
            pixels,
            photometric="rgb" if pixels.ndim == 3 else "minisblack",
            compression="deflate",
            description=json.dumps(dict(provenance)),
            metadata=None,
        )


def png_provenance(path: Path) -> dict[str, str]:
    """The text chunks of a PNG that says SYNTHETIC, or nothing."""
    from PIL import Image as Pillow

    with explained_reading(path, "PNG"), Pillow.open(path, formats=("PNG",)) as opened:
        chunks = {str(name): str(value) for name, value in opened.text.items()}
    return chunks if "SYNTHETIC" in chunks else {}


def tiff_provenance(path: Path) -> dict[str, str]:
    """The JSON description of a TIFF that says SYNTHETIC, or nothing."""
    import tifffile

    with explained_reading(path, "TIFF"), tifffile.TiffFile(path) as opened:
        description = opened.pages[0].description
        return dict(json.loads(description)) if description.startswith('{"SYNTHETIC"') else {}
