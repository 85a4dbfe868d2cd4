"""What lies in a folder that somebody calls a text encoder: its layout, and why it cannot be loaded as it is."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from medloom.core.errors import UserError, first_line
from medloom.core.files import read_json
from medloom.networks.weight_files import PICKLED
from medloom.networks.weights_import.bert import WORDS
from medloom.networks.weights_import.tensors import (
    INDEX,
    SAFETENSORS,
    first_file,
    read_tensors,
    weight_map,
    why_unreadable,
)

CONFIG, TOKENIZER_CONFIG, OPEN_CLIP_CONFIG = "config.json", "tokenizer_config.json", "open_clip_config.json"
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model")
# In the order in which they are preferred; other names follow.
SAFE_NAMES = ("model.safetensors", "model.safetensors" + INDEX)
PICKLED_NAMES = ("pytorch_model.bin", "pytorch_model.bin" + INDEX)
OPEN_CLIP_NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
CXR_BERT = "cxr-bert"
# Where MedCLIP has its BERT.
MEDCLIP_PREFIX = "text_model.model."


class Layout(Enum):
    """Published layouts of text encoders; the value is its name in messages."""

    TRANSFORMERS = "transformers"
    OPEN_CLIP = "open_clip"
    MEDCLIP = "MedCLIP"
    CXR_BERT = "cxr-bert"


@dataclass(frozen=True)
class Found:
    """What a folder holds.

    Attributes:
        folder: the folder.
        layout: its layout.
        config: the values of config.json, or of open_clip_config.json; empty where there is none.
        weights: the file of the weights, or the index of a divided one.
    """

    folder: Path
    layout: Layout
    config: dict[str, Any]
    weights: Path


def weight_file(folder: Path) -> Path | None:
    """The file of a folder's weights: safetensors if there are any."""
    # Folders of open_clip may have the weights in transformers' layout too.
    own = OPEN_CLIP_NAMES if (folder / OPEN_CLIP_CONFIG).is_file() else ()
    if named := first_file(folder, (*own, *SAFE_NAMES, *PICKLED_NAMES)):
        return named
    files = sorted(path for path in folder.iterdir() if path.suffix in (SAFETENSORS, *PICKLED))
    return next((path for path in files if path.suffix == SAFETENSORS), files[0] if files else None)


def find_layout(folder: Path) -> Found:
    """The layout of a text encoder's folder.

    Raises:
        UserError: no weights, or ones that cannot be read.
    """
    weights = weight_file(folder)
    if weights is None:
        raise UserError(f"{folder} holds no weights (*{SAFETENSORS}, *{', *'.join(PICKLED)}); name another folder.")
    if reason := why_unreadable(weights):
        raise UserError(f"{weights} {reason}.")
    if (path := folder / OPEN_CLIP_CONFIG).is_file():
        return Found(folder, Layout.OPEN_CLIP, _values(path), weights)
    config = _values(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    if config.get("model_type") == CXR_BERT:
        return Found(folder, Layout.CXR_BERT, config, weights)
    # MedCLIP is published as one file, without a word on what it is.
    if _has_prefix(weights, MEDCLIP_PREFIX):
        return Found(folder, Layout.MEDCLIP, config, weights)
    return Found(folder, Layout.TRANSFORMERS, config, weights)


def why_not_loaded(folder: Path, error: Exception) -> tuple[str, bool]:
    """What lies in a folder that transformers cannot load as a text encoder.

    Args:
        folder: the folder.
        error: of the library, for what no other reason explains.

    Returns:
        What lies there, as a part of a sentence, and whether `medloom data import weights` converts it.
    """
    try:
        found = find_layout(folder)
    except UserError as problem:
        return str(problem).rstrip("."), False
    if found.layout is not Layout.TRANSFORMERS:
        return f"{folder} has the layout of {found.layout.value} ({found.weights.name})", True
    if not (folder / CONFIG).is_file():
        return f"{folder} has weights ({found.weights.name}) but no {CONFIG}", False
    if code := own_code(found.config):
        return code_sentence(folder, found.config, code), False
    if found.weights.suffix in PICKLED or found.weights.name.startswith(PICKLED_NAMES[0]):
        return f"{folder} has only pickled weights ({found.weights.name}), and only safetensors are loaded", True
    if not found.config.get("model_type"):
        # Weights of BERT show its shape.
        is_bert = any(name.removeprefix("bert.") == WORDS for name in _names(found.weights))
        return f"{folder / CONFIG} does not say of which type the network is (model_type)", is_bert
    if own_code(_values(folder / TOKENIZER_CONFIG) if (folder / TOKENIZER_CONFIG).is_file() else {}):
        return f"the tokenizer of {folder} brings its own code, which is never run", True
    return f"{folder}: {first_line(error)}", False


def own_code(config: dict[str, Any]) -> str | None:
    """The Python module that a folder wants to be loaded with; None for a type that transformers knows itself."""
    from transformers import CONFIG_MAPPING

    named = config.get("auto_map")
    if not isinstance(named, dict) or not named or config.get("model_type") in CONFIG_MAPPING:
        return None
    value = next(iter(named.values()))
    module = str(value[0] if isinstance(value, list) else value)
    return f"{module.split('--')[-1].split('.')[0]}.py"


def code_sentence(folder: Path, config: dict[str, Any], code: str) -> str:
    """That a folder is of an unknown type and brings code."""
    kind = config.get("model_type", "unknown")
    return f"{folder} is of the type {kind!r} and brings its own code ({code}), which is never run"


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder has the files of a tokenizer."""
    return first_file(folder, TOKENIZER_FILES) is not None or any(folder.glob("*.model"))


def _values(path: Path) -> dict[str, Any]:
    values = read_json(path)
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no settings by name; fetch it again.")
    return values


def _has_prefix(weights: Path, prefix: str) -> bool:
    """Whether a weight file has tensors of a prefix; what cannot be read has none."""
    try:
        return any(name.startswith(prefix) for name in _names(weights))
    except UserError:
        return False


def _names(weights: Path) -> Iterable[str]:
    from safetensors import safe_open

    if weights.name.endswith(INDEX):
        return list(weight_map(weights))
    if weights.suffix == SAFETENSORS:
        with safe_open(weights, "pt") as file:
            return list(file.keys())
    return list(read_tensors(weights))
