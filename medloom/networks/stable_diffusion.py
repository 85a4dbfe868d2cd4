"""diffusers' U-Net with the Denoiser contract: for Stable Diffusion weights and exportable presets."""

from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


class StableDiffusionUNet(nn.Module):
    """Adapts `diffusers.UNet2DConditionModel`: context by cross-attention, a spatial condition on channels.

    It takes no pooled vector and, like Stable Diffusion's pipeline, does not mask padding.
    """

    def __init__(self, unet: "UNet2DConditionModel") -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        pooled: Tensor | None = None,
        spatial: Tensor | None = None,
        position: Tensor | None = None,
    ) -> Tensor:
        """See Denoiser. `context_mask`, `pooled` and `position` must be None."""
        if context_mask is not None or pooled is not None or position is not None:
            raise ValueError("Stable Diffusion's U-Net takes no context mask, pooled vector or position of a patch")
        joined = x if spatial is None else torch.cat([x, spatial], dim=1)
        prediction: Tensor = self.unet(joined, t, encoder_hidden_states=context, return_dict=False)[0]
        return prediction


def make_unet(
    channels: int, widths: tuple[int, ...], depth: int, context: int, size: int, head_width: int = 64, prior: int = 0
) -> "UNet2DConditionModel":
    """Create a U-Net with fresh weights and attention in all but the last resolution, as in Stable Diffusion.

    Args:
        channels: of the latent.
        widths: feature channels per resolution.
        depth: residual blocks per resolution.
        context: width of the text tokens.
        size: latent pixels per axis.
        head_width: channels of an attention head.
        prior: channels of the prior image's latent, joined to the input.
    """
    from diffusers import UNet2DConditionModel

    levels = len(widths)
    return UNet2DConditionModel(
        sample_size=size,
        in_channels=channels + prior,
        out_channels=channels,
        block_out_channels=widths,
        layers_per_block=depth,
        down_block_types=("CrossAttnDownBlock2D",) * (levels - 1) + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (levels - 1),
        cross_attention_dim=context,
        # Despite its name the argument is the number of heads per resolution.
        attention_head_dim=tuple(max(1, width // head_width) for width in widths),
        norm_num_groups=min(32, min(widths) // 4),
    )


def add_lora(unet: "UNet2DConditionModel", rank: int) -> None:
    """Freeze a U-Net and add trainable low-rank updates (LoRA, Hu et al. 2021) to its attention projections."""
    from peft import LoraConfig

    unet.requires_grad_(False)
    config = LoraConfig(
        r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=["to_q", "to_k", "to_v", "to_out.0"]
    )
    unet.add_adapter(config)


def fuse_lora(unet: "UNet2DConditionModel") -> "UNet2DConditionModel":
    """A copy of the U-Net with its low-rank updates merged into plain diffusers weights."""
    fused = deepcopy(unet)
    fused.fuse_lora()
    fused.unload_lora()
    return fused


def save_lora(unet: "UNet2DConditionModel", folder: Path) -> None:
    """Write a U-Net's low-rank updates alone, in diffusers' format: `pytorch_lora_weights.safetensors`."""
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import get_peft_model_state_dict

    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=layers, safe_serialization=True)
