"""The picture of the README: what the demo's generator answers for some virtual patients, next to the truth."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.files import read_json
from medloom.core.lookup import look_up
from medloom.core.plots import flat, sides_of
from medloom.core.sheets import Sheet
from medloom.core.spec import HU, Intensity
from medloom.core.tile_texts import MARK, window_note
from medloom.core.tiles import (
    COLOURS_NOTE,
    SHOWN_QUANTILE,
    SIDES_NOTE,
    AbsoluteQuantile,
    ColourScale,
    Tile,
    TileColumn,
)
from medloom.data.images import read_image
from medloom.data.prompts.support import EXTRAPOLATION_NOTE, is_extrapolation
from medloom.data.tables import read_table
from medloom.generators.generated_images import FACTUAL
from medloom.phantom.truth import Cohort

ARMS = ("diagnosis=effusion,extent=severe,side=right", "smoking=former,pack_years=70", "age=85")
# An arm changes a patient clearly whose true change is so large, compared with the median patient.
CLEAR = 0.5
# An arm below the other, so that the texts can be read at the width of a page.
ACROSS = 5

Map = NDArray[np.float32]
# Of the manifest: arm -> rows of one patient.
Rows = Mapping[str, Sequence[Mapping[str, str]]]


@dataclass(frozen=True, eq=False)
class Answer:
    """What the generator answers for one patient and arm, and the truth, in HU; whether it is an extrapolation."""

    generated: Map
    difference: Map
    true: Map
    beyond: bool


def main(words: list[str]) -> None:
    """Draw."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--demo", type=Path, default=Path("runs/demo"), help="folder of `medloom demo`")
    parser.add_argument("--out", type=Path, default=Path("docs/images/demo.png"))
    parser.add_argument("--arms", nargs="+", default=list(ARMS), help="as given to `medloom whatif --set`")
    parser.add_argument("--rows", type=int, default=1, help="patients to show")
    options = parser.parse_args(words)
    sheet = demo_sheet(options.demo / "whatif", Cohort(options.demo / "cohort"), options.arms, options.rows)
    sheet.save(options.out)
    print(f"look at {options.out}")


def demo_sheet(folder: Path, cohort: Cohort, arms: Sequence[str], count: int) -> Sheet:
    """Each patient's own image and the generated one, and of each arm the generated image and both differences.

    Args:
        folder: of the what-if.
        cohort: of its patients.
        arms: to show.
        count: patients to show: the first in whom no arm is an extrapolation and whom every arm truly changes clearly,
            whatever the generator answers.
    """
    description = read_json(folder / "whatif.json")
    changes = {arm: look_up(description["arms"], arm, f"--arms: arm of {folder}")["changes"] for arm in arms}
    patients = _patients(folder)
    answers = {source: _answers(folder, cohort, source, rows, changes) for source, rows in patients.items()}
    shown = _clear(answers, arms)[:count]
    modality = patients[shown[0]][FACTUAL][0]["modality"]
    window = Intensity(**description["spec"]["intensity"][modality])
    own = {source: read_image(cohort.image_of(source)) for source in shown}
    sides = {source: sides_of(image) for source, image in own.items()}

    def images(values: Mapping[str, Map], captions: Mapping[str, str] | None = None) -> list[Tile]:
        scaled = {source: (values[source] - window.low) / window.span * 2 - 1 for source in shown}
        return [Tile(flat(scaled[source][None]), (captions or {}).get(source, ""), sides[source]) for source in shown]

    def maps(values: Mapping[str, Map], scale: ColourScale) -> list[Tile]:
        return [Tile(flat(values[source][None])[0], sides=sides[source], scale=scale) for source in shown]

    recorded = {source: _mean(folder, patients[source][FACTUAL]) for source in shown}
    columns = [
        TileColumn("virtual patient's own image", images({source: image.pixels[0] for source, image in own.items()})),
        TileColumn("generated, as recorded", images(recorded), joined=True),
    ]
    for arm in arms:
        of_arm = {source: own_answers[arm] for source, own_answers in answers.items() if arm in own_answers}
        scale = _scale(list(of_arm.values()))
        beyond = {source: "extrapolation" for source, answer in of_arm.items() if answer.beyond}
        generated = {source: answer.generated for source, answer in of_arm.items()}
        columns += [
            TileColumn(f"generated, {arm}", images(generated, beyond)),
            TileColumn("difference", maps({s: answer.difference for s, answer in of_arm.items()}, scale), joined=True),
            TileColumn("true difference", maps({s: answer.true for s, answer in of_arm.items()}, scale), joined=True),
        ]
    seeds = len(patients[shown[0]][FACTUAL])
    notes = [
        f"Patients were not trained on. Generated: mean of {seeds} seeds. Difference: the arm's image minus the image"
        " generated as recorded. True difference: that of the cohort's causal model, without noise.",
        window_note({modality: window}, [modality]),
        f"{COLOURS_NOTE} {SIDES_NOTE}",
    ]
    if cohort.spec.amplify != 1:
        notes.append(f"In this cohort the effects of smoking are enlarged {cohort.spec.amplify:g} times.")
    if any(answers[source][arm].beyond for source in shown for arm in arms):
        notes.append(EXTRAPOLATION_NOTE)
    labels = [f"patient {number}" for number in range(1, len(shown) + 1)]
    return Sheet(f"{MARK}: what the demo's generator answers", columns, labels, notes, leading=2, across=ACROSS)


