"""DICOM segmentations and those of 3D Slicer are label maps with the classes that they name, or are refused by name."""

from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from dicom_files import dicom_file, item
from pydicom.dataset import Dataset, FileMetaDataset

from medloom.core.errors import UserError
from medloom.core.mask_spec import MaskSpec
from medloom.core.types import Condition, Sample
from medloom.data.images import read_header, read_image
from medloom.data.mask_grids import on_image_grid
from medloom.data.masks import by_names, named_classes, read_mask, read_named_mask, stated_names

ROWS, COLUMNS, SLICES, STEP = 6, 8, 7, 2.5
# Row, column, slice; on the low rows and high columns of some slices only.
LABELS = np.zeros((ROWS, COLUMNS, SLICES), np.int16)
LABELS[1:3, 5:8, 2:4] = 1
LABELS[3:5, 0:2, 3:6] = 2
FRAME = "1.2.840.99.1"


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """A CT of which each voxel of label L is brighter by 100 L."""
    folder = tmp_path / "series"
    folder.mkdir()
    for number in range(SLICES):
        dicom_file(
            folder / f"{number}.dcm",
            (100 * LABELS[..., number] + 7).astype(np.uint16),
            Modality="CT",
            SeriesInstanceUID="1.2.3",
            FrameOfReferenceUID=FRAME,
            PixelSpacing=[0.5, 0.75],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            ImagePositionPatient=[-10, -20, 100 + STEP * number],
        )
    return folder


def segmentation(
    path: Path,
    frame_of_reference: str = FRAME,
    labels: np.ndarray = LABELS,
    apart: float | None = STEP,
    **more: object,
) -> Path:
    """A binary segmentation with frames only where a segment is, in no order."""
    frames, groups = [], []
    for segment in (2, 1):
        for number in reversed(range(SLICES)):
            plane = labels[..., number] == segment
            if plane.any():
                frames.append(plane)
                groups.append(
                    item(
                        SegmentIdentificationSequence=[item(ReferencedSegmentNumber=segment)],
                        PlanePositionSequence=[item(ImagePositionPatient=[-10, -20, 100 + STEP * number])],
                    )
                )
    shared = item(
        PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
        PixelMeasuresSequence=[item(PixelSpacing=[0.5, 0.75], SliceThickness=0.5, SpacingBetweenSlices=apart)],
    )
    segments = [item(SegmentNumber=1, SegmentLabel="nodule"), item(SegmentNumber=2, SegmentLabel="effusion")]
    given = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4",
        "Modality": "SEG",
        "SegmentationType": "BINARY",
        "SegmentSequence": segments,
        "FrameOfReferenceUID": frame_of_reference,
        "SharedFunctionalGroupsSequence": [shared],
        "PerFrameFunctionalGroupsSequence": groups,
        **more,
    }
    dicom_file(path, np.stack(frames).astype(np.uint8), **given)
    data = pydicom.dcmread(path)
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    # Binary segmentations have one bit a pixel.
    data.BitsAllocated, data.BitsStored, data.HighBit = 1, 1, 0
    packed = np.packbits(np.stack(frames).ravel(), bitorder="little").tobytes()
    data.PixelData = packed + b"\0" * (len(packed) % 2)
    data.save_as(path)
    return path


def test_a_dicom_segmentation_lies_on_its_image(series: Path, tmp_path: Path) -> None:
    path = segmentation(tmp_path / "seg.dcm")
    mask, image = read_mask(path), read_image(series)
    placed = on_image_grid(mask, path, read_header(series), series, resample=False)
    np.testing.assert_array_equal(placed.pixels * 100 + 7, image.pixels)
    np.testing.assert_allclose(placed.affine, image.affine)
    assert stated_names(path) == {1: "nodule", 2: "effusion"}
    # The image may be a NIfTI of the same grid.
    nibabel.save(nibabel.Nifti1Image(image.pixels[0], image.affine), tmp_path / "ct.nii.gz")
    again = on_image_grid(mask, path, read_header(tmp_path / "ct.nii.gz"), tmp_path / "ct.nii.gz", resample=False)
    np.testing.assert_array_equal(again.pixels, placed.pixels)


def test_slices_may_be_thinner_than_they_are_apart(series: Path, tmp_path: Path) -> None:
    path = segmentation(tmp_path / "seg.dcm", apart=None)
    placed = on_image_grid(read_mask(path), path, read_header(series), series, resample=False)
    np.testing.assert_array_equal(placed.pixels * 100 + 7, read_image(series).pixels)


