"""What a training step of any family needs of its rows: images or patches, masks, and conditions as tensors."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from medloom.core.mask_spec import NO_MASK
from medloom.core.seeds import numpy_generator
from medloom.core.table_column import NOT_KNOWN
from medloom.core.types import Condition
from medloom.data.cache import PackedArrays, PackedTexts
from medloom.data.padding import Contents
from medloom.data.patches import Crop, PatchRules, cut, cut_labels, draw_crop, draw_shift
from medloom.data.volume_cache import ClassPositions
from medloom.generators.base import AnyGenerator
from medloom.generators.base_model import keep, prompt_of
from medloom.generators.tensors import ConditionTensors
from medloom.processes.guidance import draw_subset, nested_subsets

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class PatchData:
    """What cutting patches needs.

    Attributes:
        rules: how patches are cut.
        places: pixels of each mask class in each image, or None where there are no masks.
        sides: pairs of mask classes that change places in a mirrored patch.
        mirrored: the condition of each row's mirror image; empty where nothing is mirrored.
        mirrored_cells: as `TrainingData.cells`, of the mirror images.
    """

    rules: PatchRules
    places: ClassPositions | None = None
    sides: Sequence[tuple[int, int]] = ()
    mirrored: Sequence[Condition] = ()
    mirrored_cells: Tensor | None = None


@dataclass(frozen=True)
class PriorData:
    """Prior images of some rows, as the targets are stored.

    Attributes:
        versions: arrays `(M, C, *size)`, each with the same prior images: unregistered, and, where pairs were
            registered, on the later image's grid.
        entries: of each row, its entry in the arrays, -1 where it has no prior image.
        unregistered: fraction of draws that take the unregistered image, which is all that there is at use.
    """

    versions: Sequence["NDArray[Any]"]
    entries: Sequence[int]
    unregistered: float = 1.0

    def images(self, rows: Sequence[int], uniforms: Sequence[float], crops: Sequence[Crop] | None = None) -> Tensor:
        """Those of some rows, float32 `(N, C + 1, *size)`; the last channel is 1 where there is one, else all are 0.

        Args:
            rows: which.
            uniforms: in [0, 1), one a row: whether the unregistered one is taken.
            crops: by which the rows' images are shifted.
        """
        own: Sequence[Crop | None] = crops or [None] * len(rows)
        return torch.stack([self._image(*each) for each in zip(rows, uniforms, own, strict=True)])

    def _image(self, row: int, uniform: float, crop: Crop | None) -> Tensor:
        images, entry = self.versions[0 if uniform < self.unregistered else -1], self.entries[row]
        if entry < 0:
            return torch.zeros(images.shape[1] + 1, *images.shape[2:])
        image = images[entry].astype(np.float32) if crop is None else cut(images[entry], crop)
        return torch.cat([torch.from_numpy(image), torch.ones(1, *image.shape[1:])])


@dataclass(frozen=True)
class TrainingData:
    """Everything a step needs, on disk or in memory, by row.

    Attributes:
        targets: images `(rows, C, *size)` in [-1, 1], or posterior moments `(rows, 2 C, *latent)` of an autoencoder;
            with patches, whole images of any size.
        usable: the rows that are trained on.
        conditions: one a row.
        texts: token ids or embeddings of every text that the rows can give.
        labels: label maps int16 `(rows, *size)`, or None; with patches, of the whole images.
        cells: columns of the clinical table float32 `(rows, K)`, NaN where missing, or None.
        patches: how patches are cut, or None where the model sees whole images.
        shift: pixels by which whole images, their masks and prior images are shifted at most along each axis, each
            time anew.
        priors: the rows' prior images, or None.
        contents: how much of the frame each row's image fills, of which the model is given the position; None where no
            training image is padded, or the model takes no positions.
    """

    targets: "NDArray[Any] | PackedArrays[np.float16]"
    usable: Sequence[int]
    conditions: Sequence[Condition]
    texts: PackedTexts
    labels: "NDArray[np.int16] | PackedArrays[np.int16] | None" = None
    cells: Tensor | None = None
    patches: PatchData | None = None
    shift: int = 0
    priors: PriorData | None = None
    contents: Contents | None = None

    def draw_crops(self, seed: int, step: int | str, rows: Sequence[int], repeated: Sequence[int]) -> list[Crop] | None:
        """A patch of each row, a function of the run's seed, the step, the row, and how often it stood before.

        None where the model sees whole images as they are.
        """
        if self.patches is None:
            return self._draw_shifts(seed, step, rows, repeated) if self.shift else None
        crops = []
        for row, repeat in zip(rows, repeated, strict=True):
            places = self.patches.places.of(row) if self.patches.places is not None else []
            rng = numpy_generator(seed, "crop", step, row, repeat)
            crops.append(draw_crop(rng, self.targets[row].shape[1:], self.patches.rules, places))
        return crops

    def _draw_shifts(self, seed: int, step: int | str, rows: Sequence[int], repeated: Sequence[int]) -> list[Crop]:
        draws = [numpy_generator(seed, "shift", step, *again) for again in zip(rows, repeated, strict=True)]
        # What comes in is padding to a model that is given where content lies; else the edge, so that none comes in.
        sizes, edge = [self.targets[row].shape[1:] for row in rows], self.contents is None
        return [draw_shift(rng, size, self.shift, edge) for rng, size in zip(draws, sizes, strict=True)]

    def draw_priors(
        self,
        seed: int,
        step: int | str,
        rows: Sequence[int],
        repeated: Sequence[int],
        crops: Sequence[Crop] | None = None,
    ) -> Tensor | None:
        """The prior images of some rows, each registered or not, drawn like `draw_crops`; None without any."""
        if self.priors is None:
            return None
        uniforms = [numpy_generator(seed, "prior", step, *again).random() for again in zip(rows, repeated, strict=True)]
        return self.priors.images(rows, uniforms, crops)

    def images(self, rows: Sequence[int], crops: Sequence[Crop] | None = None) -> Tensor:
        """The targets of some rows, or patches of them, float32 `(N, C, *size)`."""
        if crops is None:
            return torch.from_numpy(np.stack([self.targets[row] for row in rows]).astype(np.float32))
        return torch.from_numpy(np.stack([cut(self.targets[row], crop) for row, crop in zip(rows, crops, strict=True)]))

    def label_maps(self, rows: Sequence[int], crops: Sequence[Crop] | None = None) -> Tensor | None:
        """The label maps of some rows, or patches of them, int64 `(N, *size)`."""
        if self.labels is None:
            return None
        if crops is None:
            maps = [self.labels[row] for row in rows]
        else:
            sides = self.patches.sides if self.patches is not None else ()
            maps = [cut_labels(self.labels[row], crop, sides) for row, crop in zip(rows, crops, strict=True)]
        return torch.from_numpy(np.stack(maps).astype(np.int64))

    def positions(self, rows: Sequence[int], crops: Sequence[Crop] | None = None) -> Tensor | None:
        """Where patches, or the frames of padded images, lie in their images, float32 `(N, axes, 2)`.

        None where the model sees whole images, and is not given where their content lies.
        """
        if self.patches is not None and crops is not None:
            found = [crop.position(self.targets[row].shape[1:]) for row, crop in zip(rows, crops, strict=True)]
        elif self.contents is not None:
            moved: Sequence[Crop | None] = crops or [None] * len(rows)
            found = [self.contents.position(row, crop) for row, crop in zip(rows, moved, strict=True)]
        else:
            return None
        return torch.from_numpy(np.stack(found))

    def conditions_of(self, rows: Sequence[int], crops: Sequence[Crop] | None = None) -> list[Condition]:
        """The conditions of some rows; of mirrored patches those of the mirror images."""
        if crops is None or self.patches is None:
            return [self.conditions[row] for row in rows]
        patches = self.patches
        return [
            patches.mirrored[row] if crop.mirrored else self.conditions[row]
            for row, crop in zip(rows, crops, strict=True)
        ]

    def cell_rows(self, rows: Sequence[int], crops: Sequence[Crop] | None = None) -> Tensor | None:
        """The table's cells of some rows, or of their mirror images, float32 `(N, K)`."""
        if self.cells is None:
            return None
        cells = self.cells[list(rows)]
        mirrored = self.patches.mirrored_cells if self.patches is not None else None
        if crops is None or mirrored is None:
            return cells
        flipped = torch.tensor([crop.mirrored for crop in crops])
        return torch.where(flipped[:, None], mirrored[list(rows)], cells)


