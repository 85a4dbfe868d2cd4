"""Networks of our own on disk: config.json and the weights as safetensors, in diffusers' layout."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from medloom.core.errors import UserError
from medloom.core.files import read_mapping

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
        UserError: no valid config.json, or weights that are not finite.
    """
    values = read_mapping(folder / CONFIG)
    network = build(config(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}))
    network.load_state_dict(load_file(folder / WEIGHTS))
    require_finite(network.state_dict(), str(folder))
    return network


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor with a value that is not finite, or None."""
    return next(
        (
            name
            for name, tensor in tensors.items()
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
        ),
        None,
    )


def require_finite(weights: Mapping[str, Tensor], where: str) -> None:
    """Refuse weights that are not finite, once, where they are loaded: whatever is computed with them is lost.

    Args:
        weights: by name.
        where: the file or folder that they were read from.

    Raises:
        UserError: names the first one.
    """
    if name := first_not_finite(weights):
        raise UserError(
            f"{where}: the weights {name} hold values that are not finite (NaN or infinite); fetch the file again, or"
            " give other weights."
        )
