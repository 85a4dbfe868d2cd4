"""A folder of DICOM slices is one volume in the right place, or is refused in one sentence."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from medloom.core.errors import UserError
from medloom.core.spec import HU
from medloom.data.images import read_header, read_image
from medloom.data.manifest import read_manifest

ROWS, COLUMNS, SLICES = 6, 8, 5
SPACING, STEP = (0.7, 0.9), 2.5
# A slightly turned axial plane: rows and columns in LPS.
ANGLE = np.deg2rad(12)
ALONG_ROW, ALONG_COLUMN = np.array([np.cos(ANGLE), np.sin(ANGLE), 0]), np.array([-np.sin(ANGLE), np.cos(ANGLE), 0])
NORMAL = np.cross(ALONG_ROW, ALONG_COLUMN)
# Row, column, slice of a bright voxel: columns grow to the patient's left, so it lies on the left.
NODULE = (2, 7, 3)


def stored() -> np.ndarray:
    """Values `(slices, rows, columns)`, of which HU are 2 x - 1024."""
    values = np.random.default_rng(0).integers(0, 400, (SLICES, ROWS, COLUMNS)).astype(np.uint16)
    values[NODULE[2], NODULE[0], NODULE[1]] = 1000
    return values


def slice_of(number: int, series: str) -> pydicom.Dataset:
    data = pydicom.Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = CTImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    data.SeriesInstanceUID, data.Modality = series, "CT"
    data.Rows, data.Columns, data.SamplesPerPixel = ROWS, COLUMNS, 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    data.RescaleSlope, data.RescaleIntercept = 2, -1024
    data.PixelSpacing = list(SPACING)
    # As some scanners write it: thicker than the slices are apart.
    data.SliceThickness = 5
    data.ImageOrientationPatient = [*ALONG_ROW, *ALONG_COLUMN]
    data.ImagePositionPatient = [round(float(x), 5) for x in np.array([-30, -40, 100]) + number * STEP * NORMAL]
    data.InstanceNumber = SLICES - number
    data.PixelData = stored()[number].tobytes()
    data["PixelData"].VR = "OW"
    return data


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """A series whose file names are in no order, next to a note and a DICOMDIR."""
    folder, uid = tmp_path / "series", generate_uid()
    folder.mkdir()
    for number, name in enumerate(("c.dcm", "a", "d.dcm", "b.ima", "e.dcm")):
        slice_of(number, uid).save_as(folder / name, enforce_file_format=True)
    (folder / "LICENSE.txt").write_text("for research")
    (folder / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    return folder


def change(path: Path, **values: object) -> None:
    data = pydicom.dcmread(path)
    for name, value in values.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)


def shifted(path: Path, by: np.ndarray) -> None:
    position = np.array(pydicom.dcmread(path).ImagePositionPatient, float) + by
    change(path, ImagePositionPatient=[float(x) for x in position])


def test_a_series_is_sorted_by_position_rescaled_and_lies_where_itk_has_it(series: Path) -> None:
    image, header = read_image(series), read_header(series)
    assert image.unit == header.unit == HU and image.size == header.size == (COLUMNS, ROWS, SLICES)
    np.testing.assert_allclose(image.spacing, (SPACING[1], SPACING[0], STEP), rtol=1e-4)
    np.testing.assert_allclose(header.affine, image.affine)
    assert image.pixels.max() == 976 and image.modality == "CT"
    index = np.unravel_index(image.pixels[0].argmax(), image.size)
    where = (image.affine @ [*index, 1])[:3]

    names = sorted(
        (path for path in series.iterdir() if path.stem in "abcde"), key=lambda path: "cadbe".index(path.stem)
    )
    theirs = SimpleITK.ReadImage([os.fspath(path) for path in names])
    array = SimpleITK.GetArrayFromImage(theirs)
    found = [int(i) for i in np.unravel_index(array.argmax(), array.shape)[::-1]]
    lps = np.array(theirs.TransformIndexToPhysicalPoint(found))
    np.testing.assert_allclose(where, lps * (-1, -1, 1), atol=0.02)
    np.testing.assert_array_equal(np.sort(array.ravel()), np.sort(image.pixels.ravel()))
    middle = (image.affine @ [*(np.array(image.size) - 1) / 2, 1])[:3]
    assert where[0] < middle[0]


def test_padding_of_single_slices_is_preserved(series: Path) -> None:
    data = pydicom.dcmread(series / "d.dcm")
    data.add_new("PixelPaddingValue", "US", int(stored()[2, 0, 0]))
    data.save_as(series / "d.dcm", enforce_file_format=True)
    image = read_image(series)
    assert image.padding is not None and image.padding.any()
    assert (image.pixels[0][image.padding] == int(stored()[2, 0, 0]) * 2 - 1024).all()


def test_a_volume_has_the_window_of_its_middle_slice(series: Path) -> None:
    assert read_image(series).window is None
    for path in (path for path in series.iterdir() if path.stem in "abcde"):
        change(path, WindowCenter=40, WindowWidth=80)
    assert read_image(series).window == (0.0, 80.0)


def test_a_manifest_names_folders(series: Path) -> None:
    table = series.parent / "data.csv"
    table.write_text("path,Text\nseries,a chest\n")
    manifest = read_manifest(table, images_are_patients=True)
    first = (manifest.fingerprint(), manifest.stamp())
    assert manifest.samples()[0].path == series
    change(series / "e.dcm", SeriesDescription="another")
    again = read_manifest(table, images_are_patients=True)
    assert (again.fingerprint(), again.stamp()) != first


def missing(folder: Path) -> None:
    (folder / "d.dcm").unlink()


def twice(folder: Path) -> None:
    shutil.copy(folder / "d.dcm", folder / "f.dcm")


def mixed(folder: Path) -> None:
    change(folder / "d.dcm", SeriesInstanceUID=generate_uid())


def tilted(folder: Path) -> None:
    for number, name in enumerate(("c.dcm", "a", "d.dcm", "b.ima", "e.dcm")):
        shifted(folder / name, number * STEP * np.tan(np.deg2rad(15)) * ALONG_COLUMN)


def scout(folder: Path) -> None:
    change(folder / "d.dcm", ImageOrientationPatient=[*ALONG_ROW, *NORMAL])


def without_position(folder: Path) -> None:
    change(folder / "d.dcm", ImagePositionPatient=None)


def other_size(folder: Path) -> None:
    change(folder / "d.dcm", Rows=3, PixelData=stored()[2, :3].tobytes())


def one_slice(folder: Path) -> None:
    for path in folder.glob("*.*"):
        if path.name != "d.dcm":
            path.unlink()
    (folder / "a").unlink()


def no_slice(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def cut_short(folder: Path) -> None:
    (folder / "d.dcm").write_bytes((folder / "d.dcm").read_bytes()[:200])


def several_frames(folder: Path) -> None:
    change(folder / "d.dcm", NumberOfFrames=2)


def other_unit(folder: Path) -> None:
    change(folder / "d.dcm", RescaleType="US")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (missing, r"slices are 2.5 mm apart, but 5 mm between a and b.ima \(1 such gaps\): slices are missing"),
        (twice, r"two slices with one position, d.dcm and f.dcm \(1 such pairs\): copies, or several time points"),
        (mixed, r"holds 2 series \(.*\), but a volume has one; put each into a folder of its own"),
        (tilted, r"by 15.0 degrees \(a tilted gantry\)"),
        (scout, r"slices of several directions \(a and d.dcm\)"),
        (without_position, "d.dcm does not state the position of its slice"),
        (other_size, r"holds 2 sizes of slices"),
        (one_slice, "holds one slice, d.dcm; name the file itself"),
        (no_slice, "holds no DICOM image"),
        (cut_short, "d.dcm"),
        (several_frames, "d.dcm holds 2 frames"),
        (other_unit, "holds 2 units"),
    ],
)
def test_a_series_that_is_not_whole_is_refused(series: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(series)
    for read in (read_image, read_header):
        with pytest.raises(UserError, match=message):
            read(series)


def test_real_slices_of_one_patient_are_read_one_by_one(shared: Path) -> None:
    with pytest.raises(UserError, match="holds 3 series"):
        read_image(shared / "dicom")
