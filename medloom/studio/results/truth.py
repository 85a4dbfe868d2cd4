"""The true counterfactual of a virtual patient, next to what a model answers."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medloom.core.image import Image
from medloom.phantom.causal import counterfactual
from medloom.phantom.cohort import MARKER
from medloom.phantom.cohort_spec import CT
from medloom.phantom.truth import Cohort
from medloom.studio.results.folder import Result
from medloom.studio.results.opening import opened

# What a job's form has of a virtual patient.
COHORT, ROW_IMAGE = "cohort", "row_image"


@dataclass(frozen=True)
class VirtualCase:
    """A patient of a virtual cohort.

    Attributes:
        cohort: folder of the cohort.
        image: the patient's own image in it.
    """

    cohort: Path
    image: Path

    def images(self, changes: Mapping[str, Any], held: Sequence[str] = ()) -> tuple[Image, Image]:
        """The true images without and with a change, free of the scanner's noise.

        Args:
            changes: column -> value.
            held: columns that keep their values.

        Raises:
            UserError: the cohort is gone, or the change is impossible for the patient.
        """
        known = _cohort(self.cohort)
        patient, visit = known.acquisition(self.image)
        # A cohort of several modalities names that of an image in its file: 0001-0-X-ray.
        modality = [*self.image.name.split(".")[0].split("-", 2), CT][2]
        drawn = []
        for each in (patient, counterfactual(patient, changes, held) if changes else patient):
            picture = known.spec.render(each, visit, modality, noisy=False)
            drawn.append(known.spec.image(picture.values, picture.unit, modality))
        return drawn[0], drawn[1]

    def values(self, changes: Mapping[str, Any], held: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, Any]]:
        """The variables of the patient without and with a change; see `images`."""
        patient, _ = _cohort(self.cohort).acquisition(self.image)
        other = counterfactual(patient, changes, held) if changes else patient
        return dict(patient.values), dict(other.values)


def described_case(table: Path, image: Path | None) -> dict[str, str]:
    """What the form of a job keeps of a row of a virtual cohort; nothing of another table's row."""
    cohort = table.parent
    if image is None or not (cohort / MARKER).is_file():
        return {}
    return {COHORT: str(cohort), ROW_IMAGE: str(image)}


def case_of(form: Mapping[str, Any]) -> VirtualCase | None:
    """The virtual patient of a job; None of a real one."""
    if COHORT not in form:
        return None
    return VirtualCase(Path(form[COHORT]), Path(form[ROW_IMAGE]))


def fits(case: VirtualCase, result: Result) -> bool:
    """Whether the truth is on the grid and in the unit of a result."""
    (true, _), image = case.images({}), opened(result, result.images[0])
    return true.size == image.size and true.unit == image.unit


@functools.lru_cache(maxsize=4)
def _cohort(folder: Path) -> Cohort:
    return Cohort(folder)
