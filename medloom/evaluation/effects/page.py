"""The page of a what-if."""

import numpy as np
from matplotlib.figure import Figure

from medloom.core.plots import flat
from medloom.core.spec import HU
from medloom.evaluation.effects import recovery
from medloom.evaluation.effects.measure import Effects
from medloom.evaluation.effects.observed import OBSERVED
from medloom.evaluation.effects.regions import NOISE, SHIFT, shift_table
from medloom.evaluation.report.plots import Panel, draw, png
from medloom.evaluation.report.report import Report, embedded, page

WINDOW = (-1000.0, 300.0)  # HU
QUANTILE = 0.995  # of absolute differences, at the ends of the colour scale
PICTURE_SIZE, DPI = 2.1, 110


def whatif_page(effects: Effects, report: Report) -> str:
    """The page as HTML.

    Args:
        effects: what was measured, with examples for pictures.
        report: all metrics, verdicts and notes.
    """
    arms = [metric for metric in report.metrics if metric.name in (recovery.EFFECT, recovery.BEYOND)]
    labels = [f"{arm.subset}{', extrapolation' * (arm.name == recovery.BEYOND)}" for arm in arms]
    in_tables = {SHIFT, NOISE, OBSERVED}
    return page(
        "whatif.html",
        effects=effects,
        report=report,
        known=effects.known,
        arms=arms,
        observed=[metric for metric in report.metrics if metric.name == OBSERVED],
        regions=shift_table(report.metrics),
        by_attribute=[(name, [m for m in report.metrics if m.subset == name]) for name in effects.attributes],
        measured={name: text for name, text in report.meanings(recovery.MEANINGS).items() if name not in in_tables},
        plot=embedded(draw([Panel(recovery.EFFECT, list(zip(labels, arms, strict=True)))])),
        pictures=[(name, embedded(_picture(effects, name))) for name in effects.arms],
    )


def _picture(effects: Effects, name: str) -> bytes:
    """For some patients: factual image, changed image, difference, and the true difference on the same scale."""
    examples = [example for example in effects.examples if example.arm == name]
    columns = 4 if effects.known else 3
    figure = Figure(
        figsize=(PICTURE_SIZE * columns + 0.8, PICTURE_SIZE * len(examples) + 0.4), dpi=DPI, layout="constrained"
    )
    axes = figure.subplots(len(examples), columns, squeeze=False)
    differences = np.abs(np.stack([example.difference for example in examples]))
    # The truth sets the scale if it is known and not zero: noise must not look like an effect.
    scale = np.abs(np.stack([example.difference if example.true is None else example.true for example in examples]))
    reach = float(np.quantile(scale, QUANTILE)) or float(np.quantile(differences, QUANTILE)) or 1.0
    for row, example in zip(axes, examples, strict=True):
        reference = example.difference if example.true is None else example.true
        # Of a volume the axial slice that changes most.
        level = int(np.abs(reference).sum(axis=(0, 1)).argmax()) if reference.ndim == 3 else None
        slices = [flat(values[None], level)[0] for values in (example.factual, example.other)]
        low, high = WINDOW if effects.unit == HU else (float(np.min(slices)), float(np.max(slices)))
        for axis, values in zip(row, slices, strict=False):
            axis.imshow(values, cmap="gray", vmin=low, vmax=high)
        maps = [example.difference] if example.true is None else [example.difference, example.true]
        for axis, values in zip(row[2:], maps, strict=True):
            drawn = axis.imshow(flat(values[None], level)[0], cmap="RdBu_r", vmin=-reach, vmax=reach)
        for axis in row:
            axis.set_axis_off()
    for axis, title in zip(axes[0], ("factual", name, "difference", "true difference"), strict=False):
        axis.set_title(title, fontsize=9)
    figure.colorbar(drawn, ax=axes[:, 2:].ravel().tolist(), shrink=0.8, label=effects.unit)
    return png(figure, SYNTHETIC="YES")
