"""Whether edits show what they should, as classifiers that are trained on other patients' real images see it.

For each column a classifier is trained; its own accuracy on held-out patients stands beside. A column of classes gives
the AUROC of each class on the edits, against the class of the later image; a column of numbers is told in fifths, and
gives the correlation of the expected number with the true one. Copies of the earlier image stand beside, and the later
images themselves, which no edit can be expected to pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.core.types import Sample
from medloom.downstream.classifier import Classifier
from medloom.evaluation.edits.measure import SECTION
from medloom.evaluation.images.alignment import train_on_real
from medloom.evaluation.images.classifiers import Workshop
from medloom.evaluation.images.sets import ImageSet
from medloom.evaluation.report.metrics import HIGHER, LOWER, Figure, Reference, rate
from medloom.metrics.classification import auroc
from medloom.metrics.uncertainty import Interval, bootstrap_interval

AUROC, CORRELATION = "AUROC of the later image's class", "correlation with the later image's number"
FLIPPED, SHIFT, COMPOSITE = "changed class recognised", "divergence of predicted classes", "CMIG"
KINDS = ("edited", "a copy of the earlier image", "the later image itself")
FIFTHS = 5
RESAMPLES = 200  # an AUROC takes a millisecond or two, and there is one for each class and kind
CHANCE = 0.5
LEAST = 2  # patients on each side of a class that counts
# Columns by what they are in the composite of BiomedJourney.
DEMOGRAPHIC, AGE = ("race", "sex"), ("age",)
VIEW = "view"


@dataclass(frozen=True)
class Judged:
    """What the edits of one column are to show, and what a classifier says.

    Attributes:
        column: name.
        classes: of the classifier.
        numbers: mean number of each class, of a column of numbers, else None.
        patients: of each edit.
        later: cell of the later image.
        earlier: cell of the earlier image.
        probabilities: kind of KINDS to `(N, classes)`.
        recall: mean recall of the classifier on held-out patients.
        left_out: classes of which there are too few patients to train on.
    """

    column: str
    classes: Sequence[str]
    numbers: Sequence[float] | None
    patients: NDArray[Any]
    later: NDArray[Any]
    earlier: NDArray[Any]
    probabilities: Mapping[str, NDArray[Any]]
    recall: float | None
    left_out: tuple[str, ...] = ()


def judge_edits(shop: Workshop, train: Sequence[Sample], edits: Sequence[tuple[Sample, Sample]], column: str) -> Judged:
    """Train a classifier of a column, and have it look at edits, earlier and later images.

    Args:
        shop: where images and classifiers are made.
        train: real images of other patients.
        edits: pairs of an edit, whose path is that of its image, and the triple that it was made of.
        column: clinical column that both tables have.

    Raises:
        UserError: a column that is lacking, or one class only.
    """
    for name, samples in (("--train", train), ("--reference", [triple for _, triple in edits])):
        if not any(_cell(sample, column) is not None for sample in samples):
            raise UserError(f"--judge {column}: no row of {name} has such a cell; name a column of both tables.")
    cells = [_cell(sample, column) for sample in train]
    binned = _Fifths.of(cells)
    told = [row for row, cell in enumerate(cells) if cell is not None]
    labels = [binned.label(cells[row]) for row in told]
    everyone = whole_set([train[row] for row in told], f"judge of {column}", labels)
    # A classifier is trained on some patients of a class and selected on others.
    rare = everyone.rare_classes(LEAST)
    classifier = shop.classifier(everyone.without_classes(rare).labelled(), train_on_real)
    rows = [pair for pair in edits if binned.label(_cell(pair[1], column)) in classifier.classes]
    if not rows:
        raise UserError(
            f"--judge {column}: no edit is of a class that --train has {LEAST} patients of; they are"
            f" {', '.join(classifier.classes)}."
        )
    return Judged(
        column,
        classifier.classes,
        binned.means(classifier.classes),
        np.array([triple.patient for _, triple in rows]),
        np.array([_cell(triple, column) for _, triple in rows], dtype=object),
        np.array([_earlier(triple, column) for _, triple in rows], dtype=object),
        _seen(shop, classifier, rows),
        classifier.validation.get("recall"),
        tuple(sorted(rare)),
    )


def refuse_known(train: Sequence[Sample], edits: Sequence[tuple[Sample, Sample]]) -> None:
    """Refuse judges that were trained on the patients whom they judge.

    Raises:
        UserError: says how many they are.
    """
    known = {sample.patient for sample in train}
    if shared := {triple.patient for _, triple in edits} & known:
        raise UserError(f"{len(shared)} patients of --edits are in --train; judges are trained on other patients.")


@dataclass(frozen=True)
class _Fifths:
    """Numbers as fifths; classes as they are."""

    edges: tuple[float, ...] = ()
    numbers: tuple[float, ...] = ()

    @classmethod
    def of(cls, cells: Sequence[float | str | None]) -> "_Fifths":
        known = [cell for cell in cells if cell is not None]
        numbers = [float(cell) for cell in known if isinstance(cell, float)]
        if len(numbers) < len(known) or len(set(numbers)) <= FIFTHS:
            return cls()
        inner = np.quantile(numbers, np.linspace(0, 1, FIFTHS + 1)[1:-1])
        return cls(tuple(np.unique(inner).tolist()), tuple(numbers))

    def label(self, cell: float | str | None) -> str:
        if cell is None:
            return ""
        if self.edges and isinstance(cell, float):
            return f"fifth {int(np.searchsorted(self.edges, cell, side='right'))}"
        return f"{cell:g}" if isinstance(cell, float) else str(cell)

    def means(self, classes: Sequence[str]) -> list[float] | None:
        if not self.edges:
            return None
        ends = [-np.inf, *self.edges, np.inf]
        numbers = np.array(self.numbers)
        means = {
            f"fifth {place}": float(numbers[(numbers >= low) & (numbers < high)].mean())
            for place, (low, high) in enumerate(pairwise(ends))
        }
        return [means[name] for name in classes]


def _earlier(triple: Sample, column: str) -> float | str | None:
    """The cell at the earlier image; `data journeys` writes it where it differs in any pair."""
    return triple.condition.table.get(f"prior_{column}", _cell(triple, column))


def _cell(sample: Sample, column: str) -> float | str | None:
    """A cell of the table; the view has its own place in a condition."""
    return sample.condition.view if column == VIEW else sample.condition.table.get(column)


def whole_set(samples: Sequence[Sample], name: str, labels: Sequence[str | None] | None = None) -> ImageSet:
    """Images of patients, with the classes given, or none."""
    classes = (None,) * len(samples) if labels is None else tuple(labels)
    return ImageSet(name, samples, tuple(sample.patient for sample in samples), "patients", classes)


def sets_of(rows: Sequence[tuple[Sample, Sample]]) -> dict[str, ImageSet]:
    """Kind of KINDS to the images: edits, earlier and later ones.

    Args:
        rows: pairs of an edit, whose path is that of its image, and the triple that it was made of.
    """
    priors = [replace(triple, path=triple.condition.prior or triple.path) for _, triple in rows]
    sets = ([edit for edit, _ in rows], priors, [triple for _, triple in rows])
    return {kind: whole_set(samples, kind) for kind, samples in zip(KINDS, sets, strict=True)}


def _seen(shop: Workshop, classifier: Classifier, rows: Sequence[tuple[Sample, Sample]]) -> dict[str, NDArray[Any]]:
    """Class probabilities of edits, earlier and later images."""
    return {kind: classifier.predict(shop.images(members)) for kind, members in sets_of(rows).items()}


def judged_figures(judged: Judged, seed: int) -> tuple[list[Figure], list[str]]:
    """Figures of one column, with intervals over patients; and notes.

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
    if judged.numbers is not None:
        return [_correlation(judged, seed)], notes
    names = np.array([_Fifths().label(cell) for cell in judged.later])
    classes = [name for name in judged.classes if _sides(names == name, judged.patients)]
    if not classes:
        return [], [*notes, f"judge of {judged.column}: no class has {LEAST} patients on each side."]
    figures = [_auroc(judged, names, classes, seed), _divergence(judged, seed)]
    return figures + _flipped(judged, names, seed), notes


