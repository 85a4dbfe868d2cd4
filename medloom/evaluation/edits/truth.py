"""Edits of virtual patients beside what truly happened: the finding, its side, and what should have stayed.

The cohort's oracle measures the earlier image, the edit and the true later image, each with the mask of its own
position (an edit has that of its earlier image). What no instruction of these reports names is compared with the same
patient taken twice, nothing changed but position, inspiration and the scanner's noise. Of the named finding such pairs
say what the oracle can see: patients whose true change is smaller than 95 % of theirs are not counted.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.spec import HU, ImageSpec
from medloom.data.images import read_image
from medloom.evaluation.edits.measure import EDIT, SECTION, Edit, Edits
from medloom.evaluation.effects.recovery import Verdict
from medloom.evaluation.report.metrics import HIGHER, LOWER, Figure, Reference, rate
from medloom.metrics.uncertainty import bootstrap_mean
from medloom.phantom.oracle import SIDES, Measurement, measure
from medloom.phantom.truth import Cohort

# Diagnosis -> what the oracle measures of it.
MEASURED = {"effusion": "fluid", "pneumonia": "lesion", "nodule": "lesion"}
IDENTITY = {"heart_ratio": "heart ratio", "chest_width": "chest width", "bone_density": "bone density, HU"}
RIGHT, SHARE = "finding moved in the right direction on the right side", "share of the true change"
STAYED = "change of what is not named"
ALLOWED_RIGHT, ALLOWED_LEVELS = 0.9, 2.0
# Of the difference between two acquisitions of one patient.
MARGIN = 0.25
SEEN = 0.95  # quantile of the differences between two acquisitions above which a change counts as seen
LEAST = 5  # patients of a finding that has figures of its own
NO_CHANGE = "No change."


@dataclass(frozen=True)
class Truth:
    """Measures edits of a cohort's patients.

    Attributes:
        cohort: whose patients they are.
        spec: the editor's image space.
    """

    cohort: Cohort
    spec: ImageSpec

    def __call__(self, edit: Edit) -> dict[str, Any]:
        """What the oracle finds of one edit: changes from the earlier image, true ones, and whether one was asked for.

        Raises:
            UserError: images that are not CT of the cohort's size, or triples that are not of the cohort.
        """
        if edit.sample is None or edit.sample.condition.prior is None:
            raise UserError("--truth needs --reference, the triples that were edited.")
        before, after = edit.sample.condition.prior, edit.sample.path
        patient, _ = self.cohort.acquisition(before)
        later, _ = self.cohort.acquisition(after)
        mask = self.cohort.mask_of(before)
        first, edited = self._of(edit.prior, mask), self._of(edit.edited, mask)
        true = self._of(read_image(after).pixels, self.cohort.mask_of(after), False)
        row = {f"stayed {name}": abs(getattr(edited, name) - getattr(first, name)) for name in IDENTITY}
        found = self._finding(patient.values, later.values, first, edited, true)
        return row | (found if edit.instruction != NO_CHANGE else {})

    def _finding(
        self,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
        first: Measurement,
        edited: Measurement,
        true: Measurement,
    ) -> dict[str, Any]:
        """The named finding: its true and estimated change on its side, and the change on the other side."""
        diagnosis, side = str(before["diagnosis"]), str(before["side"])
        if diagnosis not in MEASURED or side not in SIDES:
            return {}
        what, other = MEASURED[diagnosis], next(name for name in SIDES if name != side)
        grows = after["diagnosis"] != "none" and after["severity"] > before["severity"]
        return {
            "finding": diagnosis,
            "measured": what,
            "direction": 1.0 if grows else -1.0,
            "true": getattr(true, what)[side] - getattr(first, what)[side],
            "moved": getattr(edited, what)[side] - getattr(first, what)[side],
            "moved elsewhere": getattr(edited, what)[other] - getattr(first, what)[other],
            "true elsewhere": getattr(true, what)[other] - getattr(first, what)[other],
        }

    def _of(self, image: NDArray[Any], mask: NDArray[Any], scaled: bool = True) -> Measurement:
        intensity = self.spec.of(next(iter(self.spec.intensity)))
        if intensity.unit != HU or image.shape[1:] != mask.shape:
            raise UserError(
                f"images of {image.shape[1:]} pixels in {intensity.unit} and a cohort of {mask.shape} in {HU}: the"
                " truth is known of CT at the cohort's size."
            )
        values = (image[0] + 1) / 2 * intensity.span + intensity.low if scaled else image[0]
        return measure(values, mask)


def retest_changes(cohort: Cohort, images: Sequence[Path]) -> dict[str, NDArray[np.float64]]:
    """How much measurements differ between two acquisitions of a patient, by name of IDENTITY and of MEASURED.

    Raises:
        UserError: the cohort's patients were not taken twice.
    """
    if not cohort.spec.retests:
        raise UserError(f"{cohort.folder} has no retests; make the cohort with --retests true.")
    found: dict[str, list[float]] = {name: [] for name in (*IDENTITY, *MEASURED.values())}
    for one, other in _pairs(cohort, images):
        for name in IDENTITY:
            found[name].append(abs(getattr(one, name) - getattr(other, name)))
        for name in dict.fromkeys(MEASURED.values()):
            found[name] += [abs(getattr(one, name)[side] - getattr(other, name)[side]) for side in SIDES]
    return {name: np.array(values) for name, values in found.items()}


def _pairs(cohort: Cohort, images: Sequence[Path]) -> Iterator[tuple[Measurement, Measurement]]:
    for image in images:
        number = image.name.split("-")[0]
        again = image.with_name(f"{number}-{cohort.spec.visits}{image.name[image.name.index('.') :]}")
        first = image.with_name(f"{number}-0{image.name[image.name.index('.') :]}")
        one, other = (measure(read_image(path, unit=None).pixels[0], cohort.mask_of(path)) for path in (first, again))
        yield one, other


def truth_figures(
    edits: Edits, retests: Mapping[str, NDArray[np.float64]], seed: int
) -> tuple[list[Figure], list[Verdict], list[str]]:
    """Figures beside the truth, whether each is where it has to be, and notes.

    Args:
        edits: measured with `Truth`.
        retests: see `retest_changes`.
        seed: of the resamples.

    Raises:
        UserError: fewer than two edits that name a finding whose true change can be seen.
    """
    named = [row for row in edits.rows if row["arm"] == EDIT and "moved" in row]
    noise = {name: float(np.quantile(retests[name], SEEN)) for name in MEASURED.values()}
    rows = [row for row in named if row["true"] * row["direction"] > noise[row["measured"]]]
    if len({row["patient"] for row in rows}) < 2:
        raise UserError(
            f"{len(rows)} of {len(named)} edits name an effusion, a pneumonia or a nodule whose true change can be"
            " seen; edit more patients."
        )
    notes = [
        f"{len(named) - len(rows)} of {len(named)} edits that name a finding are not counted in its figures: their true"
        f" change is no more than {SEEN:.0%} of the differences between two acquisitions of a patient."
    ]
    found = [row["finding"] for row in rows]
    findings = ["all", *sorted({name for name in found if found.count(name) >= LEAST})]
    figures = [_right(rows, name, seed) for name in findings]
    verdicts = [_verdict(figures[0], f"at least {ALLOWED_RIGHT:g}", figures[0].value >= ALLOWED_RIGHT)]
    figures += [_share(rows, name, seed) for name in findings]
    for name, words in IDENTITY.items():
        figure, held = _stayed(edits, name, words, retests[name], seed)
        figures.append(figure)
        verdicts.append(_verdict(figure, f"no more than between two acquisitions, margin {MARGIN:.0%} of that", held))
    return figures, verdicts + list(_nulls(edits, seed)), notes


def _right(rows: Sequence[Mapping[str, Any]], finding: str, seed: int) -> Figure:
    own = [row for row in rows if finding in ("all", row["finding"])]
    hits, true = (np.array([_is_right(row, name) for row in own]) for name in ("moved", "true"))
    patients = [str(row["patient"]) for row in own]
    reference = Reference.of(rate(true, patients, seed), "the true later image")
    told = {"section": SECTION, "metric": RIGHT, "subset": finding, "counted": "patients"}
    return Figure.of(rate(hits, patients, seed), reference=reference, better=HIGHER, **told)


def _is_right(row: Mapping[str, Any], name: str) -> bool:
    """Whether the finding's side moved as it should, and more than the other side."""
    return row[name] * row["direction"] > 0 and abs(row[name]) > abs(row[f"{name} elsewhere"])


