"""What generate, edit and whatif have in common on the command line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from medloom.core.config import given_options, option_flags
from medloom.core.errors import UserError
from medloom.core.limits import check_limits, limited
from medloom.core.options import setting
from medloom.core.seeds import check_seed
from medloom.data.manifest import ManifestOptions
from medloom.generators.generated_images import FORMATS
from medloom.generators.sampling import OVERLAP, Edit, Framing

LABEL_COLUMNS = ("label", "finding", "class")
# Of a row, and of one command: more is a slip of the pen, and the list of them alone would fill the memory.
MOST_IMAGES = 1_000_000
# Column of the images' manifest: the class that a row was sampled for.
SAMPLED_FOR = "sampled_for"
# Options that say how the table of --data is read and shown.
OF_TABLES = ("columns", "images_are_patients", "skip_bad", "frame", "with_text", "keep")


@dataclass(frozen=True, kw_only=True)
class GenerationOptions(ManifestOptions):
    """How images are generated.

    Attributes:
        model: run folder.
        out: folder for the images and their manifest.csv.
        n: images a prompt, or a row.
        seed: of the first image; the k-th has seed + k, and looks the same in any batch and number of processes.
        steps: steps of the sampler (default: the run's own, which are 20 for diffusion and 8 for tokens unless its
            preset has others; a GAN has no sampler).
        guidance: how strongly the condition is followed; 1 is no guidance (default: the run's own, which is 2 unless
            its preset has another, and 1 of a model that was trained with --text.dropout 0; a GAN has none). For
            single parts of the condition add PART=SCALE, e.g. `--guidance 2 text=7.5 prior=1.5`; parts are mask, prior,
            modality, table and text.
        negative: what the images should not show; of an editor the instruction for no change, which an edit is compared
            with.
        sampler: name of a sampler; the default is the run's own, and fits the model.
        sampling: further options of the model's family as NAME=VALUE, e.g. temperature=0.9 top_k=100 of tokens.
        batch: images at a time.
        crops: for a model that was trained on patches, generate one patch an image, at a position of the mask that is a
            function of the seed, instead of an image of the mask's size.
        overlap: of whole images by such a model: least fraction of a window's axis that neighbours share.
        windows: of whole images by such a model: windows at a time.
        format: auto, png, tiff, dicom, nifti, nrrd or mhd; auto is PNG, or DICOM (NIfTI in 3-D) for values in HU.
        provenance: hash, or full, which writes the condition's text into every file.
        with_text: write the texts of `data` into the manifest and the pictures, which else have their lines; a text of
            --prompt is written always.
        keep: clinical columns of `data` to carry into the manifest.
        allow_unseen: allow values of the table that training has not seen; the images are extrapolations.
        device: auto, cpu or cuda.
    """

    # Whether the images estimate an effect: then no guidance, which exaggerates effects, unless it is asked for.
    estimates: ClassVar[bool] = False

    model: Path
    out: Path
    n: int = limited(1, at_least=1, at_most=MOST_IMAGES)
    seed: int = 0
    steps: int | None = None
    guidance: tuple[str, ...] = ()
    negative: str | None = None
    sampler: str | None = None
    sampling: tuple[str, ...] = ()
    batch: int = limited(16, at_least=1)
    crops: bool = False
    overlap: float = setting(OVERLAP)
    windows: int = setting(2)
    format: str = limited("auto", words=("auto", *FORMATS))
    provenance: str = limited("hash", words=("hash", "full"))
    with_text: bool = False
    keep: tuple[str, ...] = LABEL_COLUMNS
    allow_unseen: bool = False
    device: str = "auto"

    def check(self) -> None:
        """Refuse values out of range.

        Raises:
            UserError: the first of them.
        """
        check_limits(self)
        check_seed(self.seed)

    @property
    def framing(self) -> Framing:
        """How images of their mask's size are put together."""
        return Framing(self.crops, self.overlap, self.windows)

    @property
    def edit(self) -> Edit:
        """What an editor starts from; generation starts from noise."""
        return Edit()


def refuse_without_table(options: GenerationOptions, instead: str) -> None:
    """Refuse options of a table that were given where there is none.

    Args:
        options: without `data`.
        instead: the option that says what to generate.

    Raises:
        UserError: names the first of them.
    """
    given, flags = given_options(options), option_flags(options)
    for name in OF_TABLES:
        if name in given:
            flag = flags[name]
            raise UserError(f"{flag} would not be used: it is of a table of --data, not of {instead}; leave it out.")


def name_values(option: str, words: Sequence[str]) -> Mapping[str, str]:
    """NAME=VALUE words as a mapping.

    Raises:
        UserError: no `=`, or a name twice.
    """
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name in found:
            raise UserError(f"{option} {word}: give each NAME=VALUE once.")
        found[name.replace("-", "_")] = value
    return found
