"""A file that a user brings, read in a process of its own and written anew: values and geometry, nothing else.

    python -m medloom.studio.uploads.arrival INCOMING FOLDER NAME KIND

Whatever was in its header, a name, a date, a comment, does not arrive. A file that claims to be far larger than it is,
or that ends the libraries that read it, ends this process and not the studio. It prints what the file is, as JSON.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medloom.core.errors import UserError
from medloom.core.image import Image
from medloom.core.spec import COLOUR, GREY, HU, RELATIVE
from medloom.data.image_io.label_maps import check_labels, stored_labels
from medloom.data.images import check_pixels, read_header, read_image, states_unit, write_derived
from medloom.studio.uploads.whole import require_whole

IMAGE, MASK, REGION = "image", "mask", "region"
# Memory of the process, and values of an image: a CT of 512 x 512 x 1,000 voxels is read.
MOST_MEMORY, MOST_VALUES = 8 * 2**30, 2**28
# Endings of files whose values are not kept exactly, and labels of a mask.
LOSSY, MOST_LABELS = (".jpg", ".jpeg"), 200
LEVELS_8, LEVELS_16 = 255, 65535
BROUGHT = "brought to the studio; written anew"


def main(words: Sequence[str]) -> int:
    """Read a file and write it anew; returns the exit status, 2 where it cannot be used."""
    incoming, folder, name, kind = Path(words[0]), Path(words[1]), words[2], words[3]
    _limit_memory()
    try:
        print(json.dumps(arrived(incoming, folder, name, kind)))
    except UserError as error:
        # The name that the file has here means nothing to its user.
        print(json.dumps({"refusal": str(error).replace(str(incoming), "the file")}))
        return 2
    except MemoryError:
        print(json.dumps({"refusal": "the file needs more memory than a file may have that is brought here."}))
        return 2
    return 0


def arrived(incoming: Path, folder: Path, name: str, kind: str) -> dict[str, Any]:
    """What a file holds; its values lie in `folder` afterwards.

    Args:
        incoming: the file, with its own ending.
        folder: of the user.
        name: of the new file, without an ending.
        kind: image, mask, or region, which is a mask that was drawn.

    Raises:
        UserError: it cannot be read, has no image, or is too large.
    """
    require_whole(incoming)
    header = read_header(incoming)
    if int(np.prod(header.size)) > MOST_VALUES:
        raise UserError(
            f"the file has {' x '.join(map(str, header.size))} values, and at most {MOST_VALUES} are read here: bring a"
            " part of it."
        )
    # The frames of a mask are one label map.
    if kind == IMAGE and header.frames > 1:
        raise UserError(
            f"the file holds {header.frames} images, and one is read here: bring that one in a file of its own."
        )
    image = read_image(incoming) if kind == IMAGE else _mask(incoming)
    if kind == IMAGE:
        check_pixels(image, incoming)
    unit = image.unit if kind == IMAGE and states_unit(incoming) else ""
    file = folder / f"{name}{_ending(image)}"
    try:
        write_derived(file, Image(image.pixels, image.unit, image.full_scale, image.spacing, image.affine), BROUGHT)
    except UserError as error:
        if isinstance(error.__cause__, OSError):
            raise UserError(not_kept(error.__cause__)) from error
        raise
    return {"file": file.name, "size": list(image.size), "unit": unit, "modality": image.modality or ""}


def not_kept(error: OSError) -> str:
    """What is said where the studio cannot write a file."""
    return (
        f"the file cannot be kept ({error.strerror}): free some space on the disk of the studio, and bring it again;"
        " nothing else is lost."
    )


def _mask(path: Path) -> Image:
    """A label map as an image that formats of images hold as it is."""
    if path.suffix.lower() in LOSSY:
        raise UserError(f"{path} is a JPEG file, which changes labels: bring a mask as PNG, DICOM, NIfTI or NRRD.")
    mask = check_labels(stored_labels(path) or read_image(path), path)
    if (count := len(np.unique(mask.pixels))) > MOST_LABELS:
        raise UserError(f"{path} has {count} different values, as a photograph has: bring a map of labels.")
    largest = float(mask.pixels.max())
    if len(mask.size) == 2 and largest <= LEVELS_16:
        return replace(mask, unit=GREY, full_scale=float(LEVELS_8 if largest <= LEVELS_8 else LEVELS_16))
    return replace(mask, unit=RELATIVE)


def _ending(image: Image) -> str:
    """The ending of a format that holds the values and the geometry."""
    if len(image.size) == 3:
        return ".nii.gz"
    if image.unit == HU:
        return ".dcm"
    return ".png" if image.unit == GREY or (image.unit == COLOUR and image.full_scale == LEVELS_8) else ".tiff"


def _limit_memory() -> None:
    """Take no more memory than a file may need."""
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
