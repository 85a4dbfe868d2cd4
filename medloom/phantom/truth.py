"""The ground truth of a written cohort: twins, true differences, and the patient of an image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.files import explained_content, read_mapping
from medloom.data.images import read_image
from medloom.data.tables import read_table, row_ids
from medloom.phantom.anatomy import Visit
from medloom.phantom.causal import Patient, counterfactual, evolved
from medloom.phantom.cohort import MARKER
from medloom.phantom.cohort_spec import CT, CohortSpec, Picture


@dataclass(frozen=True)
class Twins:
    """The factual and the counterfactual image of one acquisition, without the scanner's noise.

    Attributes:
        factual: the factual image.
        other: the image if the variables had been set.
    """

    factual: Picture
    other: Picture

    @property
    def difference(self) -> NDArray[np.float32]:
        """Counterfactual minus factual, in the unit of the images."""
        return self.other.values - self.factual.values


class Cohort:
    """The ground truth of a written cohort."""

    def __init__(self, folder: Path) -> None:
        """Open a cohort.

        Raises:
            UserError: `folder` holds no cohort.
        """
        if not (folder / MARKER).is_file():
            raise UserError(
                f"{folder} holds no phantom cohort ({MARKER} is missing); name a folder that `data phantom` wrote."
            )
        self.folder = folder
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in read_mapping(folder / MARKER).items()
        }
        values.pop("SYNTHETIC", None)
        with explained_content(folder / MARKER):
            self.spec = CohortSpec(**values)
        # From the salted hash of a manifest's row, which images carry, to (patient, acquisition, modality).
        self._sources: dict[str, tuple[int, int, str]] = {}
        self._images: dict[str, Path] = {}
        for file in sorted(self.folder.glob("*.csv")):
            table = read_table(file)
            if "path" not in table.header:
                continue
            column = table.header.index("path")
            for source, cells in zip(row_ids(file, table.lines), table.rows, strict=True):
                number, acquisition, *other = Path(str(cells[column])).name.split(".")[0].split("-", 2)
                self._sources[source] = (int(number), int(acquisition), other[0] if other else CT)
                self._images[source] = self.folder / str(cells[column])

    def patient_of(self, source: str) -> tuple[Patient, Visit, str]:
        """The patient at the visit, the visit and the modality of a `source_id` of generated images.

        Raises:
            UserError: the images were generated for rows of another table.
        """
        self._require(source)
        number, acquisition, modality = self._sources[source]
        patient = self.spec.patient(number)
        visit = self.spec.visits_of(patient)[acquisition]
        return evolved(patient, visit.size), visit, modality

    def image_of(self, source: str) -> Path:
        """The file of the patient's own image of a `source_id` of generated images.

        Raises:
            UserError: the images were generated for rows of another table.
        """
        self._require(source)
        return self._images[source]

    def _require(self, source: str) -> None:
        if source not in self._sources:
            raise UserError(
                f"source {source} is not a row of a table in {self.folder}; --truth takes the cohort whose own"
                " train.csv or test.csv, unchanged, was given to `medloom whatif --data`."
            )

    def acquisition(self, image: Path) -> tuple[Patient, Visit]:
        """The patient at the visit, and the visit, of one of the cohort's images.

        Raises:
            UserError: the image does not belong to the cohort.
        """
        if not image.resolve().is_relative_to(self.folder.resolve()):
            raise UserError(
                f"{image} is not an image of the cohort in {self.folder}; --truth takes the cohort of --reference."
            )
        number, acquisition, *_ = image.name.split(".")[0].split("-", 2)
        patient = self.spec.patient(int(number))
        visit = self.spec.visits_of(patient)[int(acquisition)]
        return evolved(patient, visit.size), visit

    def progression(self, before: Path, after: Path) -> Twins:
        """The true pair for what happened to a patient between two images, both in the position of the first.

        Raises:
            UserError: an image that does not belong to the cohort.
        """
        (patient, visit), (later, _) = self.acquisition(before), self.acquisition(after)
        return Twins(*(self.spec.render(entry, visit, noisy=False) for entry in (patient, later)))

    def mask_of(self, image: Path) -> NDArray[np.uint8]:
        """The condition mask of one of the cohort's images, by its name."""
        name = image.name.split(".")[0]
        suffix = ".png" if self.spec.dims == 2 else ".nii.gz"
        return np.asarray(read_image(self.folder / "masks" / f"{name}{suffix}").pixels[0].round(), np.uint8)

    def twins(self, source: str, do: Mapping[str, object], hold: Sequence[str] = ()) -> Twins:
        """The true pair for a change of some variables while others are held; no change gives two equal images."""
        patient, visit, modality = self.patient_of(source)
        pair = (patient, counterfactual(patient, do, hold))
        return Twins(*(self.spec.render(entry, visit, modality, noisy=False) for entry in pair))
