"""Networks of our own on disk: config.json and the weights as safetensors, in diffusers' layout."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from medloom.core.files import read_json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Network = TypeVar("Network", bound=nn.Module)
Stored = TypeVar("Stored", bound="StoredNetwork")
Config = TypeVar("Config")
CONFIG, WEIGHTS = "config.json", "model.safetensors"


class StoredNetwork(nn.Module):
    """A network that is built from a config dataclass and stored together with it.

    Attributes:
        config: what it was built from.
        config_type: makes the config from the values of config.json.
    """

    config: Any
    config_type: ClassVar[Callable[..., object]]

    def save_pretrained(self, folder: Path) -> None:
        """Write config.json and the weights as safetensors to `folder`."""
        save_network(self, self.config, folder)

    @classmethod
    def from_pretrained(cls, folder: Path) -> Self:
        """Read what `save_pretrained` wrote."""
        return load_network(folder, cls.config_type, cls)


def widened(network: Stored, config: "DataclassInstance") -> Stored:
    """A network of a config with further input channels, which come last; their weights are 0, the others as before."""
    grown, known = type(network)(config), network.state_dict()
    weights = {}
    for name, fresh in grown.state_dict().items():
        weights[name] = known[name]
        if fresh.shape != known[name].shape:
            weights[name] = torch.zeros_like(fresh)
            weights[name][:, : known[name].shape[1]] = known[name]
    grown.load_state_dict(weights)
    return grown.train(network.training)


def save_network(network: nn.Module, config: "DataclassInstance", folder: Path) -> None:
    """Write a network and the dataclass that it was built from to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(asdict(config), indent=2) + "\n", encoding="utf-8")
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    save_file(weights, folder / WEIGHTS)


def load_network(folder: Path, config: Callable[..., Config], build: Callable[[Config], Network]) -> Network:
    """Read what `save_network` wrote.

    Args:
        folder: the network's folder.
        config: makes the config from the values of config.json.
        build: makes the network from the config.

    Raises:
        UserError: no valid config.json.
    """
    values: dict[str, Any] = read_json(folder / CONFIG)
    network = build(config(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}))
    network.load_state_dict(load_file(folder / WEIGHTS))
    return network
