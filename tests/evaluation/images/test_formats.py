"""How sets are stored stands in the report, with a note where they differ."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medloom.core.errors import UserError
from medloom.core.spec import ImageSpec
from medloom.core.types import Condition, Sample
from medloom.evaluation.images.formats import differences, formats_of
from medloom.evaluation.images.sets import ImageSet

SPEC = ImageSpec((32, 32), 1, "pad", {})


def stored(folder: Path, size: int = 32, factor: float = 1.0, deep: bool = False, colour: bool = False) -> ImageSet:
    folder.mkdir()
    samples = []
    for row in range(6):
        pixels = np.random.default_rng(row).uniform(0, 255, (size, size)) * factor
        if deep:
            image = Image.fromarray((pixels * 257).astype(np.uint16))
        else:
            image = Image.fromarray(pixels.astype(np.uint8)).convert("RGB" if colour else "L")
        image.save(folder / f"{row}.png")
        samples.append(Sample(folder / f"{row}.png", Condition(modality="X-ray"), f"p{row}", row, row + 2))
    return ImageSet.of_patients(samples, folder.name)


def test_equal_sets_differ_in_nothing_and_full_depth_is_no_difference(tmp_path: Path) -> None:
    first, second = (
        formats_of(stored(tmp_path / "a"), None, SPEC),
        formats_of(stored(tmp_path / "b", deep=True), None, SPEC),
    )
    assert first.row() == {
        "pixels": "32 x 32",
        "largest": "32 x 32",
        "stored": "PNG, 8 bit, grey",
        "levels": "0.829 to 98.6 %",
    }
    assert second.stored.most_common(1)[0][0] == "PNG, 16 bit, grey"
    assert not differences(first, second)
    assert "colour" in str(formats_of(stored(tmp_path / "c", colour=True), None, SPEC).row()["stored"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"factor": 1 / 16, "deep": True}, "stored on another scale"),
        ({"size": 20}, "the smaller ones have less detail"),
    ],
)
def test_another_scale_and_another_size_are_said(tmp_path: Path, change: dict[str, float], said: str) -> None:
    ours, theirs = (
        formats_of(stored(tmp_path / "a", **change), None, SPEC),
        formats_of(stored(tmp_path / "b"), None, SPEC),
    )  # type: ignore[arg-type]
    (note,) = differences(ours, theirs)
    assert said in note


def test_images_of_another_kind_are_refused(tmp_path: Path) -> None:
    grey = stored(tmp_path / "a")
    with pytest.raises(UserError, match=r"0\.png of the a images is an image of two axes.*real ones are volumes"):
        formats_of(grey, None, ImageSpec((8, 8, 8), 1, "pad", {}))
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "a" / "3.png")
    with pytest.raises(UserError, match=r"3\.png of the a images is in colour, and the held-out real ones are grey"):
        formats_of(grey, None, SPEC)
    assert formats_of(grey, None, ImageSpec((32, 32), 3, "pad", {})).sizes.total() == 6