def _sides(of_class: NDArray[np.bool_], patients: NDArray[Any]) -> bool:
    return min(len(set(patients[of_class])), len(set(patients[~of_class]))) >= LEAST


def _auroc(judged: Judged, names: NDArray[Any], classes: Sequence[str], seed: int) -> Figure:
    """Mean over classes of the AUROC of each against the others."""

    def of(kind: str) -> Interval:
        scores = judged.probabilities[kind]

        def macro(rows: NDArray[np.intp]) -> float:
            found = [
                auroc((names[rows] == name).astype(int), scores[rows, list(judged.classes).index(name)])
                for name in classes
                if 0 < (names[rows] == name).sum() < len(rows)
            ]
            # A resample of few patients may hold one class only, of which nothing is told.
            return float(np.mean(found)) if found else CHANCE

        return bootstrap_interval(macro, judged.patients.tolist(), seed, RESAMPLES)

    ceiling = of(KINDS[2])
    note = f"mean over {', '.join(classes)}; the later images themselves: {ceiling.value:.2f}"
    return _figure(AUROC, judged.column, of(KINDS[0]), Reference.of(of(KINDS[1]), KINDS[1]), HIGHER, note)


def _divergence(judged: Judged, seed: int) -> Figure:
    """Kullback-Leibler divergence of the mean predicted classes of edits from those of the later images."""

    def of(kind: str) -> Interval:
        def divergence(rows: NDArray[np.intp]) -> float:
            later, other = (judged.probabilities[name][rows].mean(axis=0) + 1e-9 for name in (KINDS[2], kind))
            return float((later * np.log(later / other)).sum())

        return bootstrap_interval(divergence, judged.patients.tolist(), seed)

    return _figure(SHIFT, judged.column, of(KINDS[0]), Reference.of(of(KINDS[1]), KINDS[1]), LOWER, "")


