"""Converts a published text encoder to a plain transformers folder that generators read with."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medloom.core.errors import UserError, first_line
from medloom.core.files import read_mapping
from medloom.core.seeds import initial_weights
from medloom.networks.library_errors import LOAD_ERRORS
from medloom.networks.text import CLIP_TYPES, text_class
from medloom.networks.text_pooling import POOLER, Layer, Pooling, PoolingConfig, build_pooling
from medloom.networks.weights import require_finite
from medloom.networks.weights_import import bert, open_clip
from medloom.networks.weights_import.layouts import (
    CONFIG,
    MEDCLIP_PREFIX,
    TOKENIZER_CONFIG,
    TOKENIZER_FILES,
    Found,
    Layout,
    code_sentence,
    find_layout,
    has_tokenizer,
    own_code,
)
from medloom.networks.weights_import.tensors import part_of, read_tensors

# Of encoders whose folders do not say it.
TOKENIZER_CLASSES = {"bert": "BertTokenizer", "clip_text_model": "CLIPTokenizer", "clip": "CLIPTokenizer"}


@dataclass(frozen=True, eq=False)
class Converted:
    """A text encoder of transformers with the published weights.

    Attributes:
        layout: the layout that it was published in.
        model: the transformers model.
        pooling: how it pools, or None where nothing was published on it.
        tokenizer_folder: where its tokenizer lies.
        weights: the file that was read, or the index of a divided one.
    """

    layout: Layout
    model: Any
    pooling: Pooling | None
    tokenizer_folder: Path
    weights: Path


def convert_text_encoder(folder: Path, base_config: Path | None = None) -> Converted:
    """Read a published text encoder.

    Args:
        folder: in one of the layouts.
        base_config: folder with the config.json and the tokenizer of the network that the encoder was made from, where
            `folder` lacks them.

    Raises:
        UserError: none of the layouts, incomplete or damaged files, weights that are not finite, own code, or no
            tokenizer.
    """
    found = find_layout(folder)
    tokenizer_folder = _tokenizer_folder(found, base_config)
    stated = _stated_config(base_config)
    with _named(found):
        tensors = read_tensors(found.weights)
        model, pooling = CONVERTERS[found.layout](found, tensors, stated)
        for network in (model, pooling):
            if network is not None:
                require_finite(network.state_dict(), str(found.weights))
    return Converted(found.layout, model, pooling, tokenizer_folder, found.weights)


def write_text_encoder(converted: Converted, out: Path) -> None:
    """Write a folder that transformers and `--text.encoder` read.

    Raises:
        UserError: a tokenizer that cannot be read without running code.
    """
    from transformers import AutoTokenizer

    converted.model.save_pretrained(out, safe_serialization=True)
    config = converted.model.config
    _copy_tokenizer(converted.tokenizer_folder, out, str(config.model_type))
    try:
        tokenizer = AutoTokenizer.from_pretrained(out, trust_remote_code=False, local_files_only=True)
    except LOAD_ERRORS as error:
        reason = first_line(error)
        raise UserError(f"the tokenizer in {converted.tokenizer_folder} cannot be read ({reason}).") from error
    words = len(tokenizer)
    if words > config.vocab_size:
        raise UserError(
            f"the tokenizer in {converted.tokenizer_folder} has {words} tokens and the weights {config.vocab_size};"
            " give the folder of the tokenizer that they were trained with, with --base-config."
        )
    stated = converted.pooling.config.max_tokens if converted.pooling else None
    tokenizer.model_max_length = stated or getattr(config, "max_position_embeddings", tokenizer.model_max_length)
    tokenizer.save_pretrained(out)
    if converted.pooling is not None:
        converted.pooling.save(out)


def _from_transformers(
    found: Found, tensors: Mapping[str, Tensor], stated: Mapping[str, Any]
) -> tuple[nn.Module, Pooling | None]:
    """An encoder of a type that transformers has, with pickled weights."""
    values = found.config or stated
    # Folders of the first years have no type; they are of BERT.
    kind = values.get("model_type") or ("bert" if _is_bert(tensors) else None)
    if code := own_code(found.config):
        raise UserError(f"{code_sentence(found.folder, found.config, code)}; known: {_known_layouts()}.")
    if kind is None and (found.folder / CONFIG).is_file():
        raise UserError(
            f"{found.folder / CONFIG} does not say of which type the network is (model_type); fetch the file again."
        )
    # Where nothing is stated, BERT's weights show its shape.
    measured = kind == "bert" and not values
    config = bert.bert_config(_without_prefix(tensors), {}) if measured else _config_of(kind, values)
    if kind == "clip":
        config = config.text_config
    return _load(config, tensors), clip_projection(tensors) if kind in CLIP_TYPES else None


def _from_medclip(
    found: Found, tensors: Mapping[str, Tensor], stated: Mapping[str, Any]
) -> tuple[nn.Module, Pooling | None]:
    inner = part_of(tensors, MEDCLIP_PREFIX)
    return _load(bert.bert_config(inner, stated or found.config), inner), bert.medclip_pooling(tensors)


def _from_cxr_bert(
    found: Found, tensors: Mapping[str, Tensor], stated: Mapping[str, Any]
) -> tuple[nn.Module, Pooling | None]:
    inner = part_of(tensors, "bert.")
    return _load(bert.bert_config(inner, found.config), inner), bert.cxr_bert_pooling(tensors)


def _from_open_clip(
    found: Found, tensors: Mapping[str, Tensor], stated: Mapping[str, Any]
) -> tuple[nn.Module, Pooling | None]:
    settings = open_clip.text_settings(found.config)
    if settings.get("hf_model_name"):
        inner = part_of(tensors, f"{open_clip.TOWER}transformer.")
        if not stated and not _is_plain_bert(settings["hf_model_name"]):
            raise UserError(
                f"the text tower is a {settings['hf_model_name']}, whose settings are not in the folder; give that"
                " model's folder with --base-config."
            )
        kind = stated.get("model_type", "bert")
        config = bert.bert_config(inner, stated) if kind == "bert" else _config_of(kind, stated)
        return _load(config, inner), open_clip.hub_pooling(tensors, settings, kind)
    open_clip.require_plain(settings)
    tower = open_clip.own_tower(tensors)
    quick = bool(found.config.get("model_cfg", {}).get("quick_gelu"))
    model = _load(open_clip.clip_config(tower, settings, quick), open_clip.clip_weights(tower))
    return model, open_clip.clip_pooling(tower, settings.get("context_length"))


CONVERTERS = {
    Layout.TRANSFORMERS: _from_transformers,
    Layout.MEDCLIP: _from_medclip,
    Layout.CXR_BERT: _from_cxr_bert,
    Layout.OPEN_CLIP: _from_open_clip,
}


def _load(config: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The encoder of a configuration with published weights, by whatever prefix their names have.

    Raises:
        UserError: weights are missing.
    """
    from transformers import MODEL_MAPPING

    kind = text_class(config.model_type) or MODEL_MAPPING[type(config)]
    whole = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    with initial_weights(0):
        model, info = kind.from_pretrained(
            None, config=config, state_dict=whole, output_loading_info=True, dtype=torch.float32
        )
    missing = sorted(set(info["missing_keys"]))
    if model.main_input_name != "input_ids" or getattr(config, "hidden_size", None) is None:
        raise UserError(f"a {type(model).__name__} is no text encoder; known: {_known_layouts()}.")
    if lost := [name for name in missing if "pooler" not in name]:
        raise UserError(f"weights are missing ({lost[0]} and {len(lost) - 1} more); fetch the complete file.")
    # Nobody pools with a pooler that was not published; zeros make the folder a function of what was.
    for name, weight in model.named_parameters():
        if name in missing:
            nn.init.zeros_(weight)
    return model


