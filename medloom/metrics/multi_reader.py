"""Multi-reader multi-case studies: the analysis of Obuchowski and Rockette with Hillis' degrees of freedom.

Readers score cases of known truth in one or several arms: with and without an aid, before and after a training. Scores
of one case by several readers are correlated, and so are those of one reader in several arms. The analysis is an
analysis of variance of the readers' figures of merit whose error term holds these correlations (Obuchowski and
Rockette 1995; Hillis 2005, 2007), so that its result holds for other readers and other cases.
"""

from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2
from scipy.stats import f as fisher
from scipy.stats import t as student

from medloom.core.errors import UserError
from medloom.core.lookup import look_up
from medloom.metrics.reader_merits import LEAVE_ONE_OUT, Floats, delong, findings_of
from medloom.metrics.uncertainty import Interval


@dataclass(frozen=True)
class Mean:
    """A mean, or a difference of two, with its error.

    Attributes:
        value: the estimate.
        error: its standard error.
        freedom: degrees of freedom; infinite for fixed readers.
        n: number of cases.

    Examples:
        >>> from medloom.metrics.multi_reader import Mean
        >>> difference = Mean(-0.0438, 0.02075, 15.26, 114)
        >>> round(difference.p_value(), 3)
        0.052
    """

    value: float
    error: float
    freedom: float
    n: int

    def interval(self, level: float = 0.95) -> Interval:
        """The interval by Student's t distribution.

        Examples:
            >>> from medloom.metrics.multi_reader import Mean
            >>> interval = Mean(-0.0438, 0.02075, 15.26, 114).interval()
            >>> round(interval.low, 3), round(interval.high, 4)
            (-0.088, 0.0004)
        """
        reach = float(student.ppf((1 + level) / 2, self.freedom)) * self.error
        return Interval(self.value, self.value - reach, self.value + reach, self.n)

    def p_value(self, reference: float = 0.0) -> float:
        """The two-sided p value of a reference.

        Examples:
            >>> from medloom.metrics.multi_reader import Mean
            >>> round(Mean(0.62, 0.03, 8.0, 60).p_value(reference=0.5), 3)
            0.004
        """
        if self.error == 0:
            return float(self.value == reference)
        return float(2 * student.sf(abs(self.value - reference) / self.error, self.freedom))

    def equivalence_p(self, margin: float, reference: float = 0.0) -> float:
        """The p value of two one-sided tests (Schuirmann 1987): below 0.05 if the 90 % interval is within the margin.

        Args:
            margin: largest difference that does not matter, above 0.
            reference: what the value is compared with.

        Raises:
            UserError: a margin that is not above 0.

        Examples:
            >>> from medloom.metrics.multi_reader import Mean
            >>> round(Mean(0.01, 0.02, 15.0, 100).equivalence_p(margin=0.05), 3)
            0.032
        """
        if not margin > 0:
            raise UserError(f"equivalence margin {margin}; allowed: above 0, fixed before seeing the data.")
        distance = margin - abs(self.value - reference)
        return float(student.sf(distance / self.error, self.freedom)) if self.error else float(distance <= 0)


@dataclass(frozen=True)
class Comparison:
    """Two arms compared.

    Attributes:
        arms: their numbers; the difference is the first less the second.
        difference: of their means over readers.
    """

    arms: tuple[int, int]
    difference: Mean


@dataclass(frozen=True)
class Components:
    """What the figures of merit vary with (Obuchowski and Rockette 1995).

    Attributes:
        reader: variance between readers; may be estimated below 0.
        arm_by_reader: variance of readers' differences between arms; may be estimated below 0.
        error: variance of one reader's figure in one arm over samples of cases.
        cov1: covariance over samples of cases of one reader's figures in two arms.
        cov2: of two readers' figures in one arm.
        cov3: of two readers' figures in two arms.
    """

    reader: float
    arm_by_reader: float
    error: float
    cov1: float
    cov2: float
    cov3: float


@dataclass(frozen=True, eq=False)
class MultiReader:
    """What the analysis found.

    Attributes:
        merits: figure of merit of each arm and reader `(arms, readers)`.
        reader_errors: their standard errors over samples of cases `(arms, readers)`.
        means: of each arm over readers, from that arm's data alone.
        comparisons: of each pair of arms.
        statistic: F for random readers, chi-squared for fixed ones; nan with one arm.
        freedom: of the numerator and of the denominator (infinite for fixed readers); nan with one arm.
        p: of equal arms; nan with one arm.
        components: of the variance.
        fixed_readers: whether the result holds for these readers only.

    Examples:
        >>> covariance = np.full((2, 3, 2, 3), 3e-4) + 5e-4 * np.eye(6).reshape(2, 3, 2, 3)
        >>> merits = np.array([[0.90, 0.86, 0.91], [0.94, 0.91, 0.93]])
        >>> found = medloom.metrics.obuchowski_rockette(merits, covariance, cases=100)
        >>> [round(mean.value, 2) for mean in found.means]
        [0.89, 0.93]
    """

    merits: Floats
    reader_errors: Floats
    means: list[Mean]
    comparisons: list[Comparison]
    statistic: float
    freedom: tuple[float, float]
    p: float
    components: Components
    fixed_readers: bool = field(default=False)


