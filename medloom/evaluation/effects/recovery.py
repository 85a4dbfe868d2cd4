"""Metrics of measured effects, and with a truth whether each effect is recovered."""

from collections.abc import Mapping

import numpy as np

from medloom.core.errors import UserError
from medloom.evaluation.effects import observed, regions
from medloom.evaluation.effects.measure import Effects
from medloom.evaluation.report.metrics import HIGHER, LOWER, Metric, Reference, Verdict, proportion
from medloom.metrics.effects import dose_line, recovered_fraction, right_signs
from medloom.metrics.uncertainty import bootstrap_interval, bootstrap_mean, equivalent

EFFECT, FRACTION, ERROR = "mean effect", "recovered fraction of the true effect", "mean error"
SLOPE, INTERCEPT, SPREAD = "slope over doses", "intercept", "standard deviation over seeds"
SIGNS, MAPS, OUTSIDE = "right sign", "correlation of difference maps", "change outside / inside"
MEANINGS: Mapping[str, str] = {
    EFFECT: "mean difference of an arm and the factual image in the region where the cause acts",
    SPREAD: "how much that difference changes for the same patient with another seed",
    FRACTION: "mean estimated effect in the true direction, divided by the mean size of the true effect",
    ERROR: "mean of the estimated less the true effect",
    SLOPE: "line through the means of dose levels; 1 recovers the effect, 0 misses it, above 1 exaggerates it",
    INTERCEPT: "value of that line at a true effect of 0; what is added whatever the dose",
    SIGNS: "fraction of patients whose estimated effect has the true sign",
    MAPS: "how alike the difference map and the true one are, voxel by voxel, within the body",
    OUTSIDE: "mean absolute change where the truth changes nothing, divided by that where it does",
    regions.SHIFT: "mean difference to the factual image in one class of the held mask",
    regions.NOISE: "how far another seed alone moves that class",
    observed.OBSERVED: "the shift of patients in whom the arm is a change, and the difference between real patients",
}
# With so many patients who change, a resample holds none of them once in three million.
LEAST_CHANGING = 15
AGAINST = "smoking"  # The placebo is correlated with it.
MARGIN = 0.1
ALLOWED: Mapping[str, tuple[float, float]] = {
    FRACTION: (0.8, 1.2),
    SIGNS: (0.9, 1.0),
    MAPS: (0.7, 1.0),
    OUTSIDE: (0.0, 0.1),
}


def effect_metrics(effects: Effects, seed: int) -> tuple[list[Metric], list[Verdict], list[str]]:
    """Metrics of every arm and attribute, verdicts if the truth is known, and notes.

    Args:
        effects: what was measured.
        seed: of the resamples.

    Raises:
        UserError: fewer than two patients.
    """
    if len({row.source for row in effects.rows}) < 2:
        raise UserError("effects of one patient have no interval; give two or more with --rows of `medloom whatif`.")
    metrics: list[Metric] = []
    for name in effects.arms:
        rows = [row for row in effects.rows if row.arm == name]
        truth = [row.true for row in rows if row.true is not None]
        interval = bootstrap_mean(np.array([row.estimated for row in rows]), [row.source for row in rows], seed)
        reference = Reference("true effect", float(np.mean(truth))) if truth else Reference("no effect", 0.0)
        metrics.append(Metric.of(interval, name=EFFECT, subset=name, reference=reference, note=effects.unit))
    metrics.extend(effects.regions.metrics(effects.unit, seed))
    verdicts: list[Verdict] = []
    notes: list[str] = []
    for attribute in effects.attributes:
        spread = effects.column("spread", attribute)
        if not np.isnan(spread).any():
            interval = bootstrap_mean(spread, effects.column("source", attribute), seed)
            none = Reference("no noise", 0.0)
            metrics.append(Metric.of(interval, name=SPREAD, subset=attribute, reference=none, note=effects.unit))
        if not effects.known:
            continue
        if not effects.column("changed", attribute).any():
            verdicts.extend(_placebo(effects, attribute, seed, notes))
            continue
        own = _recovery(effects, attribute, seed, notes)
        metrics.extend(own)
        for metric in own:
            if metric.name in ALLOWED:
                low, high = ALLOWED[metric.name]
                verdicts.append(Verdict.of(metric, f"{low:g} to {high:g}", low <= metric.value <= high))
    return metrics, verdicts, notes


