"""Maps of what a change of the condition does to an image, drawn as PNG."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medloom.core.plots import flat

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

COLOURS, SIZES = "RdBu_r", "magma"
DPI, TILE = 110, 1.7
# A few bright pixels are not to make all others pale.
SHOWN_QUANTILE = 0.995

Map = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class DifferenceRow:
    """One line of the picture.

    Attributes:
        label: next to it.
        unit: of the differences.
        span: the width of [-1, 1] in that unit.
        factual: mean image `(C, *spatial)` in [-1, 1].
        arms: name -> mean image of the arm; one or more.
    """

    label: str
    unit: str
    span: float
    factual: Map
    arms: Mapping[str, Map]

    def difference(self, arm: str) -> Map:
        """Arm less factual in `unit`, `(*spatial)`; of colours, the mean over channels."""
        return np.asarray((self.arms[arm] - self.factual).mean(axis=0) * np.float32(self.span / 2))

    @property
    def level(self) -> int | None:
        """The axial slice of a volume that the arms change most; None in 2-D."""
        if self.factual.ndim < 4:
            return None
        return int(sum(np.abs(self.difference(arm)).sum(axis=(0, 1)) for arm in self.arms).argmax())

    def shown(self, image: Map) -> Map:
        """The shown slice of an image `(C, *spatial)`."""
        return flat(image, self.level)


def draw_differences(
    rows: Sequence[DifferenceRow],
    title: str,
    absolute: bool = False,
    scales: Mapping[str, float] | None = None,
    names: tuple[str, str] = ("factual", "difference of\nconditional means"),
) -> bytes:
    """Factual, arm and difference side by side, one line a row, as a PNG file's bytes.

    Differences of one unit share a scale; red is more, blue is less. Of a volume each line shows the axial slice that
    its arms change most. The place of an arm that a row does not have is empty.

    Args:
        rows: what is drawn.
        title: above all.
        absolute: sizes of the differences instead of the differences.
        scales: unit -> largest difference shown, as of a whole cohort; by default that of `rows`.
        names: of the first image of a line, and of the differences.
    """
    from matplotlib.figure import Figure

    # In the order of the rows with most arms.
    longest_first = sorted(rows, key=lambda row: -len(row.arms))
    arms = list(dict.fromkeys(arm for row in longest_first for arm in row.arms))
    columns = 1 + 2 * len(arms)
    scales = scales or difference_scales(rows)
    canvas = Figure(figsize=(TILE * columns + 1.2, (TILE + 0.15) * len(rows) + 1.1), layout="constrained", dpi=DPI)
    canvas.suptitle(title, fontsize=9)
    for number, (axes, row) in enumerate(zip(canvas.subplots(len(rows), columns, squeeze=False), rows, strict=True)):
        _image(axes[0], row.shown(row.factual), names[0] if number == 0 else "")
        axes[0].set_ylabel(row.label, fontsize=8)
        for index, arm in enumerate(arms):
            pair = axes[1 + 2 * index : 3 + 2 * index]
            if arm not in row.arms:
                for place, title in zip(pair, (arm, ""), strict=True):
                    _bare(place, title if number == 0 else "")
                    place.set_frame_on(False)
                continue
            _image(pair[0], row.shown(row.arms[arm]), arm if number == 0 else "")
            drawn = _map(pair[1], row.shown(row.difference(arm)[None])[0], scales[row.unit], absolute)
            _bare(pair[1], f"{'absolute ' if absolute else ''}{names[1]}" if number == 0 else "")
        bar = canvas.colorbar(drawn, ax=axes.tolist(), shrink=0.85, pad=0.01, extend="both")
        bar.set_label(row.unit, fontsize=8)
        bar.ax.tick_params(labelsize=7)
    stream = io.BytesIO()
    canvas.savefig(stream, format="png", metadata={"Software": "medloom", "SYNTHETIC": "YES"})
    return stream.getvalue()


def draw_table(images: Mapping[tuple[float, float], Map], rows: str, columns: str, title: str) -> bytes:
    """Images by two numbers, as a PNG file's bytes.

    Args:
        images: (number of the row, number of the column) -> image `(C, *spatial)` in [-1, 1].
        rows: what the rows' numbers are of; columns: the same.
        title: above all.
    """
    ordered = sorted(images)
    named = {(f"{rows} {row:g}", f"{columns} {column:g}"): images[row, column] for row, column in ordered}
    return draw_labelled(named, title)


def draw_labelled(images: Mapping[tuple[str, str], Map], title: str) -> bytes:
    """Images in rows and columns, as a PNG file's bytes.

    Args:
        images: (label of the row, label of the column) -> image `(C, *spatial)` in [-1, 1].
        title: above all.
    """
    from matplotlib.figure import Figure

    down, across = (list(dict.fromkeys(key[axis] for key in images)) for axis in (0, 1))
    size = (TILE * len(across) + 0.6, TILE * len(down) + 0.7)
    canvas = Figure(figsize=size, layout="constrained", dpi=DPI)
    canvas.suptitle(title, fontsize=9)
    grid = canvas.subplots(len(down), len(across), squeeze=False)
    for line, row in enumerate(down):
        for place, column in enumerate(across):
            _image(grid[line, place], flat(images[row, column]), column if line == 0 else "")
        grid[line, 0].set_ylabel(row, fontsize=8)
    stream = io.BytesIO()
    canvas.savefig(stream, format="png", metadata={"Software": "medloom", "SYNTHETIC": "YES"})
    return stream.getvalue()


def _map(axes: "Axes", difference: Map, scale: float, absolute: bool) -> "AxesImage":
    if absolute:
        return axes.imshow(np.abs(difference), cmap=SIZES, vmin=0, vmax=scale)
    return axes.imshow(difference, cmap=COLOURS, vmin=-scale, vmax=scale)


def difference_scales(rows: Sequence[DifferenceRow]) -> dict[str, float]:
    """The largest difference shown of each unit."""
    scales: dict[str, float] = {}
    for row in rows:
        for arm in row.arms:
            reached = float(np.quantile(np.abs(row.difference(arm)), SHOWN_QUANTILE))
            scales[row.unit] = max(scales.get(row.unit, 0.0), reached)
    return {unit: scale or 1.0 for unit, scale in scales.items()}


def _image(axes: "Axes", image: Map, title: str) -> None:
    shown = np.moveaxis(np.clip((image + 1) / 2, 0, 1), 0, -1)
    axes.imshow(shown if shown.shape[-1] == 3 else shown[..., 0], cmap="gray", vmin=0, vmax=1)
    _bare(axes, title)


def _bare(axes: "Axes", title: str) -> None:
    axes.set_title(title, fontsize=8)
    axes.set_xticks([])
    axes.set_yticks([])
