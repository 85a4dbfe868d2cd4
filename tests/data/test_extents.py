"""Padding: what part of the model's frame images fill, where frames lie in their content, and what is kept of it."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image as Pillow

from medloom.core.image import Image
from medloom.core.spec import GREY, RELATIVE, ImageSpec, Intensity
from medloom.core.types import Condition
from medloom.data.condition_reader import ConditionReader
from medloom.data.dataset import ImageSource, measure_spec
from medloom.data.image_io.geometry import to_orientation
from medloom.data.manifest import read_manifest
from medloom.data.padding import MOST_EXTENTS, TrainingExtents, bordered, extent_of, frame_position
from medloom.data.transforms import to_model

FRAME = (24, 24)


def spec(
    size: tuple[int, ...] = FRAME, resize: str = "pad", spacing: tuple[float, ...] | None = None, patch: bool = False
) -> ImageSpec:
    orientation = "RAS" if len(size) == 3 else None
    return ImageSpec(size, 1, resize, {"X-ray": Intensity("window", GREY, 0, 255)}, spacing, orientation, patch)


@pytest.mark.parametrize(
    ("size", "extent"),
    [
        ((48, 24), (24, 12)),  # portrait
        ((10, 30), (8, 24)),  # landscape, enlarged
        ((100, 100), (24, 24)),
        ((50, 49), (24, 24)),  # half a pixel is none
        ((23, 20), (24, 21)),  # an odd number of pixels of padding
        ((480, 7), (24, 1)),
    ],
)
def test_what_an_image_fills_is_where_its_pixels_are_put(size: tuple[int, int], extent: tuple[int, int]) -> None:
    assert extent_of(size, None, spec()) == extent
    array = to_model(Image(np.full((1, *size), 200, np.float32), GREY, 255.0), spec(), "X-ray").array
    assert (array > 0).sum() == np.prod(extent)
    # What a generated image gets as its border is what the training image has.
    ones = bordered(np.ones((1, *FRAME), np.float32), extent)
    np.testing.assert_array_equal(ones > 0, array > 0)
    assert ones.min() == (1 if extent == FRAME else -1)


def test_rules_without_padding_fill_the_frame_and_a_spacing_pads_or_crops_each_axis() -> None:
    for resize in ("crop", "stretch"):
        assert extent_of((48, 24), None, spec(resize=resize)) == FRAME and not spec(resize=resize).pads
    assert not spec(resize="none").pads and not spec(patch=True).pads and spec().pads
    volumes = spec((20, 16, 12), "crop", (2.0, 2.0, 2.0))
    # 24 mm are padded, 64 mm are cropped, and 24 mm fit.
    assert extent_of((24, 32, 8), (1.0, 2.0, 3.0), volumes) == (12, 16, 12) and volumes.pads


def test_a_frame_reaches_beyond_its_content_as_a_patch_does() -> None:
    np.testing.assert_allclose(frame_position(FRAME, FRAME), [[-1, 1], [-1, 1]])
    np.testing.assert_allclose(frame_position((24, 12), FRAME), [[-1, 1], [-2, 2]])
    # Three pixels of padding: one before, two after the content.
    np.testing.assert_allclose(frame_position((24, 21), FRAME), [[-1, 1], [-1 - 2 / 21, 1 + 4 / 21]], rtol=1e-6)
    # Shifted by 3 rows and -2 columns: of the first axis 3 pixels of content are lost before, and 3 of padding come in.
    np.testing.assert_allclose(frame_position((24, 12), FRAME, (3, -2)), [[-0.75, 1.25], [-2 - 1 / 3, 2 - 1 / 3]])


def test_rows_have_the_extents_of_their_headers(tmp_path: Path) -> None:
    lines = ["path,patient_id,modality,text"]
    for number, size in enumerate([(12, 24), (24, 12), (24, 24)]):
        Pillow.fromarray(np.arange(size[0] * size[1], dtype=np.uint8).reshape(size)).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,p{number},X-ray,A picture.")
    (tmp_path / "data.csv").write_text("\n".join(lines) + "\n")
    samples = read_manifest(tmp_path / "data.csv").samples()
    for resize, expected in (("pad", [[12, 24], [24, 12], [24, 24]]), ("crop", [[24, 24]] * 3)):
        source = ImageSource(samples, measure_spec(samples, (24,), resize, verbose=False), None, {})
        contents = source.contents()
        assert contents.extents.tolist() == expected and contents.frame == FRAME
    read_before = {sample.path: ((12, 24), None) for sample in samples}
    known = ImageSource(samples, measure_spec(samples, (24,), "pad", verbose=False), None, {}, grids=read_before)
    assert known.contents().extents.tolist() == [[12, 24]] * 3, "headers that were read before are not read again"


def test_a_condition_fills_what_its_mask_fills_else_its_prior_image(tmp_path: Path) -> None:
    reader = ConditionReader(spec())
    tall, wide = np.ones((24, 12), np.uint8), np.full((12, 24), 90, np.uint8)
    Pillow.fromarray(tall).save(tmp_path / "mask.png")
    Pillow.fromarray(wide).save(tmp_path / "prior.png")
    masks = (tmp_path / "mask.png", tall, Image(tall[None].astype(np.float32), RELATIVE))
    priors = (tmp_path / "prior.png", wide, Image(wide[None].astype(np.float32), GREY, 255.0))
    for mask, prior in zip(masks, priors, strict=True):
        assert reader.extent(Condition(modality="X-ray", mask=mask)) == (24, 12)
        assert reader.extent(Condition(modality="X-ray", prior=prior)) == (12, 24)
        assert reader.extent(Condition(modality="X-ray", mask=mask, prior=prior)) == (24, 12)
    assert reader.extent(Condition("A text.", "X-ray")) is None


def test_a_volume_s_extent_is_in_the_model_s_axes(tmp_path: Path) -> None:
    labels = np.zeros((20, 10, 6), np.int16)
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(*to_orientation(labels, affine, "SAL")), tmp_path / "mask.nii.gz")
    volumes = ConditionReader(spec((20, 20, 20)))
    assert volumes.extent(Condition(mask=tmp_path / "mask.nii.gz")) == (20, 10, 6)
    assert volumes.labels(Condition(mask=tmp_path / "mask.nii.gz")).shape == (20, 20, 20)


def test_few_extents_are_kept_and_images_without_padding_stay_such() -> None:
    frame = (256, 256)
    images = [("CT", (256, 256))] * 5 + [("X-ray", (256, 256))] * 7
    images += [("X-ray", (width, 256)) for width in range(120, 256) for _ in range(1 + (width == 201))]
    known = TrainingExtents.of(frame, images)
    assert known.images == len(images) and known.padded == len(images) - 12 and known.differ
    counts = known.counts["X-ray"]
    assert 8 < len(counts) <= MOST_EXTENTS and counts[frame] == 7 and sum(counts.values()) == len(images) - 5
    # Those that are kept occurred, the most frequent among them.
    assert set(counts) <= {extent for _, extent in images} and (201, 256) in counts
    assert known.counts["CT"] == {frame: 5}
    stored = json.loads(json.dumps(known.to_dict()))
    assert TrainingExtents.from_dict(frame, stored) == known


def test_drawn_extents_are_those_of_training_as_often_and_a_function_of_the_seed() -> None:
    known = TrainingExtents(FRAME, {"CT": {(24, 12): 1}, "X-ray": {(12, 24): 1, (24, 24): 3}})
    assert known.draw("CT", 5) == (24, 12) and known.draw("MRI", 5) == FRAME
    drawn = [known.draw("X-ray", seed) for seed in range(2000)]
    assert drawn == [known.draw("X-ray", seed) for seed in range(2000)] and set(drawn) == {(12, 24), (24, 24)}
    assert drawn.count((12, 24)) / 2000 == pytest.approx(0.25, abs=0.03)


def test_a_run_that_continues_another_has_the_extents_of_both() -> None:
    first = TrainingExtents(FRAME, {"CT": {FRAME: 4}, "X-ray": {(12, 24): 2}})
    second = TrainingExtents(FRAME, {"X-ray": {(12, 24): 1, (24, 12): 1}})
    both = second.after(first)
    assert both.counts == {"CT": {FRAME: 4}, "X-ray": {(12, 24): 3, (24, 12): 1}} and both.padded == 4
    assert second.after(None) == second
    assert second.after(TrainingExtents((12, 12), {"X-ray": {(6, 12): 1}})) == second, "pixels of another frame"
