"""The values that travel between folders: Condition, Sample, Batch, and the Task protocol that training/ trains."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.files import hash_json, hash_text, known_content
from medloom.core.image import Image

if TYPE_CHECKING:
    import torch

# An image part of a condition: a file (or a folder, for a DICOM series), an image in memory, or bare values.
ImagePart: TypeAlias = Path | Image | NDArray[np.generic]

# Kinds of NumPy's arrays that hold values of images.
NUMBERS = "biuf"

# What the parts of a condition are given as: types, and in words.
_TEXT = (str,), "a text"
IMAGE: tuple[type, ...] = (str, Path, Image, np.ndarray)
IMAGE_FORMS = "a file, an Image or an array of numbers"
FORMS: Mapping[str, tuple[tuple[type, ...], str]] = {
    **dict.fromkeys(("text", "modality", "view"), _TEXT),
    **dict.fromkeys(("prior", "mask"), (IMAGE, IMAGE_FORMS)),
    "table": ((Mapping,), "a mapping of columns to values"),
}


def _shown(given: object) -> str:
    """A value in a sentence: an array over several lines would break it up."""
    return " ".join(repr(given).split())


def is_image_part(given: object) -> bool:
    """Whether a value is an image part of a condition; an array has to have numbers in it, not texts or objects."""
    if isinstance(given, np.ndarray):
        return bool(given.size) and given.dtype.kind in NUMBERS
    return isinstance(given, Path | Image)


# Guidance adds the parts in this order (InstructPix2Pix: spatial parts first, then table and text).
PARTS = ("mask", "prior", "modality", "table", "text")
# Column of the table with the days between a prior image and the image.
DAYS = "days"


@dataclass(frozen=True)
class Condition:
    """What is known about one image; every part is optional.

    Attributes:
        text: report, caption or instruction.
        modality: imaging modality, as named in the manifest.
        view: projection or plane (PA, AP, axial), part of `modality` for guidance and dropout.
        prior: a prior image of the same patient: a file, an `Image`, or values `(C, *size)` or `(*size)` in the unit of
            the modality.
        mask: a label map with the image's geometry: a file, an `Image`, or whole numbers `(*size)`.
        table: clinical columns, name to value; None where missing.

    Examples:
        >>> import medloom
        >>> condition = medloom.Condition(modality="CXR", mask="seg.png", table={"age": 61})
        >>> condition.mask.name, condition.table
        ('seg.png', {'age': 61})
    """

    text: str | None = None
    modality: str | None = None
    view: str | None = None
    prior: ImagePart | None = None
    mask: ImagePart | None = None
    table: Mapping[str, float | str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, (types, words) in FORMS.items():
            given = getattr(self, name)
            fits = is_image_part(given) or isinstance(given, str) if types is IMAGE else isinstance(given, types)
            if given is not None and not fits:
                raise UserError(f"Condition: {name} is {_shown(given)}; give {words}, or leave it out.")
        # A user writes mask="seg.nii.gz".
        for name in ("prior", "mask"):
            if isinstance(given := getattr(self, name), str):
                object.__setattr__(self, name, Path(given))

    @property
    def mask_file(self) -> Path | None:
        """The file of the mask; None without a mask, or for one in memory."""
        return self.mask if isinstance(self.mask, Path) else None

    @property
    def prior_file(self) -> Path | None:
        """The file of the prior image; None without one, or for one in memory."""
        return self.prior if isinstance(self.prior, Path) else None

    def to_dict(self) -> dict[str, object]:
        """As JSON values, parts that are absent left out; an image in memory is named by a hash of its values.

        Examples:
            >>> import medloom
            >>> medloom.Condition("Small left effusion.", modality="CXR", view="PA").to_dict()
            {'text': 'Small left effusion.', 'modality': 'CXR', 'view': 'PA'}
        """
        values: dict[str, object] = {
            "text": self.text,
            "modality": self.modality,
            "view": self.view,
            "prior": None if self.prior is None else _named(self.prior),
            "mask": None if self.mask is None else _named(self.mask),
            "table": dict(self.table) or None,
        }
        return {name: value for name, value in values.items() if value is not None}

    def hash(self) -> str:
        """A hash that identifies the condition without revealing it; of files it takes the content, not the path.

        Raises:
            UserError: a file does not exist.

        Examples:
            >>> import medloom
            >>> medloom.Condition("Small left effusion.", "CXR").hash()
            'd7d54fe38cac2768'
        """
        contents = {name: _content(part) for name in ("prior", "mask") if (part := getattr(self, name)) is not None}
        return hash_json({**self.to_dict(), **contents})

    def without(self, dropped: frozenset[str]) -> "Condition":
        """The condition less some of its PARTS."""
        emptied: dict[str, Any] = {part: None for part in dropped if part != "table"}
        if "modality" in dropped:
            emptied["view"] = None
        if "table" in dropped:
            emptied["table"] = {}
        return replace(self, **emptied)


def _named(part: ImagePart) -> str:
    """The path of an image part, or a hash of the values of one in memory."""
    return str(part) if isinstance(part, Path) else _content(part)


def _content(part: ImagePart) -> str:
    """A hash of an image part's file, or of the values of one in memory."""
    if isinstance(part, Path):
        return known_content(part)
    values = part.pixels if isinstance(part, Image) else part
    return hash_text(f"{values.shape} {values.dtype} {values.tobytes().hex()}")


