"""A tiny Stable Diffusion folder with real classes and random weights, as a user would have a large one."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

from medloom.core.seeds import initial_weights
from medloom.networks.text import make_text_model, train_tokenizer

# A training on such a folder that takes a second.
OPTIONS = {
    "image_size": [16],
    "validation": 0.2,
    "text.max_tokens": 24,
    "loop.precision": "fp32",
    "loop.batch": 4,
    "loop.steps": 2,
    "loop.warmup": 0,
    "loop.learning_rate": 1e-3,
    "loop.log_every": 1,
    "loop.validate_every": 2,
    "loop.checkpoint_every": 2,
    "device": "cpu",
}


def make_stable_diffusion(
    folder: Path, prediction: str = "epsilon", widths: tuple[int, ...] = (16, 32), tokens: int = 24
) -> Path:
    """Write the folder; its autoencoder takes three channels and halves images at each width after the first."""
    with initial_weights(1), torch.no_grad():
        tokenizer = train_tokenizer(["a disc on the left", "a square on the right"], 600, tokens)
        text = make_text_model(tokenizer, 32, 1, tokens)
        vae = AutoencoderKL(
            block_out_channels=widths,
            down_block_types=("DownEncoderBlock2D",) * len(widths),
            up_block_types=("UpDecoderBlock2D",) * len(widths),
            latent_channels=4,
            norm_num_groups=8,
        )
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(32, 32),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=32,
            attention_head_dim=2,
            norm_num_groups=8,
        )
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction, steps_offset=1
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder
