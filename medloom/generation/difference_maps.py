"""Pictures of what a change of the condition does to an image: each arm next to its difference, with colour bars."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medloom.core.plots import flat
from medloom.core.sheets import Sheet
from medloom.core.spec import RELATIVE
from medloom.core.tiles import (
    COLOURS_NOTE,
    SHOWN_QUANTILE,
    SIZES_NOTE,
    AbsoluteQuantile,
    ColourScale,
    Tile,
    TileColumn,
    sides_note,
)

Map = NDArray[np.float32]

# Relative values are written as 255 levels.
WRITTEN_LEVELS = 255


@dataclass(frozen=True, eq=False)
class DifferenceRow:
    """One line of the picture.

    Attributes:
        label: next to it.
        unit: of the differences.
        span: the width of [-1, 1] in that unit.
        factual: mean image `(C, *spatial)` in [-1, 1].
        arms: name -> mean image of the arm; one or more.
        sides: the patient's sides at the left and right edge, or None where they are not known.
        captions: name of an arm -> what stands below its image.
    """

    label: str
    unit: str
    span: float
    factual: Map
    arms: Mapping[str, Map]
    sides: tuple[str, str] | None = None
    captions: Mapping[str, str] | None = None

    def difference(self, arm: str) -> Map:
        """Arm less factual in `unit`, `(*spatial)`; of colours, the mean over channels."""
        return np.asarray((self.arms[arm] - self.factual).mean(axis=0) * np.float32(self.span / 2))

    @property
    def level(self) -> int | None:
        """The axial slice of a volume that the arms change most; None in 2-D."""
        if self.factual.ndim < 4:
            return None
        return int(sum(np.abs(self.difference(arm)).sum(axis=(0, 1)) for arm in self.arms).argmax())

    def image(self, arm: str | None, level: int | None) -> Tile:
        """The tile of an arm, or of the factual image, at a slice."""
        values = self.factual if arm is None else self.arms[arm]
        caption = "" if arm is None or self.captions is None else self.captions[arm]
        return Tile(flat(values, level), caption, self.sides)

    def map(self, arm: str, level: int | None, scale: ColourScale) -> Tile:
        """The tile of an arm's difference at a slice."""
        return Tile(flat(self.difference(arm)[None], level)[0], sides=self.sides, scale=scale)


class DifferenceScales:
    """The colour scales of differences: of each arm the 99th percentile of its absolute differences over all rows.

    Each arm has its own, so that an effect of 20 HU can be seen next to one of 800 HU; and all rows of an arm have the
    same, so that no patient's noise is drawn as an effect. No scale ends below 1 HU, 1 level, or 1/255 of relative
    values.
    """

    def __init__(self) -> None:
        self._quantiles: dict[tuple[str, str], AbsoluteQuantile] = {}
        self._rows: dict[tuple[str, str], int] = {}
        self._least: dict[tuple[str, str], float] = {}

    def add(self, row: DifferenceRow, names: Mapping[str, str] | None = None) -> None:
        """Count a row.

        Args:
            row: whether it is shown or not.
            names: arm -> the name under which it has its scale, for arms that have one together; None for their own.
        """
        for arm in row.arms:
            key = (names or {}).get(arm, arm), row.unit
            self._quantiles.setdefault(key, AbsoluteQuantile()).add(row.difference(arm))
            self._rows[key] = self._rows.get(key, 0) + 1
            self._least[key] = row.span / WRITTEN_LEVELS if row.unit == RELATIVE else 1.0

    def of(self, arm: str, unit: str, absolute: bool = False) -> ColourScale:
        """The scale of an arm's differences in a unit."""
        reach = self._quantiles[arm, unit].value(SHOWN_QUANTILE)
        count = self._rows[arm, unit]
        rows = f"all {count} rows" if count > 1 else "the row"
        if reach < (least := self._least[arm, unit]):
            # Files hold whole HU and levels: rounding is not drawn as an effect.
            return ColourScale(least, unit, f"hardly any difference in {rows}", absolute)
        return ColourScale(reach, unit, f"99th percentile of |difference|, {rows}", absolute)


def difference_sheet(
    rows: Sequence[DifferenceRow],
    heading: str,
    titles: tuple[str, Mapping[str, str], str],
    scales: Mapping[tuple[str, str], ColourScale],
    notes: Sequence[str] = (),
) -> Sheet:
    """The factual image, then each arm and its difference, one line a row; of a volume the slice that changes most.

    The place of an arm that a row does not have is empty.

    Args:
        rows: what is drawn.
        heading: above all.
        titles: of the first column; arm -> of its images; and of the differences.
        scales: (arm, unit) -> the colours of its differences.
        notes: below all.
    """
    first, named, difference = titles
    columns = [TileColumn(first, [row.image(None, row.level) for row in rows])]
    for arm, title in named.items():
        there = [row if arm in row.arms else None for row in rows]
        images = [None if row is None else row.image(arm, row.level) for row in there]
        maps = [None if row is None else row.map(arm, row.level, scales[arm, row.unit]) for row in there]
        columns += [TileColumn(title, images), TileColumn(difference, maps, joined=True)]
    absolute = any(scale.absolute for scale in scales.values())
    slices = ["Of each volume the axial slice that its arms change most."] if rows[0].level is not None else []
    below = [*notes, *slices, SIZES_NOTE if absolute else COLOURS_NOTE, *sides_note(columns[0].tiles)]
    return Sheet(heading, columns, [row.label for row in rows], below, leading=1)


def labelled_sheet(images: Mapping[tuple[str, str], Map], heading: str, notes: Sequence[str] = ()) -> Sheet:
    """Images by the labels of their row and their column.

    Args:
        images: (label of the row, label of the column) -> image `(C, *spatial)` in [-1, 1].
        heading: above all.
        notes: below all.
    """
    down, across = (list(dict.fromkeys(key[axis] for key in images)) for axis in (0, 1))
    columns = [TileColumn(name, [Tile(flat(images[row, name])) for row in down]) for name in across]
    return Sheet(heading, columns, down, notes)
