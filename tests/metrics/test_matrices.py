"""The metrics of large sets give the same on a GPU as in NumPy, whatever computes the matrices."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch

from medloom.metrics import diversity, frechet, kernel, matrices, neighbours, privacy
from medloom.metrics.matrices import computing_on, placed

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
SETS = {
    "more samples than dimensions": (300, 12),
    "fewer samples than dimensions": (30, 60),
}


def features(shape: tuple[int, int], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape) + 0.3 * seed


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], object]] = {
    "frechet": frechet.frechet_distance,
    "kid": partial(kernel.kernel_distance, seed=0, subsets=3),
    "mmd": kernel.squared_mmd,
    "prdc": neighbours.prdc,
    "vendi": lambda x, y: diversity.vendi_score(y),
    "authenticity": lambda x, y: privacy.authenticity(x, y, np.arange(len(x)) % 7).mean(),
    "distances": lambda x, y: privacy.train_distances(x, y).tolist(),
}


def numbers(told: object) -> list[float]:
    return np.array(list(vars(told).values()) if hasattr(told, "__dict__") else told, float).ravel().tolist()


@pytest.mark.parametrize("shape", SETS.values(), ids=SETS)
@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=on_a_gpu)])
def test_tensors_give_what_arrays_give(monkeypatch, metric, shape, device):
    x, y = features(shape, 0), features(shape, 1)
    expected = numbers(metric(x, y))
    for module in (diversity, frechet, kernel, neighbours, privacy):
        monkeypatch.setattr(module, "placed", lambda work, *arrays: [matrices.moved(a, device) for a in arrays])
    assert numbers(metric(x, y)) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@on_a_gpu
def test_large_sets_go_to_the_gpu_by_default():
    x = np.zeros((10, 10), np.float32)
    assert placed(1e12, x)[0].is_cuda
    assert isinstance(placed(1e3, x)[0], np.ndarray)
    with computing_on("cpu"):
        assert isinstance(placed(1e12, x)[0], np.ndarray)
    assert placed(1e12, x)[0].is_cuda


def test_without_a_gpu_arrays_stay(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    x = np.zeros((10, 10), np.float32)
    assert placed(1e12, x)[0] is x


def test_an_unknown_device_is_refused():
    with pytest.raises(ValueError, match="allowed are auto, cpu, cuda"), computing_on("tpu"):
        pytest.fail("not reached")
