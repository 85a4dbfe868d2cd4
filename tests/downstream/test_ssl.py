"""The self-supervised encoder: views find their partner, features tell kinds apart, the same seed gives the same."""

from pathlib import Path

import numpy as np
import pytest
import torch

from medloom.core.errors import UserError
from medloom.downstream.ssl import EncoderOptions, contrast, load_encoder, train_encoder

OPTIONS = EncoderOptions(steps=40, batch=32, seed=3, verbose=False)


def pictures(count: int = 96, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Smooth pictures of two kinds: stripes along or across, each with its own phase and width."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size] / size
    kinds = np.arange(count) % 2
    waves = [
        np.sin(2 * np.pi * (rng.uniform(2, 4) * (rows, columns)[kind] + rng.uniform())) + rng.normal(0, 0.1, rows.shape)
        for kind in kinds
    ]
    return np.stack(waves)[:, None].astype(np.float32) * 0.5, kinds


def test_features_separate_kinds_and_are_read_back(tmp_path: Path) -> None:
    images, kinds = pictures()
    encoder = train_encoder(images, OPTIONS)
    assert encoder.agreement > 3 / 63
    features = encoder.features(images)
    unit = features - features.mean(axis=0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cosine = unit @ unit.T - 2 * np.eye(len(unit))
    assert (kinds[cosine.argmax(axis=1)] == kinds).mean() > 0.9
    encoder.save(tmp_path / "encoder")
    again = load_encoder(tmp_path / "encoder")
    np.testing.assert_array_equal(again.features(images), features)
    assert again.fingerprint() == encoder.fingerprint() == train_encoder(images, OPTIONS).fingerprint()
    with pytest.raises(UserError, match="for an encoder of images"):
        again.features(images[:, :, :16])
    with pytest.raises(UserError, match="needs at least 16 training images"):
        train_encoder(images[:15], OPTIONS)


def test_contrast_by_hand() -> None:
    # Partners alike and at right angles to the others: of 3 others one has cosine 1, two have 0.
    views = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1]])
    loss, agreed = contrast(views, 0.5)
    assert agreed == 1 and float(loss) == pytest.approx(np.log(1 + 2 * np.exp(-2)), rel=1e-5)


def test_volumes() -> None:
    images = np.random.default_rng(1).uniform(-1, 1, (20, 1, 12, 12, 12)).astype(np.float32)
    encoder = train_encoder(images, EncoderOptions(steps=2, batch=8, verbose=False))
    assert encoder.features(images).shape == (20, 128)
