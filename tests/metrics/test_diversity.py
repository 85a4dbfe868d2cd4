import numpy as np
import pytest

from medloom.core.errors import UserError
from medloom.metrics.diversity import vendi_score
from medloom.metrics.inception import inception_score


def normals(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def test_vendi_counts_different_samples():
    assert vendi_score(np.ones((7, 3))) == pytest.approx(1)
    assert vendi_score(np.eye(5)) == pytest.approx(5)
    assert vendi_score(np.repeat(np.eye(4), 25, axis=0)) == pytest.approx(4)
    # Half of them one sample, half another: exp of the entropy of (3/4, 1/4).
    shares = np.array([0.75, 0.25])
    unequal = np.repeat(np.eye(2), [75, 25], axis=0)
    assert vendi_score(unequal) == pytest.approx(np.exp(-np.sum(shares * np.log(shares))))


@pytest.mark.parametrize(("n", "d"), [(30, 8), (8, 30), (20, 20)])
def test_vendi_equals_its_definition_and_does_not_depend_on_order_length_or_dtype(n, d):
    x = normals([n, d], n, d)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(unit @ unit.T / n)
    values = values[values > 1e-12]
    score = vendi_score(x)
    assert score == pytest.approx(np.exp(-np.sum(values * np.log(values))), rel=1e-9)
    assert vendi_score(x[::-1] * 7) == pytest.approx(score, rel=1e-9)
    assert vendi_score(x.astype(np.float32)) == pytest.approx(score, rel=1e-5)
    with pytest.raises(UserError, match="all zero"):
        vendi_score(np.zeros((n, d)))


def test_inception_score():
    classes = np.eye(4)[np.arange(400) % 4]
    # In splits of 40 the classes are not quite equal.
    assert inception_score(classes, seed=0).mean == pytest.approx(4, rel=0.08)
    assert inception_score(classes, seed=0, splits=1).mean == pytest.approx(4)
    assert inception_score(np.full((40, 4), 0.25), seed=0).mean == pytest.approx(1)
    assert inception_score(np.eye(4)[[0] * 40], seed=0).mean == pytest.approx(1)
    # By hand: rows (0.9, 0.1) and (0.1, 0.9) have KL 0.9 ln 1.8 + 0.1 ln 0.2 to their mean.
    rows = np.array([[0.9, 0.1], [0.1, 0.9]] * 10)
    assert inception_score(rows, seed=0, splits=1).mean == pytest.approx(np.exp(0.9 * np.log(1.8) + 0.1 * np.log(0.2)))


def test_inception_score_of_sorted_files_is_that_of_shuffled_ones():
    sorted_classes = np.repeat(np.eye(4), 100, axis=0)
    assert inception_score(sorted_classes, seed=1).mean == pytest.approx(4, rel=0.08)


def test_inception_score_agrees_with_torchmetrics():
    import torch
    from torchmetrics.image.inception import InceptionScore

    torch.manual_seed(0)
    logits = normals(3, 600, 5) * 2

    class Given(torch.nn.Module):
        def forward(self, x):
            return x

    peer = InceptionScore(feature=Given(), splits=1)
    peer.update(torch.tensor(logits))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert inception_score(probabilities, seed=0, splits=1).mean == pytest.approx(peer.compute()[0].item(), rel=1e-5)
    with pytest.raises(UserError, match="not its logits"):
        inception_score(logits, seed=0)
