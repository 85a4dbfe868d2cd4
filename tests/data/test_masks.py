"""Masks: on their image's grid, with known labels, and in the place where the image is, whatever the order of axes."""

from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image as Pillow

from medloom.core.errors import UserError
from medloom.core.mask_spec import MaskSpec
from medloom.core.spec import HU, ImageSpec, Intensity
from medloom.data.dataset import read_sample
from medloom.data.image_io.geometry import to_orientation
from medloom.data.masks import hidden_classes, opposite_classes, read_classes, read_labels

SIZE, SPACING = (12, 10, 8), (1.0, 2.0, 3.0)
AFFINE = np.array([[1.0, 0, 0, -20], [0, 2, 0, -30], [0, 0, 3, 40], [0, 0, 0, 1]])
# The first axis goes from the patient's left to the right: a box at its low end is on the left.
LEFT_BOX = (slice(0, 3), slice(1, 4), slice(5, 7))
CODES = ["".join(one) for axes in permutations(("RL", "AP", "SI")) for one in product(*axes)]
NAMES = {1: "left nodule", 2: "right lung", 3: "left lung"}


def spec(size: tuple[int, ...] = SIZE, **more: object) -> ImageSpec:
    return ImageSpec(size, 1, "pad", {"CT": Intensity("window", HU, -1000, 1000)}, orientation="RAS", **more)


def volume() -> np.ndarray:
    values = np.random.default_rng(0).integers(-900, 0, SIZE).astype(np.int16)
    values[LEFT_BOX] = 800
    return values


def mask() -> np.ndarray:
    labels = np.zeros(SIZE, np.int16)
    labels[LEFT_BOX] = 1
    return labels


def save(path: Path, array: np.ndarray, codes: str = "RAS", affine: np.ndarray = AFFINE) -> Path:
    nibabel.save(nibabel.Nifti1Image(*to_orientation(array, affine, codes)), path)
    return path


@pytest.mark.parametrize("codes", CODES)
def test_a_label_on_the_left_is_on_the_left_of_the_image_in_every_order_of_axes(tmp_path: Path, codes: str) -> None:
    image = save(tmp_path / "image.nii.gz", volume())
    labels = read_labels(save(tmp_path / "mask.nii.gz", mask(), codes), spec(), image)
    bright = read_sample(image, spec(), "CT", HU).array[0] > 0.5
    np.testing.assert_array_equal(labels == 1, bright)
    assert (labels == 1).sum() == mask().sum() and set(np.unique(labels)) == {0, 1}


@pytest.mark.parametrize("given", [{"size": (16, 16, 16)}, {"size": (9, 7, 6)}, {"spacing": (1.5, 1.5, 4.0)}])
@pytest.mark.parametrize("patch", [False, True])
def test_labels_lie_where_the_image_lies_once_both_are_resampled(
    tmp_path: Path, given: dict[str, object], patch: bool
) -> None:
    inside = np.where(mask() == 1, 1000, -1000).astype(np.int16)
    image, path = save(tmp_path / "image.nii.gz", inside, "LPS"), save(tmp_path / "mask.nii.gz", mask(), "SAR")
    frame = spec(**{"size": SIZE, **given}, patch=patch)
    labels, array = read_labels(path, frame, image), read_sample(image, frame, "CT", HU).array[0]
    assert labels.shape == array.shape and (not patch or labels.min() == 0)
    middle = [np.average(axis, weights=array + 1) for axis in np.indices(array.shape)]
    np.testing.assert_allclose(np.argwhere(labels == 1).mean(0), middle, atol=0.6)


def test_whole_images_of_patches_keep_their_size_or_take_the_spacing(tmp_path: Path) -> None:
    image = save(tmp_path / "image.nii.gz", volume())
    assert read_sample(image, spec((4, 4, 4), patch=True), "CT", HU).array.shape == (1, *SIZE)
    coarse = read_sample(image, spec((4, 4, 4), patch=True, spacing=(2.0, 2.0, 2.0)), "CT", HU).array
    assert coarse.shape == (1, 6, 10, 12)


