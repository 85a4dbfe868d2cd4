"""What edits do to patients' prior images, compared with the later images that are known, patient by patient.

The edits of `medloom edit` are read with the triples that they were made from. Each is compared with its prior image,
of which it should keep whatever the instruction does not name, and with the patient's later image, which shows what
happened. Every metric is compared with that of a copy of the prior image: an editor that changes nothing is hard to
beat in similarity, and follows no instruction.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom

from medloom.core.errors import UserError
from medloom.core.files import explained_content, read_mapping
from medloom.core.progress import progress
from medloom.core.spec import ImageSpec
from medloom.core.types import Sample
from medloom.data.dataset import read_sample
from medloom.data.tables import read_table
from medloom.evaluation.report.estimates import estimate_mean, unit_of
from medloom.evaluation.report.metrics import HIGHER, LOWER, Metric, Reference
from medloom.generators.sampling import AUTO
from medloom.metrics.structural import RADIUS, ssim

DESCRIPTION = "edits.json"
EDIT, BACK, NO_CHANGE = "edit", "back", "nochange"
SIMILARITY, CHANGE, IDENTITY = "similarity to the later image (SSIM)", "change", "own patient identified"
NULL, REVERSED = "change without an instruction", "change left after reversal"
MEANINGS: Mapping[str, str] = {
    SIMILARITY: "structural similarity of edit and later image; positions differ, so no edit reaches 1",
    CHANGE: "mean absolute difference of the edit and what was edited",
    NULL: "mean absolute difference if no change is asked for; nochange2 to nochange10 one after another",
    REVERSED: "difference to the prior image after the edit and the instruction that undoes it",
    IDENTITY: "how often an edit is nearer to its own patient's later image than to another patient's",
}
COPY = "a copy of the prior image"
LEVELS = 255.0
EXAMPLES = 8
THUMBNAIL = 24  # pixels of an axis at which images of patients are compared

Map = NDArray[np.float32]
Vectors = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class MeasuredEdit:
    """One edit, images `(C, *size)` in [-1, 1].

    Attributes:
        source: of the manifest: the triple that it was made from.
        patient: whose it is; see `unit_of` without a triple.
        arm: edit, or one of the controls.
        instruction: that was followed.
        prior: the patient's prior image.
        given: what was edited: the prior image, or for some controls another edit.
        edited: the result.
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


@dataclass(frozen=True)
class EditRow:
    """What was measured of one edit.

    Attributes:
        arm: edit, or one of the controls.
        source: of the manifest.
        patient: whose it is.
        change: mean absolute difference to what was edited, in the unit of the images.
        levels: the same in grey levels of 255.
        left: mean absolute difference to the prior image.
        similarity: SSIM with the later image; None without one.
        copied: SSIM of prior and later image.
        apart: mean absolute difference of the two.
    """

    arm: str
    source: str
    patient: str
    change: float
    levels: float
    left: float
    similarity: float | None = None
    copied: float | None = None
    apart: float | None = None


@dataclass
class Edits:
    """What was measured.

    Attributes:
        spec: the editor's image space.
        unit: of changes.
        rows: one per edit.
        thumbnails: of the arm `edit` with a later image: kind (edited, prior, later) to vectors.
        examples: for pictures.
    """

    spec: ImageSpec
    unit: str
    rows: list[EditRow] = field(default_factory=list)
    thumbnails: dict[str, list[Map]] = field(default_factory=dict)
    examples: list[MeasuredEdit] = field(default_factory=list)

    def column(self, name: str, arm: str) -> NDArray[Any]:
        """A field of one arm's rows, of those that have it."""
        values = [getattr(row, name) for row in self.rows if row.arm == arm]
        return np.array([value for value in values if value is not None])

    @property
    def arms(self) -> list[str]:
        """In the order of the manifest."""
        return list(dict.fromkeys(row.arm for row in self.rows))


def read_edits_spec(manifest: Path) -> ImageSpec:
    """The image space of the editor.

    Raises:
        UserError: not a folder of `medloom edit`.
    """
    path = manifest.parent / DESCRIPTION
    if not path.is_file():
        raise UserError(f"{manifest.parent} holds no {DESCRIPTION}; give the manifest.csv that `medloom edit` wrote.")
    with explained_content(path):
        return ImageSpec.from_dict(read_mapping(path)["spec"])


