"""A self-supervised encoder of images: views of one image are drawn together, views of different images apart.

It needs no labels and no download, so that any machine can compute features for an evaluation from the images at hand.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
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
    to_tensor,
    write_network,
)

LEAST = 16
PROJECTION = 64


@dataclass(frozen=True, kw_only=True)
class EncoderOptions(Options):
    """How to train an encoder: the penultimate features of `network`, from two views of each image.

    Attributes:
        temperature: of the loss.
        strength: of the views' augmentation, in multiples of a classifier's. There is no flip and no blur, because the
            features must be sensitive to swapped sides and to blur.
    """

    steps: int = 300
    learning_rate: float = 1e-3
    temperature: float = 0.2
    strength: float = 2.5


@dataclass(frozen=True, eq=False)
class Encoder:
    """A trained encoder.

    Attributes:
        network: in evaluation mode; its head, a projection, serves training only.
        name: the network's name in NETWORKS.
        shape: of one image, `(C, *spatial)`.
        agreement: fraction of views in the last training steps whose nearest other view was their partner, 0 to 1.
    """

    network: HeadedNetwork
    name: str
    shape: tuple[int, ...]
    agreement: float

    def features(self, images: Images) -> NDArray[np.float32]:
        """Features `(N, d)` of images `(N, C, *spatial)` in [-1, 1].

        Raises:
            UserError: the shape of the images differs from that of the training images.
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
        UserError: a file is missing or damaged, or the network's name is unknown.
    """
    network, config = read_network(folder, lambda config: PROJECTION, device)
    return Encoder(network, config["network"], tuple(config["shape"]), config["agreement"])


def train_encoder(images: Images, options: EncoderOptions) -> Encoder:
    """Train an encoder by contrasting views (SimCLR, Chen et al. 2020).

    Args:
        images: float `(N, C, *spatial)` in [-1, 1], two or three axes; may be memory-mapped.
        options: see EncoderOptions.

    Raises:
        UserError: fewer than 16 images, or an unknown network.
    """
    if len(images) < LEAST:
        raise UserError(f"an encoder of features needs at least {LEAST} training images, not {len(images)}.")
    build = look_up(NETWORKS, options.network, "network")
    with initial_weights(options.seed, "encoder", options.network):
        network = build(images.shape[1], PROJECTION, images.ndim - 2)
    network = placed(network, images.ndim - 2, options.device).train()
    device, agreement = torch.device(options.device), []

    def loss_of(step: int) -> Tensor:
        rng = numpy_generator(options.seed, "views", step)
        batch = to_tensor(images[np.sort(rng.permutation(len(images))[: options.batch])], device)
        views = [augment(batch, options.seed, step, view, strength=options.strength) for view in ("one", "other")]
        with autocast(batch):
            projected = network(torch.cat(views)).float()
        loss, agreed = contrast(projected, options.temperature)
        agreement.append(agreed)
        return loss

    optimise(network, options, "encoder", loss_of)
    last = agreement[-max(1, options.steps // 10) :]
    return Encoder(network.eval(), options.network, tuple(images.shape[1:]), float(np.mean(last)))


def contrast(projected: Tensor, temperature: float) -> tuple[Tensor, float]:
    """NT-Xent (Chen et al. 2020, eq. 1), and the fraction of views whose nearest other view is their partner.

    Args:
        projected: `(2 N, d)`; rows n and N + n are views of one image.
        temperature: above 0.
    """
    unit = F.normalize(projected, dim=1)
    cosine = unit @ unit.T / temperature
    cosine = cosine.masked_fill(torch.eye(len(cosine), dtype=torch.bool, device=cosine.device), -torch.inf)
    partner = torch.arange(len(cosine), device=cosine.device).roll(len(cosine) // 2)
    return nn.functional.cross_entropy(cosine, partner), float((cosine.argmax(dim=1) == partner).float().mean())
