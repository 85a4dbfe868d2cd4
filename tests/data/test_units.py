"""HU only where a file or the user says so: for all files, by modality, or by a column."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_files import dicom_file

from medloom.core.errors import UserError
from medloom.core.spec import GREY, HU, RELATIVE
from medloom.data.dataset import measure_spec
from medloom.data.manifest import read_manifest
from medloom.data.units import is_ct, joined_units, read_units, unit_for, written_units
from medloom.recipes import data_check

VALUES = np.random.default_rng(0).integers(-1000, 900, (6, 5, 1)).astype(np.int16)


@pytest.mark.parametrize(
    ("text", "units"),
    [
        (None, {}),
        ("hu", {None: HU}),
        ("CT=HU, MR=relative", {"CT": HU, "MR": RELATIVE}),
        ("relative,CT=HU", {None: RELATIVE, "CT": HU}),
        ("grey level", {None: GREY}),
    ],
)
def test_how_units_are_written(text: str | None, units: dict[str | None, str]) -> None:
    assert read_units(text) == units and read_units(written_units(units)) == units


@pytest.mark.parametrize("text", ["hounsfield", "CT=", "=HU", "CT=HU,CT=relative", "HU,relative"])
def test_units_that_are_none(text: str) -> None:
    with pytest.raises(UserError, match="--unit"):
        read_units(text)


def test_two_units_of_one_modality() -> None:
    assert read_units(joined_units("relative", "CT=HU")) == {None: RELATIVE, "CT": HU}
    with pytest.raises(UserError, match="modality CT are said to be in HU and in relative"):
        joined_units("CT=HU", "CT=relative")


def nifti(path: Path, values: np.ndarray = VALUES) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    return path


def test_a_file_that_states_its_unit_keeps_it(tmp_path: Path) -> None:
    assert unit_for("HU", "CT", dicom_file(tmp_path / "a.dcm", np.zeros((4, 4), np.uint16))) is None
    path = nifti(tmp_path / "a.nii")
    assert unit_for("CT=HU", "CT", path) == HU and unit_for("CT=HU", "MR", path) is None


def table(folder: Path, more: str = "") -> Path:
    """A CT as DICOM beside a CT and an MR as NIfTI, all of one slice."""
    stored = (VALUES[..., 0] + 1024).astype(np.uint16)
    geometry = {"PixelSpacing": [1, 1], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    (folder / "series").mkdir()
    for number in range(2):
        rescale = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1024, "SeriesInstanceUID": "1.2"}
        place = [0, 0, 5 * number]
        dicom_file(folder / "series" / f"{number}.dcm", stored, ImagePositionPatient=place, **geometry, **rescale)
    nifti(folder / "ct.nii", np.repeat(VALUES, 2, -1))
    nifti(folder / "mr.nii", np.abs(np.repeat(VALUES, 2, -1)))
    head, rows = "path,Text,patient_id,modality", ["series,a,1,CT", "ct.nii,b,2,CT", "mr.nii,c,3,MR"]
    if more:
        head, rows = f"{head},pixel_unit", [f"{row},{unit}" for row, unit in zip(rows, more.split(","), strict=True)]
    (folder / "m.csv").write_text("\n".join([head, *rows]) + "\n")
    return folder / "m.csv"


def test_ct_as_dicom_and_as_nifti_train_together(tmp_path: Path) -> None:
    samples = read_manifest(table(tmp_path)).samples()
    for unit in ("CT=HU", "CT=HU,MR=relative"):
        spec = measure_spec(samples, (6, 6, 2), "pad", unit, verbose=False)
        assert spec.of("CT").unit == HU and spec.of("MR").unit == RELATIVE
    with pytest.raises(UserError, match="1 in HU and 1 in relative"):
        measure_spec(samples, (6, 6, 2), "pad", None, verbose=False)


def test_a_column_says_the_unit(tmp_path: Path) -> None:
    manifest = read_manifest(table(tmp_path, ",HU,relative"))
    assert read_units(manifest.units) == {"CT": HU, "MR": RELATIVE} and manifest.clinical_columns == []
    (tmp_path / "b").mkdir()
    with pytest.raises(UserError, match=r"column 'pixel_unit': values of modality CT are said to be in HU and in rel"):
        read_manifest(table(tmp_path / "b", "HU,relative,"))


def test_hu_that_is_hardly_ct_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = table(tmp_path)
    assert data_check.run(data_check.Config(data=path, unit="HU")) == 0
    assert "1 images are said to be in HU and are hardly CT" in capsys.readouterr().out
    assert data_check.run(data_check.Config(data=path, unit="CT=HU")) == 0
    assert "hardly CT" not in capsys.readouterr().out
    with pytest.raises(UserError, match="unknown --unit MRI=HU: modality 'MRI', did you mean 'MR'"):
        data_check.run(data_check.Config(data=path, unit="MRI=HU"))


@pytest.mark.parametrize(("modality", "is_one"), [("CT", True), ("chest ct", True), ("MR", False), (None, True)])
def test_what_may_be_ct(modality: str | None, is_one: bool) -> None:
    assert is_ct(modality) == is_one
