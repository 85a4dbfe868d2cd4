"""Results as the pages show them: differences against their noise, regions, pictures, downloads, curves."""

import csv
import io
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from conftest import TINY
from PIL import Image as Pillow

from medloom.core.errors import UserError
from medloom.core.files import write_json
from medloom.core.image import Image
from medloom.core.spec import HU, RELATIVE, ImageSpec, Intensity
from medloom.data.images import read_image, read_provenance, write_image
from medloom.data.manifest import read_manifest
from medloom.data.tables import row_ids
from medloom.phantom.truth import Cohort
from medloom.recipes.commands import run_command
from medloom.studio.pages.reading import true_image, truth_arms, whatif_values
from medloom.studio.results.contrast import WHOLE, differences, mean_difference, reach_of, shifts
from medloom.studio.results.curves import charts_of, read_metrics
from medloom.studio.results.download import AS_MADE, downloads_of, write_zip
from medloom.studio.results.folder import Result, read_result
from medloom.studio.results.pictures import picture_of, pixels_of, usual_window, viewer_facts
from medloom.studio.results.saving import save_result
from medloom.studio.results.truth import case_of, described_case
from medloom.studio.store.store import Store
from medloom.studio.web.studio import Studio

ARM, SEEDS, RAISED = "age=80", 4, 20.0


