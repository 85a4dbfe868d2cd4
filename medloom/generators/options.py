"""Options that all training commands share: the data, the model's image space, where it starts, and the loop."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from medloom.core.choices import MODALITY_AS
from medloom.core.errors import UserError
from medloom.core.limits import check_limits, limited
from medloom.data.columns import NONE
from medloom.data.manifest import ManifestOptions
from medloom.training.options import LoopOptions

# The command that uses an editor, {}.
EDITS = "medloom edit --model {} --image PRIOR --text ... --out DIR"
GENERATES = "medloom generate --model {} --data MANIFEST --out DIR"


@dataclass(frozen=True)
class Space:
    """The space that images are brought to.

    Attributes:
        size: pixels of each axis; one number stands for a square.
        spacing: mm of each axis, or None for the images' own.
        patch: whether the size is that of patches, and images stay whole.
    """

    size: tuple[int, ...]
    spacing: tuple[float, ...] | None = None
    patch: bool = False


@dataclass(frozen=True, kw_only=True)
class TrainOptions(ManifestOptions):
    """Train a model.

    Attributes:
        data: manifest of the images.
        out: run folder; the same command run again resumes it.
        size: how large: tiny (64 px, minutes on a laptop's CPU), small (128 px, one consumer GPU), base (several GPUs).
        preset: a published system's settings.
        image_size: pixels of the model's images; one number for a square, or one for each axis.
        resize: how images get there: pad (aspect kept), crop, stretch, or none (files must have the size).
        validation: fraction of the patients held out for validation, where no column says the split.
        hu_window: HU that become the lowest and highest value of the model's images; values beyond are clipped
            (default: as in the tokenizer, autoencoder or run that it builds on, else -1000 to 1000).
        loop: the training loop.
        cache: folder for decoded images, latents and embeddings (default: in the run folder).
        device: auto, cpu or cuda.
        dry_run: train a few steps in a scratch folder, and say how much memory, disk and time the training takes.
    """

    family: ClassVar[str]
    task: ClassVar[str]
    # Standard columns that the manifest must have.
    need: ClassVar[tuple[str, ...]] = ("path",)
    # The command that uses a run, {}.
    use: ClassVar[str]

    data: Path
    out: Path
    size: str = "tiny"
    preset: str | None = None
    image_size: tuple[int, ...] = (64,)
    resize: str = "pad"
    validation: float = 0.05
    hu_window: tuple[float, float] | None = None
    loop: LoopOptions = field(default_factory=LoopOptions)
    cache: Path | None = None
    device: str = "auto"
    dry_run: bool = False

    @property
    def next_step(self) -> str:
        """The command that uses the run."""
        return self.use.format(self.out)

    @property
    def cache_folder(self) -> Path:
        """Where decoded images, latents and embeddings are kept."""
        return self.cache or self.out / "cache"

    @property
    def space(self) -> Space:
        """The space that images are brought to."""
        return Space(self.image_size)

    @property
    def columns_needed(self) -> tuple[str, ...]:
        """Standard columns that the manifest must have."""
        return self.need


@dataclass(frozen=True)
class TextOptions:
    """The text encoder, and how the modality conditions the model.

    Attributes:
        encoder: `local` (trained with the generator, no download), a run folder of `train text-encoder`, a folder of a
            transformers encoder (`medloom data import weights` converts others), or hf:ORG/NAME from the hub.
        max_tokens: longest text; longer ones are cut, with a message.
        modality_as: text ("CT: ..."), token (an embedding of its own), or both.
        train: train the encoder too; a local one always is.
        vocabulary: tokens of a local tokenizer.
        width: width of a local encoder.
        layers: layers of a local encoder.
        learning_rate_factor: factor on the learning rate of an encoder that is trained; transformers take less than
            U-Nets.
        dropout: probability of each nested subset of the condition to be dropped in training, for guidance.
    """

    encoder: str = "local"
    max_tokens: int = limited(77, at_least=4)
    modality_as: str = limited("both", words=MODALITY_AS)
    train: bool = False
    vocabulary: int = limited(2000, at_least=1, setting=True)
    width: int = limited(128, at_least=1, setting=True)
    layers: int = limited(2, at_least=1, setting=True)
    learning_rate_factor: float = limited(1.0, above=0, at_most=10, setting=True)
    dropout: float = limited(0.1, at_least=0, at_most=0.3)

    def __post_init__(self) -> None:
        check_limits(self, "text")


@dataclass(frozen=True, kw_only=True)
class GeneratorOptions(TrainOptions):
    """Train an image generator.

    Attributes:
        from_run: run to continue from with this manifest, which may add modalities; its networks and text encoder are
            kept (`--from`).
        table: clinical columns that condition the model as numbers and categories; a template next to the manifest says
            how their cells are read.
        classes: YAML or JSON file with the label and the name of each mask class; by default the labels that the masks
            have.
        hide_classes: mask classes that the model does not see, as lesion=lung (shown as lung) or lesion (background).
        resample_masks: resample masks that lie on another grid than their image instead of refusing them.
        unregistered: fraction of draws that take the unregistered prior image, where the manifest has registered ones
            too. Of a registered one the later image differs by what changed, of an unregistered one by position too.
        text: the text encoder and how the modality conditions the model.
    """

    # Whether its images are generated from texts.
    by_text: ClassVar[bool] = False

    from_run: Path | None = None
    table: tuple[str, ...] = ()
    classes: Path | None = None
    hide_classes: tuple[str, ...] = ()
    resample_masks: bool = False
    unregistered: float = limited(0.0, at_least=0, at_most=1, setting=True)
    text: TextOptions = field(default_factory=TextOptions)

    def __post_init__(self) -> None:
        check_limits(self)

    @property
    def needs_text(self) -> bool:
        """Whether images without any text are refused: not where a table conditions them, or none are wanted."""
        return self.by_text and not self.table and self.columns.get("text") != NONE

    @property
    def columns_needed(self) -> tuple[str, ...]:
        """Standard columns that the manifest must have."""
        return tuple(name for name in self.need if name != "text" or self.needs_text)


@dataclass(frozen=True, kw_only=True)
class VolumeOptions(GeneratorOptions):
    """Train an image generator of slices, volumes, or patches of either.

    Attributes:
        dims: 2 or 3 axes; by default as many as --patch or --image-size has.
        patch: train on patches of so many pixels along each axis instead of whole images of --image-size; images may
            then have any size, and whole ones are generated.
        spacing: mm of each axis that images and masks are resampled to; by default volumes keep theirs.
        foreground: fraction of patches that are centred on a pixel of a mask class, each class with equal chance.
        augment: none, or affine: patches are rotated by up to 10 degrees and scaled by up to a tenth.
        flip: mirror every other patch left to right; side words in text, view and table and the sides in the names of
            mask classes change with it.
        shift: pixels by which whole training images, masks and prior images are shifted at most along each axis, each
            time anew, so that a small data set is not memorised.
    """

    dims: int | None = None
    patch: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    foreground: float = limited(0.75, at_least=0, at_most=1, setting=True)
    augment: str = "none"
    flip: bool = False
    shift: int = 0

    @property
    def space(self) -> Space:
        """The space that images are brought to.

        Raises:
            UserError: numbers of axes that do not agree, or options of patches where there are none.
        """
        given = self.patch or self.image_size
        dims = self.dims or (len(given) if len(given) > 1 else 2)
        name = "--patch" if self.patch else "--image-size"
        if dims not in (2, 3):
            raise UserError(f"--dims {dims}: images have 2 or 3 axes.")
        if len(given) not in (1, dims) or min(given) < 1:
            raise UserError(f"{name} {_listed(given)}: give {dims} numbers of at least 1, or one for all axes.")
        if self.spacing and (len(self.spacing) != dims or min(self.spacing) <= 0):
            raise UserError(f"--spacing {_listed(self.spacing)}: give {dims} numbers of mm above 0.")
        if not self.patch and (self.augment != "none" or self.flip):
            raise UserError("--augment and --flip change patches; give --patch, the size of them.")
        if self.shift < 0:
            raise UserError(f"--shift {self.shift}: give a number of pixels, or 0 to leave images where they are.")
        if self.patch and self.shift:
            raise UserError("--shift moves whole images, and patches lie anywhere in theirs already; leave it out.")
        return Space(given * dims if len(given) == 1 else given, self.spacing or None, bool(self.patch))


def refuse_unused_classes(mask: str, classes: Sequence[int]) -> None:
    """Refuse a list of mask classes for a network that takes no masks.

    Raises:
        UserError: says what to do.
    """
    if classes and mask == "none":
        raise UserError(
            f"network.mask_classes {_listed(classes)}: with --network.mask none the network takes no masks; give"
            " --network.mask channels, or leave the classes out."
        )


def _listed(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)
