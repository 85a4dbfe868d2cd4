"""A classifier of images: trained from a seed, selected on held-out patients, saved without pickles."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from medloom.core.errors import UserError
from medloom.core.files import hash_json
from medloom.core.lookup import look_up
from medloom.core.seeds import initial_weights, numpy_generator
from medloom.downstream.augment import augment
from medloom.downstream.networks import (
    NETWORKS,
    HeadedNetwork,
    Images,
    Options,
    autocast,
    hash_weights,
    map_images,
    optimise,
    placed,
    read_network,
    refuse_other_shape,
    to_tensor,
    write_network,
)

LABEL_SMOOTHING = 0.05


@dataclass(frozen=True, kw_only=True)
class ClassifierOptions(Options):
    """How to train a classifier; all classes are drawn equally often.

    Attributes:
        validate_every: steps between validations; the weights with the best mean recall over classes are retained.
        patience: validations without improvement before training stops; 0 always trains all steps, so that classifiers
            to compare had equally many.
        augmented: whether to augment images.
    """

    steps: int = 200
    learning_rate: float = 2e-3
    validate_every: int = 40
    patience: int = 0
    augmented: bool = True


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained classifier.

    Attributes:
        network: in evaluation mode.
        name: the network's name in NETWORKS.
        classes: names, in the order of the probabilities.
        shape: of one image, `(C, *spatial)`.
        validation: the `step` of the selected weights and their `recall`, the mean over classes on the validation rows
            (None without such rows).
    """

    network: HeadedNetwork
    name: str
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    validation: dict[str, float | None] = field(default_factory=dict)

    def predict(self, images: Images) -> NDArray[np.float32]:
        """Class probabilities `(N, classes)` of images `(N, C, *spatial)` in [-1, 1].

        Raises:
            UserError: the shape of the images differs from that of the training images.
        """
        return self._map(images, lambda x: self.network(x).softmax(dim=1))

    def features(self, images: Images) -> NDArray[np.float32]:
        """Penultimate features `(N, d)` of images `(N, C, *spatial)` in [-1, 1].

        Raises:
            UserError: the shape of the images differs from that of the training images.
        """
        return self._map(images, self.network.features)

    def _map(self, images: Images, function: Callable[[Tensor], Tensor]) -> NDArray[np.float32]:
        refuse_other_shape(images, self.shape)
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
        UserError: a file is missing or damaged, or the network's name is unknown.
    """
    network, config = read_network(folder, lambda config: len(config["classes"]), device)
    shape, classes = tuple(config["shape"]), tuple(config["classes"])
    return Classifier(network, config["network"], classes, shape, config["validation"])


def hold_out(patients: Sequence[str], labels: Sequence[str], fraction: float, seed: int) -> NDArray[np.intp]:
    """Rows of patients to hold out: the same fraction of the patients of each class, at least one of each.

    Args:
        patients: patient of each row.
        labels: class of each row; a patient counts for the class of its first row.
        fraction: fraction of the patients, in (0, 1).
        seed: of the choice.

    Raises:
        UserError: a class with a single patient, which cannot be on both sides.
    """
    first: dict[str, str] = {}
    for patient, label in zip(patients, labels, strict=True):
        first.setdefault(patient, label)
    rng = numpy_generator("hold-out", seed)
    chosen: set[str] = set()
    for label in sorted(set(labels)):
        names = sorted(patient for patient, own in first.items() if own == label)
        if len(names) < 2:
            raise UserError(
                f"class {label!r} has {len(names)} patient of its own; a split by patient needs at least 2."
            )
        count = min(max(1, round(fraction * len(names))), len(names) - 1)
        chosen.update(names[index] for index in rng.permutation(len(names))[:count])
    return np.flatnonzero([patient in chosen for patient in patients])


def train_classifier(
    images: Images,
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
        validation: rows to select on, whose patients have no other row; empty to take the last weights.
        options: see ClassifierOptions.

    Raises:
        UserError: fewer than two classes, a class without a training row, different lengths, a patient on both sides,
            or an unknown network.
    """
    held = np.isin(np.arange(len(images)), np.asarray(validation, np.intp))
    if not len(labels) == len(patients) == len(images):
        raise UserError(
            f"{len(images)} images with {len(labels)} labels and {len(patients)} patients; give one of each per row."
        )
    classes, codes = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    if len(classes) < 2:
        raise UserError(
            f"all {len(images)} images are of one class ({', '.join(classes)}); a classifier needs at least two."
        )
    if absent := sorted(set(range(len(classes))) - set(codes[~held].tolist())):
        raise UserError(f"class {str(classes[absent[0]])!r} has no image to train on; hold out fewer patients.")
    refuse_shared(patients, held)
    build = look_up(NETWORKS, options.network, "network")
    with initial_weights(options.seed, "classifier", options.network):
        network = build(images.shape[1], len(classes), images.ndim - 2)
    network = placed(network, images.ndim - 2, options.device)
    rows_of_class = [np.flatnonzero(~held & (codes == code)) for code in range(len(classes))]

    def draw(rng: np.random.Generator) -> NDArray[np.intp]:
        # A class drawn at random, then a row of it.
        wanted = rng.integers(0, len(rows_of_class), options.batch)
        return np.array([rows_of_class[code][rng.integers(len(rows_of_class[code]))] for code in wanted])

    def loss_of(logits: Tensor, rows: NDArray[np.intp]) -> Tensor:
        truth = torch.from_numpy(codes[rows]).to(logits.device)
        return F.cross_entropy(logits, truth, label_smoothing=LABEL_SMOOTHING)

    def recall_of(logits: NDArray[np.float32]) -> float:
        return mean_recall(logits.argmax(axis=1), codes[held])

    step, recall = fit_selected(network, images, held, options, draw, loss_of, recall_of)
    selected = {"step": step, "recall": recall}
    return Classifier(network.eval(), options.network, tuple(map(str, classes)), tuple(images.shape[1:]), selected)


