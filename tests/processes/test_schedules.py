import pytest
import torch
from diffusers import DDPMScheduler

from medloom.processes.paths import SCHEDULES, min_snr_weight


@pytest.mark.parametrize(
    ("name", "theirs", "ends"),
    [
        ("linear", "linear", (1e-4, 0.02)),
        ("scaled-linear", "scaled_linear", (0.00085, 0.012)),
        ("cosine", "squaredcos_cap_v2", (1e-4, 0.02)),
    ],
)
@pytest.mark.parametrize("steps", [10, 1000])
def test_schedules_equal_diffusers(name, theirs, ends, steps):
    scheduler = DDPMScheduler(steps, beta_schedule=theirs, beta_start=ends[0], beta_end=ends[1])
    betas = SCHEDULES[name](steps)
    assert betas.dtype == torch.float64 and betas.shape == (steps,)
    torch.testing.assert_close(betas.float(), scheduler.betas, atol=1e-6, rtol=1e-4)


def test_cosine_is_clipped():
    assert SCHEDULES["cosine"](1000).max() == 0.999


def test_min_snr_weight_by_hand():
    snr = torch.tensor([0.5, 5.0, 20.0], dtype=torch.float64)
    torch.testing.assert_close(min_snr_weight(snr, 5, "epsilon"), torch.tensor([1.0, 1.0, 0.25]).double())
    torch.testing.assert_close(min_snr_weight(snr, 5, "v"), torch.tensor([0.5 / 1.5, 5 / 6, 5 / 21]).double())
