"""Pairs that share a prompt: who is paired, and that a collapsed generator is seen."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from medloom.core.spec import GREY, ImageSpec, Intensity
from medloom.core.types import Condition, Sample
from medloom.downstream.classifier import ClassifierOptions
from medloom.evaluation.images.cache import EvaluationCache
from medloom.evaluation.images.sets import NO_PATIENT, ImageSet
from medloom.evaluation.images.variety import SIMILARITY, draw_pairs, variety_metrics


def drawn(folder: Path, name: str, counted: str, alike: float) -> ImageSet:
    """Twelve prompts of four noisy pictures each; pictures of one prompt share `alike` of themselves."""
    folder.mkdir()
    rng = np.random.default_rng(len(name))
    samples = []
    for number in range(48):
        shared = np.random.default_rng(number // 4).uniform(0, 255, (24, 24))
        picture = alike * shared + (1 - alike) * rng.uniform(0, 255, (24, 24))
        Image.fromarray(picture.astype(np.uint8)).save(folder / f"{number}.png")
        condition = Condition(f"prompt {number // 4}", "CXR")
        samples.append(Sample(folder / f"{number}.png", condition, f"p{number // 2}", number, number + 2))
    units = tuple(f"{number // 4}" if counted == "prompts" else f"p{number // 2}" for number in range(48))
    return ImageSet(name, samples, units, counted, (None,) * 48)


KEYS = [number // 4 for number in range(48)]


def test_pairs_share_a_prompt_and_are_of_two_patients(tmp_path: Path) -> None:
    for name, counted in (("s", "prompts"), ("r", "patients")):
        members = drawn(tmp_path / name, name, counted, 0.5)
        pairs = draw_pairs(KEYS, members, 0)
        # Two patients a prompt: one pair.
        assert len(pairs) == 12 and all(KEYS[one] == KEYS[other] for one, other in pairs)
        assert len({members.samples[row].patient for pair in pairs for row in pair}) == 24
        assert draw_pairs(KEYS, members, 0) == pairs != draw_pairs(KEYS, members, 1)


def test_a_patient_of_many_images_is_in_one_pair(tmp_path: Path) -> None:
    real = drawn(tmp_path / "r", "real", "patients", 0.5)
    samples = [replace(s, patient="p0" if row < 24 else f"p{row}") for row, s in enumerate(real.samples)]
    units = tuple(sample.patient for sample in samples)
    for seed in range(5):
        pairs = draw_pairs(["one key"] * 48, replace(real, samples=samples, units=units), seed)
        assert len(pairs) == 12 and sum(units[row] == "p0" for pair in pairs for row in pair) <= 1


def test_draws_for_one_patient_or_nobody_are_paired_with_each_other(tmp_path: Path) -> None:
    synthetic = drawn(tmp_path / "s", "synthetic", "prompts", 0.5)
    patients = [sample.patient for sample in synthetic.samples]
    pairs = draw_pairs(patients, synthetic, 0)
    assert len(pairs) == 24 and all(patients[one] == patients[other] for one, other in pairs)
    nobody = replace(synthetic, samples=[replace(s, patient=NO_PATIENT) for s in synthetic.samples], counted="images")
    assert len(draw_pairs(["one key"] * 48, nobody, 0)) == 24


def test_a_generator_that_has_collapsed_is_seen(tmp_path: Path) -> None:
    spec = ImageSpec((24, 24), 1, "pad", {"CXR": Intensity("window", GREY, 0, 255)})
    cache = EvaluationCache(tmp_path, spec, ClassifierOptions(verbose=False))
    real, collapsed = drawn(tmp_path / "r", "real", "patients", 0.3), drawn(tmp_path / "s", "synthetic", "prompts", 0.9)
    metrics, notes = variety_metrics(cache, real, collapsed, None, 0)
    assert not notes and metrics[0].name == SIMILARITY
    assert metrics[0].reading.endswith("worse") and metrics[0].value > metrics[0].reference.value + 0.2
    assert metrics[0].n == 24 and "2 of the 5 scales" in metrics[0].note
