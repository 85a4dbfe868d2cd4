import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.reader_studies import STRUCTURES, drawn_study
from medloom.core.errors import UserError
from medloom.core.seeds import numpy_generator
from medloom.metrics.multi_reader import Components, Mean, multi_reader_analysis, obuchowski_rockette
from medloom.metrics.reader_bootstrap import multi_reader_bootstrap
from medloom.metrics.reader_power import Study, power_of_difference, power_of_equivalence

# Van Dyke et al. (1993), 5 readers of spin-echo and cine MR images of 114 patients. These numbers, and the results
# below, are printed by OR-DBM MRMC 2.51 of the University of Iowa: trapezoidal areas, covariances by the jackknife.
AREAS = np.array(
    [
        [0.91964573, 0.85877617, 0.90386473, 0.97310789, 0.82979066],
        [0.94782609, 0.90531401, 0.92173913, 0.99935588, 0.92995169],
    ]
)
ERRORS, COV1, COV2, COV3 = (0.00101410, 0.00059047), 0.00034661, (0.00048396, 0.00020419), 0.00023903
ESTIMATED = Components(0.00153500, 0.00020040, 0.00080229, COV1, 0.00034407, COV3)


def van_dyke():
    covariance = np.full((2, 5, 2, 5), COV3)
    for arm in range(2):
        covariance[arm, :, arm] = COV2[arm]
    for reader in range(5):
        covariance[:, reader, :, reader] = COV1
        for arm in range(2):
            covariance[arm, reader, arm, reader] = ERRORS[arm]
    return covariance


def drawn(*seed, arms=2, readers=4, cases=40, shift=(1.0, 1.0), bias=0.3):
    """Scores by readers who differ, of cases that are hard for all of them; half of the cases are positive."""
    rng = np.random.default_rng(seed)
    truth = np.arange(cases) % 2
    strength = np.array(shift)[:arms, None, None] + bias * rng.normal(size=(1, readers, 1))
    scores = strength * truth + rng.normal(size=(1, 1, cases)) + rng.normal(size=(arms, readers, cases))
    return truth, scores.round(1)


def test_published_analysis_with_random_readers():
    found = obuchowski_rockette(AREAS, van_dyke(), cases=114)
    assert found.statistic == pytest.approx(4.46, abs=0.005) and found.freedom[0] == 1
    assert found.freedom[1] == pytest.approx(15.26, abs=0.005) and found.p == pytest.approx(0.0517, abs=5e-5)
    (comparison,) = found.comparisons
    interval = comparison.difference.interval()
    assert comparison.arms == (0, 1) and comparison.difference.error == pytest.approx(0.02075, abs=5e-6)
    assert (interval.value, interval.low, interval.high) == pytest.approx((-0.04380, -0.08796, 0.00036), abs=6e-6)
    assert comparison.difference.p_value() == pytest.approx(found.p)
    for mean, (value, error, freedom, low, high) in zip(
        found.means,
        [
            (0.89703704, 0.03317360, 12.74, 0.82522360, 0.96885048),
            (0.94083736, 0.02156637, 12.71, 0.89413783, 0.98753689),
        ],
        strict=True,
    ):
        assert (mean.value, mean.error) == pytest.approx((value, error), abs=2e-7)
        assert mean.freedom == pytest.approx(freedom, abs=0.005)
        assert (mean.interval().low, mean.interval().high) == pytest.approx((low, high), abs=2e-6)
    for name in ("reader", "arm_by_reader", "error", "cov1", "cov2", "cov3"):
        assert getattr(found.components, name) == pytest.approx(getattr(ESTIMATED, name), abs=1.1e-8)


