"""Caches: filled once, continued after an interruption, never taken for whole when they are not."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medloom.core.errors import UserError
from medloom.core.spec import ImageSpec
from medloom.data.cache import BATCH, BATCHES_PER_RECORD, CacheColumn, cached_rows, cached_texts, require_space
from medloom.data.dataset import ImageSource, cached_images, cached_usable_labels, measure_spec
from medloom.data.manifest import read_manifest

COLUMNS = {"squares": CacheColumn((2,), "float32")}
ROWS = 3 * BATCH * BATCHES_PER_RECORD + 5


class Squares:
    """Computes squares, counts calls, and can fail at a row."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.rows: list[int] = []
        self.fail_at = fail_at

    def __call__(self, rows: Sequence[int]) -> dict[str, np.ndarray]:
        if self.fail_at is not None and self.fail_at in rows:
            raise KeyboardInterrupt
        self.rows += rows
        values = np.array(rows, np.float32)
        return {"squares": np.stack([values, values**2], axis=1)}


def test_filled_once_and_read_again(tmp_path: Path) -> None:
    first, second = Squares(), Squares()
    for compute in (first, second):
        squares = cached_rows(tmp_path, "test", {"data": "a"}, ROWS, COLUMNS, compute)["squares"]
        np.testing.assert_array_equal(squares[:, 1], np.arange(ROWS, dtype=np.float32) ** 2)
    assert first.rows == list(range(ROWS)) and second.rows == []
    cached_rows(tmp_path, "test", {"data": "b"}, ROWS, COLUMNS, other := Squares())
    assert other.rows == list(range(ROWS))


def test_an_interrupted_cache_is_continued(tmp_path: Path) -> None:
    record = BATCH * BATCHES_PER_RECORD
    with pytest.raises(KeyboardInterrupt):
        cached_rows(tmp_path, "test", {}, ROWS, COLUMNS, Squares(fail_at=2 * record + 20))
    again = Squares()
    squares = cached_rows(tmp_path, "test", {}, ROWS, COLUMNS, again)["squares"]
    assert again.rows[0] == 2 * record
    np.testing.assert_array_equal(squares[:, 0], np.arange(ROWS, dtype=np.float32))


def test_a_cache_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    cached_rows(tmp_path, "test", {}, ROWS, COLUMNS, Squares())
    file = next(tmp_path.rglob("squares.bin"))
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(UserError, match="the cache is truncated; remove"):
        cached_rows(tmp_path, "test", {}, ROWS, COLUMNS, Squares())


def test_disk_space_is_checked_first(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs 1000000000.00 GB in"):
        require_space(tmp_path, 10**18, "the cache")


def test_texts_are_stored_once_and_trimmed(tmp_path: Path) -> None:
    asked: list[str] = []

    def embed(texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        asked.extend(texts)
        return [(np.full((len(text), 3), len(text), np.float32), np.full(3, -len(text), np.float32)) for text in texts]

    texts = cached_texts(tmp_path, {"encoder": "x"}, ["bb", "a", "bb", "cccc"], embed)
    assert asked == ["a", "bb", "cccc"] and texts.tokens.shape == (7, 3)
    tokens, mask, pooled = texts.rows([texts.index["cccc"], texts.index["a"]])
    assert tokens.shape == (2, 4, 3) and mask.tolist() == [[True] * 4, [True, False, False, False]]
    assert tokens[1, 1:].sum() == 0 and pooled[:, 0].tolist() == [-4, -1]
    cached_texts(tmp_path, {"encoder": "x"}, ["a", "bb", "cccc"], embed)
    assert len(asked) == 3


def source(manifest: Path, size: tuple[int, ...] = (16,), resize: str = "pad") -> ImageSource:
    samples = read_manifest(manifest).samples()
    spec = measure_spec(samples, size, resize)
    return ImageSource(samples, spec, None, {"data": str(manifest), "spec": spec.fingerprint()})


def test_the_spec_is_measured_from_headers(make_manifest: Callable[..., Path]) -> None:
    spec = source(make_manifest(4)).spec
    assert spec.shape == (3, 16, 16) and not spec.intensity["Disc"].colour and spec.intensity["Square"].colour
    assert ImageSpec.from_dict(spec.to_dict()) == spec
    with pytest.raises(UserError, match="size .* in the model, .* in the data"):
        spec.require_same_space(ImageSpec((8, 8), 3, "pad", spec.intensity), "the model", "the data")


def test_eight_bit_levels_survive_half_precision(make_manifest: Callable[..., Path], tmp_path: Path) -> None:
    manifest = make_manifest(4)
    images = cached_images(source(manifest), tmp_path / "cache")
    levels = np.rint((images[0, 0].astype(np.float32) + 1) * 127.5)
    np.testing.assert_array_equal(levels, np.asarray(Image.open(manifest.parent / "0.png")))


def test_masks_follow_their_image(make_manifest: Callable[..., Path], tmp_path: Path) -> None:
    manifest = make_manifest(4, masks=True)
    wide = np.zeros((8, 16), np.uint8)
    wide[2:6, 3:7] = 1
    for name in ("0.png", "m0.png"):
        Image.fromarray(wide * (200 if name == "0.png" else 1)).save(manifest.parent / name)
    data = source(manifest)
    labels, _ = cached_usable_labels(data, tmp_path / "cache", False)
    images = cached_images(data, tmp_path / "cache")
    assert set(np.unique(labels[0])) == {-1, 0, 1} and (labels[0][:4] == -1).all()
    np.testing.assert_array_equal(labels[0] == 1, images[0, 0] > 0)


def test_a_mask_of_another_size_is_refused(make_manifest: Callable[..., Path], tmp_path: Path) -> None:
    manifest = make_manifest(4, masks=True)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(manifest.parent / "m0.png")
    with pytest.raises(UserError, match="a mask of .* pixels for an image of"):
        cached_usable_labels(source(manifest), tmp_path / "cache", False)