def all_prompts(conditions: Sequence[Condition], modality_as: str, parts: Sequence[str]) -> list[str]:
    """Every text that training can ask for: that of each nested subset of each condition."""
    subsets = nested_subsets(parts)
    return sorted({prompt_of(keep(c, kept, parts), modality_as, parts) for c in conditions for kept in subsets})


def condition_tensors(
    generator: AnyGenerator,
    data: TrainingData,
    rows: Sequence[int],
    uniforms: Tensor,
    dropout: float,
    crops: Sequence[Crop] | None = None,
    priors: Tensor | None = None,
) -> ConditionTensors:
    """The conditions of some rows as tensors, each less a nested subset of its parts that is drawn.

    Args:
        generator: whose networks read them.
        data: the rows' data.
        rows: which.
        uniforms: float64 `(N,)` in [0, 1): what is dropped.
        dropout: probability of each nested subset.
        crops: the patch of each row, where patches are cut.
        priors: the prior image of each row, as `PriorData.images` gives them.
    """
    parts = generator.parts
    kept = [frozenset(parts) - gone for gone in draw_subset(uniforms, parts, dropout)]
    given = zip(data.conditions_of(rows, crops), kept, strict=True)
    conditions = [keep(condition, own, parts) for condition, own in given]
    tensors = _text_tensors(generator, data.texts, conditions)

    def has(part: str, like: Tensor) -> Tensor:
        """Whether each row keeps a part, shaped to multiply a tensor of rows."""
        return torch.tensor([part in own for own in kept]).view(-1, *[1] * (like.ndim - 1))

    if generator.model.condition is not None:
        names = [None if generator.modality_as == "text" else condition.modality for condition in conditions]
        modality, view = generator.model.condition.indices(names, [condition.view for condition in conditions])
        tensors = replace(tensors, modality=modality, view=view)
    cells, labels = data.cell_rows(rows, crops), data.label_maps(rows, crops)
    if generator.columns and cells is not None:
        tensors = replace(tensors, table=cells.masked_fill(~has("table", cells), NOT_KNOWN))
    if labels is not None:
        tensors = replace(tensors, mask_labels=labels.masked_fill(~has("mask", labels), NO_MASK))
    if priors is not None:
        seen = generator.prior_inputs(priors)
        tensors = replace(tensors, prior=seen * has("prior", priors))
    return replace(tensors, patch_position=data.positions(rows, crops))


