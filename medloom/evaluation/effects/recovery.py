"""Metrics of measured effects, and with a truth whether each effect is recovered."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from medloom.core.errors import UserError
from medloom.evaluation.effects import observed, regions
from medloom.evaluation.effects.measure import Effect, Effects, by_patient
from medloom.evaluation.effects.support import is_beyond, within_support
from medloom.evaluation.report.estimates import by_unit, estimate, estimate_mean, estimate_proportion
from medloom.evaluation.report.metrics import Estimate, Metric, Reference, Verdict
from medloom.metrics.effects import FLAT, LEAST_IN_LEVEL, dose_levels, fit_line, fraction_of, right_signs
from medloom.metrics.uncertainty import LEAST_UNITS

EFFECT, FRACTION, ERROR = "mean effect", "recovered fraction of the true effect", "mean error"
BEYOND = "mean effect, extrapolation"
SLOPE, INTERCEPT, SPREAD = "slope over doses", "intercept", "standard deviation over seeds"
SIGNS, MAPS, OUTSIDE = "right sign", "correlation of difference maps", "change outside / inside"
MEANINGS: Mapping[str, str] = {
    EFFECT: "mean difference of an arm and the factual image in the region where the cause acts",
    BEYOND: "the same in rows that have hardly any training patients near them; no verdict includes them",
    SPREAD: "how much that difference changes for the same patient with another seed",
    FRACTION: "mean estimated effect in the true direction, divided by the mean size of the true effect",
    ERROR: "mean of the estimated less the true effect",
    SLOPE: "line through the means of dose levels; 1 recovers the effect, 0 misses it, above 1 exaggerates it",
    INTERCEPT: "value of that line at a true effect of 0; what is added whatever the dose",
    SIGNS: "fraction of patients whose estimated effect has the true sign",
    MAPS: "how alike the difference map and the true one are, voxel by voxel, within the body",
    OUTSIDE: "mean absolute change where the truth changes nothing, divided by that where it changes much",
    regions.SHIFT: "mean difference to the factual image in one class of the held mask",
    regions.NOISE: "how far another seed alone moves that class",
    observed.OBSERVED: "the shift of patients in whom the arm is a change, and the difference between real patients",
}
AGAINST = "smoking"  # The placebo is correlated with it.
MARGIN = 0.1
# Lowest and highest value that are allowed; None where the range is open.
ALLOWED: Mapping[str, tuple[float | None, float | None]] = {
    FRACTION: (0.8, 1.2),
    SIGNS: (0.9, None),
    MAPS: (0.7, None),
    OUTSIDE: (None, 0.1),
}


def effect_metrics(effects: Effects, seed: int) -> tuple[list[Metric], list[Verdict], list[str]]:
    """Metrics of every arm and attribute, verdicts if the truth is known, and notes.

    Args:
        effects: what was measured.
        seed: of the resamples.
    """
    metrics: list[Metric] = []
    notes: list[str] = []
    judged: list[Effect] = []
    # A row that has the value already cannot show an effect, and would dilute those of others.
    rows = [row for row in by_patient(effects.rows) if row.asked]
    for name in effects.arms:
        own = [row for row in rows if row.arm == name]
        if not own:
            notes.append(f"{name}: no row in which it is a change.")
        within, beyond = within_support(own), [row for row in own if is_beyond(row)]
        metrics += [_mean_effect(EFFECT, within, effects, seed)] if within else []
        if not beyond:
            judged += within
            continue
        patients, outside = (len({row.unit for row in some}) for some in (own, beyond))
        metrics.append(_mean_effect(BEYOND, beyond, effects, seed, f"{outside} of {patients} patients"))
        supported = len({row.unit for row in within if row.support is not None})
        if supported >= LEAST_UNITS:
            judged += within
            notes.append(f"{name}: {outside} of {patients} patients are an extrapolation and are shown apart.")
        else:
            notes.append(
                f"{name}: {outside} of {patients} patients are an extrapolation. {supported} patients with support in"
                f" training are too few for a verdict, which needs {LEAST_UNITS}."
            )
    if not effects.support_known:
        notes.append("It is unknown which rows are an extrapolation: the what-if does not say what training had.")
    metrics.extend(effects.regions.metrics(effects.unit, seed))
    arms = {metric.subset: metric for metric in metrics if metric.name == EFFECT}
    verdicts: list[Verdict] = []
    effects = replace(effects, rows=judged)
    for attribute in effects.attributes:
        if not len(effects.column("unit", attribute)):
            continue
        spread = effects.column("spread", attribute)
        if not np.isnan(spread).any():
            deviation = estimate_mean(*by_unit(spread, effects.column("unit", attribute)), seed)
            none = Reference("no noise", 0.0)
            metrics.append(Metric.of(deviation, name=SPREAD, subset=attribute, reference=none, note=effects.unit))
        if not effects.known:
            continue
        if not effects.column("changed", attribute).any():
            verdicts.extend(_placebo(effects, attribute, arms, notes))
            continue
        recovered = _recovery(effects, attribute, seed, notes)
        metrics.extend(recovered)
        verdicts.extend(Verdict.of(metric, *ALLOWED[metric.name]) for metric in recovered if metric.name in ALLOWED)
    if lacking := sum(metric.low is None for metric in metrics):
        notes.append(
            f"{lacking} of {len(metrics)} values have no interval, which needs {LEAST_UNITS} patients; a verdict on one"
            " of them is inconclusive."
        )
    return metrics, verdicts, notes


def _mean_effect(name: str, rows: Sequence[Effect], effects: Effects, seed: int, note: str = "") -> Metric:
    """The mean effect of some rows of one arm, compared with the true one if it is known."""
    units, true = [row.unit for row in rows], [row.true for row in rows if row.true is not None]
    reference = Reference("no effect", 0.0)
    if true:
        reference = Reference("true effect", float(by_unit(np.array(true), units)[0].mean()))
    return Metric.of(
        estimate_mean(*by_unit(np.array([row.estimated for row in rows]), units), seed),
        name=name,
        subset=rows[0].arm,
        reference=reference,
        note="; ".join(filter(None, (effects.unit, note))),
        signed=bool(true),
    )


def _recovery(effects: Effects, attribute: str, seed: int, notes: list[str]) -> list[Metric]:
    """How well an attribute's effect is recovered; fractions, signs and maps are of patients in whom it is a change."""
    true, estimated, patients, changed = (
        effects.column(name, attribute) for name in ("true", "estimated", "unit", "changed")
    )
    some_true, some_estimated, some_patients = true[changed], estimated[changed], patients[changed]
    whole = Reference("the whole effect", 1.0)
    found = [(ERROR, estimate_mean(estimated - true, patients, seed), Reference("no error", 0.0), "")]
    if (acting := np.abs(some_true) > FLAT).any():
        fraction = estimate(
            lambda rows: fraction_of(some_true[rows], some_estimated[rows]),
            some_patients,
            seed,
            keep=np.where(acting, 0, -1),
        )
        found.insert(0, (FRACTION, fraction, whole, ""))
    else:
        notes.append(f"{attribute}: the truth changes images, but not the mean of the measured region.")
    found += _line(effects, attribute, seed, notes)
    spread = effects.column("spread", attribute)
    noise = 0.0 if np.isnan(spread).all() else float(np.nanmean(spread)) / np.sqrt(effects.seeds)
    visible = np.abs(some_true) > noise
    if visible.any():
        hits = estimate_proportion(right_signs(some_true, some_estimated, noise), some_patients[visible])
        note = f"of true effects above the noise of {noise:.2g} {effects.unit}"
        if np.isnan(spread).all():
            note = "of all true effects, because one seed does not show the noise"
        found.append((SIGNS, hits, Reference("all", 1.0), note))
    else:
        notes.append(
            f"{attribute}: no true effect exceeds the noise of {noise:.3g} {effects.unit}; no sign is counted."
        )
    maps, outside, inside = (effects.column(name, attribute)[changed] for name in ("correlation", "outside", "inside"))
    found.append((MAPS, estimate_mean(maps, some_patients, seed), Reference("true counterfactual", 1.0), ""))
    known = np.isfinite(outside)
    outside, inside, known_patients = outside[known], inside[known], some_patients[known]
    changing = len(set(known_patients[inside > 0].tolist()))
    if not known.any():
        notes.append(f"{attribute}: the truth changes every place of the images, so that nothing is outside.")
    elif not changing:
        notes.append(f"{attribute}: no image changes at all.")
    elif changing < min(LEAST_UNITS, len(set(some_patients.tolist()))):
        notes.append(f"{attribute}: images of {changing} patients change, too few to say what changes outside.")
    else:
        ratio = estimate(
            lambda rows: float(outside[rows].sum() / inside[rows].sum()),
            known_patients,
            seed,
            keep=np.where(inside > 0, 0, -1),
        )
        found.append((OUTSIDE, ratio, Reference("nothing outside", 0.0), ""))
    return [
        Metric.of(interval, name=name, subset=attribute, reference=reference, note=note)
        for name, interval, reference, note in found
    ]


