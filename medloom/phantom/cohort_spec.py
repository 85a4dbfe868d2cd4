"""The specification of a cohort, and the images of its patients."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.image import Image
from medloom.core.lookup import look_up
from medloom.core.seeds import check_seed, numpy_generator
from medloom.core.spec import GREY, HU
from medloom.phantom.anatomy import Visit, anatomy_of, retest, visits_of
from medloom.phantom.causal import Patient, make_patient, observed_columns
from medloom.phantom.projection import FIELD, project
from medloom.phantom.shapes import slice_affine, slice_points, volume_affine, volume_points
from medloom.phantom.thorax import LABELS, render

VIEWS = {"CT": "axial", "X-ray": "PA"}
CT, X_RAY = VIEWS
# Labels of the condition mask, which sex alone changes.
CONDITION_LABELS = {"body": 1, "thoracic cavity": 2, "bone": 3}
SMALLEST, LARGEST = 16, 512
MOST_AMPLIFIED = 5.0


@dataclass(frozen=True, eq=False)
class Picture:
    """An image of the cohort.

    Attributes:
        values: float32 `(*size)` in `unit`: HU, or levels from 0 to 255 for a projection.
        labels: uint8 `(*size)`, the values of LABELS.
        unit: of the values.
    """

    values: NDArray[np.float32]
    labels: NDArray[np.uint8]
    unit: str


@dataclass(frozen=True)
class CohortSpec:
    """Everything that a cohort is a function of.

    Attributes:
        patients: number of patients.
        seed: of the cohort.
        dims: 2 for one axial slice, 3 for volumes.
        size: pixels per axis.
        visits: visits per patient.
        retests: whether the first visit is acquired twice.
        hide: columns to omit from the table.
        complete: whether no cell of the table is missing.
        test: fraction of the patients in test.csv.
        validation: fraction in the split "validation" of train.csv.
        amplify: factor on the effects of smoking on the lung; 1 is the literature's.
        modalities: images per visit, of VIEWS.
    """

    patients: int
    seed: int = 0
    dims: int = 2
    size: int = 64
    visits: int = 1
    retests: bool = False
    hide: tuple[str, ...] = ()
    complete: bool = False
    test: float = 0.2
    validation: float = 0.05
    amplify: float = 1.0
    modalities: tuple[str, ...] = (CT,)

    def __post_init__(self) -> None:
        check_seed(self.seed)
        observed_columns(self.hide)
        if self.dims not in (2, 3):
            raise UserError(f"--dims {self.dims}: allowed are 2 and 3.")
        for name in self.modalities:
            look_up(VIEWS, name, "--modalities:")
        faults = (
            (
                not self.modalities or len(set(self.modalities)) < len(self.modalities),
                f"--modalities {' '.join(self.modalities)}: name each of {', '.join(VIEWS)} at most once.",
            ),
            (
                self.dims == 3 and X_RAY in self.modalities,
                f"--modalities {X_RAY}: a projection is flat; leave it out, or give --dims 2.",
            ),
            (
                self.patients < 1 or self.visits < 1,
                f"--patients {self.patients}, --visits {self.visits}: each is at least 1.",
            ),
            (not SMALLEST <= self.size <= LARGEST, f"--size {self.size}: allowed are {SMALLEST} to {LARGEST} pixels."),
            (
                min(self.test, self.validation) < 0 or self.test + self.validation >= 1,
                f"--test {self.test}, --validation {self.validation}: not negative, together below 1.",
            ),
            (
                not 0 <= self.amplify <= MOST_AMPLIFIED,
                f"--amplify {self.amplify}: allowed are 0 to {MOST_AMPLIFIED}; 1 is the effect in the literature.",
            ),
        )
        for present, message in faults:
            if present:
                raise UserError(message)

    def patient(self, number: int) -> Patient:
        """A patient of the cohort, at the first visit."""
        return make_patient(self.seed, number, self.amplify)

    def suffix(self, modality: str) -> str:
        """Ending of image files."""
        if modality == X_RAY:
            return ".png"
        return ".dcm" if self.dims == 2 else ".nii.gz"

    def split(self, number: int) -> str:
        """The split of a patient, as a function of the cohort's seed and the number only."""
        chance = numpy_generator("phantom", "split", self.seed, number).uniform()
        return "test" if chance < self.test else "validation" if chance < self.test + self.validation else "train"

    def visits_of(self, patient: Patient) -> tuple[Visit, ...]:
        """All acquisitions of a patient, in order."""
        visits = visits_of(patient, self.visits)
        return (*visits, retest(patient, visits[0])) if self.retests else visits

    def render(self, patient: Patient, visit: Visit, modality: str = CT, noisy: bool = True) -> Picture:
        """The image of a visit, with the scanner's noise if `noisy`."""
        if modality == X_RAY:
            projection = project(anatomy_of(patient, visit), visit, self.size, noisy)
            return Picture(projection.levels, projection.labels, GREY)
        points = (slice_points if self.dims == 2 else volume_points)(self.size).moved(visit.shift, visit.turn)
        volume = render(anatomy_of(patient, visit), points, scanner=visit.seed if noisy else None)
        return Picture(volume.hu, volume.labels, HU)

    def image(self, values: NDArray[np.generic], unit: str, modality: str = CT) -> Image:
        """An array on this grid with its geometry; a projection has levels from 0 to 255 and a pixel spacing."""
        if modality == X_RAY:
            return Image(values[None].astype(np.float32), unit, 255.0, spacing=(FIELD / self.size,) * 2)
        affine = slice_affine(self.size) if self.dims == 2 else volume_affine(self.size)
        spacing = tuple(np.linalg.norm(affine[:3, : self.dims], axis=0).tolist())
        return Image(values[None].astype(np.float32), unit, spacing=spacing, affine=affine)


def condition_mask(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The causally unaffected part of a label map: body, thoracic cavity with its content, and bone."""
    mapped = np.full(len(LABELS), CONDITION_LABELS["thoracic cavity"], dtype=np.uint8)
    for name in ("body", "bone"):
        mapped[LABELS[name]] = CONDITION_LABELS[name]
    mapped[LABELS["outside"]] = 0
    return mapped[labels]


def label_image(spec: CohortSpec, labels: NDArray[np.uint8], modality: str = CT) -> Image:
    """A label map as an image on the cohort's grid."""
    image = spec.image(labels, GREY, modality)
    return Image(image.pixels, GREY, 255.0, image.spacing, image.affine)
