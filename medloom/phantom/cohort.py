"""Writing a cohort: images, masks, labels, tables and reports that are a function of a few numbers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medloom.core.errors import UserError
from medloom.core.files import read_json, write_json, write_text
from medloom.core.progress import progress
from medloom.core.seeds import numpy_generator
from medloom.data.images import write_image
from medloom.data.tables import write_csv
from medloom.phantom.anatomy import Visit
from medloom.phantom.causal import MODEL, Patient, evolved
from medloom.phantom.cohort_spec import CONDITION_LABELS, CT, VIEWS, CohortSpec, condition_mask, label_image
from medloom.phantom.reports import report_of
from medloom.phantom.table import observed_columns, observed_row

MARKER = "cohort.json"
CLASSES = "classes.yaml"
PROVENANCE = {"generator": "medloom phantom cohort"}
FIRST_DAY = np.datetime64("2020-01-01")


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
    """Write a cohort: images/, masks/, labels/, train.csv, test.csv, truth.csv, classes.yaml and cohort.json.

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
    write_text(out / CLASSES, "".join(f"{label}: {name}\n" for name, label in CONDITION_LABELS.items()))
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
    return [
        _write_visit(out, spec, patient, visits, index, modality)
        for index in range(len(visits))
        for modality in spec.modalities
    ]


def _write_visit(
    out: Path, spec: CohortSpec, patient: Patient, visits: Sequence[Visit], acquisition: int, modality: str
) -> Row:
    visit = visits[acquisition]
    today = evolved(patient, visit.size)
    name = f"{patient.number:06d}-{acquisition}" + (f"-{modality}" if modality != CT else "")
    label_suffix = ".png" if spec.dims == 2 else ".nii.gz"
    paths = {
        "path": f"images/{name}{spec.suffix(modality)}",
        "mask": f"masks/{name}{label_suffix}",
        "labels": f"labels/{name}{label_suffix}",
    }
    if not all((out / path).exists() for path in paths.values()):
        seen = spec.render(today, visit, modality)
        write_image(out / paths["path"], spec.image(np.rint(seen.values), seen.unit, modality), PROVENANCE)
        write_image(out / paths["mask"], label_image(spec, condition_mask(seen.labels), modality), PROVENANCE)
        write_image(out / paths["labels"], label_image(spec, seen.labels, modality), PROVENANCE)
    start = int(numpy_generator("phantom", "first day", spec.seed, patient.number).integers(0, 1400))
    split = spec.split(patient.number)
    cells = {
        **paths,
        "modality": modality,
        "view": VIEWS[modality],
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


def _write_truth(path: Path, spec: CohortSpec) -> None:
    """Every variable of the model, those that no table shows included."""
    patients = map(spec.patient, range(spec.patients))
    rows = [[patient_name(patient.number), *(patient.values[name] for name in MODEL)] for patient in patients]
    write_csv(path, ["patient_id", *MODEL], rows)
