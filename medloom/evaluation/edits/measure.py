"""What edits do to patients' earlier images, beside the later images that are known, patient by patient.

The edits of `medloom edit` are read with the triples that they were made of. Each is compared with its earlier image,
of which it should keep whatever the instruction does not name, and with the patient's later image, which shows what
happened. Copies of the earlier image stand beside every figure: an editor that changes nothing is hard to beat in
likeness, and shows nothing of what the instruction asks for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.files import read_json
from medloom.core.progress import progress
from medloom.core.spec import ImageSpec
from medloom.core.types import Sample
from medloom.data.dataset import read_sample
from medloom.data.tables import read_table
from medloom.evaluation.report.metrics import HIGHER, LOWER, Figure, Reference
from medloom.metrics.structural import RADIUS, ssim
from medloom.metrics.uncertainty import bootstrap_mean

SECTION, DESCRIPTION = "edits", "edits.json"
EDIT, BACK = "edit", "back"
LIKENESS, CHANGE, IDENTITY = "likeness to the later image (SSIM)", "change", "own patient found"
NULL, REVERSED = "change by no instruction", "change that is left after going back"
LEVELS = 255.0
EXAMPLES = 8
THUMBNAIL = 24  # pixels of an axis at which images of patients are told apart

Map = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Edit:
    """One edit, images `(C, *size)` in [-1, 1].

    Attributes:
        source: of the manifest: the triple that it was made of.
        patient: whose it is.
        arm: edit, or one of the controls.
        instruction: that was followed.
        prior: the patient's earlier image.
        given: what was edited: the earlier image, or of some controls another edit.
        edited: what came of it.
        later: the patient's later image, or None.
        sample: the triple's row, or None.
        span: the width of [-1, 1] in the unit of its modality.
    """

    source: str
    patient: str
    arm: str
    instruction: str
    prior: Map
    given: Map
    edited: Map
    later: Map | None
    sample: Sample | None
    span: float


# Measures an edit: further values of its row, by name.
Measure = Callable[[Edit], Mapping[str, Any]]


@dataclass
class Edits:
    """What was measured, a row for each edit.

    Attributes:
        spec: the editor's image space.
        unit: of changes.
        rows: arm, source, patient, instruction, change (mean absolute, in `unit`), levels (the same of 255), left (mean
            absolute difference to the earlier image); with a later image also likeness, copied (that of the earlier
            image) and apart (mean absolute difference of the two).
        thumbnails: of the arm `edit` with a later image: kind (edited, prior, later) to `(N, pixels)`.
        examples: for pictures.
    """

    spec: ImageSpec
    unit: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    thumbnails: dict[str, list[NDArray[np.float32]]] = field(default_factory=dict)
    examples: list[Edit] = field(default_factory=list)

    def column(self, name: str, arm: str) -> NDArray[Any]:
        """The values of one arm's rows, of those that have them."""
        return np.array([row[name] for row in self.rows if row["arm"] == arm and name in row])

    @property
    def arms(self) -> list[str]:
        """In the order of the manifest."""
        return list(dict.fromkeys(str(row["arm"]) for row in self.rows))


def read_edits_spec(manifest: Path) -> ImageSpec:
    """The image space of the editor.

    Raises:
        UserError: not a folder of `medloom edit`.
    """
    path = manifest.parent / DESCRIPTION
    if not path.is_file():
        raise UserError(f"{manifest.parent} holds no {DESCRIPTION}; --edits takes the manifest.csv of `medloom edit`.")
    return ImageSpec.from_dict(read_json(path)["spec"])


