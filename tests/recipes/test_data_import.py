"""`medloom data import mimic-cxr`: a layout of ten patients, as JPEG and as DICOM, becomes a manifest."""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medloom.cli.main import main
from medloom.core.config import configure
from medloom.core.errors import UserError
from medloom.core.image import Image as Picture
from medloom.data.images import read_image, write_image
from medloom.data.manifest import read_manifest
from medloom.recipes import data_import_mimic_cxr, data_journeys
from medloom.recipes.commands import run_command
from medloom.report_text.sections import sections_of

FINAL = "                                 FINAL REPORT\n"
NESTED = (
    FINAL + " EXAMINATION:  CHEST (PA AND LAT)\n\n INDICATION:  ___F with new onset ascites  // eval for infection\n\n"
    " TECHNIQUE:  Chest PA and lateral\n\n COMPARISON:  None.\n\n FINDINGS: \n\n"
    " LUNGS: There is no focal consolidation.\n"
    " HEART: The heart is mildly enlarged.\n\n IMPRESSION: \n\n Mild cardiomegaly.  No pneumonia.\n"
)
LOWER = "final report\n indication: cough.\n\n findings: The lungs are clear.\n\n impression: normal chest.\n"
NO_IMPRESSION = FINAL + " INDICATION: ___ year old man.\n\n FINDINGS: Left basilar atelectasis.\n"
BOTH = FINAL + " FINDINGS AND IMPRESSION: Small left pleural effusion.\n"
ADDENDUM = (
    "                                 FINAL ADDENDUM\n ADDENDUM: Discussed with Dr. ___ by telephone.\n"
    " " + 40 * "_" + "\n" + FINAL + " IMPRESSION: Comparison is made to the prior study. New right effusion.\n"
)
CHANGED = FINAL + " COMPARISON: ___\n\n IMPRESSION: No significant change.\n"
NOTHING = FINAL + " INDICATION: Fever.\n"
# Patient, study, date, time of day, views, split, report (None: it is missing).
STUDIES = (
    ("10000032", "50000003", "21800506", "213014.531", ("PA", "LATERAL"), "train", NESTED),
    ("10000032", "50000001", "21800626", "165500.312", ("LL", "AP"), "train", LOWER),
    ("10000032", "50000009", "21800626", "91500.0", ("AP",), "train", NO_IMPRESSION),
    ("10000764", "50000010", "21500101", "85529", ("",), "train", BOTH),
    ("11000183", "50000011", "21500102", "0.0", ("PA",), "train", ADDENDUM),
    ("11000183", "50000012", "21510102", "", ("PA",), "train", CHANGED),
    ("11000416", "50000013", "21520229", "120000", ("PA",), "validate", NOTHING),
    ("12000935", "50000014", "21530229", "120000", ("AP",), "train", LOWER),
    ("13001217", "50000015", "21800506", "120000", ("AP",), "train", NESTED),
    ("14001401", "50000016", "21800506", "120000", ("AP",), "train", None),
    ("15001884", "50000017", "21800506", "120000", ("AP",), "train", NESTED),
    ("19002221", "50000018", "21800506", "120000", ("PA", "PA"), "test", NESTED),
    ("19002430", "50000019", "21800506", "120000", ("PA",), "test", NESTED),
)
# Anchor age and year; the tables lack 15001884.
PATIENTS = {
    "10000032": ("F", 52, 2180),
    "10000764": ("M", 86, 2147),
    "11000183": ("M", 91, 2145),
    "11000416": ("F", 91, 2160),
    "12000935": ("M", 40, 2153),
    "13001217": ("F", 60, 2185),
    "14001401": ("M", 60, 2180),
    "19002221": ("F", 88, 2180),
    "19002430": ("M", 61, 2180),
}
ADMISSIONS = (
    ("10000032", "2180-05-06 22:23:00", "WHITE"),
    ("10000032", "2180-06-26 18:27:00", "UNKNOWN"),
    ("10000032", "2180-07-26 18:27:00", "UNKNOWN"),
    ("10000764", "2151-05-06 22:23:00", "OTHER"),
    ("10000764", "2150-05-06 22:23:00", "WHITE - RUSSIAN"),
    ("11000183", "2150-05-06 22:23:00", "UNABLE TO OBTAIN"),
)
LABELS = "Atelectasis", "Cardiomegaly", "No Finding", "Pleural Effusion"
LABELLED = {"50000003": ("", "1.0", "", "0.0"), "50000001": ("", "", "1.0", ""), "50000009": ("-1.0", "", "", "")}


