"""Options of a token generator: its network, and what it is trained for."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from medloom.core.choices import FUSIONS
from medloom.core.limits import check_limits, limited
from medloom.core.options import setting
from medloom.generators.options import EDITS, GENERATES, GeneratorOptions, refuse_unused_classes
from medloom.generators.sampling import SMOOTHING, SamplingSettings

MASKS = ("none", "channels")
PRIORS = ("none", "channels")


@dataclass(frozen=True)
class TransformerOptions:
    """The transformer.

    Attributes:
        width: of its features.
        layers: of self-attention, cross-attention and a network of two layers.
        heads: of each attention.
        expansion: inner width of that network over `width`.
        dropout: of features in training.
        fusion: how text, modality and table reach it: cross-attention, affine or none.
        mask: how a segmentation mask reaches it: none or channels.
        mask_classes: labels in the masks, background left out.
        prior: how a prior image reaches it: none or channels (its tokens).
        condition_width: width of context tokens.
        region_styles: let text and table fill the regions of the mask, or the whole image, also growing along each
            axis, so that a finding and its side are learned sooner; off where nothing is fused.
        gradient_checkpointing: compute activations again in the backward pass to save memory.
    """

    width: int = limited(256, at_least=1, setting=True)
    layers: int = limited(6, at_least=1, setting=True)
    heads: int = limited(4, at_least=1, setting=True)
    expansion: int = limited(4, at_least=1, setting=True)
    dropout: float = limited(0.0, at_least=0, below=1, setting=True)
    fusion: str = limited("cross-attention", words=FUSIONS)
    mask: str = limited("none", words=MASKS)
    mask_classes: tuple[int, ...] = setting(())
    prior: str = limited("none", words=PRIORS)
    condition_width: int = limited(256, at_least=1, setting=True)
    region_styles: bool = setting(True)
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        check_limits(self, "network")
        refuse_unused_classes(self.mask, self.mask_classes)


@dataclass(frozen=True)
class TokenOptions:
    """What the network is trained for.

    Attributes:
        schedule: of the share of masked tokens: cosine, linear, square or root.
        smoothing: label smoothing of the cross-entropy.
    """

    schedule: str = setting("cosine")
    smoothing: float = limited(SMOOTHING, at_least=0, below=1, setting=True)

    def __post_init__(self) -> None:
        check_limits(self, "tokens")


@dataclass(frozen=True, kw_only=True)
class GenerateTokens(GeneratorOptions):
    """Train a masked transformer on the tokens of images, conditioned on text, table, mask or a prior image.

    Attributes:
        data: manifest with path; Text, modality, mask, prior and a clinical table where there are any.
        preset: a published system's settings: raygen.
        tokenizer: run folder of `medloom train autoencoder --kind vq`, or a diffusers folder with a VQModel.
        image_size: pixels of each axis (default: the tokenizer's).
        from_run: run to continue from (`--from`), with a manifest that may add modalities, and with its tokenizer or
            one that was trained from that, also for images of another size; with --upscale, the run of the first stage.
        days: condition an editor (--network.prior channels) on the days between its two images too, where the manifest
            has a column days.
        upscale: train the second of two stages: --tokenizer is that of larger images, which are decoded given the
            tokens that the first stage decodes.
        network: the transformer.
        tokens: mask schedule and loss.
        sampling: how images are generated unless asked otherwise.
    """

    family: ClassVar[str] = "tokens"
    task: ClassVar[str] = "tokens"
    settings: ClassVar[str] = "medloom.generators.settings.tokens"
    use: ClassVar[str] = "medloom generate --model {} --out DIR --prompt ..."
    example: ClassVar[str] = "medloom train tokens --data train.csv --tokenizer runs/vq --out runs/tok"
    common: ClassVar[tuple[str, ...]] = (
        "size", "preset", "table", "network.mask", "network.prior", "from_run", "upscale", "columns",
        "images_are_patients", "skip_bad", "loop.steps", "loop.batch", "loop.learning_rate", "device", "dry_run",
    )  # fmt: skip

    tokenizer: Path
    image_size: tuple[int, ...] = ()
    days: bool = True
    upscale: bool = False
    network: TransformerOptions = field(default_factory=TransformerOptions)
    tokens: TokenOptions = field(default_factory=TokenOptions)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)

    @property
    def next_step(self) -> str:
        """The command that uses the run: with prior images an editor; a prompt alone lacks masks and columns."""
        if self.network.prior != "none":
            return EDITS.format(self.out)
        return (GENERATES if self.network.mask != "none" or self.table else self.use).format(self.out)

    @property
    def columns_needed(self) -> tuple[str, ...]:
        """With the parts that the network takes."""
        parts = {"mask": self.network.mask, "prior": self.network.prior}
        return ("path", *(name for name, way in parts.items() if way != "none"))