def test_published_analysis_with_fixed_readers():
    found = obuchowski_rockette(AREAS, van_dyke(), cases=114, fixed_readers=True)
    assert found.statistic == pytest.approx(5.47595, abs=2e-4) and found.p == pytest.approx(0.0193, abs=5e-5)
    difference = found.comparisons[0].difference
    assert difference.error == pytest.approx(0.01872, abs=5e-6)
    assert (difference.interval().low, difference.interval().high) == pytest.approx((-0.08049, -0.00711), abs=6e-6)
    assert [mean.error for mean in found.means] == pytest.approx([0.02428971, 0.01677632], abs=2e-7)
    interval = found.means[0].interval()
    assert (interval.low, interval.high) == pytest.approx((0.84943008, 0.94464399), abs=2e-6)


def test_jackknife_by_leaving_cases_out():
    truth, scores = drawn(1)
    merits = np.array([[roc_auc_score(truth, own) for own in arm] for arm in scores])
    others = np.array(
        [[[roc_auc_score(np.delete(truth, k), np.delete(own, k)) for k in range(40)] for own in arm] for arm in scores]
    ).reshape(8, 40)
    covariance = np.cov(others) * 39**2 / 40
    expected = obuchowski_rockette(merits, covariance.reshape(2, 4, 2, 4), cases=40)
    found = multi_reader_analysis(truth, scores)
    assert found.merits == pytest.approx(merits, abs=1e-12)
    assert (found.statistic, found.freedom[1], found.p) == pytest.approx(
        (expected.statistic, expected.freedom[1], expected.p), rel=1e-9
    )
    assert found.reader_errors == pytest.approx(np.sqrt(np.diag(covariance)).reshape(2, 4), rel=1e-9)


def test_delong_is_near_the_jackknife_and_the_variance_of_one_reader_is_delongs():
    from medloom.metrics.areas import auroc_interval

    truth, scores = drawn(2, cases=200)
    jackknife, delong = (multi_reader_analysis(truth, scores, covariance=name) for name in ("jackknife", "delong"))
    assert jackknife.p == pytest.approx(delong.p, rel=0.05)
    assert jackknife.merits == pytest.approx(delong.merits)
    width = auroc_interval(truth, scores[0, 0], range(200))
    assert delong.reader_errors[0, 0] == pytest.approx((width.high - width.low) / 2 / 1.97, rel=0.05)


@pytest.mark.parametrize("merit", ["accuracy", "sensitivity", "specificity"])
def test_fractions_of_right_findings(merit):
    truth, scores = drawn(3)
    found = multi_reader_analysis(truth, scores, merit=merit, threshold=0.5)
    right = (scores >= 0.5) == (truth == 1)
    counted = {"accuracy": truth >= 0, "sensitivity": truth == 1, "specificity": truth == 0}[merit]
    assert found.merits == pytest.approx(right[..., counted].mean(axis=-1))
    n = counted.sum()
    spread = np.cov(right[..., counted].reshape(8, -1)) / n
    # A case that does not count changes nothing, so there are as many in the jackknife's factor as in its sum.
    factor = 39 / 40 * n / (n - 1)
    assert found.reader_errors**2 == pytest.approx(np.diag(spread).reshape(2, 4) * factor, rel=1e-9)
    boot = multi_reader_bootstrap(truth, scores, seed=0, merit=merit, threshold=0.5, n=50)
    assert [mean.value for mean in boot.means] == pytest.approx(found.merits.mean(axis=1))


def test_one_arm_is_compared_with_a_fixed_value():
    truth, scores = drawn(4, arms=1, cases=80, shift=(0.0,), bias=0.0)
    found = multi_reader_analysis(truth, scores)
    assert found.comparisons == [] and np.isnan([found.statistic, found.p]).all()
    assert found.means[0].p_value(0.5) > 0.05 and found.means[0].equivalence_p(0.25, 0.5) < 0.05
    both = np.concatenate([scores, drawn(5, cases=80)[1]])
    alone = multi_reader_analysis(truth, both[:1]).means[0]
    assert multi_reader_analysis(truth, both).means[0] == alone, "other arms do not change it"


