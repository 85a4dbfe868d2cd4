"""BERT encoders as they are published alone, in MedCLIP and as cxr-bert."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from medloom.core.errors import UserError
from medloom.networks.text_pooling import FIRST, MEAN, Layer, Pooling, PoolingConfig, build_pooling
from medloom.networks.weights_import.tensors import part_of

if TYPE_CHECKING:
    from transformers import BertConfig

WORDS = "embeddings.word_embeddings.weight"
# As in every published BERT.
HEAD_WIDTH = 64
# Hidden states that MedCLIP averages (Wang et al. 2022, MedCLIPTextModel.forward).
MEDCLIP_LAYERS = (1, 2, -1)
# Entries of config.json that are not the network's shape: weights are read in full precision and without code.
NOT_OF_NETWORK = ("model_type", "auto_map", "architectures", "torch_dtype", "dtype", "transformers_version")
HEAD = "cls_projection_head."


def bert_config(tensors: Mapping[str, Tensor], stated: Mapping[str, Any]) -> "BertConfig":
    """The configuration of a BERT encoder.

    Args:
        tensors: its weights, without a prefix.
        stated: values of a config.json; sizes that it does not state are those of the weights.

    Raises:
        UserError: weights of no BERT, or of other sizes than stated.
    """
    from transformers import BertConfig

    words = tensors.get(WORDS)
    if words is None:
        raise UserError(f"the weights are of no BERT (no {WORDS}); give its config.json with --base-config.")
    layers = {int(found[1]) for name in tensors if (found := re.match(r"encoder\.layer\.(\d+)\.", name))}
    measured = {
        "vocab_size": words.shape[0],
        "hidden_size": words.shape[1],
        "num_hidden_layers": 1 + max(layers, default=-1),
        "intermediate_size": tensors["encoder.layer.0.intermediate.dense.weight"].shape[0] if layers else 0,
        "max_position_embeddings": tensors["embeddings.position_embeddings.weight"].shape[0],
        "type_vocab_size": tensors["embeddings.token_type_embeddings.weight"].shape[0],
    }
    heads = {"num_attention_heads": max(1, words.shape[1] // HEAD_WIDTH)}
    known = {name: value for name, value in stated.items() if name not in NOT_OF_NETWORK}
    for name, value in measured.items():
        if known.get(name, value) != value:
            raise UserError(f"config.json states {name} {known[name]}, and the weights have {value}; give their own.")
    return BertConfig(**{**heads, **known, **measured})


def medclip_pooling(tensors: Mapping[str, Tensor]) -> Pooling:
    """MedCLIP's pooling: the mean over tokens and three layers, projected.

    Raises:
        UserError: the weights have no projection.
    """
    weights = part_of(tensors, "text_model.projection_head.")
    if "weight" not in weights:
        raise UserError("the weights of MedCLIP have no text_model.projection_head.weight; fetch the complete file.")
    outputs, inputs = weights["weight"].shape
    layer = Layer("linear", inputs, outputs, "bias" in weights)
    return build_pooling(PoolingConfig(MEAN, outputs, MEDCLIP_LAYERS, (layer,)), [weights])


def cxr_bert_pooling(tensors: Mapping[str, Tensor]) -> Pooling | None:
    """cxr-bert's pooling: the first token, projected (Boecking et al. 2022); None where weights have no projection."""
    head = part_of(tensors, HEAD)
    if not head:
        return None
    hidden, norm, output = (part_of(head, f"{name}.") for name in ("dense_to_hidden", "LayerNorm", "dense_to_output"))
    width, inputs = hidden["weight"].shape
    layers = (
        Layer("linear", inputs, width, bias=True),
        Layer("gelu"),
        Layer("norm", width, width, epsilon=1e-12),
        Layer("linear", width, width, bias=True),
    )
    return build_pooling(PoolingConfig(FIRST, width, head=layers), [hidden, {}, norm, output])
