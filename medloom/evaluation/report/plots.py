"""Plots of metrics, and pictures of images, as PNG for a page."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from medloom.core.plots import PLANES, RADIOLOGICAL, planar, planes_of
from medloom.core.sheets import Sheet
from medloom.core.tile_texts import MARK
from medloom.core.tiles import Tile, TileColumn, sides_note
from medloom.evaluation.report.metrics import Metric

VALUE, REFERENCE = "#1f4e8c", "#b9bec6"
DPI = 150
ROW_HEIGHT, PANEL_WIDTH = 0.32, 1.6
FRACTION = (-0.03, 1.03)  # limits of an axis of fractions


@dataclass(frozen=True)
class Panel:
    """One axis of a plot.

    Attributes:
        title: above it.
        rows: a label and a metric each, from the top.
        limits: of the axis; None to fit the values.
    """

    title: str
    rows: Sequence[tuple[str, Metric]]
    limits: tuple[float, float] | None = None


def draw(panels: Sequence[Panel]) -> bytes:
    """Panels side by side, as PNG; all panels have the same rows.

    A dot is a value, a line its interval, a grey band the range of the reference with a mark at its value.
    """
    rows = len(panels[0].rows)
    width = 0.085 * max(len(label) for label, _ in panels[0].rows) + PANEL_WIDTH * max(len(panels), 3)
    figure = Figure(figsize=(width, 0.9 + ROW_HEIGHT * rows), layout="constrained", dpi=DPI)
    first, *others = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, panel in zip((first, *others), panels, strict=True):
        for height, (_, metric) in enumerate(panel.rows):
            reference = metric.reference
            if reference.low is not None and reference.high is not None:
                axes.barh(height, reference.high - reference.low, 0.62, reference.low, color=REFERENCE, linewidth=0)
            axes.plot([reference.value] * 2, [height - 0.31, height + 0.31], color="#6b7280", linewidth=1.4)
            if metric.low is not None and metric.high is not None:
                axes.plot(
                    [metric.low, metric.high], [height, height], color=VALUE, linewidth=1.8, solid_capstyle="butt"
                )
            axes.plot([metric.value], [height], "o", color=VALUE, markersize=5)
        axes.set_title(panel.title, fontsize=9)
        axes.set_ylim(len(panel.rows) - 0.4, -0.6)
        axes.set_yticks(range(len(panel.rows)), [label for label, _ in panel.rows] if axes is first else [])
        axes.tick_params(labelsize=8, length=2)
        axes.grid(axis="x", color="#eceef1", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.locator_params(axis="x", nbins=4)
        if panel.limits:
            axes.set_xlim(panel.limits)
    return png(figure)


def png(figure: Figure, **metadata: str) -> bytes:
    """A drawn figure as PNG, with entries of metadata."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": "medloom", **metadata})
    return stream.getvalue()


def strip(
    images: Sequence[NDArray[np.float32]],
    titles: Sequence[str] = (),
    synthetic: bool = True,
    oriented: bool = True,
) -> bytes:
    """Images `(C, *spatial)` in [-1, 1] side by side, as PNG; of volumes the middle slice of each plane, with its name.

    Args:
        images: to draw.
        titles: above the images; empty for none.
        synthetic: whether all of them are, which the heading and the metadata say.
        oriented: whether volumes are in RAS order; their planes have numbers otherwise.
    """
    planes = planes_of(oriented) if images[0].ndim == 4 else {}
    columns = [
        TileColumn(title, _tiles(image, planes, oriented), joined=True)
        for title, image in zip(titles or [""] * len(images), images, strict=True)
    ]
    heading = MARK if synthetic else "Research use only: with a patient's image"
    notes = sides_note(tile for column in columns for tile in column.tiles)
    return Sheet(heading, columns, labels=list(planes), notes=notes).png(SYNTHETIC="YES" if synthetic else "NO")


def _tiles(image: NDArray[np.float32], planes: Mapping[str, int], oriented: bool) -> list[Tile]:
    """The image itself, or the middle slices of a volume."""
    if not planes:
        return [Tile(image)]
    # From the side there is no right and left.
    return [
        Tile(planar(image, axis), sides=RADIOLOGICAL if oriented and axis != PLANES["sagittal"] else None)
        for axis in planes.values()
    ]
