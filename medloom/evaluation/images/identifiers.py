"""Identifiers and file checks: what may tell who a patient is, in texts, metadata and pixels, looked for by rule.

A rule finds what it was written for and no more. That nothing was found is no proof that nothing is there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label

from medloom.core.progress import progress
from medloom.core.types import Sample
from medloom.data.identifying_texts import PATTERNS, found_in
from medloom.data.images import WRITERS, read_image, read_provenance
from medloom.data.prompts.identity import is_age
from medloom.data.tables import write_csv
from medloom.data.units import unit_for
from medloom.evaluation.images.section import Found, Inputs, Section
from medloom.evaluation.images.sets import ImageSet
from medloom.evaluation.report.metrics import LOWER, Metric, Reference, proportion
from medloom.evaluation.report.plots import FRACTION, Panel

TEXT, METADATA = "texts with an identifier", "metadata with an identifier"
UNMARKED, SIGNS = "files that do not say SYNTHETIC", "bright signs at the border"
MEANINGS: Mapping[str, str] = {
    TEXT: "fraction of rows whose text or cells hold a date, a long number, an address, a titled name or a mark of"
    " de-identification",
    METADATA: "fraction of files whose metadata name a patient, a person, a place or a date",
    UNMARKED: "fraction of files without the mark SYNTHETIC in their metadata",
    SIGNS: "fraction of images with a row of small bright signs near a border, like burned-in text and side markers",
}
FINDINGS = "identifiers-internal.csv"
OLDEST = 89
# DICOM attributes that name a person, a place or a time, and the values that name nobody.
NAMING = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientAddress",
    "OtherPatientIDs",
    "AccessionNumber",
    "InstitutionName",
    "InstitutionAddress",
    "ReferringPhysicianName",
    "PerformingPhysicianName",
    "OperatorsName",
    "StudyDate",
    "AcquisitionDate",
    "StudyID",
)
NAMELESS = ("", "SYNTHETIC", "ANONYMOUS", "ANONYMIZED", "UNKNOWN")
# Signs: brightness, size in pixels of an image whose longer side is 512, distance from a border, number in a row.
BRIGHT, LONGER_SIDE, BORDER, IN_A_ROW = 0.9, 512, 0.15, 3
SIGN_HEIGHT, SIGN_WIDTH = (5, 28), (2, 28)


@dataclass(frozen=True)
class FoundIdentifier:
    """What was found in one image.

    Attributes:
        kind: name of the metric.
        path: the file.
        what: in words, without the value itself.
    """

    kind: str
    path: Path
    what: str


def measure(inputs: Inputs) -> Found:
    """Look through all synthetic images."""
    metrics, findings = identifier_metrics(inputs.data.synthetic, inputs.data.real, inputs.cache.unit)
    if not findings:
        return Found(metrics)
    remark = (
        f"{len(findings)} findings are listed in {FINDINGS}, which names files and is not for sharing. Rules find what"
        " they were written for: that nothing was found is no proof that nothing is there."
    )
    return Found(metrics, remark=remark, files={FINDINGS: lambda path: write_findings(path, findings)})


def identifier_metrics(
    synthetic: ImageSet, real: ImageSet, unit: str | None = None, verbose: bool = True
) -> tuple[list[Metric], list[FoundIdentifier]]:
    """The fraction of synthetic images with each kind of finding, and the findings.

    Bright signs are compared with those of real images, from which a model learns such marks.

    Args:
        synthetic: the images that are evaluated.
        real: held-out real images; only their pixels are looked at.
        unit: of files that do not state theirs.
        verbose: whether to show progress.

    Raises:
        UserError: an image that cannot be read.
    """
    checks: Mapping[str, Callable[[Sample], str | None]] = {
        TEXT: in_texts,
        METADATA: in_metadata,
        UNMARKED: unmarked,
        SIGNS: partial(in_pixels, unit=unit),
    }
    hits: dict[str, list[bool]] = {kind: [] for kind in checks}
    findings, signs_of_real = [], []
    with progress("looking for identifiers", len(synthetic) + len(real), "images", 0, verbose) as advance:
        for sample in synthetic.samples:
            for kind, check in checks.items():
                what = check(sample)
                hits[kind].append(what is not None)
                if what is not None:
                    findings.append(FoundIdentifier(kind, sample.path, what))
            advance()
        for sample in real.samples:
            signs_of_real.append(in_pixels(sample, unit) is not None)
            advance()
    references = dict.fromkeys(checks, Reference("none", 0.0))
    references[SIGNS] = Reference.of(proportion(np.array(signs_of_real), real.units), "held-out real images")
    return [
        Metric.of(
            proportion(np.array(hits[kind]), np.arange(len(synthetic))),
            name=kind,
            counted="images",
            reference=references[kind],
            better=LOWER,
        )
        for kind in checks
    ], findings


# Of the manifests that medloom writes: numbers and hashes of images, of which none is a person's.
OWN_COLUMNS = ("sample_id", "source_id", "condition")


def in_texts(sample: Sample) -> str | None:
    """What identifies someone in the row's text or cells, in words; None if nothing does."""
    condition = sample.condition
    cells = {name: cell for name, cell in condition.table.items() if name not in OWN_COLUMNS}
    for column, cell in {"text": condition.text, **cells}.items():
        if isinstance(cell, float) and is_age(column) and cell > OLDEST:
            return f"{column}: an age above {OLDEST}"
        if isinstance(cell, str) and (what := found_in(cell)):
            return f"{column}: {what}"
    return None


