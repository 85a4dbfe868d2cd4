"""Options of the autoencoder: its shape, and what it is trained to keep."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from medloom.core.choices import QUANTIZERS, SCALARS
from medloom.core.errors import UserError
from medloom.core.limits import check_limits, limited
from medloom.core.options import setting
from medloom.generators.options import TrainOptions

KL, VQ = "kl", "vq"
KINDS = (KL, VQ)
ERRORS = ("l1", "l2")
NORMS = ("spectral", "group")


@dataclass(frozen=True)
class AutoencoderOptions:
    """The autoencoder and its losses.

    Attributes:
        widths: feature channels of each resolution; each after the first halves the image.
        latent_channels: channels of a latent.
        depth: residual blocks a resolution.
        error: of reconstruction: l1 or l2, mean over an image's values.
        kl_weight: weight of the divergence from a standard normal distribution, in nats per value of the image.
        quantizer: of vq: ema (codes are averages of the latents that take them), gradient, or fsq (a grid of rounded
            values, nothing to learn).
        codes: of vq: size of the codebook; of fsq it is the product of the levels.
        code_width: of vq: channels of a code; few of them keep all codes in use.
        levels: of fsq: values of each channel of a code.
        quantizer_weight: of vq: weight of the quantizer's loss, which keeps latents near their codes.
        perceptual: none, discriminator (its features), or a transformers vision model: a folder, or hf:ORG/NAME.
        perceptual_weight: weight of the perceptual distance.
        adversarial_weight: weight of the adversarial loss; 0 for none.
        adversarial_start: step from which the autoencoder is trained against the discriminator and its features (the
            discriminator itself learns from the first step).
        adaptive: scale the adversarial loss so that its gradient is as large as that of the other losses.
        discriminator_width: feature channels of its first layer.
        discriminator_layers: layers of it that halve the image; 3 judge patches of 70 pixels, 2 of 34.
        discriminator_norm: spectral or group.
        discriminator_every: steps between two of the discriminator.
    """

    widths: tuple[int, ...] = setting((32, 64, 128))
    latent_channels: int = limited(4, at_least=1, setting=True)
    depth: int = limited(1, at_least=1, setting=True)
    error: str = limited("l1", words=ERRORS, setting=True)
    kl_weight: float = limited(1e-6, at_least=0, setting=True)
    quantizer: str = limited("ema", words=QUANTIZERS)
    codes: int = limited(1024, at_least=2, setting=True)
    code_width: int = limited(8, at_least=1, setting=True)
    levels: tuple[int, ...] = limited((8, 5, 5, 5), at_least=2, setting=True)
    quantizer_weight: float = limited(1.0, at_least=0, setting=True)
    perceptual: str = "discriminator"
    perceptual_weight: float = limited(0.5, at_least=0, setting=True)
    adversarial_weight: float = limited(0.1, at_least=0, setting=True)
    adversarial_start: int = limited(1000, at_least=0, setting=True)
    adaptive: bool = setting(True)
    discriminator_width: int = limited(32, at_least=1, setting=True)
    discriminator_layers: int = limited(3, at_least=1, setting=True)
    discriminator_norm: str = limited("spectral", words=NORMS, setting=True)
    discriminator_every: int = limited(1, at_least=1, setting=True)

    def __post_init__(self) -> None:
        check_limits(self, "autoencoder")
        if not self.levels:
            raise UserError("the setting autoencoder.levels: give 2 or more for each channel.")
        groups = min(32, min(self.widths, default=0) // 4)
        if not groups or any(width % groups for width in self.widths):
            raise UserError(
                f"the setting autoencoder.widths is {' '.join(map(str, self.widths))}: give one or more widths of at"
                f" least 4 channels, all of them multiples of {groups or 1} (a group norm's groups)."
            )

    @property
    def codebook(self) -> tuple[int, int]:
        """Codes and channels of a code."""
        if self.quantizer == SCALARS:
            return math.prod(self.levels), len(self.levels)
        return self.codes, self.code_width

    @property
    def needs_discriminator(self) -> bool:
        """Whether any loss uses the discriminator."""
        return self.adversarial_weight > 0 or self.uses_features

    @property
    def uses_features(self) -> bool:
        """Whether the perceptual distance is that of the discriminator's features."""
        return self.perceptual == "discriminator" and self.perceptual_weight > 0


@dataclass(frozen=True, kw_only=True)
class EncodeImages(TrainOptions):
    """Train an image autoencoder: for latent diffusion, or, with --kind vq, the tokenizer of a token generator.

    Attributes:
        data: manifest with path and modality; texts are not needed.
        preset: a published system's settings: stable-diffusion, raygen.
        kind: kl (latents are a normal distribution, as in Stable Diffusion), or vq (latents are tokens of a codebook).
        base: diffusers folder with an AutoencoderKL (in vae/, or itself) to start from, or of vq with a VQModel (in
            vq/, vqvae/, or itself); it brings its own shape.
        from_run: run of this command to continue (`--from`), with other images or those of another size; it brings
            its own shape, and CT its own window unless another one is named.
        autoencoder: the autoencoder and its losses.
    """

    family: ClassVar[str] = "autoencoder"
    task: ClassVar[str] = "autoencoder"
    settings: ClassVar[str] = "medloom.generators.settings.autoencoder"
    example: ClassVar[str] = "medloom train autoencoder --kind vq --data train.csv --out runs/vq"
    common: ClassVar[tuple[str, ...]] = (
        "kind", "size", "preset", "base", "from_run", "image_size", "autoencoder.quantizer",
        "autoencoder.perceptual", "columns", "images_are_patients", "skip_bad", "loop.steps", "loop.batch", "device",
        "dry_run",
    )  # fmt: skip

    kind: str = KL
    base: Path | None = None
    from_run: Path | None = None
    autoencoder: AutoencoderOptions = field(default_factory=AutoencoderOptions)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"--kind {self.kind}: allowed are {', '.join(KINDS)}.")

    @property
    def use(self) -> str:  # type: ignore[override]
        """The command that uses the run."""
        if self.kind == VQ:
            return "medloom train tokens --tokenizer {} --data MANIFEST --out RUN"
        return "medloom train text2image --autoencoder {} --data MANIFEST --out RUN"
