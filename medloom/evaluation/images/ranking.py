"""Several generators in one table: each metric with its interval, and its difference from the best generator.

All generators are compared with the same real patients in the same draws. Where two were asked for the same conditions,
the images of a condition are left out together, so that what both share does not widen the interval. Other sets are
compared as wholes: what one of them lacks would be missing among their pairs.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.evaluation.images.alignment import RECOGNITION, predict
from medloom.evaluation.images.fidelity import EXCESS
from medloom.evaluation.images.section import Inputs
from medloom.evaluation.images.sets import ImageSet
from medloom.evaluation.report.metrics import EVERYTHING, Metric, sampled_units
from medloom.evaluation.report.questions import Answer
from medloom.evaluation.report.report import page
from medloom.metrics.frechet import frechet_distance
from medloom.metrics.neighbours import prdc
from medloom.metrics.set_comparison import compare_sets
from medloom.metrics.uncertainty import Interval, bootstrap_mean, difference, holm, p_value

# Metrics on features that are ranked, each with whether more of it is better.
RANKED: Mapping[str, bool] = {EXCESS: False, "coverage": True, "recall": True}
SIGNIFICANT = 0.05
LEAST = 20
# Least fraction of both sets that belongs together in pairs.
PAIRED = 0.9

Column = tuple[str, str]


@dataclass(frozen=True, eq=False)
class Contender:
    """An evaluated generator.

    Attributes:
        name: of the generator in the table.
        metrics: of its report.
        answers: at the top of it.
        inputs: what they were measured from.
    """

    name: str
    metrics: Sequence[Metric]
    answers: Sequence[Answer]
    inputs: Inputs

    def metric(self, column: Column) -> Metric | None:
        """The metric of all images in a column (name, extractor); None if it was not measured."""
        found = (m for m in self.metrics if (m.name, m.extractor, m.subset) == (*column, EVERYTHING))
        return next(found, None)


@dataclass(frozen=True)
class Place:
    """A generator's place in the ranking.

    Attributes:
        name: of the generator.
        rank: from 1.
        score: mean excess Frechet distance over the extractors; None if none was measured.
        values: the metric of each column.
        behind: of each column, the difference from the best generator; empty for the best one.
        p: of each column, Holm's p value of that difference over all generators.
        answers: at the top of its report.
    """

    name: str
    rank: int
    score: float | None
    values: Mapping[Column, Metric]
    behind: Mapping[Column, Interval]
    p: Mapping[Column, float]
    answers: Sequence[Answer]

    @property
    def is_behind(self) -> bool:
        """Whether the generator is worse than the best one in a column, after Holm's correction."""
        return any(
            p < SIGNIFICANT and (self.behind[column].value < 0) == RANKED.get(column[0], True)
            for column, p in self.p.items()
        )

    @property
    def standing(self) -> str:
        """The generator compared with the best one, in words."""
        if self.rank == 1:
            return "the best"
        return "worse than the best" if self.is_behind else "not distinguished from the best"

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        columns = [
            {
                "metric": name,
                "extractor": extractor,
                "value": metric.value,
                "low": metric.low,
                "high": metric.high,
                "behind": None if (name, extractor) not in self.behind else vars(self.behind[name, extractor]),
                "p_holm": self.p.get((name, extractor)),
            }
            for (name, extractor), metric in self.values.items()
        ]
        return {"name": self.name, "rank": self.rank, "score": self.score, "columns": columns}


def ranked(contenders: Sequence[Contender]) -> list[Place]:
    """The generators, the best first: that of the least mean excess Frechet distance over all extractors.

    Args:
        contenders: evaluated on the same real images by the same extractors.
    """
    extractors = contenders[0].inputs.extractors
    scores: list[float | None] = []
    for own in contenders:
        known = [metric.value for name in extractors if (metric := own.metric((EXCESS, name))) is not None]
        scores.append(float(np.mean(known)) if known else None)
    order = sorted(range(len(contenders)), key=lambda place: (scores[place] is None, scores[place] or 0.0))
    best = contenders[order[0]]
    columns: list[Column] = [(name, extractor) for extractor in extractors for name in RANKED]
    columns.append((RECOGNITION, ""))
    behind = {own.name: _behind(own, best, columns) for own in contenders if own is not best}
    corrected: dict[str, dict[Column, float]] = {name: {} for name in behind}
    for column in columns:
        measured = [name for name, own in behind.items() if column in own]
        for name, p in zip(measured, holm([p_value(behind[name][column]) for name in measured]), strict=True):
            corrected[name][column] = p
    return [
        Place(
            contenders[place].name,
            rank,
            scores[place],
            {column: metric for column in columns if (metric := contenders[place].metric(column)) is not None},
            behind.get(contenders[place].name, {}),
            corrected.get(contenders[place].name, {}),
            contenders[place].answers,
        )
        for rank, place in enumerate(order, 1)
    ]


