"""Pairs that share a prompt: who is paired, and that a collapsed generator is seen."""

from pathlib import Path

import numpy as np
from PIL import Image

from medloom.core.spec import GREY, ImageSpec, Intensity
from medloom.core.types import Condition, Sample
from medloom.downstream.classifier import ClassifierOptions
from medloom.evaluation.classifiers import Workshop
from medloom.evaluation.sets import ImageSet
from medloom.evaluation.variety import SIMILARITY, draw_pairs, variety_figures


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


def test_pairs_are_of_one_prompt_and_real_ones_of_two_patients(tmp_path: Path) -> None:
    synthetic, real = drawn(tmp_path / "s", "synthetic", "prompts", 0.5), drawn(tmp_path / "r", "real", "patients", 0.5)
    keys = [number // 4 for number in range(48)]
    pairs = draw_pairs(keys, synthetic, 0)
    assert len(pairs) == 24 and len({row for pair in pairs for row in pair}) == 48
    assert all(keys[one] == keys[other] for one, other in pairs)
    assert all(real.units[one] != real.units[other] for one, other in draw_pairs(keys, real, 0))
    assert draw_pairs(keys, real, 0) == draw_pairs(keys, real, 0) != draw_pairs(keys, real, 1)


def test_a_generator_that_has_collapsed_is_seen(tmp_path: Path) -> None:
    spec = ImageSpec((24, 24), 1, "pad", {"CXR": Intensity("window", GREY, 0, 255)})
    shop = Workshop(tmp_path, spec, ClassifierOptions(shown=False))
    real, collapsed = drawn(tmp_path / "r", "real", "patients", 0.3), drawn(tmp_path / "s", "synthetic", "prompts", 0.9)
    figures, notes = variety_figures(shop, real, collapsed, None, 0)
    assert not notes and figures[0].metric == SIMILARITY
    assert figures[0].reading.endswith("worse") and figures[0].value > figures[0].reference.value + 0.2
    assert figures[0].n == 48 and "2 of the 5 scales" in figures[0].note
