"""The classifier learns, is a function of its seed, keeps patients apart, and comes back from disk."""

from pathlib import Path

import numpy as np
import pytest
import torch

from medloom.core.errors import UserError
from medloom.downstream.augment import augment
from medloom.downstream.classifier import (
    Classifier,
    ClassifierOptions,
    hold_out,
    load_classifier,
    mean_recall,
    train_classifier,
)
from medloom.downstream.networks import NETWORKS

QUICK = ClassifierOptions(steps=30, batch=16, validate_every=15, verbose=False)


def discs_and_squares(count: int, size: int = 24) -> tuple[np.ndarray, list[str], list[str]]:
    """Noisy discs and squares at random places, `(count, 1, size, size)` in [-1, 1]."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size]
    images, labels = rng.normal(-0.8, 0.08, (count, 1, size, size)), []
    for image, row, column in zip(images, *rng.uniform(8, size - 8, (2, count)), strict=True):
        labels.append(("disc", "square")[len(labels) % 2])
        distances = np.abs(rows - row), np.abs(columns - column)
        inside = np.hypot(*distances) < 6 if labels[-1] == "disc" else np.maximum(*distances) < 5
        image[0][inside] += 1.2
    return np.clip(images, -1, 1).astype(np.float32), labels, [f"p{row // 2}" for row in range(count)]


IMAGES, LABELS, PATIENTS = discs_and_squares(96)


@pytest.fixture(scope="module")
def trained() -> Classifier:
    return train_classifier(IMAGES[:64], LABELS[:64], PATIENTS[:64], range(48, 64), QUICK)


def test_it_classifies_held_out_images_and_gives_probabilities_and_features(trained: Classifier) -> None:
    probabilities = trained.predict(IMAGES[64:])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    found = np.array(trained.classes)[probabilities.argmax(axis=1)]
    assert np.mean(found == np.array(LABELS[64:])) > 0.85
    assert trained.features(IMAGES[64:]).shape == (32, 128)
    assert trained.classes == ("disc", "square") and trained.validation["step"] in (15, 30)


def test_same_seed_same_weights_and_no_global_generator_is_touched(trained: Classifier) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    again = train_classifier(IMAGES[:64], LABELS[:64], PATIENTS[:64], range(48, 64), QUICK)
    assert torch.equal(before, torch.random.get_rng_state())
    assert again.fingerprint() == trained.fingerprint()
    options = ClassifierOptions(steps=1, batch=16, seed=1, verbose=False)
    assert train_classifier(IMAGES, LABELS, PATIENTS, (), options).fingerprint() != trained.fingerprint()


def test_it_comes_back_from_disk(trained: Classifier, tmp_path: Path) -> None:
    trained.save(tmp_path / "classifier")
    loaded = load_classifier(tmp_path / "classifier")
    assert (loaded.classes, loaded.validation, loaded.fingerprint()) == (
        trained.classes,
        trained.validation,
        trained.fingerprint(),
    )
    np.testing.assert_allclose(loaded.predict(IMAGES[:8]), trained.predict(IMAGES[:8]), atol=1e-5)
    (tmp_path / "classifier" / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="does not hold the network"):
        load_classifier(tmp_path / "classifier")


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("dims", "channels"), [(2, 3), (3, 1)])
def test_every_network_takes_two_and_three_dimensions(name: str, dims: int, channels: int) -> None:
    network = NETWORKS[name](channels, 4, dims).eval()
    images = torch.zeros(2, channels, *(32,) * dims)
    assert network(images).shape == (2, 4)
    torch.testing.assert_close(network.head(network.features(images)), network(images))


def test_small_is_small() -> None:
    assert 2.5e5 < sum(weight.numel() for weight in NETWORKS["small"](1, 6, 2).parameters()) < 1e6


def test_augmentation_moves_a_little_and_never_flips() -> None:
    left = torch.full((64, 1, 24, 24), -1.0)
    left[:, :, 10:14, 2:6] = 0.5
    moved = augment(left, 0, 3)
    assert torch.equal(moved, augment(left, 0, 3)) and not torch.equal(moved, augment(left, 0, 4))
    assert moved.min() >= -1 and moved.max() <= 1
    brightest = moved.flatten(2).argmax(dim=2)[:, 0] % 24
    assert brightest.max() < 12 and len(set(brightest.tolist())) > 1


def test_augmentation_of_volumes() -> None:
    assert augment(torch.zeros(2, 1, 8, 8, 8), 0).shape == (2, 1, 8, 8, 8)


def test_whole_patients_are_held_out_of_every_class() -> None:
    patients, labels = [f"p{row // 3}" for row in range(60)], ["a"] * 45 + ["b"] * 15
    held = hold_out(patients, labels, 0.2, 0)
    sides = {patients[row] for row in held}, {patients[row] for row in range(60) if row not in held}
    assert not sides[0] & sides[1] and len(sides[0]) == 4
    assert {labels[row] for row in held} == {"a", "b"}
    assert held.tolist() == hold_out(patients, labels, 0.2, 0).tolist() != hold_out(patients, labels, 0.2, 1).tolist()


def test_mean_recall_by_hand() -> None:
    assert mean_recall(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])) == 0.75
    assert mean_recall(np.array([0, 0, 0, 0]), np.array([0, 0, 0, 1])) == 0.5


@pytest.mark.parametrize(
    ("labels", "patients", "validation", "message"),
    [
        (["a"] * 8, [str(row) for row in range(8)], (), "at least two"),
        (["a", "b"] * 4, ["p"] * 8, (0, 1), "1 patients are in training and in validation"),
        (["a"] * 7 + ["b"], [str(row) for row in range(8)], (7,), "class 'b' has no image to train on"),
        (["a", "b"], [str(row) for row in range(8)], (), "8 images with 2 labels"),
    ],
)
def test_refusals(labels: list[str], patients: list[str], validation: tuple[int, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        train_classifier(IMAGES[:8], labels, patients, validation, QUICK)


def test_unknown_network_and_wrong_shape(trained: Classifier) -> None:
    with pytest.raises(UserError, match="did you mean 'small'"):
        train_classifier(IMAGES, LABELS, PATIENTS, (), ClassifierOptions(network="smal"))
    with pytest.raises(UserError, match=r"images of shape \(2, 1, 8, 8\)"):
        trained.predict(np.zeros((2, 1, 8, 8), np.float32))
