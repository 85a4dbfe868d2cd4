"""How many readers and cases a study needs, with the assumptions in words."""

from collections.abc import Sequence
from dataclasses import dataclass

from medloom.core.errors import UserError
from medloom.metrics.multi_reader import Components
from medloom.metrics.reader_power import Study, power_of_difference, power_of_equivalence

READERS: Sequence[int] = (2, 3, 4, 5, 6, 8, 10, 12)
CASES: Sequence[int] = (40, 60, 80, 100, 150, 200, 300, 400)
# Estimates of Van Dyke's study (1993), AUC of 5 readers and 114 cases, as published with OR-DBM MRMC.
POSITIVES, NEGATIVES = 45, 69
TWO_ARMS = Components(0.00153500, 0.00020040, 0.00080229, 0.00034661, 0.00034407, 0.00023903)
# One arm is compared with an AUC of 0.5, where the variance over cases is that of the rank sum statistic, about four
# times as large; readers vary and correlate as in the published study.
BY_CHANCE = (POSITIVES + NEGATIVES + 1) / (12 * POSITIVES * NEGATIVES)
ONE_ARM = Components(0.00173540, 0.0, BY_CHANCE, 0.0, 0.42886683 * BY_CHANCE, 0.0)


@dataclass(frozen=True)
class Assumptions:
    """What power is computed from.

    Attributes:
        components: of the variance of AUCs.
        cases: number of cases that they were estimated with.
        arms: 1 or 2.
        words: where they are from.
    """

    components: Components
    cases: int
    arms: int
    words: str


def assumed(arms: int) -> Assumptions:
    """The published components, for a study without a pilot."""
    study = "Van Dyke's study (1993) of 5 readers and 114 cases"
    words = f"variance components of {study}, AUC near 0.9; give --pilot for your own."
    if arms == 1:
        words = f"variance over cases of an AUC of 0.5; readers as in {study}; give --pilot for your own."
    return Assumptions(TWO_ARMS if arms == 2 else ONE_ARM, POSITIVES + NEGATIVES, arms, words)


def power_table(
    known: Assumptions, difference: float | None, margin: float | None
) -> tuple[list[tuple[int, list[float]]], str]:
    """Power by readers (rows) and cases (columns), and what it is the power of.

    Args:
        known: assumptions.
        difference: that is to be found, or None.
        margin: within which the arms are to be found equivalent, or None.

    Raises:
        UserError: neither or both are given, or they are out of range.
    """
    if (difference is None) is (margin is None):
        raise UserError("--power needs --difference, the smallest one that matters, or --margin, for equivalence.")
    given = difference if difference is not None else margin
    if given is None or not 0 < abs(given) < 0.5:
        raise UserError(f"a difference or margin of {given}: give one of an AUC, above 0 and below 0.5.")

    def power(readers: int, cases: int) -> float:
        study = Study(known.components, known.cases, readers, cases, known.arms)
        if margin is not None:
            return power_of_equivalence(study, margin)
        return power_of_difference(study, given)

    against = "two arms" if known.arms == 2 else "the mean of the readers from a fixed value"
    if margin is None:
        what = f"to find a difference of {given:g} of {against} in AUC (two-sided, 5 %)"
    else:
        what = f"to find {against} equal within {given:g} in AUC, if they are equal (two one-sided tests, 5 %)"
    return [(readers, [power(readers, cases) for cases in CASES]) for readers in READERS], what


def smallest(rows: Sequence[tuple[int, Sequence[float]]], wanted: float) -> list[tuple[int, int]]:
    """For each number of readers, the smallest number of cases in the table that has the wanted power."""
    found = []
    for readers, powers in rows:
        enough = [cases for cases, power in zip(CASES, powers, strict=True) if power >= wanted]
        if enough:
            found.append((readers, enough[0]))
    return found


def in_words(rows: Sequence[tuple[int, Sequence[float]]], wanted: float) -> list[str]:
    """The table as lines; a star marks the wanted power."""
    lines = ["readers  cases " + "".join(f"{cases:>7}" for cases in CASES)]
    for readers, powers in rows:
        cells = "".join(f"{power:>6.2f}{'*' if power >= wanted else ' '}" for power in powers)
        lines.append(f"{readers:>7}        {cells}")
    return lines
