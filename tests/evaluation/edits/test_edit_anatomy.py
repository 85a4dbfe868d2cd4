"""The anatomy in edits: kept, moved, doubled, and changed outside of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from medloom.core.errors import UserError
from medloom.core.spec import GREY, ImageSpec, Intensity
from medloom.core.types import Condition, Sample
from medloom.downstream.classifier import ClassifierOptions
from medloom.evaluation.edits.anatomy import KEPT, OUTSIDE, PARTS, PLACED, anatomy_metrics, parts, segment_edits
from medloom.evaluation.images.cache import EvaluationCache
from medloom.evaluation.report.metrics import Metric

SPEC = ImageSpec((32, 32), 1, "pad", {"X-ray": Intensity("window", GREY, 0, 255)})
OPTIONS = ClassifierOptions(steps=60, seed=0, verbose=False, learning_rate=5e-3)


def save(path: Path, pixels: NDArray[np.float64]) -> Path:
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return path


def draw(folder: Path, name: str, hearts: list[tuple[int, int]], ground: float = 40) -> tuple[Path, Path]:
    """Bright hearts of 8 x 8 pixels on a ground; the image and its mask."""
    picture = ground + np.random.default_rng(sum(map(ord, name))).normal(0, 4, (32, 32))
    mask = np.zeros((32, 32))
    for top, left in hearts:
        picture[top : top + 8, left : left + 8] = 220
        mask[top : top + 8, left : left + 8] = 1
    return save(folder / f"{name}.png", picture), save(folder / f"{name}-mask.png", mask)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, EvaluationCache, list[Sample], list[Sample]]:
    """A place to train in, patients to train on, and triples whose heart moves by two pixels."""
    folder = tmp_path_factory.mktemp("anatomy")
    train, triples = [], []
    for number in range(16):
        image, mask = draw(folder, f"t{number}", [(4 + number, 6 + number)])
        train.append(Sample(image, Condition("text", "X-ray", mask=mask), f"t{number}", 0, 2))
    for number in range(6):
        prior, _ = draw(folder, f"p{number}", [(8, 4 + number)])
        image, mask = draw(folder, f"l{number}", [(10, 4 + number)])
        triples.append(Sample(image, Condition("text", "X-ray", mask=mask, prior=prior), f"p{number}", 0, 2))
    return folder, EvaluationCache(folder / "cache", SPEC, OPTIONS), train, triples


def metrics(
    world: tuple[Path, EvaluationCache, list[Sample], list[Sample]],
    hearts: list[tuple[int, int]] | None,
    ground: float = 40,
) -> dict[str, Metric]:
    """Of edits with these hearts, or, of None, the later images."""
    folder, cache, train, triples = world
    edits = []
    for number, triple in enumerate(triples):
        own = None if hearts is None else [(top, left + number) for top, left in hearts]
        name = f"e{number}-{hearts}-{ground}"
        edits.append(triple if own is None else replace(triple, path=draw(folder, name, own, ground)[0]))
    found, notes = anatomy_metrics(segment_edits(cache, train, list(zip(edits, triples, strict=True))), 0)
    assert "mean Dice with the masks of held-out real patients 0.9" in notes[0]
    return {metric.name: metric for metric in found}


def test_right_edits_lie_on_the_later_mask(world: tuple[Path, EvaluationCache, list[Sample], list[Sample]]) -> None:
    found = metrics(world, None)
    # Hearts that move by two of eight pixels overlap by three quarters.
    assert found[PLACED].value > 0.9 and found[PLACED].reference.value == pytest.approx(0.75, abs=0.08)
    assert found[KEPT].value == pytest.approx(0.75, abs=0.08) and found[PARTS].value == 0.0


def test_a_second_heart_is_one_too_many(world: tuple[Path, EvaluationCache, list[Sample], list[Sample]]) -> None:
    found = metrics(world, [(8, 4), (22, 20)])
    assert found[PARTS].value == 1.0 and found[PARTS].reference.value == 0.0


@pytest.mark.slow
def test_another_ground_is_a_change_outside(world: tuple[Path, EvaluationCache, list[Sample], list[Sample]]) -> None:
    same, other = metrics(world, [(8, 4)]), metrics(world, [(8, 4)], ground=120)
    assert other[OUTSIDE].value < same[OUTSIDE].value - 0.2


def test_parts_leave_specks_out() -> None:
    region = np.zeros((10, 10), bool)
    region[:4, :4] = region[6:8, 6:8] = region[9, 0] = True
    assert parts(region, 16) == 2 and parts(region, 100) == 1 and parts(~region & False, 16) == 0


def test_masks_of_one_patient_are_too_few(world: tuple[Path, EvaluationCache, list[Sample], list[Sample]]) -> None:
    _, cache, train, triples = world
    with pytest.raises(UserError, match="--judge mask: masks of 1 patients in --train"):
        segment_edits(cache, train[:1], list(zip(triples, triples, strict=True)))
