"""A cohort on disk: images, masks, labels, tables and reports that are a function of a few numbers, and their truth."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.files import hash_file, hash_text, read_json, write_json
from medloom.core.progress import progress
from medloom.core.seeds import check_seed, numpy_generator
from medloom.core.spec import GREY, HU
from medloom.data.image_io.types import Image
from medloom.data.images import write_image
from medloom.data.phantom.anatomy import Visit, anatomy_of
from medloom.data.phantom.causal import MODEL, Patient, counterfactual, evolved, make_patient
from medloom.data.phantom.grids import slice_affine, slice_points, volume_affine, volume_points
from medloom.data.phantom.reports import report_of
from medloom.data.phantom.table import observed_columns, observed_row
from medloom.data.phantom.thorax import LABELS, Rendering, render
from medloom.data.phantom.visits import retest, visits_of
from medloom.data.tables import read_table, write_csv

MARKER = "cohort.json"
MODALITY, VIEW = "CT", "axial"
PROVENANCE = {"generator": "medloom phantom cohort"}
# The labels of the condition mask, which no cause but sex changes.
CONDITION_LABELS = {"body": 1, "thoracic cavity": 2, "bone": 3}
SPLITS = ("train", "validation", "test")
SMALLEST, LARGEST = 16, 512
MOST_AMPLIFIED = 5.0
FIRST_DAY = np.datetime64("2020-01-01")


@dataclass(frozen=True)
class CohortSpec:
    """Everything that a cohort is a function of.

    Attributes:
        patients: how many.
        seed: of the cohort.
        dims: 2 for one axial slice, 3 for volumes.
        size: pixels of each axis.
        visits: of each patient.
        retests: whether the first visit is taken twice.
        hide: columns that the table does not have.
        complete: whether no cell of the table is missing.
        test: share of the patients in test.csv.
        validation: share in the split "validation" of train.csv.
        amplify: factor on what smoking does to the lung; 1 is what the literature says.
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

    def __post_init__(self) -> None:
        check_seed(self.seed)
        observed_columns(self.hide)
        if self.dims not in (2, 3):
            raise UserError(f"--dims {self.dims}: allowed are 2 and 3.")
        if self.patients < 1 or self.visits < 1:
            raise UserError(f"--patients {self.patients}, --visits {self.visits}: each is at least 1.")
        if not SMALLEST <= self.size <= LARGEST:
            raise UserError(f"--size {self.size}: allowed are {SMALLEST} to {LARGEST} pixels.")
        if min(self.test, self.validation) < 0 or self.test + self.validation >= 1:
            raise UserError(f"--test {self.test}, --validation {self.validation}: not negative, together below 1.")
        if not 0 <= self.amplify <= MOST_AMPLIFIED:
            raise UserError(
                f"--amplify {self.amplify}: allowed are 0 to {MOST_AMPLIFIED}; 1 is what the literature says."
            )

    def patient(self, number: int) -> Patient:
        """A patient of the cohort, at the first visit."""
        return make_patient(self.seed, number, self.amplify)

    @property
    def suffix(self) -> str:
        """Of image files."""
        return ".dcm" if self.dims == 2 else ".nii.gz"

    def split(self, number: int) -> str:
        """The split of a patient: of the cohort's seed and the number alone."""
        chance = numpy_generator("phantom", "split", self.seed, number).uniform()
        return "test" if chance < self.test else "validation" if chance < self.test + self.validation else "train"

    def visits_of(self, patient: Patient) -> tuple[Visit, ...]:
        """All acquisitions of a patient, in order."""
        visits = visits_of(patient, self.visits)
        return (*visits, retest(patient, visits[0])) if self.retests else visits

    def render(self, patient: Patient, visit: Visit, noisy: bool = True) -> Rendering:
        """The image of a visit; without the scanner's noise where not `noisy`."""
        points = slice_points(self.size) if self.dims == 2 else volume_points(self.size)
        placed = points.moved(visit.shift, visit.turn)
        return render(anatomy_of(patient, visit), placed, scanner=visit.seed if noisy else None)

    def image(self, values: NDArray[np.generic], unit: str) -> Image:
        """An array of this grid with its geometry."""
        affine = slice_affine(self.size) if self.dims == 2 else volume_affine(self.size)
        spacing = tuple(np.linalg.norm(affine[:3, : self.dims], axis=0).tolist())
        return Image(values[None].astype(np.float32), unit, spacing=spacing, affine=affine)


