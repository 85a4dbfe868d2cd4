"""A filter learns from ratings what a good image of a prompt is: network, split, calibration, artefacts, storage."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from medloom.core.errors import UserError
from medloom.core.spec import GREY, ImageSpec, Intensity
from medloom.core.types import Condition
from medloom.data.images import read_image
from medloom.data.manifest import read_manifest
from medloom.feedback.filter.artefacts import CORRUPTIONS, corrupted
from medloom.feedback.filter.calibration import calibrated, cross_calibrated, reliability
from medloom.feedback.filter.member import FilterOptions, Pairs
from medloom.feedback.filter.network import QualityConfig, QualityNetwork, rubric
from medloom.feedback.filter.prompts import prompt_words
from medloom.feedback.filter.quality_filter import BEST, load_filter
from medloom.feedback.filter.ratings import read_ratings, split_ratings
from medloom.feedback.filter.training import Trained, train_filter
from medloom.generators.options import TextOptions
from medloom.metrics.classification import auroc

SIZE, COUNT = 16, 120
SPEC = ImageSpec((SIZE, SIZE), 1, "pad", {"Disc": Intensity("window", GREY, 0, 255)})
TEXT = TextOptions(width=16, layers=1, vocabulary=700, max_tokens=40)
OPTIONS = FilterOptions(members=2, warm_steps=150, steps=50, batch=30, learning_rate=3e-3)
SIDES = ("left", "right", "middle", "top", "bottom")
CENTRES = {"left": (8, 4), "right": (8, 12), "middle": (8, 8), "top": (4, 8), "bottom": (12, 8)}


def disc(rng: np.random.Generator, side: str) -> np.ndarray:
    """A disc at a side, `(1, SIZE, SIZE)` in [-1, 1]."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    row, column = np.array(CENTRES[side]) + rng.normal(0, 0.5, 2)
    inside = (rows - row) ** 2 + (columns - column) ** 2 < rng.uniform(2, 3) ** 2
    return (np.where(inside, 0.6, -0.8) + rng.normal(0, 0.05, (SIZE, SIZE)))[None].astype(np.float32)


