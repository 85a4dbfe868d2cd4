"""The report of a what-if: scores.json for programs, and one self-contained report.html for people."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from medloom.core.files import write_text
from medloom.core.spec import HU
from medloom.evaluation.effects import recovery
from medloom.evaluation.effects.measure import Effects, Example
from medloom.evaluation.effects.observed import BESIDE
from medloom.evaluation.effects.recovery import Verdict
from medloom.evaluation.effects.regions import shift_table
from medloom.evaluation.images.report import HTML, SCORES, write_judged
from medloom.evaluation.report.metrics import Figure
from medloom.evaluation.report.pages import embedded, page
from medloom.evaluation.report.plots import Panel, draw

TEMPLATE = "effects.html"
SHOWN_HU = (-1000.0, 300.0)
SHOWN_DIFFERENCE = 0.995  # quantile of absolute differences at the ends of the colours
PICTURE_SIZE, DPI = 2.1, 110
MEANINGS = {
    recovery.EFFECT: "mean difference of an arm and the factual image in the region where the cause acts",
    recovery.SPREAD: "how much that difference changes for the same patient with another seed",
    recovery.SHARE: "mean estimated effect in the true direction, divided by the mean size of the true effect",
    recovery.ERROR: "mean of estimated less true effect",
    recovery.SLOPE: "line through the means of dose levels; 1 recovers the effect, 0 misses it, above 1 exaggerates it",
    recovery.INTERCEPT: "where that line stands at a true effect of 0; what is added whatever the dose",
    recovery.SIGNS: "share of patients whose estimated effect has the true sign",
    recovery.MAPS: "how alike the difference map and the true one are, voxel by voxel, within the body",
    recovery.OUTSIDE: "mean absolute change where the truth changes nothing, divided by that where it does",
}


def write_effects(
    out: Path,
    effects: Effects,
    figures: Sequence[Figure],
    verdicts: Sequence[Verdict],
    notes: Sequence[str],
    facts: Mapping[str, Any],
) -> None:
    """Write scores.json and report.html.

    Args:
        out: the folder.
        effects: what was measured, with the examples that are shown.
        figures: of every arm and attribute.
        verdicts: what has to hold, and whether it does.
        notes: what a reader has to know.
        facts: further values for scores.json.
    """
    known = any("true" in row for row in effects.rows)
    html = page(
        TEMPLATE,
        effects=effects,
        known=known,
        verdicts=verdicts,
        arms=[figure for figure in figures if figure.metric == recovery.EFFECT],
        observed=[figure for figure in figures if figure.metric == BESIDE],
        regions=shift_table(figures),
        by_attribute=[(name, [f for f in figures if f.subset == name]) for name in effects.attributes],
        notes=notes,
        meanings={name: text for name, text in MEANINGS.items() if any(f.metric == name for f in figures)},
        plot=embedded(_plot(figures)),
        pictures=[(name, embedded(_picture(effects, name))) for name in effects.arms],
    )
    write_text(out / HTML, html)
    arms = {name: arm.estimand for name, arm in effects.arms.items()}
    write_judged(out / SCORES, figures, verdicts, notes, {"arms": arms, **facts})


def _plot(figures: Sequence[Figure]) -> bytes:
    arms = [(figure.subset, figure) for figure in figures if figure.metric == recovery.EFFECT]
    return draw([Panel(recovery.EFFECT, arms)])


def _picture(effects: Effects, name: str) -> bytes:
    """For some patients: factual, with the change, the difference, and the true difference on the same scale."""
    examples = [example for example in effects.examples if example.arm == name]
    columns = 4 if examples[0].true is not None else 3
    canvas = Canvas(
        figsize=(PICTURE_SIZE * columns + 0.8, PICTURE_SIZE * len(examples) + 0.4), dpi=DPI, layout="constrained"
    )
    axes = canvas.subplots(len(examples), columns, squeeze=False)
    # The truth sets the scale, where it is known and not zero: noise must not look like an effect.
    shown = [example.difference if example.true is None else example.true for example in examples]
    reach = float(np.quantile(np.abs(np.stack(shown)), SHOWN_DIFFERENCE))
    reach = reach or float(np.quantile(np.abs(np.stack([e.difference for e in examples])), SHOWN_DIFFERENCE)) or 1.0
    for row, example in zip(axes, examples, strict=True):
        drawn = _row(row, example, effects.unit, reach)
    for axis, title in zip(axes[0], ("as it was", name, "difference", "true difference"), strict=False):
        axis.set_title(title, fontsize=9)
    canvas.colorbar(drawn, ax=axes[:, 2:].ravel().tolist(), shrink=0.8, label=effects.unit)
    stream = io.BytesIO()
    canvas.savefig(stream, format="png", metadata={"Software": "medloom", "SYNTHETIC": "YES"})
    return stream.getvalue()


def _row(axes: Sequence[Any], example: Example, unit: str, reach: float) -> Any:
    slices = [_slice(values, example) for values in (example.factual, example.other)]
    low, high = SHOWN_HU if unit == HU else (float(np.min(slices)), float(np.max(slices)))
    for axis, values in zip(axes, slices, strict=False):
        axis.imshow(values, cmap="gray", vmin=low, vmax=high)
    maps = [example.difference] if example.true is None else [example.difference, example.true]
    for axis, values in zip(axes[2:], maps, strict=True):
        drawn = axis.imshow(_slice(values, example), cmap="RdBu_r", vmin=-reach, vmax=reach)
    for axis in axes:
        axis.set_axis_off()
    return drawn


def _slice(values: NDArray[Any], example: Example) -> NDArray[Any]:
    """A 2-D image as it is; of a volume (axes R, A, S) the axial slice that changes most, as it is shown."""
    if values.ndim == 2:
        return values
    reference = example.difference if example.true is None else example.true
    level = int(np.abs(reference).sum(axis=(0, 1)).argmax())
    return values[::-1, ::-1, level].T
