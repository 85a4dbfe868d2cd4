"""Training a classifier: a small loop that is a function of its seed, and the choice of patients to select on."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from medloom.core.errors import UserError
from medloom.core.progress import progress
from medloom.core.seeds import numpy_generator
from medloom.downstream.augment import augment
from medloom.downstream.networks import HeadedNetwork

PREDICTED_AT_ONCE = 128
WARM_UP = 0.1
LABEL_SMOOTHING = 0.05


@dataclass(frozen=True, kw_only=True)
class ClassifierOptions:
    """How a classifier is trained.

    Attributes:
        network: a name in NETWORKS.
        steps: optimiser steps.
        batch: images a step; classes are drawn equally often.
        learning_rate: peak of AdamW's; it rises over the first tenth and falls along a cosine.
        weight_decay: AdamW's.
        validate_every: steps between validations; the weights with the best mean recall over classes are kept.
        patience: validations without a better one before training ends early; 0 takes all steps, so that several
            classifiers that are compared had equally many.
        augmented: whether images are augmented.
        seed: of weights, order and augmentation.
        device: a torch device.
        shown: whether to show progress.
    """

    network: str = "small"
    steps: int = 200
    batch: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    validate_every: int = 40
    patience: int = 0
    augmented: bool = True
    seed: int = 0
    device: str = "cpu"
    shown: bool = True

    def identity(self) -> dict[str, Any]:
        """The options that the weights depend on, as JSON values."""
        return {name: value for name, value in vars(self).items() if name not in ("device", "shown")}


def hold_out(patients: Sequence[str], labels: Sequence[str], share: float, seed: int) -> NDArray[np.intp]:
    """Rows of patients to hold out, the same share of the patients of each class, at least one of each.

    Args:
        patients: the patient of each row.
        labels: the class of each row; a patient counts for the class of its first row.
        share: share of the patients, in (0, 1).
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
            raise UserError(f"class {label!r} has {len(names)} patient of its own; a split by patient needs 2 or more.")
        count = min(max(1, round(share * len(names))), len(names) - 1)
        chosen.update(names[index] for index in rng.permutation(len(names))[:count])
    return np.flatnonzero([patient in chosen for patient in patients])


def fit(
    network: HeadedNetwork,
    images: NDArray[Any],
    codes: NDArray[np.intp],
    held: NDArray[np.bool_],
    options: ClassifierOptions,
) -> dict[str, float | None]:
    """Train a network in place; it ends with the weights that did best on the rows held out.

    Args:
        network: on the device of the options.
        images: float `(N, C, *spatial)` in [-1, 1].
        codes: class number of each row.
        held: which rows are held out; where none is, the last weights stay.
        options: see ClassifierOptions.

    Returns:
        `step` of the weights and `recall`, the mean over classes on the rows held out, or None.
    """
    optimiser = torch.optim.AdamW(network.parameters(), options.learning_rate, weight_decay=options.weight_decay)
    rows_of_class = [np.flatnonzero(~held & (codes == code)) for code in range(int(codes.max()) + 1)]
    selection = _Selection(network, images[held], codes[held])
    with progress("training classifier", options.steps, "steps", 0, options.shown) as advance:
        for step in range(options.steps):
            rows = _balanced(rows_of_class, options, step)
            _step(network, optimiser, images[rows], codes[rows], options, step)
            advance()
            due = step + 1 == options.steps or (step + 1) % options.validate_every == 0
            if due and selection.consider(step + 1, options.patience):
                break
    return selection.restore(options.steps)


class _Selection:
    """The weights with the best mean recall over classes so far."""

    def __init__(self, network: HeadedNetwork, images: NDArray[Any], codes: NDArray[np.intp]) -> None:
        self.network, self.images, self.codes = network, images, codes
        self.recall, self.step, self.stale = -1.0, 0, 0
        self.state: dict[str, Tensor] = {}

    def consider(self, step: int, patience: int) -> bool:
        """Keep the weights if they are best; whether patience is at its end."""
        if not len(self.codes):
            return False
        recall = mean_recall(map_images(self.network, self.network, self.images).argmax(axis=1), self.codes)
        self.stale = 0 if recall > self.recall else self.stale + 1
        # On ties the later weights, which have seen more.
        if recall >= self.recall:
            self.state = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
            self.recall, self.step = recall, step
        return 0 < patience <= self.stale

    def restore(self, steps: int) -> dict[str, float | None]:
        """Put the weights that were kept into the network, and say what they are."""
        if not self.state:
            return {"step": float(steps), "recall": None}
        self.network.load_state_dict(self.state)
        return {"step": float(self.step), "recall": self.recall}


