"""The page of a reader study."""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from medloom.evaluation.report.plots import DPI, png
from medloom.evaluation.report.report import embedded, page
from medloom.feedback.measured import Measured
from medloom.feedback.plots import forest
from medloom.feedback.reader_study.analysis import Analysis
from medloom.feedback.reader_study.scores import Scores

Floats = NDArray[np.float64]
COLOURS = ("#1f4e8c", "#c98a00", "#2f7d4f", "#a11c1c", "#6b4e9b")
FRACTIONS = np.linspace(0, 1, 101)


def study_page(analysis: Analysis) -> str:
    """The page as HTML."""
    # Where scores are missing, the mean is that of the bootstrap.
    means = analysis.means or analysis.bootstrap
    by_arm = zip(analysis.readers.items(), means, strict=True)
    panels = {arm: [*rows, _named(mean, "mean")] for (arm, rows), mean in by_arm}
    values = [row.low for rows in panels.values() for row in rows if row.low is not None]
    low = min([0.5, *(np.floor(10 * value) / 10 for value in values)])
    return page(
        "reader_study.html",
        analysis=analysis,
        question=analysis.question,
        scores=analysis.scores,
        reader_plot=embedded(forest(panels, analysis.question.reference, (low - 0.02, 1.02))) if panels else "",
        means=means,
        roc_plot=embedded(roc_plot(analysis.scores)) if analysis.question.merit == "auc" else "",
    )


def _named(row: Measured, name: str) -> Measured:
    return Measured(row.name, name, row.value, row.low, row.high, row.n, row.counted)


def roc_plot(scores: Scores) -> bytes:
    """ROC curves of each arm: thin lines are readers, the thick one is their mean at each false positive fraction."""
    arms = len(scores.arms)
    figure = Figure(figsize=(3.3 * arms + 0.4, 3.5), layout="constrained", dpi=DPI)
    for arm, axes in enumerate(figure.subplots(1, arms, squeeze=False)[0]):
        colour = COLOURS[arm % len(COLOURS)]
        curves = []
        for own in scores.values[arm]:
            known = ~np.isnan(own)
            labels = scores.truth[known]
            if 0 < labels.sum() < len(labels):
                false, true = roc_points(labels, own[known])
                axes.plot(false, true, color=colour, linewidth=0.8, alpha=0.45)
                curves.append(np.interp(FRACTIONS, false, true))
        axes.plot([0, 1], [0, 1], color="#b9bec6", linewidth=1, linestyle="--")
        if curves:
            mean = np.mean(curves, axis=0)
            mean[0] = 0.0
            axes.plot(FRACTIONS, mean, color=colour, linewidth=2.4)
        axes.set_title(scores.arms[arm] or "readers and their mean", fontsize=9)
        axes.set_xlabel("false positive fraction", fontsize=8)
        axes.set_ylabel("true positive fraction" if arm == 0 else "", fontsize=8)
        axes.set_aspect("equal")
        axes.set_xlim(-0.01, 1.01)
        axes.set_ylim(-0.01, 1.01)
        axes.tick_params(labelsize=8, length=2)
        axes.grid(color="#eceef1", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return png(figure)


def roc_points(truth: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """Fractions of false and of true positives at every threshold, from (0, 0) to (1, 1)."""
    thresholds = np.unique(scores)[::-1]
    positives, negatives = scores[truth == 1], scores[truth == 0]
    true = np.array([0.0, *((positives >= threshold).mean() for threshold in thresholds)])
    false = np.array([0.0, *((negatives >= threshold).mean() for threshold in thresholds)])
    return false, true