def table(path: Path, header: tuple[str, ...], rows: list[tuple[object, ...]], gzipped: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [",".join(map(str, row)) for row in (header, *rows)]
    text = "\n".join(lines) + "\n"
    if gzipped:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)


def picture(path: Path, number: int) -> None:
    pixels = np.random.default_rng(number).integers(0, 256, (16, 16)).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jpg":
        Image.fromarray(pixels).save(path)
    else:
        write_image(path, Picture(pixels[None] / np.float32(255), unit="relative"), {})


def mimic(folder: Path, suffix: str, gzipped: bool = False) -> Path:
    """Ten patients as PhysioNet lays them out."""
    root, metadata, splits = folder / "cxr", [], []
    for patient, study, day, clock, views, split, report in STUDIES:
        below = f"p{patient[:2]}/p{patient}"
        for number, view in enumerate(views):
            image = f"{study}-0{number}aa-bb"
            picture(root / "files" / below / f"s{study}" / f"{image}{suffix}", int(study) * 10 + number)
            metadata.append((image, patient, study, "CHEST (PA AND LAT)", view, 16, 16, day, clock, ""))
            splits.append((image, study, patient, split))
        if report is not None:
            file = folder / "reports" / "files" / below / f"s{study}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(report)
    header = ("dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows")
    header += ("Columns", "StudyDate", "StudyTime", "ViewCodeSequence_CodeMeaning")
    table(root / "mimic-cxr-2.0.0-metadata.csv", header, metadata[::-1], gzipped)
    table(root / "mimic-cxr-2.0.0-split.csv", ("dicom_id", "study_id", "subject_id", "split"), splits, gzipped)
    labels = [(0, study, *cells) for study, cells in LABELLED.items()]
    table(root / "mimic-cxr-2.0.0-chexpert.csv", ("subject_id", "study_id", *LABELS), labels, gzipped)
    people = [(patient, *cells) for patient, cells in PATIENTS.items()]
    header = ("subject_id", "gender", "anchor_age", "anchor_year")
    table(folder / "iv" / "hosp" / "patients.csv", header, people, gzipped)
    stays = [(patient, 1, time, race) for patient, time, race in ADMISSIONS]
    table(folder / "iv" / "hosp" / "admissions.csv", ("subject_id", "hadm_id", "admittime", "race"), stays, gzipped)
    return root


@pytest.fixture(scope="module")
def jpg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mimic(tmp_path_factory.mktemp("jpg"), ".jpg")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def imported(root: Path, out: Path, **options: object) -> list[dict[str, str]]:
    given = {"reports": root.parent / "reports", "demographics": root.parent / "iv", **options}
    data_import_mimic_cxr.run(configure(data_import_mimic_cxr.Config, root=root, out=out, **given))
    return rows_of(out)


def by_study(rows: list[dict[str, str]]) -> dict[str, dict[str, str]]:
    return {row["study_id"]: row for row in rows}


