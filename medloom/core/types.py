"""The values that travel between folders: Condition, Sample, Batch, and the Task protocol that training/ trains."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from medloom.core.files import hash_json

if TYPE_CHECKING:
    import torch

# Guidance adds the parts in this order (InstructPix2Pix: spatial parts first, then table and text).
PARTS = ("mask", "prior", "modality", "table", "text")


@dataclass(frozen=True)
class Condition:
    """What is known about one image; every part is optional.

    Attributes:
        text: report, caption or instruction.
        modality: imaging modality, as named in the manifest.
        view: projection or plane (PA, AP, axial), part of `modality` for guidance and dropout.
        prior: path of an earlier image of the same patient.
        mask: path of a label map with the image's geometry.
        table: clinical columns, name to value; None where missing.
    """

    text: str | None = None
    modality: str | None = None
    view: str | None = None
    prior: Path | None = None
    mask: Path | None = None
    table: Mapping[str, float | str | None] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, parts that are absent left out."""
        values: dict[str, Any] = {
            "text": self.text,
            "modality": self.modality,
            "view": self.view,
            "prior": str(self.prior) if self.prior else None,
            "mask": str(self.mask) if self.mask else None,
            "table": dict(self.table) or None,
        }
        return {name: value for name, value in values.items() if value is not None}

    def hash(self) -> str:
        """A hash that identifies the condition without telling it."""
        return hash_json(self.to_dict())

    def without(self, dropped: frozenset[str]) -> "Condition":
        """The condition less some of its PARTS."""
        emptied: dict[str, Any] = {part: None for part in dropped if part != "table"}
        if "modality" in dropped:
            emptied["view"] = None
        if "table" in dropped:
            emptied["table"] = {}
        return replace(self, **emptied)


@dataclass(frozen=True)
class Sample:
    """One row of a manifest, ready for use.

    Attributes:
        path: of the image; empty where a condition stands alone.
        condition: what is known about the image.
        patient: whose it is.
        row: position among the rows.
        line: in the file.
        registered_prior: the condition's earlier image on this image's grid, where the two were registered.
    """

    path: Path
    condition: Condition
    patient: str
    row: int
    line: int
    registered_prior: Path | None = None


@dataclass(frozen=True)
class Batch:
    """What one step trains on.

    Attributes:
        images: float32 `(N, C, *spatial)` in [-1, 1], or latents of an autoencoder.
        rows: manifest row of each sample: the key of its randomness.
        conditions: one Condition a sample.
        step: optimiser step that the batch belongs to.
        extra: further tensors by name (cached text embeddings, masks), first axis N.
    """

    images: "torch.Tensor"
    rows: tuple[int, ...]
    conditions: tuple[Condition, ...]
    step: int
    extra: Mapping[str, "torch.Tensor"] = field(default_factory=dict)


@dataclass(frozen=True)
class Phase:
    """One optimiser's share of a step. A GAN has two phases, a diffusion model one.

    Attributes:
        name: the name in logs.
        module: a module that holds exactly the parameters this phase trains; it is called through `loss`, so that
            gradients of several processes are averaged.
        loss: maps (module as prepared for several processes, batch) to the mean loss over the batch and figures to log.
        learning_rate: peak learning rate.
        every: the phase runs at steps, counted from 1, divisible by it.
        betas: Adam's decay rates.
        weight_decay: decoupled weight decay.
        rates: factors on the learning rate of the parameters whose names start so.
    """

    name: str
    module: "torch.nn.Module"
    loss: Callable[["torch.nn.Module", Batch], tuple["torch.Tensor", Mapping[str, "torch.Tensor"]]]
    learning_rate: float
    every: int = 1
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    rates: Mapping[str, float] = field(default_factory=dict)


class Task(Protocol):
    """What the training loop trains. The loop knows nothing of generators: it sees only this."""

    def phases(self) -> Sequence[Phase]:
        """The optimisers' shares of a step, in the order in which they run."""
        ...

    def batches(self, first_step: int, rank: int, processes: int) -> Iterator[Sequence[Batch]]:
        """For each step from `first_step` on, this process's micro-batches; a function of (run seed, step) alone.

        A step's are made by another thread while the step before it is trained.
        """
        ...

    def validate(self, out: Path, step: int) -> Mapping[str, float]:
        """Render the fixed validation conditions to `out` and return figures to log; called on the main process."""
        ...

    def ema(self) -> "torch.nn.Module | None":
        """The module whose exponential moving average is kept, or None."""
        ...

    def after_step(self, step: int) -> None:
        """Called after each optimiser step (codebook counters, pools)."""
        ...

    def state(self) -> Mapping[str, "torch.Tensor"]:
        """Tensors beyond the phases' weights that a resumed run needs (pools, codebook counters)."""
        ...

    def load_state(self, state: Mapping[str, "torch.Tensor"]) -> None:
        """Restore what `state` gave."""
        ...

    def save_model(self, folder: Path) -> None:
        """Write the trained components, in the layout that generators load, to an empty folder."""
        ...
