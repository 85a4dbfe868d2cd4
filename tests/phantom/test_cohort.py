"""A cohort on disk: the same bytes whatever the workers, resumed, refused, and its truth."""

import csv
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medloom.core.errors import UserError
from medloom.core.files import hash_file, hash_folder
from medloom.data.images import read_image, read_provenance
from medloom.data.manifest import read_manifest
from medloom.data.masks import read_classes
from medloom.data.tables import row_ids
from medloom.generation.requests import origins
from medloom.phantom.anatomy import retest, visits_of
from medloom.phantom.causal import make_patient
from medloom.phantom.cohort import write_cohort
from medloom.phantom.cohort_spec import CONDITION_LABELS, CohortSpec, condition_mask
from medloom.phantom.reports import report_of
from medloom.phantom.thorax import LABELS
from medloom.phantom.truth import Cohort

SPEC = CohortSpec(patients=6, seed=2, size=32, visits=2, retests=True)


def word(row: Mapping[str, Any]) -> str:
    return f"{row['smoking']}, {row['age']}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cohort")
    return write_cohort(out, SPEC, word, workers=1)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_the_same_bytes_whatever_the_workers(folder: Path, tmp_path: Path) -> None:
    write_cohort(tmp_path, SPEC, word, workers=2)
    assert hash_folder(tmp_path) == hash_folder(folder)


def test_another_processor_renders_within_one_hu(tmp_path: Path) -> None:
    """A processor with none of this one's vector instructions beyond what NumPy and OpenBLAS need, in 2-D and 3-D."""
    vector = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    if not vector:
        pytest.skip("this processor has no vector instructions to leave out")
    plain = {**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(vector), "OPENBLAS_CORETYPE": "Nehalem"}
    for dims in ("2", "3"):
        options = ["--patients", "4", "--size", "32", "--dims", dims, "--workers", "1"]
        for name, environment in (("here", dict(os.environ)), ("there", plain)):
            command = [
                sys.executable,
                "-m",
                "medloom",
                "data",
                "phantom",
                *options,
                "--out",
                str(tmp_path / name / dims),
            ]
            subprocess.run(command, check=True, env=environment, capture_output=True)
        here, there = tmp_path / "here" / dims, tmp_path / "there" / dims
        assert hash_file(here / "truth.csv") == hash_file(there / "truth.csv")
        images = [path for kind in ("images", "labels", "masks") for path in sorted((here / kind).iterdir())]
        assert len(images) >= 12
        for path in images:
            other = read_image(there / path.relative_to(here)).pixels.astype(np.float64)
            assert np.abs(read_image(path).pixels - other).max() <= (1 if path.parent.name == "images" else 0)


def test_the_classes_of_the_masks_are_named(folder: Path) -> None:
    named = read_classes(folder / "classes.yaml")
    assert named == {label: name for name, label in CONDITION_LABELS.items()}
    found = {int(label) for path in (folder / "masks").iterdir() for label in np.unique(read_image(path).pixels)}
    assert found == {0, *named}


def test_a_cohort_goes_on_where_it_stopped(folder: Path, tmp_path: Path) -> None:
    write_cohort(tmp_path, SPEC, word)
    before = hash_folder(tmp_path)
    (tmp_path / "train.csv").unlink()
    next((tmp_path / "images").iterdir()).unlink()
    # What a power failure may leave.
    max((tmp_path / "masks").iterdir()).write_bytes(b"")
    write_cohort(tmp_path, SPEC, word)
    assert hash_folder(tmp_path) == before == hash_folder(folder)


def test_another_cohort_in_the_same_folder_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="another --size"):
        write_cohort(folder, CohortSpec(patients=6, seed=2, size=48, visits=2, retests=True), word)


def test_tables_name_patients_of_one_split_only_and_every_file_is_there(folder: Path) -> None:
    train, test = rows_of(folder / "train.csv"), rows_of(folder / "test.csv")
    assert not {row["patient_id"] for row in train} & {row["patient_id"] for row in test}
    assert len(train) + len(test) == 6 * 3
    for row in (*train, *test):
        image = read_image(folder / row["path"])
        assert image.unit == "HU"
        assert image.size == read_image(folder / row["mask"]).size == (32, 32)
        assert read_provenance(folder / row["path"])["SYNTHETIC"] == "YES"


def test_twins_with_no_change_are_equal_and_with_a_change_are_not(folder: Path) -> None:
    cohort = Cohort(folder)
    (source,) = row_ids(folder / "train.csv", [2])
    patient, _, _ = cohort.patient_of(source)
    assert not cohort.twins(source, {"age": patient.values["age"]}).difference.any()
    assert cohort.twins(source, {"age": 30 if patient.values["age"] > 60 else 90}).difference.any()
    first = rows_of(folder / "train.csv")[0]
    factual = cohort.twins(source, {}).factual
    written = read_image(folder / first["labels"]).pixels[0]
    assert np.array_equal(factual.labels, written)
    assert np.array_equal(condition_mask(factual.labels), read_image(folder / first["mask"]).pixels[0])


def test_a_row_of_another_table_has_no_truth(folder: Path) -> None:
    with pytest.raises(UserError, match="is not a row of a table"):
        Cohort(folder).patient_of("0" * 16)
    with pytest.raises(UserError, match="holds no phantom cohort"):
        Cohort(folder / "images")


