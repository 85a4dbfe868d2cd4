"""A network that segments images: trained from a seed on some patients' masks, measured on other patients' ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from medloom.core.errors import UserError
from medloom.core.initialize import initial_weights
from medloom.core.mask_spec import BACKGROUND, NO_MASK
from medloom.core.progress import progress
from medloom.core.seeds import numpy_generator
from medloom.downstream.augment import augment_labelled
from medloom.downstream.fitting import ClassifierOptions, autocast, learning_rate, require_finite, to_tensor
from medloom.metrics.structural import dice

WIDTHS = (16, 32, 64, 128)
BATCH = 16
AT_ONCE = 32


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A trained network.

    Attributes:
        network: images `(N, C, *spatial)` to logits of background and classes.
        classes: labels, background left out.
        dice: mean over classes and held-out images; None where no patient was held out.
    """

    network: nn.Module
    classes: tuple[int, ...]
    dice: float | None

    def predict(self, images: NDArray[Any]) -> NDArray[np.int16]:
        """Label maps `(N, *spatial)` of images `(N, C, *spatial)` in [-1, 1]."""
        device = next(self.network.parameters()).device
        labels = np.array([BACKGROUND, *self.classes], np.int16)
        with torch.inference_mode():
            parts = [
                _logits(self.network, to_tensor(images[start : start + AT_ONCE], device)).argmax(dim=1).cpu().numpy()
                for start in range(0, len(images), AT_ONCE)
            ]
        return labels[np.concatenate(parts)]


def train_segmenter(
    images: NDArray[Any], masks: NDArray[Any], held: NDArray[np.bool_], options: ClassifierOptions
) -> Segmenter:
    """Train a residual U-Net (MONAI's) by Dice and cross-entropy; the last weights stay.

    Args:
        images: float `(N, C, *spatial)` in [-1, 1], two or three axes.
        masks: labels `(N, *spatial)`, 0 background, -1 where nothing is known, which counts for nothing.
        held: rows that it is measured on, `(N,)`.
        options: steps, rate, seed and device; the network is its own.

    Raises:
        UserError: no class, or no row to train on.
    """
    classes = tuple(int(label) for label in np.unique(masks[~held]) if label not in (NO_MASK, BACKGROUND))
    if not classes:
        raise UserError("masks to learn from hold no class; give images with masks.")
    codes = _codes(masks, classes)
    network = _network(images.shape[1], images.ndim - 2, len(classes), options)
    optimiser = torch.optim.AdamW(network.parameters(), options.learning_rate, weight_decay=options.weight_decay)
    rows = np.flatnonzero(~held)
    network.train()
    with progress("training segmenter", options.steps, "steps", 0, options.shown) as advance:
        for step in range(options.steps):
            chosen = numpy_generator(options.seed, "masks", step).choice(rows, BATCH)
            _step(network, optimiser, images[chosen], codes[chosen], options, step)
            advance()
    trained = Segmenter(network.eval(), classes, None)
    if not held.any():
        return trained
    found = mean_dice(trained.predict(images[held]), masks[held], classes)
    return Segmenter(network, classes, float(np.nanmean(found)))


def mean_dice(predicted: NDArray[Any], masks: NDArray[Any], classes: Sequence[int]) -> NDArray[np.float64]:
    """Mean over the classes that either has of the Dice coefficient of label maps, `(N,)`; nan where neither has any.

    Args:
        predicted: labels `(N, *spatial)`.
        masks: labels of the same shape; what is -1 in them counts for nothing.
        classes: labels.
    """
    means = np.full(len(masks), np.nan)
    for row, (found, mask) in enumerate(zip(predicted, masks, strict=True)):
        known = mask != NO_MASK
        of_class = [dice((found == label) & known, mask == label) for label in classes]
        if present := [value for value in of_class if not np.isnan(value)]:
            means[row] = float(np.mean(present))
    return means


def _network(channels: int, dims: int, classes: int, options: ClassifierOptions) -> nn.Module:
    from monai.networks.nets import UNet

    with initial_weights(options.seed, "segmenter"):
        network = UNet(dims, channels, 1 + classes, WIDTHS, (2,) * (len(WIDTHS) - 1), num_res_units=1)
    return network.to(options.device)


def _codes(masks: NDArray[Any], classes: Sequence[int]) -> NDArray[np.int64]:
    """Labels as their places among background and classes; -1 stays, and so becomes what is no class."""
    codes = np.full(masks.shape, NO_MASK, np.int64)
    for place, label in enumerate((BACKGROUND, *classes)):
        codes[masks == label] = place
    return codes


def _step(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    images: NDArray[Any],
    codes: NDArray[np.int64],
    options: ClassifierOptions,
    step: int,
) -> None:
    device = torch.device(options.device)
    for group in optimiser.param_groups:
        group["lr"] = options.learning_rate * learning_rate(step, options.steps)
    batch, labels = augment_labelled(to_tensor(images, device), torch.from_numpy(codes).to(device), options.seed, step)
    with autocast(batch):
        logits = _logits(network, batch).float()
    loss = _loss(logits, labels)
    require_finite(loss, "segmenter")
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy and soft Dice (Milletari et al. 2016) over what is known."""
    known = labels != NO_MASK
    entropy = F.cross_entropy(logits, labels, ignore_index=NO_MASK)
    shares = logits.softmax(dim=1) * known[:, None]
    truth = F.one_hot(labels.clamp(min=0), logits.shape[1]).movedim(-1, 1) * known[:, None]
    axes = [0, *range(2, logits.ndim)]
    overlap = 2 * (shares * truth).sum(axes) / (shares.sum(axes) + truth.sum(axes)).clamp(min=1.0)
    return entropy + 1 - overlap[1:].mean()


def _logits(network: nn.Module, images: Tensor) -> Tensor:
    """Logits of images of any size: their borders are repeated up to a multiple of the network's coarsest grid."""
    factor, size = 2 ** (len(WIDTHS) - 1), images.shape[2:]
    lacking = [-length % factor for length in size]
    padded = F.pad(images, [end for length in reversed(lacking) for end in (0, length)], mode="replicate")
    logits: Tensor = network(padded)
    inside = tuple(slice(0, length) for length in (*logits.shape[:2], *size))
    return logits[inside]
