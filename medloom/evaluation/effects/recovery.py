"""Figures of measured effects, and with a truth whether each one is recovered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloom.core.errors import UserError
from medloom.evaluation.effects.measure import Effects
from medloom.evaluation.report.metrics import HIGHER, LOWER, Figure, Reference, rate
from medloom.metrics.effects import dose_line, recovered_fraction, right_signs
from medloom.metrics.uncertainty import Interval, bootstrap_interval, bootstrap_mean, equivalent

SECTION = "effects"
EFFECT, SHARE, SLOPE, INTERCEPT = "mean effect", "share of the true effect", "slope over doses", "intercept"
SIGNS, MAPS, OUTSIDE, ERROR = "right sign", "correlation of difference maps", "change outside / inside", "mean error"
SPREAD = "deviation over seeds"
# Resamples of so many patients who change hold one of them, but for one in three million.
LEAST_CHANGING = 15
PLACEBO = "coffee"
AGAINST = "smoking"  # The placebo is correlated with it.
MARGIN = 0.1
ALLOWED: Mapping[str, tuple[float, float]] = {
    SHARE: (0.8, 1.2),
    SIGNS: (0.9, 1.0),
    MAPS: (0.7, 1.0),
    OUTSIDE: (0.0, 0.1),
}


@dataclass(frozen=True)
class Verdict:
    """Whether a figure is where it has to be.

    Attributes:
        attribute: whose effect.
        metric: of which figure.
        value: of the figure; low and high: ends of its interval.
        rule: in words.
        passed: whether it holds.
    """

    attribute: str
    metric: str
    value: float
    low: float | None
    high: float | None
    rule: str
    passed: bool


def effect_figures(effects: Effects, seed: int) -> tuple[list[Figure], list[Verdict], list[str]]:
    """Figures of every arm and attribute, verdicts where the truth is known, and notes.

    Args:
        effects: what was measured.
        seed: of the resamples.

    Raises:
        UserError: fewer than two patients.
    """
    if len({row["source"] for row in effects.rows}) < 2:
        raise UserError("effects of one patient have no interval; give two or more with --rows of `medloom whatif`.")
    figures = [_arm_figure(effects, name, seed) for name in effects.arms]
    figures.extend(effects.regions.figures(effects.unit, seed))
    verdicts: list[Verdict] = []
    notes: list[str] = []
    for attribute in effects.attributes:
        figures.extend(_spread(effects, attribute, seed))
        if "true" not in effects.rows[0]:
            continue
        if not effects.column("changed", attribute).any():
            verdicts.extend(_placebo(effects, attribute, seed, notes))
            continue
        own = _recovery(effects, attribute, seed, notes)
        figures.extend(own)
        verdicts.extend(_judged(own))
    return figures, verdicts, notes


def _arm_figure(effects: Effects, name: str, seed: int) -> Figure:
    rows = [row for row in effects.rows if row["arm"] == name]
    values = np.array([row["estimated"] for row in rows])
    truth = [row["true"] for row in rows if "true" in row]
    what = Reference("true effect", float(np.mean(truth))) if truth else Reference("no effect", 0.0)
    interval = bootstrap_mean(values, [row["source"] for row in rows], seed)
    return _figure(EFFECT, name, interval, what, note=effects.unit)


def _spread(effects: Effects, attribute: str, seed: int) -> list[Figure]:
    """How much the same patient's effect changes with the seed."""
    spread = effects.column("spread", attribute)
    if np.isnan(spread).any():
        return []
    interval = bootstrap_mean(spread, effects.column("source", attribute), seed)
    return [_figure(SPREAD, attribute, interval, Reference("no noise", 0.0), note=effects.unit)]


