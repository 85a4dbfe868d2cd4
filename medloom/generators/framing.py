"""From arrays in the model's space to images in their values: of the model's size, of a mask's size, or patches."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medloom.core.image import Image
from medloom.core.seeds import numpy_generator
from medloom.core.types import Condition
from medloom.data.condition_reader import ConditionReader
from medloom.data.image_io.geometry import reorient
from medloom.data.patches import PatchRules, cut_labels, draw_crop
from medloom.data.placement import plan
from medloom.data.transforms import from_model, oriented
from medloom.generators.sampling import Framing
from medloom.generators.volumes import Tiling, WholeMask


def frame_images(reader: ConditionReader, conditions: Sequence[Condition], arrays: NDArray[np.float32]) -> list[Image]:
    """Images of the model's size `(N, C, *size)`, which lie where their mask or prior image does."""
    return [
        from_model(array, reader.spec, reader.modality(condition), reference=reader.reference(condition))
        for condition, array in zip(conditions, arrays, strict=True)
    ]


def window_image(
    reader: ConditionReader, condition: Condition, framing: Framing, sample: Callable[[WholeMask], Tensor]
) -> Image:
    """An image of its mask's size, on its mask's grid, axes in the order of the mask's file.

    Args:
        reader: of a model that was trained on patches.
        condition: with a mask.
        framing: how windows cover the mask.
        sample: gives an image of the mask's size in the model's space.
    """
    spec, mask = reader.spec, reader.mask(condition)
    whole = WholeMask(reader.labels(condition), Tiling(spec.size, framing.overlap, framing.windows))
    made = sample(whole).numpy()
    image = from_model(made, spec, reader.modality(condition), reference=mask, restore_geometry=True)
    return reorient(image, mask.stored_axes) if mask.stored_axes else image


def crop_images(
    reader: ConditionReader,
    conditions: Sequence[Condition],
    seeds: Sequence[int],
    sample: Callable[[Tensor, Tensor], Tensor],
) -> list[Image]:
    """One patch a condition, about a pixel of a mask class; where, is a function of the seed.

    Args:
        reader: of a model that was trained on patches.
        conditions: with masks.
        seeds: one integer a patch.
        sample: gives patches in the model's space for their label maps and positions.
    """
    spec, rules = reader.spec, PatchRules(reader.spec, foreground=1.0)
    maps, crops = [reader.labels(condition) for condition in conditions], []
    for labels, seed in zip(maps, seeds, strict=True):
        found = [label for label in np.unique(labels) if label in reader.masks.visible]
        positions = [np.argwhere(labels == label).astype(np.int16) for label in found]
        crops.append(draw_crop(numpy_generator("crop", seed), labels.shape, rules, positions))
    cut = np.stack([cut_labels(labels, crop) for labels, crop in zip(maps, crops, strict=True)])
    where = np.stack([crop.position(labels.shape) for labels, crop in zip(maps, crops, strict=True)])
    made = sample(torch.from_numpy(cut.astype(np.int64)), torch.from_numpy(where)).numpy()
    images = []
    for condition, crop, array in zip(conditions, crops, made, strict=True):
        mask = reader.mask(condition)
        known = oriented(mask, spec)
        lies = replace(plan(known.size, known.spacing, spec), offset=tuple(-first for first in crop.start))
        images.append(from_model(array, spec, reader.modality(condition), reference=mask, placement=lies))
    return images
