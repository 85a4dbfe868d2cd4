from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score
from torchmetrics.nominal import FleissKappa

import medloom.metrics
from medloom.core.errors import UserError
from medloom.metrics.agreement import (
    Rated,
    alpha,
    cohen_kappa,
    fleiss_kappa,
    gwet_ac,
    krippendorff_alpha,
    observed_agreement,
    percent_agreement,
    undefined,
)
from medloom.metrics.agreement_intervals import COEFFICIENTS, agreement_interval, rest_correlation_intervals
from medloom.metrics.rank_agreement import rest_correlation

N = np.nan
# Krippendorff, "Computing Krippendorff's alpha-reliability" (2011), section C; Gwet (2014) has the same data.
PUBLISHED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3],
        [N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N],
    ]
).T
# Fleiss (1971): numbers of 14 raters who gave each of 5 categories to 10 subjects.
FLEISS = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]


def ratings_of(counts):
    return np.array([np.repeat(range(len(row)), row) for row in counts], float)


def drawn(*seed, items=40, raters=4, missing=0.0, bias=0.5):
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(items, 1)) + bias * rng.normal(size=(1, raters)) + 0.7 * rng.normal(size=(items, raters))
    ratings = np.digitize(latent, (-0.8, 0.4)) + 1.0
    ratings[rng.random(ratings.shape) < missing] = np.nan
    return ratings