def test_resampled_segmentations_have_background_where_no_segment_is(series: Path, tmp_path: Path) -> None:
    path = segmentation(tmp_path / "seg.dcm")
    image = read_image(series)
    fine = image.affine.copy()
    fine[:3, 0] /= 2
    nibabel.save(nibabel.Nifti1Image(np.repeat(image.pixels[0], 2, 0), fine), tmp_path / "ct.nii.gz")
    placed = on_image_grid(read_mask(path), path, read_header(tmp_path / "ct.nii.gz"), tmp_path / "ct.nii.gz", True)
    assert placed.pixels.min() == 0 and set(np.unique(placed.pixels)) == {0, 1, 2}


def test_segmentations_that_cannot_be_a_label_map(series: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a fractional segmentation"):
        read_mask(segmentation(tmp_path / "fractional.dcm", SegmentationType="FRACTIONAL"))
    other = segmentation(tmp_path / "other.dcm", "1.2.840.99.2")
    with pytest.raises(UserError, match="has another frame of reference than its image"):
        on_image_grid(read_mask(other), other, read_header(series), series, resample=True)
    contours = Dataset()
    contours.file_meta = FileMetaDataset()
    contours.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    contours.SOPClassUID = contours.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    contours.SOPInstanceUID = contours.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    contours.save_as(tmp_path / "rt.dcm", enforce_file_format=True)
    with pytest.raises(UserError, match=r"holds contours \(RT structure set\), and no label map"):
        read_mask(tmp_path / "rt.dcm")


def test_overlapping_segments_are_refused(tmp_path: Path) -> None:
    path = segmentation(tmp_path / "seg.dcm")
    data = pydicom.dcmread(path)
    groups = data.PerFrameFunctionalGroupsSequence
    # The frame of the other segment comes to lie on one of the first.
    groups[-1].PlanePositionSequence[0].ImagePositionPatient = groups[0].PlanePositionSequence[0].ImagePositionPatient
    frames = np.ones((len(groups), ROWS, COLUMNS), np.uint8)
    packed = np.packbits(frames.ravel(), bitorder="little").tobytes()
    data.PixelData = packed + b"\0" * (len(packed) % 2)
    data.save_as(path)
    with pytest.raises(UserError, match="segments overlap, and a voxel has one label"):
        read_mask(path)


def slicer(path: Path, names: dict[int, str], layer: str = "0") -> Path:
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(LABELS.T).astype(np.uint8))
    for number, (label, name) in enumerate(names.items()):
        for key, value in (("Name", name), ("LabelValue", str(label)), ("Layer", layer)):
            image.SetMetaData(f"Segment{number}_{key}", value)
    SimpleITK.WriteImage(image, str(path))
    return path


def sample(mask: Path) -> Sample:
    return Sample(mask, Condition(modality="CT", mask=mask), mask.name, 0, 2)


def test_classes_of_slicer_are_compared_by_name(tmp_path: Path) -> None:
    """Files number their segments on their own."""
    first = slicer(tmp_path / "a.seg.nrrd", {1: "nodule", 2: "effusion"})
    second = slicer(tmp_path / "b.seg.nrrd", {1: "effusion", 2: "nodule"})
    names = named_classes([sample(first), sample(second)])
    assert names == {1: "effusion", 2: "nodule"}
    masks = MaskSpec(names)
    a, b = (by_names(*read_named_mask(path), path, masks).pixels for path in (first, second))
    np.testing.assert_array_equal(a, np.select([b == 1, b == 2], [2, 1], b))
    np.testing.assert_array_equal(b, read_mask(second).pixels)
    with pytest.raises(UserError, match=r"c.seg.nrrd: unknown mask class 'lung'"):
        by_names(read_mask(first), {1: "lung"}, tmp_path / "c.seg.nrrd", masks)
    nibabel.save(nibabel.Nifti1Image(LABELS, np.eye(4)), tmp_path / "plain.nii.gz")
    with pytest.raises(UserError, match="1 of 2 masks do not name their segments, first .*plain.nii.gz"):
        named_classes([sample(first), sample(tmp_path / "plain.nii.gz")])
    assert named_classes([sample(tmp_path / "plain.nii.gz")]) == {}


def test_layers_of_slicer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has segments in several layers, which overlap"):
        read_mask(slicer(tmp_path / "a.seg.nrrd", {1: "nodule"}, layer="1"))
