"""The standard fine-tuning step of a latent text-to-image or editing model, as well-known example scripts do it.

Each step decodes and transforms the image files, runs the frozen VAE and the frozen text encoder, adds noise, and takes
an AdamW step on the U-Net, with an exponential moving average as published. Arithmetic is float32; the benchmark shows
bfloat16 autocast as a row of its own. Given prior images it is the step of InstructPix2Pix: the VAE encodes both
images, and text, image or both are dropped in 5 % of the rows each.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F


class StandardLoop:
    """Trains the U-Net of a Stable Diffusion folder."""

    def __init__(
        self,
        folder: Path,
        paths: Sequence[Path],
        texts: Sequence[str],
        size: int,
        bf16: bool,
        priors: Sequence[Path] = (),
    ) -> None:
        from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
        from diffusers.training_utils import EMAModel
        from transformers import CLIPTextModel, CLIPTokenizer

        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        self.text = CLIPTextModel.from_pretrained(folder / "text_encoder").to(self.device).requires_grad_(False)
        self.vae = AutoencoderKL.from_pretrained(folder / "vae").to(self.device).requires_grad_(False)
        unet = UNet2DConditionModel.from_pretrained(folder / "unet")
        if priors:
            _widen(unet)
        self.unet = unet.to(self.device).train()
        self.scheduler = DDPMScheduler.from_pretrained(folder / "scheduler")
        self.optimizer = torch.optim.AdamW(self.unet.parameters(), lr=1e-5)
        self.ema = EMAModel(self.unet.parameters())
        self.paths, self.texts, self.size, self.bf16, self.priors = paths, texts, size, bf16, priors

    def _image(self, path: Path) -> torch.Tensor:
        image = Image.open(path).convert("RGB").resize((self.size, self.size), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.asarray(image, np.float32) / 127.5 - 1).permute(2, 0, 1)

    def _tokens(self, texts: Sequence[str]) -> torch.Tensor:
        length = self.text.config.max_position_embeddings
        encoded: Any = self.tokenizer(
            list(texts), max_length=length, padding="max_length", truncation=True, return_tensors="pt"
        )
        ids: torch.Tensor = encoded.input_ids
        return ids

    def _with_priors(
        self, rows: Sequence[int], noisy: torch.Tensor, context: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The prior images' latents beside the noisy ones; text, image or both dropped."""
        pixels = torch.stack([self._image(self.priors[row]) for row in rows]).to(self.device)
        latents = self.vae.encode(pixels).latent_dist.mode()
        chance = torch.rand(len(rows), device=self.device)
        empty = self.text(self._tokens([""]).to(self.device))[0]
        context = torch.where((chance < 0.10).view(-1, 1, 1), empty, context)
        kept = ((chance < 0.05) | (chance >= 0.15)).view(-1, 1, 1, 1)
        return torch.cat([noisy, latents * kept], dim=1), context

    def step(self, rows: Sequence[int]) -> float:
        """One optimiser step; the loss."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            pixels = torch.stack([self._image(self.paths[row]) for row in rows]).to(self.device)
            latents = self.vae.encode(pixels).latent_dist.sample() * self.vae.config.scaling_factor
            noise = torch.randn_like(latents)
            times = torch.randint(0, self.scheduler.config.num_train_timesteps, (len(rows),), device=self.device)
            noisy = self.scheduler.add_noise(latents, noise, times)
            context = self.text(self._tokens([self.texts[row] for row in rows]).to(self.device))[0]
            if self.priors:
                noisy, context = self._with_priors(rows, noisy, context)
            prediction = self.unet(noisy, times, context, return_dict=False)[0]
        loss = F.mse_loss(prediction.float(), noise.float())
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.step(self.unet.parameters())
        return float(loss.detach())


def _widen(unet: Any) -> None:
    """A first convolution for twice the channels, new weights zero."""
    old = unet.conv_in
    wider = torch.nn.Conv2d(2 * old.in_channels, old.out_channels, old.kernel_size, old.stride, old.padding)
    with torch.no_grad():
        wider.weight.zero_()
        wider.weight[:, : old.in_channels] = old.weight
        wider.bias = old.bias
    unet.conv_in = wider
    unet.register_to_config(in_channels=2 * old.in_channels)
