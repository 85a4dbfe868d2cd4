"""Where the tiles, texts and colour bars of a picture stand, in pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

from medloom.core.tile_texts import wrapped
from medloom.core.tiles import LEAST, ColourScale, Tile, TileColumn

# Side by side at most; more continue below.
COLUMNS = 9
# All in pixels.
MARGIN, GAP, GROUP_GAP, LABEL_WIDTH, BAR_HEIGHT = 14, 6, 22, 118, 11
HEADING, TITLE, SMALL, SIDE = 17, 13, 12, 16
LINE = 1.3


@dataclass(frozen=True)
class Words:
    """A text in the figure.

    Attributes:
        text: of one or more lines.
        left: pixels from the left, of its left end, centre or right end by `across`.
        top: pixels from the top, of its top, middle or bottom by `down`.
        size: of its letters.
        across: left, center or right.
        down: top, center or bottom.
        bold: in bold letters.
        on_tile: white with a black outline.
    """

    text: str
    left: float
    top: float
    size: int
    across: str = "left"
    down: str = "top"
    bold: bool = False
    on_tile: bool = False

    @property
    def lines(self) -> list[tuple[str, float]]:
        """Each line and the pixels of its baseline from the top."""
        lines, step = self.text.split("\n"), self.size * LINE
        first = self.top - {"top": 0.0, "center": 0.5, "bottom": 1.0}[self.down] * step * len(lines)
        return [(line, first + step * number + self.size) for number, line in enumerate(lines)]


@dataclass(frozen=True, eq=False)
class Layout:
    """Where everything stands, in pixels from the top left.

    Attributes:
        width: of the figure.
        height: of the figure.
        tiles: left, top and tile.
        bars: left, top, width and scale of each colour bar.
        words: all texts but those of the bars.
    """

    width: int
    height: int
    tiles: Sequence[tuple[int, int, Tile]]
    bars: Sequence[tuple[int, int, int, ColourScale]]
    words: Sequence[Words]


def lay_out(
    heading: str,
    columns: Sequence[TileColumn],
    labels: Sequence[str],
    notes: Sequence[str],
    leading: int,
    across: int,
    title_lines: int,
) -> Layout:
    """Where everything of a sheet stands; see `Sheet` for the arguments."""
    setting = _Setting(labels, title_lines)
    bands = _bands(columns[:leading], columns[leading:], across)
    width = max(setting.right(band) for band in bands) + MARGIN
    setting.paragraph(heading, width, HEADING, bold=True)
    for band in bands:
        setting.top += GAP
        setting.band(band)
    setting.top += GAP
    for note in notes:
        setting.paragraph(note, width, SMALL)
    return Layout(width, setting.top + MARGIN, setting.tiles, setting.bars, setting.words)


def _bands(first: Sequence[TileColumn], rest: Sequence[TileColumn], across: int) -> list[list[TileColumn]]:
    """Columns that stand side by side: the first ones, and groups of the rest as many as there is room for."""
    groups: list[list[TileColumn]] = []
    for column in rest:
        if column.joined and groups:
            groups[-1].append(column)
        else:
            groups.append([column])
    bands: list[list[TileColumn]] = []
    for group in groups:
        if not bands or len(bands[-1]) + len(group) > across:
            bands.append([*first])
        bands[-1] += group
    return bands or [[*first]]


def title_lines(title: str) -> int:
    """How many lines a title takes above a tile."""
    return len(wrapped(title, LEAST, TITLE))


class _Setting:
    """Sets columns in bands: goes from the top down and notes where everything stands."""

    def __init__(self, labels: Sequence[str], title_lines: int) -> None:
        self.labels, self.title_lines = labels, title_lines
        self.indent = LABEL_WIDTH if labels else 0
        self.top = MARGIN
        self.tiles: list[tuple[int, int, Tile]] = []
        self.bars: list[tuple[int, int, int, ColourScale]] = []
        self.words: list[Words] = []

    def _lefts(self, band: Sequence[TileColumn]) -> list[int]:
        """The left edge of each column."""
        lefts, left = list[int](), MARGIN + self.indent
        grouped = any(column.joined for column in band)
        for place, column in enumerate(band):
            if place:
                left += GROUP_GAP if grouped and not column.joined else GAP
            lefts.append(left)
            left += column.width
        return lefts

    def right(self, band: Sequence[TileColumn]) -> int:
        return self._lefts(band)[-1] + band[-1].width

    def band(self, band: Sequence[TileColumn]) -> None:
        lefts = self._lefts(band)
        titles = [wrapped(column.title, column.width, TITLE) if column.title else [] for column in band]
        if any(titles):
            lines = max(self.title_lines, *map(len, titles)) if len(titles) > 1 else len(titles[0])
            self.top += round(max(lines, self.title_lines) * TITLE * LINE) + 2
        for column, left, title in zip(band, lefts, titles, strict=True):
            if title:
                middle = left + column.width / 2
                self.words.append(Words("\n".join(title), middle, self.top - 3, TITLE, "center", "bottom"))
        for row in range(len(band[0].tiles)):
            self._row(band, lefts, row)
        self._bars(band, lefts)

    def _row(self, band: Sequence[TileColumn], lefts: Sequence[int], row: int) -> None:
        shown = [(column, left, column.tiles[row]) for column, left in zip(band, lefts, strict=True)]
        height = max([LEAST // 2, *(tile.pixels.shape[0] for _, _, tile in shown if tile is not None)])
        if self.labels:
            label = "\n".join(wrapped(self.labels[row], LABEL_WIDTH - 10, SMALL))
            self.words.append(Words(label, MARGIN, self.top + height / 2, SMALL, "left", "center"))
        lines = 0
        for column, left, tile in shown:
            if tile is None:
                continue
            own_height, own_width = tile.pixels.shape[:2]
            start = left + (column.width - own_width) // 2
            self.tiles.append((start, self.top, tile))
            if tile.sides is not None:
                for side, x, across in zip(
                    tile.sides, (start + 5, start + own_width - 5), ("left", "right"), strict=True
                ):
                    self.words.append(Words(side, x, self.top + 4, SIDE, across, "top", bold=True, on_tile=True))
            if tile.caption:
                caption = wrapped(tile.caption, column.width - 4, SMALL)
                lines = max(lines, len(caption))
                middle = left + column.width / 2
                self.words.append(Words("\n".join(caption), middle, self.top + own_height + 3, SMALL, "center", "top"))
        self.top += height + (round(lines * SMALL * LINE) + 6 if lines else 0) + GAP

    def _bars(self, band: Sequence[TileColumn], lefts: Sequence[int]) -> None:
        """Colour bars below the columns that they belong to; columns of equal scales share them."""
        runs: list[tuple[tuple[ColourScale, ...], int, int]] = []
        for column, left in zip(band, lefts, strict=True):
            if runs and runs[-1][0] == column.scales and column.joined:
                runs[-1] = (column.scales, runs[-1][1], left + column.width)
            else:
                runs.append((column.scales, left, left + column.width))
        bottom = self.top
        for scales, left, right in runs:
            top = self.top
            for scale in scales:
                self.bars.append((left + 4, top, right - left - 8, scale))
                top += BAR_HEIGHT + round(SMALL * LINE) + 4
                lines = wrapped(scale.note, right - left - 4, SMALL) if scale.note else []
                if lines:
                    middle = (left + right) / 2
                    self.words.append(Words("\n".join(lines), middle, top, SMALL, "center", "top"))
                top += round(len(lines) * SMALL * LINE) + GAP
            bottom = max(bottom, top)
        self.top = bottom

    def paragraph(self, text: str, width: int, size: int, bold: bool = False) -> None:
        lines = wrapped(text, width - 2 * MARGIN, size, bold)
        self.words.append(Words("\n".join(lines), MARGIN, self.top, size, bold=bold))
        self.top += round(len(lines) * size * LINE) + 4