def _text_tensors(generator: AnyGenerator, texts: PackedTexts, conditions: Sequence[Condition]) -> ConditionTensors:
    prompts = [prompt_of(condition, generator.modality_as, generator.parts) for condition in conditions]
    tokens, mask, pooled = texts.rows([texts.index[prompt] for prompt in prompts])
    text_mask = torch.from_numpy(mask)
    if not generator.train_text:
        embeddings, vectors = (torch.from_numpy(values.astype(np.float32)) for values in (tokens, pooled))
        return ConditionTensors(text_embeddings=embeddings, text_pooled=vectors, text_mask=text_mask)
    ids = torch.from_numpy(tokens[..., 0].astype(np.int64))
    pad = generator.model.text.tokenizer.pad_token_id
    return ConditionTensors(text_ids=ids.masked_fill(~text_mask, pad), text_mask=text_mask)


class RowOrder:
    """Whole passes over some rows, each in an order of its own.

    Attributes:
        seed: the run's seed.
        members: the rows of a pass.
        batch: rows a step, over all processes and micro-batches.
    """

    def __init__(self, seed: int, members: Sequence[int], batch: int) -> None:
        self.seed = seed
        self.members = members
        self.batch = batch
        self._last: tuple[int, list[int]] | None = None

    def rows(self, step: int) -> list[int]:
        """The rows of a step, over all processes."""
        first, total = step * self.batch, len(self.members)
        return [self._order(place // total)[place % total] for place in range(first, first + self.batch)]

    def micro_batches(
        self, step: int, rank: int, processes: int, accumulate: int
    ) -> list[tuple[Sequence[int], Sequence[int]]]:
        """One process's rows of a step, in `accumulate` equal parts; and how often each stood before in the step."""
        rows, size = self.rows(step), self.batch // processes // accumulate
        before, first = repeats(rows), rank * (self.batch // processes)
        parts = [slice(start, start + size) for start in range(first, first + accumulate * size, size)]
        return [(rows[part], before[part]) for part in parts]

    def _order(self, epoch: int) -> list[int]:
        if self._last is None or self._last[0] != epoch:
            places = numpy_generator(self.seed, "order", epoch).permutation(len(self.members)).tolist()
            self._last = (epoch, [self.members[place] for place in places])
        return self._last[1]


def repeats(rows: Sequence[int]) -> list[int]:
    """How often each row stood before in a sequence: a step of few rows sees one row several times."""
    return [sum(other == row for other in rows[:place]) for place, row in enumerate(rows)]


def spread_rows(total: int, count: int) -> list[int]:
    """Up to `count` of `total` rows, evenly over all of them: tables are often sorted by modality."""
    wanted = min(total, count)
    return [place * total // wanted for place in range(wanted)]
