"""The usual public implementations: torchmetrics' FD and KID, and PRDC and Vendi written over whole matrices."""

import numpy as np
import torch
from sklearn.metrics import pairwise_distances
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_mmd

SUBSETS, SUBSET, NEIGHBOURS = 100, 1000, 5


def run(x: np.ndarray, y: np.ndarray) -> list[float]:
    """FD, KID, precision, recall, density, coverage, Vendi of features `(n, d)`; y is synthetic."""
    one, other = torch.from_numpy(x).double(), torch.from_numpy(y).double()
    fd = float(_compute_fid(one.mean(0), torch.cov(one.T), other.mean(0), torch.cov(other.T)))
    return [fd, _kid(torch.from_numpy(x), torch.from_numpy(y)), *_prdc(x, y), _vendi(y)]


def _kid(x: torch.Tensor, y: torch.Tensor) -> float:
    values = []
    for _ in range(SUBSETS):
        parts = [features[torch.randperm(len(features))[:SUBSET]] for features in (x, y)]
        values.append(float(poly_mmd(*parts)))
    return float(np.mean(values))


def _prdc(real: np.ndarray, fake: np.ndarray) -> list[float]:
    def reach(features: np.ndarray) -> np.ndarray:
        distances = pairwise_distances(features, features, metric="euclidean", n_jobs=-1)
        return np.partition(distances, NEIGHBOURS, axis=-1)[:, NEIGHBOURS]

    real_reach, fake_reach = reach(real), reach(fake)
    between = pairwise_distances(real, fake, metric="euclidean", n_jobs=-1)
    precision = (between < real_reach[:, None]).any(axis=0).mean()
    recall = (between < fake_reach[None]).any(axis=1).mean()
    density = (between < real_reach[:, None]).sum(axis=0).mean() / NEIGHBOURS
    coverage = (between.min(axis=1) < real_reach).mean()
    return [float(value) for value in (precision, recall, density, coverage)]


def _vendi(features: np.ndarray) -> float:
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(unit @ unit.T / len(unit))
    values = values[values > 0]
    return float(np.exp(-np.sum(values * np.log(values))))