def _patients(folder: Path) -> dict[str, dict[str, list[dict[str, str]]]]:
    """Patient -> arm -> rows of the what-if's manifest."""
    found: dict[str, dict[str, list[dict[str, str]]]] = {}
    table = read_table(folder / "manifest.csv")
    for cells in table.rows:
        row = dict(zip(table.header, map(str, cells), strict=True))
        found.setdefault(row["source_id"], {}).setdefault(row["arm"], []).append(row)
    return found


def _answers(
    folder: Path, cohort: Cohort, source: str, rows: Rows, changes: Mapping[str, Mapping[str, object]]
) -> dict[str, Answer]:
    """The answers for one patient by arm; an arm that leaves the patient out is missing."""
    recorded, answers = _mean(folder, rows[FACTUAL]), {}
    for arm, do in changes.items():
        if arm in rows:
            held = [name for name in rows[arm][0]["held"].split(",") if name]
            generated, near = _mean(folder, rows[arm]), rows[arm][0].get("support", "")
            true = cohort.twins(source, do, held).difference
            beyond = near.isdecimal() and is_extrapolation(int(near))
            answers[arm] = Answer(generated, generated - recorded, true, beyond)
    return answers


def _mean(folder: Path, rows: Sequence[Mapping[str, str]]) -> Map:
    """The mean image of some rows in HU."""
    mean: Map = np.mean([read_image(folder / row["path"]).pixels[0] for row in rows], axis=0)
    return mean


def _clear(answers: Mapping[str, Mapping[str, Answer]], arms: Sequence[str]) -> list[str]:
    """The patients who have all arms, those first in whom none is an extrapolation, and whom each changes clearly."""
    whole = {source: own for source, own in answers.items() if len(own) == len(arms)}
    if not whole:
        raise UserError("--arms: no patient takes part in all of them; name arms that leave fewer patients out.")
    sizes = {source: [float(np.abs(own[arm].true).mean()) for arm in arms] for source, own in whole.items()}
    least = CLEAR * np.median(list(sizes.values()), axis=0)

    def turn(source: str) -> tuple[bool, bool]:
        return any(whole[source][arm].beyond for arm in arms), bool((np.array(sizes[source]) < least).any())

    return sorted(sizes, key=turn)


def _scale(answers: Sequence[Answer]) -> ColourScale:
    """The colours of an arm, which the truth sets."""
    true, generated = AbsoluteQuantile(), AbsoluteQuantile()
    for answer in answers:
        true.add(answer.true)
        generated.add(answer.difference)
    if reach := true.value(SHOWN_QUANTILE):
        return ColourScale(reach, HU, f"99th percentile of |true difference|, {len(answers)} patients")
    reach = generated.value(SHOWN_QUANTILE) or 1.0
    return ColourScale(reach, HU, f"99th percentile of |difference|, {len(answers)} patients; truly nothing changes")
