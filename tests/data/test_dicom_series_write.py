"""A volume that is written as a DICOM series is the same volume again, in its place, and says that it is synthetic."""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK

from medloom.core.errors import UserError
from medloom.core.image import Image
from medloom.core.spec import GREY, HU, RELATIVE
from medloom.data.image_io.geometry import reorient, voxel_spacing
from medloom.data.images import read_header, read_image, read_provenance, require_series, write_image, write_series
from medloom.data.manifest import read_manifest
from medloom.evaluation.images.identifiers import unmarked

SIZE, SPACING = (7, 5, 4), (0.7, 0.9, 2.5)
PROVENANCE = {"model": "0123", "seed": "7"}


def turned(degrees: float, about: int) -> np.ndarray:
    """A rotation about an axis of the patient."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    first, second = (axis for axis in range(3) if axis != about)
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = c
    matrix[first, second], matrix[second, first] = -s, s
    return matrix


def affine_of(directions: np.ndarray) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = directions * SPACING
    affine[:3, 3] = (-81.3, 1 / 3, 1042.25)
    return affine


STRAIGHT, OBLIQUE = affine_of(np.eye(3)), affine_of(turned(12, 0) @ turned(-20, 1) @ turned(31, 2))
FLIPPED = affine_of(np.diag([-1.0, -1.0, 1.0]))


def volume(affine: np.ndarray | None = OBLIQUE) -> Image:
    """HU over all of the usual 12 bits."""
    values = np.random.default_rng(0).integers(-1024, 3072, (1, *SIZE)).astype(np.float32)
    values[0, 0, 0, 0], values[0, -1, -1, -1] = -1024, 3071
    spacing = None if affine is None else voxel_spacing(affine)
    return Image(values, HU, spacing=spacing, affine=affine)


def slices_of(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


@pytest.mark.parametrize("affine", [STRAIGHT, FLIPPED, OBLIQUE], ids=["straight", "flipped", "oblique"])
def test_the_same_voxels_are_in_the_same_place(tmp_path: Path, affine: np.ndarray) -> None:
    image = volume(affine)
    write_series(tmp_path / "a", image, PROVENANCE)
    back, header = read_image(tmp_path / "a"), read_header(tmp_path / "a")
    expected = reorient(image, "RAS")
    np.testing.assert_array_equal(back.pixels, expected.pixels)
    np.testing.assert_allclose(back.affine, expected.affine, atol=1e-6)
    np.testing.assert_allclose(header.affine, expected.affine, atol=1e-6)
    np.testing.assert_allclose(back.spacing, SPACING, rtol=1e-6)
    assert back.unit == header.unit == HU and back.modality == "CT" and back.left_aside == ()
    assert (back.pixels.min(), back.pixels.max()) == (-1024, 3071)


@pytest.mark.parametrize("affine", [STRAIGHT, OBLIQUE], ids=["straight", "oblique"])
def test_another_reader_finds_each_voxel_at_the_same_point(tmp_path: Path, affine: np.ndarray) -> None:
    image = volume(affine)
    write_series(tmp_path / "a", image, PROVENANCE)
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(os.fspath(tmp_path / "a"))
    theirs = SimpleITK.ReadImage(names)
    for index in ((0, 0, 0), (6, 0, 0), (0, 4, 3), (2, 3, 1)):
        lps = (image.affine @ [*index, 1])[:3] * (-1, -1, 1)
        place = theirs.TransformPhysicalPointToIndex(lps.tolist())
        assert theirs[place] == image.pixels[0][index]


def test_the_headers_of_the_slices_agree(tmp_path: Path) -> None:
    write_series(tmp_path / "a", volume(), PROVENANCE)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [f"{n:04d}.dcm" for n in range(1, SIZE[2] + 1)]
    made = slices_of(tmp_path / "a")
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "ImageOrientationPatient"):
        assert len({str(data[name].value) for data in made}) == 1, name
    assert len({data.SOPInstanceUID for data in made}) == SIZE[2]
    assert [int(data.InstanceNumber) for data in made] == list(range(1, SIZE[2] + 1))
    cosines = np.array(made[0].ImageOrientationPatient, float).reshape(2, 3)
    np.testing.assert_allclose(cosines @ cosines.T, np.eye(2), atol=1e-9)
    # Rows lead to the patient's left and columns to the back, as axial slices are shown; slices lead to the head.
    assert cosines[0].argmax() == 0 and cosines[1].argmax() == 1
    places = np.array([data.ImagePositionPatient for data in made], float)
    np.testing.assert_allclose(np.diff(places, axis=0) @ np.cross(*cosines), SPACING[2], rtol=1e-6)
    for data in made:
        assert data.SOPClassUID.name == "CT Image Storage" and data.Modality == "CT"
        assert data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID
        assert (data.RescaleSlope, data.RescaleIntercept, data.RescaleType) == (1, -1024, "HU")
        assert [float(mm) for mm in data.PixelSpacing] == [SPACING[1], SPACING[0]]
        assert data.SliceThickness == data.SpacingBetweenSlices == SPACING[2]
        assert (data.Rows, data.Columns, data.BitsStored) == (SIZE[1], SIZE[0], 16)


def test_every_slice_says_that_it_is_synthetic_and_names_nobody(tmp_path: Path) -> None:
    write_series(tmp_path / "a", volume(), PROVENANCE)
    for data in slices_of(tmp_path / "a"):
        assert (data.SyntheticData, data.ContentQualification, data.PatientName) == ("YES", "RESEARCH", "SYNTHETIC")
        assert list(data.ImageType)[:2] == ["DERIVED", "SECONDARY"] and "SYNTHETIC" in data.DerivationDescription
        empty = ("PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "AccessionNumber", "StudyID")
        assert not any(data[name].value for name in empty)
    assert read_provenance(tmp_path / "a") == {"SYNTHETIC": "YES", **PROVENANCE}


def test_a_folder_is_marked_if_all_of_its_slices_are(tmp_path: Path) -> None:
    write_series(tmp_path / "a", volume(), PROVENANCE)
    (tmp_path / "data.csv").write_text("path,Text\na,a chest\n")
    (sample,) = read_manifest(tmp_path / "data.csv", images_are_patients=True).samples()
    assert unmarked(sample) is None
    data = pydicom.dcmread(tmp_path / "a" / "0003.dcm")
    data.SyntheticData = "NO"
    # By its content it is a slice under any name.
    data.save_as(tmp_path / "a" / "IM3")
    (tmp_path / "a" / "0003.dcm").unlink()
    assert read_provenance(tmp_path / "a") == {} and unmarked(sample) == "no mark SYNTHETIC"


def test_the_same_volume_is_the_same_series_and_another_is_not(tmp_path: Path) -> None:
    for name in ("one/a", "two/a"):
        write_series(tmp_path / name, volume(), PROVENANCE)
    contents = [[path.read_bytes() for path in sorted((tmp_path / n / "a").iterdir())] for n in ("one", "two")]
    assert contents[0] == contents[1]
    write_series(tmp_path / "b", replace(volume(), pixels=volume().pixels + 1), PROVENANCE)
    first, other = (slices_of(tmp_path / name)[0] for name in ("one/a", "b"))
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        assert first[name].value != other[name].value
    # Equal slices of a volume are instances of their own.
    write_series(tmp_path / "flat", replace(volume(), pixels=volume().pixels * 0), PROVENANCE)
    assert len({data.SOPInstanceUID for data in slices_of(tmp_path / "flat")}) == SIZE[2]


def test_hu_are_rounded(tmp_path: Path) -> None:
    write_series(tmp_path / "a", replace(volume(), pixels=volume().pixels - np.float32(0.4)), PROVENANCE)
    np.testing.assert_array_equal(read_image(tmp_path / "a").pixels, np.maximum(volume().pixels, -1024))


def test_relative_values_become_levels_as_in_a_slice(tmp_path: Path) -> None:
    image = replace(volume(), unit=RELATIVE, pixels=(volume().pixels + 1024) / np.float32(4095))
    write_series(tmp_path / "a", image, PROVENANCE)
    back = read_image(tmp_path / "a")
    write_image(tmp_path / "slice.dcm", Image(image.pixels[..., 2], RELATIVE), PROVENANCE)
    single = read_image(tmp_path / "slice.dcm")
    assert (back.unit, back.full_scale) == (single.unit, single.full_scale) == (GREY, 255)
    np.testing.assert_array_equal(back.pixels[..., 2], single.pixels)
    np.testing.assert_allclose(back.affine, OBLIQUE, atol=1e-6)
    data = slices_of(tmp_path / "a")[0]
    assert data.SOPClassUID.name == "Secondary Capture Image Storage" and "RescaleSlope" not in data


def sheared() -> np.ndarray:
    affine = STRAIGHT.copy()
    affine[1, 2] += 0.5
    return affine


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (volume(None), "size in mm, which are not known"),
        (replace(volume(), unoriented=True), "size in mm, which are not known"),
        (volume(sheared()), "not at right angles"),
        (replace(volume(STRAIGHT), affine=np.diag([1.0, 0.0, 1.0, 1.0])), "not at right angles"),
        (replace(volume(), pixels=volume().pixels[..., :1]), "one axial slice"),
        (replace(volume(), pixels=volume().pixels[..., 0]), "volume with one value per voxel"),
        (replace(volume(), pixels=np.repeat(volume().pixels, 3, axis=0)), "volume with one value per voxel"),
        (replace(volume(), unit=RELATIVE), "only 0 to 1 can be written as levels"),
    ],
)
def test_what_cannot_be_said_of_a_series_is_refused(tmp_path: Path, image: Image, words: str) -> None:
    for refuse in (require_series, lambda path, image: write_series(path, image, PROVENANCE)):
        with pytest.raises(UserError, match=words):
            refuse(tmp_path / "a", image)
    assert not list(tmp_path.iterdir())


def broken(folder: Path) -> Image:
    return replace(volume(), pixels=np.where(volume().pixels == 3071, np.nan, volume().pixels))


def in_use(folder: Path) -> Image:
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    return volume()


@pytest.mark.parametrize(("prepare", "words"), [(broken, "not finite"), (in_use, "name a new folder")])
def test_nothing_is_written_over_or_from_what_is_broken(
    tmp_path: Path, prepare: Callable[[Path], Image], words: str
) -> None:
    image = prepare(tmp_path / "a")
    with pytest.raises(UserError, match=words):
        write_series(tmp_path / "a", image, PROVENANCE)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] in ([], ["notes.txt"])


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian's dicom3tools) is not installed")
def test_slices_pass_dciodvfy(tmp_path: Path) -> None:
    write_series(tmp_path / "a", volume(), PROVENANCE)
    for path in sorted((tmp_path / "a").iterdir()):
        result = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False)
        errors = [line for line in (result.stdout + result.stderr).splitlines() if line.startswith("Error")]
        # Synthetic Data is younger than the checker's dictionary in some releases.
        assert [line for line in errors if "(0008,001c)" not in line] == []
