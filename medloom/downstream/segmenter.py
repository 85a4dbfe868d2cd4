"""A network that segments images: trained from a seed on some patients' masks, tested on other patients' masks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from medloom.core.errors import UserError
from medloom.core.mask_spec import BACKGROUND, NO_MASK
from medloom.core.seeds import initial_weights, numpy_generator
from medloom.downstream.augment import augment_labelled
from medloom.downstream.classifier import ClassifierOptions
from medloom.downstream.networks import Images, autocast, optimise, to_tensor
from medloom.metrics.structural import dice

WIDTHS = (16, 32, 64, 128)
BATCH = 16
AT_ONCE = 32


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A trained network.

    Attributes:
        network: maps images `(N, C, *spatial)` to logits of background and classes.
        classes: labels without background.
        dice: mean over classes and held-out images; None if no patient was held out.
    """

    network: nn.Module
    classes: tuple[int, ...]
    dice: float | None

    def predict(self, images: Images) -> NDArray[np.int16]:
        """Label maps `(N, *spatial)` of images `(N, C, *spatial)` in [-1, 1]."""
        device = next(self.network.parameters()).device
        labels = np.array([BACKGROUND, *self.classes], np.int16)
        with torch.inference_mode():
            parts = [
                _logits(self.network, to_tensor(images[start : start + AT_ONCE], device)).argmax(dim=1).cpu().numpy()
                for start in range(0, len(images), AT_ONCE)
            ]
        return np.asarray(labels[np.concatenate(parts)], np.int16)


def train_segmenter(
    images: Images, masks: NDArray[np.integer], held: NDArray[np.bool_], options: ClassifierOptions
) -> Segmenter:
    """Train a residual U-Net (MONAI's) by Dice and cross-entropy; the last weights are used.

    Args:
        images: float `(N, C, *spatial)` in [-1, 1], two or three axes.
        masks: labels `(N, *spatial)`, 0 background; -1 is unknown and ignored.
        held: bool `(N,)`, the rows to test on.
        options: steps, learning rate, seed and device; the option `network` is ignored.

    Raises:
        UserError: no class, or no row to train on.
    """
    from monai.networks.nets import UNet

    classes = tuple(int(label) for label in np.unique(masks[~held]) if label not in (NO_MASK, BACKGROUND))
    if not classes:
        raise UserError("the masks to train on contain no class; give images with masks.")
    # Labels as indices of background and classes; everything else is unknown.
    codes = np.full(masks.shape, NO_MASK, np.int64)
    for index, label in enumerate((BACKGROUND, *classes)):
        codes[masks == label] = index
    with initial_weights(options.seed, "segmenter"):
        unet = UNet(
            images.ndim - 2, images.shape[1], 1 + len(classes), WIDTHS, (2,) * (len(WIDTHS) - 1), num_res_units=1
        )
    network: nn.Module = unet.to(options.device)
    rows, device = np.flatnonzero(~held), torch.device(options.device)

    def loss_of(step: int) -> Tensor:
        chosen = numpy_generator(options.seed, "masks", step).choice(rows, BATCH)
        batch, labels = augment_labelled(
            to_tensor(images[chosen], device), torch.from_numpy(codes[chosen]).to(device), options.seed, step
        )
        with autocast(batch):
            logits = _logits(network, batch).float()
        # Cross-entropy and soft Dice (Milletari et al. 2016) over known labels.
        known = (labels != NO_MASK)[:, None]
        probabilities = logits.softmax(dim=1) * known
        truth = F.one_hot(labels.clamp(min=0), logits.shape[1]).movedim(-1, 1) * known
        axes = [0, *range(2, logits.ndim)]
        overlap = 2 * (probabilities * truth).sum(axes) / (probabilities.sum(axes) + truth.sum(axes)).clamp(min=1.0)
        return F.cross_entropy(logits, labels, ignore_index=NO_MASK) + 1 - overlap[1:].mean()

    optimise(network, options, "segmenter", loss_of)
    trained = Segmenter(network.eval(), classes, None)
    if not held.any():
        return trained
    found = mean_dice(trained.predict(images[held]), masks[held], classes)
    return Segmenter(network, classes, float(np.nanmean(found)))


def mean_dice(
    predicted: NDArray[np.integer], masks: NDArray[np.integer], classes: Sequence[int]
) -> NDArray[np.float64]:
    """Mean Dice coefficient of label maps over the classes present in either, `(N,)`; nan if none is present.

    Args:
        predicted: labels `(N, *spatial)`.
        masks: labels of the same shape; -1 is ignored.
        classes: labels.
    """
    means = np.full(len(masks), np.nan)
    for row, (found, mask) in enumerate(zip(predicted, masks, strict=True)):
        known = mask != NO_MASK
        of_class = [dice((found == label) & known, mask == label) for label in classes]
        if present := [value for value in of_class if not np.isnan(value)]:
            means[row] = float(np.mean(present))
    return means


def _logits(network: nn.Module, images: Tensor) -> Tensor:
    """Logits of images of any size, which are padded to a multiple of the coarsest grid by repeating the border."""
    factor, size = 2 ** (len(WIDTHS) - 1), images.shape[2:]
    lacking = [-length % factor for length in size]
    padded = F.pad(images, [end for length in reversed(lacking) for end in (0, length)], mode="replicate")
    logits: Tensor = network(padded)
    return logits[tuple(slice(0, length) for length in (*logits.shape[:2], *size))]
