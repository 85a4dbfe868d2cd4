"""Results to take away: the folder as a ZIP file, its images as they are or in another format."""

import zipfile
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from medloom.core.errors import UserError
from medloom.core.image import Image
from medloom.core.lookup import look_up
from medloom.data.images import read_image, read_provenance, require_series, write_image, write_series
from medloom.generation.kept_images import MANIFEST
from medloom.generators.generated_images import FORMATS, suffix_of
from medloom.studio.results.folder import Result, ResultImage
from medloom.studio.results.manifest_copy import rewritten
from medloom.studio.results.opening import opened, stated

AS_MADE, DICOM, NIFTI = "as made", "dicom", "nifti"
DOWNLOADS = (AS_MADE, "png", DICOM, NIFTI)
# Axes of an image that is no volume.
FLAT = 2


def downloads_of(result: Result) -> list[str]:
    """The formats that can hold the images of a result."""
    if not result.images:
        return []
    first = opened(result, result.images[0])
    found = [AS_MADE]
    for form in DOWNLOADS[1:]:
        with suppress(UserError):
            if _is_series(form, first):
                require_series(result.images[0].path, first)
            else:
                suffix_of(form, {first.unit}, len(first.size))
                if form == NIFTI and len(first.size) == FLAT and first.affine is None:
                    # Its header would state millimetres and sides that nobody knows.
                    continue
            found.append(form)
    return found


def write_zip(result: Result, form: str, target: Path) -> None:
    """Write the images with all else of their folder to a ZIP file; a volume as DICOM is a folder of its slices.

    The masks that the manifest names come with them. The files of prior images do not: their cells are empty.

    Args:
        result: finished.
        form: one of DOWNLOADS.
        target: the file.

    Raises:
        UserError: there is no image, or the format cannot hold them.
    """
    if not result.images:
        raise UserError("there is no image to take away yet.")
    look_up(dict.fromkeys(downloads_of(result)), form, "format for these images")
    with TemporaryDirectory() as name, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        files = {
            image.path.name: image.path if form == AS_MADE else _converted(result, image, form, Path(name))
            for image in result.images
        }
        for path in files.values():
            for file in sorted(path.iterdir()) if path.is_dir() else [path]:
                archive.write(file, file.relative_to(path.parent).as_posix())
        images = {image.path for image in result.images}
        for file in sorted(result.folder.rglob("*")):
            if file.is_file() and file not in images and file.name != MANIFEST and not file.name.startswith("."):
                archive.write(file, file.relative_to(result.folder).as_posix())
        if (result.folder / MANIFEST).is_file():
            masks: dict[Path, str] = {}
            archive.writestr(MANIFEST, rewritten(result.folder / MANIFEST, partial(_place, result, files, masks)))
            for file, name in masks.items():
                archive.write(file, name)


def _converted(result: Result, own: ResultImage, form: str, folder: Path) -> Path:
    """An image in another format in a folder, with its provenance."""
    image, provenance = stated(result, own, read_image(own.path)), read_provenance(own.path)
    stem = own.path.name.partition(".")[0]
    if _is_series(form, image):
        target = folder / stem
        write_series(target, image, provenance)
    else:
        target = folder / f"{stem}{FORMATS[form]}"
        write_image(target, image, provenance)
    return target


def _is_series(form: str, image: Image) -> bool:
    return form == DICOM and len(image.size) == 3


def _place(result: Result, files: Mapping[str, Path], masks: dict[Path, str], column: str, path: str) -> str:
    """Where a file of the manifest lies in the ZIP file; masks are noted."""
    if column == "path":
        return files[path].name if path in files else path
    file = (result.folder / path).resolve()
    if column != "mask" or not file.is_file():
        return ""
    masks.setdefault(file, f"masks/{len(masks):06d}{''.join(file.suffixes[-2:])}")
    return masks[file]
