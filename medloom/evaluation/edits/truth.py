"""Edits of virtual patients compared with what truly happened: the finding, its side, and what should have stayed.

The cohort's oracle measures the prior image and the edit with the mask of the prior image. The true change of the named
finding is what it measures where the disease alone becomes what it is in the later image, and position, breath and
noise stay. What no instruction of these reports names is compared with two acquisitions of the same patient, which
differ in position, inspiration and the scanner's noise only. For the named finding such pairs say what the oracle can
detect: patients whose true change is smaller than 95 % of theirs are not counted. As the true change has no noise,
those who are counted are no selection by noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.spec import HU, ImageSpec
from medloom.data.images import read_image
from medloom.evaluation.edits.measure import EDIT, NO_CHANGE, Edits, MeasuredEdit, null_metric
from medloom.evaluation.report.estimates import estimate, estimate_mean, estimate_proportion
from medloom.evaluation.report.metrics import EVERYTHING, HIGHER, LOWER, Metric, Reference, Verdict
from medloom.metrics.effects import fraction_of
from medloom.metrics.uncertainty import LEAST_UNITS
from medloom.phantom.oracle import SIDES, Measurement, measure
from medloom.phantom.truth import Cohort

Values = NDArray[np.float64]

# Diagnosis to what the oracle measures of it.
MEASURED = {"effusion": "fluid", "pneumonia": "lesion", "nodule": "lesion"}
# What becomes of a finding, in the order of the report.
GROWS, SHRINKS, RESOLVES = "grows", "shrinks", "resolves"
IDENTITY = {"heart_ratio": "heart ratio", "chest_width": "chest width", "bone_density": "bone density, HU"}
RIGHT, FRACTION = "finding moved in the right direction on the right side", "fraction of the true change"
STAYED = "change of what is not named"
MEANINGS: Mapping[str, str] = {
    RIGHT: "fraction of edits whose named finding grew or shrank as it should, more than on the other side",
    FRACTION: "mean change of the finding in the true direction, divided by the true one; too much where a finding that"
    " shrinks is erased",
    STAYED: "mean absolute change of a measurement that no instruction names",
}
ALLOWED_RIGHT, ALLOWED_LEVELS = 0.9, 2.0
# As of the effects of a what-if.
ALLOWED_FRACTION = 0.8, 1.2
# Of the difference between two acquisitions of one patient.
MARGIN = 0.25
DETECTED = 0.95  # quantile of the differences between two acquisitions above which a change counts as detected
UNCHANGED = "No change."


@dataclass(frozen=True)
class FindingChange:
    """The change of one edit's named finding.

    Attributes:
        patient: whose it is.
        finding: the diagnosis.
        becomes: what truly becomes of it: grows, shrinks or resolves.
        true: true change on its side, where nothing else changes.
        later: change to the true later image on its side, and on the other side, by measurement.
        estimated: change by the edit on its side, and on the other side.
    """

    patient: str
    finding: str
    becomes: str
    true: float
    later: tuple[float, float]
    estimated: tuple[float, float]

    @property
    def measured(self) -> str:
        """What the oracle measures of the finding."""
        return MEASURED[self.finding]

    @property
    def direction(self) -> float:
        """1 if the finding truly grows, -1 if it shrinks or resolves."""
        return 1.0 if self.becomes == GROWS else -1.0

    def is_right(self, change: tuple[float, float]) -> bool:
        """Whether the finding's side moves as it should, and more than the other side."""
        return change[0] * self.direction > 0 and abs(change[0]) > abs(change[1])