def _step(
    network: HeadedNetwork,
    optimiser: torch.optim.Optimizer,
    images: NDArray[Any],
    codes: NDArray[np.intp],
    options: ClassifierOptions,
    step: int,
) -> None:
    network.train()
    device = torch.device(options.device)
    for group in optimiser.param_groups:
        group["lr"] = options.learning_rate * learning_rate(step, options.steps)
    batch = to_tensor(images, device)
    if options.augmented:
        batch = augment(batch, options.seed, step)
    with autocast(batch):
        loss = F.cross_entropy(
            network(batch).float(), torch.from_numpy(codes).to(device), label_smoothing=LABEL_SMOOTHING
        )
    require_finite(loss, "classifier")
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()


def require_finite(loss: Tensor, what: str) -> None:
    """Refuse to go on with a network that has diverged, which would only be seen in figures that mean nothing.

    Raises:
        UserError: a loss that is not finite.
    """
    if not torch.isfinite(loss):
        raise UserError(
            f"training the {what} diverged: its loss is not finite; look at the images with `medloom data check`, or"
            " give another --seed."
        )


def learning_rate(step: int, steps: int) -> float:
    """The share of the peak rate at a step: linear warm-up over a tenth of the steps, then half a cosine."""
    warm = max(1, round(WARM_UP * steps))
    return (step + 1) / warm if step < warm else 0.5 * (1 + np.cos(np.pi * (step - warm) / max(1, steps - warm)))


def _balanced(rows_of_class: Sequence[NDArray[np.intp]], options: ClassifierOptions, step: int) -> NDArray[np.intp]:
    """Rows of one step: a class drawn at random, then a row of it; a function of (seed, step) alone."""
    rng = numpy_generator(options.seed, "batch", step)
    wanted = rng.integers(0, len(rows_of_class), options.batch)
    return np.array([rows_of_class[code][rng.integers(len(rows_of_class[code]))] for code in wanted])


def mean_recall(predicted: NDArray[np.intp], truth: NDArray[np.intp]) -> float:
    """The mean over the classes of `truth` of the share that is recognised, 0 to 1."""
    return float(np.mean([(predicted[truth == code] == code).mean() for code in np.unique(truth)]))


def map_images(
    network: HeadedNetwork, function: Callable[[Tensor], Tensor], images: NDArray[Any]
) -> NDArray[np.float32]:
    """A function of a network, in evaluation mode, on images `(N, C, *spatial)` in [-1, 1], batch by batch."""
    network.eval()
    device = next(network.parameters()).device
    with torch.inference_mode():
        parts = [
            function(to_tensor(images[start : start + PREDICTED_AT_ONCE], device)).float().cpu()
            for start in range(0, len(images), PREDICTED_AT_ONCE)
        ]
    return torch.cat(parts).numpy()


def to_tensor(images: NDArray[Any], device: torch.device) -> Tensor:
    """Images as a float32 tensor, channels last in 2-D, which convolutions on a CPU are faster with."""
    tensor = torch.from_numpy(np.ascontiguousarray(images, np.float32)).to(device)
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def autocast(batch: Tensor) -> AbstractContextManager[Any]:
    """bfloat16 where the machine computes in it; a CPU without such instructions would only be slowed down.

    Volumes on a CPU stay in fp32: bfloat16 was no faster there, and gradients of small ones are wrong in it (see
    `medloom.networks.blocks.Conv3d`).
    """
    device = batch.device
    if device.type == "cpu" and batch.ndim == 5:
        return nullcontext()
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
    if device.type == "cpu":
        fast = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16) if fast else nullcontext()
