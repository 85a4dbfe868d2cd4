"""Any transformers vision model as a feature extractor, with its own preprocessing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medloom.core.errors import UserError, first_line
from medloom.core.files import hash_json, read_mapping
from medloom.core.seeds import initial_weights
from medloom.downstream.networks import hash_weights
from medloom.networks.library_errors import LOAD_ERRORS
from medloom.networks.weights_source import HUB, find_folder_or_hub_id

PREPROCESSOR = "preprocessor_config.json"
POOLED, TOKENS = "pooled output", "mean over the last layer's tokens"


@dataclass(frozen=True)
class Preprocessing:
    """The settings of an image processor.

    Attributes:
        size: pixels of an image, aspect kept.
        crop: pixels of the central part that is used; None if the image is padded and used whole.
        mean: of the three channels, subtracted.
        std: standard deviation of the three channels, divided by.
        scale: value of white before mean and std are applied; usually 1.
    """

    size: tuple[int, int]
    crop: tuple[int, int] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float

    @property
    def statement(self) -> str:
        """The settings in words."""
        size = f"{self.size[0]} x {self.size[1]} pixels, aspect kept"
        placed = f"shortest edge, centre {self.crop[0]} x {self.crop[1]}" if self.crop else "padded"
        mean, std = (", ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return f"images of {size} ({placed}), mean {mean}, standard deviation {std}"

    @property
    def settings(self) -> list[object]:
        """All of them, as JSON values."""
        return [self.size, self.crop, self.mean, self.std, self.scale]

    def __call__(self, images: NDArray[np.float32]) -> Tensor:
        """Float32 `(N, 3, *crop or size)` of images `(N, 1 or 3, *size)` in [-1, 1]."""
        colour = (torch.from_numpy(images).expand(-1, 3, -1, -1) + 1) * (self.scale / 2)
        if self.crop:
            top, left = ((length - part) // 2 for length, part in zip(self.size, self.crop, strict=True))
            colour = colour[:, :, top : top + self.crop[0], left : left + self.crop[1]]
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (self.mean, self.std))
        return (colour - mean) / std


@dataclass(frozen=True, eq=False)
class VisionModel:
    """A vision model with the settings of its image processor.

    Attributes:
        network: in evaluation mode.
        name: folder or hub id.
        preprocessing: of images.
        features: the output that is used, POOLED or TOKENS.
    """

    network: nn.Module
    name: str
    preprocessing: Preprocessing
    features: str

    @property
    def statement(self) -> str:
        """Preprocessing and features in words."""
        return f"{self.features} of {self.name}; {self.preprocessing.statement}"

    @property
    def identity(self) -> str:
        """A hash of weights and preprocessing."""
        return hash_json([hash_weights(self.network), [*self.preprocessing.settings, self.features]])

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features `(N, d)` of images `(N, 1 or 3, *size)` in [-1, 1]."""
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            output = self.network(pixel_values=self.preprocessing(images).to(device))
            if self.features == POOLED:
                features: Tensor = output.pooler_output.flatten(1)
            else:
                hidden: Tensor = output.last_hidden_state
                features = hidden.mean(dim=1) if hidden.ndim == 3 else hidden.flatten(2).mean(dim=2)
            return features.float().cpu().numpy()


def load_vision_model(name: str, device: str = "cpu") -> VisionModel:
    """Load a vision model and its preprocessing.

    Args:
        name: a folder that transformers wrote, or a hub id, ORG/NAME.
        device: a torch device.

    Raises:
        UserError: it cannot be found or has no safetensors, is no vision model, lacks weights, or has no settings of an
            image processor.
    """
    from transformers import AutoModel
    from transformers.utils import cached_file

    source = find_folder_or_hub_id(name, f"--features {HUB}{name}")
    where = {"local_files_only": source.is_local}
    try:
        with initial_weights(0):
            network, info = AutoModel.from_pretrained(
                name,
                use_safetensors=True,
                trust_remote_code=False,
                **where,
                output_loading_info=True,
                dtype=torch.float32,
            )
    except LOAD_ERRORS as error:
        raise UserError(
            f"hf:{name} cannot be loaded ({first_line(error)}); give a folder with config.json and safetensors weights,"
            " or a hub id that can be reached from here."
        ) from error
    inner = getattr(network, "vision_model", network)
    if getattr(inner, "main_input_name", "") != "pixel_values":
        raise UserError(f"hf:{name} is a {type(network).__name__}, which does not take images; give a vision model.")
    # A pooling layer without weights in the folder would be random, and so would its features.
    missing = set(info["missing_keys"])
    unpooled = {key for key in missing if "pooler" in key}
    if missing - unpooled:
        raise UserError(f"hf:{name} lacks weights of its own network ({sorted(missing - unpooled)[0]}, ...).")
    try:
        found = cached_file(name, PREPROCESSOR, **where)
    except (OSError, ValueError) as error:
        raise UserError(f"hf:{name} has no {PREPROCESSOR}, so its preprocessing is unknown.") from error
    preprocessing = preprocessing_of(read_mapping(Path(str(found))), f"hf:{name}")
    channels = getattr(getattr(inner, "config", None), "num_channels", 3)
    if channels != 3:
        raise UserError(f"hf:{name} takes {channels} channels; give a model of three.")
    placed = inner.to(device).eval()
    with torch.inference_mode():
        blank = torch.zeros(1, 3, *(preprocessing.crop or preprocessing.size), device=next(placed.parameters()).device)
        pools = not unpooled and getattr(placed(pixel_values=blank), "pooler_output", None) is not None
    return VisionModel(
        network=placed,
        name=name,
        preprocessing=preprocessing,
        features=POOLED if pools else TOKENS,
    )


def preprocessing_of(settings: Mapping[str, Any], model: str) -> Preprocessing:
    """The preprocessing that the settings of an image processor describe.

    Args:
        settings: of preprocessor_config.json.
        model: as the user wrote it, for messages.

    Raises:
        UserError: they do not give size, mean or standard deviation.
    """
    normalised = settings.get("do_normalize", True)
    if normalised and not {"image_mean", "image_std"} <= set(settings):
        raise UserError(f"{PREPROCESSOR} of {model} does not give image_mean and image_std.")
    size, crop = _size(model, settings)
    return Preprocessing(
        size=size,
        crop=crop,
        mean=tuple(settings["image_mean"]) if normalised else (0.0,) * 3,
        std=tuple(settings["image_std"]) if normalised else (1.0,) * 3,
        scale=255 * float(settings.get("rescale_factor", 1 / 255)) if settings.get("do_rescale", True) else 255.0,
    )


def _size(model: str, settings: Mapping[str, Any]) -> tuple[tuple[int, int], tuple[int, int] | None]:
    """The size of images, and the size of the centre that is cut out of them."""
    size, crop = _pair(settings.get("size")), _pair(settings.get("crop_size"))
    if not settings.get("do_center_crop", False):
        crop = None
    if size is None:
        size = crop
    if size is None:
        raise UserError(f"{PREPROCESSOR} of {model} does not give a size.")
    if crop and (crop[0] > size[0] or crop[1] > size[1]):
        raise UserError(f"{PREPROCESSOR} of {model} cuts {crop} pixels out of {size}.")
    return size, crop


def _pair(value: object) -> tuple[int, int] | None:
    if isinstance(value, Mapping):
        value = value.get("shortest_edge") or (value.get("height"), value.get("width"))
    if isinstance(value, int):
        return value, value
    return (int(value[0]), int(value[1])) if isinstance(value, Sequence) and value and all(value) else None