def condition_mask(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The non-descendant part of a label map: body, thoracic cavity with all that lies in it, and bone."""
    mapped = np.full(len(LABELS), CONDITION_LABELS["thoracic cavity"], dtype=np.uint8)
    for name in ("body", "bone"):
        mapped[LABELS[name]] = CONDITION_LABELS[name]
    mapped[LABELS["outside"]] = 0
    return mapped[labels]


@dataclass(frozen=True)
class Row:
    """One line of a cohort's manifest.

    Attributes:
        number: of the patient.
        acquisition: of the patient, from 0.
        split: train, validation or test.
        cells: column to value.
    """

    number: int
    acquisition: int
    split: str
    cells: Mapping[str, Any]


def write_cohort(out: Path, spec: CohortSpec, word: Callable[[Mapping[str, Any]], str], workers: int = 1) -> Path:
    """Write a cohort: images/, masks/, labels/, train.csv, test.csv, truth.csv and cohort.json.

    Every file is a function of `spec` and `word` alone, byte for byte, whatever the number of workers. The same call
    again goes on where it stopped.

    Args:
        out: the folder, claimed by the caller.
        spec: what the cohort is a function of.
        word: the prompt of a row of the clinical table.
        workers: processes.

    Returns:
        `out`.

    Raises:
        UserError: `out` holds another cohort.
    """
    _claim(out, spec)
    with progress("rendering patients", spec.patients, "patients", 0) as advance:
        rows: list[Row] = []
        for written in _over(workers, out, spec, range(spec.patients)):
            rows.extend(written)
            advance()
    columns = ("path", "mask", "Text", "modality", "view", "patient_id", "visit", "time", "split")
    header = [*columns, *observed_columns(spec.hide), "labels", "report"]
    for file, splits in (("train.csv", ("train", "validation")), ("test.csv", ("test",))):
        chosen = [row for row in rows if row.split in splits]
        texts = [{**row.cells, "Text": word(row.cells)} for row in chosen]
        write_csv(out / file, header, [[cells[name] for name in header] for cells in texts])
    _write_truth(out / "truth.csv", spec)
    return out


def _claim(out: Path, spec: CohortSpec) -> None:
    path, wanted = out / MARKER, {"SYNTHETIC": "YES", **_plain(spec)}
    if path.is_file() and (old := read_json(path)) != wanted:
        changed = [name for name in wanted if old.get(name) != wanted[name]]
        raise UserError(f"{out} holds a cohort with another --{', --'.join(changed)}; name another folder.")
    write_json(path, wanted)


def _plain(spec: CohortSpec) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(spec).items()}


def _over(workers: int, out: Path, spec: CohortSpec, numbers: Sequence[int]) -> Iterator[list[Row]]:
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor

    pool = Parallel(n_jobs=workers, return_as="generator", batch_size=8 if workers > 1 else 1)
    try:
        yield from pool(delayed(_write_patient)(out, spec, number) for number in numbers)
    finally:
        if workers > 1:
            # Idle processes would keep their memory, and complain when they are ended later.
            get_reusable_executor().shutdown(wait=True)


def _write_patient(out: Path, spec: CohortSpec, number: int) -> list[Row]:
    patient = spec.patient(number)
    visits = spec.visits_of(patient)
    return [_write_visit(out, spec, patient, visits, index) for index in range(len(visits))]


def _write_visit(out: Path, spec: CohortSpec, patient: Patient, visits: Sequence[Visit], acquisition: int) -> Row:
    visit = visits[acquisition]
    today = evolved(patient, visit.size)
    name = f"{patient.number:06d}-{acquisition}"
    label_suffix = ".png" if spec.dims == 2 else ".nii.gz"
    paths = {
        "path": f"images/{name}{spec.suffix}",
        "mask": f"masks/{name}{label_suffix}",
        "labels": f"labels/{name}{label_suffix}",
    }
    if not all((out / path).exists() for path in paths.values()):
        rendering = spec.render(today, visit)
        write_image(out / paths["path"], spec.image(np.rint(rendering.hu), HU), PROVENANCE)
        write_image(out / paths["mask"], label_image(spec, condition_mask(rendering.labels)), PROVENANCE)
        write_image(out / paths["labels"], label_image(spec, rendering.labels), PROVENANCE)
    start = int(numpy_generator("phantom", "first day", spec.seed, patient.number).integers(0, 1400))
    split = spec.split(patient.number)
    cells = {
        **paths,
        "modality": MODALITY,
        "view": VIEW,
        "patient_id": patient_name(patient.number),
        "visit": visit.index,
        "time": str(FIRST_DAY + start + visit.days),
        "split": split,
        **observed_row(today, spec.complete),
        "report": report_of(patient, visits[: visit.index + 1]),
    }
    return Row(patient.number, acquisition, split, cells)


def patient_name(number: int) -> str:
    """The patient's identifier in the manifests."""
    return f"P{number:06d}"


def label_image(spec: CohortSpec, labels: NDArray[np.uint8]) -> Image:
    """A label map as an image of the cohort's grid."""
    image = spec.image(labels, GREY)
    return Image(image.pixels, GREY, 255.0, image.spacing, image.affine)


def _write_truth(path: Path, spec: CohortSpec) -> None:
    """Every variable of the model, those that no table shows included."""
    patients = map(spec.patient, range(spec.patients))
    rows = [[patient_name(patient.number), *(patient.values[name] for name in MODEL)] for patient in patients]
    write_csv(path, ["patient_id", *MODEL], rows)


@dataclass(frozen=True)
class Twins:
    """One acquisition as it was and as it would have been, without the scanner's noise.

    Attributes:
        factual: as it was.
        other: had the set variables been so.
    """

    factual: Rendering
    other: Rendering

    @property
    def difference(self) -> NDArray[np.float32]:
        """HU, other less factual."""
        return self.other.hu - self.factual.hu


class Cohort:
    """A cohort that was written, read for its truth."""

    def __init__(self, folder: Path) -> None:
        """Open.

        Raises:
            UserError: `folder` holds no cohort.
        """
        if not (folder / MARKER).is_file():
            raise UserError(f"{folder} holds no phantom cohort ({MARKER} is missing); name what `data phantom` wrote.")
        values = dict(read_json(folder / MARKER))
        values.pop("SYNTHETIC", None)
        self.folder = folder
        self.spec = CohortSpec(**{**values, "hide": tuple(values["hide"])})
        self._sources = self._read_sources()

    def _read_sources(self) -> dict[str, tuple[int, int]]:
        """From the salted hash of a manifest's row, as generated images carry it, to (patient, acquisition)."""
        found: dict[str, tuple[int, int]] = {}
        for file in sorted(self.folder.glob("*.csv")):
            table = read_table(file)
            if "path" not in table.header:
                continue
            column, salt = table.header.index("path"), hash_file(file)
            for row, cells in enumerate(table.rows):
                number, acquisition = Path(str(cells[column])).name.split(".")[0].split("-")
                found[hash_text(f"{salt}{row}")] = (int(number), int(acquisition))
        return found

    def patient_of(self, source: str) -> tuple[Patient, Visit]:
        """The patient, as he or she was at the visit, and the visit of a `source_id` of generated images.

        Raises:
            UserError: the images were made for rows of another table.
        """
        if source not in self._sources:
            raise UserError(
                f"source {source} is no row of a table in {self.folder}; --truth takes the cohort whose own train.csv"
                " or test.csv was given to `medloom whatif --data`, unchanged."
            )
        number, acquisition = self._sources[source]
        patient = self.spec.patient(number)
        visit = self.spec.visits_of(patient)[acquisition]
        return evolved(patient, visit.size), visit

    def twins(self, source: str, do: Mapping[str, Any], hold: Sequence[str] = ()) -> Twins:
        """The true pair for a change of some variables, others held; no change gives two equal images."""
        patient, visit = self.patient_of(source)
        other = counterfactual(patient, do, hold)
        return Twins(self.spec.render(patient, visit, noisy=False), self.spec.render(other, visit, noisy=False))
