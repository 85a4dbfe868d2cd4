"""A classifier of images: trained from a seed, selected on held-out patients, saved without pickles."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from medloom.core.errors import UserError
from medloom.core.files import atomic_folder, hash_json, read_json, write_json
from medloom.core.initialise import initial_weights
from medloom.core.lookup import look_up
from medloom.downstream.fitting import ClassifierOptions, fit, hold_out, map_images, mean_recall
from medloom.downstream.networks import NETWORKS, HeadedNetwork

__all__ = [
    "NETWORKS",
    "Classifier",
    "ClassifierOptions",
    "hash_weights",
    "hold_out",
    "load_classifier",
    "mean_recall",
    "train_classifier",
]

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained classifier.

    Attributes:
        network: in evaluation mode.
        name: the network's name in NETWORKS.
        classes: names, in the order of the probabilities.
        shape: of one image, `(C, *spatial)`.
        validation: figures of the selected weights: `step`, and `recall`, the mean over classes on the validation rows
            (None without such rows).
    """

    network: HeadedNetwork
    name: str
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    validation: dict[str, float | None] = field(default_factory=dict)

    def predict(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Class probabilities `(N, classes)` of images `(N, C, *spatial)` in [-1, 1].

        Raises:
            UserError: images of another shape than it was trained on.
        """
        return self._map(images, lambda x: self.network(x).softmax(dim=1))

    def features(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Penultimate features `(N, d)` of images `(N, C, *spatial)` in [-1, 1].

        Raises:
            UserError: images of another shape than it was trained on.
        """
        return self._map(images, self.network.features)

    def _map(self, images: NDArray[Any], function: Callable[[Tensor], Tensor]) -> NDArray[np.float32]:
        if tuple(images.shape[1:]) != self.shape or not len(images):
            raise UserError(
                f"images of shape {images.shape} for a classifier of images {self.shape}; give (N, C, ...)."
            )
        return map_images(self.network, function, images)

    def fingerprint(self) -> str:
        """A hash of weights and classes."""
        return hash_json([self.name, list(self.classes), list(self.shape), hash_weights(self.network)])

    def save(self, folder: Path) -> None:
        """Write the classifier to a folder: safetensors and JSON."""
        config = {"network": self.name, "classes": list(self.classes), "shape": list(self.shape)}
        with atomic_folder(folder) as temporary:
            state = {name: value.cpu().contiguous() for name, value in self.network.state_dict().items()}
            save_file(state, temporary / WEIGHTS)
            write_json(temporary / CONFIG, {**config, "validation": self.validation})


def hash_weights(network: nn.Module) -> str:
    """SHA-256 of the names and values of a network's weights, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def load_classifier(folder: Path, device: str = "cpu") -> Classifier:
    """Read what `Classifier.save` wrote.

    Raises:
        UserError: a file is missing or damaged, or the network's name is not known.
    """
    config = read_json(folder / CONFIG)
    shape, classes = tuple(config["shape"]), tuple(config["classes"])
    with initial_weights(0):
        network = look_up(NETWORKS, config["network"], "network")(shape[0], len(classes), len(shape) - 1)
    try:
        network.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder / WEIGHTS} does not hold the classifier of {CONFIG}: {error}.") from error
    network = _placed(network, len(shape) - 1, device)
    return Classifier(network.eval(), config["network"], classes, shape, config["validation"])


def train_classifier(
    images: NDArray[Any],
    labels: Sequence[str],
    patients: Sequence[str],
    validation: Sequence[int] | NDArray[np.intp],
    options: ClassifierOptions,
) -> Classifier:
    """Train a classifier on some rows and select it on the others.

    Args:
        images: float `(N, C, *spatial)` in [-1, 1], two or three axes; may be memory-mapped.
        labels: class of each row.
        patients: patient of each row.
        validation: rows to select on, of patients that no other row is of; empty to take the last weights.
        options: see ClassifierOptions.

    Raises:
        UserError: fewer than two classes, a class without a training row, lengths that differ, a patient on both
            sides, or an unknown network.
    """
    held = np.isin(np.arange(len(images)), np.asarray(validation, np.intp))
    classes, codes = _classes(labels, patients, held, len(images))
    build = look_up(NETWORKS, options.network, "network")
    with initial_weights(options.seed, "classifier", options.network):
        network = build(images.shape[1], len(classes), images.ndim - 2)
    network = _placed(network, images.ndim - 2, options.device)
    kept = fit(network, images, codes, held, options)
    return Classifier(network.eval(), options.network, classes, tuple(images.shape[1:]), kept)


def _placed(network: HeadedNetwork, dims: int, device: str) -> HeadedNetwork:
    network = network.to(device)
    return network.to(memory_format=torch.channels_last) if dims == 2 else network  # type: ignore[call-overload]


def _classes(
    labels: Sequence[str], patients: Sequence[str], held: NDArray[np.bool_], rows: int
) -> tuple[tuple[str, ...], NDArray[np.intp]]:
    if not len(labels) == len(patients) == rows:
        raise UserError(
            f"{rows} images with {len(labels)} labels and {len(patients)} patients; give one of each a row."
        )
    names, codes = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    if len(names) < 2:
        raise UserError(f"all {rows} images are of one class ({', '.join(names)}); a classifier needs two or more.")
    absent = sorted(set(range(len(names))) - set(codes[~held].tolist()))
    if absent:
        raise UserError(f"class {str(names[absent[0]])!r} has no image to train on; hold out fewer patients.")
    of_row = np.asarray(patients, dtype=str)
    shared = set(of_row[held].tolist()) & set(of_row[~held].tolist())
    if shared:
        raise UserError(f"{len(shared)} patients are in training and in validation; hold out whole patients.")
    return tuple(str(name) for name in names), codes