def _recovery(effects: Effects, attribute: str, seed: int, notes: list[str]) -> list[Figure]:
    true, estimated = effects.column("true", attribute), effects.column("estimated", attribute)
    patients, changed = effects.column("source", attribute), effects.column("changed", attribute)
    some = Columns(true[changed], estimated[changed], patients[changed])
    figures = [
        _figure(
            SHARE,
            attribute,
            recovered_fraction(some.true, some.estimated, some.patients, seed),
            Reference("the whole effect", 1.0),
        ),
        _figure(ERROR, attribute, bootstrap_mean(estimated - true, patients, seed), Reference("no error", 0.0)),
    ]
    try:
        line = dose_line(true, estimated, effects.column("dose", attribute).tolist(), patients, seed)
    except UserError as error:
        notes.append(f"{attribute}: {error}")
    else:
        figures.append(_figure(SLOPE, attribute, line.slope, Reference("the whole effect", 1.0)))
        figures.append(_figure(INTERCEPT, attribute, line.intercept, Reference("nothing added", 0.0)))
    figures.extend(_signs(effects, attribute, some, seed, notes))
    maps, outside, inside = (effects.column(name, attribute)[changed] for name in ("correlation", "outside", "inside"))
    figures.append(
        _figure(MAPS, attribute, bootstrap_mean(maps, some.patients, seed), Reference("the twin", 1.0), HIGHER)
    )
    if not inside.any():
        notes.append(f"{attribute}: no image changes at all.")
        return figures
    changing = len(set(some.patients[inside > 0]))
    if changing < len(set(some.patients)) and changing < LEAST_CHANGING:
        # A resample of patients could hold none of them.
        notes.append(f"{attribute}: images of {changing} patients change, too few to say what changes outside.")
        return figures
    ratio = bootstrap_interval(lambda rows: float(outside[rows].sum() / inside[rows].sum()), some.patients, seed)
    figures.append(_figure(OUTSIDE, attribute, ratio, Reference("nothing outside", 0.0), LOWER))
    return figures


@dataclass(frozen=True, eq=False)
class Columns:
    """The rows of an attribute in which something truly changed."""

    true: NDArray[Any]
    estimated: NDArray[Any]
    patients: NDArray[Any]


def _signs(effects: Effects, attribute: str, some: Columns, seed: int, notes: list[str]) -> list[Figure]:
    """Only of patients whose true effect is larger than what another seed does to the estimate."""
    spread = effects.column("spread", attribute)
    noise = 0.0 if np.isnan(spread).all() else float(np.nanmean(spread)) / np.sqrt(effects.seeds)
    told = np.abs(some.true) > noise
    if not told.any():
        notes.append(
            f"{attribute}: no true effect exceeds the noise of {noise:.3g} {effects.unit}; no sign is counted."
        )
        return []
    hits = right_signs(some.true, some.estimated, noise)
    note = f"of true effects above the noise of {noise:.2g} {effects.unit}"
    return [_figure(SIGNS, attribute, rate(hits, some.patients[told], seed), Reference("all", 1.0), HIGHER, note)]


def _judged(figures: Sequence[Figure]) -> list[Verdict]:
    verdicts = []
    for figure in figures:
        if figure.metric in ALLOWED:
            low, high = ALLOWED[figure.metric]
            rule = f"{low:g} to {high:g}"
            passed = low <= figure.value <= high
            verdicts.append(Verdict(figure.subset, figure.metric, figure.value, figure.low, figure.high, rule, passed))
    return verdicts


def _placebo(effects: Effects, attribute: str, seed: int, notes: list[str]) -> list[Verdict]:
    """Equivalence with nothing, within a tenth of the effect of smoking (TOST, 95 % interval)."""
    against = [name for name in effects.attributes if name == AGAINST and effects.column("changed", name).any()]
    if not against:
        notes.append(f"{attribute}: truly without effect; an arm of {AGAINST} is needed to say how small is small.")
        return []
    true, changed = effects.column("true", AGAINST), effects.column("changed", AGAINST)
    margin = MARGIN * float(np.abs(true[changed]).mean())
    verdicts = []
    for name in (name for name, arm in effects.arms.items() if arm.attribute == attribute):
        rows = [row for row in effects.rows if row["arm"] == name]
        interval = bootstrap_mean(np.array([row["estimated"] for row in rows]), [row["source"] for row in rows], seed)
        rule = f"{name}: whole interval within ±{margin:.3g} {effects.unit}, a tenth of the effect of {AGAINST}"
        passed = equivalent(interval, margin)
        verdicts.append(Verdict(attribute, EFFECT, interval.value, interval.low, interval.high, rule, passed))
    return verdicts


def _figure(
    metric: str, subset: str, interval: Interval, reference: Reference, better: str = "", note: str = ""
) -> Figure:
    return Figure.of(
        interval,
        section=SECTION,
        metric=metric,
        subset=subset,
        counted="patients",
        reference=reference,
        better=better,
        note=note,
    )
