"""Copies that were flipped or shifted by parts of a pixel are as near to their originals as copies are."""

import numpy as np
import pytest
from scipy import ndimage

from medloom.evaluation.images.pixel_alignment import pixel_alignment, pixel_views, unit_pixels
from medloom.metrics.privacy import copy_rates, nearest


def smooth(count: int, seed: int, size: tuple[int, ...]) -> np.ndarray:
    """Images without detail, `(count, *size)`."""
    noise = np.random.default_rng(seed).standard_normal((count, *size))
    return ndimage.gaussian_filter(noise, (0, *(2.0 for _ in size)))


def features(images: np.ndarray) -> np.ndarray:
    return unit_pixels(images.reshape(len(images), -1).copy())


@pytest.mark.parametrize(("size", "by"), [((32, 32), (1.25, -0.75)), ((16, 16, 16), (0.5, -1.0, 0.0))])
def test_a_flipped_and_shifted_copy_is_found_and_compared_without_its_border(
    size: tuple[int, ...], by: tuple[float, ...]
) -> None:
    train = smooth(40, 0, size)
    changed = ndimage.shift(train[:5], (0, *by), order=1, mode="nearest")
    changed = np.flip(changed, 1)
    alignment = pixel_alignment(size)
    queries, references = features(changed), features(train)
    index = nearest(queries, references, alignment.views)[1]
    assert index.tolist() == [0, 1, 2, 3, 4]
    assert alignment.cosines(queries, references[index]).min() > 0.99
    assert (queries * references[:5]).sum(1).max() < 0.9
    # Other images are no nearer after their best shift than a copy is.
    assert alignment.cosines(queries, references[index + 7]).max() < 0.9


def test_shifted_copies_are_listed_and_others_are_not() -> None:
    size = (32, 32)
    train, held_out, fresh = (smooth(count, seed, size) for seed, count in enumerate((200, 200, 200)))
    fresh[:10] = 1.2 * ndimage.shift(train[:10], (0, 0.75, 0.75), order=1, mode="nearest") + 0.3
    found = copy_rates(
        *(features(images) for images in (train, held_out, fresh)),
        np.arange(200),
        200 + np.arange(200),
        0,
        alignment=pixel_alignment(size),
    )
    listed = {row for row, _, _ in found.pairs}
    assert set(range(10)) <= listed and len(listed) <= 11
    assert found.excess.low < 0.05 < found.excess.high


def test_views_are_those_of_every_flip_and_move() -> None:
    values = unit_pixels(np.random.default_rng(0).standard_normal((3, 64)))
    assert pixel_views(values, (8, 8)).shape == (3, 27, 64)
    assert np.allclose(pixel_views(values, (8, 8))[:, 0], values, atol=1e-6)


def test_flat_images_are_near_to_nothing() -> None:
    flat = unit_pixels(np.ones((1, 1024), np.float32))
    assert np.isfinite(pixel_alignment((32, 32)).cosines(flat, features(smooth(1, 0, (32, 32))))).all()
