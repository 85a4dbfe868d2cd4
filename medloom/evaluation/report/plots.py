"""Figures with their intervals beside their references, drawn as PNG."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from medloom.evaluation.report.metrics import Figure

VALUE, REFERENCE = "#1f4e8c", "#b9bec6"
DPI = 150
ROW_HEIGHT, PANEL_WIDTH = 0.32, 1.6


@dataclass(frozen=True)
class Panel:
    """One axis of a plot.

    Attributes:
        title: above it.
        rows: a label and a figure each, from the top.
        limits: of the axis, or None to fit the values.
    """

    title: str
    rows: Sequence[tuple[str, Figure]]
    limits: tuple[float, float] | None = None


def draw(panels: Sequence[Panel]) -> bytes:
    """Panels side by side as a PNG file's bytes; all panels have the same rows.

    A dot is a figure, a line its interval, a grey band the span of its reference with a mark at the reference's value.
    """
    rows = len(panels[0].rows)
    longest = max(len(label) for label, _ in panels[0].rows)
    width = 0.085 * longest + PANEL_WIDTH * max(len(panels), 3)
    canvas = Canvas(figsize=(width, 0.9 + ROW_HEIGHT * rows), layout="constrained", dpi=DPI)
    for number, axes in enumerate(canvas.subplots(1, len(panels), squeeze=False)[0]):
        _panel(axes, panels[number], labelled=number == 0)
    stream = io.BytesIO()
    canvas.savefig(stream, format="png", metadata={"Software": "medloom"})
    return stream.getvalue()


def _panel(axes: Axes, panel: Panel, labelled: bool) -> None:
    for height, (_, figure) in enumerate(panel.rows):
        _row(axes, height, figure)
    axes.set_title(panel.title, fontsize=9)
    axes.set_ylim(len(panel.rows) - 0.4, -0.6)
    axes.set_yticks(range(len(panel.rows)), [label for label, _ in panel.rows] if labelled else [])
    axes.tick_params(labelsize=8, length=2)
    axes.grid(axis="x", color="#eceef1", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.locator_params(axis="x", nbins=4)
    if panel.limits:
        axes.set_xlim(panel.limits)


def _row(axes: Axes, height: int, figure: Figure) -> None:
    reference = figure.reference
    if reference.low is not None and reference.high is not None:
        axes.barh(height, reference.high - reference.low, 0.62, reference.low, color=REFERENCE, linewidth=0)
    axes.plot([reference.value] * 2, [height - 0.31, height + 0.31], color="#6b7280", linewidth=1.4)
    if figure.low is not None and figure.high is not None:
        axes.plot([figure.low, figure.high], [height, height], color=VALUE, linewidth=1.8, solid_capstyle="butt")
    axes.plot([figure.value], [height], "o", color=VALUE, markersize=5)
