"""The subsets of images that have figures of their own: modalities, and values or bands of columns."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.core.types import Sample
from medloom.data.columns import PATH_COLUMNS
from medloom.data.manifest import Manifest
from medloom.evaluation.images.sets import ImageSet

# A numeric column with more values than this is cut into three bands.
VALUES = 8
SHARES = (1 / 3, 2 / 3)


def check_columns(columns: Sequence[str], *manifests: Manifest) -> None:
    """Refuse columns that one of the manifests lacks.

    Raises:
        UserError: names the manifest, and how images get the column.
    """
    for manifest in manifests:
        known = [name for name in manifest.frame.columns if name not in (*PATH_COLUMNS, "line")]
        for name in columns:
            if name not in known:
                look_up(
                    dict.fromkeys(known),
                    name,
                    f"--by column of {manifest.source} (`medloom generate --keep {name}` carries it along)",
                )


def tagged(members: ImageSet, columns: Sequence[str], cuts: Mapping[str, Sequence[float]], several: bool) -> ImageSet:
    """The set with the names of the subsets that each image is in.

    Args:
        members: the set.
        columns: whose values or bands are subsets.
        cuts: of numeric columns, as `bands` gives them.
        several: whether modalities are subsets.
    """
    tags = []
    for sample, group in zip(members.samples, members.groups, strict=True):
        own = [group] if several else []
        named = [_tag(name, _cell(sample, name), cuts.get(name)) for name in columns]
        tags.append((*own, *(name for name in named if name)))
    return members.with_tags(tuple(tags))


def bands(real: ImageSet, columns: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Where the numeric columns are cut: at thirds of the real images' values, rounded to whole numbers where they are.

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
            cut = np.quantile(numbers, SHARES)
            whole = all(number.is_integer() for number in numbers)
            found[name] = tuple(sorted({float(np.round(edge) if whole else edge) for edge in cut}))
    return found


def _cell(sample: Sample, name: str) -> float | str | None:
    condition = sample.condition
    told: dict[str, Any] = {"modality": condition.modality, "view": condition.view, "text": condition.text}
    value = told[name] if name in told else condition.table.get(name)
    return value if isinstance(value, float) or value is None else str(value).strip() or None


def _tag(name: str, cell: float | str | None, cuts: Sequence[float] | None) -> str | None:
    """The name of the subset of a cell; None for an empty one, and for a word among numbers."""
    if cell is None:
        return None
    if cuts is None:
        return f"{name} {cell:g}" if isinstance(cell, float) else f"{name} {cell}"
    if not isinstance(cell, float):
        return None
    place = int(np.searchsorted(cuts, cell, side="right"))
    if place == 0:
        return f"{name} below {cuts[0]:g}"
    if place == len(cuts):
        return f"{name} {cuts[-1]:g} and above"
    return f"{name} {cuts[place - 1]:g} to below {cuts[place]:g}"