def multi_reader_analysis(
    truth: np.ndarray,
    scores: np.ndarray,
    *,
    merit: str = "auc",
    threshold: float | None = None,
    covariance: str = "jackknife",
    fixed_readers: bool = False,
) -> MultiReader:
    """Analyse a fully crossed study: every reader scored every case in every arm.

    Args:
        truth: `(cases,)` of 0 and 1.
        scores: `(arms, readers, cases)`, finite, higher for positives. One arm is compared with a fixed value by
            `means[0].p_value(0.5)`.
        merit: auc (trapezoidal), accuracy, sensitivity or specificity.
        threshold: from which a score is a positive finding; for all merits but auc.
        covariance: jackknife, or delong for auc.
        fixed_readers: whether the result is to hold for these readers only.

    Raises:
        UserError: other shapes, missing scores, fewer than two positives or negatives, one reader who is to stand for
            others, or an unknown merit or covariance.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> truth = np.arange(60) % 2
        >>> scores = rng.normal(size=(2, 4, 60)) + truth * np.array([1.0, 1.6])[:, None, None]
        >>> found = medloom.metrics.multi_reader_analysis(truth, scores)
        >>> found.merits.shape, round(found.comparisons[0].difference.value, 2), found.p < 0.05
        ((2, 4), -0.09, True)
    """
    labels, values = _checked(truth, scores)
    kind = look_up(LEAVE_ONE_OUT, merit, "figure of merit")
    look_up(dict.fromkeys(("jackknife", "delong")), covariance, "covariance")
    if covariance == "delong" and merit != "auc":
        raise UserError(f"covariance delong is for auc; estimate that of {merit} by jackknife.")
    values = findings_of(values, merit, threshold)
    if covariance == "delong":
        merits, spread = delong(labels, values)
    else:
        merits, others = kind(labels, values)
        centred = (others - others.mean(axis=-1, keepdims=True)).reshape(-1, len(labels))
        spread = (len(labels) - 1) / len(labels) * (centred @ centred.T)
    return obuchowski_rockette(merits, spread.reshape(*merits.shape, *merits.shape), len(labels), fixed_readers)


