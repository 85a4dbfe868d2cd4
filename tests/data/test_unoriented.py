"""A volume whose file does not state its orientation is matched by array index or refused, never turned by a guess."""

from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from medloom.core.errors import UserError
from medloom.core.image import Image
from medloom.core.spec import HU, ImageSpec, Intensity
from medloom.core.types import Condition, Sample
from medloom.data.dataset import measure_spec
from medloom.data.images import read_header, read_image, write_image
from medloom.data.mask_grids import on_image_grid
from medloom.data.masks import read_labels, read_mask
from medloom.data.transforms import from_model, to_model

SIZE, SPACING = (5, 6, 7), (1.0, 2.0, 3.0)
LABELS = np.random.default_rng(0).integers(0, 3, SIZE).astype(np.int16)
CODES = ["".join(one) for axes in permutations(("RL", "AP", "SI")) for one in product(*axes)]
CT = {"CT": Intensity("window", HU, -1000, 1000)}


def stated(path: Path, array: np.ndarray, codes: str = "RAS") -> Path:
    """An array whose first axis leads to codes[0], and so on, at 1 x 2 x 3 mm of the array's axes."""
    change = nibabel.orientations.axcodes2ornt(codes)
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (target, sign) in enumerate(change):
        affine[int(target), axis] = sign * SPACING[axis]
    affine[:3, 3] = (-11, 7, 30)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


def unstated(path: Path, array: np.ndarray = LABELS) -> Path:
    image = nibabel.Nifti1Image(array, None)
    image.header.set_zooms(SPACING)
    image.header["qform_code"] = image.header["sform_code"] = 0
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("codes", CODES)
def test_a_mask_is_matched_to_its_image_by_array_index(tmp_path: Path, codes: str) -> None:
    image, mask = stated(tmp_path / "i.nii.gz", LABELS * 5, codes), unstated(tmp_path / "m.nii.gz")
    placed = on_image_grid(read_mask(mask), mask, read_header(image), image, resample=False)
    np.testing.assert_array_equal(placed.pixels * 5, read_image(image).pixels)
    np.testing.assert_allclose(placed.affine, read_image(image).affine)
    image, mask = unstated(tmp_path / "i.nii.gz"), stated(tmp_path / "m.nii.gz", LABELS, codes)
    placed = on_image_grid(read_mask(mask), mask, read_header(image), image, resample=False)
    np.testing.assert_array_equal(placed.pixels, read_image(image).pixels)
    assert placed.affine is None and placed.unoriented


def test_such_a_mask_of_another_size_cannot_be_resampled(tmp_path: Path) -> None:
    image, mask = stated(tmp_path / "i.nii.gz", LABELS), unstated(tmp_path / "m.nii.gz", LABELS[:-1])
    with pytest.raises(UserError, match="states no orientation, so that neither can be resampled"):
        on_image_grid(read_mask(mask), mask, read_header(image), image, resample=True)


def test_axes_stay_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = unstated(tmp_path / "m.nii.gz")
    image, header = read_image(path), read_header(path)
    np.testing.assert_array_equal(image.pixels[0], LABELS)
    assert (
        image.affine is None and image.unoriented and header.unoriented and header.spacing == image.spacing == SPACING
    )


@pytest.mark.parametrize("field", ["TransformMatrix = -1 0 0 0 1 0 0 0 1\n", ""])
def test_metaimage_without_directions(tmp_path: Path, field: str) -> None:
    head = f"ObjectType = Image\nNDims = 3\n{field}ElementSpacing = 1 2 3\nDimSize = 5 6 7\n"
    (tmp_path / "a.raw").write_bytes(np.ascontiguousarray(LABELS.T).tobytes())
    (tmp_path / "a.mhd").write_text(f"{head}ElementType = MET_SHORT\nElementDataFile = a.raw\n")
    image = read_image(tmp_path / "a.mhd")
    assert image.unoriented == (not field) and image.spacing == SPACING
    if not field:
        np.testing.assert_array_equal(image.pixels[0], LABELS)


