"""The drawn images: the same from the same seed, and what the description says."""

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.drawings import MODALITIES, SHAPES, write_drawings
from medloom.core.files import hash_folder
from medloom.data.manifest import read_manifest


def test_the_same_seed_draws_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_drawings(tmp_path / name, 30, 24, seed)
    digests = [hash_folder(tmp_path / name / "images") for name in "abc"]
    assert digests[0] == digests[1] != digests[2]


def test_the_image_shows_its_description(tmp_path: Path) -> None:
    manifest = read_manifest(write_drawings(tmp_path, 48, 32, seed=3))
    assert set(manifest.modalities) == set(MODALITIES) and set(manifest.frame["label"]) == set(SHAPES)
    for sample in manifest.samples():
        pixels = np.asarray(Image.open(sample.path).convert("RGB"), float)[..., 0]
        columns = np.argwhere(pixels > 140)[:, 1]
        side = "left" if columns.mean() < 16 else "right"
        assert sample.condition.text is not None and f"on the {side}" in sample.condition.text
        assert ("large" in sample.condition.text) == (np.ptp(columns) > 9)
