"""Generated images: values in their unit, geometry and provenance, and the one way in which they are written."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

import medloom
from medloom.core.cells import plain_number
from medloom.core.errors import UserError
from medloom.core.files import relative_path, write_json
from medloom.core.frames import as_path
from medloom.core.image import Image
from medloom.core.lookup import look_up
from medloom.core.spec import HU
from medloom.core.types import Condition
from medloom.data.images import WRITERS, write_image
from medloom.data.tables import write_csv

FORMATS = {"png": ".png", "tiff": ".tiff", "dicom": ".dcm", "nifti": ".nii.gz", "nrrd": ".nrrd", "mhd": ".mhd"}
# Endings of images that are not written, which are no names of folders either.
PICTURES = (".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".npy", ".npz", ".pt", ".h5")
HEADER = (
    "sample_id", "path", "source_id", "condition", "arm", "attribute", "value", "seed", "patient", "modality", "view",
)  # fmt: skip
# Column of the conditions' texts, where they are written.
TEXT = "text"
FACTUAL = "factual"
# Of an image's provenance: the program that made it.
VERSION = "generator"
# What files of edited images say besides that they are synthetic.
EDITED = "an edit of a patient's image; it may contain pixels of that image"


@dataclass(frozen=True, eq=False)
class GeneratedImage:
    """One generated image.

    Attributes:
        image: values with spacing and affine.
        condition: what it was asked to show.
        seed: that all of its noise was drawn from.
        model_hash: of the model's components on disk; empty for a model that was not loaded.
        options: hash of how it was sampled; empty where that is not recorded.

    Examples:
        >>> import medloom
        >>> model = medloom.load("runs/mm")
        >>> image = model.generate(medloom.Condition("Normal chest.", "CXR"), seed=3)[0]
        >>> image.pixels.shape, image.unit, image.seed
        ((1, 16, 16), 'grey level', 3)
    """

    image: Image
    condition: Condition
    seed: int
    model_hash: str = ""
    options: str = ""

    @property
    def pixels(self) -> NDArray[np.float32]:
        """Float32 `(C, *size)` in `unit`."""
        return self.image.pixels

    @property
    def unit(self) -> str:
        """HU, grey or colour levels, or relative values from 0 to 1."""
        return self.image.unit

    def provenance(self, full: bool = False) -> dict[str, str]:
        """What every file says: that it is synthetic, by which model, from which seed, and a hash of the condition.

        Of an edit also that it may contain pixels of the patient's image.

        Args:
            full: with the condition's text and modality themselves.

        Examples:
            >>> import medloom
            >>> model = medloom.load("runs/mm")
            >>> image = model.generate(medloom.Condition("Normal chest.", "CXR"), seed=3)[0]
            >>> image.provenance()["SYNTHETIC"], image.provenance(full=True)["text"]
            ('YES', 'Normal chest.')
        """
        values = {"SYNTHETIC": "YES", VERSION: f"medloom {medloom.__version__}", "model": self.model_hash}
        values |= {"seed": str(self.seed), "condition": self.condition.hash()}
        if self.options:
            values["options"] = self.options
        if self.condition.prior is not None:
            values["DERIVED"] = EDITED
        if full:
            values |= {"text": self.condition.text or "", "modality": self.condition.modality or ""}
        return values

    def save(self, path: Path | str, full_provenance: bool = False) -> Path:
        """Write the image by the ending of the name, with its provenance; returns the path.

        Args:
            path: a file name.
            full_provenance: write the condition's text itself, not only its hash.

        Raises:
            UserError: a format that is not written or cannot hold the values.

        Examples:
            >>> import medloom
            >>> model = medloom.load("runs/mm")
            >>> image = model.generate(medloom.Condition("Normal chest.", "CXR"), seed=3)[0]
            >>> print(image.save("normal.png"))
            normal.png
        """
        path = as_path(path)
        write_image(path, self.image, self.provenance(full_provenance))
        return path


class GeneratedImages(Sequence[GeneratedImage]):
    """Generated images in the order in which they were asked for.

    Examples:
        >>> import medloom
        >>> model = medloom.load("runs/mm")
        >>> condition = medloom.Condition("Normal chest.", "CXR")
        >>> images = model.generate(condition, seeds=[3, 4])
        >>> len(images), images.pixels.shape, images[1].seed
        (2, (2, 1, 16, 16), 4)
    """

    def __init__(self, images: Iterable[GeneratedImage]) -> None:
        self._images = tuple(images)

    def __len__(self) -> int:
        return len(self._images)

    def __repr__(self) -> str:
        shapes = {f"{' x '.join(map(str, image.pixels.shape))} in {image.unit}" for image in self._images}
        return f"{len(self)} generated images: {', '.join(sorted(shapes))}" if shapes else "no generated images"

    def _require_any(self) -> None:
        """Refuse what no image has."""
        if not self._images:
            raise UserError("there are no generated images: no condition was given.")

    def __iter__(self) -> Iterator[GeneratedImage]:
        return iter(self._images)

    @overload
    def __getitem__(self, index: int) -> GeneratedImage: ...
    @overload
    def __getitem__(self, index: slice) -> "GeneratedImages": ...
    def __getitem__(self, index: int | slice) -> "GeneratedImage | GeneratedImages":
        found = self._images[index]
        return GeneratedImages(found) if isinstance(found, tuple) else found

    @property
    def pixels(self) -> NDArray[np.float32]:
        """Float32 `(N, C, *size)` in the images' unit.

        Raises:
            UserError: the images have several sizes, to be taken one by one; or there is none.
        """
        self._require_any()
        if len({image.pixels.shape for image in self._images}) != 1:
            raise UserError("the images have several sizes; take their pixels one by one.")
        return np.stack([image.pixels for image in self._images])

    @property
    def unit(self) -> str:
        """The unit of all images.

        Raises:
            UserError: they have several units, or there is no image.
        """
        self._require_any()
        units = {image.unit for image in self._images}
        if len(units) != 1:
            raise UserError(f"the images are in several units ({', '.join(sorted(units))}); take them one by one.")
        return units.pop()

    def save(self, path: Path | str, format: str = "auto", full_provenance: bool = False) -> Path:
        """Write one image to a file, or any number to a folder with manifest.csv; returns the path.

        Args:
            path: a file name with an ending, for one image; else a new folder.
            format: of a folder's files: auto, png, tiff, dicom, nifti, nrrd or mhd.
            full_provenance: write texts themselves into files and manifest, not only hashes of conditions.

        Raises:
            UserError: a format that cannot hold the values, several images for one file, a folder in use, or no image.

        Examples:
            >>> import medloom
            >>> model = medloom.load("runs/mm")
            >>> condition = medloom.Condition("Normal chest.", "CXR")
            >>> images = model.generate(condition, seeds=[3, 4])
            >>> folder = images.save("normal")
            >>> sorted(path.name for path in folder.iterdir())
            ['000000.png', '000001.png', 'generation.json', 'manifest.csv']
        """
        self._require_any()
        path = as_path(path)
        if path.suffix.lower() in PICTURES:
            raise UserError(f"{path}: images are written as {', '.join(WRITERS)}; or name a folder.")
        if any(path.name.lower().endswith(ending) for ending in WRITERS):
            if len(self) != 1:
                raise UserError(f"{path}: {len(self)} images do not go into one file; name a folder.")
            return self._images[0].save(path, full_provenance)
        suffix = suffix_of(format, {image.unit for image in self._images}, self._images[0].pixels.ndim - 1)
        if path.is_file():
            raise UserError(f"{path} is a file; name a new folder, or a file with an ending of an image's format.")
        if path.exists() and any(path.iterdir()):
            raise UserError(f"{path} is not empty; name a new folder.")
        write_json(path / "generation.json", {"SYNTHETIC": "YES", "model": self._images[0].model_hash})
        rows, columns = [], list(dict.fromkeys(name for image in self._images for name in image.condition.table))
        files = ["mask", "prior"] if any(i.condition.mask_file or i.condition.prior_file for i in self._images) else []
        for number, image in enumerate(self._images):
            image.save(path / f"{number:06d}{suffix}", full_provenance)
            condition = image.condition
            given = [condition.mask_file, condition.prior_file] if files else []
            further = [relative_path(file, path) for file in given]
            cells = [plain_number(condition.table.get(name)) for name in columns]
            own = [*manifest_row(f"{number:06d}", suffix, condition, image.seed)]
            rows.append([*own, *([condition.text] if full_provenance else []), *further, *cells])
        texts = [TEXT] if full_provenance else []
        write_csv(path / "manifest.csv", [*HEADER, *texts, *files, *columns], rows)
        return path


def manifest_row(
    sample_id: str,
    suffix: str,
    condition: Condition,
    seed: int,
    source: str = "",
    patient: str = "",
    arm: tuple[str, str | None, str | None] = (FACTUAL, None, None),
) -> list[object]:
    """One row of a manifest of generated images, in the order of HEADER."""
    known = (condition.modality, condition.view)
    return [sample_id, f"{sample_id}{suffix}", source, condition.hash(), *arm, seed, patient, *known]


def suffix_of(form: str, units: set[str], dims: int) -> str:
    """The ending of images' files.

    Args:
        form: auto (PNG, or DICOM for values in HU; NIfTI in 3-D) or a name in FORMATS.
        units: of the images.
        dims: 2 or 3.

    Raises:
        UserError: a format that is not known or cannot hold the values.
    """
    if form == "auto":
        form = "nifti" if dims == 3 else "dicom" if HU in units else "png"
    suffix = look_up(FORMATS, form, "--format")
    if HU in units and form in ("png", "tiff"):
        raise UserError(f"--format {form} cannot hold values in HU; use dicom, nifti, nrrd or mhd.")
    if dims == 3 and form in ("png", "tiff", "dicom"):
        raise UserError(f"--format {form} cannot hold a volume; use nifti, nrrd or mhd.")
    return suffix
