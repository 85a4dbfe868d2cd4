"""Small drawn images with descriptions: data that the package can always make, for the demo and the tests."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medloom.core.seeds import numpy_generator
from medloom.data.tables import write_csv

SHAPES = ("disc", "cross", "ring")
SIDES = ("left", "right")
SIZES = ("small", "large")
MODALITIES = ("Grey drawing", "Colour drawing")


@dataclass(frozen=True)
class Drawing:
    """What one image shows."""

    modality: str
    shape: str
    side: str
    size: str

    @property
    def text(self) -> str:
        """The description."""
        return f"A {self.size} {self.shape} on the {self.side}."


def draw(drawing: Drawing, pixels: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw: uint8 `(pixels, pixels)`, or `(pixels, pixels, 3)` in colour; edges are smooth, the ground is noisy."""
    rows, columns = np.mgrid[:pixels, :pixels] / pixels
    radius = rng.uniform(0.12, 0.14) if drawing.size == "small" else rng.uniform(0.19, 0.22)
    x = rng.uniform(0.24, 0.32) if drawing.side == "left" else rng.uniform(0.68, 0.76)
    y = rng.uniform(0.35, 0.65)
    if drawing.shape == "cross":
        down, across = abs(rows - y), abs(columns - x)
        distance = np.minimum(np.maximum(down, 3 * across), np.maximum(3 * down, across))
    else:
        distance = np.hypot(rows - y, columns - x)
    edge = 1 / pixels
    inside = np.clip((radius - distance) / edge + 0.5, 0, 1)
    if drawing.shape == "ring":
        inside *= np.clip((distance - 0.55 * radius) / edge + 0.5, 0, 1)
    ground = 30 + 4 * rng.standard_normal((pixels, pixels)) + 40 * rows
    if drawing.modality == "Grey drawing":
        values = ground * (1 - inside) + rng.uniform(170, 240) * inside
    else:
        ink = np.array([rng.uniform(190, 250), rng.uniform(60, 160), rng.uniform(20, 80)])
        values = (ground[..., None] * [0.6, 0.8, 1.6]) * (1 - inside[..., None]) + ink * inside[..., None]
    levels: NDArray[np.uint8] = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return levels


def write_drawings(folder: Path, count: int, pixels: int, seed: int) -> Path:
    """Draw a set with a manifest.

    Args:
        folder: where to; gets images/ and manifest.csv.
        count: images, spread evenly over modalities, shapes, sides and sizes.
        pixels: of each axis.
        seed: of everything that is not in the description.

    Returns:
        The manifest's path; every image is a patient of its own, `label` is the shape.
    """
    kinds = [Drawing(m, shape, side, size) for shape in SHAPES for side in SIDES for size in SIZES for m in MODALITIES]
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        drawing = kinds[number % len(kinds)]
        path = f"images/{number:05d}.png"
        Image.fromarray(draw(drawing, pixels, numpy_generator(seed, "drawing", number))).save(folder / path)
        rows.append((path, drawing.text, drawing.modality, f"drawn-{seed}-{number}", drawing.shape))
    write_csv(folder / "manifest.csv", ("path", "Text", "modality", "patient_id", "label"), rows)
    return folder / "manifest.csv"
