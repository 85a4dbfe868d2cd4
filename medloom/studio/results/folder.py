"""The folder of a job's results, as its command makes it: its images, and what the manifest says of each."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medloom.core.errors import UserError
from medloom.core.files import explained_content, read_mapping
from medloom.core.spec import ImageSpec
from medloom.generation.kept_images import MANIFEST, numbered_images
from medloom.generators.generated_images import FACTUAL

DESCRIPTIONS = ("generation.json", "edit.json", "whatif.json")
# Pictures and pages that commands write next to the images, in the order in which they are shown.
PICTURES = ("steps.png", "grid.png", "differences.png", "edits.png", "guidance_grid.png")


@dataclass(frozen=True)
class ResultImage:
    """A generated image.

    Attributes:
        number: of the image in its folder.
        path: its file.
        row: what the manifest says of it; empty while the command runs.
    """

    number: int
    path: Path
    row: Mapping[str, str] = field(default_factory=dict)

    @property
    def seed(self) -> str:
        """That all of its noise was drawn from."""
        return self.row.get("seed", "")

    @property
    def arm(self) -> str:
        """`factual`, or what was changed."""
        return self.row.get("arm", FACTUAL)

    @property
    def modality(self) -> str:
        """Its modality; empty where the manifest does not say it."""
        return self.row.get("modality", "")


@dataclass(frozen=True)
class Result:
    """What a job has made so far.

    Attributes:
        folder: of the results.
        images: in order.
        pictures: names of pictures next to them.
    """

    folder: Path
    images: tuple[ResultImage, ...]
    pictures: tuple[str, ...]

    def image(self, number: int) -> ResultImage:
        """An image by its number.

        Raises:
            UserError: there is none.
        """
        found = next((image for image in self.images if image.number == number), None)
        if found is None:
            raise UserError(f"there is no image {number} in this result.")
        return found

    def description(self) -> dict[str, object]:
        """What the command says of the folder; empty while there is nothing."""
        there = next((self.folder / name for name in DESCRIPTIONS if (self.folder / name).is_file()), None)
        return {} if there is None else read_mapping(there)

    def spec(self) -> ImageSpec | None:
        """The image space of the model that made the images; None where the folder does not say it."""
        described: Mapping[str, Any] = self.description()
        if "spec" not in described:
            return None
        with explained_content(self.folder):
            return ImageSpec.from_dict(described["spec"])

    def unit_of(self, image: ResultImage) -> str | None:
        """The unit of an image's values, which volumes as NIfTI do not state; None where the folder does not say it."""
        spec = self.spec()
        intensities = {} if spec is None else spec.intensity
        modality = image.modality or (next(iter(intensities)) if len(intensities) == 1 else "")
        return intensities[modality].output_unit if modality in intensities else None


def read_result(folder: Path) -> Result:
    """The images of a folder, also of one that a command is writing."""
    if not folder.is_dir():
        return Result(folder, (), ())
    rows: dict[str, dict[str, str]] = {}
    if (folder / MANIFEST).is_file():
        with (folder / MANIFEST).open(encoding="utf-8", newline="") as stream:
            rows = {row["path"]: row for row in csv.DictReader(stream)}
    images = [
        ResultImage(int(path.name.partition(".")[0]), path, rows.get(path.name, {})) for path in numbered_images(folder)
    ]
    return Result(folder, tuple(images), tuple(name for name in PICTURES if (folder / name).is_file()))
