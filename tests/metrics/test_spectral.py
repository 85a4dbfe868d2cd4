"""Fine detail: waves of a known frequency, white noise, blur, and an independent spectrum."""

import numpy as np
import pytest
from scipy import ndimage, signal

from medloom.core.errors import UserError
from medloom.metrics import fine_detail


def wave(frequency: float, size: int = 64, amplitude: float = 1.0) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(size))[None, :, None] * np.ones((1, 1, size))


def test_waves_of_a_known_frequency() -> None:
    assert fine_detail(wave(0.125)) < 1e-3 and fine_detail(wave(0.375)) > 0.999
    assert fine_detail(wave(0.125) + wave(0.375)) == pytest.approx(0.5, abs=0.01)
    assert fine_detail(wave(0.125) + wave(0.375, amplitude=3)) == pytest.approx(0.9, abs=0.01)
    # A diagonal wave of 0.2 along each axis has 0.28 cycles a pixel.
    both = 2 * np.pi * 0.2 * (np.arange(64)[:, None] + np.arange(64))
    assert fine_detail(np.sin(both)[None]) > 0.99


def test_white_noise_has_the_area_of_its_frequencies() -> None:
    noise = np.random.default_rng(0).standard_normal((4, 256, 256))
    assert fine_detail(noise) == pytest.approx(1 - np.pi * 0.25**2, abs=0.01)
    volume = np.random.default_rng(0).standard_normal((1, 48, 48, 48))
    assert fine_detail(volume) == pytest.approx(1 - 4 / 3 * np.pi * 0.25**3, abs=0.01)


def test_brightness_and_contrast_do_not_change_it_and_blur_lowers_it() -> None:
    image = np.random.default_rng(1).standard_normal((1, 64, 64))
    plain = fine_detail(image)
    assert fine_detail(7 * image + 90) == pytest.approx(plain, rel=1e-9)
    assert fine_detail(ndimage.gaussian_filter(image, (0, 1, 1))) < plain / 5
    assert fine_detail(np.full((1, 16, 16), 3.0)) == 0


def test_it_agrees_with_an_independent_spectrum() -> None:
    line = np.random.default_rng(2).standard_normal(256)
    frequencies, power = signal.periodogram(line - line.mean(), window="hann", detrend=False)
    expected = power[frequencies > 0.25].sum() / power.sum()
    assert fine_detail(np.repeat(line[None, :, None], 256, 2)) == pytest.approx(expected, abs=0.01)


def test_misuse_is_named() -> None:
    with pytest.raises(UserError, match="at least 8 pixels"):
        fine_detail(np.zeros((1, 4, 64)))
    with pytest.raises(UserError, match="above 0 and below 0.5"):
        fine_detail(np.zeros((1, 64, 64)), 0.5)
