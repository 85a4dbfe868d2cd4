import numpy as np
import pytest

from medloom.core.errors import UserError
from medloom.metrics.classification import accuracy, auroc, auroc_by_class, f1_by_class, macro_f1


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


def test_several_labels():
    truth = np.array([[1, 0, np.nan], [0, 0, 1], [1, 0, 0], [0, 0, np.nan]])
    scores = np.array([[0.9, 0.1, 0.9], [0.2, 0.2, 0.3], [0.1, 0.3, 0.6], [0.3, 0.3, 0.1]])
    found = auroc_by_class(truth, scores, ["a", "b", "c"])
    # a: of four pairs of a positive and a negative two are right. b: no positive. c: its known pair is wrong.
    assert found.of["a"] == 0.5 and found.of["c"] == 0 and found.left_out == ("b",) and found.macro == 0.25
    predicted = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 1], [0, 0, 0]])
    f1 = f1_by_class(truth, predicted, ["a", "b", "c"])
    assert f1.of["a"] == pytest.approx(2 / 3) and f1.of["c"] == pytest.approx(2 / 3) and f1.left_out == ("b",)
    with pytest.raises(UserError, match="undefined for all of a"):
        auroc_by_class(truth[:, 1:2], scores[:, 1:2], ["a"])
    with pytest.raises(UserError, match="labels must be 0, 1, or nan"):
        auroc_by_class(truth - 1, scores, ["a", "b", "c"])
