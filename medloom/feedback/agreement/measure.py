"""What ratings say: agreement between and within raters, levels, hidden real images, flags and times."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.evaluation.report.metrics import EVERYTHING
from medloom.feedback.agreement.table import SCALES, UNIT
from medloom.feedback.measured import Measured, over_units
from medloom.metrics import (
    agreement_interval,
    bootstrap_interval,
    gwet_ac,
    proportion_interval,
    rest_correlation_intervals,
)
from medloom.metrics.agreement import undefined

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Of = tuple[str, dict[str, str]]
PERCENT = "percent agreement"
# Name in the report -> the coefficient and its options.
MEASURES: dict[str, Of] = {
    PERCENT: ("percent_agreement", {}),
    "Gwet's AC1": ("gwet_ac", {}),
    "Gwet's AC2, quadratic": ("gwet_ac", {"weights": "quadratic"}),
    "Krippendorff's alpha, ordinal": ("krippendorff_alpha", {"level_of": "ordinal"}),
    "Cohen's kappa": ("cohen_kappa", {}),
    "Cohen's kappa, quadratic": ("cohen_kappa", {"weights": "quadratic"}),
    "Fleiss' kappa": ("fleiss_kappa", {}),
}
SPEARMAN, WITHIN = "Spearman with the others", "agreement with the own first rating"
FRACTION, MEDIAN, DRIFT, FLAGGED = "fraction", "median seconds", "last third over first third", "flagged"
# Ratings of a session from which its beginning and end are compared.
FEWEST_OF_SESSION = 9


@dataclass
class Agreement:
    """What was measured.

    Attributes:
        between: agreement of raters, by question.
        single: correlation of each rater with the others, by question.
        within: agreement of raters with their own first rating.
        levels: fraction of each level by rater, round and modality.
        times: median seconds by rater, and their drift.
        flags: fraction of ratings with each flag, by rater.
        counts: of the table.
        notes: what a reader has to know.
    """

    between: list[Measured] = field(default_factory=list)
    single: list[Measured] = field(default_factory=list)
    within: list[Measured] = field(default_factory=list)
    levels: list[Measured] = field(default_factory=list)
    times: list[Measured] = field(default_factory=list)
    flags: list[Measured] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def measure_agreement(ratings: "pd.DataFrame", seed: int, resamples: int = 1000) -> Agreement:
    """Measure all of it.

    Args:
        ratings: see `medloom.feedback.agreement.table.checked_ratings`.
        seed: of the resamples.
        resamples: number of them.

    Raises:
        UserError: a single rater without repeats, where nothing can be compared.
    """
    first = first_ratings(ratings)
    raters = sorted(set(ratings["rater"]))
    repeats = int((ratings["repeat"] == 1).sum())
    if len(raters) == 1 and not repeats:
        raise UserError(
            f"all ratings are by {raters[0]!r} and none is a repeat; agreement needs a second rater, or hidden repeats."
        )
    found = Agreement(
        counts={
            "ratings": len(ratings),
            "raters": len(raters),
            "items": first["item"].nunique(),
            "patients or items": first[UNIT].nunique(),
            "repeats": repeats,
            "rounds": ratings["round"].nunique(),
        }
    )
    left = len(ratings) - len(first) - repeats
    if left:
        found.notes.append(f"{left} further ratings of an item by the same rater in one round were left out.")
    questions = [name for name in SCALES if name in ratings and first[name].notna().any()]
    for item in questions:
        _between(found, first, item, seed, resamples)
        found.within += _within(ratings, first, item)
        found.levels += _levels(first, item)
    found.times = [*_times(first, seed, resamples)]
    found.flags = [*_flags(first)]
    if not first["source"].any():
        found.notes.append(
            "The ratings do not say which images are real: levels and flags are of all images. The key of a study says"
            " it (--key)."
        )
    if len(raters) == 1:
        found.notes.append(f"All ratings are by {raters[0]}: agreement between raters is not measured.")
    elif len(raters) == 2:
        found.notes.append("Two raters are one pair: intervals are over items and hold for these two raters.")
    return found


def first_ratings(ratings: "pd.DataFrame") -> "pd.DataFrame":
    """The first rating of each item by each rater in each round, without repeats."""
    own = ratings[ratings["repeat"] == 0].sort_values("time", kind="stable")
    return own.drop_duplicates(["rater", "item", "round"]).sort_index()


def matrix_of(first: "pd.DataFrame", item: str) -> tuple[Floats, list[str], list[str]]:
    """Ratings `(items, raters)`, the raters, and the unit of each item; an item of another round is another one."""
    known = first[first[item].notna()]
    wide = known.pivot(index=["round", "item"], columns="rater", values=item)
    units = known.drop_duplicates(["round", "item"]).set_index(["round", "item"])[UNIT]
    return wide.to_numpy(np.float64), list(wide.columns), list(units.loc[wide.index])


def _between(found: Agreement, first: "pd.DataFrame", item: str, seed: int, resamples: int) -> None:
    ratings, raters, units = matrix_of(first, item)
    paired = (~np.isnan(ratings)).sum(axis=1) >= 2
    if len(raters) < 2 or not paired.any():
        if len(raters) > 1:
            found.notes.append(f"{item}: no item was rated by two raters.")
        return
    reason = undefined(ratings)
    for name, (measure, options) in MEASURES.items():
        scale = {} if measure == "krippendorff_alpha" else {"categories": SCALES[item]}
        interval = agreement_interval(measure, ratings, seed=seed, units=units, n=resamples, **scale, **options)
        found.between.append(Measured.from_interval(name, interval, item=item, undefined=reason))
    intervals = rest_correlation_intervals(ratings, seed=seed, units=units, n=resamples)
    for rater, column, interval in zip(raters, ratings.T, intervals, strict=True):
        why = "one side is constant, or fewer than two items in common"
        own = int((paired & ~np.isnan(column)).sum())
        found.single.append(Measured.from_interval(SPEARMAN, interval, of=rater, item=item, undefined=why, ratings=own))


def _within(ratings: "pd.DataFrame", first: "pd.DataFrame", item: str) -> Iterator[Measured]:
    """Hidden repeats against the first ratings, by rater and of all."""
    again = ratings[(ratings["repeat"] == 1) & ratings[item].notna()]
    both = again.merge(first, on=["rater", "item", "round"], suffixes=("", "_first"))
    both = both[both[f"{item}_first"].notna()]
    groups = [(EVERYTHING, both), *both.groupby("rater")] if both["rater"].nunique() > 1 else [*both.groupby("rater")]
    for rater, own in groups:
        pairs, units = own[[f"{item}_first", item]].to_numpy(np.float64), list(own[UNIT])
        hits = (pairs[:, 0] == pairs[:, 1]).astype(np.float64)
        interval = over_units(partial(proportion_interval, hits, units), float(hits.mean()), units)
        ac = gwet_ac(pairs, "quadratic", SCALES[item])
        facts = {"AC2, quadratic": ac, "mean change": float((pairs[:, 1] - pairs[:, 0]).mean())}
        yield Measured.from_interval(WITHIN, interval, of=str(rater), item=item, counted="repeats", **facts)


def _levels(first: "pd.DataFrame", item: str) -> Iterator[Measured]:
    """The fraction of each level of synthetic images; of all where the source is not stated."""
    own = first[first[item].notna() & (first["source"] != "real")]
    groups: list[tuple[str, str, pd.DataFrame]] = [("", EVERYTHING, own)] if len(own) else []
    for column in ("rater", "round", "modality"):
        if own[column].nunique() > 1 or column == "rater":
            groups += [(column, _named(column, name), part) for name, part in own.groupby(column)]
    for column, name, part in groups:
        units = list(part[UNIT])
        for level in SCALES[item]:
            hits = (part[item] == level).to_numpy(np.float64)
            interval = over_units(partial(proportion_interval, hits, units), float(hits.mean()), units)
            yield Measured.from_interval(
                FRACTION, interval, of=name, item=item, by=column, level=level, ratings=len(part)
            )


def _named(column: str, name: object) -> str:
    return f"round {name:g}" if column == "round" and isinstance(name, float) else str(name)


def _times(first: "pd.DataFrame", seed: int, n: int) -> Iterator[Measured]:
    """The median time of a rating by rater, and whether raters become faster in a session."""
    timed = first[first["seconds"].notna()]
    for rater, own in timed.groupby("rater"):
        seconds, units = own["seconds"].to_numpy(np.float64), list(own[UNIT])
        quartiles = [float(value) for value in np.quantile(seconds, (0.25, 0.75))]

        def median(rows: NDArray[np.intp], seconds: Floats = seconds) -> float:
            return float(np.median(seconds[rows]))

        interval = over_units(partial(bootstrap_interval, median, units, seed, n), float(np.median(seconds)), units)
        yield Measured.from_interval(MEDIAN, interval, of=str(rater), quartiles=quartiles)
        thirds = [_third(part) for _, part in own.groupby("session") if len(part) >= FEWEST_OF_SESSION]
        if not thirds:
            continue
        place = np.concatenate([part for part, _ in thirds])
        rows = np.concatenate([index for _, index in thirds])
        chosen = own.loc[rows]
        values, ends = chosen["seconds"].to_numpy(np.float64), list(chosen[UNIT])

        def drift(rows: NDArray[np.intp], values: Floats = values, place: NDArray[np.intp] = place) -> float:
            late, early = (float(np.median(values[rows][place[rows] == part])) for part in (1, 0))
            return late / early if early > 0 else math.nan

        value = drift(np.arange(len(values)))
        if math.isfinite(value) and values.min() > 0:
            interval = over_units(partial(bootstrap_interval, drift, ends, seed, n, keep=place), value, ends)
            yield Measured.from_interval(DRIFT, interval, of=str(rater))


def _third(session: "pd.DataFrame") -> tuple[NDArray[np.intp], NDArray[np.generic]]:
    """The first (0) and the last (1) third of a session's ratings by time, and their rows."""
    ordered = session.sort_values("time", kind="stable").index.to_numpy()
    count = len(ordered) // 3
    return np.repeat([0, 1], count), np.concatenate([ordered[:count], ordered[-count:]])


def _flags(first: "pd.DataFrame") -> Iterator[Measured]:
    """The fraction of each rater's ratings of synthetic images with each flag."""
    own = first[first["source"] != "real"]
    words: Sequence[str] = sorted({word for cell in own["flags"] for word in cell.split()})
    for word in words:
        for rater, part in own.groupby("rater"):
            hits, units = np.array([float(word in cell.split()) for cell in part["flags"]]), list(part[UNIT])
            interval = over_units(partial(proportion_interval, hits, units), float(hits.mean()), units)
            yield Measured.from_interval(FLAGGED, interval, of=str(rater), flag=word, count=int(hits.sum()))
