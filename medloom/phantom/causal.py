"""The structural causal model of the virtual cohort: its patients, their counterfactuals and their clinical table.

Every variable is a function of its parents and of the patient's own exogenous noise. Holding the noise and setting a
variable gives the counterfactual (Pearl 2009, chapter 7). `docs/phantom.md` has the graph and a source for each
magnitude.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.core.seeds import numpy_generator

NORMAL = NormalDist()
SEXES = ("female", "male")
SMOKING = ("never", "former", "current")
COFFEE = ("rarely", "daily")
DIAGNOSES = ("none", "IPF", "CTD-ILD", "emphysema", "pneumonia", "effusion", "nodule", "cardiomegaly")
EXTENTS = ("mild", "moderate", "severe")
SIDES = ("left", "right")
ONE_SIDED = ("pneumonia", "effusion", "nodule")
OUTCOMES = ("alive", "dead")
NOT_APPLICABLE = "none"
AGES = (20, 95)
# Factor on the severity of the disease at a visit: 1 at the first visit, 0 once the disease has cleared.
SIZE = "size"
# Factor on the effects of smoking on the lung that the literature reports.
AMPLIFY = "amplify"
TINY = 1e-9
OLDEST_START, MOST_PACK_YEARS = 30.0, 120
# In the table: how often a cell is empty, and the number that means "unknown" in many hospitals, with its frequency.
MISSING = {"smoking": 0.02, "pack_years": 0.02, "height": 0.05, "coffee": 0.01}
SENTINELS = {"pack_years": (-999, 0.02), "height": (999, 0.01)}

Values = Mapping[str, Any]
Noise = Mapping[str, float]


@dataclass(frozen=True)
class Variable:
    """One variable of the model.

    Attributes:
        parents: its direct causes.
        equation: maps (values of all earlier variables, noise of the patient) to its value.
        allowed: its possible values: names, or the lowest and highest number.
        unit: of a number.
        observed: whether a clinical table may contain it.
    """

    parents: tuple[str, ...]
    equation: Callable[[Values, Noise], Any]
    allowed: tuple[Any, ...]
    unit: str = ""
    observed: bool = True


def _age(_: Values, noise: Noise) -> int:
    ages = NormalDist(59, 14)
    low, high = ages.cdf(AGES[0]), ages.cdf(AGES[1])
    return round(ages.inv_cdf(low + NORMAL.cdf(noise["age"]) * (high - low)))


def _smoking(values: Values, noise: Noise) -> str:
    """Older people more often have quit or never started: age confounds smoking. One noise orders the three values."""
    inclination = NORMAL.cdf(noise["habit"])
    age = values["age"]
    never = 0.30 + 0.003 * (age - 20)
    current = 0.50 * _logistic((55 - age) / 10) + 0.12
    if inclination < never:
        return "never"
    return "current" if inclination > 1 - current else "former"


def _pack_years(values: Values, noise: Noise) -> int:
    if values["smoking"] == "never":
        return 0
    start = min(17 + 2 * abs(noise["start"]), OLDEST_START)
    years: float = max(values["age"] - start, 1.0)
    if values["smoking"] == "former":
        years *= 0.3 + 0.6 * NORMAL.cdf(noise["quit"])
    packs_a_day = 0.8 * math.exp(0.4 * noise["packs"])
    return max(1, min(MOST_PACK_YEARS, round(years * packs_a_day)))


def _diagnosis(values: Values, noise: Noise) -> str:
    """Gumbel-max, so that a diagnosis changes only to one whose relative risk rose (Oberst and Sontag 2019)."""
    older, smoked = (values["age"] - 60) / 10, min(values["pack_years"], 60) / 10
    male = values["sex"] == "male"
    risk = {
        "none": 0.0,
        "IPF": -2.2 + 0.6 * older + 0.10 * smoked + 0.5 * male,
        "CTD-ILD": -1.6 - 0.1 * older + 0.6 * (not male),
        "emphysema": -3.0 + 0.45 * smoked,
        "pneumonia": -1.3 + 0.1 * older,
        "effusion": -0.6 + 0.2 * older,
        "nodule": -1.4 + 0.2 * older + 0.15 * smoked,
        "cardiomegaly": -1.3 + 0.3 * older,
    }
    if noise[SIZE] == 0:
        return "none"
    return max(risk, key=lambda name: risk[name] - math.log(-math.log(NORMAL.cdf(noise[f"diagnosis {name}"]))))


def _own_severity(noise: Noise) -> float:
    """In thirds: the integer part is the extent that the patient would have, the rest the severity within it."""
    third = min(2, int(3 * NORMAL.cdf(noise["extent"]))) + NORMAL.cdf(noise["severity"])
    return min(third * noise[SIZE], 3 - TINY)


def _emphysema(values: Values, noise: Noise) -> float:
    """Lost fraction of lung tissue, higher in susceptible patients."""
    by_smoke = 0.002 * noise[AMPLIFY] * values["pack_years"] * math.exp(0.25 * noise["susceptibility"] - 0.03)
    by_disease = 0.15 + 0.35 * values["severity"] if values["diagnosis"] == "emphysema" else 0.0
    return float(min(by_smoke + by_disease, 0.8))


def _heart_ratio(values: Values, noise: Noise) -> float:
    """Width of the heart relative to the width of the thorax."""
    enlarged = 0.09 + 0.10 * values["severity"] if values["diagnosis"] == "cardiomegaly" else 0.0
    return float(0.42 + 0.0008 * (values["age"] - 60) + enlarged + 0.012 * noise["heart"])


def _outcome(values: Values, noise: Noise) -> str:
    """Death within a year."""
    grave = {"IPF": 2.5, "pneumonia": 2.0, "effusion": 1.0, "emphysema": 1.0, "cardiomegaly": 1.0}
    risk = -3.5 + 0.05 * (values["age"] - 60) + grave.get(values["diagnosis"], 0.0) * values["severity"]
    return OUTCOMES[_logistic(risk) > NORMAL.cdf(noise["outcome"])]


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# Causes before their effects.
MODEL: dict[str, Variable] = {
    "age": Variable((), _age, AGES, "years"),
    "sex": Variable((), lambda _, noise: SEXES[noise["sex"] > 0], SEXES),
    "height": Variable(
        ("sex",),
        lambda values, noise: round(
            176 + 7 * noise["height"] if values["sex"] == "male" else 163 + 6.5 * noise["height"]
        ),
        (130, 215),
        "cm",
    ),
    "smoking": Variable(("age",), _smoking, SMOKING),
    # The placebo: it correlates with smoking through their common noise and has no effects.
    "coffee": Variable((), lambda _, noise: COFFEE[0.8 * noise["habit"] + 0.6 * noise["coffee"] > 0], COFFEE),
    "pack_years": Variable(("age", "smoking"), _pack_years, (0, MOST_PACK_YEARS), "pack-years"),
    "diagnosis": Variable(("age", "sex", "pack_years"), _diagnosis, DIAGNOSES),
    "extent": Variable(
        ("diagnosis",),
        lambda values, noise: NOT_APPLICABLE if values["diagnosis"] == "none" else EXTENTS[int(_own_severity(noise))],
        (NOT_APPLICABLE, *EXTENTS),
    ),
    "side": Variable(
        ("diagnosis",),
        lambda values, noise: SIDES[noise["side"] > 0] if values["diagnosis"] in ONE_SIDED else NOT_APPLICABLE,
        (NOT_APPLICABLE, *SIDES),
    ),
    # One third per extent; the patient's noise determines the position within the third.
    "severity": Variable(
        ("extent",),
        lambda values, noise: (
            0.0
            if values["extent"] == NOT_APPLICABLE
            else (EXTENTS.index(values["extent"]) + _own_severity(noise) % 1) / 3
        ),
        (0.0, 1.0),
        observed=False,
    ),
    # HU that current smoking adds to the lung.
    "inflammation": Variable(
        ("smoking",),
        lambda values, noise: (
            12.0 * noise[AMPLIFY] * math.exp(0.2 * noise["inflammation"] - 0.02)
            if values["smoking"] == "current"
            else 0.0
        ),
        (0.0, 100.0),
        "HU",
        observed=False,
    ),
    "emphysema": Variable(("pack_years", "diagnosis", "severity"), _emphysema, (0.0, 0.8), observed=False),
    # Of lung parenchyma at the reference inspiration, before emphysema.
    "lung_density": Variable(
        ("age", "inflammation"),
        lambda values, noise: float(-845.0 - 0.4 * (values["age"] - 60) + values["inflammation"] + 8.0 * noise["lung"]),
        (-1000.0, -500.0),
        "HU",
        observed=False,
    ),
    # Of trabecular bone.
    "bone_density": Variable(
        ("age",),
        lambda values, noise: float(max(40.0, 158.0 - 2.5 * (values["age"] - 55) + 25.0 * noise["bone"])),
        (0.0, 500.0),
        "HU",
        observed=False,
    ),
    "heart_ratio": Variable(("age", "diagnosis", "severity"), _heart_ratio, (0.2, 0.8), observed=False),
    "outcome": Variable(("age", "diagnosis", "severity"), _outcome, OUTCOMES),
}
OBSERVED = tuple(name for name, variable in MODEL.items() if variable.observed)
NOISES = (
    *("age", "sex", "height", "habit", "coffee", "start", "quit", "packs"),
    *(f"diagnosis {name}" for name in DIAGNOSES),
    *("extent", "side", "severity", "inflammation", "susceptibility", "lung", "bone", "heart", "outcome"),
    # Of the anatomy only.
    *("width", "depth", "fat", "muscle", "tilt", "place across", "place along", "place up", "progress"),
)


@dataclass(frozen=True)
class Patient:
    """One virtual patient.

    Attributes:
        cohort: seed of the cohort.
        number: of the patient in the cohort.
        noise: exogenous, by name, the same in every counterfactual; standard normal except SIZE and AMPLIFY.
        values: of every variable of MODEL.
    """

    cohort: int
    number: int
    noise: Noise
    values: Values


def make_patient(cohort: int, number: int, amplify: float = 1.0) -> Patient:
    """A patient of a cohort, as a function of the two numbers only.

    Args:
        cohort: seed of the cohort.
        number: of the patient.
        amplify: factor on the effects of smoking on the lung; 1 is the literature's.
    """
    drawn = numpy_generator("phantom", cohort, number).standard_normal(len(NOISES))
    # Beyond 3.5 standard deviations a body would not fit its field of view.
    noise = dict(zip(NOISES, np.clip(drawn, -3.5, 3.5).tolist(), strict=True)) | {SIZE: 1.0, AMPLIFY: amplify}
    return Patient(cohort, number, noise, solve(noise))


def evolved(patient: Patient, size: float) -> Patient:
    """The same patient at another visit, where the disease has `size` times the severity of the first visit."""
    noise = {**patient.noise, SIZE: size}
    return Patient(patient.cohort, patient.number, noise, solve(noise))


def solve(noise: Noise, do: Values | None = None) -> dict[str, Any]:
    """Values of every variable for a patient's noise; variables in `do` are set instead of computed."""
    values: dict[str, Any] = {}
    for name, variable in MODEL.items():
        values[name] = do[name] if do and name in do else variable.equation(values, noise)
    return values


