"""Headed networks on disk: weights as safetensors, what they are as JSON."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from medloom.core.errors import UserError
from medloom.core.files import atomic_folder, read_json, write_json
from medloom.core.initialize import initial_weights
from medloom.core.lookup import look_up
from medloom.downstream.networks import NETWORKS, HeadedNetwork

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


def write_network(folder: Path, network: HeadedNetwork, config: Mapping[str, Any]) -> None:
    """Write a network to a folder.

    Args:
        folder: replaced as a whole.
        network: what is written.
        config: what config.json says; `network` and `shape` are needed to read it back.
    """
    with atomic_folder(folder) as temporary:
        state = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
        save_file(state, temporary / WEIGHTS)
        write_json(temporary / CONFIG, dict(config))


def read_network(
    folder: Path, outputs: Callable[[Mapping[str, Any]], int], device: str = "cpu"
) -> tuple[HeadedNetwork, dict[str, Any]]:
    """Read what `write_network` wrote: the network, in evaluation mode, and config.json.

    Args:
        folder: where it lies.
        outputs: how wide the head is, by what config.json says.
        device: a torch device.

    Raises:
        UserError: a file is missing or damaged, or the network's name is not known.
    """
    config = read_json(folder / CONFIG)
    shape = tuple(config["shape"])
    with initial_weights(0):
        network = look_up(NETWORKS, config["network"], "network")(shape[0], outputs(config), len(shape) - 1)
    try:
        network.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder / WEIGHTS} does not hold the network of {CONFIG}: {error}.") from error
    return placed(network, len(shape) - 1, device).eval(), config


def placed(network: HeadedNetwork, dims: int, device: str) -> HeadedNetwork:
    """A network on a device, in 2-D with the channels last."""
    network = network.to(device)
    return network.to(memory_format=torch.channels_last) if dims == 2 else network  # type: ignore[call-overload]


def hash_weights(network: nn.Module) -> str:
    """SHA-256 of the names and values of a network's weights, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
