"""Pictures of edits: each next to the prior image and the difference of the two, as a sheet and as GIFs."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from medloom.core.files import make_folder
from medloom.core.sheets import varied
from medloom.core.tile_texts import MARK, quoted
from medloom.core.types import Condition
from medloom.data.tables import write_csv
from medloom.generation.difference_files import write_difference_gif
from medloom.generation.difference_maps import DifferenceRow, DifferenceScales, difference_sheet
from medloom.generation.geometry import sides
from medloom.generation.grids import counted, modality_of, row_label, windows
from medloom.generation.produce import LoadedModel, previews
from medloom.generation.requests import Request
from medloom.processes.editing import NOTHING

SHOWN_ROWS = 8
DIFFERENCES, FOLDER = "differences.png", "differences"
PRIOR, DIFFERENCE = "patient's prior image", "difference: edited minus prior image"
# All edits have one scale of colours.
SCALE = "edited"


def write_edit_differences(
    model: LoadedModel, priors: Sequence[Condition], edits: Sequence[Request], suffix: str
) -> list[Request]:
    """Write differences.png, and a GIF of each shown edit; returns the edits that equal their prior images.

    Args:
        model: that generated the edits.
        priors: the conditions with the prior images, one a row.
        edits: all edits, row by row, equally many of each.
        suffix: ending of their files.
    """
    count = len(edits) // len(priors)
    of_row = [edits[start : start + count] for start in range(0, len(edits), count)]
    keys = [(modality_of(model, own[0]), str(own[0].condition.text)) for own in of_row]
    chosen = varied(keys, SHOWN_ROWS)
    scales, found, equal = DifferenceScales(), dict[int, DifferenceRow](), list[Request]()
    for number, (prior, own) in enumerate(zip(priors, of_row, strict=True)):
        row = _row(model, prior, own, suffix, number + 1)
        scales.add(row, dict.fromkeys(row.arms, SCALE))
        seen = zip(own, row.arms.values(), strict=True)
        equal += [request for request, image in seen if np.abs(image - row.factual).max() < NOTHING]
        if number in chosen:
            found[number] = row
    rows, shown = [found[number] for number in chosen], [of_row[number] for number in chosen]
    names = list(rows[0].arms)
    heading = f"{MARK}: edits next to the prior images that were given"
    colours = {(name, row.unit): scales.of(SCALE, row.unit) for row in rows for name in names}
    window = windows(model, [own[0] for own in shown])
    notes, titles = [counted(len(rows), len(priors), "rows"), window], {name: name for name in names}
    out = model.options.out
    difference_sheet(rows, heading, (PRIOR, titles, DIFFERENCE), colours, notes).save(out / DIFFERENCES)
    folder = out / FOLDER
    make_folder(folder)
    index = []
    for row, own in zip(rows, shown, strict=True):
        for name, request in zip(names, own, strict=True):
            scale, path = scales.of(SCALE, row.unit), folder / f"{request.sample_id}.gif"
            write_difference_gif(path, row, name, scale, f"{MARK}: edit", (PRIOR, name, DIFFERENCE), [window])
            index.append([request.sample_id, request.origin.source, request.seed])
    write_csv(folder / "index.csv", ["name", "source_id", "seed"], index)
    return equal


def _row(model: LoadedModel, prior: Condition, edits: Sequence[Request], suffix: str, number: int) -> DifferenceRow:
    reader = model.generator.reader
    names = [f"edited, variant {place}" if len(edits) > 1 else "edited" for place in range(1, len(edits) + 1)]
    intensity, before = reader.spec.of(reader.modality(prior)), reader.prior(prior)
    # Files are rounded, and the prior image in memory is not: what differs by less than a level is the same.
    after = [np.where(np.abs(image - before) < NOTHING, before, image) for image in previews(model, edits, suffix)]
    return DifferenceRow(
        f"{row_label(model, edits[0], number)}\n{quoted(edits[0].shown(model.options.with_text).text)}",
        intensity.output_unit,
        intensity.span,
        before,
        dict(zip(names, after, strict=True)),
        sides(reader, replace(edits[0], condition=prior)),
        {name: f"seed {edit.seed}" for name, edit in zip(names, edits, strict=True)},
    )
