"""The images and classifiers of an evaluation, kept on disk so that the same evaluation run again is quick."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.files import hash_json
from medloom.core.progress import progress, say
from medloom.core.spec import ImageSpec
from medloom.data.dataset import ImageSource, cached_images
from medloom.downstream.classifier import Classifier, ClassifierOptions, load_classifier
from medloom.evaluation.sets import ImageSet

READ_AT_ONCE = 64

Train = Callable[[NDArray[Any], ImageSet, ClassifierOptions], Classifier]


def kept_images(
    cache: Path, members: ImageSet, spec: ImageSpec, unit: str | None = None, shown: bool = True
) -> NDArray[np.float16]:
    """The images of a set, float16 `(N, C, *size)` in [-1, 1], memory-mapped.

    Raises:
        UserError: an image that cannot be read; names the file.
    """
    key = {"files": hash_json(list(members.hashes)), "modalities": hash_json(list(members.groups)), "unit": unit}
    source = ImageSource(members.samples, spec, unit, {**key, "spec": spec.fingerprint()})
    return cached_images(source, cache, shown)


def readable(members: ImageSet, spec: ImageSpec, unit: str | None = None, shown: bool = True) -> tuple[ImageSet, str]:
    """The images of a set that can be read, for `--skip-bad`, and a note where some cannot be.

    Raises:
        UserError: none can be read.
    """
    source = ImageSource(members.samples, spec, unit, {})
    usable: list[int] = []
    with progress(f"reading {members.name} images", len(members), "images", 0, shown) as advance:
        for start in range(0, len(members), READ_AT_ONCE):
            rows = range(start, min(start + READ_AT_ONCE, len(members)))
            _, bad = source.readable_images(rows)
            usable += [row for row, refused in zip(rows, bad, strict=True) if not refused]
            advance(len(rows))
    if not usable:
        raise UserError(f"none of the {len(members)} {members.name} images can be read; `medloom data check` says why.")
    if len(usable) == len(members):
        return members, ""
    left_out = len(members) - len(usable)
    return members.rows(usable), f"{left_out} {members.name} images cannot be read and were left out (--skip-bad)."


def kept_classifier(
    cache: Path, members: ImageSet, images: NDArray[Any], spec: ImageSpec, options: ClassifierOptions, train: Train
) -> Classifier:
    """The classifier of a set: an earlier run's, of the same images with the same options, or a new one.

    Args:
        cache: folder of classifiers, a folder each.
        members: the set, all rows labelled.
        images: of the set, `(N, C, *size)` in [-1, 1].
        spec: their space.
        options: how it is trained.
        train: what trains it.
    """
    rows = [members.hashes, members.labels, members.units, members.groups]
    key = hash_json([train.__name__, [list(values) for values in rows], spec.fingerprint(), options.identity()])
    folder = cache / key
    if folder.is_dir():
        if options.shown:
            say(f"classifier of {members.name} images: read from {folder}")
        return load_classifier(folder, options.device)
    classifier = train(images, members, options)
    classifier.save(folder)
    return classifier
