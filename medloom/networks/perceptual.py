"""Perceptual distance between two images, in the features of an encoder."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medloom.core.errors import UserError, first_line
from medloom.core.files import read_mapping
from medloom.networks.discriminators import PatchDiscriminator
from medloom.networks.library_errors import LOAD_ERRORS
from medloom.networks.weights import require_finite
from medloom.networks.weights_source import HUB, find_weights

NONE, DISCRIMINATOR = "none", "discriminator"
LAYERS = 4
EPSILON = 1e-8
SETTINGS = "preprocessor_config.json"

Features = Callable[[Tensor], Sequence[Tensor]]


class PerceptualDistance(nn.Module):
    """Squared distance of unit-length features, averaged over positions and layers.

    LPIPS (Zhang et al. 2018, eq. 1) with equal weights for all channels, on the features of any encoder.

    Attributes:
        features: maps images `(N, C, *size)` in [-1, 1] to activations, `(N, C', *size')` or tokens `(N, L, C')`.
    """

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.features = features

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """The distance of each image from its target.

        Args:
            images: `(N, C, *size)` in [-1, 1]; gradients flow to them.
            targets: of the same shape; no gradients flow to them.

        Returns:
            float32 `(N,)`, 0 for equal images, at most 4.
        """
        with torch.no_grad():
            wanted = self.features(targets)
        pairs = zip(self.features(images), wanted, strict=True)
        return torch.stack([(_unit(x) - _unit(y)).square().sum(1).flatten(1).mean(1) for x, y in pairs]).mean(0)


def _unit(features: Tensor) -> Tensor:
    """Features of unit length at each position, channels on axis 1."""
    if features.ndim == 3:
        features = features.transpose(1, 2)
    return F.normalize(features.float(), dim=1, eps=EPSILON)


class VisionFeatures(nn.Module):
    """Hidden states of several layers of a frozen transformers vision model (ViT, DINOv2, CLIP, ResNet, Swin, ...).

    Attributes:
        model: the transformers model.
        size: pixels per axis that the model was trained on, or None if it takes any size.
        channels: of the model's images; grey images are repeated.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, model: nn.Module, mean: Sequence[float], std: Sequence[float], size: int | None, layers: int = LAYERS
    ) -> None:
        """Wrap a model.

        Args:
            model: a transformers vision model.
            mean: of the training images, one value per channel, for levels from 0 to 1.
            std: standard deviation of the training images, likewise.
            size: pixels per axis to which images are resized, or None to leave their size.
            layers: number of hidden states to return, spread evenly up to the last.
        """
        super().__init__()
        self.model = model.requires_grad_(False).eval()
        self.size, self.channels, self.layers = size, len(mean), layers
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32)[:, None, None])
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32)[:, None, None])

    def train(self, mode: bool = True) -> "VisionFeatures":
        """Does nothing: a frozen model stays in evaluation mode."""
        return super().train(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Hidden states, `(N, L, D)` or `(N, D, H', W')`, of images `(N, 1 or channels, H, W)` in [-1, 1]."""
        levels = (images.float() + 1) / 2
        if levels.shape[1] != self.channels:
            levels = levels.expand(-1, self.channels, -1, -1)
        if self.size is not None and tuple(levels.shape[2:]) != (self.size, self.size):
            levels = F.interpolate(levels, (self.size, self.size), mode="bilinear", antialias=True)
        states = self.model(pixel_values=(levels - self.mean) / self.std, output_hidden_states=True).hidden_states
        # The first state is only the embedding of the input and is never returned.
        last = len(states) - 1
        count = min(self.layers, last)
        return [states[round((number + 1) * last / count)] for number in range(count)]


def load_vision_features(name: str) -> VisionFeatures:
    """Load a frozen vision model.

    Args:
        name: a folder, or `hf:ORG/NAME`.

    Raises:
        UserError: it cannot be found, has no safetensors, has no mean and standard deviation, or takes no images.
    """
    from transformers import AutoModel
    from transformers.utils import cached_file

    source = find_weights(name, "perceptual encoder")
    where = {"local_files_only": source.is_local}
    try:
        settings = read_mapping(Path(str(cached_file(source.name, SETTINGS, **where))))
        # Only safetensors are opened, because other weight files can run code.
        model = AutoModel.from_pretrained(source.name, use_safetensors=True, trust_remote_code=False, **where)
    except LOAD_ERRORS as error:
        raise _not_usable(name, first_line(error)) from error
    require_finite(model.state_dict(), f"perceptual encoder {name}")
    # Models of images and text (CLIP, SigLIP) contain the vision model.
    vision = getattr(model, "vision_model", model)
    if vision.main_input_name != "pixel_values":
        raise _not_usable(name, f"a {type(vision).__name__} takes no images")
    if not settings.get("image_mean") or not settings.get("image_std"):
        raise _not_usable(name, f"its {SETTINGS} has no image_mean or no image_std")
    size = None
    if getattr(vision.config, "patch_size", None) is not None:
        # Only models of patches need a certain size. Their position embeddings may be for larger images than those that
        # they are used with (DINOv2).
        stated = settings.get("crop_size") or settings.get("size") or vision.config.image_size
        size = int(next(iter(stated.values())) if isinstance(stated, Mapping) else stated)
    return VisionFeatures(vision, settings["image_mean"], settings["image_std"], size)


def _not_usable(name: str, reason: str) -> UserError:
    return UserError(
        f"perceptual encoder {name!r} cannot be used ({reason}); give {NONE}, {DISCRIMINATOR}, or a transformers vision"
        f" model (a folder, or {HUB}ORG/NAME) with safetensors weights and a {SETTINGS} with image_mean and image_std."
    )


def perceptual_distance(name: str, discriminator: PatchDiscriminator | None) -> PerceptualDistance | None:
    """The distance of an option's value.

    Args:
        name: `none`; `discriminator` (feature matching, as in pix2pixHD, Wang et al. 2018); or a transformers vision
            model, as a folder or `hf:ORG/NAME`.
        discriminator: the discriminator that is trained together with the model, if any.

    Returns:
        The distance, or None. It does not include a discriminator's weights.

    Raises:
        UserError: see `load_vision_features`.
    """
    if name == NONE:
        return None
    if name == DISCRIMINATOR:
        if discriminator is None:
            raise ValueError("features of a discriminator need one")
        # A bound method, not the module, so that the weights belong to the discriminator only.
        return PerceptualDistance(discriminator.features)
    return PerceptualDistance(load_vision_features(name))
