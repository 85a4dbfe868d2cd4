"""The report of edits: scores.json for programs, and one self-contained report.html for people."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas

from medloom.core.files import write_text
from medloom.core.plots import flat
from medloom.evaluation.edits import anatomy as edit_masks
from medloom.evaluation.edits import judges as edit_judges
from medloom.evaluation.edits import measure as edits
from medloom.evaluation.edits import truth as edit_truth
from medloom.evaluation.edits.measure import Edit, Edits
from medloom.evaluation.effects.recovery import Verdict
from medloom.evaluation.images.report import HTML, SCORES, write_judged
from medloom.evaluation.report.metrics import Figure
from medloom.evaluation.report.pages import embedded, page

TEMPLATE = "edits.html"
SIZE, DPI = 1.9, 110
SHOWN_DIFFERENCE = 0.995  # quantile of absolute differences at the ends of the colours
MEANINGS = {
    edits.LIKENESS: "structural similarity of edit and later image; positions differ, so that no edit reaches 1",
    edits.CHANGE: "mean absolute difference of the edit and what was edited",
    edits.NULL: "mean absolute difference where no change is asked for; nochange2 to nochange10 one after another",
    edits.REVERSED: "difference to the earlier image after the edit and the instruction that undoes it",
    edits.IDENTITY: "how often an edit is nearer to its own patient's later image than another patient's is",
    edit_truth.RIGHT: "share of edits whose named finding grew or shrank as it should, more than on the other side",
    edit_truth.SHARE: "mean change of the finding in the true direction, divided by the true one",
    edit_judges.AUROC: "how well a classifier of real images tells the later image's class from edits; 0.5 is chance",
    edit_judges.CORRELATION: "the number that a classifier of real images expects, against the later image's",
    edit_judges.FLIPPED: "of pairs whose class changed, the share of edits that are taken for the later class",
    edit_judges.SHIFT: "Kullback-Leibler divergence of the edits' mean predicted classes from the later images'",
    edit_masks.PLACED: "overlap of the anatomy that a network finds in the edit with the later image's mask",
    edit_masks.KEPT: "overlap of the anatomy that a network finds in the edit and in the earlier image",
    edit_masks.OUTSIDE: "structural similarity of edit and earlier image where neither has anatomy",
    edit_masks.PARTS: "share of images in which an anatomy has more parts than 99 % of real ones: two hearts, say",
    edit_truth.STAYED: "mean absolute change of a measurement that no instruction names",
}


def write_edits(
    out: Path,
    measured: Edits,
    figures: Sequence[Figure],
    verdicts: Sequence[Verdict],
    notes: Sequence[str],
    facts: Mapping[str, Any],
) -> None:
    """Write scores.json and report.html.

    Args:
        out: the folder.
        measured: what was measured, with the examples that are shown.
        figures: of every arm.
        verdicts: what has to hold, and whether it does.
        notes: what a reader has to know.
        facts: further values for scores.json.
    """
    html = page(
        TEMPLATE,
        figures=figures,
        verdicts=verdicts,
        notes=notes,
        paired=any("likeness" in row for row in measured.rows),
        unit=measured.unit,
        meanings={name: text for name, text in MEANINGS.items() if any(f.metric == name for f in figures)},
        picture=embedded(_picture(measured)) if measured.examples else "",
    )
    write_text(out / HTML, html)
    write_judged(out / SCORES, figures, verdicts, notes, facts)


def _picture(measured: Edits) -> bytes:
    """For some edits: earlier image, edit, later image, and both differences on one scale."""
    examples = measured.examples
    paired = all(example.later is not None for example in examples)
    columns = 5 if paired else 3
    canvas = Canvas(figsize=(SIZE * columns + 1.2, SIZE * len(examples) + 0.3), dpi=DPI, layout="constrained")
    axes = canvas.subplots(len(examples), columns, squeeze=False)
    shown = np.stack([np.abs(flat(example.edited - example.prior)) * example.span / 2 for example in examples])
    reach = float(np.quantile(shown, SHOWN_DIFFERENCE)) or 1.0
    for row, example in zip(axes, examples, strict=True):
        drawn = _row(row, example, reach, paired)
    titles = ("earlier image", "edited", "edited less earlier", "later image", "later less earlier")
    for axis, title in zip(axes[0], titles, strict=False):
        axis.set_title(title, fontsize=8)
    canvas.colorbar(drawn, ax=axes.ravel().tolist(), shrink=0.5, aspect=30, pad=0.01, label=measured.unit)
    stream = io.BytesIO()
    canvas.savefig(stream, format="png", metadata={"Software": "medloom"})
    return stream.getvalue()


def _row(axes: Sequence[Any], example: Edit, reach: float, paired: bool) -> Any:
    half = example.span / 2
    difference = (example.edited - example.prior) * half
    level = None if difference.ndim < 4 else int(np.abs(difference).sum(axis=(0, 1, 2)).argmax())
    images = [example.prior, example.edited, difference]
    if paired and example.later is not None:
        images += [example.later, (example.later - example.prior) * half]
    for place, (axis, image) in enumerate(zip(axes, images, strict=True)):
        values = flat(image, level)
        if place in (2, 4):
            drawn = axis.imshow(values.mean(axis=0), cmap="RdBu_r", vmin=-reach, vmax=reach)
        else:
            axis.imshow(np.moveaxis((np.clip(values, -1, 1) + 1) / 2, 0, -1).squeeze(), cmap="gray", vmin=0, vmax=1)
        axis.set_xticks([])
        axis.set_yticks([])
    axes[0].set_ylabel("\n".join(_wrapped(example.instruction)), fontsize=6)
    return drawn


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, 30)[:5]
