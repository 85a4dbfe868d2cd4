"""`medloom data import openi` and `covid-cxr`: reports and a clinical table become manifests."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medloom.cli.main import main
from medloom.core.config import configure
from medloom.data.manifest import read_manifest
from medloom.recipes import data_import_covid_cxr, data_import_openi
from medloom.recipes.commands import run_command


def picture(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (16, 16)).astype(np.uint8)).save(path)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """Runs an import that has to fail; gives its sentence and checks that nothing was written."""

    def run(source: str, *words: object) -> str:
        out = tmp_path / "fails.csv"
        assert main(["data", "import", source, *map(str, words), "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error and not out.exists()
        return error

    return run


XML = """<eCitation><uId id="CXR{number}"/><Abstract><AbstractText Label="FINDINGS">No effusion.</AbstractText>
<AbstractText Label="IMPRESSION">{impression}</AbstractText></Abstract><MeSH><major>Opacity/lung/left</major>
<major>Cardiomegaly</major></MeSH><parentImage id="CXR{number}_1"><caption>PA chest</caption></parentImage>
<parentImage id="CXR{number}_2"><caption>Lateral chest</caption></parentImage></eCitation>"""


@pytest.fixture
def openi(tmp_path: Path) -> Path:
    root = tmp_path / "openi"
    root.mkdir()
    for number, impression in enumerate(("Normal.", "", "Stable effusion.")):
        (root / f"{number}.xml").write_text(XML.format(number=number, impression=impression))
        for image in (1, 2):
            picture(root / "png" / f"CXR{number}_{image}.png", 2 * number + image)
    return root


def test_openi_with_images(openi: Path, fails: Callable[..., str]) -> None:
    out = openi / "rows.csv"
    options = {"root": openi, "images": openi / "png", "out": out}
    data_import_openi.run(configure(data_import_openi.Config, **options))
    rows = rows_of(out)
    assert [row["path"] for row in rows][:2] == ["png/CXR0_1.png", "png/CXR0_2.png"] and len(rows) == 6
    assert [row["view"] for row in rows][:2] == ["PA", "lateral"]
    assert [row["Text"] for row in rows][::2] == ["Normal.", "No effusion.", "Stable effusion."]
    assert rows[0]["mesh"] == "Opacity/lung/left; Cardiomegaly" and rows[0]["findings"] == "No effusion."
    read_manifest(out)
    data_import_openi.run(configure(data_import_openi.Config, view=("pa",), **options))
    assert {row["view"] for row in rows_of(out)} == {"PA"}
    (openi / "png" / "CXR2_1.png").unlink()
    assert "1 of 6 images lack a file (CXR2_1.png)" in fails("openi", openi, "--images", openi / "png")
    (openi / "bad.xml").write_text("<a>")
    assert "1 files cannot be read (bad.xml" in fails("openi", openi)
    assert "no row remains" in fails("openi", openi, "--sections", "addendum", "--skip-bad")


def test_openi_without_images(openi: Path) -> None:
    out = openi / "rows.csv"
    config = configure(data_import_openi.Config, root=openi, out=out, sections=("impression",), keep_without_text=True)
    data_import_openi.run(config)
    rows = rows_of(out)
    assert [(row["patient_id"], row["Text"]) for row in rows] == [
        ("CXR0", "Normal."),
        ("CXR1", ""),
        ("CXR2", "Stable effusion."),
    ]
    # Its images are of two views, so the report as a whole has none.
    assert "path" not in rows[0] and {row["view"] for row in rows} == {""}


def test_the_real_openi_reports(shared: Path, tmp_path: Path) -> None:
    archive = shared / "reports" / "NLMCXR_reports.tgz"
    if not archive.is_file():
        pytest.skip("no Open-i reports beside the checkout")
    out = tmp_path / "texts.csv"
    assert main(["data", "import", "openi", str(archive), "--out", str(out)]) == 0
    manifest = read_manifest(out, need=("text",))
    # 28 of the 3,955 have neither an impression nor findings; 3,921 have an impression.
    assert len(manifest) == 3927 and "path" not in manifest.frame
    assert (manifest.frame["impression"].notna()).sum() == 3921
    facts = json.loads((tmp_path / "texts.import.json").read_text())
    assert facts["reports"]["used"] == {"impression": 3921, "findings": 6}


HEADER = "patientid,offset,sex,age,finding,RT_PCR_positive,survival,intubated,intubation_present,went_icu,in_icu"
HEADER += ",view,modality,date,location,folder,filename,doi,url,license,clinical_notes,other_notes,"
COVID = (
    '2,0,M,65,Pneumonia/Viral/COVID-19,Y,Y,N,N,N,N,PA,X-ray,"January 22, 2020","Hanoi, Vietnam",images,a.jpg,,,CC BY,'
    '"Opacities,  bilateral.",,',
    "2,3,M,65,Pneumonia/Viral/COVID-19,Y,Y,N,N,N,N,PA,X-ray,2020,Vietnam,images,b.jpg,,,CC BY,Clearing.,,",
    "3,,F,,Pneumonia,,,,,Y,,AP Supine,X-ray,2020,Italy,images,c.jpg,,,,Consolidation.,,",
    "4,7,F,50,todo,,N,,,,,L,X-ray,2020,Italy,images,d.jpg,,,CC BY-NC-SA,,,",
    "4,7,F,50,Unknown,,N,,,,,Axial,CT,2020,Italy,volumes,e.nii.gz,,,,Ground glass.,,",
)


@pytest.fixture
def covid(tmp_path: Path) -> Path:
    root = tmp_path / "covid"
    root.mkdir()
    (root / "metadata.csv").write_text("\n".join([HEADER, *COVID]) + "\n")
    for number, name in enumerate("abcd"):
        picture(root / "images" / f"{name}.jpg", number)
    return root


def test_covid(covid: Path, fails: Callable[..., str]) -> None:
    out = covid / "rows.csv"
    data_import_covid_cxr.run(configure(data_import_covid_cxr.Config, root=covid, out=out))
    rows = rows_of(out)
    assert [row["path"] for row in rows] == ["images/a.jpg", "images/b.jpg", "images/c.jpg"]
    assert [row["time"] for row in rows] == ["0", "3", ""] and rows[0]["Text"] == "Opacities, bilateral."
    assert [(row["finding"], row["finding_path"]) for row in rows[1:]] == [
        ("COVID-19", "Pneumonia/Viral/COVID-19"),
        ("Pneumonia", "Pneumonia"),
    ]
    assert rows[0]["licence"] == "CC BY" and rows[2]["icu"] == "Y" and "" not in rows[0]
    read_manifest(out)
    run_command("data journeys", data=out, out=covid / "t.csv", register="off", progression="text", skip_bad=True)
    assert [row["days"] for row in rows_of(covid / "t.csv")] == ["3"]
    options = {"root": covid, "out": out, "text": "none", "view": ("L",)}
    data_import_covid_cxr.run(configure(data_import_covid_cxr.Config, **options))
    assert [(row["path"], row["finding"]) for row in rows_of(out)] == [("images/d.jpg", "")]
    assert "Text" not in rows_of(out)[0]


def test_covid_tables_that_are_damaged(covid: Path, fails: Callable[..., str]) -> None:
    table = covid / "metadata.csv"
    whole = table.read_text()
    assert "--modality MR: no image has it; the values are CT, X-ray" in fails("covid-cxr", covid, "--modality", "MR")
    table.write_text(whole.replace(",a.jpg", ",../a.jpg"))
    assert "line 2: images/../a.jpg leads out of the folder" in fails("covid-cxr", covid)
    table.write_text(whole + "9,1\n")
    assert "line 7: 2 fields" in fails("covid-cxr", covid)
    table.write_text(whole.replace("license", "terms"))
    assert "no column 'license'" in fails("covid-cxr", covid)
    table.write_text(whole.replace("b.jpg", "z.jpg"))
    assert "1 of 4 images lack a file (images/z.jpg)" in fails("covid-cxr", covid)
    table.unlink()
    assert "holds no metadata.csv" in fails("covid-cxr", covid)