def clip_projection(tensors: Mapping[str, Tensor]) -> Pooling | None:
    """The projection of a CLIP model of transformers behind the end token; None where it has none."""
    weights = part_of(tensors, "text_projection.")
    if "weight" not in weights:
        return None
    outputs, inputs = weights["weight"].shape
    return build_pooling(PoolingConfig(POOLER, outputs, (), (Layer("linear", inputs, outputs),)), [weights])


def _config_of(kind: str | None, values: Mapping[str, Any]) -> Any:
    """The configuration of a type that transformers has.

    Raises:
        UserError: it does not have the type.
    """
    from transformers import CONFIG_MAPPING, AutoConfig

    if kind not in CONFIG_MAPPING:
        what = f"the type {kind!r} is not one of transformers" if kind else f"there is no {CONFIG} with a type"
        raise UserError(f"{what}; known: {_known_layouts()}.")
    named = {key: value for key, value in values.items() if key not in bert.NOT_OF_NETWORK}
    return AutoConfig.for_model(kind, **named)


def _without_prefix(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """BERT's weights by the names that they have within it."""
    return tensors if bert.WORDS in tensors else part_of(tensors, "bert.")


def _is_bert(tensors: Mapping[str, Tensor]) -> bool:
    return any(name.removeprefix("bert.") == bert.WORDS for name in tensors)


def _is_plain_bert(name: str) -> bool:
    """Whether a hub id is of a BERT; the other towers of open_clip have settings that weights do not show."""
    lowered = name.lower()
    return "bert" in lowered and "roberta" not in lowered


def _known_layouts() -> str:
    return "transformers encoders, " + ", ".join(layout.value for layout in Layout if layout != Layout.TRANSFORMERS)


def _stated_config(folder: Path | None) -> dict[str, Any]:
    if folder is None:
        return {}
    if not (folder / CONFIG).is_file():
        raise UserError(f"--base-config {folder} has no {CONFIG}; name the folder of the network built upon.")
    return read_mapping(folder / CONFIG)


def _tokenizer_folder(found: Found, base_config: Path | None) -> Path:
    """Where the tokenizer lies: with the weights, or with the network that they were made from.

    Raises:
        UserError: nowhere.
    """
    for folder in (found.folder, base_config):
        if folder is not None and has_tokenizer(folder):
            return folder
    where = f"{found.folder} and {base_config} have" if base_config else f"{found.folder} has"
    made = "Bio_ClinicalBERT" if found.layout is Layout.MEDCLIP else "the network that it was made from"
    raise UserError(
        f"{where} no tokenizer ({', '.join(TOKENIZER_FILES[:3])}); name the folder of {made} with --base-config."
    )


def _copy_tokenizer(source: Path, out: Path, kind: str) -> None:
    """Copy the files of a tokenizer, without the names of code that would have to be run."""
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

    for name in (*TOKENIZER_FILES, "special_tokens_map.json", "added_tokens.json"):
        if (source / name).is_file():
            shutil.copyfile(source / name, out / name)
    path = source / TOKENIZER_CONFIG
    values = read_mapping(path) if path.is_file() else {}
    values.pop("auto_map", None)
    if tokenizer_class_from_name(str(values.get("tokenizer_class"))) is None:
        values.pop("tokenizer_class", None)
        values |= {"tokenizer_class": TOKENIZER_CLASSES[kind]} if kind in TOKENIZER_CLASSES else {}
    (out / TOKENIZER_CONFIG).write_text(json.dumps(values), encoding="utf-8")


@contextmanager
def _named(found: Found) -> Iterator[None]:
    """Names the folder in what is wrong with its content."""
    try:
        yield
    except UserError as error:
        if str(found.folder) in str(error):
            raise
        raise UserError(f"{found.folder}: {error}") from error
    except LOAD_ERRORS as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{found.folder} cannot be converted from the layout of {found.layout.value} ({reason}): weights and"
            " settings do not belong together; fetch the complete folder again."
        ) from error
