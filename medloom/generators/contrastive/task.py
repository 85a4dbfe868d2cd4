"""Training a text encoder against the images of its texts: the Task that the loop sees."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medloom.core.types import Batch, Phase
from medloom.data.cache import PackedTexts
from medloom.generators.contrastive.pairs import PairEncoder, contrastive_loss, found_first
from medloom.generators.training_data import RowOrder, spread_rows
from medloom.training.options import LoopOptions

Row = TypeVar("Row")
VALIDATION_IMAGES = 512
VALIDATION_BATCH = 64


@dataclass(frozen=True)
class PairData:
    """Images and their texts by row.

    Attributes:
        images: `(rows, C, *size)` in [-1, 1], on disk or in memory.
        texts: one a row.
        ids: their tokens.
        usable: the rows that are used.
    """

    images: NDArray[Any]
    texts: Sequence[str]
    ids: PackedTexts
    usable: Sequence[int]

    def take(self, rows: Sequence[int]) -> Tensor:
        """The images of some rows, float32 `(N, C, *size)`."""
        return torch.from_numpy(np.stack([self.images[row] for row in rows]).astype(np.float32))

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids `(N, L)` and their mask `(N, L)`."""
        ids, mask, _ = self.ids.rows([self.ids.index[text] for text in texts])
        return torch.from_numpy(ids[..., 0]), torch.from_numpy(mask)


@dataclass(frozen=True, eq=False)
class PairBatch(Batch):
    """Images and their texts.

    Attributes:
        ids: token ids int64 `(N, L)`.
        mask: bool `(N, L)`, False for padding.
        text: number of each text int64 `(N,)`; equal texts have one.
        whole: the step's whole batch, of which this is a part.
    """

    ids: Tensor
    mask: Tensor
    text: Tensor
    whole: "WholeBatch"