@dataclass
class Truth:
    """Measures edits of a cohort's patients, those of the arm `edit`.

    Attributes:
        cohort: whose patients they are.
        spec: the editor's image space.
        patients: of each edit.
        stayed: name of IDENTITY to the absolute change by each edit.
        findings: of the edits that name a finding.
    """

    cohort: Cohort
    spec: ImageSpec
    patients: list[str] = field(default_factory=list)
    stayed: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in IDENTITY})
    findings: list[FindingChange] = field(default_factory=list)

    def alone(self, edit: MeasuredEdit) -> NDArray[np.float32]:
        """What the disease alone changes until the later image, in HU `(*size)`.

        Raises:
            UserError: the edit is not of the cohort.
        """
        twins = self.cohort.progression(*_files(edit))
        return np.asarray(twins.other.values - twins.factual.values, np.float32)

    def add(self, edit: MeasuredEdit) -> None:
        """Measure one edit.

        Raises:
            UserError: images that are not CT of the cohort's size, or triples that are not of the cohort.
        """
        if edit.arm != EDIT:
            return
        before, after = _files(edit)
        patient, _ = self.cohort.acquisition(before)
        later, _ = self.cohort.acquisition(after)
        mask = self.cohort.mask_of(before)
        intensity = self.spec.of(next(iter(self.spec.intensity)))
        if intensity.unit != HU or edit.prior.shape[1:] != mask.shape:
            raise UserError(
                f"images of {edit.prior.shape[1:]} pixels in {intensity.unit} and a cohort of {mask.shape} in {HU}: the"
                " truth is known for CT at the cohort's size."
            )
        first, edited = (
            measure((image[0] + 1) / 2 * intensity.span + intensity.low, mask) for image in (edit.prior, edit.edited)
        )
        self.patients.append(edit.patient)
        for name, changes in self.stayed.items():
            changes.append(abs(getattr(edited, name) - getattr(first, name)))
        diagnosis, side = str(patient.values["diagnosis"]), str(patient.values["side"])
        if edit.instruction == UNCHANGED or diagnosis not in MEASURED or side not in SIDES:
            return
        what, other = MEASURED[diagnosis], next(name for name in SIDES if name != side)

        def change(before: Measurement, after: Measurement, side: str) -> float:
            sizes = getattr(after, what)[side], getattr(before, what)[side]
            return float(sizes[0] - sizes[1])

        becomes = GROWS if later.values["severity"] > patient.values["severity"] else SHRINKS
        becomes = RESOLVES if later.values["diagnosis"] == "none" else becomes
        twins = self.cohort.progression(before, after)
        alone = change(measure(twins.factual.values, mask), measure(twins.other.values, mask), side)
        seen = measure(read_image(after).pixels[0], self.cohort.mask_of(after))
        both = ((change(first, result, side), change(first, result, other)) for result in (seen, edited))
        self.findings.append(FindingChange(edit.patient, diagnosis, becomes, alone, *both))


def _files(edit: MeasuredEdit) -> tuple[Path, Path]:
    """The files of an edit's prior and later image.

    Raises:
        UserError: the triples are not known.
    """
    if edit.sample is None or edit.sample.condition.prior_file is None:
        raise UserError("--truth needs --reference, the triples that were edited.")
    return edit.sample.condition.prior_file, edit.sample.path


def retest_changes(cohort: Cohort, images: Sequence[Path]) -> dict[str, NDArray[np.float64]]:
    """How much measurements differ between two acquisitions of a patient, by name of IDENTITY and of MEASURED.

    Each patient counts once, however many of the images are of him or her.

    Raises:
        UserError: the cohort's patients have one acquisition each.
    """
    if not cohort.spec.retests:
        raise UserError(f"{cohort.folder} has no retests; make the cohort with --retests true.")
    found: dict[str, list[float]] = {name: [] for name in (*IDENTITY, *MEASURED.values())}
    for image in {image.name.split("-")[0]: image for image in images}.values():
        number, suffix = image.name.split("-")[0], image.name[image.name.index(".") :]
        paths = [image.with_name(f"{number}-{visit}{suffix}") for visit in (0, cohort.spec.visits)]
        one, other = (measure(read_image(path, unit=None).pixels[0], cohort.mask_of(path)) for path in paths)
        for name in IDENTITY:
            found[name].append(abs(getattr(one, name) - getattr(other, name)))
        for name in dict.fromkeys(MEASURED.values()):
            found[name] += [abs(getattr(one, name)[side] - getattr(other, name)[side]) for side in SIDES]
    return {name: np.array(values) for name, values in found.items()}