def edits_notes(manifest: Path, arms: Sequence[str]) -> list[str]:
    """What the edits' own settings say about their metrics.

    Args:
        manifest: of `medloom edit`.
        arms: that it has.
    """
    path = manifest.parent / DESCRIPTION
    with explained_content(path):
        region = read_mapping(path).get("options", {}).get("region")
    if region != AUTO or not any(arm.startswith(NO_CHANGE) for arm in arms):
        return []
    return [
        "The editor found the region of each edit itself (--region auto): after an instruction for no change the image"
        " is the prior image by construction, which says nothing about the model."
    ]


def measure_edits(
    manifest: Path,
    triples: Mapping[str, Sample],
    unit: str | None,
    also: Sequence[Callable[[MeasuredEdit], None]] = (),
) -> Edits:
    """Read the images of `medloom edit` and measure each.

    Args:
        manifest: its manifest.csv.
        triples: source to row of the triples that were edited.
        unit: of files that do not state theirs.
        also: called with each edit, for further measurements.

    Raises:
        UserError: not a folder of `medloom edit`, a missing image, or edits of other triples.
    """
    spec = read_edits_spec(manifest)
    table = read_table(manifest)
    cells = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    if triples and not any(str(row["source_id"]) in triples for row in cells):
        raise UserError(f"{manifest} was not made from the rows of --reference; give the triples that were edited.")
    edits = Edits(spec, spec.of(str(cells[0]["modality"] or next(iter(spec.intensity)))).output_unit)
    with progress("measuring edits", len(cells), "images") as advance:
        for row in cells:
            edit = _read(manifest.parent, row, triples.get(str(row["source_id"])), spec, unit)
            change = float(np.abs(edit.edited - edit.given).mean())
            left = float(np.abs(edit.edited - edit.prior).mean()) * edit.span / 2
            found = EditRow(edit.arm, edit.source, edit.patient, change * edit.span / 2, change * LEVELS / 2, left)
            if edit.later is not None:
                found = replace(
                    found,
                    similarity=similarity(edit.edited, edit.later),
                    copied=similarity(edit.prior, edit.later),
                    apart=float(np.abs(edit.later - edit.prior).mean()) * edit.span / 2,
                )
            edits.rows.append(found)
            if edit.arm == EDIT and edit.later is not None:
                # Thumbnails for identity, by means over blocks.
                for kind, image in (("edited", edit.edited), ("prior", edit.prior), ("later", edit.later)):
                    factors = [min(1.0, THUMBNAIL / length) for length in image.shape[1:]]
                    small = np.asarray(zoom(image.mean(axis=0), factors, order=1), np.float32)
                    edits.thumbnails.setdefault(kind, []).append(small.ravel())
            # The first examples with different instructions.
            instructions = [known.instruction for known in edits.examples]
            if edit.arm == EDIT and len(instructions) < EXAMPLES and edit.instruction not in instructions:
                edits.examples.append(edit)
            for measurement in also:
                measurement(edit)
            advance()
    return edits


def _read(
    folder: Path, row: Mapping[str, object], sample: Sample | None, spec: ImageSpec, unit: str | None
) -> MeasuredEdit:
    modality = str(row["modality"] or next(iter(spec.intensity)))

    def image(path: Path) -> Map:
        return read_sample(path, spec, modality, unit).array

    given = image(folder / str(row["prior"]))
    source = str(row["source_id"] or row["prior"])
    return MeasuredEdit(
        source=source,
        patient=unit_of({**row, "source_id": source}) if sample is None else sample.patient,
        arm=str(row["arm"]),
        instruction=_instruction(row, sample),
        prior=given if sample is None or sample.condition.prior_file is None else image(sample.condition.prior_file),
        given=given,
        edited=image(folder / str(row["path"])),
        later=None if sample is None else image(sample.path),
        sample=sample,
        span=spec.of(modality).span,
    )


