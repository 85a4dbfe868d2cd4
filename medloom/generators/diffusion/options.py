"""Options of the diffusion family: its network, its text and its noise."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medloom.core.choices import FUSIONS, MODALITY_AS, SPATIAL_FUSIONS
from medloom.core.errors import UserError

if TYPE_CHECKING:
    from medloom.processes.paths import ProbabilityPath

MASKS = ("none", *SPATIAL_FUSIONS)
PRIORS = ("none", "channels")
INPUT_KERNELS = (1, 3)
LOSSES = ("l2", "l1")


@dataclass(frozen=True)
class NetworkOptions:
    """The denoiser.

    Attributes:
        exportable: use diffusers' U-Net and Stable Diffusion's conventions (modality in the text, padding not masked),
            so that the model opens in diffusers; needs an autoencoder.
        widths: feature channels of each resolution.
        depth: residual blocks a resolution.
        attention: for each resolution, whether it has attention (the exportable network decides for itself).
        head_width: channels of an attention head.
        patch: pixels of each axis folded into channels; 0 folds images to a grid of 32, and latents not at all.
        input_kernel: places of each axis that the first convolution sees: 3, or 1, which is faster where many channels
            are folded, as in volumes with a mask.
        fusion: how text reaches the network: cross-attention, affine or none.
        mask: how a segmentation mask reaches the network: none, channels or spade.
        mask_classes: labels in the masks, background left out.
        region_styles: channels that text and table fill region by region of the mask, by which an attribute finds the
            region that it changes; 0 for none.
        region_slopes: let these channels also grow along each axis, by which a side that is told finds its place.
        mask_width: channels that a mask's classes are brought to, place by place, before all else; 0 leaves up to 16
            classes as they are, and brings more of them to 16.
        mask_balance: how far small regions of the mask count as much as large ones in the loss; 0 weighs all pixels
            alike, 1 all regions.
        mask_means: weight of the errors of regions' means beside those of pixels in the loss, for attributes that shift
            whole regions; 0 for none.
        prior: how an earlier image reaches the network: none or channels.
        condition_width: width of context tokens.
        coordinates: tell each place where it lies in the image, for what depends on left and right, top and bottom.
        pixel_width: hidden channels of a head at the image's own resolution, by which thin regions of a mask reach the
            prediction unfolded; 0 for none.
        gradient_checkpointing: compute activations again in the backward pass to save memory.
    """

    exportable: bool = False
    widths: tuple[int, ...] = (64, 128, 256)
    depth: int = 1
    attention: tuple[bool, ...] = (False, False, True)
    head_width: int = 64
    patch: int = 0
    input_kernel: int = 3
    fusion: str = "cross-attention"
    mask: str = "none"
    mask_classes: tuple[int, ...] = ()
    mask_width: int = 0
    mask_balance: float = 0.0
    mask_means: float = 0.0
    region_styles: int = 8
    region_slopes: bool = False
    prior: str = "none"
    condition_width: int = 128
    coordinates: bool = True
    pixel_width: int = 0
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.fusion not in FUSIONS or self.mask not in MASKS:
            raise UserError(
                f"--network.fusion {self.fusion} and --network.mask {self.mask}: allowed are {', '.join(FUSIONS)};"
                f" {', '.join(MASKS)}."
            )
        if self.prior not in PRIORS:
            raise UserError(f"--network.prior {self.prior}: allowed are {', '.join(PRIORS)}.")
        if self.input_kernel not in INPUT_KERNELS:
            raise UserError(f"--network.input-kernel {self.input_kernel}: it is 1 or 3.")
        if not 0 <= self.mask_balance <= 1:
            raise UserError(f"--network.mask-balance {self.mask_balance}: it is in [0, 1].")
        if self.mask_means < 0:
            raise UserError(f"--network.mask-means {self.mask_means}: give a weight, or 0.")
        for name in ("mask_width", "region_styles", "pixel_width"):
            if getattr(self, name) < 0:
                option = name.replace("_", "-")
                raise UserError(f"--network.{option} {getattr(self, name)}: give a number of channels, or 0.")


@dataclass(frozen=True)
class TextOptions:
    """The text encoder and how the modality is told.

    Attributes:
        encoder: `local` (trained with the generator, no download), or a folder or hub id of a transformers encoder.
        max_tokens: longest text; what is longer is cut, and said.
        modality_as: text ("CT: ..."), token (an embedding of its own), or both.
        train: train the encoder too; a local one always is.
        vocabulary: tokens of a local tokenizer.
        width: width of a local encoder.
        layers: layers of a local encoder.
        rate: factor on the learning rate of an encoder that is trained; transformers take less than U-Nets.
        dropout: share of each nested subset of the condition that is dropped in training, for guidance.
    """

    encoder: str = "local"
    max_tokens: int = 77
    modality_as: str = "both"
    train: bool = False
    vocabulary: int = 2000
    width: int = 128
    layers: int = 2
    rate: float = 1.0
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.modality_as not in MODALITY_AS:
            raise UserError(f"--text.modality-as {self.modality_as}: allowed are {', '.join(MODALITY_AS)}.")
        if not 0 < self.rate <= 10:
            raise UserError(f"--text.rate {self.rate}: a factor above 0 and at most 10.")
        if not 0 <= self.dropout <= 0.3 or self.max_tokens < 4 or self.layers < 1 or self.width < 1:
            raise UserError(
                f"--text.dropout {self.dropout}, --text.max-tokens {self.max_tokens}, --text.layers {self.layers}:"
                " dropout is in [0, 0.3], texts have at least 4 tokens, an encoder at least one layer."
            )


@dataclass(frozen=True)
class NoiseOptions:
    """The noising process.

    Attributes:
        process: flow (rectified flow) or ddpm.
        schedule: of ddpm: linear, scaled-linear or cosine.
        steps: noise levels of ddpm.
        prediction: of ddpm: epsilon or v.
        min_snr_gamma: of ddpm: gamma of min-SNR weights, or none.
        loss: error of predictions: l2 (squared) or l1 (absolute).
        offset: strength of the noise offset.
        logit_mean: of flow: mean of the logit of training times.
        logit_std: of flow: deviation of the logit of training times.
        shift: of flow: above 1 moves times towards noise, for large images.
        data_std: deviation of the data (about 0.5 for images in [-1, 1]), by which the network's output is
            preconditioned, so that it is not asked for what the noisy image already says; 0 for none.
    """

    process: str = "flow"
    schedule: str = "scaled-linear"
    steps: int = 1000
    prediction: str = "epsilon"
    min_snr_gamma: float | None = None
    loss: str = "l2"
    offset: float = 0.0
    logit_mean: float = 0.0
    logit_std: float = 1.0
    shift: float = 1.0
    data_std: float = 0.0

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise UserError(f"--noise.loss {self.loss}: allowed are {', '.join(LOSSES)}.")

    def path(self) -> "ProbabilityPath":
        """The probability path of these options.

        Raises:
            UserError: an unknown process or schedule, or a value out of range.
        """
        from medloom.processes.paths import DDPM, RectifiedFlow

        if self.process == "flow":
            return RectifiedFlow(self.logit_mean, self.logit_std, self.shift, self.offset, self.data_std)
        if self.process == "ddpm":
            given = (self.schedule, self.steps, self.prediction, self.min_snr_gamma, self.offset)
            return DDPM(*given, data_std=self.data_std)
        raise UserError(f"--noise.process {self.process}: allowed are flow, ddpm.")
