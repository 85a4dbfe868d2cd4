"""Options of the GAN family: its network, what it is trained for, and against whom."""

from dataclasses import dataclass, field
from typing import ClassVar

from medloom.core.choices import FUSIONS, SPATIAL_FUSIONS
from medloom.core.errors import UserError
from medloom.core.limits import check_limits, limited
from medloom.core.options import setting
from medloom.generators.options import VolumeOptions

KINDS = ("resnet", "unet")
ADVERSARIES = ("none", "lsgan", "hinge")
ERRORS = ("l1", "l2")
NORMS = ("spectral", "group")


@dataclass(frozen=True)
class ImageNetworkOptions:
    """The network that makes images.

    Attributes:
        kind: resnet (down, residual blocks, up; no skip connections) or unet (skip connections at every resolution).
        widths: feature channels of each resolution; each further one is half the size.
        blocks: residual blocks at the smallest resolution of a resnet.
        depth: residual blocks a resolution of a unet.
        attention: for each resolution, whether it has attention; a resnet has it at its smallest only.
        head_width: channels of an attention head.
        patch: pixels of each axis folded into channels, which makes large images affordable.
        style: values of the noise vector that scales and shifts features together with the text; 0 for none.
        fusion: how text, modality and table reach the network: affine (text and noise scale and shift features),
            cross-attention, or none.
        mask: how the mask reaches the network: channels (of its input) or spade (in every block).
        mask_classes: labels in the masks, background left out (default: those that the training masks have).
        region_styles: channels that text, table and noise fill region by region of the mask, so that an attribute
            finds the region that it changes; 0 for none.
        condition_width: width of context tokens.
        coordinates: give each position its coordinates in the image, so that sides can be distinguished.
        gradient_checkpointing: compute activations again in the backward pass to save memory.
    """

    kind: str = limited("resnet", words=KINDS, setting=True)
    widths: tuple[int, ...] = setting((32, 64, 128))
    blocks: int = limited(6, at_least=1, setting=True)
    depth: int = limited(1, at_least=1, setting=True)
    attention: tuple[bool, ...] = setting((False, False, True))
    head_width: int = limited(64, at_least=1, setting=True)
    patch: int = limited(1, at_least=1, setting=True)
    style: int = limited(100, at_least=0, setting=True)
    fusion: str = limited("affine", words=FUSIONS)
    mask: str = limited("channels", words=SPATIAL_FUSIONS)
    mask_classes: tuple[int, ...] = setting(())
    region_styles: int = limited(8, at_least=0, setting=True)
    condition_width: int = limited(128, at_least=1, setting=True)
    coordinates: bool = setting(True)
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        check_limits(self, "network")
        # A resnet attends at its smallest resolution only.
        attends = self.attention and (self.attention[-1] if self.kind == "resnet" else any(self.attention))
        if self.fusion == "cross-attention" and not attends:
            where = "its last resolution" if self.kind == "resnet" else "one resolution at least"
            raise UserError(
                f"--network.fusion cross-attention: network.attention has to be true at {where} of a {self.kind}."
            )
        if not self.widths or min(self.widths) < 1 or len(self.widths) != len(self.attention):
            raise UserError(
                f"the settings network.widths {_listed(self.widths)} and network.attention {_listed(self.attention)}:"
                " give widths of at least 1, and an entry of attention for each of them."
            )


