"""What a change does to a case: differences of an arm to the factual one over seeds, with their noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from medloom.core.errors import UserError
from medloom.core.image import Image
from medloom.data.images import read_image
from medloom.generators.generated_images import FACTUAL
from medloom.studio.results.folder import Result, ResultImage
from medloom.studio.results.opening import opened

CONFIDENCE = 0.95
WHOLE = "whole image"


@dataclass(frozen=True)
class Shift:
    """How much a change shifts a region of a case.

    Attributes:
        region: its name.
        value: mean difference over the region and the seeds, in the images' unit.
        low: lower end of its 95 % interval over seeds; nan for one seed.
        high: upper end.
    """

    region: str
    value: float
    low: float
    high: float


def arms_of(result: Result) -> dict[str, list[ResultImage]]:
    """Arm -> its images by seed, the factual one first."""
    found: dict[str, list[ResultImage]] = {FACTUAL: []}
    for image in result.images:
        found.setdefault(image.arm, []).append(image)
    return {arm: sorted(own, key=lambda image: int(image.seed or 0)) for arm, own in found.items() if own}


def differences(result: Result, arm: str) -> tuple[NDArray[np.float32], Image]:
    """The differences of an arm to the factual one, `(seeds, *spatial)`, and an image of their grid.

    Raises:
        UserError: there is no such arm.
    """
    arms = arms_of(result)
    if arm not in arms or arm == FACTUAL:
        raise UserError(f"there is no arm {arm!r} in this result.")
    factual = {image.seed: image for image in arms[FACTUAL]}
    pairs = [(opened(result, factual[own.seed]), opened(result, own)) for own in arms[arm] if own.seed in factual]
    if not pairs:
        raise UserError("the job has not made the images of this arm yet.")
    return np.stack([(one.pixels - other.pixels).mean(axis=0) for other, one in pairs]), pairs[0][0]


def mean_difference(result: Result, arm: str) -> Image:
    """The mean difference over seeds, 0 wherever its interval over seeds has 0 in it.

    With one seed nothing is known of the noise, and all differences stay.
    """
    found, grid = differences(result, arm)
    mean = found.mean(axis=0)
    if len(found) > 1:
        mean[np.abs(mean) < _half_width(found)] = 0.0
    return replace(grid, pixels=mean[None].astype(np.float32))


def edit_difference(edited: Image, prior: Image) -> Image:
    """An edit less the prior image as the editor saw it.

    Raises:
        UserError: they are not on one grid.
    """
    if edited.size != prior.size:
        raise UserError("the edit and the prior image are not on one grid; edit again.")
    one, other = (image.pixels.mean(axis=0) / _scale(image, edited) for image in (edited, prior))
    return replace(edited, pixels=(one - other)[None].astype(np.float32))


def _scale(image: Image, like: Image) -> float:
    """Levels of an image for one of another, where both are levels."""
    return 1.0 if np.isnan(image.full_scale) else float(image.full_scale / like.full_scale)


def reach_of(maps: Sequence[Image]) -> float:
    """The 99th percentile of the absolute differences of all arms: one scale of colours for the case."""
    if not maps:
        return 1.0
    reach = float(np.quantile(np.abs(np.concatenate([own.pixels.ravel() for own in maps])), 0.99))
    largest = float(max(np.abs(own.pixels).max() for own in maps))
    return reach or largest or 1.0


def shifts(result: Result, arm: str, classes: Mapping[str, str]) -> list[Shift]:
    """How much an arm shifts each region of the mask that was held, and the whole image.

    Args:
        result: of a what-if of one case.
        arm: the change.
        classes: label of the mask -> its name.
    """
    found, _ = differences(result, arm)
    shifted = []
    for name, inside in regions_of(result, found.shape[1:], classes).items():
        values = found[:, inside].mean(axis=1)
        half = float(_half_width(values)) if len(values) > 1 else float("nan")
        value = float(values.mean())
        shifted.append(Shift(name, value, value - half, value + half))
    return shifted


def regions_of(result: Result, size: tuple[int, ...], classes: Mapping[str, str]) -> dict[str, NDArray[np.bool_]]:
    """Region -> where it lies: the whole image, and those of the mask that was held, where it has this size."""
    regions: dict[str, NDArray[np.bool_]] = {WHOLE: np.ones(size, bool)}
    labels = _labels(result)
    if labels is None or labels.shape != size:
        return regions
    present = [int(label) for label in np.unique(labels) if label > 0]
    return regions | {classes.get(str(label), f"label {label}"): labels == label for label in present}


def _labels(result: Result) -> NDArray[np.float32] | None:
    """The mask that was held, where the manifest names one."""
    named = next((image.row["mask"] for image in result.images if image.row.get("mask")), None)
    if named is None:
        return None
    path = (result.folder / Path(named)).resolve()
    return read_image(path).pixels[0] if path.is_file() else None


def _half_width(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Half of the 95 % interval of the mean over the first axis."""
    count = len(values)
    quantile = float(student.ppf(0.5 + CONFIDENCE / 2, count - 1))
    half: NDArray[np.floating] = quantile * values.std(axis=0, ddof=1) / np.sqrt(count)
    return half
