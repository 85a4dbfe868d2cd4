"""The analysis of a reader study: Obuchowski and Rockette's, a bootstrap, and equivalence, with one sentence."""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.evaluation.report.metrics import number
from medloom.feedback.measured import Measured, over_units
from medloom.feedback.reader_study.scores import Scores
from medloom.metrics import (
    auroc,
    auroc_interval,
    multi_reader_analysis,
    multi_reader_bootstrap,
    proportion_interval,
)
from medloom.metrics.multi_reader import Mean, MultiReader
from medloom.metrics.reader_merits import findings_of
from medloom.metrics.uncertainty import Interval, equivalent

Floats = NDArray[np.float64]
SIZE = 0.05
NAMES = {"auc": "AUC", "accuracy": "accuracy", "sensitivity": "sensitivity", "specificity": "specificity"}


@dataclass(frozen=True)
class Question:
    """How a study is analysed.

    Attributes:
        merit: auc, accuracy, sensitivity or specificity.
        threshold: from which a score is a finding; None for auc.
        reference: what one arm is compared with.
        margin: largest difference that does not matter; None without equivalence.
        fixed_readers: whether the result is to hold for these readers only.
        covariance: jackknife or delong.
        seed: of the bootstrap.
        resamples: of the bootstrap.
    """

    merit: str = "auc"
    threshold: float | None = None
    reference: float = 0.5
    margin: float | None = None
    fixed_readers: bool = False
    covariance: str = "jackknife"
    seed: int = 0
    resamples: int = 1000


@dataclass
class Analysis:
    """What was found.

    Attributes:
        scores: of the study.
        question: how it was analysed.
        found: the analysis of variance; None if scores are missing.
        readers: figure of merit of each reader, by arm.
        means: of the readers, by arm.
        bootstrap: the same by the bootstrap.
        differences: of each pair of arms, or of the arm and the reference; by the analysis, or by the bootstrap if
            scores are missing.
        bootstrap_differences: by the bootstrap.
        sentence: the result.
        notes: what a reader has to know.
    """

    scores: Scores
    question: Question
    found: MultiReader | None
    readers: dict[str, list[Measured]] = field(default_factory=dict)
    means: list[Measured] = field(default_factory=list)
    bootstrap: list[Measured] = field(default_factory=list)
    differences: list[Measured] = field(default_factory=list)
    bootstrap_differences: list[Measured] = field(default_factory=list)
    sentence: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def what(self) -> str:
        """The figure of merit, in words."""
        return NAMES[self.question.merit]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        asked, scores = self.question, self.scores
        values: dict[str, Any] = {
            "sentence": self.sentence,
            "merit": asked.merit,
            "score": scores.score,
            "arms": [arm for arm in scores.arms if arm],
            "readers": scores.readers,
            "cases": len(scores.cases),
            "positives": int(scores.truth.sum()),
            "fixed_readers": asked.fixed_readers,
            "margin": asked.margin,
            "seed": asked.seed,
            "notes": self.notes,
            "by_reader": {arm: [row.to_dict() for row in rows] for arm, rows in self.readers.items()},
        }
        for name in ("means", "bootstrap", "differences", "bootstrap_differences"):
            values[name] = [row.to_dict() for row in getattr(self, name)]
        if self.found is not None:
            known = self.found
            values["analysis"] = {
                "statistic": _finite(known.statistic),
                "freedom": [_finite(each) for each in known.freedom],
                "p": _finite(known.p),
                "components": {name: getattr(known.components, name) for name in known.components.__dataclass_fields__},
            }
        return values


def analyse(scores: Scores, question: Question) -> Analysis:
    """Analyse a study; where scores are missing by the bootstrap alone.

    Raises:
        UserError: see `multi_reader_analysis` and `multi_reader_bootstrap`.
    """
    options: dict[str, Any] = {
        "merit": question.merit,
        "threshold": question.threshold,
        "fixed_readers": question.fixed_readers,
    }
    lacking = scores.lacking
    found = None
    if not lacking:
        found = multi_reader_analysis(scores.truth, scores.values, covariance=question.covariance, **options)
    boot = multi_reader_bootstrap(scores.truth, scores.values, seed=question.seed, n=question.resamples, **options)
    analysis = Analysis(scores, question, found)
    if lacking:
        analysis.notes.append(
            f"{lacking}. The analysis of Obuchowski and Rockette needs every score of every case: the result is that of"
            " the bootstrap."
        )
    analysis.notes += scores.notes
    names = [arm or analysis.what for arm in scores.arms]
    for arm, name in enumerate(names):
        analysis.bootstrap.append(_measured(analysis, name, boot.means[arm]))
        if found is not None:
            analysis.means.append(_measured(analysis, name, found.means[arm].interval()))
        own = zip(scores.readers, scores.values[arm], strict=True)
        analysis.readers[name] = [_of_reader(scores.truth, values, question, person) for person, values in own]
    if len(names) == 1:
        _against_reference(analysis, found.means[0] if found is not None else None, boot.means[0])
    for (i, j), interval in boot.differences.items():
        label = f"{names[i]} less {names[j]}"
        analysis.bootstrap_differences.append(_judged(analysis, label, interval, None, 0.0))
    for comparison in found.comparisons if found is not None else ():
        i, j = comparison.arms
        analysis.differences.append(
            _judged(
                analysis, f"{names[i]} less {names[j]}", comparison.difference.interval(), comparison.difference, 0.0
            )
        )
    if found is None and len(names) > 1:
        analysis.differences = analysis.bootstrap_differences
    analysis.sentence = _sentence(analysis)
    return analysis


