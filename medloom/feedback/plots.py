"""Plots of ratings: fractions as stacked bars, times as boxes, areas and coefficients with intervals."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from medloom.evaluation.report.metrics import Reference
from medloom.evaluation.report.plots import DPI, ROW_HEIGHT, Panel, draw, png
from medloom.feedback.measured import Measured

# From what is bad to what is good.
SHADES: Mapping[int, tuple[str, ...]] = {
    3: ("#c0504d", "#e3c770", "#2f7d4f"),
    5: ("#1f4e8c", "#8fb0d6", "#d9dee3", "#e0a98f", "#b3261e"),
}
# Fraction of a bar from which its percentage fits into it.
LABELLED = 0.07


def forest(titles: Mapping[str, Sequence[Measured]], chance: float, limits: tuple[float, float] | None) -> bytes:
    """Values with their intervals, a panel for each title; all panels have the same rows. The mark is chance."""
    reference = Reference("chance", chance)
    panels = [
        Panel(title, [(row.of if row.of != "all" else row.name, row.metric(reference)) for row in rows], limits)
        for title, rows in titles.items()
    ]
    return draw(panels)


def stacked(panels: Mapping[str, Mapping[str, Sequence[float]]], words: Mapping[str, Sequence[str]]) -> bytes:
    """Fractions of the levels of a scale as stacked bars: a panel for each scale, a bar for each row.

    Args:
        panels: scale -> label of a bar -> fractions, from the lowest level.
        words: scale -> names of the levels.
    """
    rows = max(len(bars) for bars in panels.values())
    figure = Figure(figsize=(1.6 + 2.9 * len(panels), 1.15 + 1.25 * ROW_HEIGHT * rows), layout="constrained", dpi=DPI)
    for axes, (title, bars) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        levels = words[title]
        for level, word in enumerate(levels):
            left = [sum(values[:level]) for values in bars.values()]
            widths = [values[level] for values in bars.values()]
            shade = SHADES[len(levels)][level]
            axes.barh(range(len(bars)), widths, 0.72, left=left, color=shade, label=word, linewidth=0)
            for height, (start, width) in enumerate(zip(left, widths, strict=True)):
                if width >= LABELLED:
                    ink = "#1b1f24" if shade in ("#e3c770", "#d9dee3", "#8fb0d6", "#e0a98f") else "white"
                    axes.text(
                        start + width / 2, height, f"{100 * width:.0f}", ha="center", va="center", fontsize=7, color=ink
                    )
        axes.set_title(title, fontsize=9)
        axes.set_yticks(range(len(bars)), list(bars))
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
        axes.tick_params(labelsize=8, length=2)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=len(levels), fontsize=7, frameon=False,
            handlelength=1, columnspacing=1, handletextpad=0.4,
        )  # fmt: skip
    return png(figure)


def boxes(values: Mapping[str, Sequence[float]], unit: str) -> bytes:
    """The middle half of values as boxes with their medians, and 5 % to 95 % as lines; one for each label."""
    width = 0.085 * max(map(len, values)) + 4.8
    figure = Figure(figsize=(width, 0.9 + ROW_HEIGHT * len(values)), layout="constrained", dpi=DPI)
    axes = figure.subplots()
    axes.boxplot(
        list(values.values()), orientation="horizontal", whis=(5, 95), showfliers=False, widths=0.55, patch_artist=True,
        boxprops={"facecolor": "#c9d8ec", "edgecolor": "#1f4e8c"}, medianprops={"color": "#1f4e8c", "linewidth": 2},
        whiskerprops={"color": "#1f4e8c"}, capprops={"color": "#1f4e8c"},
    )  # fmt: skip
    axes.set_yticks(range(1, len(values) + 1), list(values))
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel(unit, fontsize=8)
    axes.tick_params(labelsize=8, length=2)
    axes.grid(axis="x", color="#eceef1", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return png(figure)
