"""From conditions and seeds to images in the values of their modality: of the model's or a mask's size, or patches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloom.core.errors import UserError
from medloom.core.types import Condition

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medloom.core.spec import ImageSpec
    from medloom.data.image_io.types import Image
    from medloom.data.masks import Labels
    from medloom.data.patches import Crop
    from medloom.generators.base import ConditionedGenerator


@dataclass(frozen=True)
class Drawing:
    """How a generator draws images.

    Attributes:
        generator: the model.
        sampling: its sampling options.
        whole: whether images of a mask's size were asked for.
        crops: whether one patch an image was asked for.
        overlap: of windows of whole images.
        windows: at a time.
        region: label map where edits may act, or None for everywhere.
        unit: of earlier images whose files do not state theirs.
        blind: whether an editor is not given the earlier images.
        callback: is given each step of decoding tokens, or None.
    """

    generator: "ConditionedGenerator"
    sampling: Any
    whole: bool
    crops: bool
    overlap: float
    windows: int
    region: Path | None = None
    unit: str | None = None
    blind: bool = False
    callback: Callable[[Any], object] | None = None

    @property
    def one_by_one(self) -> bool:
        """Whether images are made one after another, since each has a size of its own."""
        return self.generator.spec.patch and not self.crops

    def check(self, conditions: Sequence[Condition]) -> None:
        """Refuse, before anything is made, masks that the model cannot follow and sizes that it does not make.

        Raises:
            UserError: a mask that is missing, unreadable, of another number of axes, or with a label that is no class;
                or --whole or --crops for a model of whole images.
        """
        from medloom.data.masks import read_mask, require_axes, require_known

        spec, masks = self.generator.spec, [condition.mask for condition in conditions]
        if not spec.patch and (self.whole or self.crops):
            raise UserError(
                f"--{'whole' if self.whole else 'crops'}: the model was trained on whole images, and makes such"
                " already; leave it out, or train with --patch."
            )
        if self.whole and self.crops:
            raise UserError("--whole and --crops exclude each other.")
        if spec.patch and None in masks:
            raise UserError(
                "the model was trained on patches, and makes an image of its mask's size: name one with --mask, or in a"
                " column mask."
            )
        for path in sorted({path for path in masks if path is not None}):
            mask = read_mask(path)
            require_axes(mask, path, spec)
            require_known(mask.pixels[0], path, self.generator.masks)

    def draw(self, conditions: Sequence[Condition], seeds: Sequence[int]) -> "list[Image]":
        """One image a condition."""
        if not self.generator.spec.patch:
            return self._framed(conditions, seeds)
        if self.crops:
            return self._patches(conditions, seeds)
        return [self._whole(condition, seed) for condition, seed in zip(conditions, seeds, strict=True)]

    def _framed(self, conditions: Sequence[Condition], seeds: Sequence[int]) -> "list[Image]":
        """Images of the model's size; volumes lie where their mask or earlier image does."""
        from medloom.data.transforms import from_model

        spec, images = self.generator.spec, []
        for condition, array in zip(conditions, self.arrays(conditions, seeds), strict=True):
            reference = self._reference(condition) if spec.spatial_dims == 3 else None
            images.append(from_model(array, spec, modality_of(condition, spec), reference=reference))
        return images

    def arrays(self, conditions: Sequence[Condition], seeds: Sequence[int]) -> "NDArray[Any]":
        """Images of a model of whole images, float32 `(N, C, *size)` in [-1, 1]."""
        from medloom.data.masks import read_labels

        spec, masks = self.generator.spec, self.generator.masks

        def read(condition: Condition) -> "Labels":
            return read_labels(_mask_path(condition), spec, masks=masks)

        if self.blind:
            conditions = [replace(condition, prior=None) for condition in conditions]
        more = self._priors(len(conditions)) if "prior" in self.generator.parts else {}
        if self.callback is not None:
            more["callback"] = self.callback
        return self.generator.generate(conditions, seeds, self.sampling, read_mask=read, **more).numpy()

    def _priors(self, count: int) -> dict[str, Any]:
        """What an editor is given besides: how earlier images are read, and where they may be changed."""
        import numpy as np
        import torch

        from medloom.data.dataset import read_sample
        from medloom.data.masks import read_labels

        spec = self.generator.spec

        def read(condition: Condition) -> Any:
            if condition.prior is None:
                raise ValueError("a condition without an earlier image, which was checked for")
            return read_sample(condition.prior, spec, modality_of(condition, spec), self.unit).array

        regions = None
        if self.region is not None:
            inside = read_labels(self.region, spec) > 0
            regions = torch.from_numpy(np.repeat(inside[None, None].astype(np.float32), count, axis=0))
        return {"read_prior": read, "regions": regions}

    def _reference(self, condition: Condition) -> "Image | None":
        """What a volume lies on: its mask, or its earlier image."""
        from medloom.data.images import read_image
        from medloom.data.masks import read_mask

        if condition.mask is not None:
            return read_mask(condition.mask)
        return None if condition.prior is None else read_image(condition.prior)

    def _whole(self, condition: Condition, seed: int) -> "Image":
        """An image of its mask's size, on its mask's grid, axes in the order of the mask's file."""
        from medloom.data.image_io.geometry import reorient
        from medloom.data.transforms import from_model
        from medloom.generators.volumes import Tiling, WholeMask

        spec = self.generator.spec
        mask, labels = self._mask_of(condition)
        shown = WholeMask(labels, Tiling(spec.size, self.overlap, self.windows))
        made = self.generator.generate_whole(condition, seed, shown, self.sampling).numpy()
        image = from_model(made, spec, modality_of(condition, spec), reference=mask, restore_geometry=True)
        return reorient(image, mask.stored_axes) if mask.stored_axes else image

    def _patches(self, conditions: Sequence[Condition], seeds: Sequence[int]) -> "list[Image]":
        """One patch a condition, about a place of a mask class; where, is a function of the seed."""
        import numpy as np
        import torch

        from medloom.data.patches import cut_labels
        from medloom.data.placement import plan
        from medloom.data.transforms import from_model, oriented

        spec = self.generator.spec
        read = [self._mask_of(condition) for condition in conditions]
        crops = [self._crop(labels, seed) for (_, labels), seed in zip(read, seeds, strict=True)]
        cut = np.stack([cut_labels(labels, crop) for (_, labels), crop in zip(read, crops, strict=True)])
        places = np.stack([crop.place(labels.shape) for (_, labels), crop in zip(read, crops, strict=True)])
        labels, where = torch.from_numpy(cut.astype(np.int64)), torch.from_numpy(places)
        made = self.generator.generate_patches(conditions, seeds, labels, where, self.sampling).numpy()
        images = []
        for condition, (mask, _), crop, array in zip(conditions, read, crops, made, strict=True):
            known = oriented(mask, spec)
            lies = replace(plan(known.size, known.spacing, spec), offset=tuple(-first for first in crop.start))
            images.append(from_model(array, spec, modality_of(condition, spec), reference=mask, placement=lies))
        return images

    def _crop(self, labels: "Labels", seed: int) -> "Crop":
        import numpy as np

        from medloom.core.seeds import numpy_generator
        from medloom.data.patches import PatchRules, draw_crop

        found = [label for label in np.unique(labels) if label in self.generator.masks.told]
        places = [np.argwhere(labels == label).astype(np.int16) for label in found]
        rules = PatchRules(self.generator.spec, foreground=1.0)
        return draw_crop(numpy_generator("crop", seed), labels.shape, rules, places)

    def _mask_of(self, condition: Condition) -> "tuple[Image, Labels]":
        """A condition's mask as its file has it, and its labels at the model's spacing."""
        from medloom.data.masks import model_labels, read_mask

        path = _mask_path(condition)
        mask = read_mask(path)
        return mask, model_labels(mask, path, self.generator.spec, self.generator.masks)


def modality_of(condition: Condition, spec: "ImageSpec") -> str:
    """The modality of a condition's image: the one that is asked for, or the only one."""
    return condition.modality or next(iter(spec.intensity))


def _mask_path(condition: Condition) -> Path:
    if condition.mask is None:
        raise ValueError("a condition without a mask, which was checked for")
    return condition.mask
