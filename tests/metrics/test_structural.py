import numpy as np
import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from medloom.core.errors import UserError
from medloom.metrics.structural import dice, ms_ssim, psnr, scales_of, ssim


def pair(*shape):
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, shape)
    return x, np.clip(x + 0.2 * rng.standard_normal(shape), 0, 1)


def tensors(*images):
    return [torch.from_numpy(image)[None] for image in images]


@pytest.mark.parametrize("shape", [(1, 32, 40), (3, 24, 24), (1, 6, 9), (1, 16, 18, 20), (2, 12, 12, 12)])
@pytest.mark.parametrize("data_range", [1.0, 2.0, 255.0])
def test_agree_with_torchmetrics(shape, data_range):
    x, y = pair(*shape)
    theirs = structural_similarity_index_measure(*tensors(x, y), data_range=data_range)
    assert ssim(x, y, data_range) == pytest.approx(theirs.item(), abs=1e-6)
    theirs = peak_signal_noise_ratio(*tensors(x, y), data_range=data_range)
    assert psnr(x, y, data_range) == pytest.approx(theirs.item(), abs=1e-4)


def test_by_hand():
    x = np.zeros((1, 12, 12))
    assert psnr(x, x + 0.2, 2.0) == pytest.approx(20.0)
    assert psnr(x, x, 2.0) == np.inf and ssim(x, x, 2.0) == 1.0
    a, b, c1 = 0.5, 0.25, (0.01 * 2) ** 2
    assert ssim(x + a, x + b, 2.0) == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1))  # no structure: eq. 6


def test_symmetry_scale_and_order():
    x, y = pair(1, 20, 20)
    assert ssim(x, y, 2.0) == pytest.approx(ssim(y, x, 2.0)) == pytest.approx(ssim(100 * x, 100 * y, 200.0))
    assert psnr(x, y, 2.0) == pytest.approx(psnr(100 * y, 100 * x, 200.0))
    assert ssim(x, y, 1.0) > 0 > ssim(x, 1 - x, 1.0)


def test_similarity_at_some_pixels_and_overlap_of_regions():
    x, y = pair(1, 30, 30)
    y[:, :15] = x[:, :15]
    where = np.zeros((30, 30), bool)
    where[:9] = True
    assert ssim(x, y, 1.0, where) == pytest.approx(1.0) and ssim(x, y, 1.0, ~where) < ssim(x, y, 1.0) < 1.0
    assert np.isnan(ssim(x, y, 1.0, where & False))
    one, other = np.array([1, 1, 1, 0], bool), np.array([0, 1, 0, 0], bool)
    assert dice(one, other) == 0.5 and dice(one, one) == 1.0 and np.isnan(dice(one & False, one & False))


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_misuse_is_named(measure):
    x, y = pair(1, 12, 12)
    with pytest.raises(UserError, match="must be equal"):
        measure(x, y[:, :6], 2.0)
    with pytest.raises(UserError, match="finite"):
        measure(x, y * np.nan, 2.0)
    with pytest.raises(UserError, match="data range, 0"):
        measure(x, y, 0)
    with pytest.raises(UserError, match="at least 6 pixels per axis"):
        ssim(x[:, :5], y[:, :5], 2.0)
    with pytest.raises(UserError, match="range starts at 0"):
        ssim(x - 0.5, y - 0.5, 2.0)


def test_scales_by_size():
    assert [scales_of((n, n)) for n in (10, 11, 20, 21, 160, 161, 512)] == [0, 1, 1, 2, 4, 5, 5]
    assert scales_of((512, 512, 30)) == 2


@pytest.mark.parametrize("shape", [(1, 40, 44), (2, 24, 26, 28)])
def test_ms_ssim_invariances(shape):
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, shape)
    y = np.clip(x + rng.normal(0, 0.1, shape), 0, 1)
    score = ms_ssim(x, y, 1.0)
    assert ms_ssim(x, x, 1.0) == pytest.approx(1) and 0 < score < 1
    assert ms_ssim(y, x, 1.0) == pytest.approx(score) and ms_ssim(255 * x, 255 * y, 255.0) == pytest.approx(score)
    assert ms_ssim(x[:, ::-1], y[:, ::-1], 1.0) == pytest.approx(score, abs=1e-3)
    assert ms_ssim(x, y, 1.0, scales=1) == pytest.approx(ssim(x, y, 1.0))
    assert ms_ssim(x, 1 - x, 1.0) == 0
    with pytest.raises(UserError, match="there is room for"):
        ms_ssim(x, y, 1.0, scales=5)


@pytest.mark.parametrize("shape", [(1, 200, 180), (1, 40, 44)])
def test_ms_ssim_agrees_with_torchmetrics(shape):
    import torch
    from scipy.ndimage import gaussian_filter
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as peer

    rng = np.random.default_rng(1)
    x = gaussian_filter(rng.uniform(0, 1, shape), (0, 2, 2))
    y = np.clip(x + rng.normal(0, 0.05, shape), 0, 1)
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333][: scales_of(shape[1:])])
    given = {"data_range": 1.0, "betas": tuple(weights / weights.sum()), "kernel_size": 11, "sigma": 1.5}
    theirs = peer(torch.tensor(x)[None], torch.tensor(y)[None], **given).item()
    # They leave the border out, we mirror it.
    assert ms_ssim(x, y, 1.0) == pytest.approx(theirs, abs=0.01)
