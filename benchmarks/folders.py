"""Stable Diffusion folders with random weights, at any size, for measuring speed."""

from pathlib import Path

from medloom.core.seeds import initial_weights
from medloom.networks.text import make_text_model, train_tokenizer

SIZES = {
    # VAE widths, U-Net widths, residual blocks, text width, text layers: proportions as in Stable Diffusion 1.5.
    "cpu": ((32, 64, 128, 128), (64, 128, 256, 256), 1, 256, 4),
    "sd15": ((128, 256, 512, 512), (320, 640, 1280, 1280), 2, 768, 12),
}


def make_folder(folder: Path, size: str, pixels: int) -> Path:
    """Write the folder; latents are an eighth of the image."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline

    from medloom.networks.stable_diffusion import make_unet

    vae_widths, widths, depth, width, layers = SIZES[size]
    with initial_weights("benchmark"):
        tokenizer = train_tokenizer(["a disc on the left", "a square on the right"], 2000, 77)
        text = make_text_model(tokenizer, width, layers, 77)
        vae = AutoencoderKL(
            block_out_channels=vae_widths,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
            layers_per_block=2 if size == "sd15" else 1,
            norm_num_groups=min(32, vae_widths[0] // 4),
        )
        unet = make_unet(4, widths, depth, width, pixels // 8)
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
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