def _measured(analysis: Analysis, name: str, interval: Interval) -> Measured:
    return Measured.from_interval(f"mean {analysis.what} of readers", interval, of=name, counted="cases")


def _of_reader(truth: Floats, scores: Floats, question: Question, person: str) -> Measured:
    """One reader's figure on the cases that the reader scored, with an interval over cases."""
    known = ~np.isnan(scores)
    labels, own, value = truth[known], scores[known], math.nan
    if question.merit == "auc":
        counted = np.ones(len(own), dtype=bool)
        if 0 < labels.sum() < len(labels):
            value = auroc(labels, own)
            interval = over_units(partial(auroc_interval, labels, own, range(len(own))), value, range(len(own)))
    else:
        findings = findings_of(own, question.merit, question.threshold)
        counted = {"accuracy": labels >= 0, "sensitivity": labels == 1, "specificity": labels == 0}[question.merit]
        hits = (findings == labels)[counted].astype(np.float64)
        if len(hits):
            value = float(hits.mean())
            interval = over_units(partial(proportion_interval, hits, range(len(hits))), value, range(len(hits)))
    if math.isnan(value):
        interval = Interval(value, value, value, int(counted.sum()))
    why = "the reader scored no cases of one class"
    return Measured.from_interval("reader", interval, of=person, counted="cases", undefined=why)


def _against_reference(analysis: Analysis, mean: Mean | None, boot: Interval) -> None:
    reference = analysis.question.reference
    shifted = Interval(boot.value - reference, boot.low - reference, boot.high - reference, boot.n)
    label = f"{analysis.what} less {reference:g}"
    analysis.bootstrap_differences.append(_judged(analysis, label, shifted, None, 0.0))
    if mean is None:
        analysis.differences = list(analysis.bootstrap_differences)
        return
    against = Mean(mean.value - reference, mean.error, mean.freedom, mean.n)
    analysis.differences.append(_judged(analysis, label, against.interval(), against, 0.0))


def _judged(analysis: Analysis, label: str, interval: Interval, mean: Mean | None, reference: float) -> Measured:
    """A difference with its p value, and whether it is within the margin."""
    facts: dict[str, Any] = {"method": "bootstrap"}
    margin = analysis.question.margin
    if mean is not None:
        fixed = analysis.question.fixed_readers
        facts = {
            "method": "Obuchowski-Rockette, fixed readers" if fixed else "Obuchowski-Rockette",
            "error": mean.error,
            "freedom": _finite(mean.freedom),
            "p": mean.p_value(reference),
        }
        if margin is not None:
            facts |= {"margin": margin, "equivalence p": mean.equivalence_p(margin, reference)}
            facts["equivalent"] = facts["equivalence p"] < SIZE
    elif margin is not None:
        # Of 95 %: a test of 2.5 %, as the percentiles of 90 % are not kept.
        facts |= {"margin": margin, "equivalent": equivalent(interval, margin, reference)}
    return Measured.from_interval(f"difference in {analysis.what}", interval, of=label, counted="cases", **facts)


def _sentence(analysis: Analysis) -> str:
    scores, parts = analysis.scores, []
    for row in analysis.differences:
        p = f", p {number(row.facts['p'])}" if "p" in row.facts else ""
        verdict = ""
        if "equivalent" in row.facts:
            margin = f"{row.facts['margin']:g}"
            shown = f" (p {number(row.facts['equivalence p'])})" if "equivalence p" in row.facts else ""
            verdict = (
                f"; {'equivalent' if row.facts['equivalent'] else 'not shown to be equivalent'} within {margin}{shown}"
            )
        parts.append(f"{row.of}: {row.shown}{p}{verdict}")
    kind = "these" if analysis.question.fixed_readers else "other"
    study = f"{len(scores.readers)} readers, {len(scores.cases)} cases ({int(scores.truth.sum())} positive)"
    return f"{'; '.join(parts)} ({analysis.what}, 95 % interval for {kind} readers and other cases; {study})."


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