def _flipped(judged: Judged, names: NDArray[Any], seed: int) -> list[Figure]:
    """Of pairs whose class changed, the share of edits taken for the later class."""
    before = np.array([_Fifths().label(cell) for cell in judged.earlier])
    changed = before != names
    if len(set(judged.patients[changed])) < LEAST:
        return []

    def of(kind: str) -> Interval:
        predicted = np.asarray(judged.classes)[judged.probabilities[kind].argmax(axis=1)]
        return rate((predicted == names)[changed], judged.patients[changed].tolist(), seed)

    return [_figure(FLIPPED, judged.column, of(KINDS[0]), Reference.of(of(KINDS[1]), KINDS[1]), HIGHER, "")]


def _correlation(judged: Judged, seed: int) -> Figure:
    numbers = np.array([float(cell) for cell in judged.later])

    def of(kind: str) -> Interval:
        expected = judged.probabilities[kind] @ np.array(judged.numbers)

        def correlation(rows: NDArray[np.intp]) -> float:
            one, other = numbers[rows], expected[rows]
            return float(np.corrcoef(one, other)[0, 1]) if one.std() > 0 and other.std() > 0 else float("nan")

        return bootstrap_interval(correlation, judged.patients.tolist(), seed)

    note = f"the later images themselves: {of(KINDS[2]).value:.2f}"
    return _figure(CORRELATION, judged.column, of(KINDS[0]), Reference.of(of(KINDS[1]), KINDS[1]), HIGHER, note)


def _figure(metric: str, column: str, found: Interval, reference: Reference, better: str, note: str) -> Figure:
    told = {"section": SECTION, "metric": metric, "subset": column, "counted": "patients"}
    return Figure.of(found, reference=reference, better=better, note=note, **told)


def composite(figures: Sequence[Figure]) -> list[str]:
    """CMIG = sqrt(AUC of pathology sqrt(AUC of race r of age)) as a note, where its components are there.

    The formula is quoted by BiomedJourney (arXiv 2310.10765); it does not give that paper's values from its own
    components, and is not defined for a correlation below 0: the components come first.
    """
    by_column = {figure.subset: figure for figure in figures if figure.metric in (AUROC, CORRELATION)}
    person = next((by_column[name] for name in DEMOGRAPHIC if name in by_column), None)
    age = next((by_column[name] for name in AGE if name in by_column), None)
    pathology = [f for f in by_column.values() if f.metric == AUROC and f.subset not in (*DEMOGRAPHIC, *AGE)]
    if person is None or age is None or not pathology:
        return []
    if age.value < 0:
        return [f"{COMPOSITE} is not defined: the correlation with age is {age.value:.2f}."]
    value = float(np.sqrt(pathology[0].value * np.sqrt(person.value * age.value)))
    parts = ", ".join(f"{f.subset} {f.value:.3f}" for f in (pathology[0], person, age))
    return [f"{COMPOSITE} = {value:.3f} of its components {parts}; read the components first."]
