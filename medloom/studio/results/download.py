"""Results to take away: the folder as a ZIP file, its images as they are or in another format."""

import csv
import io
import zipfile
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.data.images import read_image, read_provenance, write_image
from medloom.generation.kept_images import MANIFEST
from medloom.generators.generated_images import FORMATS, suffix_of
from medloom.studio.results.folder import Result
from medloom.studio.results.pictures import open_image

AS_MADE = "as made"
DOWNLOADS = (AS_MADE, "png", "dicom", "nifti")


def downloads_of(result: Result) -> list[str]:
    """The formats that can hold the images of a result."""
    if not result.images:
        return []
    first = open_image(result.images[0].path)
    found = [AS_MADE]
    for form in DOWNLOADS[1:]:
        with suppress(UserError):
            suffix_of(form, {first.unit}, len(first.size))
            found.append(form)
    return found


def write_zip(result: Result, form: str, target: Path) -> None:
    """Write the images with their manifest and pictures to a ZIP file.

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
        files = {image.path.name: image.path for image in result.images}
        if form != AS_MADE:
            ending = FORMATS[form]
            files = {
                old: _converted(path, Path(name) / f"{old.partition('.')[0]}{ending}") for old, path in files.items()
            }
        for path in files.values():
            archive.write(path, path.name)
        if (result.folder / MANIFEST).is_file():
            archive.writestr(MANIFEST, _renamed(result.folder / MANIFEST, files))
        for picture in result.pictures:
            archive.write(result.folder / picture, picture)


def _converted(path: Path, target: Path) -> Path:
    """The image in another format, with its provenance."""
    image = read_image(path)
    write_image(target, image, read_provenance(path))
    return target


def _renamed(manifest: Path, files: dict[str, Path]) -> str:
    """The manifest with the names that the files have now."""
    with manifest.open(encoding="utf-8", newline="") as stream:
        header, *rows = list(csv.reader(stream))
    column, written = header.index("path"), io.StringIO()
    writer = csv.writer(written)
    writer.writerow(header)
    for row in rows:
        row[column] = files[row[column]].name if row[column] in files else row[column]
        writer.writerow(row)
    return written.getvalue()
