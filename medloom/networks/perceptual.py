"""Perceptual distance: how far two images lie apart in the features of an encoder."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medloom.core.errors import UserError
from medloom.core.files import read_json
from medloom.networks.discriminators import PatchDiscriminator

NONE, DISCRIMINATOR = "none", "discriminator"
LAYERS = 4
EPSILON = 1e-8
SETTINGS = "preprocessor_config.json"

Features = Callable[[Tensor], Sequence[Tensor]]


class PerceptualDistance(nn.Module):
    """Squared distance of features of unit length, averaged over places and layers.

    LPIPS (Zhang et al. 2018, eq. 1) with equal weights for all channels, over the features of any encoder.

    Attributes:
        features: maps images `(N, C, *size)` in [-1, 1] to activations, `(N, C', *size')` or tokens `(N, L, C')`.
    """

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.features = features

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """Distance of each image to its target.

        Args:
            images: `(N, C, *size)` in [-1, 1]; gradients flow to them.
            targets: of the same shape; no gradients flow to them.

        Returns:
            float32 `(N,)`, 0 for equal images, at most 4.
        """
        with torch.no_grad():
            wanted = self.features(targets)
        found = self.features(images)
        return torch.stack([_distance(x, y) for x, y in zip(found, wanted, strict=True)]).mean(0)


def _distance(x: Tensor, y: Tensor) -> Tensor:
    squares = (_unit(x) - _unit(y)).square().sum(1)
    return squares.flatten(1).mean(1)


def _unit(features: Tensor) -> Tensor:
    """Features of unit length at each place, channels on axis 1."""
    if features.ndim == 3:
        features = features.transpose(1, 2)
    return F.normalize(features.float(), dim=1, eps=EPSILON)


class VisionFeatures(nn.Module):
    """Hidden states of several layers of a frozen transformers vision model (ViT, DINOv2, CLIP, ResNet, Swin, ...).

    Attributes:
        model: the transformers model.
        size: pixels of each axis that the model was trained on, or None where it takes any size.
        channels: of the images that the model takes; grey images are repeated.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, model: nn.Module, mean: Sequence[float], std: Sequence[float], size: int | None, layers: int = LAYERS
    ) -> None:
        """Wrap a model.

        Args:
            model: a transformers vision model.
            mean: of the images that it was trained on, one value a channel, for levels from 0 to 1.
            std: their deviation.
            size: pixels of each axis that images are brought to, or None to leave them as they are.
            layers: how many hidden states are given, spread evenly up to the last.
        """
        super().__init__()
        self.model = model.requires_grad_(False).eval()
        self.size = size
        self.channels = len(mean)
        self.layers = layers
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32)[:, None, None])
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32)[:, None, None])

    def train(self, mode: bool = True) -> "VisionFeatures":
        """A frozen model stays in evaluation mode."""
        return super().train(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Hidden states, `(N, L, D)` or `(N, D, H', W')`, of images `(N, 1 or channels, H, W)` in [-1, 1]."""
        levels = (images.float() + 1) / 2
        if levels.shape[1] != self.channels:
            levels = levels.expand(-1, self.channels, -1, -1)
        if self.size is not None and tuple(levels.shape[2:]) != (self.size, self.size):
            levels = F.interpolate(levels, (self.size, self.size), mode="bilinear", antialias=True)
        states = self.model(pixel_values=(levels - self.mean) / self.std, output_hidden_states=True).hidden_states
        return [states[index] for index in _spread(len(states), self.layers)]


def _spread(states: int, layers: int) -> list[int]:
    """Indices of up to `layers` hidden states, evenly up to the last; the first is the mere embedding of the input."""
    count = min(layers, states - 1)
    return [round((number + 1) * (states - 1) / count) for number in range(count)]


def load_vision_features(name: str) -> VisionFeatures:
    """Load a frozen vision model from a folder or by hub id.

    Raises:
        UserError: it cannot be found, has no safetensors, no mean and deviation, or gives no hidden states.
    """
    from transformers import AutoModel

    try:
        settings = read_json(_settings_file(name))
        # Only safetensors are opened: other weight files can run code.
        model = AutoModel.from_pretrained(name, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise _not_usable(name, str(error).strip().splitlines()[0]) from error
    # Models of image and text (CLIP, SigLIP) hold the vision model as a part.
    vision = getattr(model, "vision_model", model)
    if vision.main_input_name != "pixel_values":
        raise _not_usable(name, f"a {type(vision).__name__} takes no images")
    if not settings.get("image_mean") or not settings.get("image_std"):
        raise _not_usable(name, f"its {SETTINGS} has no image_mean or no image_std")
    return VisionFeatures(vision, settings["image_mean"], settings["image_std"], _input_size(settings, vision.config))


def _not_usable(name: str, reason: str) -> UserError:
    return UserError(
        f"perceptual encoder {name!r} cannot be used ({reason}); give {NONE}, {DISCRIMINATOR}, or a folder or hub id of"
        f" a transformers vision model with safetensors weights and a {SETTINGS} with image_mean and image_std."
    )


def _input_size(settings: Mapping[str, Any], config: Any) -> int | None:
    """The input size of a model of patches; convolutional ones take any."""
    if getattr(config, "patch_size", None) is None:
        return None
    # Position embeddings may be for larger images than those that a model is used with (DINOv2).
    size = settings.get("crop_size") or settings.get("size") or config.image_size
    return int(next(iter(size.values())) if isinstance(size, Mapping) else size)


def _settings_file(name: str) -> Path:
    from transformers.utils import cached_file

    return Path(str(cached_file(name, SETTINGS)))


def perceptual_distance(name: str, discriminator: PatchDiscriminator | None) -> PerceptualDistance | None:
    """The distance that an option names.

    Args:
        name: `none`; `discriminator` (feature matching, as in pix2pixHD, Wang et al. 2018); or a folder or hub id of a
            transformers vision model.
        discriminator: the discriminator that is trained beside the model, where there is one.

    Returns:
        The distance, or None. A discriminator's weights are not part of it.

    Raises:
        UserError: see `load_vision_features`.
    """
    if name == NONE:
        return None
    if name == DISCRIMINATOR:
        if discriminator is None:
            raise ValueError("features of a discriminator need one")
        # A bound method, not the module: its weights belong to the discriminator alone.
        return PerceptualDistance(discriminator.features)
    return PerceptualDistance(load_vision_features(name))
