import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medloom.core.errors import UserError
from medloom.metrics.counterfactual import cmig
from medloom.metrics.membership import detected, detected_by_chance, membership_auc


def patients(prefix, n):
    return [f"{prefix}{k}" for k in range(n)]


def test_separable_and_inseparable_scores():
    rng = np.random.default_rng(0)
    members, others = rng.standard_normal(300), rng.standard_normal(300)
    sides = patients("m", 300), patients("o", 300)
    nothing = membership_auc(members, others, *sides)
    assert nothing.low < 0.5 < nothing.high and nothing.n == 600
    # Normals one standard deviation apart have AUC Phi(1 / sqrt 2) = 0.760.
    told = membership_auc(members + 1, others, *sides)
    assert told.low < 0.760 < told.high and told.low > 0.65
    assert membership_auc(np.ones(9), np.zeros(9), patients("m", 9), patients("o", 9)).value == 1


def test_the_interval_covers():
    covered = 0
    for k in range(40):
        rng = np.random.default_rng(k)
        found = membership_auc(
            rng.standard_normal(80) + 1, rng.standard_normal(80), patients("m", 80), patients("o", 80)
        )
        covered += found.low <= 0.7602 <= found.high
    assert covered >= 36


def test_detection_at_few_false_positives():
    ties = membership_auc(np.array([1.0, 2]), np.array([1.0, 0]), ["a", "b"], ["c", "d"])
    assert ties.value == roc_auc_score([1, 1, 0, 0], [1, 2, 1, 0])
    others = np.arange(100.0)
    # One of the hundred may be above: the threshold is the second highest, 98.
    assert detected(np.array([97.5, 98.5, 99.5, 120]), others, 0.01) == pytest.approx(0.75)
    rng = np.random.default_rng(1)
    assert detected(rng.standard_normal(20000), rng.standard_normal(20000), 0.01) == pytest.approx(0.01, abs=0.004)
    with pytest.raises(UserError, match="give 1000 others or more"):
        detected(np.ones(50), others, 0.001)


@pytest.mark.parametrize(("members", "others"), [(500, 100), (500, 200), (100, 1000)])
def test_what_is_found_by_chance_lies_in_its_range(members, others):
    sides, above, found = (patients("m", members), patients("o", others)), 0, []
    for k in range(400):
        rng = np.random.default_rng(k)
        scores = rng.standard_normal(members), rng.standard_normal(others)
        found.append(detected(*scores, 0.01))
    chance = detected_by_chance(*scores, *sides, 0.01, seed=0)
    allowed = others // 100
    assert chance.value == pytest.approx((allowed + 1) / (others + 1)) and chance.n == others
    assert np.mean(found) == pytest.approx(chance.value, rel=0.2)
    above = np.mean(np.array(found) > chance.high)
    # At most 2.5 % by definition; of 400 that is at most 19 with a probability of 99 %.
    assert above <= 19 / 400 and np.mean(np.array(found) < chance.low) <= 19 / 400


def test_permuted_patients_give_the_exact_range_and_a_wider_one_for_their_images():
    rng = np.random.default_rng(2)
    own = rng.standard_normal(1000)
    exact = detected_by_chance(own[:500], own[500:], patients("m", 500), patients("o", 500), 0.01, 0)
    # One patient has two images, so that patients are permuted; the images of the others are alone.
    nearly = detected_by_chance(own[:500], own[500:], ["m0", *patients("m", 499)], patients("o", 500), 0.01, 0)
    assert (nearly.value, nearly.high) == pytest.approx((exact.value, exact.high), rel=0.15)
    alike = detected_by_chance(
        own[:100].repeat(5),
        own[500:600].repeat(5),
        np.repeat(patients("m", 100), 5),
        np.repeat(patients("o", 100), 5),
        0.01,
        0,
    )
    assert alike.high > 1.3 * exact.high


def test_a_patient_on_both_sides():
    with pytest.raises(UserError, match="1 patients are both members and not"):
        membership_auc(np.ones(2), np.zeros(2), ["a", "b"], ["b", "c"])


def test_composite_as_quoted():
    assert cmig(0.64, 0.81, 1) == pytest.approx((0.64 * 0.9) ** 0.5)
    with pytest.raises(UserError, match="report the components"):
        cmig(0.9, 0.9, -0.1)
