"""The labels of a model's mask classes: as the user says, or as the masks have them."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from medloom.core.errors import UserError
from medloom.core.types import Sample

MOST_CLASSES = 100
READERS_AT_ONCE = 4


def mask_classes_of(samples: Sequence[Sample], given: Sequence[int], shown: bool = True) -> tuple[int, ...]:
    """The labels of a model's masks, background (0) left out.

    Args:
        samples: what the model is trained on.
        given: the labels as the user said, or none: those that the masks have, sorted.
        shown: whether to show progress.

    Raises:
        UserError: no mask; one that is no label map; a given label that stands twice; or masks with more than 100
            labels, which are rather images.
    """
    if twice := [label for place, label in enumerate(given) if label in given[:place] or label < 1]:
        raise UserError(f"--network.mask-classes: {twice[0]} stands twice or is below 1; name each label once.")
    masks = sorted({file for sample in samples if (file := sample.condition.mask_file) is not None})
    if not masks:
        raise UserError("no row of the manifest has a mask; name the masks' files in a column mask.")
    if given:
        # Each mask is checked when it is cached.
        return tuple(given)
    found = {label for labels in _all_labels(masks, shown) for label in labels}
    if len(found) > MOST_CLASSES:
        raise UserError(
            f"the masks have {len(found)} labels, {min(found)} to {max(found)}: a model sees at most {MOST_CLASSES};"
            " give label maps, not images."
        )
    if not found:
        raise UserError("all masks are background (0); give masks with labels of 1 and above.")
    return tuple(sorted(found))


def _all_labels(masks: Sequence[Path], shown: bool) -> list[list[int]]:
    """The labels above 0 of each mask, sorted."""
    from medloom.core.progress import progress

    found: list[list[int]] = []
    with ThreadPoolExecutor(READERS_AT_ONCE) as pool, progress("reading masks", len(masks), "files", 0, shown) as go:
        for labels in pool.map(_labels, masks):
            found.append(labels)
            go()
    return found


def _labels(path: Path) -> list[int]:
    import numpy as np

    from medloom.data.masks import read_mask

    return [int(label) for label in np.unique(read_mask(path).pixels) if label > 0]
