"""Options of the diffusion family: its network, its noise, and its three tasks, which differ in defaults only."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from medloom.core.choices import FUSIONS, NOISE_SCHEDULES, PREDICTIONS, SPATIAL_FUSIONS
from medloom.core.errors import UserError
from medloom.core.limits import check_limits, limited
from medloom.core.options import hinted, setting
from medloom.generators.options import EDITS, GENERATES, VolumeOptions, refuse_unused_classes
from medloom.generators.sampling import DiffusionSamplingSettings

if TYPE_CHECKING:
    from medloom.processes.paths import ProbabilityPath

MASKS = ("none", *SPATIAL_FUSIONS)
PRIORS = ("none", "channels")
PROCESSES = ("flow", "ddpm")
LOSSES = ("l2", "l1")


@dataclass(frozen=True)
class DenoiserOptions:
    """The denoiser.

    Attributes:
        exportable: use diffusers' U-Net and Stable Diffusion's conventions (modality in the text, padding not masked),
            so that the model opens in diffusers; needs an autoencoder.
        widths: feature channels of each resolution.
        depth: residual blocks a resolution.
        attention: for each resolution, whether it has attention (the exportable network decides for itself).
        head_width: channels of an attention head.
        patch: pixels of each axis folded into channels; 0 folds images to a grid of 32, and latents not at all.
        fusion: how text reaches the network: cross-attention, affine or none.
        mask: how a segmentation mask reaches the network: none, channels or spade.
        mask_classes: labels in the masks, background left out.
        region_styles: channels that text and table fill region by region of the mask, so that an attribute finds the
            region that it changes; 0 for none.
        region_slopes: let these channels also grow along each axis, so that the side of a finding is learned sooner.
        region_outputs: give the last layers weights of their own for each region of the mask, so that what changes in
            one does not change its neighbours.
        styles_only: let text and table reach the image through the regions' channels alone, and not every layer, so
            that an attribute changes little outside of the regions where training has it act; every image needs a mask.
        mask_balance: how far small regions of the mask count as much as large ones in the loss; 0 weighs all pixels
            alike, 1 all regions.
        prior: how a prior image reaches the network: none or channels.
        condition_width: width of context tokens.
        coordinates: give each position its coordinates in the image, so that sides can be distinguished.
        pixel_width: hidden channels of a head at the image's own resolution, for thin regions of a mask; 0 for
            none.
        input_bands: give the network the finest octave bands of the noisy image as well, in which it sees noise that is
            faint beside the image's structures; not with pixel_width, whose head sees such bands.
        gradient_checkpointing: compute activations again in the backward pass to save memory.
    """

    exportable: bool = False
    widths: tuple[int, ...] = setting((64, 128, 256))
    depth: int = limited(1, at_least=1, setting=True)
    attention: tuple[bool, ...] = setting((False, False, True))
    head_width: int = limited(64, at_least=1, setting=True)
    patch: int = limited(0, at_least=0, setting=True)
    fusion: str = limited("cross-attention", words=FUSIONS)
    mask: str = limited("none", words=MASKS)
    mask_classes: tuple[int, ...] = setting(())
    mask_balance: float = limited(0.0, at_least=0, at_most=1, setting=True)
    region_styles: int = limited(8, at_least=0, setting=True)
    region_slopes: bool = setting(False)
    region_outputs: bool = setting(False)
    styles_only: bool = setting(False)
    prior: str = limited("none", words=PRIORS)
    condition_width: int = limited(128, at_least=1, setting=True)
    coordinates: bool = setting(True)
    pixel_width: int = limited(0, at_least=0, setting=True)
    input_bands: bool = setting(False)
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        check_limits(self, "network")
        if self.input_bands and self.pixel_width:
            raise UserError(
                "network.input_bands: the head of network.pixel_width sees such bands already; leave one of them out."
            )
        refuse_unused_classes(self.mask, self.mask_classes)


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
        data_std: standard deviation of the data (about 0.5 for images in [-1, 1]) for preconditioning: the network then
            predicts only what the noisy image does not already contain; 0 for none.
        near_data: of flow: fraction of training times near the data, evenly in log-SNR, where fine texture forms.
        level_balance: how far noise levels count alike: 0 for errors as they are, 1 for errors divided by the running
            mean of their level. Near the data most of an error is noise that cannot be predicted, and drowns the rest.
    """

    process: str = limited("flow", words=PROCESSES)
    schedule: str = limited("scaled-linear", words=NOISE_SCHEDULES, setting=True)
    steps: int = limited(1000, at_least=2, setting=True)
    prediction: str = limited("epsilon", words=PREDICTIONS, setting=True)
    min_snr_gamma: float | None = limited(None, above=0, setting=True)
    loss: str = limited("l2", words=LOSSES, setting=True)
    offset: float = limited(0.0, at_least=0, setting=True)
    logit_mean: float = limited(0.0, setting=True)
    logit_std: float = limited(1.0, above=0, setting=True)
    shift: float = limited(1.0, above=0, setting=True)
    data_std: float = limited(0.0, at_least=0, setting=True)
    near_data: float = limited(0.2, at_least=0, below=1, setting=True)
    level_balance: float = limited(0.0, at_least=0, at_most=1, setting=True)

    def __post_init__(self) -> None:
        check_limits(self, "noise")

    def path(self) -> "ProbabilityPath":
        """The probability path of these options.

        Raises:
            UserError: an unknown process or schedule, or a value out of range.
        """
        from medloom.processes.paths import DDPM, RectifiedFlow

        if self.process == "flow":
            times = (self.logit_mean, self.logit_std, self.shift)
            return RectifiedFlow(*times, self.offset, self.data_std, self.near_data)
        given = (self.schedule, self.steps, self.prediction, self.min_snr_gamma, self.offset)
        return DDPM(*given, data_std=self.data_std)


