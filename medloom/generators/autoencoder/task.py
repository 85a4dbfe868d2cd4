"""Training an autoencoder: the Task that the loop sees, with a phase for it and one for its discriminator."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medloom.core.seeds import torch_generator
from medloom.core.spec import ImageSpec
from medloom.core.types import Batch, Condition, Phase
from medloom.generators.autoencoder.losses import AutoencoderLosses
from medloom.generators.autoencoder.quality import ALL, ImageData, reconstruction_quality, save_comparison
from medloom.generators.autoencoder.storage import latent_scale, save_autoencoder
from medloom.generators.row_order import RowOrder
from medloom.networks.autoencoder import KLAutoencoder
from medloom.training.options import LoopOptions

VALIDATION_IMAGES = 256
DISCRIMINATOR_BETAS = (0.5, 0.9)


class Reconstructor(nn.Module):
    """An autoencoder as training calls it: images and posterior noise in, reconstructions and moments out."""

    def __init__(self, autoencoder: KLAutoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Images `(N, C, *size)` and noise `(N, C', *latent)` to images and moments `(N, 2 C', *latent)`, float32."""
        moments = self.autoencoder.moments(images).float()
        return self.autoencoder.decode(self.autoencoder.sample(moments, noise)).float(), moments


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

    def __init__(
        self,
        autoencoder: KLAutoencoder,
        losses: AutoencoderLosses,
        data: ImageData,
        validation: ImageData,
        examples: NDArray[np.float32],
        spec: ImageSpec,
        options: LoopOptions,
        device: torch.device,
    ) -> None:
        self.module = Reconstructor(autoencoder)
        self.losses = losses
        self.data = data
        self.validation = validation
        self.examples = examples
        self.spec = spec
        self.options = options
        self.device = device
        self.order = RowOrder(options.seed, len(data), options.batch)
        self._latent_shape = autoencoder.latent_shape(spec.size)
        self._reconstructed: dict[tuple[int, ...], Tensor] = {}
        self.module.train()

    def phases(self) -> Sequence[Phase]:
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
        """Forget the step's reconstructions."""
        self._reconstructed.clear()

    def state(self) -> Mapping[str, Tensor]:
        """No state beyond the weights."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """No state beyond the weights."""

    def save_model(self, folder: Path) -> None:
        """Write `vae/`, its scale measured on training images, and autoencoder.json."""
        autoencoder = self.module.autoencoder
        self.module.eval()
        scale = latent_scale(autoencoder, self.data, self.options.seed, self.device)
        self.module.train()
        save_autoencoder(autoencoder, self.spec, scale, folder)

    def batches(self, first_step: int, rank: int, processes: int) -> Iterator[Sequence[Batch]]:
        """This process's micro-batches of each step: its share of the step's rows, in order."""
        for step in count(first_step):
            parts = self.order.micro_batches(step, rank, processes, self.options.accumulate)
            yield [self.batch([self.data.usable[place] for place in part], step) for part in parts]

    def batch(self, rows: Sequence[int], step: int) -> Batch:
        """Training images of some rows with their posterior noise."""
        images = torch.from_numpy(self.data.take(rows))
        generators = [torch_generator(self.options.seed, "row", step, row) for row in rows]
        noise = torch.stack([torch.randn(self._latent_shape, generator=generator) for generator in generators])
        conditions = tuple(Condition(modality=self.data.modalities[row]) for row in rows)
        extra = {"noise": noise.to(self.device, non_blocking=True)}
        return Batch(images.to(self.device, non_blocking=True), tuple(rows), conditions, step, extra)

    def _autoencoder_loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        reconstructions, moments = module(batch.images, batch.extra["noise"])
        # The discriminator's phase follows in the same step and judges the same images.
        self._reconstructed[batch.rows] = reconstructions.detach()
        return self.losses.autoencoder(reconstructions, moments, batch.images, batch.step)

    def _discriminator_loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        return self.losses.judge(module, batch.images, self._reconstructed[batch.rows])

    def validate(self, out: Path, step: int) -> Mapping[str, float]:
        """PSNR, SSIM and mean absolute difference of held-out rows by modality; the fixed images drawn to `out`.

        The loss is the mean absolute difference of values from 0 to 1.
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
        return {"validation/loss": quality[ALL].l1, **figures}
