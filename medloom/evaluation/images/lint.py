"""What may tell who a patient is, in texts, metadata and pixels of a set of images: looked for by rule, image by image.

A rule finds what it was written for and no more; that nothing was found is no proof that nothing is there.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label

from medloom.core.progress import progress
from medloom.core.types import Sample
from medloom.data.images import WRITERS, read_image, read_provenance
from medloom.data.prompts.identity import DATE_WITHIN, is_age
from medloom.data.tables import write_csv
from medloom.evaluation.images.sets import ImageSet
from medloom.evaluation.report.metrics import EVERYTHING, LOWER, Figure, Reference, rate

SECTION = "lint"
TEXT, METADATA, UNMARKED, SIGNS = (
    "texts with an identifier",
    "metadata with an identifier",
    "files that do not say SYNTHETIC",
    "bright signs at the border",
)
KINDS = (TEXT, METADATA, UNMARKED, SIGNS)
MEANINGS: Mapping[str, str] = {
    TEXT: "share of rows whose text or cells hold a date, a long number, an address, a titled name or a mark of"
    " de-identification",
    METADATA: "share of files whose metadata name a patient, a person, a place or a date",
    UNMARKED: "share of files without the mark SYNTHETIC in their metadata",
    SIGNS: "share of images with a row of small bright signs near a border, as burned-in text and side markers are",
}
OLDEST = 89
# What each pattern finds in a text. De-identification leaves marks that a model learns to write.
PATTERNS: Mapping[str, re.Pattern[str]] = {
    "a mark of de-identification": re.compile(r"\[\*\*.*?\*\*\]|\bX{4,}\b|_{3,}"),
    "a date": DATE_WITHIN,
    "a long number": re.compile(r"\b\d{6,}\b"),
    "an address": re.compile(r"\b[\w.+-]+@[\w-]+\.\w+\b|\bhttps?://\S+"),
    "a telephone number": re.compile(r"(?<!\w)\+?\d{2,4}(?:[ /-]\d{2,4}){2,}(?!\w)"),
    "a titled name": re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Prof)\.? [A-Z][a-z]+"),
}
# DICOM attributes that name someone, somewhere or some time, and what may stand in them.
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
# Of signs: how bright, how large in pixels of an image whose longer side is 512, how near a border, how many in a row.
BRIGHT, LONGER_SIDE, BORDER, IN_A_ROW = 0.9, 512, 0.15, 3
SIGN_HEIGHT, SIGN_WIDTH = (5, 28), (2, 28)


@dataclass(frozen=True)
class Finding:
    """What was found of one image.

    Attributes:
        kind: one of KINDS.
        path: the file.
        what: in words, without the value itself.
    """

    kind: str
    path: Path
    what: str


def lint_figures(
    synthetic: ImageSet, real: ImageSet, seed: int, unit: str | None = None, shown: bool = True
) -> tuple[list[Figure], list[Finding]]:
    """The share of synthetic images with each kind of finding, and the findings.

    Bright signs stand beside those of real images: a mark that real images have is learnt from them.

    Args:
        synthetic: the images in question.
        real: held-out real images, of which only the pixels are looked at.
        seed: of resamples.
        unit: of files that do not state theirs.
        shown: whether to show progress.

    Raises:
        UserError: an image that cannot be read.
    """
    looks: Sequence[tuple[str, Callable[[Sample], str | None]]] = (
        (TEXT, in_texts),
        (METADATA, in_metadata),
        (UNMARKED, unmarked),
        (SIGNS, partial(in_pixels, unit=unit)),
    )
    hits: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    findings = []
    with progress("looking for identifiers", len(synthetic) + len(real), "images", 0, shown) as advance:
        for sample in synthetic.samples:
            for kind, look in looks:
                what = look(sample)
                hits[kind].append(what is not None)
                if what is not None:
                    findings.append(Finding(kind, sample.path, what))
            advance()
        signs = []
        for sample in real.samples:
            signs.append(in_pixels(sample, unit) is not None)
            advance()
    nothing, theirs = Reference("none", 0.0), rate(np.array(signs), real.units, seed)
    own = np.arange(len(synthetic))
    return [
        Figure.of(
            rate(np.array(hits[kind]), own, seed),
            section=SECTION,
            metric=kind,
            subset=EVERYTHING,
            counted="images",
            reference=Reference.of(theirs, "held-out real images") if kind == SIGNS else nothing,
            better=LOWER,
        )
        for kind in KINDS
    ], findings


def in_texts(sample: Sample) -> str | None:
    """What identifies someone in the row's text or cells, in words; None where nothing does."""
    condition = sample.condition
    cells = {"text": condition.text, **condition.table}
    for column, cell in cells.items():
        if isinstance(cell, float) and is_age(column) and cell > OLDEST:
            return f"{column}: an age above {OLDEST}"
        if isinstance(cell, str):
            for what, pattern in PATTERNS.items():
                if pattern.search(cell):
                    return f"{column}: {what}"
    return None


