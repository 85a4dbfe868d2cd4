"""The page of edits."""

from collections.abc import Mapping

import numpy as np

from medloom.core.plots import flat, sides_of
from medloom.core.sheets import Sheet
from medloom.core.tile_texts import MARK, quoted, window_note
from medloom.core.tiles import COLOURS_NOTE, SHOWN_QUANTILE, AbsoluteQuantile, ColourScale, Tile, TileColumn, sides_note
from medloom.data.images import read_header
from medloom.evaluation.edits import anatomy, judges, measure
from medloom.evaluation.edits import truth as against_truth
from medloom.evaluation.edits.measure import Edits, MeasuredEdit
from medloom.evaluation.edits.truth import Truth
from medloom.evaluation.report.report import Report, embedded, page

TITLES = (
    "patient's prior image",
    "edited, SYNTHETIC",
    "difference: edited minus prior",
    "patient's later image",
    "true difference: later minus prior",
)
# What stands in the last column of virtual patients, whose disease can change alone.
ALONE = "true difference of the disease alone"
MAPS = (2, 4)  # places of the differences
MEANINGS: Mapping[str, str] = {**measure.MEANINGS, **against_truth.MEANINGS, **judges.MEANINGS, **anatomy.MEANINGS}


def edits_page(edits: Edits, report: Report, truth: Truth | None = None) -> str:
    """The page as HTML.

    Args:
        edits: what was measured, with examples for pictures.
        report: all metrics, verdicts and notes.
        truth: of virtual patients.
    """
    return page(
        "edits.html",
        report=report,
        paired=any(row.similarity is not None for row in edits.rows),
        unit=edits.unit,
        known=report.meanings(MEANINGS),
        picture=embedded(edits_sheet(edits, truth).png()) if edits.examples else "",
    )


def edits_sheet(edits: Edits, truth: Truth | None = None) -> Sheet:
    """For some edits: prior image, edit, later image, and both differences in the same colours.

    The true difference is that to the later image, or with a truth that of the disease alone: position, breath and
    noise stay.
    """
    examples = edits.examples
    paired = all(example.later is not None for example in examples)
    sizes = AbsoluteQuantile()
    for example in examples:
        sizes.add((example.edited - example.prior).mean(axis=0) * example.span / 2)
    note = "99th percentile of |edited minus prior| of the edits shown"
    scale = ColourScale(sizes.value(SHOWN_QUANTILE) or 1.0, edits.unit, note)
    rows = []
    for example in examples:
        change = (example.edited - example.prior).mean(axis=0) * (example.span / 2)
        level = None if change.ndim < 3 else int(np.abs(change).sum(axis=(0, 1)).argmax())
        shown = [example.prior, example.edited, change[None]]
        if paired and example.later is not None:
            later = (example.later - example.prior).mean(axis=0) * (example.span / 2)
            shown += [example.later, (later if truth is None else truth.alone(example))[None]]
        slices, sides = [flat(values, level) for values in shown], _sides(example)
        rows.append(
            [
                Tile(values[0], sides=sides, scale=scale) if place in MAPS else Tile(values, sides=sides)
                for place, values in enumerate(slices)
            ]
        )
    titles = TITLES if truth is None else (*TITLES[:-1], ALONE)
    columns = [
        TileColumn(title, tiles, joined=place > 0)
        for place, (title, tiles) in enumerate(zip(titles, zip(*rows, strict=True), strict=False))
    ]
    labels = [f"edit {number}\n{quoted(example.instruction)}" for number, example in enumerate(examples, 1)]
    notes = [window_note(edits.spec.intensity, edits.spec.intensity), COLOURS_NOTE, *sides_note(columns[0].tiles)]
    heading = f"{MARK}: edits next to patients' images"
    return Sheet(heading, columns, labels, notes)


def _sides(example: MeasuredEdit) -> tuple[str, str] | None:
    """See `sides_of`, of the prior image."""
    prior = None if example.sample is None else example.sample.condition.prior_file
    return None if prior is None else sides_of(read_header(prior))
