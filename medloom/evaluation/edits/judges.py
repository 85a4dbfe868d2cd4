"""Do edits show what they should? Judged by classifiers that are trained on other patients' real images.

For each column a classifier is trained; a note states its own accuracy on held-out patients. A column of classes gives
the AUROC of each class on the edits, against the class of the later image. A column of numbers is predicted in fifths,
and gives the correlation of the expected number with the true one. Edits are compared with copies of the prior image,
and with the later images themselves, which no edit can be expected to exceed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from medloom.core.cells import Cell
from medloom.core.errors import UserError
from medloom.core.types import Sample
from medloom.evaluation.edits.measure import COPY
from medloom.evaluation.images.cache import EvaluationCache, train_on_real
from medloom.evaluation.images.sets import ImageSet
from medloom.evaluation.report.estimates import estimate, estimate_auroc, estimate_proportion
from medloom.evaluation.report.metrics import HIGHER, LOWER, Estimate, Metric, Reference

AUROC, CORRELATION = "AUROC of the later image's class", "correlation with the later image's number"
FLIPPED, SHIFT, COMPOSITE = "changed class recognised", "divergence of predicted classes", "CMIG"
MEANINGS: Mapping[str, str] = {
    AUROC: "how well a classifier of real images finds the later image's class in edits; 0.5 is chance",
    CORRELATION: "the number that a classifier of real images expects, against the later image's",
    FLIPPED: "of pairs whose class changed, the fraction of edits that are assigned to the later class",
    SHIFT: "Kullback-Leibler divergence of the edits' mean predicted classes from the later images'",
}
KINDS = EDITED, COPIED, LATER = "edited", COPY, "the later image itself"
FIFTHS = 5
LEAST = 2  # patients on each side of a class that counts
# Columns by their role in the composite of BiomedJourney.
DEMOGRAPHIC, AGE = ("race", "sex"), ("age",)
VIEW = "view"

Pairs = Sequence[tuple[Sample, Sample]]
Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Judged:
    """What the edits of one column should show, and what a classifier predicts.

    Attributes:
        column: name.
        classes: of the classifier.
        numbers: mean number of each class; None for a column of classes.
        patients: of each edit.
        later: cell of the later image.
        prior: cell of the prior image.
        probabilities: kind of KINDS to `(N, classes)`.
        recall: mean recall of the classifier on held-out patients.
        left_out: classes with too few patients to train on.
    """

    column: str
    classes: Sequence[str]
    numbers: Sequence[float] | None
    patients: NDArray[np.str_]
    later: Sequence[Cell]
    prior: Sequence[Cell]
    probabilities: Mapping[str, NDArray[np.floating]]
    recall: float | None
    left_out: tuple[str, ...] = ()


def judge_edits(cache: EvaluationCache, train: Sequence[Sample], edits: Pairs, column: str) -> Judged:
    """Train a classifier of a column, and predict edits, prior and later images.

    Args:
        cache: decodes images, trains classifiers.
        train: real images of other patients.
        edits: pairs of an edit, whose path is that of its image, and the triple that it was made from.
        column: clinical column of both tables.

    Raises:
        UserError: a missing column, a single class, or no edit of a class that is known.
    """
    for name, samples in (("--train", train), ("--reference", [triple for _, triple in edits])):
        if not any(_cell(sample, column) is not None for sample in samples):
            raise UserError(f"--judge {column}: no row of {name} has such a cell; name a column of both tables.")
    known = [(sample, cell) for sample in train if (cell := _cell(sample, column)) is not None]
    cells = [cell for _, cell in known]
    # A column of numbers is cut into fifths, by their inner edges; a column of classes is not.
    numeric = [cell for cell in cells if isinstance(cell, float)]
    edges: tuple[float, ...] = ()
    if len(numeric) == len(cells) and len(set(numeric)) > FIFTHS:
        edges = tuple(np.unique(np.quantile(numeric, np.linspace(0, 1, FIFTHS + 1)[1:-1])).tolist())
    labels = [_label(cell, edges) for cell in cells]
    members = ImageSet.of_patients([sample for sample, _ in known], f"judge of {column}", labels)
    # A classifier is trained on some patients of a class and selected on others.
    rare = members.rare_classes(LEAST)
    classifier = cache.classifier(members.without_classes(rare).labelled(), train_on_real)
    rows = [pair for pair in edits if _label(_cell(pair[1], column), edges) in classifier.classes]
    if not rows:
        raise UserError(
            f"--judge {column}: no edit is of a class that --train has {LEAST} patients of; they are"
            f" {', '.join(classifier.classes)}."
        )
    numbers = None
    if edges:
        values = np.array([float(cell) for cell in cells])
        between = pairwise([-np.inf, *edges, np.inf])
        means = [float(values[(values >= low) & (values < high)].mean()) for low, high in between]
        numbers = [means[int(name.split()[1])] for name in classifier.classes]
    return Judged(
        column,
        classifier.classes,
        numbers,
        np.array([triple.patient for _, triple in rows]),
        [_cell(triple, column) for _, triple in rows],
        # `data journeys` writes a column of the prior image if it differs in any pair.
        [triple.condition.table.get(f"prior_{column}", _cell(triple, column)) for _, triple in rows],
        {kind: classifier.predict(cache.images(own)) for kind, own in sets_of(rows).items()},
        classifier.validation.get("recall"),
        tuple(sorted(rare)),
    )


def refuse_known(train: Sequence[Sample], edits: Pairs) -> None:
    """Refuse judges that were trained on the patients whom they judge.

    Raises:
        UserError: says how many they are.
    """
    if shared := {triple.patient for _, triple in edits} & {sample.patient for sample in train}:
        raise UserError(f"{len(shared)} patients of the edits are in --train; train judges on other patients.")


def _label(cell: Cell, edges: Sequence[float] = ()) -> str:
    """The class of a cell: its fifth, or itself; empty for an empty cell."""
    if cell is None:
        return ""
    if edges and isinstance(cell, float):
        return f"fifth {int(np.searchsorted(edges, cell, side='right'))}"
    return f"{cell:g}" if isinstance(cell, float) else str(cell)


def _cell(sample: Sample, column: str) -> Cell:
    """A cell of the table; the view has its own place in a condition."""
    return sample.condition.view if column == VIEW else sample.condition.table.get(column)


def sets_of(rows: Pairs) -> dict[str, ImageSet]:
    """Kind of KINDS to the images: edits, prior and later ones.

    Args:
        rows: pairs of an edit, whose path is that of its image, and the triple that it was made from.
    """
    priors = [replace(triple, path=triple.condition.prior_file or triple.path) for _, triple in rows]
    sets = ([edit for edit, _ in rows], priors, [triple for _, triple in rows])
    return {kind: ImageSet.of_patients(samples, kind) for kind, samples in zip(KINDS, sets, strict=True)}


def judged_metrics(judged: Judged, seed: int) -> tuple[list[Metric], list[str]]:
    """Metrics of one column, with intervals over patients; and notes.

    Args:
        judged: see `judge_edits`.
        seed: of the resamples.
    """
    recall = "none were held out" if judged.recall is None else f"{judged.recall:.2f}"
    notes = [f"judge of {judged.column}: mean recall on held-out real patients {recall}."]
    if judged.left_out:
        notes.append(
            f"judge of {judged.column}: {', '.join(judged.left_out)} left out, of which --train has one patient."
        )
    patients, probabilities = judged.patients, judged.probabilities

    def metric(name: str, of: Callable[[str], Estimate], better: str, note: str = "") -> Metric:
        reference = Reference.of(of(COPIED), COPIED)
        return Metric.of(of(EDITED), name=name, subset=judged.column, reference=reference, better=better, note=note)

    if judged.numbers is not None:
        later = np.array([float(cell) for cell in judged.later if isinstance(cell, float)])
        means = np.array(judged.numbers)

        def correlation(kind: str) -> Estimate:
            expected = probabilities[kind] @ means

            def of_rows(rows: Rows) -> float:
                one, other = later[rows], expected[rows]
                # Numbers that do not vary in a resample say nothing of each other.
                return float(np.corrcoef(one, other)[0, 1]) if one.std() > 0 and other.std() > 0 else 0.0

            return estimate(of_rows, patients.tolist(), seed)

        note = f"the later images themselves: {correlation(LATER).value:.2f}"
        return [metric(CORRELATION, correlation, HIGHER, note)], notes

    names = np.array([_label(cell) for cell in judged.later])
    places = {
        name: place
        for place, name in enumerate(judged.classes)
        if min(len(set(patients[names == name])), len(set(patients[names != name]))) >= LEAST
    }
    if not places:
        return [], [*notes, f"judge of {judged.column}: no class has {LEAST} patients on each side."]

    def macro_auroc(kind: str) -> Estimate:
        truth = names[:, None] == np.array(list(places))
        return estimate_auroc(truth, probabilities[kind][:, list(places.values())], patients)

    def divergence(kind: str) -> Estimate:
        def of_rows(rows: Rows) -> float:
            later, other = (probabilities[name][rows].mean(axis=0) + 1e-9 for name in (LATER, kind))
            return float((later * np.log(later / other)).sum())

        return estimate(of_rows, patients.tolist(), seed)

    note = f"mean over {', '.join(places)}; the later images themselves: {macro_auroc(LATER).value:.2f}"
    metrics = [metric(AUROC, macro_auroc, HIGHER, note), metric(SHIFT, divergence, LOWER)]
    changed = np.array([_label(cell) for cell in judged.prior]) != names

    def recognised(kind: str) -> Estimate:
        predicted = np.asarray(judged.classes)[probabilities[kind].argmax(axis=1)]
        return estimate_proportion((predicted == names)[changed], patients[changed].tolist())

    if len(set(patients[changed])) >= LEAST:
        metrics.append(metric(FLIPPED, recognised, HIGHER))
    return metrics, notes


def composite(metrics: Sequence[Metric]) -> list[str]:
    """CMIG = sqrt(AUC of pathology sqrt(AUC of race r of age)) as a note, if its components were measured.

    BiomedJourney (arXiv 2310.10765) states the formula. It does not give that paper's values from the paper's own
    components, and is not defined for a correlation below 0: the components come first.
    """
    by_column = {metric.subset: metric for metric in metrics if metric.name in (AUROC, CORRELATION)}
    person = next((by_column[name] for name in DEMOGRAPHIC if name in by_column), None)
    age = next((by_column[name] for name in AGE if name in by_column), None)
    pathology = [m for m in by_column.values() if m.name == AUROC and m.subset not in (*DEMOGRAPHIC, *AGE)]
    if person is None or age is None or not pathology:
        return []
    if age.value < 0:
        return [f"{COMPOSITE} is not defined: the correlation with age is {age.value:.2f}."]
    value = float(np.sqrt(pathology[0].value * np.sqrt(person.value * age.value)))
    parts = ", ".join(f"{metric.subset} {metric.value:.3f}" for metric in (pathology[0], person, age))
    return [f"{COMPOSITE} = {value:.3f}, of its components {parts}; read the components first."]
