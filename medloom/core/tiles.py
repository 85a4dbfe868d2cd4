"""Tiles of pictures: images, and maps of differences in colours that have a scale in their unit."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medloom.core.plots import levels_of

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

# Pixels of a tile's longer side: smaller images are enlarged by a whole number, larger ones reduced by one.
LEAST, MOST = 192, 384
# White at 0 and distinct for the colour-blind (ColorBrewer's RdBu with a white middle).
SIGNED = ("#053061", "#2166ac", "#4393c3", "#92c5de", "#ffffff", "#f4a582", "#d6604d", "#b2182b", "#67001f")
UNSIGNED = ("#ffffff", "#fdd49e", "#fc8d59", "#d7301f", "#7f0000", "#330000")
COLOURS = 513
COLOURS_NOTE = "Red: higher, blue: lower, white: no difference; larger differences have the colours of the ends."
SIZES_NOTE = "The darker, the larger the difference, whatever its sign; white: no difference."
SIDES_NOTE = "R, L: the patient's right and left."
# The difference at the ends of a scale: a few pixels that change most are not to make all others pale.
SHOWN_QUANTILE = 0.99

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class ColourScale:
    """The colours of differences: red is more, blue is less, white is none.

    Attributes:
        reach: difference with the strongest colour, in `unit`; larger ones have it too.
        unit: of the differences.
        note: where the reach comes from.
        absolute: sizes of differences, without a sign.
    """

    reach: float
    unit: str
    note: str = ""
    absolute: bool = False

    def pixels(self, values: NDArray[np.float32]) -> Pixels:
        """Differences `(H, W)` as uint8 `(H, W, 3)`."""
        place = np.abs(values) / self.reach if self.absolute else (np.clip(values / self.reach, -1, 1) + 1) / 2
        return np.asarray(colours(self.absolute)(place, bytes=True)[..., :3], np.uint8)

    @property
    def ticks(self) -> dict[float, str]:
        """Value on the colour bar -> words; the unit stands in the middle."""
        if self.absolute:
            return {0: "0", self.reach / 2: f"{self.reach / 2:.3g} {self.unit}", self.reach: f"{self.reach:.3g}"}
        return {-self.reach: f"-{self.reach:.3g}", 0: f"0 {self.unit}", self.reach: f"+{self.reach:.3g}"}


@dataclass(frozen=True, eq=False)
class Tile:
    """One panel.

    Attributes:
        values: a flat image `(C, H, W)` in [-1, 1]; or, with a scale, differences `(H, W)`.
        caption: below it.
        sides: the patient's sides at the left and the right edge, or None where they are not known.
        scale: the colours of differences.
    """

    values: NDArray[np.float32]
    caption: str = ""
    sides: tuple[str, str] | None = None
    scale: ColourScale | None = None

    @cached_property
    def pixels(self) -> Pixels:
        """As shown, uint8 `(H, W, 3)`: enlarged to LEAST pixels by repetition, or reduced to MOST by means."""
        values = self.values if self.scale is None else self.values[None]
        height, width = values.shape[1:]
        if (step := -(-max(height, width) // MOST)) > 1:
            cut = values[:, : height // step * step, : width // step * step]
            values = cut.reshape(len(cut), height // step, step, width // step, step).mean(axis=(2, 4))
        shown = levels_of(values) if self.scale is None else self.scale.pixels(values[0])
        times = max(1, -(-LEAST // max(shown.shape[:2])))
        return shown.repeat(times, axis=0).repeat(times, axis=1)


@dataclass(frozen=True, eq=False)
class TileColumn:
    """A column of tiles.

    Attributes:
        title: above it.
        tiles: one a row; None leaves the place empty.
        joined: it belongs to the column on its left, and is never separated from it.
    """

    title: str
    tiles: Sequence[Tile | None]
    joined: bool = False

    @property
    def scales(self) -> tuple[ColourScale, ...]:
        """The colour scales of its tiles, each once."""
        return tuple(dict.fromkeys(tile.scale for tile in self.tiles if tile is not None and tile.scale is not None))

    @property
    def width(self) -> int:
        """In pixels."""
        widths: list[int] = [tile.pixels.shape[1] for tile in self.tiles if tile is not None]
        return max([LEAST, *widths])


def sides_note(tiles: Iterable[Tile | None]) -> list[str]:
    """What R and L are, if any tile is marked so."""
    return [SIDES_NOTE] if any(tile is not None and tile.sides is not None for tile in tiles) else []


@lru_cache(maxsize=2)
def colours(absolute: bool) -> "Colormap":
    """The map of ColourScale."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("difference", UNSIGNED if absolute else SIGNED, N=COLOURS)


class AbsoluteQuantile:
    """A quantile of the absolute values of arrays that come one after another, to 0.2 %.

    Counts by size keep memory small, however many there are.
    """

    LOW, HIGH, BINS = -6.0, 6.0, 16384  # powers of ten

    def __init__(self) -> None:
        self._counts = np.zeros(self.BINS, np.int64)
        self._largest = 0.0

    def add(self, values: NDArray[np.floating]) -> None:
        """Count the values of an array of any shape."""
        sizes = np.abs(np.asarray(values, np.float64)).ravel()
        powers = np.log10(np.maximum(sizes, 10**self.LOW))
        places = ((powers - self.LOW) * (self.BINS / (self.HIGH - self.LOW))).astype(np.int64)
        self._counts += np.bincount(np.clip(places, 0, self.BINS - 1), minlength=self.BINS)
        self._largest = max(self._largest, float(sizes.max(initial=0.0)))

    def value(self, quantile: float) -> float:
        """The quantile; the largest value where the quantile is 0, and 0 where all are."""
        reached = int(np.searchsorted(np.cumsum(self._counts), quantile * self._counts.sum()))
        if reached == 0:
            return self._largest
        return float(min(10 ** (self.LOW + (reached + 1) * (self.HIGH - self.LOW) / self.BINS), self._largest))