def refuse_shared(patients: Sequence[str], held: NDArray[np.bool_]) -> None:
    """Refuse patients that have rows both to train on and to select on.

    Args:
        patients: of each row.
        held: bool `(N,)`, the rows to select on.

    Raises:
        UserError: states their number.
    """
    of_row = np.asarray(patients, dtype=str)
    if shared := set(of_row[held].tolist()) & set(of_row[~held].tolist()):
        raise UserError(f"{len(shared)} patients are in training and in validation; hold out whole patients.")


def fit_selected(
    network: HeadedNetwork,
    images: Images,
    held: NDArray[np.bool_],
    options: ClassifierOptions,
    draw: Callable[[np.random.Generator], NDArray[np.intp]],
    loss_of: Callable[[Tensor, NDArray[np.intp]], Tensor],
    score_of: Callable[[NDArray[np.float32]], float],
) -> tuple[float, float | None]:
    """Train a network in place up to the weights with the best score on the held-out rows.

    Args:
        network: on its device.
        images: float `(N, C, *spatial)` in [-1, 1]; may be memory-mapped.
        held: bool `(N,)`, the rows to select on; none to take the last weights.
        options: see ClassifierOptions.
        draw: the rows of a step, from a generator that is a function of seed and step.
        loss_of: the loss of float32 logits `(rows, outputs)` of these rows.
        score_of: how good logits of the held-out rows are; higher is better, at least 0.

    Returns:
        The step of the weights, and their score; without held-out rows the last step, and None.

    Raises:
        UserError: the loss is not finite.
    """
    device, best, stale = torch.device(options.device), (-1.0, options.steps), 0
    state: dict[str, Tensor] = {}

    def loss_of_step(step: int) -> Tensor:
        # A function of (seed, step) only.
        rows = draw(numpy_generator(options.seed, "batch", step))
        batch = to_tensor(images[rows], device)
        if options.augmented:
            batch = augment(batch, options.seed, step)
        with autocast(batch):
            return loss_of(network(batch).float(), rows)

    def finished(step: int) -> bool:
        nonlocal best, state, stale
        due = step + 1 == options.steps or (step + 1) % options.validate_every == 0
        if not due or not held.any():
            return False
        score = score_of(map_images(network, network, images[held]))
        stale = 0 if score > best[0] else stale + 1
        # On ties the later weights, which were trained for longer.
        if score >= best[0]:
            state = {name: value.detach().clone() for name, value in network.state_dict().items()}
            best = (score, step + 1)
        return 0 < options.patience <= stale

    optimise(network, options, "classifier", loss_of_step, finished)
    if state:
        network.load_state_dict(state)
    return float(best[1]), best[0] if state else None


def mean_recall(predicted: NDArray[np.intp], truth: NDArray[np.intp]) -> float:
    """The mean recall over the classes of `truth`, 0 to 1."""
    return float(np.mean([(predicted[truth == code] == code).mean() for code in np.unique(truth)]))
