"""Sharpness beside real images: equal sets are at 1, blurred ones below, noisy ones above."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from medloom.core.spec import GREY, ImageSpec, Intensity
from medloom.core.types import Condition, Sample
from medloom.downstream.classifier import ClassifierOptions
from medloom.evaluation.images.cache import EvaluationCache
from medloom.evaluation.images.detail import detail_metrics, ratio_of_means
from medloom.evaluation.images.sets import ImageSet
from medloom.evaluation.report.metrics import Metric
from medloom.metrics.uncertainty import Interval

SPEC = ImageSpec((24, 24), 1, "pad", {"CXR": Intensity("window", GREY, 0, 255)})


def drawn(folder: Path, seed: int, blur: float = 0.0, noise: float = 0.0) -> ImageSet:
    folder.mkdir()
    rng, samples = np.random.default_rng(seed), []
    for number in range(40):
        picture = ndimage.gaussian_filter(rng.uniform(0, 255, (24, 24)), 0.6)
        picture = ndimage.gaussian_filter(picture, blur) + noise * rng.standard_normal((24, 24))
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
        samples.append(Sample(folder / f"{number}.png", Condition("", "CXR"), f"p{number // 2}", number, number + 2))
    units = tuple(f"{seed}-{number // 2}" for number in range(40))
    return ImageSet(folder.name, samples, units, "patients", (None,) * 40)


def told(tmp_path: Path, blur: float = 0.0, noise: float = 0.0) -> Metric:
    cache = EvaluationCache(tmp_path, SPEC, ClassifierOptions(verbose=False))
    metrics, notes = detail_metrics(cache, drawn(tmp_path / "real", 0), drawn(tmp_path / "made", 1, blur, noise), 0)
    (metric,) = metrics
    assert not notes
    assert metric.low is not None and metric.high is not None
    return metric


def test_equal_sets_are_as_sharp(tmp_path: Path) -> None:
    metric = told(tmp_path)
    assert metric.low < 1 < metric.high and metric.value == pytest.approx(1, abs=0.2)
    assert "worse" not in metric.reading


def test_a_blur_is_worse(tmp_path: Path) -> None:
    metric = told(tmp_path, blur=0.8)
    assert metric.high < 0.7 and metric.reading == "below the reference: differs"


def test_noise_is_above(tmp_path: Path) -> None:
    metric = told(tmp_path, noise=30.0)
    assert metric.low > 1.2 and metric.reading == "above the reference: differs"


def test_images_that_are_too_small_are_said(tmp_path: Path) -> None:
    cache = EvaluationCache(tmp_path, replace(SPEC, size=(6, 6)), ClassifierOptions(verbose=False))
    metrics, notes = detail_metrics(cache, drawn(tmp_path / "real", 0), drawn(tmp_path / "made", 1), 0)
    assert not metrics and "6 x 6 pixels are too small" in notes[0]


def test_interval_of_a_ratio_by_hand() -> None:
    found = ratio_of_means(Interval(0.0, -3.0, 3.0, 9), Interval(0.0, -4.0, 4.0, 7))
    assert (found.value, found.n) == (1.0, 7)
    assert np.log([found.low, found.high]) == pytest.approx([-5, 5])