@pytest.mark.parametrize("moved", [(0.2, 0, 0), (0, 0, -6)])
def test_a_mask_elsewhere_is_refused_with_both_sides(tmp_path: Path, moved: tuple[float, ...]) -> None:
    other = AFFINE.copy()
    other[:3, 3] += moved
    image, path = save(tmp_path / "image.nii.gz", volume()), save(tmp_path / "mask.nii.gz", mask(), affine=other)
    with pytest.raises(UserError, match="the same grid, or --resample-masks") as error:
        read_labels(path, spec(), image)
    text = str(error.value)
    assert str(path) in text and str(image) in text and "(-20, -30, 40) mm" in text and text.count("12 x 10 x 8") == 2


def test_another_size_or_spacing_is_refused(tmp_path: Path) -> None:
    image = save(tmp_path / "image.nii.gz", volume())
    wide = AFFINE @ np.diag([1, 1, 1.1, 1])
    with pytest.raises(UserError, match=r"1 x 2 x 3.3 mm.* of 1 x 2 x 3 mm"):
        read_labels(save(tmp_path / "a.nii.gz", mask(), affine=wide), spec(), image)
    with pytest.raises(UserError, match="a mask of 12 x 10 x 7 pixels .* for an image of 12 x 10 x 8 pixels"):
        read_labels(save(tmp_path / "b.nii.gz", mask()[..., :7]), spec(), image)


def test_rounding_of_an_affine_is_the_same_grid(tmp_path: Path) -> None:
    rounded = AFFINE + np.random.default_rng(0).uniform(-1e-4, 1e-4, (4, 4)) * np.array([[1], [1], [1], [0]])
    image = save(tmp_path / "image.nii.gz", volume())
    labels = read_labels(save(tmp_path / "mask.nii.gz", mask(), "LPS", rounded), spec(), image)
    np.testing.assert_array_equal(labels, mask())


def test_a_mask_of_another_grid_is_resampled_where_asked(tmp_path: Path) -> None:
    """Finer, in another order of axes, and not reaching over all of the image."""
    fine = np.repeat(np.repeat(mask(), 2, 0), 3, 2)[:, :, 3:]
    step = AFFINE @ np.array([[0.5, 0, 0, -0.25], [0, 1, 0, 0], [0, 0, 1 / 3, 2 / 3], [0, 0, 0, 1]])
    image = save(tmp_path / "image.nii.gz", volume())
    path = save(tmp_path / "mask.nii.gz", fine, "PIL", step)
    with pytest.raises(UserError, match="--resample-masks"):
        read_labels(path, spec(), image)
    labels = read_labels(path, spec(), image, MaskSpec(resample=True))
    np.testing.assert_array_equal(labels[..., 1:], mask()[..., 1:])
    # Nothing is known where the mask does not reach.
    assert (labels[..., 0] == -1).all()


def test_a_mask_without_geometry_takes_that_of_its_image(tmp_path: Path) -> None:
    from medloom.core.image import Image
    from medloom.data.images import write_image

    levels = np.random.default_rng(0).uniform(0, 255, (1, 6, 8)).astype(np.float32)
    write_image(tmp_path / "image.dcm", Image(levels, "grey level", 255.0, spacing=(2.0, 2.0)), {})
    Pillow.fromarray(np.eye(6, 8, dtype=np.uint8)).save(tmp_path / "mask.png")
    frame = ImageSpec((12, 16), 1, "pad", {"X": Intensity("window", "grey level", 0, 255)}, spacing=(1.0, 1.0))
    labels = read_labels(tmp_path / "mask.png", frame, tmp_path / "image.dcm")
    np.testing.assert_array_equal(labels, np.kron(np.eye(6, 8), np.ones((2, 2))))
    with pytest.raises(UserError, match="mask.png: .* states no spacing"):
        read_labels(tmp_path / "mask.png", frame)