def unmarked(sample: Sample) -> str | None:
    """Whether a file lacks the mark SYNTHETIC, in words; None if it has it."""
    written = sample.path.is_dir() or sample.path.name.lower().endswith(tuple(WRITERS))
    return None if written and read_provenance(sample.path).get("SYNTHETIC") else "no mark SYNTHETIC"


def in_metadata(sample: Sample) -> str | None:
    """The entry of a file's metadata that identifies someone; None if none does."""
    for name, value in metadata(sample.path).items():
        if name in NAMING and value.strip().upper() not in NAMELESS:
            return name
        for what, pattern in PATTERNS.items():
            # UIDs and hashes are long numbers that name nobody.
            if what != "a long number" and pattern.search(value):
                return f"{name}: {what}"
    return None


def metadata(path: Path) -> dict[str, str]:
    """The entries of a file's metadata that may name someone: those of DICOM, and the texts of pictures."""
    suffix = path.suffix.lower()
    if suffix in (".dcm", ""):
        import pydicom

        data = pydicom.dcmread(path, stop_before_pixels=True)
        return {name: str(data.get(name, "") or "") for name in NAMING}
    if suffix in (".png", ".jpg", ".jpeg", ".tif", ".tiff"):
        from PIL import Image
        from PIL.ExifTags import TAGS

        with Image.open(path) as opened:
            chunks = {str(name): str(value) for name, value in opened.info.items() if isinstance(value, str)}
            return chunks | {TAGS.get(tag, str(tag)): str(value) for tag, value in opened.getexif().items()}
    return {}


def in_pixels(sample: Sample, unit: str | None = None) -> str | None:
    """Where signs stand near a border of a 2-D image; None for volumes, and if there are none."""
    image = read_image(sample.path, unit=unit_for(unit, sample.condition.modality, sample.path)).pixels
    if image.ndim != 3:
        return None
    grey = image.mean(axis=0)
    span = float(grey.max() - grey.min())
    return None if not span else signs((grey - grey.min()) / span)


def signs(grey: NDArray[np.floating]) -> str | None:
    """The border that has three or more small bright signs in a row near it; None if none has.

    Args:
        grey: `(rows, columns)`, 0 to 1.
    """
    scale = max(grey.shape) / LONGER_SIDE
    boxes = [
        (rows, columns)
        for rows, columns in find_objects(label(grey > BRIGHT, np.ones((3, 3)))[0])
        if SIGN_HEIGHT[0] * scale <= rows.stop - rows.start <= SIGN_HEIGHT[1] * scale
        and SIGN_WIDTH[0] * scale <= columns.stop - columns.start <= SIGN_WIDTH[1] * scale
    ]
    top, left = BORDER * grey.shape[0], BORDER * grey.shape[1]
    borders: Mapping[str, Callable[[slice, slice], bool]] = {
        "upper": lambda r, c: bool(r.stop <= top),
        "lower": lambda r, c: bool(r.start >= grey.shape[0] - top),
        "left": lambda r, c: bool(c.stop <= left),
        "right": lambda r, c: bool(c.start >= grey.shape[1] - left),
    }
    for border, near in borders.items():
        # Of each sign: the middle and the height of its rows, and the middle of its columns.
        places = [((r.start + r.stop) / 2, r.stop - r.start, (c.start + c.stop) / 2) for r, c in boxes if near(r, c)]
        for middle, height, column in places:
            # Signs of about one height, on one line, each no farther than three heights from this one.
            on_line = sum(
                abs(other - middle) <= height / 2
                and height / 2 <= own <= height * 2
                and abs(place - column) <= 3 * height
                for other, own, place in places
            )
            if on_line >= IN_A_ROW:
                return f"near the {border} border"
    return None


def write_findings(path: Path, findings: Sequence[FoundIdentifier]) -> None:
    """Write the findings as CSV. It names files and is not for sharing."""
    write_csv(path, ["kind", "path", "what"], [[found.kind, found.path, found.what] for found in findings])


SECTION = Section(
    heading="Identifiers and file checks",
    question="Do texts, metadata or pixels tell who a patient is, and do files say that they are synthetic?",
    metrics=MEANINGS,
    measure=measure,
    plots=lambda metrics: [("findings", [Panel("fraction of images", [(m.name, m) for m in metrics], FRACTION)])],
)