class WholeBatch:
    """The batch of a step: the micro-batches of this process, in order, and those of the others.

    Every image is compared with all texts of the step, however these are divided, as in GradCache (Gao et al. 2021):
    all vectors are computed without gradients first, and each micro-batch then sees the others' as constants.

    Attributes:
        parts: this process's micro-batches.
        rank: of this process; processes: their number.
    """

    def __init__(self, rank: int, processes: int) -> None:
        self.parts: list[PairBatch] = []
        self.rank, self.processes = rank, processes
        self._vectors: tuple[Tensor, Tensor, Tensor] | None = None

    def vectors(self, module: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
        """Unit vectors of the step's images and texts `(N, J)`, without gradients, and the texts' numbers `(N,)`."""
        if self._vectors is None:
            with torch.no_grad():
                made = [module(part.images, part.ids, part.mask) for part in self.parts]
            own = [torch.cat([each[side] for each in made]) for side in (0, 1)]
            own.append(torch.cat([part.text for part in self.parts]))
            images, texts, numbers = (gathered(values, self.processes) for values in own)
            self._vectors = images, texts, numbers
        return self._vectors

    def start_of(self, batch: PairBatch) -> int:
        """Where the rows of a micro-batch begin among all rows of the step."""
        before = sum(len(part.rows) for part in self.parts)
        place = next(number for number, part in enumerate(self.parts) if part is batch)
        return self.rank * before + sum(len(part.rows) for part in self.parts[:place])


def gathered(values: Tensor, processes: int) -> Tensor:
    """The values of all processes, end to end, without gradients."""
    if processes == 1:
        return values
    others = [torch.empty_like(values) for _ in range(processes)]
    torch.distributed.all_gather(others, values.contiguous())
    return torch.cat(others)


class ContrastiveTask:
    """Each image finds its text among those of its batch, and each text its image.

    Attributes:
        pairs: what is trained.
        data: the training rows; validation: the validation rows.
        options: of the loop.
        device: where batches go.
    """

    prefetches = True

    def __init__(
        self, pairs: PairEncoder, data: PairData, validation: PairData, options: LoopOptions, device: torch.device
    ) -> None:
        self.pairs = pairs
        self.data = data
        self.validation = validation
        self.options = options
        self.device = device
        self.order = RowOrder(options.seed, data.usable, options.batch)
        pairs.train()

    def phases(self) -> Sequence[Phase[PairBatch]]:
        """One phase: both encoders together."""
        options = self.options
        return [Phase("loss", self.pairs, self._loss, options.learning_rate, weight_decay=options.weight_decay)]

    def ema(self) -> nn.Module:
        """Both encoders."""
        return self.pairs

    def after_step(self, step: int) -> None:
        """Nothing changes outside of the weights."""

    def state(self) -> Mapping[str, Tensor]:
        """No state beyond the weights."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """No state beyond the weights."""

    def save_model(self, folder: Path) -> None:
        """Write both encoders."""
        self.pairs.save(folder)

    def batches(self, first_step: int, rank: int, processes: int) -> Iterator[Sequence[PairBatch]]:
        """This process's micro-batches of each step: its share of the step's rows, in order."""
        for step in count(first_step):
            parts = self.order.micro_batches(step, rank, processes, self.options.accumulate)
            whole = WholeBatch(rank, processes)
            whole.parts += [self.batch(part, step, whole) for part, _ in parts]
            yield whole.parts

    def batch(self, rows: Sequence[int], step: int, whole: WholeBatch) -> PairBatch:
        """Images and texts of some rows."""
        texts = [self.data.texts[row] for row in rows]
        ids, mask = self.data.tokens(texts)
        numbers = torch.tensor([self.data.ids.index[text] for text in texts])
        tensors = (self.data.take(rows), ids, mask, numbers)
        images, ids, mask, numbers = (tensor.to(self.device, non_blocking=True) for tensor in tensors)
        return PairBatch(images, tuple(rows), step, ids, mask, numbers, whole)

    def _loss(self, module: nn.Module, batch: PairBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        whole = batch.whole
        shares = len(whole.parts) * whole.processes
        if shares == 1:
            images, texts, scale = module(batch.images, batch.ids, batch.mask)
            return contrastive_loss(images, texts, batch.text[:, None] == batch.text[None], scale), {}
        all_images, all_texts, numbers = whole.vectors(module)
        images, texts, scale = module(batch.images, batch.ids, batch.mask)
        start = whole.start_of(batch)
        end = start + len(images)
        images = torch.cat([all_images[:start], images, all_images[end:]])
        texts = torch.cat([all_texts[:start], texts, all_texts[end:]])
        # The loop takes the mean over micro-batches and processes. Each of them has the gradient of its own vectors
        # alone, whose sum is wanted; the temperature's gradient is whole in every one.
        scale = scale.detach() + (scale - scale.detach()) / shares
        loss = contrastive_loss(images, texts, numbers[:, None] == numbers[None], scale)
        return loss.detach() + (loss - loss.detach()) * shares, {}

    def validate(self, out: Path, step: int) -> Mapping[str, float]:
        """See `retrieval`; the loss is the share that is not found."""
        self.pairs.eval()
        figures = retrieval(self.pairs, self.validation, self.device)
        self.pairs.train()
        if not figures:
            return {}
        return {"validation/loss": 1 - figures["found"], **{f"validation/{name}": figures[name] for name in figures}}


@torch.no_grad()
def retrieval(pairs: PairEncoder, data: PairData, device: torch.device) -> dict[str, float]:
    """The share of images whose nearest text, among the distinct ones of all these images, is theirs, and chance.

    Args:
        pairs: in evaluation mode.
        data: the images; up to 512 are used.
        device: where it is computed.

    Returns:
        `found` and `chance`, 0 to 1; nothing where there are no images.
    """
    rows = [data.usable[place] for place in spread_rows(len(data.usable), VALIDATION_IMAGES)]
    if not rows:
        return {}
    texts_of_rows = [data.texts[row] for row in rows]
    distinct = list(dict.fromkeys(texts_of_rows))
    images = [pairs.joint.see(data.take(part).to(device)) for part in _parts(rows)]
    texts = [pairs.read(*(tensor.to(device) for tensor in data.tokens(part))) for part in _parts(distinct)]
    owner = torch.tensor([distinct.index(text) for text in texts_of_rows])
    return {"found": found_first(torch.cat(images), torch.cat(texts), owner), "chance": 1 / len(distinct)}


def _parts(values: Sequence[Row]) -> list[Sequence[Row]]:
    return [values[at : at + VALIDATION_BATCH] for at in range(0, len(values), VALIDATION_BATCH)]
