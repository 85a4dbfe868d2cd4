"""Networks of our own on disk: config.json beside the weights as safetensors, as diffusers lays out its own."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from safetensors.torch import load_file, save_file
from torch import nn

from medloom.core.files import read_json

Network = TypeVar("Network", bound=nn.Module)
CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save_network(network: nn.Module, config: Any, folder: Path) -> None:
    """Write a network and the dataclass that it was built from to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(asdict(config), indent=2) + "\n", encoding="utf-8")
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    save_file(weights, folder / WEIGHTS)


def load_network(folder: Path, config: Callable[..., Any], build: Callable[[Any], Network]) -> Network:
    """Read what `save_network` wrote.

    Args:
        folder: where it is.
        config: the dataclass.
        build: makes the network from it.

    Raises:
        UserError: no valid config.json.
    """
    values: dict[str, Any] = read_json(folder / CONFIG)
    network = build(config(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}))
    network.load_state_dict(load_file(folder / WEIGHTS))
    return network