def test_equivalence_is_a_ninety_percent_interval_within_the_margin():
    difference = Mean(0.01, 0.02, 15.0, 100)
    interval = difference.interval(0.90)
    for margin in (0.03, 0.04, interval.high - 1e-6, interval.high + 1e-6, 0.06):
        assert (difference.equivalence_p(margin) < 0.05) is (-margin < interval.low and interval.high < margin)
    assert Mean(0.0, 0.0, np.inf, 9).equivalence_p(0.1) == 0 and Mean(0.2, 0.0, np.inf, 9).equivalence_p(0.1) == 1
    assert Mean(0.0, 0.0, np.inf, 9).p_value() == 1 and Mean(0.1, 0.0, np.inf, 9).p_value() == 0
    with pytest.raises(UserError, match="equivalence margin 0"):
        difference.equivalence_p(0)


def test_perfect_readers_differ_in_nothing():
    truth = np.arange(20) % 2
    found = multi_reader_analysis(truth, np.broadcast_to(truth * 1.0, (2, 3, 20)))
    assert (found.statistic, found.p, found.comparisons[0].difference.error) == (0, 1, 0)


def test_bootstrap_agrees_with_the_analysis():
    truth, scores = drawn(6, readers=6, cases=100, shift=(1.0, 1.4))
    found, boot = multi_reader_analysis(truth, scores), multi_reader_bootstrap(truth, scores, seed=0)
    analysed, resampled = found.comparisons[0].difference.interval(), boot.differences[0, 1]
    assert resampled.value == pytest.approx(analysed.value)
    # Resampled readers and cases vary more than theirs do (Gallas 2009): the bootstrap is the wider one.
    assert 0.9 < (resampled.high - resampled.low) / (analysed.high - analysed.low) < 1.5
    fixed = multi_reader_bootstrap(truth, scores, seed=0, fixed_readers=True).means[0]
    analysed = multi_reader_analysis(truth, scores, fixed_readers=True).means[0].interval()
    assert fixed.high - fixed.low == pytest.approx(analysed.high - analysed.low, rel=0.15)


def test_bootstrap_with_missing_scores():
    truth, scores = drawn(7)
    scores[0, 0, :30] = np.nan
    scores[1, 3] = np.nan
    found = multi_reader_bootstrap(truth, scores, seed=0, n=200)
    areas = [roc_auc_score(truth[30:], scores[0, 0, 30:]), *(roc_auc_score(truth, own) for own in scores[0, 1:])]
    assert found.means[0].value == pytest.approx(np.mean(areas))
    assert found.means[1].value == pytest.approx(np.mean([roc_auc_score(truth, own) for own in scores[1, :3]]))
    assert found == multi_reader_bootstrap(truth, scores, seed=0, n=200)


def test_published_sample_size():
    """Hillis, Obuchowski and Berbaum (2011), Van Dyke's difference: 6 readers need 251 cases for a power of 0.80."""
    powers = [power_of_difference(Study(ESTIMATED, 114, 6, cases), 0.04380032) for cases in (111, 250, 251)]
    assert powers[0] == pytest.approx(0.5526, abs=1e-4)
    assert powers[1] < 0.8 <= powers[2]


@pytest.mark.parametrize("arms", [1, 2])
def test_power_by_simulation(arms):
    """Figures of merit are drawn with known components; the analysis knows their covariances."""
    rng, readers, n, scale = np.random.default_rng(8), 5, 2000, 114 / 150
    known = ESTIMATED
    covariance = np.full((arms, readers, arms, readers), known.cov3)
    for arm in range(arms):
        covariance[arm, :, arm] = known.cov2
    for reader in range(readers):
        covariance[:, reader, :, reader] = known.cov1
        for arm in range(arms):
            covariance[arm, reader, arm, reader] = known.error
    covariance = scale * covariance.reshape(arms * readers, -1)
    shift, margin = 0.05, 0.07
    errors = rng.multivariate_normal(np.zeros(arms * readers), covariance, n).reshape(n, arms, readers)
    merits = 0.8 + errors + known.reader**0.5 * rng.normal(size=(n, 1, readers))
    if arms == 2:
        merits += known.arm_by_reader**0.5 * rng.normal(size=(n, arms, readers))
    merits[:, 0] += shift
    shaped = covariance.reshape(arms, readers, arms, readers)
    rejected = equivalent = 0
    for own in merits:
        found = obuchowski_rockette(own, shaped, 150)
        mean, reference = (found.means[0], 0.8) if arms == 1 else (found.comparisons[0].difference, 0.0)
        rejected += mean.p_value(reference) < 0.05
        equivalent += mean.equivalence_p(margin, reference) < 0.05
    study = Study(known, 114, readers, 150, arms)
    assert rejected / n == pytest.approx(power_of_difference(study, shift), abs=0.04)
    assert equivalent / n == pytest.approx(power_of_equivalence(study, margin, shift), abs=0.04)


