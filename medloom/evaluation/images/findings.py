"""Do images show the findings, and the sides, that their texts name?"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medloom.downstream.multilabel import MultiLabelClassifier
from medloom.evaluation.images.comparison import Comparison
from medloom.evaluation.images.section import Found, Inputs, Plots, Section
from medloom.evaluation.images.sets import ImageSet, Subsets
from medloom.evaluation.images.text_findings import (
    MEASURED,
    SIDES,
    TRAINED,
    Output,
    Truth,
    finding_sets,
    label,
)
from medloom.evaluation.report.metrics import EVERYTHING, HIGHER, Metric, Reference, Sampled, proportion
from medloom.evaluation.report.plots import FRACTION, Panel
from medloom.metrics.areas import auroc_interval
from medloom.metrics.uncertainty import Interval
from medloom.report_text.finding_terms import SIDELESS

AUROC, SENSITIVITY = "AUROC of the finding", "sensitivity to the finding"
SPECIFICITY, SIDE = "specificity of the finding", "side of the finding"
HELD_OUT = "held-out real images"
CHANCE = 0.5
UNSEEN = "no power here: the classifier does not see it in held-out real images"


@dataclass(frozen=True, eq=False)
class Scored:
    """Images with what their texts say and what the classifier sees.

    Attributes:
        truth: `(n, outputs)` of 0 and 1; nan where a text leaves it open.
        scores: `(n, outputs)`, higher for images with the finding.
        units: what intervals are over, `(n,)`.
        counted: what they are.
        parts: which images are in each subset that is measured on its own.
        note: on what the units are, for the reader.
    """

    truth: Truth
    scores: NDArray[np.floating]
    units: NDArray[np.generic]
    counted: str
    parts: Subsets = field(default_factory=dict)
    note: str = ""

    @classmethod
    def of(cls, truth: Truth, scores: NDArray[np.floating], members: ImageSet) -> "Scored":
        """Of a set; intervals of few prompts are over images."""
        units = np.asarray(members.units)
        if members.counted == "patients":
            return cls(truth, scores, units, members.counted, members.parts)
        sampled = Sampled.of(units, members.counted)
        return cls(truth, scores, sampled.units, sampled.counted, members.parts, sampled.note)

    def rows(self, rows: NDArray[np.bool_]) -> "Scored":
        """Some rows, without subsets."""
        return Scored(self.truth[rows], self.scores[rows], self.units[rows], self.counted, {}, self.note)

    def has_enough(self, column: int) -> bool:
        """Whether enough units have and lack the finding of an output."""
        own = self.truth[:, column]
        return min(len(set(self.units[own == state])) for state in (0, 1)) >= MEASURED


def measure(inputs: Inputs) -> Found:
    """Train the classifier on texts of real images, and apply it to synthetic ones and to held-out real ones."""
    data, cache = inputs.data, inputs.cache
    sets = finding_sets(data)
    names = [output.name for output in sets.outputs]
    classifier = cache.finding_classifier(sets.train.members, sets.train.truth, names)
    synthetic, real = (
        Scored.of(known.truth, classifier.scores(cache.images(known.members)), known.members)
        for known in (sets.synthetic, sets.real)
    )
    metrics = finding_metrics(
        sets.outputs, classifier.thresholds, synthetic, real, _made_without_model(inputs, sets.outputs, classifier)
    )
    area = classifier.validation["auroc"]
    remark = (
        f"The classifier was trained on {len(sets.train.members)} images of {len(set(sets.train.members.units))}"
        f" patients with the findings of their texts, without left-right flips. A quarter of the patients chose its"
        f" weights and thresholds; on them the mean AUROC is {0.0 if area is None else area:.2f}."
    )
    return Found(metrics, unknown_sides(sets.outputs, metrics, synthetic, real), remark)


def unknown_sides(outputs: Sequence[Output], metrics: Sequence[Metric], synthetic: Scored, real: Scored) -> list[str]:
    """A note on findings whose sides are not measured, with what it would take."""
    measured = {metric.subset for metric in metrics if metric.name == SIDE}
    sided, notes = _sided(outputs), []
    for name in dict.fromkeys(output.finding for output in outputs):
        if name in measured or name in SIDELESS:
            continue
        counts = (
            f"too few images of some set have it on the left or on the right; {TRAINED} patients to train on have to"
        )
        if name in sided:
            parts = [_counted(known, sided[name]) for known in (real, synthetic)]
            counts = f"held-out {parts[0]} have it on the left and on the right alone, synthetic {parts[1]}"
        notes.append(f"findings: the side of {name} was not measured: {counts}; it needs {MEASURED} of each.")
    return notes


def _counted(known: Scored, pair: tuple[int, int]) -> str:
    """The units with a finding on the left alone and on the right alone."""
    left, right = (len(set(known.units[_on_side(known, pair, side)])) for side in (0, 1))
    return f"{left} and {right} {known.counted}"


def _made_without_model(inputs: Inputs, outputs: Sequence[Output], classifier: MultiLabelClassifier) -> Scored | None:
    """The set made without a model with the texts that it stands for; None if none of them has a text."""
    replaced = inputs.replaced
    rows = [row for row, text in enumerate(replaced.texts) if text.strip()]
    if not rows:
        return None
    known = label(replaced.rows(rows), outputs)
    return Scored.of(known.truth, classifier.scores(inputs.stand_ins(inputs.data.spec)[rows]), known.members)


def lacking(data: Comparison) -> str | None:
    """Why no finding can be measured, or None."""
    return finding_sets(data).lack or None


def finding_metrics(
    outputs: Sequence[Output],
    thresholds: Sequence[float],
    synthetic: Scored,
    real: Scored,
    control: Scored | None = None,
) -> list[Metric]:
    """AUROC, sensitivity and specificity of each finding and side, and how often the side is right.

    The rows of `all`, and those of subsets, are means over findings, in which each finding counts equally.

    Args:
        outputs: what the classifier answers.
        thresholds: of each output.
        synthetic: synthetic images.
        real: held-out real images.
        control: images made without a model for the conditions of synthetic ones.
    """
    wholes = [column for column, output in enumerate(outputs) if output.side is None]
    sided = _sided(outputs)
    metrics = []
    for name, columns in [(EVERYTHING, wholes), *((output.name, [k]) for k, output in enumerate(outputs))]:
        metrics += _of_columns(name, columns, thresholds, synthetic, real, control)
    for name, pairs in [(EVERYTHING, list(sided.values())), *((name, [pair]) for name, pair in sided.items())]:
        metrics += _of_sides(name, pairs, synthetic, real, control)
    for name, rows in synthetic.parts.items():
        own, theirs = synthetic.rows(rows), real.rows(real.parts.get(name, np.zeros(len(real.truth), bool)))
        columns = [column for column in wholes if own.has_enough(column) and theirs.has_enough(column)]
        metrics += [m for m in _of_columns(name, columns, thresholds, own, theirs, None) if m.name == AUROC]
        metrics += _of_sides(name, list(sided.values()), own, theirs, None)
    order = list(SECTION.metrics)
    return sorted(metrics, key=lambda metric: order.index(metric.name))


def _sided(outputs: Sequence[Output]) -> dict[str, tuple[int, int]]:
    """The findings that the classifier answers on either side, with the columns of left and right."""
    places = {(output.finding, output.side): column for column, output in enumerate(outputs)}
    findings = dict.fromkeys(output.finding for output in outputs)
    return {
        name: (places[name, SIDES[0]], places[name, SIDES[1]])
        for name in findings
        if all((name, side) in places for side in SIDES)
    }


def _of_columns(
    name: str,
    columns: Sequence[int],
    thresholds: Sequence[float],
    synthetic: Scored,
    real: Scored,
    control: Scored | None,
) -> list[Metric]:
    """The three metrics of one output, or their means over several."""
    if not columns:
        return []
    if control is not None and not all(control.has_enough(column) for column in columns):
        control = None
    sets = (synthetic, real, *([control] if control is not None else []))
    areas = [_area(known, columns) for known in sets]
    blind = UNSEEN if areas[1].low <= CHANCE else ""
    sensitive, specific = ([_rate(known, columns, thresholds, state) for known in sets] for state in (1, 0))
    present, absent = (int((synthetic.truth[:, columns] == state).sum()) for state in (1, 0))
    counts = f"{present} asked for it and {absent} did not"
    note = f"Mean over {len(columns)} findings." if len(columns) > 1 else f"Of synthetic images {counts}."
    return [
        _metric(what, name, found, synthetic, blind, note)
        for what, found in ((AUROC, areas), (SENSITIVITY, sensitive), (SPECIFICITY, specific))
    ]


def _metric(what: str, subset: str, found: Sequence[Interval], synthetic: Scored, blind: str, note: str) -> Metric:
    """A metric of the intervals of synthetic images, held-out real ones, and those made without a model if there are
    such.
    """
    return Metric.of(
        found[0],
        name=what,
        subset=subset,
        counted=synthetic.counted,
        reference=Reference.of(found[1], HELD_OUT),
        better=HIGHER,
        note=" ".join(filter(None, (note, synthetic.note))),
        control=found[2].value if len(found) > 2 else None,
        blind=blind,
    )


def _area(known: Scored, columns: Sequence[int]) -> Interval:
    """The mean area under the ROC curve of some outputs."""
    return auroc_interval(known.truth[:, columns], known.scores[:, columns], known.units)


def _rate(known: Scored, columns: Sequence[int], thresholds: Sequence[float], state: int) -> Interval:
    """The fraction of images with (1) or without (0) a finding that are on the right side of the threshold; a mean over
    outputs.
    """
    hits, units, weights = [], [], []
    for column in columns:
        own = known.truth[:, column] == state
        hits.append((known.scores[own, column] > thresholds[column]) == bool(state))
        units.append(known.units[own])
        weights.append(np.full(own.sum(), 1 / own.sum()))
    return proportion(np.concatenate(hits), np.concatenate(units), np.concatenate(weights))


def _of_sides(
    name: str,
    pairs: Sequence[tuple[int, int]],
    synthetic: Scored,
    real: Scored,
    control: Scored | None,
) -> list[Metric]:
    """How often the side of a finding is right, or the mean over findings; none without enough images of each side."""
    pairs = [pair for pair in pairs if all(_has_sides(known, pair) for known in (synthetic, real))]
    if not pairs:
        return []
    if control is not None and not all(_has_sides(control, pair) for pair in pairs):
        control = None
    sets = (synthetic, real, *([control] if control is not None else []))
    found = [_right_sides(known, pairs) for known in sets]
    blind = UNSEEN.replace("see it", "see the side") if found[1].low <= CHANCE else ""
    left, right = (int(sum(_on_side(synthetic, pair, side).sum() for pair in pairs)) for side in (0, 1))
    return [_metric(SIDE, name, found, synthetic, blind, f"{left} left and {right} right; both count equally.")]


def _on_side(known: Scored, pair: tuple[int, int], side: int) -> NDArray[np.bool_]:
    """Images with a finding on one side (0 left, 1 right) and not on the other."""
    return np.asarray((known.truth[:, pair[side]] == 1) & (known.truth[:, pair[1 - side]] == 0))


def _has_sides(known: Scored, pair: tuple[int, int]) -> bool:
    return all(len(set(known.units[_on_side(known, pair, side)])) >= MEASURED for side in (0, 1))


def _right_sides(known: Scored, pairs: Sequence[tuple[int, int]]) -> Interval:
    """The fraction of one-sided findings whose own side has the larger score; findings and sides count equally."""
    hits, units, weights = [], [], []
    for pair in pairs:
        for side in (0, 1):
            own = _on_side(known, pair, side)
            more = known.scores[own, pair[side]] - known.scores[own, pair[1 - side]]
            hits.append(np.where(more == 0, CHANCE, more > 0))
            units.append(known.units[own])
            weights.append(np.full(own.sum(), 1 / own.sum()))
    return proportion(np.concatenate(hits), np.concatenate(units), np.concatenate(weights))


def plots(metrics: Sequence[Metric]) -> Plots:
    """One plot of the findings, and one of their sides."""
    subsets = dict.fromkeys(metric.subset for metric in metrics if metric.name == SENSITIVITY)
    found = []
    for title, names, shown in (("findings", (AUROC, SENSITIVITY, SPECIFICITY), subsets), ("sides", (SIDE,), None)):
        panels = [
            Panel(
                name,
                [(m.subset, m) for m in metrics if m.name == name and (shown is None or m.subset in shown)],
                FRACTION,
            )
            for name in names
        ]
        if panels[0].rows:
            found.append((title, panels))
    return found


SECTION = Section(
    heading="Findings and sides",
    question="Do images show the findings, and the sides, that their texts name?",
    metrics={
        AUROC: "how well a classifier of real images separates images whose texts state a finding from the others",
        SENSITIVITY: "fraction of images whose texts state the finding in which the classifier sees it, by a threshold"
        " chosen on other patients",
        SPECIFICITY: "fraction of the other images in which it does not see it",
        SIDE: "fraction of findings on one side whose own side the classifier finds more likely; 0.5 is chance",
    },
    measure=measure,
    plots=plots,
    lacking=lacking,
    requires=f"texts of real and synthetic images; real images outside the reference; a finding that {TRAINED} patients"
    f" to train on have and {TRAINED} lack, and {MEASURED} and {MEASURED} held-out and synthetic ones; for its side,"
    f" {MEASURED} on each",
)
