"""The files that the pages name, from one small table as real ones are: cells are missing, one image is larger."""

import csv
import io
import shutil
import tarfile
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openpyxl
import torch
from PIL import Image as Pillow
from safetensors.torch import save_file

from medloom.core.image import Image
from medloom.core.spec import HU
from medloom.data.images import write_image
from medloom.feedback.ratings.entries import Entry
from medloom.feedback.ratings.plan import PlanOptions
from medloom.feedback.ratings.series import begin_series
from medloom.feedback.ratings.store import RatingStore
from medloom.recipes.commands import run_command

HEADER = (
    "Image_Path,Report,Modality,Subject_ID,View_Position,Study_Date,age,sex,smoking,pack_years,diagnosis,extent,side"
)
COLUMNS = [*HEADER.split(","), "finding", "Mask_Path"]
PATIENTS, VISITS, SIZE = 60, 2, 32
REPORTS = {
    "effusion": ("Small left pleural effusion.", "Large right pleural effusion."),
    "none": ("No acute findings.", "The lungs are clear. No pleural effusion."),
}
# Of the second visit: what happened to the effusion of the first one.
LATER = "The left pleural effusion has resolved."
Row = dict[str, str]


def chest(patient: int, visit: int, size: tuple[int, int], effusion: bool) -> tuple[np.ndarray, np.ndarray]:
    """An image of 8 bit and its label map: two dark lungs of the patient's own, in one of them fluid."""
    rng = np.random.default_rng(patient)
    rows, columns = (axis / length for axis, length in zip(np.mgrid[: size[0], : size[1]], size, strict=True))
    mask = np.zeros(size, np.uint8)
    for label, centre in ((1, 0.3), (2, 0.7)):
        height, width = rng.uniform(0.25, 0.35), rng.uniform(0.12, 0.17)
        inside = ((rows - 0.5) / height) ** 2 + ((columns - centre + rng.uniform(-0.03, 0.03)) / width) ** 2 < 1
        mask[inside] = label
    pixels = np.where(mask > 0, rng.uniform(40, 80), rng.uniform(150, 190)) + 25 * np.sin(9 * rows + patient)
    pixels[effusion & (mask == 2) & (rows > 0.6)] += 80
    noise = np.random.default_rng([patient, visit]).normal(0, 5, size)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8), mask