def test_misuse_is_named():
    truth, scores = drawn(9)
    with pytest.raises(UserError, match=r"truth \(39,\) and scores \(2, 4, 40\)"):
        multi_reader_analysis(truth[:39], scores)
    with pytest.raises(UserError, match="0 positive and 40 negative cases"):
        multi_reader_analysis(truth * 0, scores)
    with pytest.raises(UserError, match="0 positive and 40 negative cases"):
        multi_reader_bootstrap(truth * 0, scores, seed=0)
    gap = scores.copy()
    gap[1, 2, 3] = np.nan
    with pytest.raises(UserError, match="1 of 320 scores are missing .* arm 1, reader 2, case 3"):
        multi_reader_analysis(truth, gap)
    with pytest.raises(UserError, match="one reader cannot stand for others"):
        multi_reader_analysis(truth, scores[:, :1])
    assert multi_reader_analysis(truth, scores[:, :1], fixed_readers=True).p <= 1
    with pytest.raises(UserError, match="merit accuracy needs a threshold"):
        multi_reader_analysis(truth, scores, merit="accuracy")
    with pytest.raises(UserError, match="merit auc takes no threshold"):
        multi_reader_analysis(truth, scores, threshold=1.0)
    with pytest.raises(UserError, match="covariance delong is for auc"):
        multi_reader_analysis(truth, scores, merit="accuracy", threshold=1.0, covariance="delong")
    with pytest.raises(UserError, match="unknown figure of merit 'youden'"):
        multi_reader_bootstrap(truth, scores, seed=0, merit="youden")
    scores[0] = np.nan
    with pytest.raises(UserError, match="no reader of arm 0 scored both positive"):
        multi_reader_bootstrap(truth, scores, seed=0)
    with pytest.raises(UserError, match="at least 2 readers"):
        Study(ESTIMATED, 114, 1, 100)
    with pytest.raises(UserError, match="difference of 0"):
        power_of_difference(Study(ESTIMATED, 114, 3, 100), 0)
    with pytest.raises(UserError, match="equivalence margin -1"):
        power_of_equivalence(Study(ESTIMATED, 114, 3, 100), -1)


@pytest.mark.parametrize("name", sorted(STRUCTURES))
def test_equal_arms_are_seldom_found_to_differ(name):
    """Roe and Metz' model; `python -m benchmarks reader_studies` draws more of them."""
    studies = [drawn_study(numpy_generator("null", name, k), STRUCTURES[name], 5, 60) for k in range(120)]
    rejected = sum(multi_reader_analysis(truth, scores).p < 0.05 for truth, scores in studies)
    # More than 13 of 120 occur with a probability below 0.004 if 5 % is right.
    assert rejected <= 13


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(STRUCTURES))
def test_the_test_has_its_size(name):
    n = 1000
    studies = (drawn_study(numpy_generator("size", name, k), STRUCTURES[name], 5, 100) for k in range(n))
    rejected = sum(multi_reader_analysis(truth, scores).p < 0.05 for truth, scores in studies)
    assert 0.02 * n <= rejected <= 0.075 * n, rejected
