"""Weights of a diffusers pipeline by the names of Stable Diffusion's authors, as single-file checkpoints have them."""

import re
from typing import Any

import torch
from torch import Tensor

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


BLOCK = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}


def original_weights(pipeline: Any, version: int = 1) -> dict[str, Tensor]:
    """All weights of a pipeline, as a checkpoint of Stable Diffusion 1.x or 2.x has them."""
    unet = {f"model.diffusion_model.{_unet(name, pipeline.unet)}": tensor for name, tensor in _of(pipeline.unet)}
    levels = len(pipeline.vae.config.block_out_channels)
    vae = dict(_vae(name, tensor, levels) for name, tensor in _of(pipeline.vae))
    text = {
        f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}": tensor
        for name, tensor in _of(pipeline.text_encoder)
    }
    if version == 2:
        text = {f"cond_stage_model.model.{name}": tensor for name, tensor in _open_clip(pipeline.text_encoder).items()}
    whole = {**unet, **{f"first_stage_model.{name}": tensor for name, tensor in vae.items()}, **text}
    return {name: tensor.contiguous().clone() for name, tensor in whole.items()}


def _of(network: Any) -> list[tuple[str, Tensor]]:
    return list(network.state_dict().items())


def _unet(name: str, unet: Any) -> str:
    stem, _, kind = name.rpartition(".")
    if stem in UNET:
        return f"{UNET[stem]}.{kind}"
    depth = unet.config.layers_per_block + 1
    if found := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name):
        number = 1 if found[1] == "attentions" else 2 * int(found[2])
        return f"middle_block.{number}.{_inner(found[1], found[3])}"
    found = re.match(r"(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(.*)", name)
    assert found
    way, block, part, number, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
    if part == "downsamplers":
        return f"input_blocks.{(block + 1) * depth}.0.op.{rest.removeprefix('conv.')}"
    if part == "upsamplers":
        after = 2 if "CrossAttn" in unet.config.up_block_types[block] else 1
        return f"output_blocks.{block * depth + depth - 1}.{after}.{rest}"
    first = f"input_blocks.{1 + block * depth + number}" if way == "down" else f"output_blocks.{block * depth + number}"
    return f"{first}.{int(part == 'attentions')}.{_inner(part, rest)}"


def _inner(part: str, rest: str) -> str:
    stem, _, kind = rest.rpartition(".")
    return f"{RESNET[stem]}.{kind}" if part == "resnets" else rest


def _vae(name: str, tensor: Tensor, levels: int) -> tuple[str, Tensor]:
    if found := re.match(r"(\w+)\.mid_block\.attentions\.0\.(.*)\.(\w+)$", name):
        grown = tensor[:, :, None, None] if tensor.ndim == 2 else tensor
        return f"{found[1]}.mid.attn_1.{ATTENTION[found[2]]}.{found[3]}", grown
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", name)
    name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets", lambda found: f"up.{levels - 1 - int(found[1])}.block", name)
    name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda found: f"up.{levels - 1 - int(found[1])}.upsample", name)
    return name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out"), tensor


def _open_clip(text: Any) -> dict[str, Tensor]:
    """A text encoder by open_clip's names, as version 2 has it."""
    weights = {name.removeprefix("text_model."): tensor for name, tensor in _of(text)}
    width = text.config.hidden_size
    named = {
        "token_embedding.weight": weights["embeddings.token_embedding.weight"],
        "positional_embedding": weights["embeddings.position_embedding.weight"],
        "ln_final.weight": weights["final_layer_norm.weight"],
        "ln_final.bias": weights["final_layer_norm.bias"],
        "text_projection": torch.eye(width),
    }
    for name, tensor in weights.items():
        found = re.match(r"encoder\.layers\.(\d+)\.(.*)\.(weight|bias)$", name)
        if found is None:
            continue
        block = f"transformer.resblocks.{found[1]}."
        if found[2] == "self_attn.q_proj":
            parts = [weights[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            named[f"{block}attn.in_proj_{found[3]}"] = torch.cat(parts)
        elif found[2] == "self_attn.out_proj":
            named[f"{block}attn.out_proj.{found[3]}"] = tensor
        elif found[2] in BLOCK:
            named[f"{block}{BLOCK[found[2]]}.{found[3]}"] = tensor
    return named