@dataclass(frozen=True, kw_only=True)
class DiffusionOptions(VolumeOptions):
    """Train a diffusion generator.

    Attributes:
        base: Stable Diffusion 1.x or 2.x to start from: a folder, or hf:ORG/NAME from the hub; it decides the network's
            shape, the noise schedule and the prediction, and brings its text encoder unless another is named.
        lora: rank of low-rank updates of the base instead of training all of it.
        autoencoder: run folder of `train autoencoder`, or a diffusers folder with one, for latent diffusion of whole
            2-D images.
        stage: of editors: 2 trains on prior images; 1 leaves them empty, so that many images with reports and few
            pairs can be trained on one after another (continue with `--from`).
        network: the denoiser.
        noise: the noising process.
        sampling: how images are generated unless asked otherwise.
    """

    family: ClassVar[str] = "diffusion"

    base: str | None = None
    lora: int | None = hinted(
        None, "it is a rank; a LoRA file becomes a base with `medloom data import weights --lora FILE --base FOLDER`"
    )
    autoencoder: str | None = None
    stage: int = 2
    network: DenoiserOptions = field(default_factory=DenoiserOptions)
    noise: NoiseOptions = field(default_factory=NoiseOptions)
    sampling: DiffusionSamplingSettings = field(default_factory=DiffusionSamplingSettings)

    @property
    def columns_needed(self) -> tuple[str, ...]:
        """Of the first stage no prior image is needed."""
        return tuple(name for name in super().columns_needed if name != "prior" or self.stage == 2)


@dataclass(frozen=True, kw_only=True)
class TextToImage(DiffusionOptions):
    """Train a text-to-image diffusion generator.

    Attributes:
        preset: minim, minim-predecessor (published systems), or counterfactual (for what-if; what the demo trains).
    """

    task: ClassVar[str] = "text2image"
    settings: ClassVar[str] = "medloom.generators.settings.text2image"
    need: ClassVar[tuple[str, ...]] = ("path", "text")
    by_text: ClassVar[bool] = True
    use: ClassVar[str] = "medloom generate --model {} --out DIR --prompt ..."
    example: ClassVar[str] = "medloom train text2image --data train.csv --out runs/mm"
    common: ClassVar[tuple[str, ...]] = (
        "size", "preset", "base", "lora", "autoencoder", "from_run", "image_size", "table", "columns",
        "images_are_patients", "skip_bad", "loop.steps", "loop.batch", "loop.learning_rate", "device", "dry_run",
    )  # fmt: skip

    @property
    def next_step(self) -> str:
        """The command that uses the run; a prompt alone lacks the masks and columns that training images had."""
        return (GENERATES if self.network.mask != "none" or self.table else self.use).format(self.out)


def _masked() -> DenoiserOptions:
    return DenoiserOptions(mask="channels", fusion="affine")


def _noisier() -> NoiseOptions:
    # What lies where in a volume is settled near pure noise; docs/mask2image.md has the comparison.
    return NoiseOptions(shift=6.0, logit_std=1.5)


@dataclass(frozen=True, kw_only=True)
class MaskToImage(DiffusionOptions):
    """Train a diffusion generator that generates images from masks, in 2-D and 3-D.

    Attributes:
        preset: a published system's settings: dgm-vlc.
    """

    task: ClassVar[str] = "mask2image"
    settings: ClassVar[str] = "medloom.generators.settings.mask2image"
    need: ClassVar[tuple[str, ...]] = ("path", "mask")
    use: ClassVar[str] = GENERATES
    example: ClassVar[str] = "medloom train mask2image --data masks.csv --table age smoking --out runs/diff"
    common: ClassVar[tuple[str, ...]] = (
        "size", "preset", "image_size", "patch", "dims", "spacing", "classes", "table", "from_run", "columns",
        "images_are_patients", "skip_bad", "unit", "loop.steps", "loop.batch", "device", "dry_run",
    )  # fmt: skip

    network: DenoiserOptions = field(default_factory=_masked)
    noise: NoiseOptions = field(default_factory=_noisier)


def _editing() -> DenoiserOptions:
    return DenoiserOptions(prior="channels")


@dataclass(frozen=True, kw_only=True)
class EditImage(DiffusionOptions):
    """Train an editor: a diffusion generator that is given a prior image and an instruction.

    Attributes:
        preset: a published system's settings: biomedjourney.
        days: condition the editor on the days between its two images too, where the manifest has a column days.
    """

    task: ClassVar[str] = "edit"
    settings: ClassVar[str] = "medloom.generators.settings.edit"
    need: ClassVar[tuple[str, ...]] = ("path", "prior")
    by_text: ClassVar[bool] = True
    use: ClassVar[str] = EDITS
    example: ClassVar[str] = "medloom train edit --data triples.csv --out runs/edit"
    common: ClassVar[tuple[str, ...]] = (
        "size", "preset", "base", "lora", "autoencoder", "from_run", "stage", "image_size", "columns", "skip_bad",
        "days", "unit", "loop.steps", "loop.batch", "loop.learning_rate", "device", "dry_run",
    )  # fmt: skip

    days: bool = True
    network: DenoiserOptions = field(default_factory=_editing)
