"""Sets that a release gate has to refuse, made from real pictures: without a model, spoiled, or copied.

Patients are dealt into training, held-out and fresh images, and a set is called synthetic. Everything here is made
without the package's own edits and controls, which must not be tested by themselves.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from PIL.Image import Image as Picture
from scipy import ndimage

from medloom.core.seeds import numpy_generator

PATH, LABEL, PATIENT, MODALITY = "path", "label", "patient_id", "modality"
# A class of fewer images has no mean of its own.
LEAST_OF_MEAN = 3
BLUR, NOISE, BOX = 0.015, 0.05, 1 / 3
# Blobs: their radius in widths, and the brightness of the brightest one and of the grain in grey levels.
BLOB, BRIGHTNESS, GRAIN = 0.06, 60, 8

Random = np.random.Generator
Change = Callable[[Picture, Random], Picture]


@dataclass(frozen=True)
class Dealt:
    """The parts of a manifest, of different patients.

    Attributes:
        train: what a generator is trained on.
        real: held-out images.
        fresh: images of further patients, of which a perfect generator's images are.
        folder: for changed images.
        seed: of all draws.
    """

    train: pd.DataFrame
    real: pd.DataFrame
    fresh: pd.DataFrame
    folder: Path
    seed: int


Build = Callable[[Dealt, str], pd.DataFrame]


def opened(path: str | Path) -> Picture:
    """A picture of 8 bits, grey or in colour."""
    with Image.open(path) as picture:
        return picture.convert("L" if picture.mode in ("1", "L") else "RGB")


def _array(picture: Picture) -> NDArray[np.float64]:
    return np.asarray(picture, np.float64)


def _picture(values: NDArray[np.float64]) -> Picture:
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def changed(rows: pd.DataFrame, dealt: Dealt, name: str, change: Change, quality: int | None = None) -> pd.DataFrame:
    """The rows with changed images.

    Args:
        rows: whose images are changed.
        dealt: its folder and seed.
        name: of the set.
        change: of each picture.
        quality: of JPEG; None for PNG.
    """
    folder = dealt.folder / name.replace(" ", "-").replace("%", "percent")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, path in enumerate(rows[PATH]):
        made = change(opened(path), numpy_generator(name, dealt.seed, number))
        paths.append(str(folder / f"{number}.{'png' if quality is None else 'jpg'}"))
        made.save(paths[-1], **({} if quality is None else {"quality": quality}))
    return rows.assign(**{PATH: paths})


def _as_it_is(picture: Picture, rng: Random) -> Picture:
    return picture


def _noise(picture: Picture, rng: Random) -> Picture:
    return _picture(rng.uniform(0, 255, np.shape(picture)))


def _blurred(picture: Picture, rng: Random) -> Picture:
    return picture.filter(ImageFilter.GaussianBlur(BLUR * picture.width))


def _noisy(picture: Picture, rng: Random) -> Picture:
    return _picture(_array(picture) + _over_colours(rng.normal(0, 255 * NOISE, picture.size[::-1]), picture.mode))


def _over_colours(values: NDArray[np.float64], mode: str) -> NDArray[np.float64]:
    """The same for each colour of a picture that has any."""
    return values if mode == "L" else values[..., None]


def _covered(picture: Picture, rng: Random) -> Picture:
    width, height = (round(BOX * side) for side in picture.size)
    left, top = (int(rng.integers(0, side - own + 1)) for side, own in zip(picture.size, (width, height), strict=True))
    picture.paste(0, (left, top, left + width, top + height))
    return picture


def _narrowed(picture: Picture, rng: Random) -> Picture:
    return _picture(255 / 3 + _array(picture) / 3)


def _halved(picture: Picture, rng: Random) -> Picture:
    small = picture.resize([max(1, side // 2) for side in picture.size], Image.Resampling.BOX)
    return small.resize(picture.size, Image.Resampling.BILINEAR)


def _cropped(picture: Picture, rng: Random, by: float) -> Picture:
    """A window at a random place, without `by` of each side, enlarged again."""
    kept = [(1 - by) * side for side in picture.size]
    left, top = (rng.uniform(0, side - own) for side, own in zip(picture.size, kept, strict=True))
    box = (left, top, left + kept[0], top + kept[1])
    return picture.resize(picture.size, Image.Resampling.BICUBIC, box=box)


def _rotated(picture: Picture, rng: Random) -> Picture:
    return picture.rotate(5, Image.Resampling.BICUBIC)


def _mirrored(picture: Picture, rng: Random) -> Picture:
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def _fresh(dealt: Dealt, name: str) -> pd.DataFrame:
    return dealt.fresh


def _edited(dealt: Dealt, name: str, of: str, change: Change, quality: int | None = None) -> pd.DataFrame:
    return changed(getattr(dealt, of), dealt, name, change, quality)


def _blended(dealt: Dealt, name: str) -> pd.DataFrame:
    """Each training image with another one, half and half."""
    paths = list(dealt.train[PATH])

    def change(picture: Picture, rng: Random) -> Picture:
        other = opened(paths[rng.integers(len(paths))])
        return Image.blend(picture, other.resize(picture.size).convert(picture.mode), 0.5)

    return changed(dealt.train, dealt, name, change)


def _blobs(dealt: Dealt, name: str) -> pd.DataFrame:
    """The mean training image of each class, smooth blobs where classes differ among themselves, and white grain."""
    names = dealt.fresh[LABEL].astype(str)
    made = []
    for label in sorted(set(names)):
        own = dealt.train[dealt.train[LABEL].astype(str) == label]
        own = own if len(own) >= LEAST_OF_MEAN else dealt.train
        first = opened(own[PATH].iloc[0])
        mean = np.mean([_array(opened(path).resize(first.size).convert(first.mode)) for path in own[PATH]], axis=0)

        def change(picture: Picture, rng: Random, mean: NDArray[np.float64] = mean) -> Picture:
            size = mean.shape[:2]
            smooth = ndimage.gaussian_filter(rng.normal(size=size), BLOB * size[1])
            blobs = BRIGHTNESS * smooth / np.abs(smooth).max() + rng.normal(0, GRAIN, size)
            return _picture(mean + _over_colours(blobs, "L" if mean.ndim == 2 else "RGB"))

        made.append(changed(dealt.fresh[names == label], dealt, f"{name}/{label}".replace("|", "-"), change))
    return pd.concat(made).sort_index()


def _one_class(dealt: Dealt, name: str) -> pd.DataFrame:
    return dealt.fresh[dealt.fresh[LABEL] == dealt.fresh[LABEL].mode()[0]]


def _half_of_the_classes(dealt: Dealt, name: str) -> pd.DataFrame:
    classes = sorted(dealt.fresh[LABEL].dropna().unique())
    return dealt.fresh[dealt.fresh[LABEL].isin(classes[: len(classes) // 2])]


def _shuffled(dealt: Dealt, name: str) -> pd.DataFrame:
    """Every image with the class and modality of another one; grey ones and those in colour by themselves."""
    rng, order = numpy_generator(name, dealt.seed), np.arange(len(dealt.fresh))
    modes = np.array([opened(path).mode for path in dealt.fresh[PATH]])
    for mode in np.unique(modes):
        order[modes == mode] = rng.permutation(order[modes == mode])
    asked = [LABEL, MODALITY]
    return dealt.fresh.assign(**{column: dealt.fresh[column].to_numpy()[order] for column in asked})


def _repeated(dealt: Dealt, name: str, times: int) -> pd.DataFrame:
    """Each fresh image several times, encoded differently each time."""
    more = [changed(dealt.fresh, dealt, f"{name}/{turn}", _as_it_is, 95 - turn) for turn in range(times)]
    return pd.concat(more)


def _replaced(dealt: Dealt, name: str, fraction: float) -> pd.DataFrame:
    """Fresh images, of which some are replaced by training images with their classes, encoded again."""
    rng = numpy_generator(name, dealt.seed)
    count = max(1, min(round(fraction * len(dealt.fresh)), len(dealt.train)))
    copies = changed(dealt.train.iloc[rng.permutation(len(dealt.train))[:count]], dealt, name, _as_it_is, 90)
    return pd.concat([copies, dealt.fresh.iloc[rng.permutation(len(dealt.fresh))[count:]]])


def _of(of: str, change: Change, quality: int | None = None) -> Build:
    return partial(_edited, of=of, change=change, quality=quality)


BAD: Mapping[str, Build] = {
    "noise": _of("fresh", _noise),
    "class means, blobs and grain": _blobs,
    "blurred by 1.5 % of the width": _of("fresh", _blurred),
    "half resolution": _of("fresh", _halved),
    "noise of 5 %": _of("fresh", _noisy),
    "a third of the range": _of("fresh", _narrowed),
    "a black box": _of("fresh", _covered),
    "mirrored": _of("fresh", _mirrored),
    "one class": _one_class,
    "half of the classes": _half_of_the_classes,
    "shuffled classes": _shuffled,
    "each image twice": partial(_repeated, times=2),
    "each image five times": partial(_repeated, times=5),
    "5 % copied": partial(_replaced, fraction=0.05),
    "50 % copied": partial(_replaced, fraction=0.5),
    "copied, cropped by 2 %": _of("train", partial(_cropped, by=0.02)),
    "copied, cropped by 5 %": _of("train", partial(_cropped, by=0.05)),
    "copied, cropped by 10 %": _of("train", partial(_cropped, by=0.1)),
    "copied, rotated by 5 degrees": _of("train", _rotated),
    "copied, mirrored": _of("train", _mirrored),
    "copied, JPEG of quality 30": _of("train", _as_it_is, 30),
    "copied, blended by half": _blended,
    "copied, a black box": _of("train", _covered),
    "held-out images copied": _of("real", _as_it_is, 90),
}
FRESH: Build = _fresh
