"""A nodule on the patient's left stays there through every pair of writers and readers, at the same place in mm."""

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from medloom.core.errors import UserError
from medloom.core.image import Image
from medloom.core.spec import HU
from medloom.data.image_io.geometry import axis_codes, reorient, to_orientation
from medloom.data.images import read_header, read_image, write_image

FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])
SPACING = (0.8, 1.5, 3.0)
ORIENTATIONS = ("RAS", "LPS", "LAS", "SRA", "PIR", "ALS")
NODULE_VOXEL = (4, 14, 9)  # R, A, S: far from the right, so on the left
ENDINGS = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd")


def ras_volume() -> tuple[np.ndarray, np.ndarray]:
    """HU `(20, 18, 12)` in RAS order with one bright voxel, and its affine with a slight tilt."""
    volume = np.random.default_rng(0).integers(-1000, 100, (20, 18, 12)).astype(np.int16)
    volume[NODULE_VOXEL] = 900
    angle = np.deg2rad(8)
    tilt = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = tilt @ np.diag(SPACING)
    affine[:3, 3] = (-7.0, -11.0, 40.0)
    return volume, affine


def world(affine: np.ndarray) -> np.ndarray:
    return (affine @ [*NODULE_VOXEL, 1])[:3]


def by_nibabel(path: Path, volume: np.ndarray, affine: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(volume, affine), path)


def by_itk(path: Path, volume: np.ndarray, affine: np.ndarray) -> None:
    lps = FLIP @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(volume.T))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    SimpleITK.WriteImage(image, os.fspath(path))


def by_medloom(path: Path, volume: np.ndarray, affine: np.ndarray) -> None:
    spacing = tuple(np.linalg.norm(affine[:3, :3], axis=0).tolist())
    write_image(path, Image(volume[None].astype(np.float32), HU, spacing=spacing, affine=affine), {})


def nodule_by_nibabel(path: Path) -> np.ndarray:
    loaded = nibabel.load(path)
    index = np.unravel_index(np.argmax(loaded.get_fdata()), loaded.shape)
    return (loaded.affine @ [*index, 1])[:3]


def nodule_by_itk(path: Path) -> np.ndarray:
    image = SimpleITK.ReadImage(os.fspath(path))
    array = SimpleITK.GetArrayFromImage(image)
    index = np.unravel_index(np.argmax(array), array.shape)[::-1]
    return FLIP[:3, :3] @ image.TransformIndexToPhysicalPoint([int(i) for i in index])


def nodule_by_medloom(path: Path) -> np.ndarray:
    image, header = read_image(path, unit=HU), read_header(path)
    assert image.affine is not None and axis_codes(image.affine) == "RAS"
    assert header.size == image.size
    np.testing.assert_allclose(header.spacing, image.spacing)
    index = np.unravel_index(np.argmax(image.pixels[0]), image.size)
    assert index == NODULE_VOXEL and image.pixels.max() == 900
    return (image.affine @ [*index, 1])[:3]


WRITERS: dict[str, tuple[Callable[[Path, np.ndarray, np.ndarray], None], tuple[str, ...]]] = {
    "nibabel": (by_nibabel, ENDINGS[:2]),
    "SimpleITK": (by_itk, ENDINGS),
    "medloom": (by_medloom, ENDINGS),
}
NODULES: dict[str, tuple[Callable[[Path], np.ndarray], tuple[str, ...]]] = {
    "nibabel": (nodule_by_nibabel, ENDINGS[:2]),
    "SimpleITK": (nodule_by_itk, ENDINGS),
    "medloom": (nodule_by_medloom, ENDINGS),
}


@pytest.mark.parametrize("codes", ORIENTATIONS)
@pytest.mark.parametrize("writer", WRITERS)
def test_left_nodule_stays_on_the_left(tmp_path: Path, writer: str, codes: str) -> None:
    volume, affine = ras_volume()
    stored, stored_affine = to_orientation(volume, affine, codes)
    write, written = WRITERS[writer]
    for ending, (find, readable) in itertools.product(written, NODULES.values()):
        if ending not in readable:
            continue
        path = tmp_path / f"a{ending}"
        if not path.exists():
            write(path, stored, stored_affine)
        found = find(path)
        np.testing.assert_allclose(found, world(affine), atol=1e-3)
        assert found[0] < (affine @ [9.5, 8.5, 5.5, 1])[0]


def test_readers_agree_exactly(tmp_path: Path) -> None:
    volume, affine = ras_volume()
    by_nibabel(tmp_path / "a.nii.gz", *to_orientation(volume, affine, "LIP"))
    SimpleITK.WriteImage(SimpleITK.ReadImage(os.fspath(tmp_path / "a.nii.gz")), os.fspath(tmp_path / "a.nrrd"))
    one, other = read_image(tmp_path / "a.nii.gz"), read_image(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(one.pixels, other.pixels)
    np.testing.assert_allclose(one.affine, other.affine, atol=1e-4)
    canonical = nibabel.as_closest_canonical(nibabel.load(tmp_path / "a.nii.gz"))
    np.testing.assert_array_equal(one.pixels[0], canonical.get_fdata())
    np.testing.assert_array_equal(one.affine, canonical.affine)


def test_hu_are_preserved_and_not_wrapped(tmp_path: Path) -> None:
    values = np.array([-1024, 0, 3071, 40000], np.float32).reshape(1, 2, 2, 1)
    for ending in ENDINGS:
        write_image(tmp_path / f"a{ending}", Image(values, HU, affine=np.eye(4)), {"seed": "1"})
        np.testing.assert_array_equal(read_image(tmp_path / f"a{ending}").pixels.ravel(), [-1024, 0, 3071, 32767])
    assert nibabel.load(tmp_path / "a.nii").get_data_dtype() == np.int16
    assert bytes(nibabel.load(tmp_path / "a.nii").header["descrip"]).startswith(b"SYNTHETIC")


def test_axial_slice_has_the_orientation_of_its_display(tmp_path: Path) -> None:
    pixels = np.zeros((1, 5, 7), np.float32)
    pixels[0, 0, 6] = 100  # top right of the picture: front and left of the patient
    write_image(tmp_path / "a.nii.gz", Image(pixels, HU, spacing=(1, 2)), {})
    back = read_image(tmp_path / "a.nii.gz")
    assert back.size == (7, 5, 1) and back.spacing == (2, 1, 1)
    assert np.unravel_index(back.pixels.argmax(), back.pixels.shape) == (0, 0, 4, 0)


def test_reorient_moves_pixels_padding_and_affine_together() -> None:
    volume, affine = ras_volume()
    image = Image(volume[None].astype(np.float32), HU, spacing=SPACING, affine=affine, padding=volume == 900)
    turned = reorient(image, "PIR")
    assert turned.affine is not None and turned.padding is not None
    index = np.argwhere(turned.padding)[0]
    assert turned.pixels[(0, *index)] == 900
    np.testing.assert_allclose((turned.affine @ [*index, 1])[:3], world(affine))
    np.testing.assert_allclose(turned.spacing, (1.5, 3.0, 0.8))
    np.testing.assert_array_equal(reorient(turned, "RAS").pixels, image.pixels)


def test_geometry_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="singular"):
        to_orientation(np.ones((2, 2, 2)), np.diag([1.0, 0, 1, 1]))
    sheared = np.array([[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    with pytest.raises(UserError, match="not orthogonal"):
        write_image(tmp_path / "a.mha", Image(np.ones((1, 2, 2, 2), np.float32), HU, affine=sheared), {})
