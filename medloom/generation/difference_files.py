"""Differences as files: a GIF that moves between factual and arm, or through a volume; NIfTI in the images' unit."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medloom.core.files import atomic_file
from medloom.core.image import Image
from medloom.core.plots import flat, levels_of
from medloom.data.images import write_image
from medloom.generation.difference_maps import COLOURS, DifferenceRow, Map

PROVENANCE = {"SYNTHETIC": "YES", "what": "difference of conditional means"}
# Milliseconds a frame: between two images slowly, through slices fast.
BETWEEN, THROUGH = 700, 120
SMALLEST_SIDE = 192


def write_difference_volume(path: Path, row: DifferenceRow, arm: str, reference: Image) -> None:
    """Write the difference of an arm to a NIfTI file, in the images' unit and geometry.

    Args:
        path: file to write.
        row: the images.
        arm: which.
        reference: an image of the same grid, for geometry and unit.
    """
    difference = row.difference(arm)[None]
    write_image(path, Image(difference, reference.unit, spacing=reference.spacing, affine=reference.affine), PROVENANCE)


def write_difference_gif(path: Path, row: DifferenceRow, arm: str, scale: float) -> None:
    """Write a GIF: in 2-D between factual and arm, next to their difference; in 3-D through the axial slices of all.

    Args:
        path: file to write.
        row: the images.
        arm: which.
        scale: difference with the strongest colour.
    """
    from PIL import Image as Picture

    frames = [Picture.fromarray(frame) for frame in _frames(row, arm, scale)]
    stream = io.BytesIO()
    frames[0].save(
        stream,
        format="GIF",
        save_all=True,
        append_images=frames[1:],
        duration=BETWEEN if row.level is None else THROUGH,
        loop=0,
        comment=b"SYNTHETIC: YES; difference of conditional means",
    )
    with atomic_file(path) as temporary:
        temporary.write_bytes(stream.getvalue())


def _frames(row: DifferenceRow, arm: str, scale: float) -> list[NDArray[np.uint8]]:
    if row.level is None:
        coloured = _coloured(row.difference(arm), scale)
        return [_enlarged(np.hstack([levels_of(image), coloured])) for image in (row.factual, row.arms[arm])]
    difference = row.difference(arm)[None]
    return [_enlarged(_slice(row, arm, difference, level, scale)) for level in range(row.factual.shape[3])]


def _slice(row: DifferenceRow, arm: str, difference: Map, level: int, scale: float) -> NDArray[np.uint8]:
    images = [levels_of(flat(image, level)) for image in (row.factual, row.arms[arm])]
    return np.hstack([*images, _coloured(flat(difference, level)[0], scale)])


def _coloured(difference: Map, scale: float) -> NDArray[np.uint8]:
    """`(H, W)` as colours, red more and blue less."""
    import matplotlib

    place = np.clip(difference / scale, -1, 1) / 2 + 0.5
    colours: NDArray[np.uint8] = np.rint(matplotlib.colormaps[COLOURS](place)[..., :3] * 255).astype(np.uint8)
    return colours


def _enlarged(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    times = max(1, -(-SMALLEST_SIDE // frame.shape[0]))
    return frame.repeat(times, axis=0).repeat(times, axis=1)
