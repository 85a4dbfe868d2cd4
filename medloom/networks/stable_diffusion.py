"""diffusers' U-Net behind the Denoiser contract: for Stable Diffusion weights and presets that open there."""

from typing import Any

import torch
from torch import Tensor, nn


class StableDiffusionUNet(nn.Module):
    """Adapts `diffusers.UNet2DConditionModel`: context by cross-attention, a spatial condition on channels.

    It has no slot for a pooled vector, and like Stable Diffusion's pipeline it does not mask padding.
    """

    def __init__(self, unet: Any) -> None:
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
        place: Tensor | None = None,
    ) -> Tensor:
        """See Denoiser. `context_mask`, `pooled` and `place` must be None."""
        if context_mask is not None or pooled is not None or place is not None:
            raise ValueError("Stable Diffusion's U-Net takes no context mask, no pooled vector and no place of a patch")
        if spatial is not None:
            x = torch.cat([x, spatial], dim=1)
        return self.unet(x, t, encoder_hidden_states=context, return_dict=False)[0]


def make_unet(
    channels: int, widths: tuple[int, ...], depth: int, context: int, size: int, head_width: int = 64, prior: int = 0
) -> Any:
    """A fresh `diffusers.UNet2DConditionModel`: attention in all but the last resolution, as in Stable Diffusion.

    Args:
        channels: of the latent.
        widths: feature channels of each resolution.
        depth: residual blocks a resolution.
        context: width of the text tokens.
        size: latent pixels of an axis.
        head_width: channels of an attention head.
        prior: channels of an earlier image's latent beside it.
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
        # In this class the argument is the number of heads of each resolution.
        attention_head_dim=tuple(max(1, width // head_width) for width in widths),
        norm_num_groups=min(32, min(widths) // 4),
    )


def add_lora(unet: Any, rank: int) -> None:
    """Freeze a U-Net and put trainable low-rank updates (Hu et al. 2021) beside its attention projections."""
    from peft import LoraConfig

    unet.requires_grad_(False)
    config = LoraConfig(
        r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=["to_q", "to_k", "to_v", "to_out.0"]
    )
    unet.add_adapter(config)


def fuse_lora(unet: Any) -> Any:
    """A copy of the U-Net with its low-rank updates added into the weights, as plain diffusers weights."""
    from copy import deepcopy

    fused = deepcopy(unet)
    fused.fuse_lora()
    fused.unload_lora()
    return fused
