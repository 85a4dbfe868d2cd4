"""What identifies someone is found in texts, metadata and pixels, and innocent images are left alone."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from medloom.core.types import Condition, Sample
from medloom.evaluation.images import identifiers
from medloom.evaluation.images.sets import ImageSet


def written(path: Path, text: str = "", marked: bool = True, **chunks: str) -> Sample:
    """A smooth picture, with a text burned in at its upper border."""
    rows, columns = np.mgrid[:256, :256]
    picture = Image.fromarray((120 + 60 * np.sin(rows / 40) * np.cos(columns / 50)).astype(np.uint8))
    ImageDraw.Draw(picture).text((8, 8), text, fill=255, font_size=16)
    information = PngInfo()
    for name, value in ({"SYNTHETIC": "YES"} if marked else {} | chunks).items() | chunks.items():
        information.add_text(name, value)
    picture.save(path, pnginfo=information)
    return Sample(path, Condition("a small effusion", "CXR"), "p", 0, 2)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("seen on 12.03.2019", "a date"),
        ("film 8834215", "a long number"),
        ("write to jane.doe@clinic.org", "an address"),
        ("call 030 1234 5678", "a telephone number"),
        ("reported by Dr. Miller", "a titled name"),
        ("compared to [**2019-1-1**]", "a mark of de-identification"),
        ("XXXX year old with cough", "a mark of de-identification"),
    ],
)
def test_texts(text: str, what: str) -> None:
    sample = Sample(Path(), Condition(text, "CXR"), "p", 0, 2)
    assert identifiers.in_texts(sample) == f"text: {what}"


def test_cells_and_innocent_texts() -> None:
    def of(text: str, **table: float | str | None) -> str | None:
        return identifiers.in_texts(Sample(Path(), Condition(text, "CXR", table=table), "p", 0, 2))

    assert of("", age=94.0) == "age: an age above 89" and of("", note="10/11/2012") == "note: a date"
    assert of("Heart size 12 x 14 cm. T2-weighted, TE 90 ms, day 365.", age=89.0, dose=0.25, score="3/5") is None


def test_metadata_and_the_mark(tmp_path: Path) -> None:
    plain = written(tmp_path / "a.png")
    assert identifiers.in_metadata(plain) is None and identifiers.unmarked(plain) is None
    named = written(tmp_path / "b.png", marked=False, Author="Dr. Miller")
    assert identifiers.in_metadata(named) == "Author: a titled name" and identifiers.unmarked(named)


def test_signs_burned_in(tmp_path: Path) -> None:
    assert identifiers.in_pixels(written(tmp_path / "a.png", "PORTABLE AP")) == "near the upper border"
    assert identifiers.in_pixels(written(tmp_path / "b.png")) is None


def test_metrics_are_compared_with_real_images(tmp_path: Path) -> None:
    def made(name: str, texts: list[str]) -> ImageSet:
        samples = [written(tmp_path / f"{name}{n}.png", text) for n, text in enumerate(texts)]
        units = tuple(str(n) for n in range(len(texts)))
        return ImageSet(name, samples, units, "images", (None,) * len(texts))

    synthetic, real = made("s", ["PORTABLE", "", "", "ERECT"]), made("r", ["PORTABLE", "", "", ""])
    metrics, findings = identifiers.identifier_metrics(synthetic, real, verbose=False)
    signs = next(metric for metric in metrics if metric.name == identifiers.SIGNS)
    assert signs.value == 0.5 and signs.reference.value == 0.25
    assert {found.kind for found in findings} == {identifiers.SIGNS}
    identifiers.write_findings(tmp_path / "found.csv", findings)
    assert (tmp_path / "found.csv").read_text().count("upper border") == 2


def test_the_numbers_of_images_name_nobody(tmp_path: Path) -> None:
    """A manifest that medloom wrote numbers its images, with zeros in front."""
    table = {"sample_id": "0000012345678", "source_id": "1234567890123456", "ward": "7"}
    assert identifiers.in_texts(Sample(tmp_path / "a.png", Condition(text="a chest", table=table), "p", 0, 2)) is None
    named = Condition(text="a chest", table={**table, "note": "1234567890123"})
    assert identifiers.in_texts(Sample(tmp_path / "a.png", named, "p", 0, 2)) == "note: a long number"
