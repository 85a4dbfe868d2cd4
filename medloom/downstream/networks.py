"""Networks that classify images in two and three dimensions: their features, training steps and storage."""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from medloom.core.errors import UserError
from medloom.core.files import atomic_folder, explained_content, read_mapping, write_json
from medloom.core.lookup import look_up
from medloom.core.progress import progress
from medloom.core.seeds import initial_weights
from medloom.networks.blocks import CONVOLUTION
from medloom.networks.precision import computes_in_bf16
from medloom.networks.weights import require_finite

NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
SMALL_WIDTHS = (32, 64, 128)
DENSENET_WIDTH = 1024
PREDICTED_AT_ONCE = 128
WARM_UP = 0.1
WEIGHTS, CONFIG = "model.safetensors", "config.json"

Images = NDArray[np.floating]


class HeadedNetwork(nn.Module):
    """A body that computes features, and one linear layer on them.

    Args:
        body: maps images `(N, C, *spatial)` in [-1, 1] to features `(N, width)`.
        width: number of features.
        classes: number of classes.
    """

    def __init__(self, body: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(width, classes)

    def features(self, x: Tensor) -> Tensor:
        """Penultimate features `(N, width)` of images `(N, C, *spatial)` in [-1, 1]."""
        features: Tensor = self.body(x)
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(N, classes)` of images `(N, C, *spatial)` in [-1, 1]."""
        logits: Tensor = self.head(self.features(x))
        return logits


class ClassifierBlock(nn.Module):
    """Two convolutions with a shortcut (He et al. 2016); with a `stride` of 2 the first halves each axis."""

    def __init__(self, dims: int, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            CONVOLUTION[dims](inputs, outputs, 3, stride, 1, bias=False),
            NORM[dims](outputs),
            nn.ReLU(inplace=True),
            CONVOLUTION[dims](outputs, outputs, 3, 1, 1, bias=False),
            NORM[dims](outputs),
        )
        self.shortcut = CONVOLUTION[dims](inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, inputs, *spatial)` to `(N, outputs, *spatial / stride)`."""
        return torch.relu(self.main(x) + self.shortcut(x))


class MeanOverSpace(nn.Module):
    """The mean over all spatial axes."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, C, *spatial)` to `(N, C)`."""
        return x.flatten(2).mean(dim=2)


def small(channels: int, classes: int, dims: int) -> HeadedNetwork:
    """A residual network of about 0.3 million weights (0.9 in 3-D) and 128 features, for 64-pixel images on a CPU.

    Args:
        channels: of the images, 1 or 3.
        classes: number of classes.
        dims: spatial axes, 2 or 3.
    """
    first, *others = SMALL_WIDTHS
    layers: list[nn.Module] = [
        CONVOLUTION[dims](channels, first, 5, 2, 2, bias=False),
        NORM[dims](first),
        nn.ReLU(inplace=True),
    ]
    if dims == 3:
        # Blocks on volumes of half the size take a quarter of the time of the whole network.
        layers.append(nn.MaxPool3d(3, 2, 1))
    layers.append(ClassifierBlock(dims, first, first, 1))
    for inputs, outputs in zip(SMALL_WIDTHS, others, strict=False):
        layers.append(ClassifierBlock(dims, inputs, outputs, 2))
    return HeadedNetwork(nn.Sequential(*layers, MeanOverSpace()), SMALL_WIDTHS[-1], classes)


def densenet121(channels: int, classes: int, dims: int) -> HeadedNetwork:
    """DenseNet-121 (Huang et al. 2017) from MONAI with random weights; 1024 features. Axes of at least 32 pixels.

    Args:
        channels: of the images, 1 or 3.
        classes: number of classes.
        dims: spatial axes, 2 or 3.
    """
    from monai.networks.nets import DenseNet121

    body = DenseNet121(spatial_dims=dims, in_channels=channels, out_channels=classes).features
    return HeadedNetwork(nn.Sequential(body, nn.ReLU(inplace=True), MeanOverSpace()), DENSENET_WIDTH, classes)


NETWORKS: dict[str, Callable[[int, int, int], HeadedNetwork]] = {"small": small, "densenet121": densenet121}


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options that all trainings share.

    Attributes:
        network: a name in NETWORKS.
        steps: optimiser steps.
        batch: images per step.
        learning_rate: peak of AdamW's; it rises over the first tenth and falls along a cosine.
        weight_decay: of AdamW.
        seed: of all random choices.
        device: a torch device.
        verbose: whether to show progress.
    """

    network: str = "small"
    steps: int
    batch: int = 64
    learning_rate: float
    weight_decay: float = 0.02
    seed: int = 0
    device: str = "cpu"
    verbose: bool = True

    def identity(self) -> dict[str, str | float]:
        """The options that determine the weights, as JSON values."""
        return {name: value for name, value in vars(self).items() if name not in ("device", "verbose")}


def optimise(
    network: nn.Module,
    options: Options,
    what: str,
    loss_of: Callable[[int], Tensor],
    finished: Callable[[int], bool] = lambda step: False,
) -> None:
    """Train a network in place by AdamW; the learning rate rises over a tenth of the steps, then falls along a cosine.

    Args:
        network: on its device.
        options: steps, learning rate and weight decay.
        what: the network's name in messages.
        loss_of: the loss of a step, counted from 0.
        finished: whether to stop after a step, counted from 0.

    Raises:
        UserError: the loss is not finite, which would otherwise only show in meaningless metrics.
    """
    optimiser = torch.optim.AdamW(network.parameters(), options.learning_rate, weight_decay=options.weight_decay)
    warm = max(1, round(WARM_UP * options.steps))
    with progress(f"training {what}", options.steps, "steps", 0, options.verbose) as advance:
        for step in range(options.steps):
            passed = (step - warm) / max(1, options.steps - warm)
            fraction = (step + 1) / warm if step < warm else 0.5 * (1 + np.cos(np.pi * passed))
            for group in optimiser.param_groups:
                group["lr"] = options.learning_rate * fraction
            network.train()
            loss = loss_of(step)
            if not torch.isfinite(loss):
                raise UserError(
                    f"training the {what} diverged: its loss is not finite; check the images with `medloom data check`,"
                    " or give another --seed."
                )
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
            advance()
            if finished(step):
                break


def autocast(batch: Tensor) -> AbstractContextManager[object]:
    """bfloat16 if the machine computes in it; emulation on other CPUs would only be slower.

    Volumes on a CPU stay in fp32: bfloat16 was no faster there, and it makes gradients of small volumes wrong (see
    `medloom.networks.blocks.Conv3d`).
    """
    device = batch.device
    fast = computes_in_bf16(device) and not (device.type == "cpu" and batch.ndim == 5)
    return torch.autocast(device.type, torch.bfloat16) if fast else nullcontext()


def to_tensor(images: Images, device: torch.device) -> Tensor:
    """Images as a float32 tensor, in 2-D with channels last, which is faster to convolve on a CPU."""
    tensor = torch.from_numpy(np.ascontiguousarray(images, np.float32)).to(device)
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def refuse_other_shape(images: Images, shape: tuple[int, ...]) -> None:
    """Refuse images `(N, *shape)` of another shape than a classifier was trained on, and none at all.

    Raises:
        UserError: names both shapes.
    """
    if tuple(images.shape[1:]) != shape or not len(images):
        raise UserError(f"images of shape {images.shape} for a classifier of images {shape}; give (N, C, ...).")


def map_images(network: HeadedNetwork, function: Callable[[Tensor], Tensor], images: Images) -> NDArray[np.float32]:
    """Apply a function of a network in evaluation mode to images `(N, C, *spatial)` in [-1, 1], batch by batch."""
    network.eval()
    device = next(network.parameters()).device
    with torch.inference_mode():
        parts = [
            function(to_tensor(images[start : start + PREDICTED_AT_ONCE], device)).float().cpu()
            for start in range(0, len(images), PREDICTED_AT_ONCE)
        ]
    return torch.cat(parts).numpy()


def write_network(folder: Path, network: HeadedNetwork, config: Mapping[str, object]) -> None:
    """Write a network to a folder as safetensors and JSON.

    Args:
        folder: replaced as a whole.
        network: what to write.
        config: content of config.json; `network` and `shape` are needed to read it back.
    """
    with atomic_folder(folder) as temporary:
        save_file({name: value.cpu().contiguous() for name, value in network.state_dict().items()}, temporary / WEIGHTS)
        write_json(temporary / CONFIG, dict(config))


def read_network(
    folder: Path, outputs: Callable[[dict[str, Any]], int], device: str = "cpu"
) -> tuple[HeadedNetwork, dict[str, Any]]:
    """Read what `write_network` wrote: the network in evaluation mode, and config.json.

    Args:
        folder: the network's folder.
        outputs: the width of the head, from the content of config.json.
        device: a torch device.

    Raises:
        UserError: a file is missing or damaged, or the network's name is unknown.
    """
    config = read_mapping(folder / CONFIG)
    with explained_content(folder / CONFIG), initial_weights(0):
        shape = tuple(config["shape"])
        network = look_up(NETWORKS, config["network"], "network")(shape[0], outputs(config), len(shape) - 1)
    try:
        network.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder / WEIGHTS} does not hold the network of {CONFIG}: {error}.") from error
    require_finite(network.state_dict(), str(folder / WEIGHTS))
    return placed(network, len(shape) - 1, device).eval(), config


def placed(network: HeadedNetwork, dims: int, device: str) -> HeadedNetwork:
    """A network on a device, in 2-D with channels last."""
    network = network.to(device)
    return network.to(memory_format=torch.channels_last) if dims == 2 else network  # type: ignore[call-overload]


def hash_weights(network: nn.Module) -> str:
    """SHA-256 of the names and values of a network's weights, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
