"""Alignment: rates by hand, the null, and a classifier trained on synthetic images."""

import sys
from pathlib import Path

import numpy as np
import pytest

from medloom.core.errors import UserError
from medloom.core.spec import GREY, ImageSpec, Intensity
from medloom.data.dataset import ImageSource
from medloom.downstream.classifier import ClassifierOptions
from medloom.evaluation.images import alignment, utility
from medloom.evaluation.images.alignment import Predictions
from medloom.evaluation.images.cache import train_on_real, train_on_synthetic
from medloom.evaluation.images.sets import ImageSet, real_set, synthetic_set
from medloom.evaluation.report.metrics import Metric, Reference

sys.path.insert(0, str(Path(__file__).parent))
from drawn import drawn_set, read

WINDOW = Intensity("window", GREY, 0, 255)
SPEC = ImageSpec((16, 16), 1, "pad", {"dark": WINDOW, "light": WINDOW})
QUICK = ClassifierOptions(steps=60, batch=32, validate_every=20, verbose=False)


def judged(truth: str, predicted: str, units: str = "", groups: str = "") -> Predictions:
    names = [np.array(list(part or default)) for part, default in ((units, "."), (groups, "m" * len(truth)))]
    unit = names[0] if units else np.arange(len(truth))
    return Predictions(np.array(list(truth)), np.array(list(predicted)), unit, names[1], "prompts")


def by_subset(metrics: list[Metric], name: str = alignment.RECOGNITION) -> dict[str, Metric]:
    return {metric.subset: metric for metric in metrics if metric.name == name}


def test_recognition_by_hand() -> None:
    real, synthetic = judged("aaaabb", "aaabbb"), judged("aabbbb", "abbbbb", "112222")
    metrics = by_subset(alignment.recognition_metrics("label", real, synthetic, 0))
    assert metrics["all"].value == pytest.approx(5 / 6)
    # Real recall is 3/4 of a and all of b; the synthetic set is one third a.
    assert metrics["all"].reference.value == pytest.approx(0.75 / 3 + 2 / 3)
    assert (metrics["a"].value, metrics["a"].reference.value) == (0.5, 0.75)
    assert (metrics["b"].value, metrics["b"].n, metrics["b"].counted) == (1.0, 4, "images")
    assert "these prompts (1)" in metrics["b"].note


def test_many_prompts_are_the_units() -> None:
    truth = "ab" * 40
    metric = by_subset(
        alignment.recognition_metrics(
            "label",
            judged(truth, truth),
            Predictions(
                np.array(list(truth)),
                np.array(list("ab" * 30 + "ba" * 10)),
                np.arange(80) // 2,
                np.zeros(80),
                "prompts",
            ),
            0,
        )
    )["all"]
    assert (metric.value, metric.n, metric.counted, metric.note) == (0.75, 40, "prompts", "")
    # Prompts are all right or all wrong: the width is that of 40 draws, not of 80.
    assert metric.low is not None and 0.75 - metric.low == pytest.approx(1.96 * (0.75 * 0.25 / 40) ** 0.5, rel=0.25)


def test_shuffling_within_the_modality_is_what_the_modality_explains() -> None:
    # Modality x has a alone; in y, a and b are even: shuffled, x stays right and y is right by half.
    truth, groups = "a" * 20 + "ab" * 10, "x" * 20 + "y" * 20
    metrics = alignment.recognition_metrics("label", judged(truth, truth), judged(truth, truth, groups=groups), 0)
    null = by_subset(metrics, alignment.SHUFFLED)["all"]
    assert null.value == pytest.approx(0.75, abs=0.03) and "each modality" in null.note
    metrics = alignment.recognition_metrics("modality", judged(truth, truth), judged(truth, truth, groups=truth), 0)
    null = by_subset(metrics, alignment.SHUFFLED)["all"]
    assert null.value == pytest.approx(0.75**2 + 0.25**2, abs=0.03) and "all conditions" in null.note


def test_utility_by_hand() -> None:
    real, synthetic = judged("aabbaabb", "aabbaaba"), judged("aabbaabb", "aaaaaaba")
    accuracy, share = utility.utility_metrics(real, synthetic, (10, 20))
    assert (accuracy.value, accuracy.reference.value) == (5 / 8, 7 / 8)
    assert share.value == pytest.approx(5 / 7) and "20 synthetic and 10 real" in share.note
    assert share.reference == Reference("trained on real images", 1.0)
    half = judged("aabbaabb", "aabbabba")
    beside = utility.utility_metrics(real, synthetic, (10, 20), half)[1].reference
    assert beside.value == pytest.approx(6 / 7) and beside.low is not None and beside.low < 6 / 7
    assert "half of the real" in beside.what
    with pytest.raises(UserError, match="recognises no held-out image"):
        utility.utility_metrics(judged("ab", "ba"), judged("ab", "ab"), (1, 1))


def pixels(members: ImageSet) -> np.ndarray:
    return ImageSource(members.samples, SPEC, None, {}).images(range(len(members)))


def test_a_label_swapped_set_loses_recognition_and_utility(tmp_path: Path) -> None:
    sets = {
        "fit": real_set(read(drawn_set(tmp_path / "fit", 160, 0)), "label", "fit"),
        "real": real_set(read(drawn_set(tmp_path / "real", 80, 1)), "label", "real"),
        "good": synthetic_set(read(drawn_set(tmp_path / "good", 80, 2), False), "label"),
        "bad": synthetic_set(read(drawn_set(tmp_path / "bad", 80, 3, swapped=True), False), "label"),
    }
    images = {name: pixels(members) for name, members in sets.items()}
    classifier = train_on_real(images["fit"], sets["fit"], QUICK)
    seen = {name: alignment.predict(classifier, images[name], sets[name]) for name in ("real", "good", "bad")}
    good, bad = (
        by_subset(alignment.recognition_metrics("label", seen["real"], seen[name], 0))["all"]
        for name in ("good", "bad")
    )
    assert good.reference.value > 0.85 and good.value > 0.85 and not good.reading.endswith("worse")
    assert bad.value < 0.2 and bad.reading.endswith("worse")
    student = train_on_synthetic(images["bad"], sets["bad"], QUICK)
    by_student = alignment.predict(student, images["real"], sets["real"])
    share = utility.utility_metrics(seen["real"], by_student, (160, 80))[1]
    assert share.value < 0.5 and share.reading.endswith("worse")


def test_what_is_lacking_for_training() -> None:
    def lacking(*labels: str) -> str:
        return utility.lacking_for_training(ImageSet("s", [], labels, "images", labels))

    assert lacking("a", "a") == "all of them are of class 'a'"
    assert lacking("a", "a", "b") == "class 'b' has 1 image and needs 2"
    assert lacking("a", "a", "b", "b") == ""


def test_recognition_beyond_chance_is_between_shuffled_conditions_and_real_images() -> None:
    truth = "ab" * 60
    real = judged(truth, truth)
    found = {
        name: by_subset(
            alignment.recognition_metrics("label", real, judged(truth, predicted), 0), alignment.BEYOND_CHANCE
        )
        for name, predicted in {"good": truth, "half": "aa" * 60, "swapped": "ba" * 60}.items()
    }
    assert found["good"]["all"].value == 1 and found["good"]["all"].low > 0.9
    assert found["half"]["all"].value == pytest.approx(0, abs=0.1) and found["swapped"]["all"].value < -0.8
    # A classifier that recognises no real image better than by chance can show nothing.
    blind = judged(truth, "a" * 120)
    assert not by_subset(
        alignment.recognition_metrics("label", blind, judged(truth, truth), 0), alignment.BEYOND_CHANCE
    )
