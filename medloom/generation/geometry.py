"""Where generated 2-D images lie: as their mask or prior image does, whose file may leave it to the row's own image."""

from dataclasses import replace
from pathlib import Path

from medloom.core.errors import UserError
from medloom.core.frames import file_of
from medloom.core.image import Header
from medloom.core.plots import RADIOLOGICAL, sides_of
from medloom.core.types import Condition
from medloom.data.condition_reader import ConditionReader
from medloom.data.images import read_header
from medloom.generation.requests import Request


def located(reader: ConditionReader, request: Request) -> Condition:
    """The condition of a request, its mask with the geometry of the row's own image.

    That is where the mask's file states none, as a PNG, and the two have one grid; else the condition as it is.
    """
    condition, image = request.condition, request.origin.image
    if reader.spec.spatial_dims != 2 or condition.mask_file is None or image is None:
        return condition
    mask = reader.mask(condition)
    header = _header(image) if mask.spacing is None else None
    if header is None or header.spacing is None or header.size != mask.size:
        return condition
    placed = replace(mask, spacing=header.spacing, affine=header.affine, directions=header.directions)
    return replace(condition, mask=placed)


def sides(reader: ConditionReader, request: Request) -> tuple[str, str] | None:
    """The patient's sides at the left and right edge of a request's picture; None where they are not known."""
    if reader.spec.spatial_dims == 3:
        return RADIOLOGICAL if reader.spec.orientation == "RAS" else None
    reference = reader.reference(located(reader, request))
    return None if reference is None else sides_of(reference)


def _header(path: Path) -> Header | None:
    """The header of a row's own image; rows need none, so that one which is missing or damaged states nothing."""
    try:
        return read_header(path) if file_of(path).is_file() else None
    except UserError:
        return None