def unmarked(sample: Sample) -> str | None:
    """That a file does not say SYNTHETIC."""
    written = sample.path.name.lower().endswith(tuple(WRITERS))
    return None if written and read_provenance(sample.path).get("SYNTHETIC") else "no mark SYNTHETIC"


def in_metadata(sample: Sample) -> str | None:
    """Which entry of a file's metadata identifies someone."""
    for name, value in metadata(sample.path).items():
        if name in NAMING and value.strip().upper() not in NAMELESS:
            return name
        for what, pattern in PATTERNS.items():
            # UIDs and hashes are long numbers that name nobody.
            if what != "a long number" and pattern.search(value):
                return f"{name}: {what}"
    return None


def metadata(path: Path) -> dict[str, str]:
    """The entries of a file's metadata that may name someone: of DICOM, and of the text of pictures."""
    suffixes = "".join(path.suffixes[-2:]).lower()
    if path.suffix.lower() in (".dcm", ""):
        import pydicom

        data = pydicom.dcmread(path, stop_before_pixels=True)
        return {name: str(data.get(name, "") or "") for name in NAMING}
    if suffixes.endswith((".png", ".jpg", ".jpeg", ".tif", ".tiff")):
        from PIL import Image
        from PIL.ExifTags import TAGS

        with Image.open(path) as opened:
            chunks = {str(name): str(value) for name, value in opened.info.items() if isinstance(value, str)}
            return chunks | {TAGS.get(tag, str(tag)): str(value) for tag, value in opened.getexif().items()}
    return {}


def in_pixels(sample: Sample, unit: str | None = None) -> str | None:
    """Where signs stand near a border of a 2-D image; None for volumes, and where there are none."""
    image = read_image(sample.path, unit=unit).pixels
    if image.ndim != 3:
        return None
    grey = image.mean(axis=0)
    span = float(grey.max() - grey.min())
    return None if not span else signs((grey - grey.min()) / span)


def signs(grey: NDArray[np.floating]) -> str | None:
    """Which border has three or more small bright signs in a row near it; None where none has.

    Args:
        grey: `(rows, columns)`, 0 to 1.
    """
    scale = max(grey.shape) / LONGER_SIDE
    boxes = [
        (rows, columns)
        for rows, columns in find_objects(label(grey > BRIGHT, np.ones((3, 3)))[0])
        if _fits(rows, SIGN_HEIGHT, scale) and _fits(columns, SIGN_WIDTH, scale)
    ]
    for border, near in _borders(grey.shape):
        rows_of = sorted(
            ((r.start + r.stop) / 2, r.stop - r.start, (c.start + c.stop) / 2) for r, c in boxes if near(r, c)
        )
        if any(_in_a_row(rows_of, first) >= IN_A_ROW for first in rows_of):
            return f"near the {border} border"
    return None


def _fits(extent: slice, allowed: tuple[int, int], scale: float) -> bool:
    return allowed[0] * scale <= extent.stop - extent.start <= allowed[1] * scale


def _in_a_row(boxes: Sequence[tuple[float, int, float]], first: tuple[float, int, float]) -> int:
    """How many signs of about one height stand on the line of the first, each no farther than three heights from it."""
    height = first[1]
    return sum(
        abs(middle - first[0]) <= height / 2 and height / 2 <= own <= height * 2 and abs(place - first[2]) <= 3 * height
        for middle, own, place in boxes
    )


def _borders(shape: tuple[int, ...]) -> list[tuple[str, Callable[[slice, slice], bool]]]:
    rows, columns = shape
    top, left = BORDER * rows, BORDER * columns
    return [
        ("upper", lambda r, c: r.stop <= top),
        ("lower", lambda r, c: r.start >= rows - top),
        ("left", lambda r, c: c.stop <= left),
        ("right", lambda r, c: c.start >= columns - left),
    ]


def write_findings(path: Path, findings: Sequence[Finding]) -> None:
    """Write the findings as CSV; it names files, and is not for sharing."""
    write_csv(path, ["kind", "path", "what"], [[found.kind, found.path, found.what] for found in findings])
