"""Pictures of a what-if: each arm next to its difference from the image as recorded, as a sheet, GIFs and NIfTI."""

from collections.abc import Mapping, Sequence

import numpy as np

from medloom.core.files import make_folder
from medloom.core.tile_texts import MARK
from medloom.data.images import read_image
from medloom.data.tables import write_csv
from medloom.generation.difference_files import write_difference_gif, write_difference_volume
from medloom.generation.difference_maps import DifferenceRow, DifferenceScales, Map, difference_sheet
from medloom.generation.geometry import sides
from medloom.generation.grids import (
    AS_RECORDED,
    arm_notes,
    arm_titles,
    caution,
    complete,
    counted,
    modality_of,
    row_label,
    windows,
)
from medloom.generation.produce import LoadedModel, previews
from medloom.generation.requests import Request
from medloom.generators.generated_images import FACTUAL

SHOWN_ROWS = 6
DIFFERENCES, ABSOLUTE, FOLDER = "differences.png", "absolute_differences.png", "differences"


def write_arm_differences(
    model: LoadedModel, requests: Sequence[Request], suffix: str, arms: Mapping[str, str]
) -> None:
    """Write differences.png, absolute_differences.png, and a GIF and a NIfTI file of each shown difference.

    Args:
        model: that generated the images.
        requests: all images; those of a row and seed, in several arms, share their noise.
        suffix: ending of their files.
        arms: name of each changed arm -> what is added to its title, or "".
    """
    by_row: dict[str, list[Request]] = {}
    for request in requests:
        by_row.setdefault(request.origin.source, []).append(request)
    # A row may be left out of all arms.
    numbered = [(number, own) for number, own in enumerate(by_row.values(), 1) if any(r.arm != FACTUAL for r in own)]
    known = [(modality_of(model, own[0]), str(number), {request.arm for request in own}) for number, own in numbered]
    chosen = complete(known, SHOWN_ROWS)
    scales, found = DifferenceScales(), dict[int, DifferenceRow]()
    for place, (number, own) in enumerate(numbered):
        row = _row(model, own, suffix, number)
        scales.add(row)
        if place in chosen:
            found[place] = row
    rows, firsts = [found[place] for place in chosen], [numbered[place][1][0] for place in chosen]
    if not rows:
        return
    titles = {name: title for name, title in arm_titles(arms).items() if name != FACTUAL}
    shown = [{request.arm: request for request in numbered[place][1]} for place in chosen]
    notes = [
        "Difference: the image of the arm minus the image as recorded, both generated from the same seeds. It is a"
        " difference of conditional means, not what would have happened to the patient.",
        windows(model, firsts),
    ]
    out, below = model.options.out, [counted(len(rows), len(by_row), "rows"), *arm_notes(shown, titles), *notes]
    for name, absolute in ((DIFFERENCES, False), (ABSOLUTE, True)):
        colours = {(arm, row.unit): scales.of(arm, row.unit, absolute) for row in rows for arm in row.arms}
        heading = f"{MARK}: what changes in each arm{', without sign' if absolute else ''}"
        words = AS_RECORDED, titles, "absolute difference" if absolute else "difference"
        difference_sheet(rows, heading, words, colours, below).save(out / name)
    folder = out / FOLDER
    make_folder(folder)
    numbers, index = {arm: number for number, arm in enumerate(arms, 1)}, list[list[str]]()
    for row, first in zip(rows, firsts, strict=True):
        reference = read_image(out / f"{first.sample_id}{suffix}")
        for arm in row.arms:
            name = f"{first.sample_id}-arm{numbers[arm]}"
            above, scale = (AS_RECORDED, titles[arm], "difference"), scales.of(arm, row.unit)
            write_difference_gif(folder / f"{name}.gif", row, arm, scale, f"{MARK}: what-if", above, notes)
            write_difference_volume(folder / f"{name}.nii.gz", row, arm, reference)
            index.append([name, first.origin.source, arm])
    write_csv(folder / "index.csv", ["name", "source_id", "arm"], index)


def _row(model: LoadedModel, requests: Sequence[Request], suffix: str, number: int) -> DifferenceRow:
    """The images of a row, mean over its seeds."""
    images: dict[str, list[Map]] = {}
    for request, image in zip(requests, previews(model, requests, suffix), strict=True):
        images.setdefault(request.arm, []).append(image)
    captions = {request.arm: caution(request) for request in requests}
    means: dict[str, Map] = {arm: np.mean(own, axis=0) for arm, own in images.items()}
    first, count = requests[0], len(images[FACTUAL])
    reader = model.generator.reader
    intensity = reader.spec.of(reader.modality(first.condition))
    return DifferenceRow(
        f"{row_label(model, first, number)}\n{f'mean of {count} seeds' if count > 1 else f'seed {first.seed}'}",
        intensity.output_unit,
        intensity.span,
        means.pop(FACTUAL),
        means,
        sides(reader, first),
        captions,
    )
