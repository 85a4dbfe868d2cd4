"""Visits over time: what grows, clears or stays, and the same visit taken twice."""

import math

from medloom.core.seeds import numpy_generator
from medloom.phantom.anatomy import Visit, make_visit
from medloom.phantom.causal import NORMAL, Patient

DAYS_BETWEEN = {"pneumonia": 21, "effusion": 30, "nodule": 180, "IPF": 270, "CTD-ILD": 270}
USUAL_DAYS = 240
CLEARED = 0.15  # of its size: what is left is not seen


def visits_of(patient: Patient, count: int) -> tuple[Visit, ...]:
    """The first `count` visits of a patient: days apart as the disease asks, the disease as it is that day."""
    rng = numpy_generator("phantom", "days", patient.cohort, patient.number)
    usual = DAYS_BETWEEN.get(patient.values["diagnosis"], USUAL_DAYS)
    gaps = usual * rng.uniform(0.6, 1.6, count)
    days = [0, *(round(sum(gaps[:index])) for index in range(1, count))]
    return tuple(make_visit(patient, index, day, size_after(patient, day)) for index, day in enumerate(days))


def size_after(patient: Patient, days: int) -> float:
    """Factor on the severity after so many days.

    A pneumonia clears (median 3 weeks); an effusion resolves in about two of three patients and grows in the others; a
    nodule's volume doubles in 180 to 900 days, so its radius grows with a third of that rate; fibrosis adds 5 to 15 %
    a year.
    """
    diagnosis, pace = patient.values["diagnosis"], NORMAL.cdf(patient.noise["progress"])
    if diagnosis == "pneumonia":
        factor = math.exp(-days / (12 + 20 * pace))
    elif diagnosis == "effusion":
        factor = math.exp(-days / (15 + 45 * pace)) if pace < 0.66 else 1 + days / 90 * pace
    elif diagnosis == "nodule":
        factor = 2 ** (days / (3 * (180 + 720 * pace)))
    elif diagnosis in ("IPF", "CTD-ILD"):
        factor = 1 + (0.05 + 0.10 * pace) * days / 365
    else:
        return 1.0
    return factor if factor > CLEARED else 0.0


def retest(patient: Patient, visit: Visit) -> Visit:
    """The same visit taken again: nothing differs but position, inspiration and the scanner's noise."""
    return make_visit(patient, visit.index, visit.days, visit.size, repeat=1)
