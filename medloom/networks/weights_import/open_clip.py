"""Text towers of open_clip: a BERT with a projection, or open_clip's own transformer, which is CLIP's."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from medloom.core.errors import UserError
from medloom.networks.text_pooling import FIRST, MEAN, POOLER, Layer, Pooling, PoolingConfig, build_pooling
from medloom.networks.weights_import.tensors import part_of

if TYPE_CHECKING:
    from transformers import CLIPTextConfig

TOWER = "text."
# open_clip's name of a pooler -> ours.
POOLERS = {
    "cls_pooler": POOLER,
    "cls_last_hidden_state_pooler": FIRST,
    "mean_pooler": MEAN,
}
# What CLIP's text model does not have: setting of `text_cfg` -> the value that it may have.
PLAIN = {
    "embed_cls": False,
    "no_causal_mask": False,
    "pool_type": "argmax",
    "proj_bias": False,
    "ls_init_value": None,
    "proj_type": "linear",
}
BLOCKS = "transformer.resblocks."
EPSILON = 1e-5


def text_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the text tower in open_clip_config.json.

    Raises:
        UserError: it has none.
    """
    model = config.get("model_cfg", config)
    settings = model.get("text_cfg") if isinstance(model, Mapping) else None
    if not isinstance(settings, dict):
        raise UserError("open_clip_config.json has no model_cfg with a text_cfg; fetch it again.")
    return settings


def hub_pooling(tensors: Mapping[str, Tensor], settings: Mapping[str, Any], kind: str) -> Pooling:
    """The pooling of a tower that is a transformers model (open_clip's HFTextEncoder).

    Args:
        tensors: all weights of the file.
        settings: of the tower.
        kind: the type of the transformers model, which decides where no pooler is named.

    Raises:
        UserError: a pooler of another kind.
    """
    usual = "cls_pooler" if kind == "bert" else "mean_pooler"
    name = settings.get("hf_pooler_type") or settings.get("pooler_type") or usual
    if name not in POOLERS:
        raise UserError(f"the pooler {name!r} of open_clip_config.json is not known; known: {', '.join(POOLERS)}.")
    weights = part_of(tensors, f"{TOWER}proj.")
    # A linear projection is `proj.weight`; an MLP `proj.0`, GELU, `proj.2`.
    numbers = [""] if "weight" in weights else sorted({f"{name.split('.')[0]}." for name in weights})
    linear = [part_of(weights, number) for number in numbers if weights]
    layers: list[Layer] = []
    parts: list[Mapping[str, Tensor]] = []
    for part in linear:
        if layers:
            layers.append(Layer("gelu"))
            parts.append({})
        outputs, inputs = part["weight"].shape
        layers.append(Layer("linear", inputs, outputs, "bias" in part))
        parts.append(part)
    words = tensors[f"{TOWER}transformer.embeddings.word_embeddings.weight"]
    width = layers[-1].outputs if layers else int(words.shape[1])
    config = PoolingConfig(POOLERS[name], width, (), tuple(layers), settings.get("context_length"))
    return build_pooling(config, parts)


def own_tower(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of open_clip's own text tower, without the prefix that newer files have."""
    return part_of(tensors, TOWER) if f"{TOWER}token_embedding.weight" in tensors else dict(tensors)


def require_plain(settings: Mapping[str, Any]) -> None:
    """Refuse a tower that CLIP's text model cannot represent.

    Raises:
        UserError: names the setting.
    """
    for name, value in PLAIN.items():
        if settings.get(name, value) != value:
            raise UserError(
                f"{name} {settings[name]!r} in text_cfg of open_clip_config.json is not CLIP's text model, and cannot"
                f" be converted; allowed: {value!r}."
            )


def clip_config(tower: Mapping[str, Tensor], settings: Mapping[str, Any], quick_gelu: bool) -> "CLIPTextConfig":
    """The transformers configuration of open_clip's own tower.

    Args:
        tower: its weights.
        settings: of the tower.
        quick_gelu: whether the model was trained with OpenAI's approximation of GELU.

    Raises:
        UserError: the weights are of another network.
    """
    from transformers import CLIPTextConfig

    if missing := {"token_embedding.weight", "positional_embedding", "ln_final.weight"} - set(tower):
        raise UserError(f"the weights are of no text tower of open_clip (no {sorted(missing)[0]}); fetch them again.")
    vocabulary, width = tower["token_embedding.weight"].shape
    layers = 1 + max(int(found[1]) for name in tower if (found := re.match(rf"{re.escape(BLOCKS)}(\d+)\.", name)))
    projection = tower.get("text_projection")
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=tower[f"{BLOCKS}0.mlp.c_fc.weight"].shape[0],
        num_hidden_layers=layers,
        num_attention_heads=int(settings.get("heads", max(1, width // 64))),
        max_position_embeddings=tower["positional_embedding"].shape[0],
        hidden_act="quick_gelu" if quick_gelu else "gelu",
        layer_norm_eps=EPSILON,
        projection_dim=width if projection is None else projection.shape[1],
        # open_clip pools at the largest id, which ends every text; the start comes before it.
        eos_token_id=vocabulary - 1,
        bos_token_id=vocabulary - 2,
    )


def clip_weights(tower: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of open_clip's own tower by the names of transformers' CLIPTextModel."""
    state = {
        "embeddings.token_embedding.weight": tower["token_embedding.weight"],
        "embeddings.position_embedding.weight": tower["positional_embedding"],
        "final_layer_norm.weight": tower["ln_final.weight"],
        "final_layer_norm.bias": tower["ln_final.bias"],
    }
    names = {
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
        "attn.out_proj": "self_attn.out_proj",
    }
    for name, tensor in part_of(tower, BLOCKS).items():
        number, _, inner = name.partition(".")
        target = f"encoder.layers.{number}."
        stem, _, kind = inner.rpartition(".")
        if stem in names:
            state[f"{target}{names[stem]}.{kind}"] = tensor
        elif inner in ("attn.in_proj_weight", "attn.in_proj_bias"):
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                state[f"{target}self_attn.{letter}_proj.{inner.removeprefix('attn.in_proj_')}"] = part.contiguous()
    return state


def clip_pooling(tower: Mapping[str, Tensor], context: int | None) -> Pooling | None:
    """The projection of open_clip's own tower behind the end token; None where it has none."""
    projection = tower.get("text_projection")
    if projection is None:
        return None
    inputs, outputs = projection.shape
    config = PoolingConfig(POOLER, outputs, (), (Layer("linear", inputs, outputs),), context)
    return build_pooling(config, [{"weight": projection.T}])