def counterfactual(patient: Patient, do: Values, hold: Collection[str] = ()) -> Patient:
    """The counterfactual patient: same noise, the variables in `do` set, the change propagated through the graph.

    Args:
        patient: the factual patient.
        do: variable to value.
        hold: variables that keep their factual value, for an effect that does not pass through them (a direct effect);
            all other descendants of `do` change with it (a total effect).

    Raises:
        UserError: an unknown variable or value, or an impossible combination.
    """
    for name in (*do, *hold):
        look_up(MODEL, name, "variable")
    if both := sorted(set(do) & set(hold)):
        raise UserError(f"{both[0]} is both set and held; name it once.")
    fixed = {name: patient.values[name] for name in hold}
    fixed |= {name: checked_value(name, value) for name, value in do.items()}
    values = solve(patient.noise, fixed)
    # Only fixed values can contradict each other.
    never, smoked = values["smoking"] == "never", values["pack_years"] > 0
    ill, extent = values["diagnosis"] != "none", values["extent"] != NOT_APPLICABLE
    one_sided, sided = values["diagnosis"] in ONE_SIDED, values["side"] != NOT_APPLICABLE
    contradictions = (
        (never == smoked, "smoking", "pack_years"),
        (ill != extent, "diagnosis", "extent"),
        (one_sided != sided, "diagnosis", "side"),
    )
    for contradicted, cause, effect in contradictions:
        if contradicted:
            free = effect if effect in fixed else cause
            raise UserError(
                f"{cause}={values[cause]} with {effect}={values[effect]} is impossible; let {free} follow from"
                f" {cause}, or set both."
            )
    return Patient(patient.cohort, patient.number, patient.noise, values)