def write_ratings(folder: Path, seed: int = 0) -> tuple[Path, np.ndarray]:
    """Images of which two raters say whether they are clean discs where the prompt wants them."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    lines, images = ["path,text,modality,patient_id,rater,realism,match,level"], []
    for number in range(COUNT):
        asked, drawn = rng.choice(SIDES), rng.choice(SIDES)
        drawn = asked if rng.uniform() < 0.6 else drawn
        image = disc(rng, str(drawn))
        spoiled = rng.uniform() < 0.25
        if spoiled:
            image = corrupted(torch.from_numpy(image[None]), rng)[0].numpy()
        images.append(image)
        levels = np.clip((image[0] + 1) * 127.5, 0, 255).round().astype(np.uint8)
        Pillow.fromarray(levels).save(folder / f"{number}.png")
        for rater, strict in (("anna", 0), ("ben", 1)):
            realism = 1 if spoiled else 3 - strict
            match = 3 if asked == drawn else 1
            lines.append(f"{number}.png,A disc at the {asked}.,Disc,p{number},{rater},{realism},{match},")
    (folder / "ratings.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "ratings.csv", np.stack(images)


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    return write_ratings(tmp_path_factory.mktemp("rated") / "out")


@pytest.fixture(scope="module")
def trained(rated: tuple[Path, np.ndarray]) -> tuple[Trained, np.ndarray, object]:
    path, images = rated
    ratings = read_ratings(read_manifest(path, need=("path",), repeated=True), ())
    rng = np.random.default_rng(9)
    sides = [SIDES[k % 5] for k in range(200)]
    real = Pairs(np.stack([disc(rng, side) for side in sides]), [f"Disc: A disc at the {side}." for side in sides])
    each = np.repeat(images, 2, axis=0)
    return train_filter(each, ratings, real, SPEC, (), TEXT, OPTIONS, verbose=False), each, ratings


def test_it_knows_good_images_of_held_out_prompts(trained) -> None:
    found, _, ratings = trained
    known = ratings.rows(found.held_out)
    assert found.apart == "prompts and patients"
    learnt = set(range(len(ratings))) - set(found.held_out.tolist())
    assert not {ratings.prompts[row] for row in learnt} & set(known.prompts)
    assert auroc((known.levels == BEST).astype(int), found.judgement.score) > 0.85


def test_it_is_stored_and_judges_images_in_the_values_of_their_modality(trained, rated, tmp_path: Path) -> None:
    found, each, ratings = trained
    found.filter.save(tmp_path / "filter")
    again = load_filter(tmp_path / "filter")
    images = [read_image(sample.path) for sample in ratings.samples[:6]]
    conditions = [sample.condition for sample in ratings.samples[:6]]
    judged, direct = again.judge(images, conditions), found.filter.judge_arrays(each[:6], ratings.prompts[:6])
    # Files have 256 levels.
    np.testing.assert_allclose(judged.score, direct.score, atol=0.05)
    assert judged.uncertainty.shape == (6,) and (judged.uncertainty >= 0).all()
    np.testing.assert_allclose(judged.levels.sum(1), 1, atol=1e-4)
    assert (judged.reward <= judged.score).all()
    with pytest.raises(UserError, match="is no filter"):
        load_filter(tmp_path)


def test_planted_artefacts_are_seen(trained) -> None:
    found, _, _ = trained
    rng = np.random.default_rng(4)
    clean = np.stack([disc(rng, "left") for _ in range(40)])
    spoiled = CORRUPTIONS["checkerboard"](torch.from_numpy(clean), rng).clamp(-1, 1).numpy()
    prompts = ["Disc: A disc at the left."] * 40
    judged = [found.filter.judge_arrays(images, prompts) for images in (clean, spoiled)]
    artefact = np.concatenate([own.artefact for own in judged])
    assert auroc(np.repeat([0, 1], 40), artefact) > 0.9
    assert judged[1].reward.mean() < 0.6 * judged[0].reward.mean()


@pytest.mark.parametrize("shape", [(3, 1, 16, 16), (2, 3, 12, 20), (2, 1, 8, 12, 8)])
def test_corruptions_change_images_of_every_kind(shape: tuple[int, ...]) -> None:
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0)) - 0.5
    for name, corrupt in CORRUPTIONS.items():
        changed = corrupt(images, np.random.default_rng(1))
        assert changed.shape == images.shape and torch.isfinite(changed).all(), name
        assert (changed - images).abs().flatten(1).amax(1).min() > 0.01, name
    assert torch.equal(corrupted(images, np.random.default_rng(2)), corrupted(images, np.random.default_rng(2)))


def test_levels_are_probabilities_that_rise_with_the_item() -> None:
    network = QualityNetwork(QualityConfig(2, 1, 8, (8, 8), 16, 8))
    items = torch.tensor([[-9.0, 9.0], [0.0, 0.0], [9.0, 9.0], [9.0, -9.0]])
    log_levels = network.log_levels(items)
    torch.testing.assert_close(log_levels.exp().sum(-1), torch.ones(4, 2), atol=1e-4, rtol=0)
    found = rubric(log_levels).exp()
    torch.testing.assert_close(found.sum(1), torch.ones(4), atol=1e-4, rtol=0)
    # Unacceptable; in between; acceptable and a match; acceptable and no match.
    assert found[0].argmax() == 0 and found[2].argmax() == 2 and found[3].argmax() == 1


def test_calibration_makes_scores_frequencies() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 1, 4000)
    right = rng.uniform(0, 1, 4000) < truth
    # Log-odds three times too large, and shifted.
    odds = np.log(truth / (1 - truth))
    scores = 1 / (1 + np.exp(-(3 * odds + 1)))
    assert reliability(scores, right).error > 0.15
    assert reliability(calibrated(scores, right).apply(scores), right).error < 0.03
    groups = tuple(str(k // 2) for k in range(4000))
    assert reliability(cross_calibrated(scores, right, groups, 0), right).error < 0.03
    # Nothing is known of one kind alone, and the wrong way round is not turned about.
    assert calibrated(scores, np.ones(4000, bool)).slope == 1
    assert calibrated(1 - scores, right).slope == 1


def test_a_split_leaves_no_patient_and_no_prompt_on_both_sides(rated) -> None:
    ratings = read_ratings(read_manifest(rated[0], need=("path",), repeated=True), ())
    learnt, held_out, apart = split_ratings(ratings, 0.2, 0)
    one, two = ratings.rows(learnt), ratings.rows(held_out)
    assert apart == "prompts and patients" and len(one) + len(two) == len(ratings)
    for name in ("prompts", "images"):
        assert not set(getattr(one, name)) & set(getattr(two, name)), name


@pytest.mark.parametrize(
    ("column", "cells", "said"),
    [
        ("level", ["3"] * 30, "all 30 ratings are of level 3"),
        ("level", ["3", "1"] * 5, "has 10 ratings; a filter needs 20"),
        ("level", ["3", "4"] * 15, "line 3: level is '?4"),
        ("grade", ["3", "1"] * 15, "has no ratings: it needs a column level"),
    ],
)
def test_ratings_that_teach_nothing_are_refused(column: str, cells: list[str], said: str, tmp_path: Path) -> None:
    Pillow.fromarray(np.zeros((SIZE, SIZE), np.uint8)).save(tmp_path / "a.png")
    lines = [f"path,text,modality,{column}", *(f"a.png,A disc.,Disc,{cell}" for cell in cells)]
    (tmp_path / "r.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    manifest = read_manifest(tmp_path / "r.csv", need=("path",), need_patients=False, repeated=True)
    with pytest.raises(UserError, match=said):
        read_ratings(manifest, ())


def test_a_prompt_has_modality_text_and_cells() -> None:
    condition = Condition("Small effusion.", "CXR", "PA", table={"age": 61.0, "sex": "female", "ward": None})
    assert prompt_words(condition) == "CXR PA: Small effusion."
    assert prompt_words(condition, ("age", "ward", "sex")) == "CXR PA: Small effusion.; age 61; sex female"
    assert prompt_words(Condition(modality="CXR")) == "CXR"
