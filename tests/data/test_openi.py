"""The Open-i reports: from a folder, from the archive, and from files that are broken or hostile."""

import io
import tarfile
from pathlib import Path

import pytest

from medloom.core.errors import UserError
from medloom.data.sources.openi import OpenReport, read_openi
from medloom.report_text.sections import count_sections

XML = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><uId id="CXR{number}"/><Abstract><AbstractText Label="COMPARISON"/>
<AbstractText Label="FINDINGS">No   effusion.</AbstractText><AbstractText Label="IMPRESSION">Normal.</AbstractText>
</Abstract><MeSH><major>Opacity/lung/left</major><major/></MeSH>
<parentImage id="CXR{number}_1"><caption>PA chest</caption></parentImage>
<parentImage id="CXR{number}_2"><caption>PA and lateral</caption></parentImage></eCitation>"""
BOMB = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><eCitation><uId id="&x;"/></eCitation>'


def archive_of(path: Path, files: dict[str, str]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("reports/link.xml")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return path


def check(report: OpenReport) -> None:
    assert report.id == "CXR2"
    assert report.sections == {"findings": "No effusion.", "impression": "Normal."}
    assert report.mesh == ("Opacity/lung/left",)
    assert [(image.id, image.view) for image in report.images] == [("CXR2_1", "PA"), ("CXR2_2", None)]


def test_a_folder_with_files_below_it(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for number in (10, 2):
        (tmp_path / "deep" / f"{number}.xml").write_text(XML.format(number=number))
    read = read_openi(tmp_path)
    assert [report.id for report in read.reports] == ["CXR2", "CXR10"]
    check(read.reports[0])


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside.xml").write_text(XML.format(number=1))
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "1.xml").symlink_to(tmp_path / "outside.xml")
    (inside / "2.xml").write_text(XML.format(number=2))
    assert [report.id for report in read_openi(inside).reports] == ["CXR2"]


def test_an_archive_is_read_where_it_lies(tmp_path: Path) -> None:
    files = {"../../escape.xml": XML.format(number=2), "/abs.xml": XML.format(number=3), "readme.txt": "x"}
    read = read_openi(archive_of(tmp_path / "reports.tgz", files))
    check(read.reports[0])
    assert len(read.reports) == 2
    assert not read.problems
    assert [path.name for path in tmp_path.rglob("*")] == ["reports.tgz"]


def test_what_cannot_be_read_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    good = XML.format(number=2)
    bad = {"cut.xml": good[:200], "bomb.xml": BOMB, "other.xml": "<a/>", "twice.xml": good}
    unlabelled = good.replace(' Label="IMPRESSION"', "").replace("CXR2", "CXR5")
    read = read_openi(archive_of(tmp_path / "r.tgz", {"2.xml": good, **bad, "unlabelled.xml": unlabelled}))
    check(read.reports[0])
    assert set(read.problems) == {*bad, "unlabelled.xml"}
    assert "entity" in read.problems["bomb.xml"]
    assert "CXR2" in read.problems["twice.xml"]


def test_what_is_no_collection_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no XML file"):
        read_openi(tmp_path)
    with pytest.raises(UserError, match="neither a folder nor an archive"):
        read_openi(tmp_path / "missing.tgz")
    whole = archive_of(tmp_path / "r.tgz", {"2.xml": XML}).read_bytes()
    (tmp_path / "cut.tgz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cannot be read as an archive"):
        read_openi(tmp_path / "cut.tgz")


def test_the_real_collection(shared: Path) -> None:
    archive = shared / "reports" / "NLMCXR_reports.tgz"
    if not archive.is_file():
        pytest.skip("no Open-i reports beside the checkout")
    read = read_openi(archive)
    assert not read.problems
    # The labels that are not empty, counted with ElementTree alone.
    assert count_sections(report.sections for report in read.reports) == {
        "reports": 3955,
        "indication": 3865,
        "comparison": 3333,
        "findings": 3425,
        "impression": 3921,
    }
    assert sum(len(report.images) for report in read.reports) == 7470
    assert read.reports[0].mesh == ("normal",)