@dataclass(frozen=True)
class GANOptions:
    """What the generator is trained for, and its adversary.

    Attributes:
        adversary: lsgan (Mao et al. 2017), hinge (Lim and Ye 2017), or none: the same generator without an adversary.
        adversarial_weight: weight of the adversarial loss.
        reconstruction: error between a generated image and the real one of the same mask: l1 or l2, mean over values.
        reconstruction_weight: weight of that error.
        correlation_weight: weight of 1 - Pearson's correlation between the two images.
        feature_weight: weight of the difference between the discriminator's features of the two (pix2pixHD).
        r1: gamma of the penalty on the discriminator's slope at real images (Mescheder et al. 2018); 0 for none.
        r1_every: steps between two penalties, each weighted by that number (StyleGAN2's lazy regularisation).
        pool: past images that the discriminator sees among the latest (Shrivastava et al. 2017); 0 for none.
        discriminator_learning_rate: peak learning rate of the discriminator; the generator's is --loop.learning-rate
            (two rates, Heusel et al. 2017).
        scales: sizes of the image that are judged: full, half, a quarter, ...
        width: feature channels of the discriminator's first layer.
        layers: layers of it that halve the image; 3 judge patches of 70 pixels, 2 of 34.
        norm: its normalisation: group (closest to pix2pix) or spectral, which bounds its slope.
        unpaired: learn from images and masks of different rows (CycleGAN, Zhu et al. 2017): a second network finds the
            mask in an image, and each way and back has to end where it began.
        mask_weight: unpaired only: weight of the cross-entropy of the mask found in a generated image.
    """

    adversary: str = limited("lsgan", words=ADVERSARIES)
    adversarial_weight: float = limited(1.0, at_least=0, setting=True)
    reconstruction: str = limited("l2", words=ERRORS, setting=True)
    reconstruction_weight: float = limited(2.0, at_least=0, setting=True)
    correlation_weight: float = limited(0.5, at_least=0, setting=True)
    feature_weight: float = limited(0.0, at_least=0, setting=True)
    r1: float = limited(0.1, at_least=0, setting=True)
    r1_every: int = limited(16, at_least=1, setting=True)
    pool: int = limited(50, at_least=0, setting=True)
    discriminator_learning_rate: float = limited(4e-4, above=0, setting=True)
    scales: int = limited(2, at_least=1, setting=True)
    width: int = limited(32, at_least=1, setting=True)
    layers: int = limited(3, at_least=1, setting=True)
    norm: str = limited("group", words=NORMS, setting=True)
    unpaired: bool = False
    mask_weight: float = limited(1.0, at_least=0, setting=True)

    def __post_init__(self) -> None:
        check_limits(self, "gan")
        if not self.adversarial and self.feature_weight:
            raise UserError("the setting gan.feature_weight needs an adversary, whose features it compares; name one.")
        if not self.adversarial and self.unpaired:
            raise UserError("--gan.unpaired needs an adversary: only it says what images look like; name one.")
        if self.unpaired and self.feature_weight:
            raise UserError("gan.feature_weight compares an image with the real one of its mask; unpaired has none.")
        if not self.adversarial and not self.reconstruction_weight and not self.correlation_weight:
            raise UserError(
                "--gan.adversary none with gan.reconstruction_weight 0 and gan.correlation_weight 0 leaves nothing"
                " to learn from; give one of them a weight."
            )

    @property
    def adversarial(self) -> bool:
        """Whether there is a discriminator."""
        return self.adversary != "none"


@dataclass(frozen=True, kw_only=True)
class MaskToImageGAN(VolumeOptions):
    """Train a conditional GAN that generates images from masks, in 2-D and 3-D.

    Attributes:
        data: manifest with path and mask; Text and modality where there are any. With --gan.unpaired some rows may be
            without a mask.
        preset: a published system's settings: dgm-vlc.
        network: the network that generates images.
        gan: the losses and the adversary.
    """

    family: ClassVar[str] = "gan"
    task: ClassVar[str] = "gan"
    settings: ClassVar[str] = "medloom.generators.settings.gan"
    need: ClassVar[tuple[str, ...]] = ("path", "mask")
    use: ClassVar[str] = "medloom generate --model {} --data MANIFEST --out DIR"
    example: ClassVar[str] = "medloom train gan --data masks.csv --out runs/gan"
    common: ClassVar[tuple[str, ...]] = (
        "size", "preset", "image_size", "patch", "dims", "spacing", "classes", "table", "gan.adversary", "gan.unpaired",
        "columns", "images_are_patients", "skip_bad", "unit", "loop.steps", "loop.batch", "device", "dry_run",
    )  # fmt: skip

    network: ImageNetworkOptions = field(default_factory=ImageNetworkOptions)
    gan: GANOptions = field(default_factory=GANOptions)

    @property
    def columns_needed(self) -> tuple[str, ...]:
        """Unpaired, an image may be without a mask."""
        return ("path",) if self.gan.unpaired else self.need


def _listed(values: tuple[object, ...]) -> str:
    return " ".join(str(value).lower() for value in values)