def rows_of(folder: Path, modalities: Sequence[str]) -> list[Row]:
    """The table's rows; their images and masks are written to a folder."""
    for name in ("scans", "masks"):
        (folder / name).mkdir(parents=True)
    rows = []
    for patient in range(PATIENTS):
        smoking = ("never", "former", "current")[patient % 3]
        for visit in range(VISITS):
            name = f"{patient:03d}_{visit}.png"
            finding = ("effusion", "none")[(patient + visit) % 2]
            size = (40, 48) if (patient, visit) == (5, 0) else (SIZE, SIZE)
            pixels, mask = chest(patient, visit, size, finding == "effusion")
            Pillow.fromarray(pixels).save(folder / "scans" / name)
            Pillow.fromarray(mask).save(folder / "masks" / name)
            report = REPORTS[finding][patient // 2 % 2]
            cells = [f"scans/{name}", report, modalities[patient // 3 % len(modalities)], f"P-{patient:03d}"]
            cells += [("PA", "AP")[patient // 6 % 2], f"2021-{patient % 9 + 1:02d}-{10 + 15 * visit}"]
            cells += [str((22, 45, 61, 74, 88)[patient % 5]), "FM"[patient % 2], smoking]
            cells += [str(0 if smoking == "never" else (20, 40)[patient // 3 % 2])]
            cells += [finding, *(("mild", "severe")[patient % 2], ("left", "right")[patient // 2 % 2])]
            rows.append(dict(zip(COLUMNS, [*cells, finding, f"masks/{name}"], strict=True)))
    blank(rows)
    return rows


def blank(rows: list[Row]) -> None:
    """Empty cells that real tables have, among patients of training and of testing."""
    for start in (0, 2 * PATIENTS - 30):
        for column, place in (("Report", 1), ("Report", 6), ("age", 2), ("Mask_Path", 3), ("View_Position", 4)):
            rows[start + place][column] = ""
        rows[start + 9]["age"] = "NA"
        for column, place in (("smoking", 7), ("pack_years", 8), ("pack_years", 7), ("diagnosis", 12), ("sex", 13)):
            rows[start + place][column] = ""
    for row in rows:
        if row["finding"] == "none":
            row["extent"] = row["side"] = ""


def write_table(
    path: Path, rows: Sequence[Row], without: Sequence[str] = (), renamed: dict[str, str] | None = None
) -> None:
    """Write rows; without some columns, and with other names for some."""
    columns = [name for name in rows[0] if name not in without]
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([(renamed or {}).get(name, name) for name in columns])
        writer.writerows([[row[name] for name in columns] for row in rows])


def read_rows(path: Path) -> list[Row]:
    """The rows of a table."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def write_tables(folder: Path, modalities: Sequence[str], empty_texts: bool) -> None:
    """The table, and train.csv and test.csv as `data split` makes them of it."""
    rows = rows_of(folder, modalities)
    write_table(folder / "mine.csv", rows)
    write_table(folder / "described.csv", [row for row in rows if row["Report"]])
    write_table(folder / "chest.csv", [row for row in rows if row["Report"] and row["Modality"] == modalities[0]])
    run_command("data split", data=folder / "mine.csv", out=folder / "parts", test=0.4, skip_bad=True)
    for name in ("train.csv", "test.csv"):
        part = [row for row in read_rows(folder / "parts" / name) if row["text"] or empty_texts]
        paths = ("path", "mask")
        part = [{key: cell.removeprefix("../") if key in paths else cell for key, cell in row.items()} for row in part]
        write_table(folder / name, part)
    shutil.copy(folder / "test.csv", folder / "images_test.csv")
    write_table(folder / "conditions.csv", read_rows(folder / "test.csv")[:6], without=("path", "mask", "split"))
    train = read_rows(folder / "train.csv")
    new = []
    for number, row in enumerate(train[:12]):
        shutil.copy(folder / row["path"], folder / f"scans/new_{number}.png")
        new.append({**row, "path": f"scans/new_{number}.png", "modality": "Ultrasound"})
    write_table(folder / "old_and_new.csv", [*train, *new])
    (folder / "classes.yaml").write_text("1: left lung\n2: right lung\n", encoding="utf-8")
    pixels, mask = chest(100, 0, (SIZE, SIZE), True)
    Pillow.fromarray(pixels).save(folder / "prior.png")
    Pillow.fromarray((mask == 2).astype(np.uint8)).save(folder / "mask.png")


def write_volumes(folder: Path) -> None:
    """Volumes of CT with masks: volumes.csv, masks.csv without images, a scan and its mask."""
    (folder / "volumes").mkdir()
    rows = []
    for patient in range(12):
        mask = np.repeat(chest(patient, 0, (24, 24), False)[1].T[:, :, None], 12, axis=2)
        values = np.where(mask > 0, -800.0, 40.0) + np.random.default_rng(patient).normal(0, 20, mask.shape)
        for name, array in (("ct", values), ("seg", mask)):
            image = Image(array[None].astype(np.float32), HU, spacing=(3.0, 3.0, 6.0))
            write_image(folder / f"volumes/{patient}_{name}.nii.gz", image, {})
        row = {"path": f"volumes/{patient}_ct.nii.gz", "mask": f"volumes/{patient}_seg.nii.gz", "modality": "CT"}
        row |= {"patient_id": f"v{patient}", "age": str((22, 50, 88)[patient // 2 % 3]), "pixel_unit": "HU"}
        smoking = ("never", "former", "current")[patient % 3]
        diagnosis = ("effusion", "none")[patient % 2]
        row |= {"smoking": smoking, "diagnosis": diagnosis, "extent": "", "side": ""}
        if diagnosis == "effusion":
            row |= {"extent": ("mild", "severe")[patient // 2 % 2], "side": ("left", "right")[patient // 4 % 2]}
        rows.append(row)
    # Twice, so that one of them is in training.
    for column, patients in (("age", (2, 3)), ("smoking", (4, 7)), ("diagnosis", (1, 6))):
        for patient in patients:
            rows[patient][column] = ""
    write_table(folder / "volumes.csv", rows[:8])
    write_table(folder / "volumes_test.csv", rows[8:])
    write_table(folder / "masks.csv", rows[8:], without=("path",))
    for name, file in (("seg", "seg.nii.gz"), ("ct", "scan.nii.gz")):
        (folder / file).write_bytes((folder / f"volumes/8_{name}.nii.gz").read_bytes())


def write_scan(path: Path) -> None:
    """A slice of CT as DICOM."""
    pixels = chest(1, 0, (SIZE, SIZE), False)[0][None].astype(np.float32) * 4 - 900
    write_image(path, Image(pixels, HU, spacing=(1.0, 1.0)), {})


def write_clinic(folder: Path) -> None:
    """A clinic's own table, also as a sheet of a workbook: capitals, blanks in names, sentinels, empty cells."""
    header = ["File", "Patient", "Diagnosis", "Smoking", "PACK-YEARS", "Age", "Sex", "Admission Day"]
    rows: list[list[str | int | None]] = []
    for patient in range(8):
        smoking = ("never", "former", "current", None)[patient % 4]
        years = 0 if smoking == "never" else (-999, None, 20, 35)[patient % 4]
        diagnosis = ("IPF", "NSIP", "none", None)[patient % 4]
        age = 93 if patient == 3 else None if patient == 5 else 30 + 9 * patient
        rows.append([f"scans/{patient}.png", f"P{patient}", diagnosis, smoking, years, age, "FM"[patient % 2], patient])
    with (folder / "clinic.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    book = openpyxl.Workbook()
    book.active.title = "notes"
    sheet = book.create_sheet("patients")
    for row in [header, *rows]:
        sheet.append(row)
    book.save(folder / "clinic.xlsx")


def write_ratings(folder: Path) -> None:
    """A store with a rating of each image of the table."""
    store = RatingStore(folder / "ratings.db")
    plan = PlanOptions(True, 0.2, 0.0, 1, "quality", False, 0, 0)
    begin_series(store, ["anna"], [folder / "described.csv"], plan)
    (session,) = store.sessions()
    for place in range(len(session.presentations)):
        store.post(session, place, Entry(str(uuid.uuid4()), "rating", {"realism": 2, "match": 3}, (), "", 2.0))


def write_mimic(folder: Path) -> None:
    """Patients of the table as PhysioNet lays them out: two studies each, of one the image has no view or no report."""
    root, reports, iv = folder / "mimic-cxr-jpg", folder / "mimic-cxr-reports", folder / "mimic-iv" / "hosp"
    metadata, splits, people = [], [], []
    for number in range(12):
        patient = 10000001 + number
        people.append(f"{patient},{'FM'[number % 2]},{50 + number},2180")
        for visit in range(2):
            # A third of them stay as they are.
            finding = ("effusion", "none")[(number + visit * (number % 3 > 0)) % 2]
            study = 50000001 + 10 * number + visit
            image, below = f"{study}-aa", f"p10/p{patient}/s{study}"
            (root / "files" / below).mkdir(parents=True)
            pixels = chest(number, visit, (SIZE, SIZE), finding == "effusion")[0]
            Pillow.fromarray(pixels).save(root / "files" / below / f"{image}.jpg", quality=95)
            view = "" if number == 3 else ("PA", "AP")[number == 4]
            day = "" if (number, visit) == (5, 1) else f"2180{1 + number % 9 + visit:02d}{10 + number * visit}"
            metadata.append(f"{image},{patient},{study},{view},{day},91500.0")
            splits.append(f"{image},{study},{patient},{'test' if number > 8 else 'train'}")
            text = LATER if finding == "none" and visit else REPORTS[finding][0]
            text = "No change." if visit and number % 3 == 0 else text
            file = reports / "files" / f"p10/p{patient}" / f"s{study}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            if (number, visit) != (6, 0):
                file.write_text(f" FINAL REPORT\n FINDINGS: {text}\n\n IMPRESSION: {text}\n", encoding="utf-8")
    iv.mkdir(parents=True)
    tables = {
        root / "mimic-cxr-2.0.0-metadata.csv": [
            "dicom_id,subject_id,study_id,ViewPosition,StudyDate,StudyTime",
            *metadata,
        ],
        root / "mimic-cxr-2.0.0-split.csv": ["dicom_id,study_id,subject_id,split", *splits],
        root / "mimic-cxr-2.0.0-chexpert.csv": ["subject_id,study_id,Pleural Effusion", "10000001,50000001,1.0"],
        iv / "patients.csv": ["subject_id,gender,anchor_age,anchor_year", *people],
        iv / "admissions.csv": ["subject_id,hadm_id,admittime,race", "10000001,1,2180-01-01 10:00:00,WHITE"],
    }
    for path, lines in tables.items():
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


OPENI = """<eCitation><uId id="CXR{number}"/><Abstract><AbstractText Label="FINDINGS">{findings}</AbstractText>
<AbstractText Label="IMPRESSION">{impression}</AbstractText></Abstract><MeSH><major>normal</major></MeSH>
<parentImage id="CXR{number}_1"><caption>PA chest</caption></parentImage></eCitation>"""


def write_openi(folder: Path) -> None:
    """Reports of Open-i in their archive, one without an impression and one without any text, and the images."""
    (folder / "NLMCXR_png").mkdir()
    texts = (("No effusion.", "Normal."), ("Small effusion.", ""), ("", ""), ("Clear lungs.", "Normal chest."))
    with tarfile.open(folder / "NLMCXR_reports.tgz", "w:gz") as archive:
        for number, (findings, impression) in enumerate(texts):
            content = OPENI.format(number=number, findings=findings, impression=impression).encode()
            member = tarfile.TarInfo(f"ecgen-radiology/{number}.xml")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
            Pillow.fromarray(chest(number, 0, (SIZE, SIZE), False)[0]).save(folder / f"NLMCXR_png/CXR{number}_1.png")


COVID = "patientid,offset,sex,age,finding,survival,went_icu,view,modality,folder,filename,license,clinical_notes"


def write_covid(folder: Path) -> None:
    """covid-chestxray-dataset: unknown ages and offsets, notes that are missing."""
    root = folder / "covid-chestxray-dataset"
    (root / "images").mkdir(parents=True)
    lines = [COVID]
    for number in range(6):
        age, offset = ("" if number == 1 else 40 + number), ("" if number == 2 else number)
        note = "" if number == 3 else '"Fever, and a cough."'
        finding = ("Pneumonia/Viral/COVID-19", "todo")[number == 4]
        lines.append(f"{number},{offset},F,{age},{finding},Y,N,PA,X-ray,images,{number}.png,CC0,{note}")
        Pillow.fromarray(chest(number, 0, (SIZE, SIZE), False)[0]).save(root / "images" / f"{number}.png")
    (root / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_stable_diffusion(folder: Path, name: str) -> None:
    """A tiny Stable Diffusion folder whose autoencoder makes an eighth, as the published one does."""
    from stable_diffusion import make_stable_diffusion

    make_stable_diffusion(folder / name, widths=(8, 8, 8, 8), tokens=77)


def write_weights(folder: Path) -> None:
    """Published weights as they are downloaded, tiny: text encoders, one file of Stable Diffusion, a LoRA file."""
    import text_layouts as layouts
    from diffusers import StableDiffusionPipeline
    from original_stable_diffusion import original_weights

    layouts.biomed_clip(folder / "BiomedCLIP")
    layouts.medclip(folder / "medclip-vit")
    layouts.clinical_bert(folder / "Bio_ClinicalBERT")
    write_stable_diffusion(folder, "stable-diffusion-v1-5")
    pipeline = StableDiffusionPipeline.from_pretrained(folder / "stable-diffusion-v1-5", safety_checker=None)
    save_file(original_weights(pipeline), folder / "v1-5-pruned.safetensors")
    stem = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    width = pipeline.unet.config.block_out_channels[0]
    update = {f"{stem}.lora_A.weight": torch.ones(2, width), f"{stem}.lora_B.weight": torch.ones(width, 2)}
    save_file(update, folder / "style.safetensors")


def write_study(folder: Path) -> None:
    """Synthetic and real images of one size, synthetic ones of two arms, ratings by three raters, and scores."""
    random = np.random.default_rng(0)
    for name, kinds in {"out": 24, "real": 24, "arms": 16}.items():
        (folder / name).mkdir()
        for number in range(kinds):
            pixels = random.integers(0, 255, (24, 24), dtype=np.uint8)
            Pillow.fromarray(pixels).save(folder / name / f"{number}.png")
    columns = ["path", "text", "modality", "patient_id"]

    def rows(count: int, where: str) -> list[list[str]]:
        return [[f"{where}{number}.png", f"Nodule {number}.", "CXR", f"{where}{number}"] for number in range(count)]

    tables = {
        "out/manifest.csv": [columns, *rows(24, "")],
        "held_out.csv": [columns, *rows(24, "real/")],
        "arms.csv": [
            [*columns, "arm", "case"],
            *([*row, "new" if place % 2 else "old", f"c{place // 2}"] for place, row in enumerate(rows(16, "arms/"))),
        ],
    }
    quality, scores = random.normal(size=30), [["reader", "arm", "case", "truth", "score"]]
    ratings = [["rater", "item", "realism", "match", "level", "source", "seconds", "repeat"]]
    for rater in ("anna", "ben", "chris"):
        for item in [*range(30), 3, 4, 5]:
            given = 1 + int(np.digitize(quality[item] + 0.4 * random.normal(), (-1, 0.5)))
            repeat = int(sum(row[:2] == [rater, f"i{item}"] for row in ratings))
            source = "real" if item < 8 else "synthetic"
            level = 1 if given == 1 else 3
            ratings.append([rater, f"i{item}", str(given), "3", str(level), source, "5.5", str(repeat)])
        for arm in ("with", "without"):
            own = [str((case % 2) + random.normal()) for case in range(30)]
            scores += [[rater, arm, f"c{case}", str(case % 2), score] for case, score in enumerate(own)]
    for name, table in {**tables, "ratings.csv": ratings, "scores.csv": scores}.items():
        (folder / name).write_text("\n".join(",".join(row) for row in table) + "\n", encoding="utf-8")


def rate_study(folder: Path) -> None:
    """Confidences for all images of a study, by its raters."""
    random = np.random.default_rng(0)
    items = [line.split(",")[0] for line in (folder / "study" / "key.csv").read_text().splitlines()[1:]]
    lines = [f"{rater},{item},{random.integers(1, 6)}" for rater in ("anna", "ben", "chris") for item in items]
    (folder / "origin.csv").write_text("\n".join(["rater,item,confidence", *lines]) + "\n", encoding="utf-8")