def _share(rows: Sequence[Mapping[str, Any]], finding: str, seed: int) -> Figure:
    own = [row for row in rows if finding in ("all", row["finding"])]
    directions = np.array([row["direction"] for row in own])
    true = float(np.mean([row["true"] for row in own] * directions))
    moved = np.array([row["moved"] for row in own]) * directions
    interval = bootstrap_mean(moved / true, [str(row["patient"]) for row in own], seed)
    told = {"section": SECTION, "metric": SHARE, "subset": finding, "counted": "patients"}
    return Figure.of(interval, reference=Reference("the whole change", 1.0), better="", **told)


def _stayed(edits: Edits, name: str, words: str, retests: NDArray[np.float64], seed: int) -> tuple[Figure, bool]:
    """Mean change of a measurement that no instruction names, beside the same between two acquisitions."""
    values, patients = edits.column(f"stayed {name}", EDIT), edits.column("patient", EDIT)
    known = np.isfinite(values)
    interval = bootstrap_mean(values[known], patients[known].tolist(), seed)
    between = retests[np.isfinite(retests)]
    ends = bootstrap_mean(between, list(range(len(between))), seed)
    told = {"section": SECTION, "metric": STAYED, "subset": words, "counted": "patients", "better": LOWER}
    figure = Figure.of(interval, reference=Reference.of(ends, "between two acquisitions of a patient"), **told)
    return figure, interval.high <= ends.value * (1 + MARGIN)


def _nulls(edits: Edits, seed: int) -> Iterator[Verdict]:
    values = edits.column("levels", "nochange")
    if len(values):
        interval = bootstrap_mean(values, edits.column("patient", "nochange").tolist(), seed)
        rule = f"below {ALLOWED_LEVELS:g} grey levels of 255"
        held = interval.value < ALLOWED_LEVELS
        yield Verdict("nochange", "change by no instruction", interval.value, interval.low, interval.high, rule, held)


def _verdict(figure: Figure, rule: str, held: bool) -> Verdict:
    return Verdict(figure.subset, figure.metric, figure.value, figure.low, figure.high, rule, held)
