"""Masks on the grid of their image: compared, matched by array index, completed, or resampled."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from medloom.core.errors import UserError
from medloom.core.image import Header, Image
from medloom.core.mask_spec import BACKGROUND, NO_MASK
from medloom.data.image_io.geometry import axis_codes, reorient, turned_from

# Grids whose corners differ by at most this fraction of a voxel are the same: files round affines to single precision.
SAME_GRID = 0.05


def on_image_grid(mask: Image, path: Path | str, image: Header, image_path: Path | str, resample: bool) -> Image:
    """The mask on the grid of its image; a mask without geometry takes the image's.

    Where one file of the two states no orientation, the arrays of both files are matched by index.

    Args:
        mask: the mask.
        path: its file.
        image: header of the image.
        image_path: its file.
        resample: resample a mask on another grid instead of refusing it.

    Raises:
        UserError: another grid, and no resampling or no affine; describes both grids.

    Examples:
        >>> from medloom.data.images import read_header
        >>> from medloom.data.mask_grids import on_image_grid
        >>> from medloom.data.masks import read_mask
        >>> scan, seg = "scan.nii.gz", "seg.nii.gz"
        >>> mask, header = read_mask(seg), read_header(scan)
        >>> on_image_grid(mask, seg, header, scan, resample=True).spacing
        (1.0, 1.0, 2.5)
    """
    if mask.partial:
        mask = _whole(mask, path, image, image_path)
    if mask.unoriented and not image.unoriented and len(image.size) == 3 and image.stored_axes is None:
        raise UserError(
            f"{path} states no orientation, and the order of its axes cannot be inferred from that of {image.kind}"
            f" ({image_path}); give the mask an affine."
        )
    unstated = mask.unoriented or image.unoriented
    mask = _by_index(mask, image)
    if len(mask.size) == len(image.size) and mask.size == image.size and _apart(mask, image) <= SAME_GRID:
        return replace(mask, spacing=image.spacing, affine=image.affine, unoriented=image.unoriented)
    where = f"{path}: a mask of {_described(mask)} for an image of {_described(image)} ({image_path})"
    if not resample:
        raise UserError(
            f"{where}; both must be on the same grid, or --resample-masks resamples the mask to the image's."
        )
    if len(mask.size) != 3 or len(image.size) != 3 or mask.affine is None or image.affine is None:
        why = "one of the two states no orientation" if unstated else "one has no affine"
        raise UserError(f"{where}: {why}, so that neither can be resampled; give a mask on the image's grid.")
    # By nearest neighbour; -1 beyond the mask.
    matrix = np.linalg.inv(mask.affine) @ image.affine
    # Where a segmentation has no slice, there is no segment.
    labels = np.full(image.size, BACKGROUND if mask.partial else NO_MASK, np.int16)
    source = mask.pixels[0]
    plane = np.stack(np.meshgrid(*map(np.arange, image.size[1:]), indexing="ij"))
    # Slab by slab: the coordinates of a whole volume would take six times its memory.
    for first in range(image.size[0]):
        index = (
            np.einsum("ab,b...->a...", matrix[:3, 1:3], plane) + (matrix[:3, 0] * first + matrix[:3, 3])[:, None, None]
        )
        nearest = np.floor(index + 0.5 + 1e-6).astype(int)
        inside = np.all(
            [(axis >= 0) & (axis < length) for axis, length in zip(nearest, mask.size, strict=True)], axis=0
        )
        labels[first][inside] = source[tuple(axis[inside] for axis in nearest)].astype(np.int16)
    return replace(mask, pixels=labels[None].astype(np.float32), spacing=image.spacing, affine=image.affine)


def _whole(mask: Image, path: Path | str, image: Header, image_path: Path | str) -> Image:
    """A label map that has only some slices of its image's grid, with background in the others.

    Other grids are left as they are.

    Raises:
        UserError: other coordinates than the image's, or labels outside of the image.
    """
    mine, theirs = mask.frame_of_reference, image.frame_of_reference
    if mine is not None and theirs is not None and mine != theirs:
        raise UserError(f"{path} has another frame of reference than its image ({image_path}); give its own image.")
    if mask.affine is None or image.affine is None or len(image.size) != 3:
        return mask
    matrix = np.linalg.inv(image.affine) @ mask.affine
    # Pixels are the image's; slices may be farther apart, or stated thinner than they are apart.
    same = [np.abs(matrix[:3, axis] - np.eye(3)[axis]).max() * max(image.size) <= SAME_GRID for axis in range(3)]
    found = np.argwhere(mask.pixels[0] > 0)
    exact = found @ matrix[:3, :3].T + matrix[:3, 3]
    placed = np.round(exact).astype(int)
    if sum(same) < 2 or (found.size and np.abs(exact - placed).max() > SAME_GRID):
        return mask
    if found.size and (placed.min() < 0 or (placed >= np.array(image.size)).any()):
        raise UserError(f"{path}: labels lie outside of its image ({image_path}); give its own image.")
    labels = np.zeros(image.size, np.float32)
    labels[tuple(placed.T)] = mask.pixels[0][tuple(found.T)]
    return replace(mask, pixels=labels[None], affine=image.affine, spacing=image.spacing, partial=False)


def _by_index(mask: Image, image: Header) -> Image:
    """A mask with its axes as the image's are, where one of their files states no orientation.

    An image that states one was turned to RAS order from its file's, and the mask's array is turned like it; a mask
    that states one goes back to its own file's order.
    """
    if mask.unoriented and image.stored_axes is not None:
        return turned_from(mask, image.stored_axes)
    if image.unoriented and mask.stored_axes is not None:
        return replace(reorient(mask, mask.stored_axes), affine=None)
    return mask


def _apart(mask: Image, image: Header) -> float:
    """Largest distance between the corners of two grids of one size, in voxels; 0 without geometry."""
    if mask.affine is None or image.affine is None:
        if mask.spacing is None or image.spacing is None:
            return 0.0
        errors = [abs(mine / theirs - 1) for mine, theirs in zip(mask.spacing, image.spacing, strict=True)]
        return max(error * length for error, length in zip(errors, mask.size, strict=True))
    ends = [(0, length - 1) for length in mask.size] + [(0,)] * (3 - len(mask.size))
    corners = np.array([(*corner, 1) for corner in product(*ends)], dtype=np.float64).T
    distance = np.linalg.norm(((mask.affine - image.affine) @ corners)[:3], axis=0).max()
    steps = np.linalg.norm(image.affine[:3, : len(mask.size)], axis=0)
    return float(distance / steps.min())


def _described(grid: Image | Header) -> str:
    size = " x ".join(map(str, grid.size))
    if grid.spacing is None:
        return f"{size} pixels"
    spacing = " x ".join(f"{mm:.4g}" for mm in grid.spacing)
    text = f"{size} pixels of {spacing} mm"
    if grid.affine is None or len(grid.size) < 3:
        return text
    origin = ", ".join(f"{mm:.4g}" for mm in grid.affine[:3, 3])
    return f"{text}, axes {axis_codes(grid.affine)}, first voxel at ({origin}) mm"