def truth_metrics(
    truth: Truth, edits: Edits, retests: Mapping[str, NDArray[np.float64]], seed: int
) -> tuple[list[Metric], list[Verdict], list[str]]:
    """Metrics compared with the truth, verdicts, and notes.

    Args:
        truth: has measured the edits.
        edits: what was measured of them.
        retests: see `retest_changes`.
        seed: of the resamples.

    Raises:
        UserError: no edit that names a finding whose true change can be detected.
    """
    noise = {name: float(np.quantile(retests[name], DETECTED)) for name in MEASURED.values()}
    rows = [row for row in truth.findings if row.true * row.direction > noise[row.measured]]
    if not rows:
        raise UserError(
            f"{len(rows)} of {len(truth.findings)} edits name an effusion, a pneumonia or a nodule whose true change"
            " can be detected; edit more patients."
        )
    notes = [
        f"{len(truth.findings) - len(rows)} of {len(truth.findings)} edits that name a finding are not counted in its"
        f" metrics: their true change is no more than {DETECTED:.0%} of the differences between two acquisitions of a"
        " patient."
    ]
    metrics, verdicts = _finding_metrics(rows, seed)
    for finding in MEASURED:
        named = sum(row.finding == finding for row in truth.findings)
        if not any(row.finding == finding for row in rows):
            notes.append(f"{finding}: not judged, as none of {named} edits has a true change that can be detected.")
    for name, words in IDENTITY.items():
        values = np.array(truth.stayed[name])
        known = np.isfinite(values)
        interval = estimate_mean(values[known], np.array(truth.patients)[known].tolist(), seed)
        between = retests[name][np.isfinite(retests[name])]
        ends = estimate_mean(between, np.arange(len(between)), seed)
        reference = Reference.of(ends, "between two acquisitions of a patient")
        stayed = Metric.of(interval, name=STAYED, subset=words, reference=reference, better=LOWER)
        metrics.append(stayed)
        most = ends.value * (1 + MARGIN)
        bound = f"at most {most:.3g}, that between two acquisitions and a margin of {MARGIN:.0%}"
        verdicts.append(Verdict.of(stayed, at_most=most, bound=bound))
    if NO_CHANGE in edits.arms:
        bound = f"at most {ALLOWED_LEVELS:g} grey levels of 255"
        verdicts.append(Verdict.of(null_metric(edits, NO_CHANGE, seed), at_most=ALLOWED_LEVELS, bound=bound))
    return metrics, verdicts, notes


def _finding_metrics(rows: Sequence[FindingChange], seed: int) -> tuple[list[Metric], list[Verdict]]:
    """Direction, side and fraction of the true change: of all findings, of each, and of what becomes of each.

    Direction and side are judged of all findings, the fraction of each finding and, where there are enough patients, of
    what becomes of it: an effusion that grows too little must not hide one that is erased where it shrinks.
    """
    subsets = {EVERYTHING: list(rows)}
    for finding in sorted({row.finding for row in rows}):
        subsets[finding] = [row for row in rows if row.finding == finding]
        for becomes in (GROWS, SHRINKS, RESOLVES):
            own = [row for row in subsets[finding] if row.becomes == becomes]
            patients = {row.patient for row in own}
            if len(patients) >= LEAST_UNITS and len(own) < len(subsets[finding]):
                subsets[f"{finding} that {becomes}"] = own
    right, fractions = list[Metric](), list[Metric]()
    for name, own in subsets.items():
        units = [row.patient for row in own]
        hits, true_hits = (
            estimate_proportion(np.array(found), units)
            for found in ([row.is_right(row.estimated) for row in own], [row.is_right(row.later) for row in own])
        )
        reference = Reference.of(true_hits, "the true later image")
        right.append(Metric.of(hits, name=RIGHT, subset=name, reference=reference, better=HIGHER))
        true, made = np.array([row.true for row in own]), np.array([row.estimated[0] for row in own])

        def fraction(chosen: NDArray[np.intp], true: Values = true, made: Values = made) -> float:
            return fraction_of(true[chosen], made[chosen])

        whole = Reference("the whole change", 1.0)
        fractions.append(Metric.of(estimate(fraction, units, seed), name=FRACTION, subset=name, reference=whole))
    verdicts = [Verdict.of(right[0], at_least=ALLOWED_RIGHT)]
    verdicts += [Verdict.of(metric, *ALLOWED_FRACTION) for metric in fractions if metric.subset != EVERYTHING]
    return [*right, *fractions], verdicts