def ranking_page(places: Sequence[Place]) -> str:
    """The table as HTML."""
    columns = list(dict.fromkeys(column for place in places for column in place.values))
    questions = [answer.question for answer in places[0].answers]
    return page("ranking.html", places=places, columns=columns, questions=questions)


def _behind(own: Contender, best: Contender, columns: Sequence[Column]) -> dict[Column, Interval]:
    """The difference from the best generator, in pairs if the two sets consist of pairs."""
    if paired_rows(own.inputs.data.synthetic, best.inputs.data.synthetic) is not None:
        return differences(own.inputs, best.inputs)
    found = {}
    for column in columns:
        ours, theirs = (_whole(each.metric(column)) for each in (own, best))
        if ours is not None and theirs is not None:
            found[column] = difference(ours, theirs)
    return found


def _whole(metric: Metric | None) -> Interval | None:
    """What is compared between sets of different sizes: metrics on features depend on n, their excess does not."""
    if metric is None or metric.low is None or metric.high is None:
        return None
    return metric.difference if metric.name in RANKED else Interval(metric.value, metric.low, metric.high, metric.n)


def differences(first: Inputs, second: Inputs) -> dict[Column, Interval]:
    """The metrics of one generator less those of another, paired, with 95 % intervals.

    Args:
        first: of the one.
        second: of the other, with the same real images.

    Returns:
        By column; nothing for sets that are too small, or do not consist of pairs.
    """
    real, seed = first.data.real, first.seed
    rows = paired_rows(first.data.synthetic, second.data.synthetic)
    if rows is None or min(len(rows[0]), len(real)) < LEAST:
        return {}
    units = sampled_units(np.asarray(first.data.synthetic.units)[rows[0]])
    found: dict[Column, Interval] = {}
    for extractor in first.extractors:
        theirs = first.features(extractor, real)
        sides = [
            each.features(extractor, each.data.synthetic).values[own]
            for each, own in zip((first, second), rows, strict=True)
        ]
        width, variance = theirs.values.shape[1], float(theirs.values.var(axis=0, ddof=1, dtype=np.float64).sum())

        def statistics(
            x: NDArray[np.floating], y: NDArray[np.floating], width: int = width, variance: float = variance
        ) -> list[float]:
            # The second of two real sides has one width only: its statistics are not used.
            one, other = (y[:, :width], y[:, width:]) if y.shape[1] > width else (y, y)
            near, far = prdc(x, one), prdc(x, other)
            distance = (frechet_distance(x, one) - frechet_distance(x, other)) / variance
            return [distance, near.coverage - far.coverage, near.recall - far.recall]

        compared = compare_sets(statistics, theirs.values, np.hstack(sides), theirs.units, units, seed, equal_sets=0)
        found |= {(name, extractor): each.value for name, each in zip(RANKED, compared, strict=True)}
    recognised = [_hits(each) for each in (first, second)]
    if all(own is not None for own in recognised):
        hits = [np.asarray(own)[chosen] for own, chosen in zip(recognised, rows, strict=True)]
        known = np.isfinite(hits[0]) & np.isfinite(hits[1])
        if len(set(np.asarray(units)[known].tolist())) >= LEAST:
            found[RECOGNITION, ""] = bootstrap_mean((hits[0] - hits[1])[known], np.asarray(units)[known], seed)
    return found


def paired_rows(first: ImageSet, second: ImageSet) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
    """Rows of two sets that belong together: the n-th image of the same condition, or all rows as they come.

    Returns:
        None for sets of which a part has no counterpart.
    """
    places = [_numbered(members.units) for members in (first, second)]
    common = [key for key in places[0] if key in places[1]]
    if len(common) >= PAIRED * max(len(first), len(second)):
        one, other = ([own[key] for key in common] for own in places)
        return np.array(one, np.intp), np.array(other, np.intp)
    if len(first) == len(second):
        return np.arange(len(first)), np.arange(len(first))
    return None


def _numbered(units: Sequence[str]) -> dict[tuple[str, int], int]:
    """The row of the n-th image of each unit."""
    seen: Counter[str] = Counter()
    found = {}
    for row, unit in enumerate(units):
        found[unit, seen[unit]] = row
        seen[unit] += 1
    return found


def _hits(inputs: Inputs) -> NDArray[np.float64] | None:
    """Whether each synthetic image is recognised, nan for one without a class; None without a classifier."""
    if inputs.classifier is None:
        return None
    synthetic = inputs.data.synthetic
    named = [row for row, label in enumerate(synthetic.labels) if label is not None]
    found = np.full(len(synthetic), np.nan)
    members = synthetic.labelled()
    found[named] = predict(inputs.classifier, inputs.cache.images(members), members).hits
    return found
