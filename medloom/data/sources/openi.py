"""The Open-i chest X-ray reports of Indiana University, from XML files in a folder or in their archive.

The reports are under CC BY-NC-ND 4.0: they are read in their original files; nothing is extracted, copied or changed.
Their names and dates are already masked by "XXXX".

Rules of the manifest:

- One image per row, or one report per row without images.
- Captions belong to a study; the view is the one that the caption names, empty if it names none or several. A report's
  own row has the view that all its captions name.
- The collection has no patients; each report counts as a patient of its own.
- `mesh` has the labels of the annotators, separated by "; ", such as "Opacity/lung/base/left; Cardiomegaly".
- `findings` and `impression` have columns of their own, verbatim.

Demner-Fushman et al., Preparing a collection of radiology examinations for distribution and retrieval, JAMIA 2016.
"""

import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from medloom.core.errors import UserError
from medloom.data.sources.tally import Tally
from medloom.report_text.sections import section_name

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("findings", "impression")
ARCHIVES = (".tgz", ".tar.gz", ".tar")
# Views and their words in captions.
VIEWS = {"PA": r"\bpa\b|posteroanterior", "AP": r"\bap\b|anteroposterior", "lateral": r"\blateral\b"}
LARGEST = 4 << 20  # bytes of a report's XML; real reports have some thousand
SUFFIX = ".png"
# An image's name becomes a path: it must not lead out of the folder.
NAME = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True)
class OpenImage:
    """One image of a report.

    Attributes:
        id: its name without ending, e.g. CXR1_1_IM-0001-3001.
        caption: of the study, whitespace collapsed; may be empty.
        view: PA, AP or lateral if the caption names exactly one of them, else None.
    """

    id: str
    caption: str
    view: str | None


@dataclass(frozen=True)
class OpenReport:
    """One report.

    Attributes:
        id: of the report, e.g. CXR1.
        sections: name of the section (see `medloom.report_text.sections.SECTIONS`) -> its text; without empty ones.
        images: in order; some reports have none.
        mesh: labels of the annotators, finding and qualifiers, such as "Opacity/lung/base/left".
    """

    id: str
    sections: dict[str, str]
    images: tuple[OpenImage, ...]
    mesh: tuple[str, ...]


@dataclass(frozen=True)
class OpenReports:
    """All reports.

    Attributes:
        reports: in the order of their numbers.
        problems: unreadable files: name -> reason.
    """

    reports: tuple[OpenReport, ...]
    problems: dict[str, str] = field(default_factory=dict)


def read_openi(path: Path) -> OpenReports:
    """Read the reports.

    Args:
        path: a folder with XML files at any depth, or the archive (.tgz, .tar.gz, .tar).

    Raises:
        UserError: a missing or unreadable folder or archive, or one without XML files.
    """
    path = Path(path)
    reports: dict[str, OpenReport] = {}
    problems: dict[str, str] = {}
    for name, content in _files(path):
        try:
            report = _report(content)
        except (ElementTree.ParseError, ValueError) as error:
            problems[name] = f"{error}"
            continue
        if report.id in reports:
            problems[name] = f"report {report.id} is already in an earlier file"
        else:
            reports[report.id] = report
    if not reports and not problems:
        raise UserError(f"{path} holds no XML file; name the folder or the archive of the Open-i reports.")
    # By the number in the name.
    ordered = sorted(reports.values(), key=lambda report: (int(re.sub(r"\D", "", report.id) or 0), report.id))
    return OpenReports(tuple(ordered), problems)


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each XML file."""
    if path.is_dir():
        root = path.resolve()
        for file in sorted(path.rglob("*.xml")):
            # Links that lead out of the folder are not followed.
            if file.is_file() and file.resolve().is_relative_to(root):
                with file.open("rb") as stream:
                    yield file.relative_to(path).as_posix(), stream.read(LARGEST + 1)
    elif path.is_file() and path.name.casefold().endswith(ARCHIVES):
        yield from _archive_files(path)
    else:
        raise UserError(
            f"{path} is neither a folder nor an archive ({', '.join(ARCHIVES)}); name that of the Open-i reports."
        )


def _archive_files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Regular files only, read into memory one by one: a member's path is only a name, never a path on the disk."""
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isreg() and PurePosixPath(member.name).suffix.casefold() == ".xml":
                    stream = archive.extractfile(member)
                    if stream is not None:
                        yield member.name, stream.read(LARGEST + 1)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"{path} cannot be read as an archive ({error}); download it again.") from error