def test_a_label_that_is_no_class_is_refused_with_file_and_label(tmp_path: Path) -> None:
    labels = mask()
    labels[11, 0, 0] = 7
    path = save(tmp_path / "mask.nii.gz", labels)
    with pytest.raises(
        UserError, match=r"mask.nii.gz: label 7 is not one of the mask classes \(1 left nodule, 2 right"
    ):
        read_labels(path, spec(), masks=MaskSpec(NAMES))
    assert 7 in read_labels(path, spec())


@pytest.mark.parametrize("value", [0.5, -1, 40000, np.nan])
def test_values_that_are_no_labels(tmp_path: Path, value: float) -> None:
    labels = mask().astype(np.float32)
    labels[8, 3, 3] = value
    with pytest.raises(UserError, match="is not a label map"):
        read_labels(save(tmp_path / "mask.nii.gz", labels), spec())


def test_a_volume_for_a_model_of_slices_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "mask.nii.gz", mask())
    flat = ImageSpec((16, 16), 1, "pad", {"CT": Intensity("window", HU, -1000, 1000)})
    with pytest.raises(UserError, match="mask.nii.gz has 3 spatial axes and the model 2"):
        read_labels(path, flat)


def test_hidden_classes_become_the_class_that_contains_them(tmp_path: Path) -> None:
    labels = mask()
    labels[8:10, 0, 0], labels[10, 0, 0] = 3, 2
    known = MaskSpec(NAMES)
    hidden = hidden_classes(["left nodule=left lung", "2"], known)
    assert hidden == {1: 3, 2: 0}
    masks = MaskSpec(NAMES, hidden)
    assert masks.visible == (3,) and MaskSpec.from_dict(masks.to_dict()) == masks
    read = read_labels(save(tmp_path / "mask.nii.gz", labels), spec(), masks=masks)
    assert set(np.unique(read)) == {0, 3} and (read == 3).sum() == (labels == 1).sum() + 2
    with pytest.raises(UserError, match=r"--hide-classes left nodul: .*did you mean 'left nodule'"):
        hidden_classes(["left nodul"], known)
    with pytest.raises(UserError, match="name classes that the model sees"):
        MaskSpec(NAMES, hidden_classes(["1=3", "3"], known))


def test_classes_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("2: right lung\n1: left nodule\n3: left lung\n")
    (tmp_path / "a.json").write_text('{"1": "left nodule", "2": "right lung", "3": "left lung"}')
    assert read_classes(tmp_path / "a.yaml") == read_classes(tmp_path / "a.json") == NAMES
    for text, message in (
        ("- a\n", "give a label"),
        ("0: air\n", "label above 0"),
        ("a: 1\n", "label above 0"),
        (":", ""),
    ):
        (tmp_path / "b.yaml").write_text(text)
        with pytest.raises(UserError, match=f"--classes .*b.yaml.*{message}"):
            read_classes(tmp_path / "b.yaml")


def test_opposite_classes_by_their_names() -> None:
    assert opposite_classes(MaskSpec({1: "Left lung", 2: "heart", 5: "right lung"})) == [(1, 5)]
    with pytest.raises(UserError, match="--flip: mask class 'left nodule' has no class for the other side"):
        opposite_classes(MaskSpec({1: "left nodule", 2: "heart"}))


def test_the_real_mask_lies_on_its_image(shared: Path) -> None:
    """The left kidney of TotalSegmentator (label 3; right is 2) is on the patient's left, and lungs are dark."""
    folder = shared / "nifti"
    image, path = folder / "totalseg_example_ct.nii.gz", folder / "totalseg_example_ct_seg.nii.gz"
    frame = spec((32, 32, 32), patch=True)
    labels, array = read_labels(path, frame, image), read_sample(image, frame, "CT", HU).array[0]
    assert labels.shape == array.shape
    right, left = (np.argwhere(labels == label).mean(0)[0] for label in (2, 3))
    assert left < array.shape[0] / 2 < right
    assert array[np.isin(labels, (10, 11, 14))].mean() < -0.5 < array[labels == 5].mean()
    with pytest.raises(UserError, match="--resample-masks"):
        read_labels(folder / "ms_p01_brainmask.nii.gz", frame, image)