def measure_edits(
    manifest: Path, triples: Mapping[str, Sample], unit: str | None, also: Sequence[Measure] = (), shown: bool = True
) -> Edits:
    """Read the images of `medloom edit` and measure each.

    Args:
        manifest: its manifest.csv.
        triples: source -> row of the triples that were edited.
        unit: of files that do not say what their values are.
        also: further measurements; each adds to the row of an edit.
        shown: whether to show progress.

    Raises:
        UserError: not a folder of `medloom edit`, an image that is missing, or edits of other triples.
    """
    spec = read_edits_spec(manifest)
    table = read_table(manifest)
    cells = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    if triples and not any(str(row["source_id"]) in triples for row in cells):
        raise UserError(f"{manifest} was not made of the rows of --reference; name the triples that were edited.")
    modality = str(cells[0]["modality"] or next(iter(spec.intensity)))
    edits = Edits(spec, spec.of(modality).output_unit)
    with progress("measuring edits", len(cells), "images", 0, shown) as advance:
        for row in cells:
            edit = _read(manifest.parent, row, triples.get(str(row["source_id"])), spec, unit)
            edits.rows.append(_measured(edit, edits) | {name: v for more in also for name, v in more(edit).items()})
            advance()
    return edits


def _read(folder: Path, row: Mapping[str, Any], sample: Sample | None, spec: ImageSpec, unit: str | None) -> Edit:
    modality = str(row["modality"] or next(iter(spec.intensity)))

    def image(path: Path) -> Map:
        return read_sample(path, spec, modality, unit).array

    given = image(folder / str(row["prior"]))
    first = given if sample is None or sample.condition.prior is None else image(sample.condition.prior)
    later = None if sample is None else image(sample.path)
    edited = image(folder / str(row["path"]))
    source = str(row["source_id"] or row["prior"])
    patient = source if sample is None else sample.patient
    span = spec.of(modality).span
    return Edit(source, patient, str(row["arm"]), str(row["text"] or ""), first, given, edited, later, sample, span)


def _measured(edit: Edit, edits: Edits) -> dict[str, Any]:
    change = float(np.abs(edit.edited - edit.given).mean())
    row = {
        "arm": edit.arm,
        "source": edit.source,
        "patient": edit.patient,
        "instruction": edit.instruction,
        "change": change * edit.span / 2,
        "levels": change * LEVELS / 2,
        "left": float(np.abs(edit.edited - edit.prior).mean()) * edit.span / 2,
    }
    if edit.later is not None:
        row |= {
            "likeness": likeness(edit.edited, edit.later),
            "copied": likeness(edit.prior, edit.later),
            "apart": float(np.abs(edit.later - edit.prior).mean()) * edit.span / 2,
        }
    if edit.arm == EDIT:
        _keep(edit, edits)
    return row


def _keep(edit: Edit, edits: Edits) -> None:
    """Thumbnails for identity, and the first examples that change something."""
    if edit.later is not None:
        for kind, image in (("edited", edit.edited), ("prior", edit.prior), ("later", edit.later)):
            edits.thumbnails.setdefault(kind, []).append(_thumbnail(image))
    if len(edits.examples) < EXAMPLES and edit.instruction not in [known.instruction for known in edits.examples]:
        edits.examples.append(edit)


def likeness(one: Map, other: Map) -> float:
    """SSIM of two images `(C, *size)` in [-1, 1]; nan for images too small for its window."""
    if min(one.shape[1:]) <= RADIUS:
        return float("nan")
    return ssim(np.clip(one, -1, 1) + 1, np.clip(other, -1, 1) + 1, 2.0)


def _thumbnail(image: Map) -> NDArray[np.float32]:
    """A small image as a vector, by means over blocks."""
    from scipy.ndimage import zoom

    small = zoom(image.mean(axis=0), [min(1.0, THUMBNAIL / length) for length in image.shape[1:]], order=1)
    return np.asarray(small, np.float32).ravel()


def edit_figures(edits: Edits, seed: int) -> list[Figure]:
    """Figures of every arm, with intervals over patients.

    Args:
        edits: what was measured.
        seed: of the resamples.

    Raises:
        UserError: fewer than two patients.
    """
    if len({row["patient"] for row in edits.rows}) < 2:
        raise UserError("edits of one patient have no interval; edit two or more with --data of `medloom edit`.")
    figures = [_likeness(edits, seed)] if len(edits.column("likeness", EDIT)) else []
    for arm in edits.arms:
        figures.append(_change(edits, arm, seed))
    if len(edits.column("left", BACK)):
        figures.append(_reversed(edits, seed))
    return figures + _identity(edits, seed)


