"""Options of the autoencoder: its shape, and what it is trained to keep."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from medloom.core.choices import QUANTIZERS, SCALARS
from medloom.core.errors import UserError
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
        perceptual: none, discriminator (its features), or a folder or hub id of a transformers vision model.
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
    latent_channels: int = setting(4)
    depth: int = setting(1)
    error: str = setting("l1")
    kl_weight: float = setting(1e-6)
    quantizer: str = "ema"
    codes: int = 1024
    code_width: int = setting(8)
    levels: tuple[int, ...] = setting((8, 5, 5, 5))
    quantizer_weight: float = setting(1.0)
    perceptual: str = "discriminator"
    perceptual_weight: float = setting(0.5)
    adversarial_weight: float = setting(0.1)
    adversarial_start: int = setting(1000)
    adaptive: bool = setting(True)
    discriminator_width: int = setting(32)
    discriminator_layers: int = setting(3)
    discriminator_norm: str = setting("spectral")
    discriminator_every: int = setting(1)

    def __post_init__(self) -> None:
        _require("error", self.error, ERRORS)
        _require("discriminator-norm", self.discriminator_norm, NORMS)
        _require("quantizer", self.quantizer, QUANTIZERS)
        if not self.levels or min(self.levels) < 2:
            raise UserError(f"--autoencoder.levels {' '.join(map(str, self.levels))}: give 2 or more for each channel.")
        if self.codes < 2:
            raise UserError(f"--autoencoder.codes {self.codes}: a codebook has 2 or more.")
        judge = ("discriminator_width", "discriminator_layers", "discriminator_every")
        counts = ("code_width", "latent_channels", "depth", *judge)
        for name in counts:
            if getattr(self, name) < 1:
                raise UserError(f"--autoencoder.{_spoken(name)} {getattr(self, name)}: it has to be at least 1.")
        for name in ("kl_weight", "quantizer_weight", "perceptual_weight", "adversarial_weight", "adversarial_start"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UserError(f"--autoencoder.{_spoken(name)} {getattr(self, name)}: it has to be 0 or more.")
        self._check_widths()

    def _check_widths(self) -> None:
        groups = min(32, min(self.widths, default=0) // 4)
        if not groups or any(width % groups for width in self.widths):
            raise UserError(
                f"--autoencoder.widths {' '.join(map(str, self.widths))}: give one or more widths of at least 4"
                f" channels, all of them multiples of {groups or 1} (a group norm's groups)."
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
        "kind", "size", "preset", "base", "from_run", "image_size", "autoencoder.codes", "autoencoder.quantizer",
        "autoencoder.perceptual", "columns", "images_are_patients", "skip_bad", "loop.steps", "loop.batch", "device",
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


def _require(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError(f"--autoencoder.{option} {value}: allowed are {', '.join(allowed)}.")


def _spoken(name: str) -> str:
    return name.replace("_", "-")