@pytest.mark.parametrize(("level", "value"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_the_published_example(level, value):
    assert krippendorff_alpha(PUBLISHED, level) == pytest.approx(value, abs=5e-4)
    reordered = PUBLISHED[::-1, ::-1]
    assert krippendorff_alpha(reordered, level) == pytest.approx(krippendorff_alpha(PUBLISHED, level))


@pytest.mark.parametrize(
    ("weights", "agreement", "kappa", "ac"),
    [
        ("none", 0.818, 0.761, 0.775),
        ("linear", 0.939, 0.818, 0.859),
        ("ordinal", 0.968, 0.850, 0.899),
        ("quadratic", 0.975, 0.865, 0.914),
    ],
)
def test_gwets_published_example(weights, agreement, kappa, ac):
    assert percent_agreement(PUBLISHED, weights) == pytest.approx(agreement, abs=5.1e-4)
    assert fleiss_kappa(PUBLISHED, weights) == pytest.approx(kappa, abs=5.1e-4)
    assert gwet_ac(PUBLISHED, weights) == pytest.approx(ac, abs=5.1e-4)


def test_fleiss_kappa_of_the_published_table():
    assert fleiss_kappa(ratings_of(FLEISS)) == pytest.approx(0.210, abs=5e-4)
    peer = FleissKappa(mode="counts")
    assert fleiss_kappa(ratings_of(FLEISS)) == pytest.approx(
        float(peer(torch.tensor(FLEISS))), abs=1e-5
    )  # it adds 1e-5 to the denominator


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
def test_cohen_is_scikit_learns_mean_over_pairs(weights):
    ratings = drawn(1)
    peers = [
        cohen_kappa_score(
            ratings[:, i], ratings[:, j], labels=[1, 2, 3], weights=None if weights == "none" else weights
        )
        for i in range(4)
        for j in range(i)
    ]
    assert cohen_kappa(ratings, weights, categories=(1, 2, 3)) == pytest.approx(np.mean(peers), abs=1e-12)


def test_alpha_and_kappa_are_alike_with_many_complete_ratings():
    """With the same number of ratings per item they differ by one part in the number of ratings (Krippendorff 2011)."""
    ratings = drawn(2, items=2000)
    assert krippendorff_alpha(ratings, "nominal") == pytest.approx(fleiss_kappa(ratings), abs=2e-4)
    assert krippendorff_alpha(ratings, "interval") == pytest.approx(fleiss_kappa(ratings, "quadratic"), abs=2e-4)


def test_correlation_with_the_others_is_scipys():
    ratings = drawn(3)
    others = [np.delete(ratings, k, axis=1).mean(axis=1) for k in range(4)]
    peers = [spearmanr(ratings[:, k], others[k]).statistic for k in range(4)]
    assert rest_correlation(ratings) == pytest.approx(peers, abs=1e-12)
    ratings[5, 1], ratings[7, 2] = np.nan, np.nan
    rows = ~np.isnan(ratings[:, 1])
    peer = spearmanr(ratings[rows, 1], np.nanmean(np.delete(ratings, 1, axis=1)[rows], axis=1)).statistic
    assert rest_correlation(ratings)[1] == pytest.approx(peer, abs=1e-12)


def test_order_is_known_where_levels_are_not():
    """Raters of MR image quality had kappa .12 but a correlation of .57 with the mean: strictness is no disorder."""
    strict = np.array([[1, 2], [1, 2], [2, 3], [2, 3]] * 5)
    assert cohen_kappa(strict) < 0 and percent_agreement(strict) == 0
    assert rest_correlation(strict) == pytest.approx([1, 1])


def test_all_ratings_of_one_level():
    same = np.full((6, 3), 2.0)
    for kappa in (cohen_kappa, fleiss_kappa, krippendorff_alpha):
        assert np.isnan(kappa(same))
    assert np.isnan(rest_correlation(same)).all()
    for weights in ("none", "quadratic"):
        assert gwet_ac(same, weights) == gwet_ac(same, weights, categories=(1, 2, 3)) == 1
    assert percent_agreement(same) == 1
    assert undefined(same) == "all ratings are 2: there is no agreement by chance to compare with"
    assert undefined(PUBLISHED) == ""


def test_kappa_falls_where_nearly_all_are_of_one_level():
    ratings = np.ones((50, 3))
    ratings[0, 0] = ratings[1, 1] = 2
    assert percent_agreement(ratings) > 0.97 and gwet_ac(ratings) > 0.97
    assert fleiss_kappa(ratings) < 0.01 and krippendorff_alpha(ratings) < 0.02


def test_a_pair_of_one_level_has_no_kappa_and_does_not_count():
    ratings = np.array([[1, 1, 1], [1, 1, 2], [1, 1, 2], [1, 1, 1]])
    assert cohen_kappa(ratings) == pytest.approx(0)
    assert cohen_kappa(ratings[:, 1:]) == pytest.approx(0)


@pytest.mark.parametrize("measure", sorted(COEFFICIENTS))
def test_items_of_one_rater_change_prevalence_only(measure):
    alone = np.full((5, 4), np.nan)
    alone[:, 0] = 2
    with_alone = np.concatenate([PUBLISHED, alone])
    same = measure in ("percent_agreement", "cohen_kappa", "krippendorff_alpha")
    one, other = (getattr(medloom.metrics, measure)(ratings) for ratings in (PUBLISHED, with_alone))
    assert (one == pytest.approx(other)) is same


def test_intervals_are_the_measures_own_and_reproducible():
    ratings = drawn(4, missing=0.1)
    for measure, options in (("gwet_ac", {"weights": "quadratic"}), ("krippendorff_alpha", {"level_of": "ordinal"})):
        found = agreement_interval(measure, ratings, seed=0, n=200, **options)
        assert found.low < found.value < found.high
        assert found == agreement_interval(measure, ratings, seed=0, n=200, **options)
        fixed = agreement_interval(measure, ratings, seed=0, n=200, fixed_raters=True, **options)
        assert fixed.value == found.value and fixed.high - fixed.low < found.high - found.low
    assert agreement_interval("gwet_ac", ratings[:, :2], seed=0, n=50) == agreement_interval(
        "gwet_ac", ratings[:, :2], seed=0, n=50, fixed_raters=True
    )


def test_a_rater_who_counts_twice_is_not_compared_with_itself():
    disagreeing = Rated.of(np.array([[1, 2], [2, 1], [1, 2]]))
    twice = replace(disagreeing, raters=np.array([3.0, 1.0]))
    assert observed_agreement(twice) == 0
    assert alpha(twice, "nominal") < 0


def test_rest_correlations_have_intervals_over_items():
    found = rest_correlation_intervals(drawn(5, bias=0), seed=0, n=200)
    assert len(found) == 4 and all(one.low < one.value < one.high <= 1 for one in found)
    assert [one.value for one in found] == pytest.approx(rest_correlation(drawn(5, bias=0)))


def test_without_a_coefficient_there_is_no_interval():
    same = np.full((6, 3), 2.0)
    found = agreement_interval("fleiss_kappa", same, seed=0)
    assert np.isnan([found.value, found.low, found.high]).all() and found.n == 6
    rare = np.ones((10, 3))
    rare[0, 0] = 2  # a third of the resamples lack it
    found = agreement_interval("krippendorff_alpha", rare, seed=0)
    assert np.isfinite(found.value) and np.isnan([found.low, found.high]).all()
    assert agreement_interval("gwet_ac", same, seed=0).low == 1


@pytest.mark.slow
@pytest.mark.parametrize(("items", "raters"), [(40, 3), (40, 5), (100, 8)])
def test_intervals_cover(items, raters):
    """Nominal 95 %, for other items and other raters."""
    truth = np.mean([gwet_ac(drawn(6, k, items=800, raters=40), "quadratic") for k in range(40)])
    hits = 0
    for trial in range(100):
        ratings = drawn(7, items, raters, trial, items=items, raters=raters)
        found = agreement_interval("gwet_ac", ratings, seed=trial, n=300, weights="quadratic")
        hits += found.low <= truth <= found.high
    assert hits >= 85


def test_misuse_is_named():
    with pytest.raises(UserError, match="at least two raters"):
        percent_agreement(np.ones((4, 1)))
    with pytest.raises(UserError, match="no item of 2 was rated by two of the 2 raters"):
        gwet_ac(np.array([[1, N], [N, 2]]))
    with pytest.raises(UserError, match="rating 4 of item 1 by rater 0; allowed are 1, 2, 3"):
        gwet_ac(np.array([[1, 2], [4, 2]]), categories=(1, 2, 3))
    with pytest.raises(UserError, match="rating inf of item 1"):
        fleiss_kappa(np.array([[1, 2], [np.inf, 2]]))
    with pytest.raises(UserError, match="unknown weights 'square'"):
        cohen_kappa(PUBLISHED, "square")
    with pytest.raises(UserError, match="unknown level of measurement 'ratio'"):
        krippendorff_alpha(PUBLISHED, "ratio")
    with pytest.raises(UserError, match="unknown measure of agreement 'kappa'"):
        agreement_interval("kappa", PUBLISHED, seed=0)
