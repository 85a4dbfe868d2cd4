"""Training an autoencoder: the Task that the loop sees, with a phase for it and one for its discriminator."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medloom.core.seeds import torch_generator
from medloom.core.spec import ImageSpec
from medloom.core.types import Batch, Phase
from medloom.generators.autoencoder.losses import AutoencoderLosses, divergence
from medloom.generators.autoencoder.quality import (
    ALL,
    Autoencoder,
    ImageData,
    codes_used,
    perplexity,
    reconstruction_quality,
    save_comparison,
)
from medloom.generators.autoencoder.storage import latent_scale, save_autoencoder, save_tokenizer
from medloom.generators.training_data import RowOrder
from medloom.networks.autoencoder import KLAutoencoder
from medloom.networks.tokenizer import Tokenizer
from medloom.training.options import LoopOptions

VALIDATION_IMAGES = 256
DISCRIMINATOR_BETAS = (0.5, 0.9)


@dataclass(frozen=True, eq=False)
class AutoencoderBatch(Batch):
    """Images with the noise of their posteriors, `(N, C', *latent)`; of tokens it is empty."""

    noise: Tensor


class Reconstructor(nn.Module):
    """A KL autoencoder as training calls it: images and posterior noise in, reconstructions and the divergence out."""

    def __init__(self, autoencoder: KLAutoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Images `(N, C, *size)` and noise `(N, C', *latent)` to images, float32, and `kl`."""
        moments = self.autoencoder.moments(images).float()
        reconstructions = self.autoencoder.decode(self.autoencoder.sample(moments, noise)).float()
        return reconstructions, {"kl": divergence(moments, images.numel())}

    def noise_shape(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Of the noise of one image."""
        return self.autoencoder.latent_shape(size)

    def update(self, step: int, seed: int) -> None:
        """Nothing changes between steps."""

    def save(self, folder: Path, data: ImageData, spec: ImageSpec, seed: int, device: torch.device) -> None:
        """Write `vae/`, its scale measured on training images, and autoencoder.json."""
        save_autoencoder(self.autoencoder, spec, latent_scale(self.autoencoder, data, seed, device), folder)


class TokenReconstructor(nn.Module):
    """A tokenizer as training calls it: images in, reconstructions and the quantizer's cost out."""

    def __init__(self, autoencoder: Tokenizer) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Images `(N, C, *size)` to images, float32, `quantizer`, and the tokens' perplexity; noise is not used."""
        reconstructions, tokens, cost = self.autoencoder(images)
        shares = torch.bincount(tokens.flatten(), minlength=self.autoencoder.codes) / tokens.numel()
        return reconstructions.float(), {"quantizer": cost, "perplexity": perplexity(shares)}

    def noise_shape(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """None is drawn."""
        return (0,)

    def update(self, step: int, seed: int) -> None:
        """Move the codes."""
        self.autoencoder.quantizer.update(step, seed)

    def save(self, folder: Path, data: ImageData, spec: ImageSpec, seed: int, device: torch.device) -> None:
        """Write `vq/` and autoencoder.json."""
        save_tokenizer(self.autoencoder, spec, folder)


class AutoencoderTask:
    """Reconstruction through a noisy bottleneck, against a discriminator.

    Data order and posterior noise are functions of (run seed, step, row).

    Attributes:
        module: what is trained and averaged; holds the autoencoder.
        losses: of both phases; holds the discriminator.
        data: the training rows; validation: the validation rows.
        examples: the fixed images `(K, C, *size)` that are drawn at each validation.
        spec: the images' space.
        options: of the loop.
        device: where batches go.
    """

    prefetches = True

    def __init__(
        self,
        autoencoder: Autoencoder,
        losses: AutoencoderLosses,
        data: ImageData,
        validation: ImageData,
        examples: NDArray[np.float32],
        spec: ImageSpec,
        options: LoopOptions,
        device: torch.device,
    ) -> None:
        self.module: Reconstructor | TokenReconstructor
        if isinstance(autoencoder, KLAutoencoder):
            self.module = Reconstructor(autoencoder)
        else:
            self.module = TokenReconstructor(autoencoder)
        self.losses = losses
        self.data = data
        self.validation = validation
        self.examples = examples
        self.spec = spec
        self.options = options
        self.device = device
        self.order = RowOrder(options.seed, data.usable, options.batch)
        self._noise_shape = self.module.noise_shape(spec.size)
        self._reconstructed: dict[tuple[int, ...], Tensor] = {}
        self.module.train()

    def phases(self) -> Sequence[Phase[AutoencoderBatch]]:
        """The autoencoder's, then the discriminator's, where a loss uses one."""
        rate, decay = self.options.learning_rate, self.options.weight_decay
        phases = [Phase("autoencoder", self.module, self._autoencoder_loss, rate, weight_decay=decay)]
        if self.losses.discriminator is not None:
            every = self.losses.options.discriminator_every
            judging = Phase(
                "discriminator",
                self.losses.discriminator,
                self._discriminator_loss,
                rate,
                every,
                DISCRIMINATOR_BETAS,
                weight_decay=0.0,
            )
            phases.append(judging)
        return phases

    def ema(self) -> nn.Module:
        """The autoencoder."""
        return self.module

    def after_step(self, step: int) -> None:
        """Forget the step's reconstructions, and move the codes of a codebook."""
        self._reconstructed.clear()
        self.module.update(step, self.options.seed)

    def state(self) -> Mapping[str, Tensor]:
        """No state beyond the weights."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """No state beyond the weights."""

    def save_model(self, folder: Path) -> None:
        """Write the autoencoder and autoencoder.json."""
        self.module.eval()
        self.module.save(folder, self.data, self.spec, self.options.seed, self.device)
        self.module.train()

    def batches(self, first_step: int, rank: int, processes: int) -> Iterator[Sequence[AutoencoderBatch]]:
        """This process's micro-batches of each step: its share of the step's rows, in order."""
        for step in count(first_step):
            parts = self.order.micro_batches(step, rank, processes, self.options.accumulate)
            yield [self.batch(part, step) for part, _ in parts]

    def batch(self, rows: Sequence[int], step: int) -> AutoencoderBatch:
        """Training images of some rows with their posterior noise."""
        images = torch.from_numpy(self.data.take(rows))
        generators = [torch_generator(self.options.seed, "row", step, row) for row in rows]
        noise = torch.stack([torch.randn(self._noise_shape, generator=generator) for generator in generators])
        pixels, noise = (tensor.to(self.device, non_blocking=True) for tensor in (images, noise))
        return AutoencoderBatch(pixels, tuple(rows), step, noise)

    def _autoencoder_loss(self, module: nn.Module, batch: AutoencoderBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        reconstructions, latents = module(batch.images, batch.noise)
        # The discriminator's phase follows in the same step and judges the same images.
        self._reconstructed[batch.rows] = reconstructions.detach()
        return self.losses.autoencoder(reconstructions, latents, batch.images, batch.step)

    def _discriminator_loss(self, module: nn.Module, batch: AutoencoderBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        return self.losses.judge(module, batch.images, self._reconstructed[batch.rows])

    def validate(self, out: Path, step: int) -> Mapping[str, float]:
        """PSNR, SSIM and mean absolute difference of held-out rows by modality; the fixed images drawn to `out`.

        The loss is the mean absolute difference of values from 0 to 1. Of tokens also the share of codes that are used.
        """
        autoencoder = self.module.eval().autoencoder
        save_comparison(out / f"step-{step:08d}.png", autoencoder, self.examples, self.device, f"after {step} steps")
        figures = self._figures() if len(self.validation) else {}
        self.module.train()
        return figures

    def _figures(self) -> dict[str, float]:
        rows = self.validation.spread(VALIDATION_IMAGES)
        quality = reconstruction_quality(self.module.autoencoder, self.validation, rows, self.device)
        figures = {
            f"validation/{name}/{modality}": getattr(entry, name)
            for modality, entry in quality.items()
            for name in ("psnr", "ssim", "l1")
        }
        autoencoder = self.module.autoencoder
        if isinstance(autoencoder, Tokenizer):
            used = codes_used(autoencoder, self.validation, rows, self.device)
            figures |= {f"validation/{name}": value for name, value in used.items()}
        return {"validation/loss": quality[ALL].l1, **figures}