def test_a_progression_changes_the_disease_and_neither_position_nor_noise(folder: Path) -> None:
    cohort = Cohort(folder)
    changed = 0
    for number in range(SPEC.patients):
        before, after = (folder / "images" / f"{number:06d}-{visit}.dcm" for visit in (0, 1))
        twins = cohort.progression(before, after)
        (patient, visit), (later, _) = cohort.acquisition(before), cohort.acquisition(after)
        np.testing.assert_array_equal(twins.factual.values, SPEC.render(patient, visit, noisy=False).values)
        # The outlines of body and thorax, which move with position and breath, are where they were.
        np.testing.assert_array_equal(*(condition_mask(picture.labels) for picture in (twins.factual, twins.other)))
        same = patient.values["severity"] == later.values["severity"]
        assert bool(twins.difference.any()) is not same
        changed += not same
        assert not cohort.progression(before, before).difference.any()
    assert 0 < changed < SPEC.patients


def test_volumes_are_written_with_their_geometry(tmp_path: Path) -> None:
    write_cohort(tmp_path, CohortSpec(patients=1, dims=3, size=24), word)
    row = (rows_of(tmp_path / "train.csv") + rows_of(tmp_path / "test.csv"))[0]
    image = read_image(tmp_path / row["path"], unit="HU")
    assert image.size == (24, 24, 24)
    assert image.spacing == pytest.approx((380 / 24, 380 / 24, 300 / 24))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dims": 4}, "--dims 4"),
        ({"size": 4}, "--size 4"),
        ({"patients": 0}, "--patients 0"),
        ({"seed": -1}, "--seed -1"),
        ({"hide": ("agee",)}, "did you mean 'age'"),
        ({"test": 1.0}, "--test 1.0"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        CohortSpec(**{"patients": 3, **options})


def test_hidden_columns_and_missing_cells() -> None:
    from medloom.phantom.causal import observed_columns, observed_row

    assert "age" not in observed_columns(("age",))
    rows = [observed_row(make_patient(0, number)) for number in range(800)]
    assert 0.005 < np.mean([row["smoking"] is None for row in rows]) < 0.05
    assert any(row["pack_years"] == -999 for row in rows)
    assert all(None not in observed_row(make_patient(0, number), complete=True).values() for number in range(50))


def test_visits_are_dated_and_a_retest_differs_in_position_alone() -> None:
    for number in range(40):
        patient = make_patient(1, number)
        visits = visits_of(patient, 3)
        assert [visit.days for visit in visits] == sorted({visit.days for visit in visits})
        assert visits[0].size == 1
        if patient.values["diagnosis"] == "pneumonia":
            assert visits[2].size <= visits[1].size < 1
        if patient.values["diagnosis"] == "nodule":
            assert visits[2].size > visits[1].size > 1
        again = retest(patient, visits[1])
        assert (again.index, again.days, again.size) == (visits[1].index, visits[1].days, visits[1].size)
        assert again.shift != visits[1].shift


def test_reports_say_what_is_there_and_deny_what_is_not() -> None:
    for number in range(150):
        patient = make_patient(9, number)
        visits = visits_of(patient, 2)
        first, second = report_of(patient, visits[:1]).lower(), report_of(patient, visits).lower()
        assert first.startswith("findings:")
        assert "impression:" in first
        diagnosis, side = patient.values["diagnosis"], patient.values["side"]
        if diagnosis == "effusion":
            assert f"{side}" in first
            assert "no pleural effusion" not in first
        else:
            assert "layering" not in first
        if diagnosis == "nodule":
            assert f"{side}" in first
            assert "mm" in first
        if diagnosis in ("effusion", "nodule", "pneumonia"):
            assert any(w in second for w in ("previous", "before", "stable")), second
        if visits[1].size == 0:
            assert "resolved" in second


def test_a_cohort_of_both_modalities_has_each_patient_in_both_and_knows_the_truth_of_each(tmp_path: Path) -> None:
    spec = CohortSpec(patients=8, size=48, modalities=("CT", "X-ray"))
    write_cohort(tmp_path, spec, word)
    rows = rows_of(tmp_path / "train.csv")
    assert [(row["modality"], row["view"]) for row in rows] == len(rows) // 2 * [("CT", "axial"), ("X-ray", "PA")]
    assert rows[0]["patient_id"] == rows[1]["patient_id"] and rows[0]["report"] == rows[1]["report"]
    image = read_image(tmp_path / rows[1]["path"])
    assert image.pixels.shape == (1, 48, 48) and image.full_scale == 255
    (source,) = row_ids(tmp_path / "train.csv", [3])
    cohort = Cohort(tmp_path)
    twins = cohort.twins(source, {"diagnosis": "effusion", "extent": "severe", "side": "left"})
    # A fluid is white, and the patient's left is on the right of a frontal image.
    assert twins.difference[:, 24:].mean() > 2 * abs(twins.difference[:, :24].mean())
    written = read_image(tmp_path / rows[1]["labels"]).pixels[0]
    assert np.array_equal(cohort.twins(source, {}).factual.labels, written)
    assert {LABELS["left lung"], LABELS["right lung"], LABELS["heart"]} <= set(np.unique(written).tolist())


@pytest.mark.parametrize(
    ("modalities", "dims", "message"),
    [
        (("CT", "CT"), 2, "name each of CT, X-ray at most once"),
        (("MR",), 2, "unknown --modalities: 'MR'"),
        (("X-ray",), 3, "a projection is flat"),
    ],
)
def test_modalities_that_a_cohort_cannot_have_are_refused(modalities: tuple[str, ...], dims: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        CohortSpec(patients=1, dims=dims, modalities=modalities)


def test_the_id_that_generated_images_carry_names_the_row(folder: Path) -> None:
    cohort = Cohort(folder)
    for table in ("train.csv", "test.csv"):
        samples = read_manifest(folder / table, need=("path",)).samples()
        found = origins(folder / table, samples)
        assert [cohort.image_of(origin.source) for origin in found] == [sample.path for sample in samples]
        for sample, origin in zip(samples, found, strict=True):
            patient, _, _ = cohort.patient_of(origin.source)
            assert patient.values["age"] == int(sample.condition.table["age"])