def _line(effects: Effects, attribute: str, seed: int, notes: list[str]) -> list[tuple[str, Estimate, Reference, str]]:
    """Slope and intercept over dose levels; those of few patients are left out, and a note says how many."""
    true, estimated, patients, doses = (
        effects.column(name, attribute) for name in ("true", "estimated", "unit", "dose")
    )
    levels = dose_levels(doses.tolist(), patients)
    used = levels >= 0
    asked, kept = len(set(doses.tolist())), len(set(levels[used].tolist()))
    few = f"{asked - kept} of {asked} dose levels are left out, with fewer than {LEAST_IN_LEVEL} patients each"
    true, estimated, patients, levels = true[used], estimated[used], patients[used], levels[used]
    means = {level: true[levels == level].mean() for level in set(levels.tolist())}
    if len(means) < 2 or max(means.values()) - min(means.values()) < FLAT:
        left_out = f"; {few}" if kept < asked else ""
        notes.append(
            f"{attribute}: no slope: it needs two dose levels of {LEAST_IN_LEVEL} or more patients with different true"
            f" effects{left_out}. Give more rows or arms."
        )
        return []
    if kept < asked:
        notes.append(f"{attribute}, slope over doses: {few}.")

    def fitted(place: int) -> Estimate:
        return estimate(
            lambda rows: fit_line(true[rows], estimated[rows], levels[rows])[place], patients, seed, keep=levels
        )

    try:
        slope, intercept = fitted(0), fitted(1)
    except UserError as error:
        notes.append(f"{attribute}: no slope: {error}")
        return []
    return [
        (SLOPE, slope, Reference("the whole effect", 1.0), ""),
        (INTERCEPT, intercept, Reference("nothing added", 0.0), ""),
    ]


def _placebo(effects: Effects, attribute: str, arms: Mapping[str, Metric], notes: list[str]) -> list[Verdict]:
    """Equivalence with no effect, within a tenth of the effect of smoking (TOST, 95 % interval)."""
    changed = effects.column("changed", AGAINST)
    if not changed.any():
        notes.append(f"{attribute}: truly without effect; an arm of {AGAINST} is needed to say how small is small.")
        return []
    margin = MARGIN * float(np.abs(effects.column("true", AGAINST)[changed]).mean())
    return [
        Verdict.of(
            arms[name],
            -margin,
            margin,
            f"{name}: within ±{margin:.3g} {effects.unit}, a tenth of the effect of {AGAINST}",
            attribute,
        )
        for name in dict.fromkeys(row.arm for row in effects.rows if row.attribute == attribute)
    ]