def _instruction(row: Mapping[str, object], sample: Sample | None) -> str:
    """What was asked for; of a manifest that leaves out a table's texts, the triple's own where that was asked for."""
    if row.get("text"):
        return str(row["text"])
    return (sample.condition.text or "") if sample is not None and row["arm"] == EDIT else ""


def similarity(one: Map, other: Map) -> float:
    """SSIM of two images `(C, *size)` in [-1, 1]; nan for images too small for its window."""
    if min(one.shape[1:]) <= RADIUS:
        return float("nan")
    return ssim(np.clip(one, -1, 1) + 1, np.clip(other, -1, 1) + 1, 2.0)


def edit_metrics(edits: Edits, seed: int) -> list[Metric]:
    """Metrics of every arm, with intervals over patients.

    Args:
        edits: what was measured.
        seed: of the resamples.
    """

    def metric(name: str, arm: str, values: Vectors, reference: Reference, better: str = "", note: str = "") -> Metric:
        interval = estimate_mean(values, edits.column("patient", arm).tolist(), seed)
        return Metric.of(interval, name=name, subset=arm, reference=reference, better=better, note=note)

    patients = edits.column("patient", EDIT)
    metrics = []
    if len(alike := edits.column("similarity", EDIT)):
        copied = Reference.of(estimate_mean(edits.column("copied", EDIT), patients.tolist(), seed), COPY)
        metrics.append(metric(SIMILARITY, EDIT, alike, copied, HIGHER))
    for arm in edits.arms:
        if arm.startswith(NO_CHANGE):
            metrics.append(null_metric(edits, arm, seed))
            continue
        apart = edits.column("apart", arm)
        between = Reference("the later image less the prior one", float(apart.mean()) if len(apart) else 0.0)
        metrics.append(metric(CHANGE, arm, edits.column("change", arm), between, note=f"mean absolute, {edits.unit}"))
    if len(left := edits.column("left", BACK)):
        # Reversibility (Monteiro et al. 2023).
        there = Reference("the edit itself", float(edits.column("left", EDIT).mean()))
        note = f"mean absolute difference to the prior image, {edits.unit}"
        metrics.append(metric(REVERSED, BACK, left, there, LOWER, note))
    if len(edits.thumbnails.get("later", [])) > 2 and len(set(patients.tolist())) > 1:
        later = np.stack(edits.thumbnails["later"])
        own, theirs = (own_identified(np.stack(edits.thumbnails[k]), later, patients) for k in ("edited", "prior"))
        copied = Reference.of(estimate_mean(theirs, patients.tolist(), seed), COPY)
        note = f"fraction of other patients that are farther away, by pixels at {THUMBNAIL} px; 0.5 is chance"
        metrics.append(metric(IDENTITY, EDIT, own, copied, HIGHER, note))
    return metrics


def null_metric(edits: Edits, arm: str, seed: int) -> Metric:
    """How much an arm changes for which no change is asked, in grey levels, so that modalities can be compared."""
    levels = estimate_mean(edits.column("levels", arm), edits.column("patient", arm).tolist(), seed)
    note = "mean absolute change, grey levels of 255"
    return Metric.of(levels, name=NULL, subset=arm, reference=Reference("no change", 0.0), note=note)


def own_identified(images: Vectors, later: Vectors, patients: Sequence[str] | NDArray[np.str_]) -> NDArray[np.float64]:
    """For each image, the fraction of other patients' later images that are less like it than its own patient's.

    Args:
        images: vectors `(N, d)`.
        later: vectors `(N, d)`, row k of the same patient as image k.
        patients: `(N,)`.

    Returns:
        `(N,)`, 1 if the own patient's image is the nearest, 0.5 on average by chance.
    """
    units = []
    for values in (images, later):
        centred = values.astype(np.float64) - later.mean(axis=0)
        centred -= centred.mean(axis=1, keepdims=True)
        units.append(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12))
    alike = units[0] @ units[1].T
    names = np.asarray(patients)
    fractions = []
    for row in range(len(names)):
        others = alike[row, names != names[row]]
        fractions.append(((others < alike[row, row]) + 0.5 * (others == alike[row, row])).mean())
    return np.array(fractions)