@pytest.mark.parametrize(
    "space", ["space: left-posterior-superior\nspace directions: (1,0,0) (0,2,0) (0,0,3)\n", "spacings: 1 2 3\n"]
)
def test_nrrd_without_directions_and_with_a_header_of_its_own(tmp_path: Path, space: str) -> None:
    (tmp_path / "a.raw").write_bytes(np.ascontiguousarray(LABELS.T).tobytes())
    head = f"NRRD0004\ntype: short\ndimension: 3\nsizes: 5 6 7\n{space}endian: little\nencoding: raw\n"
    (tmp_path / "a.nhdr").write_text(f"{head}data file: a.raw\n\n")
    image = read_image(tmp_path / "a.nhdr")
    assert image.unoriented == space.startswith("spacings") and image.spacing == SPACING
    assert read_header(tmp_path / "a.nhdr").size == SIZE


def test_volumes_with_and_without_orientation_do_not_train_together(tmp_path: Path) -> None:
    paths = [stated(tmp_path / "a.nii.gz", LABELS), unstated(tmp_path / "b.nii.gz")]
    samples = [Sample(path, Condition(modality="CT"), str(row), row, row) for row, path in enumerate(paths)]
    with pytest.raises(UserError, match=r"1 of 2 volumes state no orientation, first .*b.nii.gz"):
        measure_spec(samples, SIZE, "none", HU, verbose=False)
    assert measure_spec(samples[:1], SIZE, "none", HU, verbose=False).orientation == "RAS"
    assert measure_spec(samples[1:], SIZE, "none", HU, verbose=False).orientation is None


def test_a_model_takes_what_it_was_trained_on_and_writes_it(tmp_path: Path) -> None:
    oriented, bare = (ImageSpec(SIZE, 1, "none", CT, orientation=codes) for codes in ("RAS", None))
    path = unstated(tmp_path / "a.nii.gz")
    with pytest.raises(UserError, match="the volume states no orientation"):
        to_model(read_image(path, unit=HU), oriented, "CT")
    with pytest.raises(UserError, match="the volume states an orientation, and the model's training images state none"):
        to_model(read_image(stated(tmp_path / "b.nii.gz", LABELS), unit=HU), bare, "CT")
    with pytest.raises(UserError, match="m.nii.gz: the volume states no orientation"):
        read_labels(unstated(tmp_path / "m.nii.gz"), oriented)
    made = from_model(to_model(read_image(path, unit=HU), bare, "CT").array, bare, "CT")
    write_image(tmp_path / "out.nii.gz", made, {})
    header = nibabel.load(tmp_path / "out.nii.gz").header
    assert (
        int(header["qform_code"]) == int(header["sform_code"]) == 0 and read_image(tmp_path / "out.nii.gz").unoriented
    )
    with pytest.raises(UserError, match="states no orientation, which MetaImage cannot say"):
        write_image(tmp_path / "out.mha", made, {})
    # An array from memory is in the order R, A, S.
    assert to_model(Image(LABELS[None].astype(np.float32), HU), oriented, "CT").array.shape == (1, *SIZE)


def test_unknown_units_of_space_are_mm(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(LABELS, np.diag([1, 2, 3, 1]))
    image.header["xyzt_units"] = 4
    nibabel.save(image, tmp_path / "a.nii")
    assert read_image(tmp_path / "a.nii").spacing == SPACING


def test_an_analyze_header_states_no_orientation(tmp_path: Path) -> None:
    image = nibabel.AnalyzeImage(LABELS, np.diag([1, 2, 3, 1]))
    nibabel.save(image, tmp_path / "a.img")
    for name in ("a.img", "a.hdr"):
        read = read_image(tmp_path / name)
        assert read.unoriented and read.spacing == SPACING
        np.testing.assert_array_equal(read.pixels[0], LABELS)


def test_itk_agrees_where_the_orientation_is_stated(tmp_path: Path) -> None:
    theirs = SimpleITK.GetImageFromArray(np.ascontiguousarray(LABELS.T))
    theirs.SetSpacing(SPACING)
    for name in ("a.nrrd", "a.mha", "a.nhdr"):
        SimpleITK.WriteImage(theirs, str(tmp_path / name))
        assert not read_image(tmp_path / name).unoriented
        np.testing.assert_array_equal(read_image(tmp_path / name).pixels[0], LABELS[::-1, ::-1])
