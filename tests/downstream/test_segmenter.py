"""The network that segments: what is drawn is found, labels move with their images, and chance comes from the seed."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.downstream.augment import augment, augment_labelled
from medloom.downstream.classifier import ClassifierOptions
from medloom.downstream.segmenter import mean_dice, train_segmenter

OPTIONS = ClassifierOptions(steps=40, seed=0, verbose=False, learning_rate=5e-3)


def drawn(count: int, size: tuple[int, ...]) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Bright blocks (label 3) and dark ones (label 7) at random places on noise."""
    rng = np.random.default_rng(0)
    images = rng.normal(0, 0.1, (count, 1, *size)).astype(np.float32)
    masks = np.zeros((count, *size), np.int16)
    for image, mask in zip(images, masks, strict=True):
        for label, level in ((3, 0.8), (7, -0.8)):
            start = [rng.integers(0, length - 6) for length in size]
            block = tuple(slice(first, first + 6) for first in start)
            image[(0, *block)] = level
            mask[block] = label
    return images, masks


@pytest.mark.parametrize("size", [(18, 20), (12, 14, 12)])
def test_what_is_drawn_is_found_in_images_that_were_not_trained_on(size: tuple[int, ...]) -> None:
    images, masks = drawn(24, size)
    held = np.arange(24) >= 18
    segmenter = train_segmenter(images, masks, held, OPTIONS)
    assert segmenter.classes == (3, 7)
    found = segmenter.predict(images[held])
    assert found.shape == masks[held].shape and set(np.unique(found)) <= {0, 3, 7}
    assert segmenter.dice is not None and segmenter.dice > 0.75
    assert segmenter.dice == pytest.approx(mean_dice(found, masks[held], (3, 7)).mean())


def test_the_same_seed_gives_the_same_network_and_what_is_not_known_does_not_count() -> None:
    images, masks = drawn(8, (16, 16))
    options = ClassifierOptions(steps=2, seed=1, verbose=False)
    held = np.zeros(8, bool)
    once, again = (train_segmenter(images, masks, held, options) for _ in range(2))
    assert once.dice is None and np.array_equal(once.predict(images), again.predict(images))
    with pytest.raises(UserError, match="no class"):
        train_segmenter(images, np.full_like(masks, -1), held, options)


def test_a_network_that_diverges_is_an_error() -> None:
    images, masks = drawn(8, (16, 16))
    with pytest.raises(UserError, match="training the segmenter diverged"):
        train_segmenter(np.full_like(images, np.nan), masks, np.zeros(8, bool), OPTIONS)


def test_dice_of_label_maps_by_hand() -> None:
    mask = np.array([[1, 1, 2, -1]])
    found = np.array([[1, 0, 0, 1]])
    # Class 1: 2 * 1 / (1 + 2), what lies where nothing is known not counted; class 2: none of its one pixel.
    assert mean_dice(found, mask, (1, 2)) == pytest.approx([1 / 3])
    assert np.isnan(mean_dice(np.zeros((1, 4)), np.zeros((1, 4)), (1, 2))).all()


def test_labels_move_with_their_images() -> None:
    images = torch.full((3, 1, 32, 32), -1.0)
    images[:, :, 10:22, 8:20] = 0.5
    labels = (images[:, 0] > 0).long() * 4
    moved, along = augment_labelled(images, labels, 0, 5)
    assert torch.equal(moved, augment(images, 0, 5)) and set(along.unique().tolist()) == {0, 4}
    assert not torch.equal(along, labels)
    bright = moved[:, 0] > -0.3
    assert (bright == (along == 4)).float().mean() > 0.97
