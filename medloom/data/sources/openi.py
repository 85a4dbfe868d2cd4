"""The Open-i collection of chest X-ray reports of Indiana University: XML files, in a folder or in the archive itself.

The reports are under CC BY-NC-ND 4.0: they are read where they lie; nothing is extracted, copied or changed. Names and
dates are already masked in them by "XXXX".

Demner-Fushman et al., Preparing a collection of radiology examinations for distribution and retrieval, JAMIA 2016.
"""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from medloom.core.errors import UserError
from medloom.report_text.sections import section_name

ARCHIVES = (".tgz", ".tar.gz", ".tar")
# Views that a caption names, and their words; a caption of a study with both names neither for one image.
VIEWS = {"PA": r"\bpa\b|posteroanterior", "AP": r"\bap\b|anteroposterior", "lateral": r"\blateral\b"}
LARGEST = 4 << 20  # bytes of a report's XML; the real ones have some thousand


@dataclass(frozen=True)
class OpenImage:
    """One image that a report names.

    Attributes:
        id: its name without ending, e.g. CXR1_1_IM-0001-3001.
        caption: as it is stated for the study, whitespace collapsed; may be empty.
        view: PA, AP or lateral where the caption names just one of them, else None.
    """

    id: str
    caption: str
    view: str | None


@dataclass(frozen=True)
class OpenReport:
    """One report.

    Attributes:
        id: of the report, e.g. CXR1.
        sections: name of the section, as of `medloom.report_text.sections.SECTIONS`, to its text; empty ones left out.
        images: that it names, in order; some reports name none.
        mesh: the labels that annotators gave, finding and qualifiers, as "Opacity/lung/base/left".
    """

    id: str
    sections: dict[str, str]
    images: tuple[OpenImage, ...]
    mesh: tuple[str, ...]


@dataclass(frozen=True)
class OpenReports:
    """What was read.

    Attributes:
        reports: in the order of their numbers.
        problems: files that could not be read, each by its name and what is wrong.
    """

    reports: tuple[OpenReport, ...]
    problems: dict[str, str] = field(default_factory=dict)


def read_openi(path: Path) -> OpenReports:
    """Read the reports.

    Args:
        path: a folder with XML files anywhere below it, or the archive (.tgz, .tar.gz, .tar).

    Raises:
        UserError: there is no such folder or archive, it cannot be read, or it holds no XML file.
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
            problems[name] = f"report {report.id} stands in an earlier file already"
        else:
            reports[report.id] = report
    if not reports and not problems:
        raise UserError(f"{path} holds no XML file; name the folder or the archive of the Open-i reports.")
    return OpenReports(tuple(sorted(reports.values(), key=lambda report: _number(report.id))), problems)


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each XML file."""
    if path.is_dir():
        yield from _folder_files(path)
    elif path.is_file() and path.name.casefold().endswith(ARCHIVES):
        yield from _archive_files(path)
    else:
        raise UserError(
            f"{path} is neither a folder nor an archive ({', '.join(ARCHIVES)}); name where the Open-i reports are."
        )


def _folder_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    root = folder.resolve()
    for file in sorted(folder.rglob("*.xml")):
        # A link that leads out of the folder is not followed.
        if file.is_file() and file.resolve().is_relative_to(root):
            with file.open("rb") as stream:
                yield file.relative_to(folder).as_posix(), stream.read(LARGEST + 1)


def _archive_files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Regular files only, read into memory one by one: a member's path is a name here, never a place on the disk."""
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isreg() and PurePosixPath(member.name).suffix.casefold() == ".xml":
                    stream = archive.extractfile(member)
                    if stream is not None:
                        yield member.name, stream.read(LARGEST + 1)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"{path} cannot be read as an archive ({error}); get it again from its source.") from error


def _report(content: bytes) -> OpenReport:
    """One report from its XML.

    Raises:
        ValueError: it is too large, declares entities, or has no report's id.
    """
    if len(content) > LARGEST:
        raise ValueError(f"larger than {LARGEST >> 20} MiB, which no report is")
    # Reports need no document type; without one there are no entities to expand or to fetch.
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise ValueError("declares a document type or an entity, which no report needs")
    root = ElementTree.fromstring(content)  # noqa: S314 - no entities, see above
    identity = root.find("uId")
    name = "" if identity is None else identity.get("id", "")
    if not name:
        raise ValueError("has no report's id (uId)")
    images = tuple(_image(element) for element in root.iter("parentImage"))
    mesh = tuple(_text(element) for element in root.iterfind("MeSH/major"))
    return OpenReport(name, _sections(root), images, tuple(label for label in mesh if label))


def _sections(root: ElementTree.Element) -> dict[str, str]:
    """Sections by the labels of AbstractText; a label that is no heading of ours keeps its name, in lower case.

    Raises:
        ValueError: a text without a label.
    """
    sections: dict[str, str] = {}
    for element in root.iter("AbstractText"):
        label, text = element.get("Label", "").strip(), _text(element)
        if not text:
            continue
        if not label:
            raise ValueError("has a text (AbstractText) without a label")
        named = section_name(label) or label.casefold()
        sections[named] = f"{sections[named]} {text}" if named in sections else text
    return sections


def _image(element: ElementTree.Element) -> OpenImage:
    caption = _text(element.find("caption"))
    views = [view for view, words in VIEWS.items() if re.search(words, caption, re.IGNORECASE)]
    return OpenImage(element.get("id", ""), caption, views[0] if len(views) == 1 else None)


def _text(element: ElementTree.Element | None) -> str:
    return "" if element is None else " ".join("".join(element.itertext()).split())


def _number(name: str) -> tuple[int, str]:
    digits = re.sub(r"\D", "", name)
    return (int(digits) if digits else 0, name)