# Rows lead to the back, columns to the left.
AXIAL = np.asarray([[0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], float)


@pytest.fixture
def whatif(tmp_path: Path) -> Result:
    """Four seeds of a case: in the arm the right half is 20 HU higher, and everywhere there is noise of 1 HU."""
    rng, rows = np.random.default_rng(0), []
    labels = np.zeros((1, 8, 8), np.float32)
    labels[..., 4:] = 2
    write_image(tmp_path / "mask.nii.gz", Image(labels[..., None], "relative"), {})
    for seed in range(SEEDS):
        base = rng.normal(0, 200, (1, 8, 8))
        for place, arm in enumerate(("factual", ARM)):
            pixels = base + (RAISED * (labels > 0) + rng.normal(0, 1, base.shape) if place else 0)
            name = f"{2 * seed + place:06d}.dcm"
            image = Image(np.rint(pixels).astype(np.float32), HU, spacing=(1.0, 1.0), affine=AXIAL)
            write_image(tmp_path / name, image, {"seed": str(seed)})
            rows.append([name, arm, str(seed), "CT"])
    with (tmp_path / "manifest.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["path", "arm", "seed", "modality"], *rows])
    return read_result(tmp_path)


def test_a_difference_is_0_where_it_is_noise(whatif: Result) -> None:
    found, _ = differences(whatif, ARM)
    assert found.shape == (SEEDS, 8, 8)
    shown = mean_difference(whatif, ARM).pixels[0]
    assert (shown[:, :4] == 0).mean() > 0.8 and (shown[:, 4:] > RAISED - 5).all()
    assert reach_of([mean_difference(whatif, ARM)]) == pytest.approx(RAISED, abs=2)
    with pytest.raises(UserError, match="there is no arm 'age=20'"):
        differences(whatif, "age=20")


def test_shifts_have_their_interval_over_seeds(whatif: Result) -> None:
    (whole,) = shifts(whatif, ARM, {})
    assert whole.region == WHOLE and whole.low < RAISED / 2 < whole.high and whole.high - whole.low < 2
    one = Result(whatif.folder, whatif.images[:2], ())
    (alone,) = shifts(one, ARM, {})
    assert np.isnan(alone.low) and alone.value == pytest.approx(RAISED / 2, abs=1)
    # With one seed nothing is known of the noise, and nothing is hidden.
    assert (mean_difference(one, ARM).pixels[0][:, :4] != 0).any()


def test_pictures_have_the_window_and_say_synthetic() -> None:
    image = Image(np.linspace(-1000, 1000, 64, dtype=np.float32).reshape(1, 8, 8), HU, spacing=(2.0, 1.0))
    opened = Pillow.open(io.BytesIO(picture_of(image, (0.0, 1000.0))))
    assert opened.text["SYNTHETIC"] == "YES"
    levels = np.asarray(opened)
    assert levels[:4].max() == 0 and levels[-1, -1] == 255
    assert "SYNTHETIC" not in Pillow.open(io.BytesIO(picture_of(image, synthetic=False))).text
    values, kind = pixels_of(image)
    assert kind == "float32" and np.frombuffer(values, "<f4").tolist() == image.pixels.ravel().tolist()
    whole = replace(image, pixels=np.rint(image.pixels))
    values, kind = pixels_of(whole)
    assert kind == "int16" and np.frombuffer(values, "<i2").tolist() == whole.pixels.ravel().tolist()
    assert pixels_of(replace(image, pixels=np.full((1, 2, 2), 40000, np.float32)))[1] == "float32"
    assert usual_window(image) == (-1000.0, 1000.0)
    assert usual_window(replace(image, window=(0.0, 80.0))) == (0.0, 80.0)
    # One in which nothing would be seen is not used.
    assert usual_window(replace(image, window=(2000.0, 2080.0))) == (-1000.0, 1000.0)
    facts = viewer_facts(image)
    assert facts["shape"] == [1, 8, 8] and facts["spacing"] == [2.0, 1.0] and facts["edges"] == [None] * 4
    # An axial slice, whose rows lead to the back and whose columns lead to the left; and a sagittal one.
    axial = np.diag([-1.0, -1.0, 1.0, 1.0])[:, [1, 0, 2, 3]]
    assert viewer_facts(replace(image, affine=axial))["edges"] == ["R", "L", "A", "P"]
    sagittal = np.asarray([[0, 0, 1, 0], [0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]], float)
    assert viewer_facts(replace(image, affine=sagittal))["edges"] == ["A", "P", "H", "F"]
    assert viewer_facts(replace(image, directions=("L", "F")))["edges"] == ["R", "L", "H", "F"]


def test_slices_of_volumes_have_the_radiological_convention() -> None:
    values = np.zeros((1, 4, 5, 6), np.float32)
    # On the patient's right, in front, at the head: the first axes of RAS lead to them.
    values[0, -1, -1, -1] = 1
    volume = Image(values, "relative", affine=np.eye(4))
    axial = np.asarray(Pillow.open(io.BytesIO(picture_of(volume, (0.0, 1.0), "axial", 5))))
    assert axial.shape == (5, 4) and axial[0, 0] == 255 and axial.sum() == 255
    coronal = np.asarray(Pillow.open(io.BytesIO(picture_of(volume, (0.0, 1.0), "coronal", 4))))
    assert coronal.shape == (6, 4) and coronal[0, 0] == 255


def test_a_flat_image_without_a_place_is_no_nifti(tmp_path: Path) -> None:
    write_image(tmp_path / "000000.png", Image(np.zeros((1, 8, 8), np.float32), "grey level", 255.0), {"seed": "0"})
    # Its header would state millimetres and sides that nobody knows.
    assert downloads_of(read_result(tmp_path)) == [AS_MADE, "png", "dicom"]


def test_downloads(whatif: Result, tmp_path: Path) -> None:
    assert downloads_of(whatif) == [AS_MADE, "dicom", "nifti"]
    write_zip(whatif, "nifti", tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "out")
    assert "manifest.csv" in names and "000000.nii.gz" in names
    with (tmp_path / "out" / "manifest.csv").open() as stream:
        assert next(csv.DictReader(stream))["path"] == "000000.nii.gz"
    moved = tmp_path / "out" / "000000.nii.gz"
    assert read_provenance(moved)["SYNTHETIC"] == "YES"
    assert np.isclose(read_image(moved).pixels.sum(), read_image(whatif.images[0].path).pixels.sum())
    with pytest.raises(UserError, match="unknown format for these images 'png'"):
        write_zip(whatif, "png", tmp_path / "none.zip")


def conditioned(folder: Path) -> Result:
    """A finished result whose manifest names a mask and a prior image that lie elsewhere."""
    made = folder / "results" / "made"
    (made / "differences").mkdir(parents=True)
    for path in (folder / "mask.png", folder / "prior.png", made / "000000.png"):
        Pillow.new("L", (4, 4), 1).save(path)
    (made / "differences" / "index.csv").write_text("path\n")
    write_json(made / "whatif.json", {"SYNTHETIC": "YES"})
    (made / "manifest.csv").write_text("path,mask,prior,text\n000000.png,../../mask.png,../../prior.png,a ../b\n")
    return read_result(made)


def rows_of(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_what_is_taken_away_is_a_manifest_with_its_answer(tmp_path: Path) -> None:
    write_zip(conditioned(tmp_path), AS_MADE, tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert {"whatif.json", "differences/index.csv", "masks/000000.png", "000000.png"} <= set(archive.namelist())
        archive.extractall(tmp_path / "elsewhere" / "out")
    (row,) = rows_of(tmp_path / "elsewhere" / "out" / "manifest.csv")
    # The prior image is a patient's, and does not come with what was generated.
    assert row == {"path": "000000.png", "mask": "masks/000000.png", "prior": "", "text": "a ../b"}
    assert read_manifest(tmp_path / "elsewhere" / "out" / "manifest.csv", need=("path",), need_patients=False).samples()


def test_what_is_saved_leads_to_the_same_files(tmp_path: Path) -> None:
    (tmp_path / "saved" / "here").mkdir(parents=True)
    target = save_result(conditioned(tmp_path), tmp_path / "saved" / "here", "my set")
    (row,) = rows_of(target / "manifest.csv")
    assert row["mask"] == "../../../mask.png" and row["path"] == "000000.png" and row["text"] == "a ../b"
    assert read_manifest(target / "manifest.csv", need=("path",), need_patients=False).samples()


def volumes_of(
    folder: Path,
    pixels: np.ndarray,
    kind: str,
    unit: str,
    affine: np.ndarray | None,
    spacing: tuple[float, ...] | None = None,
) -> Result:
    """A finished result of one volume, as `generate` writes it, by a model of one modality."""
    folder.mkdir()
    spec = ImageSpec(pixels.shape, 1, "pad", {"CT": Intensity(kind, unit, -1024.0, 3071.0)}, spacing, "RAS")
    write_json(folder / "generation.json", {"SYNTHETIC": "YES", "spec": spec.to_dict()})
    image = Image(pixels[None].astype(np.float32), unit, affine=affine, unoriented=affine is None)
    write_image(folder / "000000.nii.gz", image, {"seed": "5"})
    (folder / "manifest.csv").write_text("path,seed\n000000.nii.gz,5\n")
    return read_result(folder)


AFFINE = np.array([[-0.7, 0, 0, 20.0], [0, -0.9, 0, 30.0], [0, 0, 2.5, -7.0], [0, 0, 0, 1]])


def test_a_volume_is_taken_away_as_a_dicom_series_in_hu(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-1024, 3072, (6, 5, 4))
    result = volumes_of(tmp_path / "made", values, "window", HU, AFFINE)
    assert downloads_of(result) == [AS_MADE, "dicom", "nifti"]
    write_zip(result, "dicom", tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert sorted(archive.namelist()) == [
            *(f"000000/{n:04d}.dcm" for n in range(1, 5)),
            "generation.json",
            "manifest.csv",
        ]
        archive.extractall(tmp_path / "out")
    (sample,) = read_manifest(tmp_path / "out" / "manifest.csv", need=(), images_are_patients=True).samples()
    back, made = read_image(sample.path), read_image(result.images[0].path, unit=HU)
    assert sample.path == tmp_path / "out" / "000000" and back.unit == HU
    np.testing.assert_array_equal(back.pixels, made.pixels)
    np.testing.assert_allclose(back.affine, made.affine, atol=1e-6)
    assert read_provenance(sample.path) == {"SYNTHETIC": "YES", "seed": "5"}


def test_dicom_is_offered_of_volumes_that_it_can_state(tmp_path: Path) -> None:
    values = np.arange(60.0).reshape(5, 4, 3)
    percentiles = volumes_of(tmp_path / "relative", values / 60, "percentile", RELATIVE, AFFINE)
    assert downloads_of(percentiles) == [AS_MADE, "dicom", "nifti"]
    for name, kind, unit, affine in (("out", "percentile", RELATIVE, AFFINE), ("unplaced", "window", HU, None)):
        assert downloads_of(volumes_of(tmp_path / name, values, kind, unit, affine)) == [AS_MADE, "nifti"]
    # Where nobody knows millimetres, NIfTI has 1 mm at the origin; a model's own spacing of 1 mm looks alike.
    unmeasured = volumes_of(tmp_path / "unmeasured", values, "window", HU, np.eye(4))
    measured = volumes_of(tmp_path / "measured", values, "window", HU, np.eye(4), (1.0, 1.0, 1.0))
    assert (downloads_of(unmeasured), downloads_of(measured)) == ([AS_MADE, "nifti"], [AS_MADE, "dicom", "nifti"])
    # Without the description nobody knows that the values are HU.
    unknown = volumes_of(tmp_path / "unknown", values, "window", HU, AFFINE)
    (unknown.folder / "generation.json").unlink()
    assert downloads_of(unknown) == [AS_MADE, "nifti"]


def test_a_generated_volume_of_a_ct_model_is_a_series_in_hu(tmp_path: Path) -> None:
    rng, lines = np.random.default_rng(0), ["path,patient_id,modality,Text"]
    for number in range(5):
        image = Image(rng.integers(-1000, 500, (1, 16, 16, 16)).astype(np.float32), HU, affine=np.diag([2.0, 2, 3, 1]))
        write_image(tmp_path / f"{number}.nii.gz", image, {})
        lines.append(f"{number}.nii.gz,p{number},CT,chest")
    (tmp_path / "data.csv").write_text("\n".join(lines) + "\n")
    options = {
        **TINY,
        "image_size": [16, 16, 16],
        "spacing": [2, 2, 3],
        "unit": "HU",
        "loop.steps": 1,
        "loop.warmup": 0,
    }
    run_command("train text2image", data=tmp_path / "data.csv", out=tmp_path / "run", **options)
    run_command("generate", model=tmp_path / "run", prompt="chest", out=tmp_path / "out", steps=1, device="cpu")
    result = read_result(tmp_path / "out")
    assert result.unit_of(result.images[0]) == HU
    write_zip(result, "dicom", tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        archive.extractall(tmp_path / "all")
    back, made = read_image(tmp_path / "all" / "000000"), read_image(result.images[0].path, unit=HU)
    np.testing.assert_array_equal(back.pixels, made.pixels)
    np.testing.assert_allclose(back.affine, made.affine, atol=1e-6)
    assert back.spacing == pytest.approx((2, 2, 3)) and back.unit == HU


def test_curves(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    lines = [f"{step},loss,{100 / step}" for step in range(1, 1001)]
    (tmp_path / "logs" / "metrics.csv").write_text("\n".join(["step,name,value", *lines, "1001,loss,nan", "1002,lo"]))
    assert len(read_metrics(tmp_path / "logs" / "metrics.csv")["loss"]) == 1000
    (chart,) = charts_of({"run": tmp_path, "none": tmp_path / "nothing"})
    assert chart.metric == "loss" and [line.name for line in chart.lines] == ["run"]
    assert chart.lines[0].last == (1000, 0.1) and chart.ys[0][1] == "0.1" and chart.ys[-1][1] == "100"


def test_the_truth_of_a_virtual_patient_is_that_of_the_cohort(tmp_path: Path) -> None:
    run_command("data phantom", out=tmp_path / "cohort", patients=6, size=32)
    table = tmp_path / "cohort" / "train.csv"
    row = read_manifest(table, need=()).samples()[0]
    case = case_of(described_case(table, row.path))
    assert case is not None
    before, same = case.images({})
    assert before.size == (32, 32) and before.unit == HU and np.array_equal(before.pixels, same.pixels)
    before, after = case.images({"age": 85.0})
    twins = Cohort(tmp_path / "cohort").twins(row_ids(table, [row.line])[0], {"age": 85.0})
    assert np.array_equal((after.pixels - before.pixels)[0], twins.difference) and twins.difference.any()
    assert described_case(tmp_path / "real.csv", row.path) == {} and case_of({"text": "a"}) is None


def test_the_truth_is_that_of_its_own_change(tmp_path: Path) -> None:
    run_command("data phantom", out=tmp_path / "cohort", patients=6, size=32, complete=True)
    table = tmp_path / "cohort" / "train.csv"
    row = read_manifest(table, need=()).samples()[0]
    assert row.path is not None
    job = Store(tmp_path / "studio").jobs.add("anna", "whatif", [], "two", described_case(table, row.path))
    made, image = tmp_path / "made", read_image(row.path)
    made.mkdir()
    # whatif.json has the changes in the order of the alphabet, the images have them as they were asked for.
    changes = {"smoking=never": {"smoking": "never"}, "age=85": {"age": 85.0}}
    described = {arm: {"changes": changes.get(arm, {}), "estimand": ""} for arm in ("factual", *changes)}
    write_json(made / "whatif.json", {"arms": described})
    rows = [["path", "arm", "seed", "modality", "held"]]
    for number, arm in enumerate(("factual", *changes)):
        write_image(made / f"{number:06d}.dcm", image, {"seed": "0"})
        rows.append([f"{number:06d}.dcm", arm, "0", "CT", ""])
    with (made / "manifest.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    result = read_result(made)
    arms = truth_arms(job, result, 3)
    labels = ["truth, as recorded", "truth, smoking=never", "truth, age=85"]
    assert [arm["label"] for arm in arms if "isDifference" not in arm] == labels
    case = case_of(job.form)
    assert case is not None
    for place, arm in enumerate(changes):
        (named,) = [own for own in arms if own["label"] == f"true difference, {arm}"]
        before, after = case.images(changes[arm])
        shown = true_image(job, result, named["base"].rpartition("/")[2])
        assert np.array_equal(shown.pixels, after.pixels - before.pixels) and named["over"] == 4 + place
    values = whatif_values(cast("Studio", None), job, result, "0")
    assert values["without_truth"] == "" and len(values["study"]["arms"]) == 3 + 2 + 3 + 2
    # The factual and the changed image, and what the model and the truth say of the change.
    first = [values["study"]["arms"][place]["label"] for place in values["study"]["first"]]
    assert first == [
        "factual, generated",
        "smoking=never",
        "difference, smoking=never",
        "true difference, smoking=never",
    ]
    before, after = case.images(changes["age=85"])
    assert values["truths"]["age=85"] == {WHOLE: f"{float((after.pixels - before.pixels).mean()):.3g}"}
    # Without the cohort, what the model answers is read without it.
    moved = replace(job, form={**job.form, "cohort": str(tmp_path / "moved")})
    values = whatif_values(cast("Studio", None), moved, result, "0")
    assert len(values["study"]["arms"]) == 3 + 2 and values["truths"] == {}
    assert "is not shown" in values["without_truth"] and "cohort" in values["without_truth"]
