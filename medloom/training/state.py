"""What a run needs to resume exactly: raw weights, averages, moments, counters. Safetensors and JSON only."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from medloom.core.errors import UserError, first_line
from medloom.core.files import atomic_folder, discard_folder, read_mapping

COUNTERS = "state.json"
PREFIX = "step-"


@dataclass
class Trainable:
    """One phase's module with its optimiser."""

    name: str
    module: nn.Module
    optimizer: torch.optim.Optimizer

    def parameters(self) -> dict[str, nn.Parameter]:
        """Trainable parameters by name."""
        return {name: p for name, p in self.module.named_parameters() if p.requires_grad}

    def moments(self) -> dict[str, Tensor]:
        """What the optimiser keeps of each parameter, by `parameter|name`."""
        return {
            f"{name}|{key}": torch.as_tensor(value)
            for name, parameter in self.parameters().items()
            for key, value in self.optimizer.state.get(parameter, {}).items()
        }

    def weights(self) -> dict[str, Tensor]:
        """Trainable parameters and buffers by name."""
        return {**self.parameters(), **dict(self.module.named_buffers())}


def save_state(
    folder: Path,
    step: int,
    trainables: Sequence[Trainable],
    tensors: Mapping[str, Tensor],
    counters: Mapping[str, object],
) -> Path:
    """Write the state after `step` optimiser steps to `folder/step-N` atomically; older states are then removed."""
    target = folder / f"{PREFIX}{step:08d}"
    with atomic_folder(target) as temporary:
        for trainable in trainables:
            _save(trainable.weights(), temporary / f"{trainable.name}.weights.safetensors")
            _save(trainable.moments(), temporary / f"{trainable.name}.optimizer.safetensors")
        _save(tensors, temporary / "task.safetensors")
        values = {"step": step, **counters}
        (temporary / COUNTERS).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for old in states(folder):
        if old != target:
            discard_folder(old)
    return target


def disk_needed(trainables: Sequence[Trainable], averaged: bool, best_models: int) -> int:
    """The most bytes that checkpoints take: two states while one replaces the other, and the models."""
    weights = sum(p.numel() * p.element_size() for entry in trainables for p in entry.weights().values())
    return (2 * (4 if averaged else 3) + 2 + best_models) * weights


def states(folder: Path) -> list[Path]:
    """Complete states under `folder`, oldest first."""
    return sorted(path for path in folder.glob(f"{PREFIX}*") if (path / COUNTERS).is_file())


def load_state(path: Path, trainables: Sequence[Trainable]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Restore weights and optimisers in place from a state.

    Returns:
        The counters and the task's own tensors.

    Raises:
        UserError: the state does not fit the networks, or is damaged.
    """
    for trainable in trainables:
        _restore(trainable.weights(), _load(path / f"{trainable.name}.weights.safetensors"), path)
        by_name = trainable.parameters()
        for full_name, value in _load(path / f"{trainable.name}.optimizer.safetensors").items():
            name, key = full_name.rsplit("|", 1)
            parameter = by_name[name]
            # The parameter's own memory layout, so that after a resume arithmetic visits numbers in the same order; and
            # its device, even for the step counter, because the optimiser is fused.
            same = value.shape == parameter.shape
            like = torch.empty_like(parameter) if same else torch.empty_like(value, device=parameter.device)
            trainable.optimizer.state[parameter][key] = like.copy_(value)
    return read_mapping(path / COUNTERS), _load(path / "task.safetensors")


def _load(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of a state.

    Raises:
        UserError: it is missing or cut short.
    """
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path} cannot be read ({first_line(error)}): it was cut short or removed; put the original file back, or"
            " train another run, where --from begins with the model of this one."
        ) from error
    return tensors


def _save(tensors: Mapping[str, Tensor], path: Path) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


@torch.no_grad()
def _restore(targets: Mapping[str, Tensor], values: Mapping[str, Tensor], path: Path) -> None:
    if set(targets) != set(values):
        missing = sorted(set(targets) ^ set(values))[:3]
        raise UserError(f"{path} is the state of another network (differs in {', '.join(missing)}, ...).")
    for name, target in targets.items():
        if target.shape != values[name].shape:
            raise UserError(f"{path} is the state of another network: {name} has shape {tuple(values[name].shape)}.")
        target.copy_(values[name])
