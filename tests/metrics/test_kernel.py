import numpy as np
import pytest
import torch
from torchmetrics.image.kid import poly_mmd

from medloom.core.errors import UserError
from medloom.metrics.kernel import kernel_distance, squared_mmd


def normals(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def kernel(a, b):
    return (float(np.dot(a, b)) / len(a) + 1) ** 3


def test_by_hand():
    x, y = np.array([[1.0, 0], [0, 2.0]]), np.array([[1.0, 1], [0, 0], [2, 0]])
    within_x = kernel(x[0], x[1])
    within_y = np.mean([kernel(y[0], y[1]), kernel(y[0], y[2]), kernel(y[1], y[2])])
    between = np.mean([kernel(a, b) for a in x for b in y])
    assert squared_mmd(x, y) == pytest.approx(within_x + within_y - 2 * between, abs=1e-12)


def test_coordinates_in_a_subspace_have_the_distance_of_the_space():
    x, y = normals(1, 20, 3), normals(2, 25, 3) + 1
    turn = np.linalg.qr(normals(3, 40, 3))[0].T
    assert squared_mmd(x, y, 40) == pytest.approx(squared_mmd(x @ turn, y @ turn), rel=1e-9)


def test_in_closed_form():
    # For N(a, I) and N(b, I) in one dimension the kernel's expectation is that of (xy + 1)^3 for independent x and y.
    def expected(a, b):
        second = (1 + a * a) * (1 + b * b)
        third = (a**3 + 3 * a) * (b**3 + 3 * b)
        return third + 3 * second + 3 * a * b + 1

    truth = expected(0, 0) + expected(1, 1) - 2 * expected(0, 1)
    found = np.mean([squared_mmd(normals([1, k], 400, 1), normals([2, k], 400, 1) + 1) for k in range(60)])
    assert found == pytest.approx(truth, rel=0.05)


def test_unbiased_where_distributions_are_equal_at_any_size():
    small = [squared_mmd(normals([3, k], 10, 8), normals([4, k], 10, 8)) for k in range(2000)]
    assert abs(np.mean(small)) < 3 * np.std(small) / np.sqrt(len(small))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_invariances_and_agreement_with_torchmetrics(dtype):
    x, y = normals(5, 50, 16).astype(dtype), (normals(6, 50, 16) * 1.3 + 0.2).astype(dtype)
    order = np.random.default_rng(0).permutation(50)
    distance = squared_mmd(x, y)
    assert squared_mmd(y, x) == pytest.approx(distance, rel=1e-9)
    assert squared_mmd(x[order], y) == pytest.approx(distance, rel=1e-9)
    kernels = [torch.tensor((a.astype(float) @ b.T.astype(float) / 16 + 1) ** 3) for a, b in ((x, x), (x, y), (y, y))]
    from torchmetrics.image.kid import maximum_mean_discrepancy

    assert distance == pytest.approx(maximum_mean_discrepancy(*kernels).item(), rel=1e-6)
    assert poly_mmd(*(torch.tensor(z.astype(float)) for z in (x, y))).item() == pytest.approx(distance, rel=1e-6)


def test_subsets():
    found = kernel_distance(normals(7, 90, 4), normals(8, 60, 4) + 1, seed=0)
    assert found.size == 30 and found.mean > 3 * found.std / 10
    assert kernel_distance(normals(7, 90, 4), normals(8, 60, 4), seed=0, largest=10).size == 10
    with pytest.raises(UserError, match="four samples per set"):
        kernel_distance(normals(7, 3, 4), normals(8, 60, 4), seed=0)