@dataclass(frozen=True)
class Sample:
    """One row of a manifest, ready for use.

    Attributes:
        path: of the image; empty where a condition stands alone.
        condition: what is known about the image.
        patient: whose it is.
        row: position among the rows.
        line: in the file.
        registered_prior: the condition's prior image on this image's grid, where the two were registered.
    """

    path: Path
    condition: Condition
    patient: str
    row: int
    line: int
    registered_prior: Path | None = None


@dataclass(frozen=True)
class Batch:
    """What one step trains on; each family adds its own tensors.

    Attributes:
        images: float32 `(N, C, *spatial)` in [-1, 1], or latents of an autoencoder.
        rows: manifest row of each sample: the key of its randomness.
        step: optimiser step that the batch belongs to; -1 outside of training.
    """

    images: "torch.Tensor"
    rows: tuple[int, ...]
    step: int


BatchType = TypeVar("BatchType", bound=Batch)


@dataclass(frozen=True)
class Phase(Generic[BatchType]):
    """One optimiser's part of a step. A GAN has two phases, a diffusion model one.

    Attributes:
        name: the name in logs.
        module: a module that holds exactly the parameters this phase trains; it is called through `loss`, so that
            gradients of several processes are averaged.
        loss: maps (module as prepared for several processes, batch) to the mean loss over the batch and metrics to log.
        learning_rate: peak learning rate.
        every: the phase runs at steps, counted from 1, divisible by it.
        betas: Adam's decay rates.
        weight_decay: decoupled weight decay.
        learning_rate_factors: by the start of a parameter's name.
    """

    name: str
    module: "torch.nn.Module"
    loss: Callable[["torch.nn.Module", BatchType], tuple["torch.Tensor", Mapping[str, "torch.Tensor"]]]
    learning_rate: float
    every: int = 1
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    learning_rate_factors: Mapping[str, float] = field(default_factory=dict)


class Task(Protocol[BatchType]):
    """What the training loop trains. The loop knows nothing of generators: it sees only this.

    Attributes:
        prefetches: whether another thread may make a step's batches while the step before it is trained; not where they
            depend on the weights.
    """

    prefetches: bool

    def phases(self) -> Sequence[Phase[BatchType]]:
        """The optimisers' parts of a step, in the order in which they run."""

    def batches(self, first_step: int, rank: int, processes: int) -> Iterator[Sequence[BatchType]]:
        """For each step from `first_step` on, this process's micro-batches: a function of (run seed, step).

        Where a task does not prefetch, also of the weights before the step and of `state`.
        """

    def validate(self, out: Path, step: int) -> Mapping[str, float]:
        """Render the fixed validation conditions to `out` and return metrics to log; called on the main process."""

    def ema(self) -> "torch.nn.Module | None":
        """The module whose exponential moving average is kept, or None."""

    def after_step(self, step: int) -> None:
        """Called after each optimiser step (codebook counters, pools)."""

    def state(self) -> Mapping[str, "torch.Tensor"]:
        """Tensors beyond the phases' weights that a resumed run needs (pools, codebook counters)."""

    def load_state(self, state: Mapping[str, "torch.Tensor"]) -> None:
        """Restore what `state` gave."""

    def save_model(self, folder: Path) -> None:
        """Write the trained components, in the layout that generators load, to an empty folder."""
