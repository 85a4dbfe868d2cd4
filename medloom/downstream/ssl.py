"""A self-supervised encoder of images: two views of an image are brought together, those of others kept apart.

It needs no label and no download, so that features for an evaluation can be had on any machine from the images at hand.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from medloom.core.errors import UserError
from medloom.core.files import hash_json
from medloom.core.initialize import initial_weights
from medloom.core.lookup import look_up
from medloom.core.progress import progress
from medloom.core.seeds import numpy_generator
from medloom.downstream.augment import augment
from medloom.downstream.fitting import autocast, learning_rate, map_images, require_finite, to_tensor
from medloom.downstream.networks import NETWORKS, HeadedNetwork
from medloom.downstream.storage import hash_weights, placed, read_network, write_network

LEAST = 16
PROJECTION = 64


@dataclass(frozen=True, kw_only=True)
class EncoderOptions:
    """How an encoder is trained.

    Attributes:
        network: a name in NETWORKS, whose penultimate features are the encoder's.
        steps: optimiser steps.
        batch: images a step, each in two views.
        learning_rate: peak of AdamW's; it rises over the first tenth and falls along a cosine.
        weight_decay: AdamW's.
        temperature: of the loss.
        strength: of the views' augmentation, in multiples of a classifier's. There is no flip and no blur: a side that
            is exchanged and an image that is blurred have to be seen by the features.
        seed: of weights, order and views.
        device: a torch device.
        shown: whether to show progress.
    """

    network: str = "small"
    steps: int = 300
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    temperature: float = 0.2
    strength: float = 2.5
    seed: int = 0
    device: str = "cpu"
    shown: bool = True

    def identity(self) -> dict[str, Any]:
        """The options that the weights depend on, as JSON values."""
        return {name: value for name, value in vars(self).items() if name not in ("device", "shown")}


@dataclass(frozen=True, eq=False)
class Encoder:
    """A trained encoder.

    Attributes:
        network: in evaluation mode; its head, a projection, is of training only.
        name: the network's name in NETWORKS.
        shape: of one image, `(C, *spatial)`.
        agreement: share of the last training steps' views whose nearest other view was their own partner's, 0 to 1.
    """

    network: HeadedNetwork
    name: str
    shape: tuple[int, ...]
    agreement: float

    def features(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Features `(N, d)` of images `(N, C, *spatial)` in [-1, 1].

        Raises:
            UserError: images of another shape than it was trained on.
        """
        if tuple(images.shape[1:]) != self.shape or not len(images):
            raise UserError(f"images of shape {images.shape} for an encoder of images {self.shape}; give (N, C, ...).")
        return map_images(self.network, self.network.features, images)

    def fingerprint(self) -> str:
        """A hash of weights and shape."""
        return hash_json([self.name, list(self.shape), hash_weights(self.network)])

    def save(self, folder: Path) -> None:
        """Write the encoder to a folder: safetensors and JSON."""
        config = {"network": self.name, "shape": list(self.shape), "agreement": self.agreement}
        write_network(folder, self.network, config)


def load_encoder(folder: Path, device: str = "cpu") -> Encoder:
    """Read what `Encoder.save` wrote.

    Raises:
        UserError: a file is missing or damaged, or the network's name is not known.
    """
    network, config = read_network(folder, lambda config: PROJECTION, device)
    return Encoder(network, config["network"], tuple(config["shape"]), config["agreement"])


def train_encoder(images: NDArray[Any], options: EncoderOptions) -> Encoder:
    """Train an encoder by contrast of views (SimCLR, Chen et al. 2020).

    Args:
        images: float `(N, C, *spatial)` in [-1, 1], two or three axes; may be memory-mapped.
        options: see EncoderOptions.

    Raises:
        UserError: fewer than 16 images, or an unknown network.
    """
    if len(images) < LEAST:
        raise UserError(f"an encoder of features needs {LEAST} images or more to be trained on, not {len(images)}.")
    build = look_up(NETWORKS, options.network, "network")
    with initial_weights(options.seed, "encoder", options.network):
        network = build(images.shape[1], PROJECTION, images.ndim - 2)
    network = placed(network, images.ndim - 2, options.device).train()
    optimiser = torch.optim.AdamW(network.parameters(), options.learning_rate, weight_decay=options.weight_decay)
    found: list[float] = []
    with progress("training encoder", options.steps, "steps", 0, options.shown) as advance:
        for step in range(options.steps):
            found.append(_step(network, optimiser, images, options, step))
            advance()
    last = found[-max(1, options.steps // 10) :]
    return Encoder(network.eval(), options.network, tuple(images.shape[1:]), float(np.mean(last)))


def _step(
    network: HeadedNetwork,
    optimiser: torch.optim.Optimizer,
    images: NDArray[Any],
    options: EncoderOptions,
    step: int,
) -> float:
    """One step; the share of views that found their partner."""
    device = torch.device(options.device)
    for group in optimiser.param_groups:
        group["lr"] = options.learning_rate * learning_rate(step, options.steps)
    rng = numpy_generator(options.seed, "views", step)
    rows = np.sort(rng.permutation(len(images))[: options.batch])
    batch = to_tensor(images[rows], device)
    views = [augment(batch, options.seed, step, view, strength=options.strength) for view in ("one", "other")]
    with autocast(batch):
        projected = network(torch.cat(views)).float()
    loss, agreed = contrast(projected, options.temperature)
    require_finite(loss, "encoder")
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    return agreed


def contrast(projected: Tensor, temperature: float) -> tuple[Tensor, float]:
    """NT-Xent (Chen et al. 2020, eq. 1), and the share of views whose nearest other view is their partner.

    Args:
        projected: `(2 N, d)`, rows n and N + n being views of one image.
        temperature: above 0.
    """
    unit = F.normalize(projected, dim=1)
    cosine = unit @ unit.T / temperature
    cosine = cosine.masked_fill(torch.eye(len(cosine), dtype=torch.bool, device=cosine.device), -torch.inf)
    partner = torch.arange(len(cosine), device=cosine.device).roll(len(cosine) // 2)
    agreed = float((cosine.argmax(dim=1) == partner).float().mean())
    return nn.functional.cross_entropy(cosine, partner), agreed
