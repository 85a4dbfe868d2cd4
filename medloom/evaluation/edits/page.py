"""The page of edits."""

import textwrap
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from medloom.core.plots import flat
from medloom.evaluation.edits import anatomy, judges, measure, truth
from medloom.evaluation.edits.measure import Edits
from medloom.evaluation.report.plots import png
from medloom.evaluation.report.report import Report, embedded, page

SIZE, DPI = 1.9, 110
QUANTILE = 0.995  # of absolute differences, at the ends of the colour scale
MEANINGS: Mapping[str, str] = {**measure.MEANINGS, **truth.MEANINGS, **judges.MEANINGS, **anatomy.MEANINGS}


def edits_page(edits: Edits, report: Report) -> str:
    """The page as HTML.

    Args:
        edits: what was measured, with examples for pictures.
        report: all metrics, verdicts and notes.
    """
    return page(
        "edits.html",
        report=report,
        paired=any(row.similarity is not None for row in edits.rows),
        unit=edits.unit,
        known=report.meanings(MEANINGS),
        picture=embedded(_picture(edits)) if edits.examples else "",
    )


def _picture(edits: Edits) -> bytes:
    """For some edits: prior image, edit, later image, and both differences on one scale."""
    examples = edits.examples
    paired = all(example.later is not None for example in examples)
    columns = 5 if paired else 3
    figure = Figure(figsize=(SIZE * columns + 1.2, SIZE * len(examples) + 0.3), dpi=DPI, layout="constrained")
    axes = figure.subplots(len(examples), columns, squeeze=False)
    differences = [np.abs(flat(example.edited - example.prior)) * example.span / 2 for example in examples]
    reach = float(np.quantile(np.stack(differences), QUANTILE)) or 1.0
    for row, example in zip(axes, examples, strict=True):
        half = example.span / 2
        difference = (example.edited - example.prior) * half
        level = None if difference.ndim < 4 else int(np.abs(difference).sum(axis=(0, 1, 2)).argmax())
        images = [example.prior, example.edited, difference]
        if paired and example.later is not None:
            images += [example.later, (example.later - example.prior) * half]
        for place, (axis, image) in enumerate(zip(row, images, strict=True)):
            values = flat(image, level)
            if place in (2, 4):
                drawn = axis.imshow(values.mean(axis=0), cmap="RdBu_r", vmin=-reach, vmax=reach)
            else:
                axis.imshow(np.moveaxis((np.clip(values, -1, 1) + 1) / 2, 0, -1).squeeze(), cmap="gray", vmin=0, vmax=1)
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_ylabel("\n".join(textwrap.wrap(example.instruction, 30)[:5]), fontsize=6)
    titles = ("prior image", "edited", "edited less prior", "later image", "later less prior")
    for axis, title in zip(axes[0], titles, strict=False):
        axis.set_title(title, fontsize=8)
    figure.colorbar(drawn, ax=axes.ravel().tolist(), shrink=0.5, aspect=30, pad=0.01, label=edits.unit)
    return png(figure)
