"""Maps of what a change of the condition does to an image, drawn as PNG."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medloom.core.pictures import flat

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = "RdBu_r"
DPI, TILE = 110, 1.7
# A few bright pixels are not to make all others pale.
SHOWN_QUANTILE = 0.995

Map = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class DifferenceRow:
    """One line of the picture.

    Attributes:
        label: beside it.
        unit: of the differences.
        span: the width of [-1, 1] in that unit.
        factual: mean image `(C, *spatial)` in [-1, 1].
        arms: name -> mean image of the arm.
    """

    label: str
    unit: str
    span: float
    factual: Map
    arms: Mapping[str, Map]

    def difference(self, arm: str) -> Map:
        """Arm less factual in `unit`, `(H, W)`; of colours, the mean over channels."""
        return flat(self.arms[arm] - self.factual).mean(axis=0) * np.float32(self.span / 2)


def draw_differences(rows: Sequence[DifferenceRow], title: str) -> bytes:
    """Factual, arm and difference side by side, one line a row, as a PNG file's bytes.

    Differences of one unit share a scale; red is more, blue is less.
    """
    from matplotlib.figure import Figure

    arms = list(rows[0].arms)
    columns = 1 + 2 * len(arms)
    scales = _scales(rows)
    canvas = Figure(figsize=(TILE * columns + 1.2, (TILE + 0.15) * len(rows) + 1.1), layout="constrained", dpi=DPI)
    canvas.suptitle(title, fontsize=9)
    for number, (axes, row) in enumerate(zip(canvas.subplots(len(rows), columns, squeeze=False), rows, strict=True)):
        _image(axes[0], row.factual, "factual" if number == 0 else "")
        axes[0].set_ylabel(row.label, fontsize=8)
        for index, arm in enumerate(arms):
            pair = axes[1 + 2 * index : 3 + 2 * index]
            _image(pair[0], row.arms[arm], arm if number == 0 else "")
            drawn = pair[1].imshow(row.difference(arm), cmap=COLOURS, vmin=-scales[row.unit], vmax=scales[row.unit])
            _bare(pair[1], "difference of\nconditional means" if number == 0 else "")
        bar = canvas.colorbar(drawn, ax=axes.tolist(), shrink=0.85, pad=0.01, extend="both")
        bar.set_label(row.unit, fontsize=8)
        bar.ax.tick_params(labelsize=7)
    stream = io.BytesIO()
    canvas.savefig(stream, format="png", metadata={"Software": "medloom", "SYNTHETIC": "YES"})
    return stream.getvalue()


def _scales(rows: Sequence[DifferenceRow]) -> dict[str, float]:
    """The largest difference shown of each unit."""
    scales: dict[str, float] = {}
    for row in rows:
        for arm in row.arms:
            reached = float(np.quantile(np.abs(row.difference(arm)), SHOWN_QUANTILE))
            scales[row.unit] = max(scales.get(row.unit, 0.0), reached)
    return {unit: scale or 1.0 for unit, scale in scales.items()}


def _image(axes: "Axes", image: Map, title: str) -> None:
    shown = np.moveaxis(np.clip((flat(image) + 1) / 2, 0, 1), 0, -1)
    axes.imshow(shown if shown.shape[-1] == 3 else shown[..., 0], cmap="gray", vmin=0, vmax=1)
    _bare(axes, title)


def _bare(axes: "Axes", title: str) -> None:
    axes.set_title(title, fontsize=8)
    axes.set_xticks([])
    axes.set_yticks([])
