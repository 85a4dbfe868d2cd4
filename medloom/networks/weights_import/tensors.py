"""Tensors of weight files: safetensors, or pickled ones that hold nothing but tensors."""

import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, is_zipfile

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from medloom.core.errors import UserError
from medloom.core.files import read_mapping
from medloom.networks.weight_files import is_pointer

SAFETENSORS = ".safetensors"
INDEX = ".index.json"
# Whatever damage does to a pickled file.
READ_ERRORS = (pickle.UnpicklingError, OSError, RuntimeError, ValueError, EOFError, BadZipFile, LookupError, TypeError)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a weight file by name; pickled files are read without running anything that they contain.

    Args:
        path: a safetensors file, a pickled one, or the index of a divided one.

    Raises:
        UserError: not such a file, cut short, a Git LFS pointer, or a pickled file with more than tensors.
    """
    if path.name.endswith(INDEX):
        # Names of files, so that an index cannot name one outside its folder.
        files = sorted({Path(str(file)).name for file in weight_map(path).values()})
        return {name: tensor for file in files for name, tensor in read_tensors(path.parent / file).items()}
    if reason := why_unreadable(path):
        raise UserError(f"{path} {reason}.")
    tensors = load_file(path) if path.suffix == SAFETENSORS else _unpickled(path)
    return {name: tensor for name, tensor in tensors.items() if isinstance(tensor, Tensor)}


def weight_map(index: Path) -> dict[str, Any]:
    """Tensor -> file, of the index of divided weights.

    Raises:
        UserError: it is cut short, or states none.
    """
    named = read_mapping(index).get("weight_map")
    if not isinstance(named, dict):
        raise UserError(f"{index} does not say which file holds which weights (weight_map); fetch it again.")
    return named


def why_unreadable(path: Path) -> str | None:
    """Why a weight file cannot be read, as the rest of a sentence that begins with its path; None if it can.

    Only the headers of large files are read.
    """
    if not path.is_file():
        return "is missing; fetch the complete folder again"
    if is_pointer(path):
        return "is a Git LFS pointer, not the weights; fetch them with `git lfs pull`"
    if path.suffix == SAFETENSORS:
        try:
            with safe_open(path, "pt"):
                return None
        except (SafetensorError, OSError):
            return "is no complete safetensors file (cut short?); fetch it again"
    return None


def _unpickled(path: Path) -> Mapping[str, object]:
    try:
        # Files of the old format cannot be mapped into memory.
        value = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except READ_ERRORS as error:
        # torch names what it does not build; other errors are of files that are none of its own.
        if found := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise UserError(
                f"{path} holds more than tensors ({found[1]}), and reading it could run code, which is never done; ask"
                " its publisher for safetensors."
            ) from error
        raise UserError(f"{path} is no complete file of torch (cut short?); fetch it again.") from error
    while isinstance(value, Mapping) and isinstance(value.get("state_dict"), Mapping):
        value = value["state_dict"]
    if not isinstance(value, Mapping):
        raise UserError(f"{path} holds a {type(value).__name__} instead of tensors by name; give a file of weights.")
    return value


def part_of(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def first_file(folder: Path, names: Iterable[str]) -> Path | None:
    """The first of some files that a folder has."""
    return next((folder / name for name in names if (folder / name).is_file()), None)
