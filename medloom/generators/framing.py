"""From arrays in the model's space to images in their values: of the model's size, of a mask's size, or patches."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medloom.core.image import Image
from medloom.core.mask_spec import MaskSpec
from medloom.core.seeds import numpy_generator
from medloom.core.spec import ImageSpec
from medloom.core.types import Condition
from medloom.data.condition_reader import ConditionReader
from medloom.data.image_io.geometry import reorient
from medloom.data.masks import Labels
from medloom.data.patches import Crop, PatchRules, cut_labels, draw_crop
from medloom.data.placement import plan
from medloom.data.transforms import from_model, oriented
from medloom.generators.sampling import Framing, SamplingOptions
from medloom.generators.volumes import Tiling, WholeMask

Sampling = TypeVar("Sampling", bound=SamplingOptions, contravariant=True)


class Sampler(Protocol[Sampling]):
    """What of a generator is needed here; see `ImageGenerator`."""

    spec: ImageSpec
    masks: MaskSpec

    @property
    def reader(self) -> ConditionReader:
        """Reads masks and prior images."""
        ...

    def sample_patches(
        self,
        conditions: Sequence[Condition],
        seeds: Sequence[int],
        labels: Tensor,
        positions: Tensor,
        sampling: Sampling,
    ) -> Tensor:
        """Patches in the model's space."""
        ...

    def sample_windows(self, condition: Condition, seed: int, mask: WholeMask, sampling: Sampling) -> Tensor:
        """An image of its mask's size in the model's space."""
        ...


def frame_images(
    spec: ImageSpec, reader: ConditionReader, conditions: Sequence[Condition], arrays: NDArray[np.float32]
) -> list[Image]:
    """Images of the model's size `(N, C, *size)`; volumes lie where their mask or prior image does."""
    images = []
    for condition, array in zip(conditions, arrays, strict=True):
        reference = reader.reference(condition) if spec.spatial_dims == 3 else None
        images.append(from_model(array, spec, reader.modality(condition), reference=reference))
    return images


def window_image(
    generator: Sampler[Sampling], condition: Condition, seed: int, sampling: Sampling, framing: Framing
) -> Image:
    """An image of its mask's size, on its mask's grid, axes in the order of the mask's file."""
    spec, mask = generator.spec, generator.reader.mask(condition)
    whole = WholeMask(generator.reader.labels(condition), Tiling(spec.size, framing.overlap, framing.windows))
    made = generator.sample_windows(condition, seed, whole, sampling).numpy()
    modality = generator.reader.modality(condition)
    image = from_model(made, spec, modality, reference=mask, restore_geometry=True)
    return reorient(image, mask.stored_axes) if mask.stored_axes else image


def crop_images(
    generator: Sampler[Sampling], conditions: Sequence[Condition], seeds: Sequence[int], sampling: Sampling
) -> list[Image]:
    """One patch a condition, about a pixel of a mask class; where, is a function of the seed."""
    spec, reader = generator.spec, generator.reader
    maps = [reader.labels(condition) for condition in conditions]
    crops = [_crop(generator, labels, seed) for labels, seed in zip(maps, seeds, strict=True)]
    cut = np.stack([cut_labels(labels, crop) for labels, crop in zip(maps, crops, strict=True)])
    positions = np.stack([crop.position(labels.shape) for labels, crop in zip(maps, crops, strict=True)])
    labels, where = torch.from_numpy(cut.astype(np.int64)), torch.from_numpy(positions)
    made = generator.sample_patches(conditions, seeds, labels, where, sampling).numpy()
    images = []
    for condition, crop, array in zip(conditions, crops, made, strict=True):
        mask = reader.mask(condition)
        known = oriented(mask, spec)
        lies = replace(plan(known.size, known.spacing, spec), offset=tuple(-first for first in crop.start))
        images.append(from_model(array, spec, reader.modality(condition), reference=mask, placement=lies))
    return images


def _crop(generator: Sampler[Sampling], labels: Labels, seed: int) -> Crop:
    found = [label for label in np.unique(labels) if label in generator.masks.visible]
    positions = [np.argwhere(labels == label).astype(np.int16) for label in found]
    rules = PatchRules(generator.spec, foreground=1.0)
    return draw_crop(numpy_generator("crop", seed), labels.shape, rules, positions)
