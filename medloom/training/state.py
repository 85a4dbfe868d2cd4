"""What a run needs to go on exactly: raw weights, averages, moments, counters. Safetensors and JSON only."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from medloom.core.errors import UserError
from medloom.core.files import atomic_folder, read_json

COUNTERS = "state.json"
PREFIX = "step-"


@dataclass
class Trainable:
    """One phase's module with its optimiser."""

    name: str
    module: nn.Module
    optimizer: torch.optim.Optimizer
    frozen_names: tuple[str, ...] = field(default=())

    def weights(self) -> dict[str, Tensor]:
        """Trainable parameters and buffers by name."""
        named = dict(self.module.named_parameters())
        kept = {name: p for name, p in named.items() if p.requires_grad}
        return {**kept, **dict(self.module.named_buffers())}


def save_state(
    folder: Path, step: int, trainables: Sequence[Trainable], tensors: Mapping[str, Tensor], counters: Mapping[str, Any]
) -> Path:
    """Write the state after `step` optimiser steps to `folder/step-N`, whole or not at all; older ones then go."""
    target = folder / f"{PREFIX}{step:08d}"
    with atomic_folder(target) as temporary:
        for trainable in trainables:
            _save(trainable.weights(), temporary / f"{trainable.name}.weights.safetensors")
            _save(_moments(trainable), temporary / f"{trainable.name}.optimizer.safetensors")
        _save(tensors, temporary / "task.safetensors")
        values = {"step": step, **counters}
        (temporary / COUNTERS).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for old in states(folder):
        if old != target:
            shutil.rmtree(old)
    return target


def disk_needed(trainables: Sequence[Trainable], averaged: bool, kept_models: int) -> int:
    """Bytes that checkpoints take at most: two states while one replaces the other, and the models."""
    weights = sum(p.numel() * p.element_size() for entry in trainables for p in entry.weights().values())
    state = weights * (4 if averaged else 3)
    return 2 * state + (2 + kept_models) * weights


def states(folder: Path) -> list[Path]:
    """Complete states under `folder`, oldest first."""
    return sorted(path for path in folder.glob(f"{PREFIX}*") if (path / COUNTERS).is_file())


def load_state(path: Path, trainables: Sequence[Trainable]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Restore weights and optimisers in place from a state.

    Returns:
        The counters and the task's own tensors.

    Raises:
        UserError: the state does not fit the networks.
    """
    for trainable in trainables:
        weights = load_file(path / f"{trainable.name}.weights.safetensors")
        _restore(trainable.weights(), weights, path)
        _load_moments(trainable, load_file(path / f"{trainable.name}.optimizer.safetensors"))
    return read_json(path / COUNTERS), load_file(path / "task.safetensors")


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


def _by_parameter(trainable: Trainable) -> dict[str, nn.Parameter]:
    return {name: p for name, p in trainable.module.named_parameters() if p.requires_grad}


def _moments(trainable: Trainable) -> dict[str, Tensor]:
    moments: dict[str, Tensor] = {}
    for name, parameter in _by_parameter(trainable).items():
        for key, value in trainable.optimizer.state.get(parameter, {}).items():
            moments[f"{name}|{key}"] = torch.as_tensor(value)
    return moments


def _load_moments(trainable: Trainable, moments: Mapping[str, Tensor]) -> None:
    by_name = _by_parameter(trainable)
    for full_name, value in moments.items():
        name, key = full_name.rsplit("|", 1)
        parameter = by_name[name]
        # The parameter's own memory layout, so that arithmetic after a resume runs over the same order of numbers; and
        # its device, for the count of steps as well, since the optimiser is fused.
        same = value.shape == parameter.shape
        like = torch.empty_like(parameter) if same else torch.empty_like(value, device=parameter.device)
        trainable.optimizer.state[parameter][key] = like.copy_(value)
