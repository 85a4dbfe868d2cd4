"""Frames of files with several are named by a column, an option or the path; enhanced DICOM is also one volume."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_files import dicom_file, item
from PIL import Image as Pillow

from medloom.core.errors import UserError
from medloom.core.files import content_stamp, hash_content
from medloom.core.frames import split_frame
from medloom.core.spec import HU
from medloom.data.images import read_header, read_image
from medloom.data.manifest import ManifestOptions, inspect_manifest, load_manifest, read_manifest
from medloom.data.masks import read_mask
from medloom.recipes import data_check

PLACES = (7.5, 0.0, 5.0, 2.5)
STORED = np.random.default_rng(0).integers(0, 900, (4, 6, 8)).astype(np.uint16)
SLOPES = (1, 2, 1, 3)


@pytest.fixture
def enhanced(tmp_path: Path) -> Path:
    """An enhanced CT whose frames are in no order and have slopes of their own."""
    frames = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[-10, -20, place])],
            PixelValueTransformationSequence=[item(RescaleSlope=slope, RescaleIntercept=-1000, RescaleType="HU")],
        )
        for place, slope in zip(PLACES, SLOPES, strict=True)
    ]
    shared = item(
        PixelMeasuresSequence=[item(PixelSpacing=[0.5, 0.75], SliceThickness=5)],
        PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
    )
    groups = {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": frames}
    return dicom_file(tmp_path / "ct.dcm", STORED, Modality="CT", **groups)


def test_a_path_names_a_frame(enhanced: Path) -> None:
    for number, slope in enumerate(SLOPES):
        image = read_image(f"{enhanced}#{number}")
        np.testing.assert_array_equal(image.pixels[0], STORED[number] * slope - 1000.0)
        assert image.frame == number
    with pytest.raises(UserError, match="has no frame 4: it holds 4"):
        read_header(f"{enhanced}#4")
    with pytest.raises(
        UserError, match="holds 4 frames; name one, 0 to 3: in the table's column frame, by --frame, or"
    ):
        read_image(enhanced)


def test_all_frames_are_one_volume_in_order_of_position(enhanced: Path) -> None:
    volume, header = read_image(f"{enhanced}#all"), read_header(f"{enhanced}#all")
    assert volume.unit == header.unit == HU and volume.size == header.size == (8, 6, 4)
    assert volume.spacing == header.spacing == (0.75, 0.5, 2.5)
    np.testing.assert_allclose(volume.affine, header.affine)
    for place, number in enumerate(np.argsort(PLACES)):
        slice_ = STORED[number] * SLOPES[number] - 1000.0
        # Rows lead to the back and columns to the left, the volume's axes to the right and to the front.
        np.testing.assert_array_equal(volume.pixels[0, :, :, place], slice_.T[::-1, ::-1])
    assert read_image(enhanced, frame="all").size == volume.size
    with pytest.raises(UserError, match="frame 'every' is neither a number from 0 nor all"):
        read_image(enhanced, frame="every")


def test_frames_that_are_no_stack_are_refused(tmp_path: Path) -> None:
    cine = dicom_file(tmp_path / "cine.dcm", STORED, PixelSpacing=[1, 1])
    with pytest.raises(UserError, match=r"cine.dcm#?0? does not state the position of its slice"):
        read_image(f"{cine}#all")
    one = dicom_file(tmp_path / "one.dcm", STORED[0])
    with pytest.raises(UserError, match="holds one frame, and no volume"):
        read_image(f"{one}#all")
    nibabel.save(nibabel.Nifti1Image(STORED[..., None], np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(UserError, match="all frames are one volume in DICOM files only"):
        read_image(f"{tmp_path / 'a.nii'}#all")


def test_a_file_whose_name_looks_like_a_frame_is_itself(tmp_path: Path) -> None:
    Pillow.new("L", (3, 2), 7).save(tmp_path / "a#1.png")
    Pillow.new("L", (3, 2), 9).save(tmp_path / "b.png")
    (tmp_path / "b.png").rename(tmp_path / "b.png#2")
    assert split_frame(tmp_path / "a#1.png") == (tmp_path / "a#1.png", None)
    assert split_frame(tmp_path / "b.png#2") == (tmp_path / "b.png#2", None)


def test_a_column_an_option_and_a_path_name_frames(enhanced: Path) -> None:
    table = enhanced.with_name("m.csv")
    table.write_text("path,Text,patient_id,frame\nct.dcm,a,1,2\nct.dcm,b,1,\nct.dcm#1,c,1,3\nct.dcm,d,1,ALL\n")
    options = ManifestOptions(frame="0")
    manifest = load_manifest(table, options)
    assert [sample.path.name for sample in manifest.samples()] == ["ct.dcm#2", "ct.dcm#0", "ct.dcm#1", "ct.dcm#all"]
    assert "frame" not in manifest.frame and manifest.clinical_columns == []
    manifest.write(table.with_name("again.csv"))
    again = read_manifest(table.with_name("again.csv"))
    assert [sample.path for sample in again.samples()] == [sample.path for sample in manifest.samples()]
    assert len({hash_content(path.path) for path in again.samples()}) == 4 and content_stamp(again.samples()[0].path)
    with pytest.raises(UserError, match="--frame first: give a number from 0, or all"):
        load_manifest(table, ManifestOptions(frame="first"))
    table.write_text("path,Text,patient_id,frame\nct.dcm,a,1,x\n")
    assert "'x' is neither a number from 0 nor all" in inspect_manifest(table).problems[0].reason


def test_masks_and_prior_images_name_frames_by_their_path(enhanced: Path) -> None:
    labels = np.stack([np.full((4, 4, 4), number, np.int16) for number in range(3)], -1)
    nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), enhanced.with_name("seg.nii.gz"))
    assert (read_mask(f"{enhanced.with_name('seg.nii.gz')}#2").pixels == 2).all()
    table = enhanced.with_name("m.csv")
    table.write_text("path,Text,patient_id,prior\nct.dcm#1,a,1,ct.dcm#0\nct.dcm#2,a,1,ct.dcm#0\n")
    assert data_check.run(data_check.Config(data=table)) == 0
    table.write_text("path,Text,patient_id,prior\nct.dcm#1,a,1,ct.dcm#9\n")
    assert data_check.run(data_check.Config(data=table)) == 2
