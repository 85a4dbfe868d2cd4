"""Copies are found whatever was done to them, and unrelated images of the same kind are not."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from medloom.core.errors import UserError
from medloom.evaluation.copies.alignments import FLIPS, aligned, flip_matrix, flipped, in_words, turned
from medloom.evaluation.copies.evidence import LISTED_ABOVE, measure_unrelated
from medloom.evaluation.copies.matches import Matches, match
from medloom.evaluation.copies.parts import match_parts
from medloom.evaluation.copies.planted import BLENDED, EDITS, JOINED, edited
from medloom.evaluation.copies.search import Apart, References
from medloom.evaluation.images.copy_pictures import halved
from medloom.evaluation.images.copy_search import PART_ABOVE

COUNT = 48


def body(seed: int, size: int = 128) -> np.ndarray:
    """A patient: an ellipse with two dark ones in it, as all have, and fine structure of one's own."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size] / size - 0.5
    image = 0.7 * (rows**2 / 0.2 + columns**2 / rng.uniform(0.13, 0.17) < 1).astype(float)
    for centre in (-0.18, 0.18):
        away = (rows - rng.normal(0, 0.02)) ** 2 / 0.08 + (columns - centre) ** 2 / 0.02
        image[away < 1] = 0.2
    texture = gaussian_filter(rng.normal(0, 1, (size, size)), 2.5)
    image += 0.12 * texture / texture.std() + rng.normal(0, 0.02, (size, size))
    return image.clip(0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def large() -> np.ndarray:
    return np.stack([body(seed) for seed in range(COUNT)])


@pytest.fixture(scope="module")
def references(large: np.ndarray) -> References:
    return References(halved(large))


@pytest.fixture(scope="module")
def usual(references: References) -> Matches:
    return match(references.images, references, Apart.named(range(COUNT), range(COUNT)))


@pytest.mark.parametrize("edit", [edit for edit in EDITS if edit != JOINED])
def test_an_edited_copy_is_listed_with_its_original(
    edit: str, large: np.ndarray, references: References, usual: Matches
) -> None:
    some = np.arange(0, COUNT, 4)
    found = match(halved(edited(large[some], edit, 0)), references)
    of = [some, np.roll(some, -1)] if edit == BLENDED else [some]
    right = np.any([found.rows == rows for rows in of], axis=0)
    listed = measure_unrelated(usual).scores(found) > LISTED_ABOVE
    assert (right & listed).mean() >= 0.9, (right, measure_unrelated(usual).scores(found))


def test_unrelated_images_are_not_listed(references: References, usual: Matches) -> None:
    others = match(halved(np.stack([body(seed) for seed in range(1000, 1060)])), references)
    unrelated = measure_unrelated(usual)
    assert not (unrelated.scores(others) > LISTED_ABOVE).any()
    assert not (unrelated.scores(usual) > LISTED_ABOVE).any()


def test_copies_among_the_real_images_hide_none_among_the_synthetic_ones(large: np.ndarray) -> None:
    """Three of the images that show how unrelated ones agree are copies."""
    doubled = References(halved(np.concatenate([large, large[:3]])))
    people = range(COUNT + 3)
    unrelated = measure_unrelated(match(doubled.images, doubled, Apart.named(people, people)))
    found = match(halved(edited(large[10:20], "mirrored", 0)), doubled)
    assert (unrelated.scores(found) > LISTED_ABOVE).all() and found.rows.tolist() == list(range(10, 20))


def test_parts_of_a_collage_are_found_and_unrelated_images_have_none(large: np.ndarray, references: References) -> None:
    """Halves of two originals, moved by a pixel; four quarters; images of others."""
    people = range(COUNT)
    small = references.images
    usual_parts = match_parts(small, references, Apart.named(people, people))
    unrelated = [measure_unrelated(part) for part in usual_parts]

    def evidence(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = match_parts(images, references)
        scores = np.stack([own.scores(part) for own, part in zip(unrelated, found, strict=True)])
        return scores.max(0), np.stack([part.rows for part in found])[scores.argmax(0), np.arange(len(images))]

    halves = np.roll(halved(edited(large, JOINED, 0)), 1, axis=2)
    scores, rows = evidence(halves)
    assert (scores > PART_ABOVE).mean() >= 0.95
    assert np.isin(rows - np.arange(COUNT), [0, 1, 1 - COUNT]).all()
    turns = [np.roll(small, turn, axis=0) for turn in range(4)]
    upper = np.concatenate([turns[0][:, :32, :32], turns[1][:, :32, 32:]], axis=2)
    lower = np.concatenate([turns[2][:, 32:, :32], turns[3][:, 32:, 32:]], axis=2)
    assert (evidence(np.concatenate([upper, lower], axis=1))[0] > PART_ABOVE).mean() >= 0.9
    others = halved(np.stack([body(seed) for seed in range(1000, 1200)]))
    assert (evidence(others)[0] > PART_ABOVE).mean() <= 0.01


def test_what_was_done_is_said(large: np.ndarray, references: References) -> None:
    said = {}
    for edit in ("as it is", "mirrored", "rotated by 5 degrees", "cropped to 90 %", "inverted"):
        found = match(halved(edited(large[:1], edit, 0)), references)
        said[edit] = in_words(found.maps[0], bool(found.inverted[0]))
    assert said["as it is"] == "as it is" and said["mirrored"] == "mirrored"
    assert said["rotated by 5 degrees"] == "rotated by 5 degrees" and said["inverted"] == "inverted"
    assert said["cropped to 90 %"].startswith("enlarged to 11")


@pytest.mark.parametrize("flip", range(FLIPS))
def test_a_map_does_what_a_flip_does(flip: int, references: References) -> None:
    image = torch.from_numpy(references.images[:1])
    by_map = aligned(image, torch.from_numpy(np.hstack([flip_matrix(flip), np.zeros((2, 1))])).float()[None, None])
    assert np.allclose(by_map[:, 0], flipped(image, flip), atol=1e-4)


def test_a_map_enlarges(references: References) -> None:
    assert np.linalg.det(turned(30, 2.0)) == pytest.approx(0.25)


def test_few_images_show_no_chance(usual: Matches) -> None:
    with pytest.raises(UserError, match="30 or more real images, and there are 20"):
        measure_unrelated(usual.at(range(20)))
