"""What people, files and generators do to an image that is copied: edits of real images, to see which are found."""

import io
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageFilter

from medloom.core.seeds import numpy_generator

Grey = NDArray[np.float32]
Edit = Callable[[Grey, Grey, np.random.Generator], Grey]


def _picture(image: Grey) -> Pillow.Image:
    return Pillow.fromarray(np.round(image * 255).astype(np.uint8))


def _grey(picture: Pillow.Image) -> Grey:
    return np.asarray(picture, np.float32) / np.float32(255)


def _cropped(fraction: float) -> Edit:
    """What is left when so much of the width is cut off, at each side half of it, enlarged to the full size."""

    def edit(image: Grey, other: Grey, rng: np.random.Generator) -> Grey:
        width, height = _picture(image).size
        box = (width * fraction / 2, height * fraction / 2, width * (1 - fraction / 2), height * (1 - fraction / 2))
        return _grey(_picture(image).resize((width, height), Pillow.Resampling.BILINEAR, box))

    return edit


def _moved(fraction: float) -> Edit:
    def edit(image: Grey, other: Grey, rng: np.random.Generator) -> Grey:
        width, height = _picture(image).size
        map_ = (1, 0, fraction * width, 0, 1, fraction * height / 2)
        return _grey(_picture(image).transform((width, height), Pillow.Transform.AFFINE, map_))

    return edit


def _rotated(degrees: float) -> Edit:
    return lambda image, other, rng: _grey(_picture(image).rotate(degrees, Pillow.Resampling.BILINEAR))


def _compressed(quality: int) -> Edit:
    def edit(image: Grey, other: Grey, rng: np.random.Generator) -> Grey:
        stream = io.BytesIO()
        _picture(image).save(stream, "JPEG", quality=quality)
        return _grey(Pillow.open(stream))

    return edit


def _blurred(fraction: float) -> Edit:
    """Gaussian with a deviation of so much of the width."""
    return lambda image, other, rng: _grey(_picture(image).filter(ImageFilter.GaussianBlur(fraction * image.shape[1])))


def _noisy(deviation: float) -> Edit:
    def edit(image: Grey, other: Grey, rng: np.random.Generator) -> Grey:
        return np.clip(image + rng.normal(0, deviation, image.shape), 0, 1).astype(np.float32)

    return edit


def _covered(fraction: float) -> Edit:
    """A black box over so much of the area."""

    def edit(image: Grey, other: Grey, rng: np.random.Generator) -> Grey:
        covered = image.copy()
        height, width = image.shape
        rows, columns = (round(length * fraction**0.5) for length in (height, width))
        top, left = (int(rng.integers(0, whole - side + 1)) for whole, side in ((height, rows), (width, columns)))
        covered[top : top + rows, left : left + columns] = 0
        return covered

    return edit


BLENDED, JOINED = "blended with another image", "joined with half of another image"
# Edits of which the other image is an original too.
OF_TWO = (BLENDED, JOINED)
# In words of a report: the edit of an image, another image, and random numbers.
EDITS: Mapping[str, Edit] = {
    "as it is": lambda image, other, rng: image,
    "mirrored": lambda image, other, rng: image[:, ::-1].copy(),
    "turned by 90 degrees": lambda image, other, rng: np.rot90(image).copy(),
    "inverted": lambda image, other, rng: np.float32(1) - image,
    "brightened by a quarter": lambda image, other, rng: np.clip(1.25 * image, 0, 1).astype(np.float32),
    "gamma 0.6": lambda image, other, rng: image ** np.float32(0.6),
    "JPEG of quality 30": _compressed(30),
    "moved by 5 %": _moved(0.05),
    "cropped to 98 %": _cropped(0.02),
    "cropped to 90 %": _cropped(0.1),
    "cropped to 80 %": _cropped(0.2),
    "rotated by 5 degrees": _rotated(5),
    "noise of 3 % of the range": _noisy(0.03),
    "noise of 6 % of the range": _noisy(0.06),
    "blurred by 1.5 % of the width": _blurred(0.015),
    "a tenth covered": _covered(0.1),
    BLENDED: lambda image, other, rng: (image + other) / np.float32(2),
    JOINED: lambda image, other, rng: np.where(np.arange(image.shape[1]) < image.shape[1] // 2, image, other),
}


def edited(images: Grey, edit: str, seed: int) -> Grey:
    """Images after an edit; what is blended or joined with each is the next image.

    Args:
        images: grey values from 0 to 1, `(n, rows, columns)`.
        edit: a name in EDITS.
        seed: of noise and places.
    """
    made = [
        EDITS[edit](image, images[(row + 1) % len(images)], numpy_generator("planted", seed, edit, row))
        for row, image in enumerate(images)
    ]
    return np.stack(made).astype(np.float32)
