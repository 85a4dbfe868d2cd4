"""Tables of images, and images themselves: reading, checking, splitting, caching.

The functions that other programs use most are importable from here.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medloom.data.images import read_header, read_image, write_image
    from medloom.data.manifest import read_manifest
    from medloom.data.mask_grids import on_image_grid
    from medloom.data.masks import read_mask
    from medloom.data.splits import make_split

_PUBLIC = {
    "make_split": "splits",
    "on_image_grid": "mask_grids",
    "read_header": "images",
    "read_image": "images",
    "read_manifest": "manifest",
    "read_mask": "masks",
    "write_image": "images",
}
__all__ = [
    "make_split", "on_image_grid", "read_header", "read_image", "read_manifest", "read_mask", "write_image",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'medloom.data' has no attribute {name!r}")
    return getattr(import_module(f"medloom.data.{_PUBLIC[name]}"), name)