def _recovery(effects: Effects, attribute: str, seed: int, notes: list[str]) -> list[Metric]:
    """How well an attribute's effect is recovered; fractions, signs and maps are of patients in whom it is a change."""
    true, estimated, patients, changed = (
        effects.column(name, attribute) for name in ("true", "estimated", "source", "changed")
    )
    some_true, some_estimated, some_patients = true[changed], estimated[changed], patients[changed]
    whole = Reference("the whole effect", 1.0)
    found = [
        (FRACTION, recovered_fraction(some_true, some_estimated, some_patients, seed), whole, "", ""),
        (ERROR, bootstrap_mean(estimated - true, patients, seed), Reference("no error", 0.0), "", ""),
    ]
    try:
        line = dose_line(true, estimated, effects.column("dose", attribute).tolist(), patients, seed)
    except UserError as error:
        notes.append(f"{attribute}: {error}")
    else:
        found.append((SLOPE, line.slope, whole, "", ""))
        found.append((INTERCEPT, line.intercept, Reference("nothing added", 0.0), "", ""))
    spread = effects.column("spread", attribute)
    noise = 0.0 if np.isnan(spread).all() else float(np.nanmean(spread)) / np.sqrt(effects.seeds)
    visible = np.abs(some_true) > noise
    if visible.any():
        hits = proportion(right_signs(some_true, some_estimated, noise), some_patients[visible], seed)
        note = f"of true effects above the noise of {noise:.2g} {effects.unit}"
        found.append((SIGNS, hits, Reference("all", 1.0), HIGHER, note))
    else:
        notes.append(
            f"{attribute}: no true effect exceeds the noise of {noise:.3g} {effects.unit}; no sign is counted."
        )
    maps, outside, inside = (effects.column(name, attribute)[changed] for name in ("correlation", "outside", "inside"))
    found.append((MAPS, bootstrap_mean(maps, some_patients, seed), Reference("true counterfactual", 1.0), HIGHER, ""))
    changing = len(set(some_patients[inside > 0]))
    if not inside.any():
        notes.append(f"{attribute}: no image changes at all.")
    elif changing < len(set(some_patients)) and changing < LEAST_CHANGING:
        # A resample of patients could hold none of them.
        notes.append(f"{attribute}: images of {changing} patients change, too few to say what changes outside.")
    else:
        ratio = bootstrap_interval(lambda rows: float(outside[rows].sum() / inside[rows].sum()), some_patients, seed)
        found.append((OUTSIDE, ratio, Reference("nothing outside", 0.0), LOWER, ""))
    return [
        Metric.of(interval, name=name, subset=attribute, reference=reference, better=better, note=note)
        for name, interval, reference, better, note in found
    ]


def _placebo(effects: Effects, attribute: str, seed: int, notes: list[str]) -> list[Verdict]:
    """Equivalence with no effect, within a tenth of the effect of smoking (TOST, 95 % interval)."""
    changed = effects.column("changed", AGAINST)
    if not changed.any():
        notes.append(f"{attribute}: truly without effect; an arm of {AGAINST} is needed to say how small is small.")
        return []
    margin = MARGIN * float(np.abs(effects.column("true", AGAINST)[changed]).mean())
    verdicts = []
    for name in (name for name, arm in effects.arms.items() if arm.attribute == attribute):
        rows = [row for row in effects.rows if row.arm == name]
        interval = bootstrap_mean(np.array([row.estimated for row in rows]), [row.source for row in rows], seed)
        bound = f"{name}: whole interval within ±{margin:.3g} {effects.unit}, a tenth of the effect of {AGAINST}"
        ends = interval.value, interval.low, interval.high
        verdicts.append(Verdict(attribute, EFFECT, *ends, bound, equivalent(interval, margin)))
    return verdicts
