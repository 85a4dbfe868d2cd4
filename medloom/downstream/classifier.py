"""A classifier of images: trained from a seed, selected on held-out patients, saved without pickles."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from medloom.core.errors import UserError
from medloom.core.files import hash_json
from medloom.core.initialize import initial_weights
from medloom.core.lookup import look_up
from medloom.downstream.fitting import ClassifierOptions, fit, hold_out, map_images, mean_recall
from medloom.downstream.networks import NETWORKS, HeadedNetwork
from medloom.downstream.storage import hash_weights, placed, read_network, write_network

__all__ = [
    "NETWORKS",
    "Classifier",
    "ClassifierOptions",
    "hold_out",
    "load_classifier",
    "mean_recall",
    "train_classifier",
]


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
        write_network(folder, self.network, {**config, "validation": self.validation})


def load_classifier(folder: Path, device: str = "cpu") -> Classifier:
    """Read what `Classifier.save` wrote.

    Raises:
        UserError: a file is missing or damaged, or the network's name is not known.
    """
    network, config = read_network(folder, lambda config: len(config["classes"]), device)
    shape, classes = tuple(config["shape"]), tuple(config["classes"])
    return Classifier(network, config["network"], classes, shape, config["validation"])


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
    network = placed(network, images.ndim - 2, options.device)
    kept = fit(network, images, codes, held, options)
    return Classifier(network.eval(), options.network, classes, tuple(images.shape[1:]), kept)


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