def _report(content: bytes) -> OpenReport:
    """One report from its XML.

    Raises:
        ValueError: too large, with a document type or entities, or without a report id or a text's label.
    """
    if len(content) > LARGEST:
        raise ValueError(f"larger than {LARGEST >> 20} MiB, which no report is")
    # Reports have no document type; without one there are no entities to expand or fetch.
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise ValueError("declares a document type or an entity, which no report needs")
    root = ElementTree.fromstring(content)  # noqa: S314 - no entities, see above
    identity = root.find("uId")
    name = "" if identity is None else identity.get("id", "")
    if not name:
        raise ValueError("has no report id (uId)")
    images = tuple(_image(element) for element in root.iter("parentImage"))
    mesh = tuple(_text(element) for element in root.iterfind("MeSH/major"))
    # Sections by the labels of AbstractText; unknown labels keep their names in lower case.
    sections: dict[str, str] = {}
    for element in root.iter("AbstractText"):
        label, text = element.get("Label", "").strip(), _text(element)
        if not text:
            continue
        if not label:
            raise ValueError("has a text (AbstractText) without a label")
        named = section_name(label) or label.casefold()
        sections[named] = f"{sections[named]} {text}" if named in sections else text
    return OpenReport(name, sections, images, tuple(label for label in mesh if label))


def _image(element: ElementTree.Element) -> OpenImage:
    caption = _text(element.find("caption"))
    views = [view for view, words in VIEWS.items() if re.search(words, caption, re.IGNORECASE)]
    return OpenImage(element.get("id", ""), caption, views[0] if len(views) == 1 else None)


def _text(element: ElementTree.Element | None) -> str:
    return "" if element is None else " ".join("".join(element.itertext()).split())


def report_rows(reports: Sequence[OpenReport]) -> "pd.DataFrame":
    """One row per report: patient_id, view and mesh."""
    import pandas as pd

    rows = [(report.id, _common_view(report), "; ".join(report.mesh)) for report in reports]
    return pd.DataFrame(rows, columns=["patient_id", "view", "mesh"])


def image_rows(reports: Sequence[OpenReport], images: Path, skip_bad: bool, tally: Tally) -> "pd.DataFrame":
    """One row per image: file (its name in the folder), patient_id, view and mesh.

    Args:
        reports: from `read_openi`.
        images: folder with `<name of the image>.png`.
        skip_bad: continue without missing images.
        tally: records the counts.

    Raises:
        UserError: no such folder, an invalid image name, or missing images that are not skipped.
    """
    import pandas as pd

    if not images.is_dir():
        raise UserError(f"--images {images} is not a folder; name the folder of the unpacked NLMCXR_png.tgz.")
    bare = [report.id for report in reports if not report.images]
    tally.add("an image in the report", len(bare), "reports", names=bare)
    rows, missing = [], []
    for report in reports:
        for image in report.images:
            if not NAME.fullmatch(image.id):
                raise UserError(
                    f"report {report.id} has an image {image.id!r}, which is not a valid file name; correct the report."
                )
            name = f"{image.id}{SUFFIX}"
            if (images / name).is_file():
                rows.append((name, report.id, image.view or "", "; ".join(report.mesh)))
            else:
                missing.append(name)
    tally.skip_or_refuse(skip_bad, str(images), "a file", missing, len(rows) + len(missing))
    frame = pd.DataFrame(rows, columns=["file", "patient_id", "view", "mesh"])
    twice = frame["file"].duplicated()
    tally.add("a row for each file", int(twice.sum()), "images", "left out, the image is in another report too")
    return frame[~twice].reset_index(drop=True)


def _common_view(report: OpenReport) -> str:
    views = {image.view for image in report.images}
    return (views.pop() or "") if len(views) == 1 else ""
