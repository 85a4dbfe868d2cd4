import numpy as np
import pytest

from medloom.core.errors import UserError
from medloom.metrics import privacy as module
from medloom.metrics.privacy import authenticity, copy_rates, distance_ratio, nearest


def normals(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def names(prefix, count, images=1):
    return np.repeat([f"{prefix}{k}" for k in range(count)], images)


def report(synthetic, seed=0, **options):
    train, held_out = normals(0, 300, 16), normals(1, 400, 16)
    return copy_rates(train, held_out, synthetic, names("t", 100, 3), names("v", 200, 2), seed, **options)


def test_planted_copies_are_found():
    train = normals(0, 300, 16)
    planted = np.concatenate([normals(2, 190, 16), 5 * train[[7, 8, 9, 100]] + 1e-3, -train[:6]])
    found = report(planted)
    pairs = [(row, index) for row, index, _ in found.pairs]
    assert {(190, 7), (191, 8), (192, 9), (193, 100)} <= set(pairs)
    assert [cosine for _, _, cosine in found.pairs] == sorted((c for *_, c in found.pairs), reverse=True)
    assert found.pairs[0][2] > 0.999 and found.synthetic_rate == len(pairs) / 200
    assert found.patients_copied == len({index // 3 for _, index in pairs})  # 7 and 8 are of one patient
    assert found.excess.value == pytest.approx(found.synthetic_rate - found.held_out_rate)


def test_a_copying_generator_is_above_zero_and_an_honest_one_is_not():
    copying = report(normals(0, 300, 16)[:200] + 0.05 * normals(3, 200, 16))
    assert copying.synthetic_rate > 0.95 and copying.excess.low > 0.8
    honest = [report(normals(4 + k, 200, 16), seed=k).excess for k in range(20)]
    assert sum(excess.low <= 0 <= excess.high for excess in honest) >= 19
    assert abs(np.mean([excess.value for excess in honest])) < 0.01
    assert all(excess.low < 0 < excess.high for excess in honest if excess.value == 0)  # no interval of width 0


def test_clusters_count_once():
    copied = np.concatenate([np.repeat(normals(0, 300, 16)[:1], 100, axis=0), normals(5, 100, 16)])
    clusters = np.concatenate([np.zeros(100, int), np.arange(1, 101)])
    found = report(copied, synthetic_clusters=clusters)
    assert found.excess.value > 0.45 and found.excess_by_patient.value < 0.05 and found.patients_copied <= 4


def test_length_of_embeddings_and_chunks_do_not_matter(monkeypatch):
    synthetic = normals(6, 50, 16)
    plain = report(synthetic)
    monkeypatch.setattr(module, "CHUNK", 7)
    scaled = report(synthetic * np.linspace(0.1, 9, 50)[:, None])
    assert scaled.excess == plain.excess and scaled.threshold == pytest.approx(plain.threshold)


def test_nearest_by_hand():
    cosine, index = nearest(np.array([[1.0, 0.0], [0.6, 0.8]]), np.array([[0.0, 1.0], [0.8, 0.6], [-1.0, 0.0]]))
    assert index.tolist() == [1, 1] and cosine == pytest.approx([0.8, 0.96])


def test_misuse_is_named():
    x = normals(7, 8, 4)
    with pytest.raises(UserError, match=r"1 of them in the training set \(\['a'\]\)"):
        copy_rates(x, x, x, ["a"] * 8, ["a", "b", "c", "d"] * 2, 0)
    with pytest.raises(UserError, match="of 2 patients"):
        copy_rates(x, x, x, ["t"] * 8, ["a", "b"] * 4, 0)
    with pytest.raises(UserError, match="all zero"):
        copy_rates(x, x * 0, x, ["t"] * 8, names("v", 8), 0)
    with pytest.raises(UserError, match="one per row"):
        copy_rates(x, x, x, ["t"] * 7, names("v", 8), 0)


def test_authenticity_by_hand():
    angles = np.radians([0, 10, 90, 180])
    train = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    # The first two are one patient's, so another patient's image is 80 or 90 degrees away from them.
    asked = np.radians([2, 45, 51, 130])
    synthetic = np.stack([np.cos(asked), np.sin(asked)], axis=1)
    assert authenticity(train, synthetic, ["a", "a", "b", "c"]).tolist() == [False, False, False, False]
    # Without the twin's patient in common, 2 degrees off is still a copy of an image whose neighbour is 10 away.
    assert authenticity(train, synthetic, ["a", "d", "b", "c"]).tolist() == [False, True, False, False]


def test_a_copy_is_not_authentic_and_fresh_images_are_as_far_as_held_out_ones():
    train, held_out, fresh = normals(0, 300, 16), normals(1, 200, 16), normals(2, 250, 16)
    patients = np.arange(300)
    assert not authenticity(train, train[:50] * 3, patients).any()
    assert authenticity(train, fresh, patients).mean() == pytest.approx(
        authenticity(train, held_out, patients).mean(), abs=0.12
    )
    assert distance_ratio(train, held_out, fresh) == pytest.approx(1, abs=0.03)
    assert distance_ratio(train, held_out, train[:100]) == pytest.approx(0, abs=1e-6)
    with pytest.raises(UserError, match="at least two in all"):
        authenticity(train, fresh, ["a"] * 300)


def test_planted_copies_are_counted_and_listed():
    train, held_out, fresh = normals(0, 4000, 24), normals(1, 2000, 24), normals(2, 2000, 24)
    fresh[:100] = train[:100] + 0.05 * normals(3, 100, 24)
    found = copy_rates(train, held_out, fresh, np.arange(4000), np.arange(2000) + 4000, 0)
    assert found.excess.low < 0.05 < found.excess.high and found.excess.low > 0.03
    listed = {row for row, _, _ in found.pairs}
    assert len(listed & set(range(100))) >= 95 and len(listed - set(range(100))) <= 0.005 * 1900
