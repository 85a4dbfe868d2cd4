import numpy as np
import pytest

from medloom.core.errors import UserError
from medloom.metrics.retrieval import retrieved


def test_what_is_near_is_found():
    gallery = np.eye(6)
    queries = gallery[[2, 4]] + 0.1
    assert retrieved(queries, gallery, ["c", "e"], list("abcdef"), k=1).tolist() == [1, 1]
    assert retrieved(queries, gallery, ["a", "e"], list("abcdef"), k=1).tolist() == [0, 1]


def test_a_constant_encoder_gets_chance():
    hits = retrieved(np.ones((50, 3)), np.ones((40, 3)), ["a"] * 50, ["a"] + ["b"] * 39, k=10)
    assert hits.mean() == pytest.approx(10 / 40)


def test_random_embeddings_get_chance_and_keys_with_several_entries_more():
    rng = np.random.default_rng(0)
    queries, gallery = rng.standard_normal((3000, 8)), rng.standard_normal((100, 8))
    keys = [str(n) for n in rng.integers(0, 100, 3000)]
    assert retrieved(queries, gallery, keys, [str(n) for n in range(100)]).mean() == pytest.approx(0.1, abs=0.02)
    pairs = [str(n // 2) for n in range(100)]
    keys = [str(n) for n in rng.integers(0, 50, 3000)]
    assert retrieved(queries, gallery, keys, pairs).mean() == pytest.approx(1 - 0.9 * 89 / 99, abs=0.025)


def test_mistakes():
    x = np.eye(3)
    with pytest.raises(UserError, match="have no match in the gallery, e.g. 'z'"):
        retrieved(x, x, ["a", "b", "z"], ["a", "b", "c"], k=1)
    with pytest.raises(UserError, match="k below the number of entries"):
        retrieved(x, x, ["a", "b", "c"], ["a", "b", "c"], k=3)
