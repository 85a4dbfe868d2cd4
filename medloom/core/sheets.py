"""Pictures of tiles as one labelled figure: titles, row labels, colour bars and notes."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medloom.core.files import atomic_file
from medloom.core.tile_layout import BAR_HEIGHT, COLUMNS, SMALL, Layout, lay_out
from medloom.core.tile_texts import DPI, FONT, printable
from medloom.core.tiles import Pixels, Tile, TileColumn, colours

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FRAME = 190  # level of the line around a tile


@dataclass(frozen=True, eq=False)
class Sheet:
    """A figure of tiles in rows and columns; columns that have no room continue below, with the first columns again.

    Attributes:
        heading: above all.
        columns: of tiles, all of equal length.
        labels: left of the rows; empty for none.
        notes: below all, a line or more each.
        leading: columns that are repeated.
        across: columns side by side at most.
        title_lines: lines that are kept free for titles at least.
    """

    heading: str
    columns: Sequence[TileColumn]
    labels: Sequence[str] = ()
    notes: Sequence[str] = ()
    leading: int = 0
    across: int = COLUMNS
    title_lines: int = 1

    @cached_property
    def layout(self) -> Layout:
        """Where everything stands."""
        return lay_out(self.heading, self.columns, self.labels, self.notes, self.leading, self.across, self.title_lines)

    def figure(self) -> "Figure":
        """Texts and colour bars on a transparent ground; the tiles are put below them, pixel by pixel."""
        import matplotlib
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize
        from matplotlib.figure import Figure
        from matplotlib.patheffects import withStroke

        layout, points = self.layout, 72 / DPI
        width, height = layout.width, layout.height
        outline = [withStroke(linewidth=3 * points, foreground="black")]
        # A user's own style must not move anything.
        with matplotlib.rc_context(matplotlib.rcParamsDefault):
            figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="none")
            for words in layout.words:
                # Line by line, as matplotlib gives lines of tall letters more room.
                for line, baseline in words.lines:
                    figure.text(
                        words.left / width,
                        1 - baseline / height,
                        printable(line),
                        fontsize=words.size * points,
                        fontfamily=FONT,
                        fontweight="bold" if words.bold else "normal",
                        ha=words.across,
                        va="baseline",
                        color="white" if words.on_tile else "black",
                        path_effects=outline if words.on_tile else None,
                        parse_math=False,
                    )
            for left, top, across, scale in layout.bars:
                place = (left / width, 1 - (top + BAR_HEIGHT) / height, across / width, BAR_HEIGHT / height)
                limits = Normalize(0 if scale.absolute else -scale.reach, scale.reach)
                drawn = ScalarMappable(limits, colours(scale.absolute))
                bar = figure.colorbar(drawn, cax=figure.add_axes(place), orientation="horizontal")
                bar.set_ticks(list(scale.ticks), labels=[printable(text) for text in scale.ticks.values()])
                bar.ax.tick_params(labelsize=SMALL * points, length=2, pad=1.5)
                bar.outline.set_linewidth(0.5)
                for label, alignment in zip(bar.ax.get_xticklabels(), ("left", "center", "right"), strict=True):
                    label.set(ha=alignment, fontfamily=FONT)
            return figure

    def picture(self) -> Pixels:
        """The figure, uint8 `(H, W, 3)`."""
        return pictures([self])[0]

    def png(self, **metadata: str) -> bytes:
        """The figure as a PNG file's bytes, with all colours.

        Args:
            metadata: entries besides SYNTHETIC; `SYNTHETIC="NO"` replaces it.
        """
        from PIL import Image
        from PIL.PngImagePlugin import PngInfo

        information, stream = PngInfo(), io.BytesIO()
        for name, text in {"Software": "medloom", "SYNTHETIC": "YES", **metadata}.items():
            information.add_text(name, text)
        Image.fromarray(self.picture()).save(stream, "PNG", pnginfo=information)
        return stream.getvalue()

    def save(self, path: Path, **metadata: str) -> None:
        """Write the figure as PNG, marked as SYNTHETIC in its metadata."""
        with atomic_file(path) as temporary:
            temporary.write_bytes(self.png(**metadata))


def pictures(sheets: Sequence[Sheet]) -> list[Pixels]:
    """Figures, uint8 `(H, W, 3)` each; texts and bars are drawn anew only where they differ from those before."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    drawn, known, above = [], None, np.zeros((0, 0, 4), np.uint8)
    for sheet in sheets:
        layout = sheet.layout
        content = (layout.width, layout.height, tuple(layout.words), tuple(layout.bars))
        if content != known:
            # matplotlib has no types here.
            canvas: Any = FigureCanvasAgg(sheet.figure())
            canvas.draw()
            above, known = np.array(canvas.buffer_rgba()), content
        below = np.full(above[..., :3].shape, 255, np.uint8)
        for left, top, tile in layout.tiles:
            height, width = tile.pixels.shape[:2]
            # A line around it, as a map may be white at its edge.
            below[top - 1 : top + height + 1, left - 1 : left + width + 1] = FRAME
            below[top : top + height, left : left + width] = tile.pixels
        # Only where there is ink: whole sheets as floats would be hundreds of MB.
        place = above[..., 3] > 0
        ink = above[place].astype(np.float32)
        alpha = ink[:, 3:] / 255
        below[place] = np.rint(ink[:, :3] * alpha + below[place] * (1 - alpha)).astype(np.uint8)
        drawn.append(below)
    return drawn


def tile_grid(heading: str, tiles: Sequence[Tile], notes: Sequence[str] = (), columns: int = 8) -> Sheet:
    """Tiles with captions one after another, `columns` in a row."""
    across = min(columns, len(tiles))
    rows = -(-len(tiles) // across)
    filled: list[Tile | None] = [*tiles, *[None] * (rows * across - len(tiles))]
    return Sheet(heading, [TileColumn("", filled[place::across]) for place in range(across)], notes=notes)


def varied(keys: Sequence[tuple[str, ...]], most: int) -> list[int]:
    """Indices of up to `most` entries that are as different as can be, equal ones together.

    Args:
        keys: of each entry, e.g. modality, class and prompt: the first is varied first, and within it the next.
        most: how many.
    """

    def turns(indices: Sequence[int], depth: int) -> list[int]:
        if depth == len(keys[indices[0]]):
            return list(indices)
        groups: dict[str, list[int]] = {}
        for index in indices:
            groups.setdefault(keys[index][depth], []).append(index)
        orders = [turns(group, depth + 1) for group in groups.values()]
        return [order[turn] for turn in range(max(map(len, orders))) for order in orders if turn < len(order)]

    places: dict[tuple[str, ...], int] = {}
    for key in keys:
        for depth in range(len(key)):
            places.setdefault(key[: depth + 1], len(places))
    chosen = turns(range(len(keys)), 0)[:most] if keys else []
    return sorted(chosen, key=lambda i: ([places[keys[i][: d + 1]] for d in range(len(keys[i]))], i))