def _figure(metric: str, subset: str, values: NDArray[Any], patients: NDArray[Any], seed: int, **told: Any) -> Figure:
    interval = bootstrap_mean(values, patients.tolist(), seed)
    return Figure.of(interval, section=SECTION, metric=metric, subset=subset, counted="patients", **told)


def _likeness(edits: Edits, seed: int) -> Figure:
    patients = edits.column("patient", EDIT)
    beside = bootstrap_mean(edits.column("copied", EDIT), patients.tolist(), seed)
    values = edits.column("likeness", EDIT)
    reference = Reference.of(beside, "a copy of the earlier image")
    return _figure(LIKENESS, EDIT, values, patients, seed, reference=reference, better=HIGHER)


def _change(edits: Edits, arm: str, seed: int) -> Figure:
    """How much an arm changes; edits that ask for none in levels of 255, so that modalities can be compared."""
    patients = edits.column("patient", arm)
    if arm.startswith("nochange"):
        reference = Reference("no change", 0.0)
        told = {"reference": reference, "better": LOWER, "note": "mean absolute change, grey levels of 255"}
        return _figure(NULL, arm, edits.column("levels", arm), patients, seed, **told)
    apart = edits.column("apart", arm)
    reference = Reference("the later image less the earlier one", float(apart.mean()) if len(apart) else 0.0)
    values = edits.column("change", arm)
    return _figure(CHANGE, arm, values, patients, seed, reference=reference, note=f"mean absolute, {edits.unit}")


def _reversed(edits: Edits, seed: int) -> Figure:
    """What is left of an edit when its reverse has been asked for (reversibility; Monteiro et al. 2023)."""
    there = Reference("the edit itself", float(edits.column("left", EDIT).mean()))
    values, patients = edits.column("left", BACK), edits.column("patient", BACK)
    note = f"mean absolute difference to the earlier image, {edits.unit}"
    return _figure(REVERSED, BACK, values, patients, seed, reference=there, better=LOWER, note=note)


def _identity(edits: Edits, seed: int) -> list[Figure]:
    """How often an edit is nearer to its own patient's later image than another patient's is (AUROC of identity)."""
    if len(edits.thumbnails.get("later", [])) < 3:
        return []
    patients = edits.column("patient", EDIT)
    later = np.stack(edits.thumbnails["later"])
    own = own_found(np.stack(edits.thumbnails["edited"]), later, patients)
    copied = bootstrap_mean(own_found(np.stack(edits.thumbnails["prior"]), later, patients), patients.tolist(), seed)
    reference = Reference.of(copied, "a copy of the earlier image")
    note = f"share of other patients that are further away, by pixels at {THUMBNAIL} px; 0.5 is chance"
    return [_figure(IDENTITY, EDIT, own, patients, seed, reference=reference, better=HIGHER, note=note)]


def own_found(images: NDArray[Any], later: NDArray[Any], patients: Sequence[str] | NDArray[Any]) -> NDArray[np.float64]:
    """For each image, the share of other patients' later images that are less like it than its own patient's.

    Args:
        images: vectors `(N, d)`.
        later: vectors `(N, d)`, row k of the same patient as image k.
        patients: `(N,)`.

    Returns:
        `(N,)`, 1 where the own patient's is the nearest, 0.5 on average by chance.
    """
    one, other = (_standard(values, later.mean(axis=0)) for values in (images, later))
    alike = one @ other.T
    names = np.asarray(patients)
    shares = []
    for row in range(len(names)):
        others = alike[row, names != names[row]]
        shares.append(((others < alike[row, row]) + 0.5 * (others == alike[row, row])).mean())
    return np.array(shares)


def _standard(values: NDArray[Any], mean: NDArray[Any]) -> NDArray[np.float64]:
    centred = values.astype(np.float64) - mean
    centred -= centred.mean(axis=1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