def checked_value(name: str, value: str | float) -> Any:
    """A valid value of a variable; text becomes a number for a numeric variable.

    Raises:
        UserError: an impossible value; states the possible ones.
    """
    variable = MODEL[name]
    if isinstance(variable.allowed[0], str):
        return look_up({allowed: allowed for allowed in variable.allowed}, str(value), name)
    low, high = variable.allowed
    allowed = f"{low} to {high} {variable.unit}".rstrip()
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise UserError(f"{name}={value}: give a number, {allowed}.") from None
    if not low <= number <= high:
        raise UserError(f"{name}={value} is out of range; allowed: {allowed}.")
    return int(number) if number.is_integer() and isinstance(low, int) else number


def descendants(name: str) -> set[str]:
    """The variables that depend on `name`, directly or not."""
    found: set[str] = set()
    for other, variable in MODEL.items():
        if found & set(variable.parents) or name in variable.parents:
            found.add(other)
    return found


def observed_columns(hide: Collection[str] = ()) -> tuple[str, ...]:
    """The columns of the clinical table, in order, without the hidden ones.

    Raises:
        UserError: a column that the table does not have.
    """
    for name in hide:
        look_up({column: column for column in OBSERVED}, name, "column to hide")
    if not (visible := tuple(name for name in OBSERVED if name not in hide)):
        raise UserError("--hide names every column of the table; leave one.")
    return visible


def observed_row(patient: Patient, complete: bool = False) -> dict[str, Any]:
    """A patient's row of the clinical table, with the gaps of a hospital's records; None is an empty cell.

    Args:
        patient: the patient.
        complete: whether no cell is missing.
    """
    row = {name: patient.values[name] for name in OBSERVED}
    if complete:
        return row
    chances = numpy_generator("phantom", "table", patient.cohort, patient.number).uniform(size=len(OBSERVED))
    for name, chance in zip(OBSERVED, chances.tolist(), strict=True):
        empty, (number, rate) = MISSING.get(name, 0.0), SENTINELS.get(name, (None, 0.0))
        if chance < empty:
            row[name] = None
        elif chance < empty + rate:
            row[name] = number
    return row