def test_a_negative_seed_is_refused(jpg: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--seed -1 is out of range"):
        imported(jpg, tmp_path / "m.csv", seed=-1)
    assert not (tmp_path / "m.csv").exists()


def test_both_kinds_give_the_same_rows(jpg: Path, tmp_path: Path) -> None:
    dcm = mimic(tmp_path / "dcm", ".dcm", gzipped=True)
    first = imported(jpg, tmp_path / "jpg.csv")
    second = imported(dcm, tmp_path / "dcm" / "dcm.csv")
    assert [{**row, "path": ""} for row in first] == [{**row, "path": ""} for row in second]
    # Relative to the manifest, also where the data lie in a folder next to it.
    assert second[0]["path"] == "cxr/files/p10/p10000032/s50000003/50000003-00aa-bb.dcm"
    own = "files/p10/p10000032/s50000003/50000003-00aa-bb.jpg"
    assert first[0]["path"].startswith("../") and (tmp_path / first[0]["path"]).resolve() == jpg.resolve() / own
    # 50000013 has no section that is wanted, 50000016 no report.
    assert {row["study_id"] for row in first} == {study[1] for study in STUDIES} - {"50000013", "50000016"}
    manifest = read_manifest(tmp_path / "dcm" / "dcm.csv")
    assert len(manifest) == len(second) == 14 and manifest.modalities == ["X-ray"]
    assert read_image(Path(manifest.frame["path"].iloc[0])).size == (16, 16)


def test_texts_and_sections(jpg: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = by_study(imported(jpg, tmp_path / "rows.csv", section_columns=("findings", "addendum")))
    assert rows["50000003"]["Text"] == "Mild cardiomegaly. No pneumonia."
    assert rows["50000003"]["findings"].startswith("LUNGS: There is no focal consolidation. HEART:")
    assert rows["50000001"]["Text"] == "normal chest."
    assert rows["50000009"]["Text"] == "Left basilar atelectasis."
    assert rows["50000010"]["Text"] == "Small left pleural effusion."
    assert rows["50000011"]["Text"].endswith("New right effusion.") and "___" not in rows["50000011"]["Text"]
    assert rows["50000011"]["addendum"] == "ADDENDUM: Discussed with Dr. ___ by telephone."
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "all 12 examination 5 indication 9 technique 5 comparison 6 findings 9 2 impression 9 9" in printed
    assert "view (none) 1 1 view AP 5 4 view LATERAL 1 1 view LL 1 1 view PA 6 4" in printed
    facts = json.loads((tmp_path / "rows.import.json").read_text())
    counts = {rule["rule"]: rule["count"] for rule in facts["rules"]}
    assert counts["a report"] == 1 and counts["a section impression or findings"] == 1
    kept = by_study(imported(jpg, tmp_path / "rows.csv", keep_without_text=True))
    assert kept["50000013"]["Text"] == kept["50000016"]["Text"] == ""


def test_comparisons_are_left_out_where_asked(jpg: Path, tmp_path: Path) -> None:
    rows = by_study(imported(jpg, tmp_path / "rows.csv", strip_comparisons=True, section_columns=("impression",)))
    assert rows["50000011"]["Text"] == "Right effusion."
    assert rows["50000011"]["impression"].startswith("Comparison is made")
    assert "50000012" not in rows
    findings = imported(jpg, tmp_path / "rows.csv", sections=("findings",))
    assert by_study(findings)["50000003"]["Text"].startswith("LUNGS:") and "50000011" not in by_study(findings)


def test_the_order_of_a_patients_studies(jpg: Path, tmp_path: Path) -> None:
    rows = [row for row in imported(jpg, tmp_path / "rows.csv") if row["patient_id"] == "10000032"]
    # The later of two studies of a day has the smaller number, and stands after it all the same.
    assert list(dict.fromkeys(row["study_id"] for row in rows)) == ["50000003", "50000009", "50000001"]
    times = list(dict.fromkeys(row["time"] for row in rows))
    assert times == ["2180-05-06T21:30:14.531", "2180-06-26T09:15:00", "2180-06-26T16:55:00.312"]
    rest = by_study(imported(jpg, tmp_path / "rows.csv", keep_without_text=True))
    assert rest["50000010"]["time"] == "2150-01-01T08:55:29" and rest["50000011"]["time"] == "2150-01-02T00:00:00"
    assert rest["50000012"]["time"] == "2151-01-02"
    # 2152 has a 29th of February, 2153 has none.
    assert rest["50000013"]["time"].startswith("2152-02-29") and rest["50000014"]["time"] == ""


def test_patients(jpg: Path, tmp_path: Path) -> None:
    rows = imported(jpg, tmp_path / "rows.csv", keep_without_text=True)
    found = {row["patient_id"]: (row["age"], row["sex"], row["race"]) for row in rows}
    assert found["10000032"] == ("52", "F", "WHITE")
    assert found["10000764"] == ("89", "M", "WHITE - RUSSIAN")  # stated as often as OTHER, and first
    assert found["11000183"] == ("90", "M", "")
    assert found["11000416"] == ("", "F", "")  # above 89 at the anchor, and the study eight years earlier
    assert found["12000935"] == ("", "M", "")  # no date
    assert found["13001217"][0] == "55" and found["19002221"][0] == "88"
    assert found["15001884"] == ("", "", "")
    counts = {rule["rule"]: rule for rule in json.loads((tmp_path / "rows.import.json").read_text())["rules"]}
    assert counts["the patient in MIMIC-IV"]["count"] == 1
    assert counts["the patient in MIMIC-IV"]["of"] == "images of 1 patients"


@pytest.mark.parametrize(("uncertain", "cell"), [("mask", ""), ("positive", "1"), ("negative", "0"), ("keep", "-1")])
def test_labels(jpg: Path, tmp_path: Path, uncertain: str, cell: str) -> None:
    rows = by_study(imported(jpg, tmp_path / "rows.csv", uncertain=uncertain))
    names = ("atelectasis", "cardiomegaly", "no_finding", "pleural_effusion")
    assert [rows["50000003"][name] for name in names] == ["", "1", "", "0"]
    assert [rows["50000009"][name] for name in names] == [cell, "", "", ""]
    assert [rows["50000019"][name] for name in names] == ["", "", "", ""]
    frame = read_manifest(tmp_path / "rows.csv").frame
    assert frame["cardiomegaly"].sum() == 2 and frame["cardiomegaly"].isna().sum() == 12
    assert "cardiomegaly" not in imported(jpg, tmp_path / "rows.csv", labels="none")[0]


def test_splits(jpg: Path, tmp_path: Path) -> None:
    official = imported(jpg, tmp_path / "rows.csv", keep_without_text=True)
    splits = {row["study_id"]: row["split"] for row in official}
    assert splits["50000013"] == "validation" and splits["50000019"] == "test" and splits["50000001"] == "train"
    options = {"split": "p10-p18", "validation": 0.5, "keep_without_text": True}
    folders = imported(jpg, tmp_path / "rows.csv", **options)
    of_patient: dict[str, set[str]] = {}
    for row in folders:
        of_patient.setdefault(row["patient_id"], set()).add(row["split"])
    assert all(len(names) == 1 for names in of_patient.values())
    assert {name for name, split in of_patient.items() if split == {"test"}} == {"19002221", "19002430"}
    assert set().union(*of_patient.values()) == {"train", "validation", "test"}
    # A patient's split does not hang on which others are there.
    fewer = imported(jpg, tmp_path / "rows.csv", view=("AP",), **options)
    assert all({row["split"]} == of_patient[row["patient_id"]] for row in fewer)
    assert "split" not in imported(jpg, tmp_path / "rows.csv", split="none")[0]


def test_views_and_one_image_a_study(jpg: Path, tmp_path: Path) -> None:
    rows = imported(jpg, tmp_path / "rows.csv", one_per_study=True)
    views = {row["study_id"]: row["view"] for row in rows}
    assert len(rows) == len(views) == 11
    assert views["50000003"] == "PA" and views["50000001"] == "AP" and views["50000010"] == ""
    assert by_study(rows)["50000018"]["path"].endswith("50000018-00aa-bb.jpg")
    lateral = imported(jpg, tmp_path / "rows.csv", one_per_study=True, view=("LL", "lateral", "PA", "AP"))
    assert {row["study_id"]: row["view"] for row in lateral}["50000003"] == "LATERAL"
    assert {row["view"] for row in imported(jpg, tmp_path / "rows.csv", view=("pa",))} == {"PA"}


def test_journeys_follow(jpg: Path, tmp_path: Path) -> None:
    first = imported(jpg, tmp_path / "rows.csv", view=("PA", "AP"), section_columns=("report",))
    # The headings survive, so that a report is taken apart as the file was.
    assert first[0]["report"].startswith("EXAMINATION: CHEST (PA AND LAT) INDICATION: ___F")
    assert sections_of(first[0]["report"]) == sections_of(NESTED)
    # The study without a date is left out by --skip-bad.
    options = {"register": "off", "columns": {"text": "report"}, "study_column": "study_id", "skip_bad": True}
    out = tmp_path / "triples.csv"
    run_command("data journeys", data=tmp_path / "rows.csv", out=out, **options)
    pairs = {(row["prior_study_id"], row["study_id"]): row for row in rows_of(out)}
    there = {("50000009", "50000001"), ("50000011", "50000012")}
    assert set(pairs) == there | {(after, before) for before, after in there}, "both are of the split train"
    assert float(pairs["50000009", "50000001"]["days"]) == 0 and float(pairs["50000011", "50000012"]["days"]) == 365
    assert pairs["50000009", "50000001"]["instruction"] == "The left atelectasis has resolved."
    words = configure(
        data_journeys.Config,
        data=tmp_path / "rows.csv",
        out=out,
        **(options | {"columns": {"text": "Text"}}),
        progression="text",
    )
    data_journeys.run(words)
    assert {row["instruction"] for row in rows_of(out)} == {"normal chest.", "No significant change."}


def test_one_that_was_killed_can_be_run_again(jpg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*given: object) -> None:
        (tmp_path / ".m-0a1b2c3d.partial.csv").touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("medloom.data.tables.write_csv", killed)
        with pytest.raises(KeyboardInterrupt):
            imported(jpg, tmp_path / "m.csv")
    assert imported(jpg, tmp_path / "m.csv") == imported(jpg, tmp_path / "m.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.csv", "m.import.json"]


def test_a_preview_writes_nothing(jpg: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", "import", "mimic-cxr", str(jpg), "--reports", str(jpg.parent / "reports"), "--preview"]
    assert main([*words, "--out", str(tmp_path / "rows.csv")]) == 0
    printed = capsys.readouterr().out
    assert "row 10" in printed and "row 11" not in printed and "Text: Mild cardiomegaly." in printed
    assert not list(tmp_path.iterdir())


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


def test_what_is_missing_is_named(tmp_path: Path, fails: Callable[..., str]) -> None:
    root = mimic(tmp_path, ".jpg")
    reports = ("--reports", tmp_path / "reports")
    assert "mimic-cxr-*-metadata.csv or mimic-cxr-*-metadata.csv.gz" in fails("mimic-cxr", tmp_path, *reports)
    assert "patients.csv or patients.csv.gz" in fails("mimic-cxr", root, *reports, "--demographics", root)
    assert "holds no report of these studies, for example p10/p10000032/s50000003.txt" in fails("mimic-cxr", root)
    gone = sorted((root / "files/p10").rglob("*.jpg"))[:2]
    for path in gone:
        path.unlink()
    error = fails("mimic-cxr", root, *reports)
    assert "2 of 16 images lack a file" in error and gone[0].name in error and "--skip-bad" in error
    rows = imported(root, tmp_path / "rows.csv", skip_bad=True)
    assert len(rows) == 12
    (root / "files").rename(root / "elsewhere")
    assert "none of the 16 images" in fails("mimic-cxr", root, *reports)


def test_tables_that_are_damaged(tmp_path: Path, fails: Callable[..., str]) -> None:
    root = mimic(tmp_path, ".jpg")
    words = (root, "--reports", tmp_path / "reports")
    metadata = root / "mimic-cxr-2.0.0-metadata.csv"
    whole = metadata.read_text()
    lines = whole.splitlines()

    def broken(text: str) -> str:
        metadata.write_text(text)
        return fails("mimic-cxr", *words)

    assert "line 3: 4 fields where the header has 10" in broken("\n".join([*lines[:2], "a,1,2,x", *lines[3:]]))
    assert "line 2, column 'subject_id': '../../x'" in broken(whole.replace("19002430", "../../x"))
    assert "is already in an earlier line" in broken("\n".join([*lines, lines[-1]]))
    assert "no column 'StudyDate'" in broken(whole.replace("StudyDate", "Date"))
    assert "has no row" in broken(lines[0] + "\n")
    metadata.unlink()
    metadata.with_name(f"{metadata.name}.gz").write_bytes(gzip.compress(whole.encode())[:-40])
    assert "the table is damaged" in fails("mimic-cxr", *words)


def test_tables_that_contradict(tmp_path: Path, fails: Callable[..., str]) -> None:
    root = mimic(tmp_path, ".jpg")
    words = (root, "--reports", tmp_path / "reports")
    split = root / "mimic-cxr-2.0.0-split.csv"
    whole = split.read_text()
    split.write_text(whole.replace("50000001,10000032,train", "50000001,10000032,test"))
    assert "1 patients are in two splits" in fails("mimic-cxr", *words)
    split.write_text("\n".join(whole.splitlines()[:-1]))
    assert "1 of 16 images lack a split" in fails("mimic-cxr", *words)
    split.write_text(whole.replace("validate", "maybe"))
    assert "'maybe' is not a split" in fails("mimic-cxr", *words)
    split.write_text(whole)
    labels = root / "mimic-cxr-2.0.0-chexpert.csv"
    labels.write_text(labels.read_text().replace("-1.0", "2.0"))
    assert "line 4, column 'Atelectasis': '2.0' is not a label" in fails("mimic-cxr", *words)
    assert "mimic-cxr-*-negbio.csv" in fails("mimic-cxr", *words, "--labels", "negbio")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sections", "impresion"], "did you mean 'impression'"),
        (["--section-columns", "lungs"], "unknown section of a report 'lungs'"),
        (["--view", "PAA"], "--view PAA: no image has it; the values are AP, LATERAL, LL, PA"),
        (["--split", "random"], "unknown --split 'random'"),
        (["--uncertain", "maybe"], "unknown --uncertain 'maybe'"),
        (["--labels", "both"], "unknown --labels 'both'"),
        (["--validation", "1"], "--validation 1"),
    ],
)
def test_options_out_of_range(jpg: Path, fails: Callable[..., str], words: list[str], message: str) -> None:
    assert message in fails("mimic-cxr", jpg, "--reports", jpg.parent / "reports", *words)


def test_out_is_asked_for_and_not_overwritten(jpg: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", "import", "mimic-cxr", str(jpg), "--reports", str(jpg.parent / "reports")]
    mine = tmp_path / "mine.csv"
    mine.write_text("a,b\n")
    for out, message in (([], "--out"), (["--out", str(mine)], "was not written by"), (["--out", "a.txt"], ".csv")):
        assert main([*words, *out]) == 2
        assert message in capsys.readouterr().err
    assert mine.read_text() == "a,b\n"
    for _ in range(2):
        assert main([*words, "--out", str(tmp_path / "rows.csv")]) == 0
