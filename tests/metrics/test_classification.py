import numpy as np
import pytest

from medloom.core.errors import UserError
from medloom.metrics.classification import accuracy, auroc, macro_f1


def test_by_hand():
    truth, predicted = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 0])
    assert accuracy(truth, predicted) == pytest.approx(3 / 5)
    assert macro_f1(truth, predicted) == pytest.approx((1 / 2 + 4 / 5 + 0) / 3)
    assert auroc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])) == pytest.approx(3 / 4)
    assert auroc(np.array([False, True]), np.array([1.0, 1.0])) == 0.5


def test_names_as_labels():
    assert accuracy(np.array(["CT", "MR"]), np.array(["CT", "CT"])) == 0.5


def test_auroc_depends_on_order_alone():
    rng = np.random.default_rng(0)
    truth, scores = rng.integers(0, 2, 100), rng.standard_normal(100)
    assert auroc(truth, np.exp(scores)) == auroc(truth, scores) == pytest.approx(1 - auroc(1 - truth, scores))


@pytest.mark.parametrize(
    ("truth", "scores", "words"),
    [
        ([1, 1], [0.1, 0.2], r"AUROC of labels \[1\]"),
        ([0, 2], [0.1, 0.2], r"AUROC of labels \[0, 2\]"),
        ([0, 1], [0.1, np.nan], "1 of 2 AUROC scores"),
        ([0, 1], [0.1], "give"),
        ([], [], "give"),
    ],
)
def test_misuse_is_named(truth, scores, words):
    with pytest.raises(UserError, match=words):
        auroc(np.array(truth), np.array(scores))
