from dataclasses import astuple

import numpy as np
import pytest
from sklearn.metrics import pairwise_distances

from medloom.core.errors import UserError
from medloom.metrics import matrices
from medloom.metrics.neighbours import PRDC, prdc


def normals(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def definition(real, fake, k):
    between = pairwise_distances(real, fake)
    reach = [np.sort(pairwise_distances(x), axis=1)[:, k] for x in (real, fake)]
    inside = between <= reach[0][:, None]
    return PRDC(
        precision=inside.any(0).mean(),
        recall=(between <= reach[1]).any(1).mean(),
        density=inside.sum(0).mean() / k,
        coverage=inside.any(1).mean(),
    )


def test_by_hand():
    real, fake = np.array([[0.0], [1.0], [3.0]]), np.array([[0.5], [10.0], [10.5]])
    # k = 1: real reaches 1, 1, 2; fake reaches 9.5, 0.5, 0.5. Only 0.5 lies in real balls: in those of 0 and 1 (not 3).
    assert prdc(real, fake, k=1) == PRDC(precision=1 / 3, recall=1.0, density=2 / 3, coverage=2 / 3)


@pytest.mark.parametrize("chunk", [7, 1024])
def test_equals_the_definition_in_any_chunks(monkeypatch, chunk):
    monkeypatch.setattr(matrices, "CHUNK", chunk)
    real, fake = normals(0, 60, 4) + 100, 0.8 * normals(1, 45, 4) + 100.5
    assert astuple(prdc(real, fake)) == pytest.approx(astuple(definition(real, fake, 5)), abs=1e-12)


def test_equal_collapsed_and_distant_sets():
    real = normals(2, 300, 3)
    same = prdc(real, normals(3, 300, 3))
    assert same.precision > 0.9 and same.recall > 0.9 and same.coverage > 0.9 and 0.85 < same.density < 1.15
    collapsed = prdc(real, 0.01 * normals(4, 300, 3))
    assert collapsed.precision == 1 and collapsed.recall < 0.1 and collapsed.coverage < 0.2
    assert prdc(real, real + 1000) == PRDC(0, 0, 0, 0)


def test_unusable_k():
    with pytest.raises(UserError, match="k = 5 neighbours in sets of 5 and 9"):
        prdc(normals(5, 5, 2), normals(6, 9, 2))
