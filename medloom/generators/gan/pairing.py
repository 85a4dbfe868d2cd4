"""How images and masks meet in training: those of one row, or those of different rows."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from medloom.core.errors import UserError
from medloom.core.seeds import mix, torch_generator
from medloom.core.types import Batch
from medloom.data.patches import Crop
from medloom.generators.base_task import normal_draws
from medloom.generators.gan.adversary import Shown
from medloom.generators.gan.generator import GANGenerator
from medloom.generators.gan.model import Cycle, GANInputs
from medloom.generators.gan.objective import Made
from medloom.generators.training_data import TrainingData, condition_tensors
from medloom.networks.gan_generators import ImageNetwork


@dataclass(frozen=True, eq=False)
class GANBatch(Batch):
    """Images with noise and conditions.

    Attributes:
        own: of the images' own rows.
        other: of the rows whose masks images are generated from, where those are not the images' own.
    """

    own: GANInputs
    other: GANInputs | None = None


class Pairing(ABC):
    """What a step draws, and what it makes of it.

    Attributes:
        generator: what is trained.
        seed: of the run.
        module: everything that the generator's phase trains.
    """

    module: nn.Module

    def __init__(self, generator: GANGenerator, seed: int) -> None:
        self.generator = generator
        self.seed = seed

    @abstractmethod
    def draw(
        self, data: TrainingData, rows: Sequence[int], repeated: Sequence[int], step: int | str, dropout: float
    ) -> tuple[Tensor, GANInputs, GANInputs | None]:
        """The images of some rows, or patches of them, with noise and conditions, and those of the masks' rows.

        A function of (seed, step, row) and of how often the row stood before in the step.

        Args:
            data: the rows' data.
            rows: which.
            repeated: how often each stood before in the step.
            step: optimiser step, or a name for batches outside of training.
            dropout: share of each nested subset of the condition that is dropped.
        """

    @abstractmethod
    def make(self, module: nn.Module, batch: GANBatch) -> Made:
        """Call the module, as prepared for several processes, on a batch."""

    @abstractmethod
    def check(self, data: TrainingData) -> bool:
        """Whether steps can be drawn from some data."""

    def _generators(self, rows: Sequence[int], repeated: Sequence[int], step: int | str) -> list[torch.Generator]:
        """What a step draws for each row comes from a generator of its own."""
        return [torch_generator(self.seed, "row", step, *key) for key in zip(rows, repeated, strict=True)]

    def _inputs(
        self,
        data: TrainingData,
        rows: Sequence[int],
        crops: Sequence[Crop] | None,
        generators: Sequence[torch.Generator],
        dropout: float,
    ) -> GANInputs:
        """The rows' conditions, with what is dropped, noise and style drawn from the generators."""
        config = self.generator.model.network.config
        uniforms = torch.cat([torch.rand(1, generator=generator, dtype=torch.float64) for generator in generators])
        noise = normal_draws(generators, self.generator.spec.shape)
        style = normal_draws(generators, (config.style_width,))
        return GANInputs(noise, style, condition_tensors(self.generator, data, rows, uniforms, dropout, crops))


class Paired(Pairing):
    """Each image with its own mask, as in pix2pix."""

    def __init__(self, generator: GANGenerator, seed: int) -> None:
        super().__init__(generator, seed)
        self.module = generator.model

    def draw(
        self, data: TrainingData, rows: Sequence[int], repeated: Sequence[int], step: int | str, dropout: float
    ) -> tuple[Tensor, GANInputs, GANInputs | None]:
        """See Pairing."""
        crops = data.draw_crops(self.seed, step, rows, repeated)
        generators = self._generators(rows, repeated, step)
        return data.images(rows, crops), self._inputs(data, rows, crops, generators, dropout), None

    def check(self, data: TrainingData) -> bool:
        """See Pairing."""
        return len(data.usable) > 0

    def make(self, module: nn.Module, batch: GANBatch) -> Made:
        """The generator's image and the real one of the same mask."""
        made, pooled = module(batch.own)
        spatial = self.generator.model.spatial(batch.own.condition.mask_labels, batch.images)
        pooled = pooled.detach() if pooled is not None else None
        return Made(made, batch.images, Shown(made, spatial, pooled), Shown(batch.images, spatial, pooled))


class Unpaired(Pairing):
    """Images and masks of different rows: no loss ever compares an image with its own mask.

    Text, modality and table go with the image where an image is judged or given back, and with the mask where an image
    is made of it.

    Attributes:
        module: the generator and its inverse.
    """

    def __init__(self, generator: GANGenerator, seed: int, inverse: ImageNetwork) -> None:
        super().__init__(generator, seed)
        self.cycle = Cycle(generator.model, inverse)
        self.module = self.cycle
        self._masked: dict[int, list[int]] = {}

    def draw(
        self, data: TrainingData, rows: Sequence[int], repeated: Sequence[int], step: int | str, dropout: float
    ) -> tuple[Tensor, GANInputs, GANInputs | None]:
        """See Pairing."""
        generators = self._generators(rows, repeated, step)
        unmasked = _without_masks(data)
        crops = unmasked.draw_crops(self.seed, step, rows, repeated)
        own = self._inputs(unmasked, rows, crops, generators, dropout)
        others = self.others(data, rows, step)
        theirs = data.draw_crops(self.seed, step, others, repeated)
        # A mask that is dropped would be no mask to find again.
        other = self._inputs(data, others, theirs, generators, dropout=0.0)
        return data.images(rows, crops), own, other

    def others(self, data: TrainingData, rows: Sequence[int], step: int | str) -> list[int]:
        """For each row another one with a mask; a function of (seed, step, row)."""
        masked = self._rows_with_masks(data)
        shift = mix(self.seed, "pairing", step)
        chosen = [masked[(row + shift) % len(masked)] for row in rows]
        return [
            masked[(row + shift + 1) % len(masked)] if other == row else other
            for row, other in zip(rows, chosen, strict=True)
        ]

    def _rows_with_masks(self, data: TrainingData) -> list[int]:
        key = id(data)
        if key not in self._masked:
            self._masked[key] = [row for row in data.usable if data.conditions[row].mask is not None]
        return self._masked[key]

    def check(self, data: TrainingData) -> bool:
        """See Pairing."""
        return len(self._rows_with_masks(data)) > 1

    def make(self, module: nn.Module, batch: GANBatch) -> Made:
        """Images of other rows' masks, the masks found in them, and the images given back by way of a mask."""
        if batch.other is None or batch.other.condition.mask_labels is None:
            raise ValueError("a batch without masks of other rows")
        made, recovered, found, back, pooled_own, pooled_other = module(batch.images, batch.own, batch.other)
        labels = batch.other.condition.mask_labels
        masks = self.generator.model.spatial(labels, batch.images)
        fake = Shown(made, None, _detached(pooled_other), found)
        real = Shown(batch.images, None, _detached(pooled_own), masks)
        return Made(back, batch.images, fake, real, recovered, self.cycle.classes(labels))


def require_pairs(pairing: Pairing, data: TrainingData) -> None:
    """Refuse training rows that do not make a step.

    Raises:
        UserError: says what is needed.
    """
    if not pairing.check(data):
        raise UserError("--gan.unpaired needs at least two training rows with masks; give more, or leave it out.")


def _without_masks(data: TrainingData) -> TrainingData:
    """The data for images whose own masks are not to be used: not read, nor looked at for where a patch may lie."""
    patches = replace(data.patches, places=None) if data.patches is not None else None
    return replace(data, labels=None, patches=patches)


def _detached(pooled: Tensor | None) -> Tensor | None:
    return None if pooled is None else pooled.detach()
