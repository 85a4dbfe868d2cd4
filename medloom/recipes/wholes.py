"""What the recipes that train on masks share: volumes, patches of them, and what the labels of masks are called."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medloom.core.errors import UserError
from medloom.core.mask_spec import MaskSpec, numbered
from medloom.generators.preparation import DataOptions, Space, check_shift

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from medloom.core.spec import ImageSpec
    from medloom.core.types import Sample
    from medloom.data.patches import PatchRules
    from medloom.generators.base import ConditionedGenerator
    from medloom.generators.training_data import TrainingData

# Patches drawn at each validation; volumes are slow to make.
DRAWN = {2: 16, 3: 4}


@dataclass(frozen=True, kw_only=True)
class VolumeOptions(DataOptions):
    """How volumes, patches of images, and masks are read.

    Attributes:
        dims: 2 or 3 axes; by default as many as --patch or --image-size has.
        patch: train on patches of so many pixels along each axis, in place of whole images of --image-size; images may
            then have any size, and whole ones are generated.
        spacing: mm of each axis that images and masks are resampled to; by default volumes keep theirs.
        foreground: share of patches that are centred on a pixel of a mask class, each class with equal chance.
        augment: none, or affine: patches are turned by up to 10 degrees and scaled by up to a tenth.
        flip: mirror every other patch left to right; side words in text, view and table and the sides in the names of
            mask classes change with it.
        classes: YAML or JSON file with the label and the name of each mask class; by default the labels that the masks
            have.
        hide_classes: mask classes that the model is not told, as lesion=lung (told as lung) or lesion (as background).
        resample_masks: resample masks that lie on another grid than their image, in place of refusing them.
        shift: pixels by which whole training images and their masks are shifted at most along each axis, each time
            anew, so that few images are not learnt by heart; patches lie anywhere already.
    """

    dims: int | None = None
    patch: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    foreground: float = 0.75
    augment: str = "none"
    flip: bool = False
    classes: Path | None = None
    hide_classes: tuple[str, ...] = ()
    resample_masks: bool = False
    shift: int = 0


def space_of(options: VolumeOptions) -> Space:
    """The space that images are brought to.

    Raises:
        UserError: numbers of axes that do not agree, or options of patches where there are none.
    """
    given = options.patch or options.image_size
    dims = options.dims or (len(given) if len(given) > 1 else 2)
    name = "--patch" if options.patch else "--image-size"
    if dims not in (2, 3):
        raise UserError(f"--dims {dims}: images have 2 or 3 axes.")
    if len(given) not in (1, dims) or min(given) < 1:
        raise UserError(f"{name} {_listed(given)}: give {dims} numbers of at least 1, or one for all axes.")
    if options.spacing and (len(options.spacing) != dims or min(options.spacing) <= 0):
        raise UserError(f"--spacing {_listed(options.spacing)}: give {dims} numbers of mm above 0.")
    if not options.patch and (options.augment != "none" or options.flip):
        raise UserError("--augment and --flip change patches; give --patch, the size of them.")
    check_shift(options.shift)
    if options.patch and options.shift:
        raise UserError("--shift moves whole images, and patches lie anywhere in theirs already; leave it out.")
    return Space(given * dims if len(given) == 1 else given, options.spacing or None, bool(options.patch))


def rules_of(options: VolumeOptions, spec: "ImageSpec") -> "PatchRules | None":
    """How patches are cut, or None where the model sees whole images.

    Raises:
        UserError: a share or augmentation that is not known.
    """
    from medloom.data.patches import PatchRules

    return PatchRules(spec, options.foreground, options.augment, options.flip) if spec.patch else None


def masks_of(options: VolumeOptions, samples: "Sequence[Sample]", given: "Sequence[int]", shown: bool) -> MaskSpec:
    """The classes of the masks: from --classes, else the given labels, else those that the masks have.

    Args:
        options: how masks are read.
        samples: the rows that are trained on and validated with.
        given: labels that the user named (--network.mask-classes), or none.
        shown: whether to show progress.

    Raises:
        UserError: see `read_classes`, `mask_classes_of` and `hidden_classes`; two lists of classes; or no class left.
    """
    from medloom.data.mask_classes import mask_classes_of
    from medloom.data.masks import hidden_classes, read_classes

    if options.classes is not None and given:
        raise UserError("--classes and --network.mask-classes both list the mask classes; leave one out.")
    if options.flip and options.classes is None:
        raise UserError("--flip needs --classes: names of mask classes, of which the sides change in a mirror image.")
    if options.classes is not None:
        names = read_classes(options.classes)
    else:
        names = numbered(mask_classes_of(samples, given, shown))
    known = MaskSpec(names, resample=options.resample_masks)
    masks = MaskSpec(names, hidden_classes(options.hide_classes, known), options.resample_masks)
    if not masks.told:
        raise UserError("--hide-classes leaves no mask class that the model is told; leave one in.")
    return masks


def patch_renderer(data: "TrainingData", seed: int, batch: int) -> "Callable[[ConditionedGenerator, Path, int], None]":
    """Draws the same patches of held-out images with the same seeds at each validation.

    Args:
        data: the rows that are drawn.
        seed: of the run: it says where the patches lie.
        batch: patches at a time.
    """
    from medloom.generators.row_order import repeats, spread_rows

    def render(generator: "ConditionedGenerator", out: Path, step: int) -> None:
        from medloom.core.plots import save_grid

        count = DRAWN[generator.spec.spatial_dims]
        rows = [data.usable[place] for place in spread_rows(len(data.usable), count)]
        rows = (rows * count)[:count]
        crops = data.draw_crops(seed, "drawn", rows, repeats(rows)) or []
        images = []
        for start in range(0, count, batch):
            part, cut = rows[start : start + batch], crops[start : start + batch]
            labels, places = data.label_maps(part, cut), data.places(part, cut)
            if labels is None:
                raise ValueError("patches are drawn for masks, and the data have none")
            seeds = range(start, start + len(part))
            images += list(generator.generate_patches(data.told(part, cut), seeds, labels, places).numpy())
        save_grid(out / f"step-{step:08d}.png", images, 4, f"after {step} steps")

    return render


def _listed(values: "Sequence[float]") -> str:
    return " ".join(f"{value:g}" for value in values)
