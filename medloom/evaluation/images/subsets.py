"""Subsets that are measured on their own: modalities, and values or bands of columns."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from medloom.core.cells import Cell
from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.core.types import Sample
from medloom.data.columns import PATH_COLUMNS
from medloom.data.manifest import Manifest
from medloom.evaluation.images.sets import ImageSet

# A numeric column with more values is cut into three bands.
VALUES = 8
QUANTILES = (1 / 3, 2 / 3)


def check_columns(columns: Sequence[str], *manifests: Manifest) -> None:
    """Refuse columns that one of the manifests lacks.

    Raises:
        UserError: names the manifest, and the option that writes the column.
    """
    for manifest in manifests:
        known = dict.fromkeys(name for name in manifest.frame.columns if name not in (*PATH_COLUMNS, "line"))
        for name in columns:
            look_up(known, name, f"--by column of {manifest.source} (`medloom generate --keep {name}` writes it)")


def tagged(members: ImageSet, columns: Sequence[str], cuts: Mapping[str, Sequence[float]], several: bool) -> ImageSet:
    """The set with the names of the subsets that each image is in.

    Args:
        members: the set.
        columns: whose values or bands are subsets.
        cuts: of numeric columns; see `bands`.
        several: whether modalities are subsets.
    """
    tags = []
    for sample, group in zip(members.samples, members.groups, strict=True):
        named = [_tag(name, _cell(sample, name), cuts.get(name)) for name in columns]
        tags.append((*([group] if several else []), *(name for name in named if name)))
    return replace(members, tags=tuple(tags))


def bands(real: ImageSet, columns: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Where numeric columns are cut: at thirds of the real images' values, rounded if all values are whole numbers.

    Raises:
        UserError: a column that is empty in every real image.
    """
    found: dict[str, tuple[float, ...]] = {}
    for name in columns:
        cells = [cell for sample in real.samples if (cell := _cell(sample, name)) is not None]
        if not cells:
            raise UserError(f"--by {name}: the column is empty for every real image; name another.")
        numbers = [cell for cell in cells if isinstance(cell, float)]
        if len(numbers) == len(cells) and len(set(numbers)) > VALUES:
            cut = np.quantile(numbers, QUANTILES)
            whole = all(number.is_integer() for number in numbers)
            found[name] = tuple(sorted({float(np.round(edge) if whole else edge) for edge in cut}))
    return found


def _cell(sample: Sample, name: str) -> Cell:
    condition = sample.condition
    standard = {"modality": condition.modality, "view": condition.view, "text": condition.text}
    value: Cell = standard[name] if name in standard else condition.table.get(name)
    return value if isinstance(value, float) or value is None else str(value).strip() or None


def _tag(name: str, cell: Cell, cuts: Sequence[float] | None) -> str | None:
    """The name of a cell's subset; None for an empty cell, and for a word among numbers."""
    if cell is None or (cuts is not None and not isinstance(cell, float)):
        return None
    if cuts is None or not isinstance(cell, float):
        return f"{name} {cell:g}" if isinstance(cell, float) else f"{name} {cell}"
    place = int(np.searchsorted(cuts, cell, side="right"))
    if place == 0:
        return f"{name} below {cuts[0]:g}"
    if place == len(cuts):
        return f"{name} {cuts[-1]:g} and above"
    return f"{name} {cuts[place - 1]:g} to below {cuts[place]:g}"
