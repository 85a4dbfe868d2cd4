"""Writing a cohort: images, masks, labels, tables and reports as a function of a few numbers."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medloom.core.errors import UserError
from medloom.core.files import is_written, read_mapping, write_json, write_text
from medloom.core.progress import progress
from medloom.core.seeds import numpy_generator
from medloom.core.workers import over_processes
from medloom.data.images import write_image
from medloom.data.tables import write_csv
from medloom.phantom.causal import MODEL, evolved, observed_columns, observed_row
from medloom.phantom.cohort_spec import CONDITION_LABELS, CT, VIEWS, CohortSpec, condition_mask, label_image
from medloom.phantom.reports import report_of

MARKER = "cohort.json"
CLASSES = "classes.yaml"
PROVENANCE = {"generator": "medloom phantom cohort"}
FIRST_DAY = np.datetime64("2020-01-01")


def write_cohort(out: Path, spec: CohortSpec, word: Callable[[dict[str, Any]], str], workers: int = 1) -> Path:
    """Write a cohort: images/, masks/, labels/, train.csv, test.csv, truth.csv, classes.yaml and cohort.json.

    Every file is a function of `spec` and `word` only, byte for byte, for any number of workers. Repeating the call
    continues an interrupted one.

    Args:
        out: the folder, claimed by the caller.
        spec: of the cohort.
        word: makes the prompt from a row of the clinical table.
        workers: processes.

    Returns:
        `out`.

    Raises:
        UserError: `out` holds another cohort.
    """
    mark_cohort(out, spec)
    rows: list[dict[str, Any]] = []
    write, batch = partial(_write_patient, out, spec), 8 if workers > 1 else 1
    with (
        progress("rendering patients", spec.patients, "patients") as advance,
        over_processes(write, range(spec.patients), workers, batch) as patients,
    ):
        for written in patients:
            rows.extend(written)
            advance()
    columns = ("path", "mask", "Text", "modality", "view", "patient_id", "visit", "time", "split")
    header = [*columns, *observed_columns(spec.hide), "labels", "report"]
    for file, splits in (("train.csv", ("train", "validation")), ("test.csv", ("test",))):
        texts = [{**row, "Text": word(row)} for row in rows if row["split"] in splits]
        write_csv(out / file, header, [[cells[name] for name in header] for cells in texts])
    # Every variable of the model, including those that no table shows.
    known = map(spec.patient, range(spec.patients))
    truth = [[patient_name(patient.number), *(patient.values[name] for name in MODEL)] for patient in known]
    write_csv(out / "truth.csv", ["patient_id", *MODEL], truth)
    write_text(out / CLASSES, "".join(f"{label}: {name}\n" for name, label in CONDITION_LABELS.items()))
    return out


def count_virtual(files: Iterable[Path]) -> int:
    """How many of some image files lie in the folders of cohorts, as `data phantom` writes them."""
    known: dict[Path, bool] = {}
    count = 0
    for file in files:
        folder = Path(file).absolute().parent
        if folder not in known:
            known[folder] = any(_is_marked(each / MARKER) for each in (folder, folder.parent))
        count += known[folder]
    return count


def _is_marked(marker: Path) -> bool:
    """Whether a file is that of a cohort; others may have its name."""
    if not marker.is_file():
        return False
    try:
        values = read_mapping(marker)
    except UserError:
        return False
    return values.pop("SYNTHETIC", None) == "YES" and {*values} == {field.name for field in fields(CohortSpec)}


def mark_cohort(out: Path, spec: CohortSpec) -> None:
    """Write cohort.json, the first file of a cohort.

    Raises:
        UserError: `out` holds another cohort.
    """
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(spec).items()}
    marker, wanted = out / MARKER, {"SYNTHETIC": "YES", **plain}
    if marker.is_file() and (old := read_mapping(marker)) != wanted:
        changed = [name for name in wanted if old.get(name) != wanted[name]]
        raise UserError(f"{out} holds a cohort with another --{', --'.join(changed)}; name another folder.")
    write_json(marker, wanted)


def _write_patient(out: Path, spec: CohortSpec, number: int) -> list[dict[str, Any]]:
    """Write the images of all acquisitions of a patient that are not there yet; the rows of the manifest."""
    patient = spec.patient(number)
    visits = spec.visits_of(patient)
    start = int(numpy_generator("phantom", "first day", spec.seed, number).integers(0, 1400))
    label_suffix = ".png" if spec.dims == 2 else ".nii.gz"
    rows: list[dict[str, Any]] = []
    for acquisition, visit in enumerate(visits):
        today = evolved(patient, visit.size)
        for modality in spec.modalities:
            name = f"{number:06d}-{acquisition}" + (f"-{modality}" if modality != CT else "")
            paths = {
                "path": f"images/{name}{spec.suffix(modality)}",
                "mask": f"masks/{name}{label_suffix}",
                "labels": f"labels/{name}{label_suffix}",
            }
            if not all(is_written(out / path) for path in paths.values()):
                picture = spec.render(today, visit, modality)
                image = spec.image(np.rint(picture.values), picture.unit, modality)
                write_image(out / paths["path"], image, PROVENANCE)
                write_image(
                    out / paths["mask"], label_image(spec, condition_mask(picture.labels), modality), PROVENANCE
                )
                write_image(out / paths["labels"], label_image(spec, picture.labels, modality), PROVENANCE)
            rows.append(
                {
                    **paths,
                    "modality": modality,
                    "view": VIEWS[modality],
                    "patient_id": patient_name(number),
                    "visit": visit.index,
                    "time": str(FIRST_DAY + start + visit.days),
                    "split": spec.split(number),
                    **observed_row(today, spec.complete),
                    "report": report_of(patient, visits[: visit.index + 1]),
                }
            )
    return rows


def patient_name(number: int) -> str:
    """The patient's identifier in the manifests."""
    return f"P{number:06d}"