def obuchowski_rockette(
    merits: np.ndarray, covariance: np.ndarray, cases: int, fixed_readers: bool = False
) -> MultiReader:
    """The analysis of figures of merit and of their covariance over samples of cases.

    Random readers (Hillis 2007): F = MS(T) / [MS(TR) + r max(Cov2 - Cov3, 0)], with (t - 1) and
    [MS(TR) + r max(Cov2 - Cov3, 0)]^2 / {MS(TR)^2 / [(t - 1)(r - 1)]} degrees of freedom. Fixed readers: chi-squared =
    (t - 1) MS(T) / [Var - Cov1 + (r - 1) max(Cov2 - Cov3, 0)]. Means of single arms have their own mean squares and
    covariances.

    Args:
        merits: `(arms, readers)`.
        covariance: `(arms, readers, arms, readers)`.
        cases: number of them.
        fixed_readers: whether the result is to hold for these readers only.

    Raises:
        UserError: other shapes, or a single reader who is to stand for others.

    Examples:
        >>> merits = np.array([[0.90, 0.86, 0.91], [0.94, 0.91, 0.93]])
        >>> covariance = np.full((2, 3, 2, 3), 3e-4) + 5e-4 * np.eye(6).reshape(2, 3, 2, 3)
        >>> found = medloom.metrics.obuchowski_rockette(merits, covariance, cases=100)
        >>> round(found.statistic, 1), [round(freedom, 1) for freedom in found.freedom]
        (17.3, [1, 2.0])
    """
    values, spread = np.asarray(merits, np.float64), np.asarray(covariance, np.float64)
    if values.ndim != 2 or spread.shape != (*values.shape, *values.shape):
        raise UserError(f"figures {values.shape} with covariances {spread.shape}; give (arms, readers) twice over.")
    arms, readers = values.shape
    if readers < 2 and not fixed_readers:
        raise UserError("one reader cannot stand for others; give two or more readers, or take the readers as fixed.")
    same_arm, same_reader = np.eye(arms, dtype=bool), np.eye(readers, dtype=bool)

    def mean_where(arm: NDArray[np.bool_], reader: NDArray[np.bool_]) -> float:
        chosen = arm[:, None, :, None] & reader[None, :, None, :]
        return float(spread[chosen].mean()) if chosen.any() else 0.0

    error, cov1 = mean_where(same_arm, same_reader), mean_where(~same_arm, same_reader)
    cov2, cov3 = mean_where(same_arm, ~same_reader), mean_where(~same_arm, ~same_reader)
    between = values.mean(axis=1)
    ms_reader = arms * _variance(values.mean(axis=0))
    ms_arm = readers * _variance(between)
    rest = values - between[:, None] - values.mean(axis=0) + values.mean()
    ms_rest = float((rest**2).sum()) / max((arms - 1) * (readers - 1), 1)
    if arms == 1:
        by_reader, rest_of_arms = ms_reader - error + cov2, 0.0
    else:
        by_reader = (ms_reader - ms_rest) / arms - cov1 + cov3
        rest_of_arms = ms_rest - error + cov1 + (cov2 - cov3)
    components = Components(by_reader, rest_of_arms, error, cov1, cov2, cov3)

    shared = max(cov2 - cov3, 0.0)
    term, freedom = ms_rest + readers * shared, np.inf
    if fixed_readers:
        term = error - cov1 + (readers - 1) * shared
    elif ms_rest > 0:
        freedom = term**2 / (ms_rest**2 / max((arms - 1) * (readers - 1), 1))
    means = [_mean_of_arm(values[arm], spread[arm][:, arm], cases, fixed_readers) for arm in range(arms)]
    comparisons = [
        Comparison((i, j), Mean(float(between[i] - between[j]), float(np.sqrt(2 / readers * term)), freedom, cases))
        for i, j in combinations(range(arms), 2)
    ]
    reader_errors = np.sqrt(np.diagonal(spread.reshape(arms * readers, -1))).reshape(arms, readers)
    if arms == 1:
        nothing = float("nan")
        statistic, p, both = nothing, nothing, (nothing, nothing)
    elif fixed_readers:
        statistic = (arms - 1) * ms_arm / term if term > 0 else _of_nothing(ms_arm)
        p, both = float(chi2.sf(statistic, arms - 1)), (float(arms - 1), np.inf)
    else:
        statistic = ms_arm / term if term > 0 else _of_nothing(ms_arm)
        p, both = float(fisher.sf(statistic, arms - 1, freedom)), (arms - 1, float(freedom))
    return MultiReader(values, reader_errors, means, comparisons, statistic, both, p, components, fixed_readers)


def _mean_of_arm(merits: Floats, covariance: Floats, cases: int, fixed_readers: bool) -> Mean:
    """The mean over readers by this arm alone (Hillis 2007, single test)."""
    readers = len(merits)
    error = float(np.diagonal(covariance).mean())
    shared = max(float(covariance[~np.eye(readers, dtype=bool)].mean()), 0.0) if readers > 1 else 0.0
    if fixed_readers:
        return Mean(float(merits.mean()), float(np.sqrt((error + (readers - 1) * shared) / readers)), np.inf, cases)
    spread = _variance(merits)
    term = spread + readers * shared
    freedom = term**2 / (spread**2 / (readers - 1)) if spread > 0 else np.inf
    return Mean(float(merits.mean()), float(np.sqrt(term / readers)), float(freedom), cases)


def _of_nothing(ms_arm: float) -> float:
    """A statistic where nothing varies: any difference is infinitely clear."""
    return np.inf if ms_arm > 0 else 0.0


def _variance(values: Floats) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0


def _checked(truth: np.ndarray, scores: np.ndarray) -> tuple[NDArray[np.bool_], Floats]:
    """Truth as booleans, and scores.

    Raises:
        UserError: see `multi_reader_analysis`.
    """
    labels, values = np.asarray(truth, np.float64), np.asarray(scores, np.float64)
    if values.ndim != 3 or labels.shape != values.shape[2:] or 0 in values.shape:
        raise UserError(f"truth {labels.shape} and scores {values.shape}; give (cases,) and (arms, readers, cases).")
    if not np.isin(labels, (0, 1)).all() or min((labels == 1).sum(), (labels == 0).sum()) < 2:
        positives, negatives = int((labels == 1).sum()), int((labels == 0).sum())
        raise UserError(
            f"{positives} positive and {negatives} negative cases of {len(labels)}; the analysis needs two of each, and"
            " no other label than 0 and 1."
        )
    if not np.isfinite(values).all():
        arm, reader, case = np.argwhere(~np.isfinite(values))[0]
        raise UserError(
            f"{int((~np.isfinite(values)).sum())} of {values.size} scores are missing or not finite, the first of arm"
            f" {arm}, reader {reader}, case {case}; the analysis needs every reader's score of every case in every arm;"
            " multi_reader_bootstrap does not."
        )
    return labels == 1, values
