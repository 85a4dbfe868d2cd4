import json
from dataclasses import replace

import pytest
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler

from medloom.core.errors import UserError
from medloom.core.seeds import torch_generator
from medloom.processes.paths import DDPM, RectifiedFlow, apply_noise_offset, path_from_dict

ALL_PATHS = [
    DDPM(),
    DDPM(schedule="cosine", prediction="v"),
    DDPM(schedule="linear", steps=20),
    RectifiedFlow(shift=3),
]


def draws(*names, shape=(5, 2, 4, 4, 4)):
    return [torch.randn(shape, generator=torch_generator(name)) for name in names]


@pytest.mark.parametrize("path", ALL_PATHS, ids=str)
def test_the_target_leads_back_to_data_and_noise(path):
    x0, noise = draws("x0", "noise")
    t = path.draw_time(torch.tensor([0.05, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64))
    x_t, target = path.add_noise(x0, noise, t), path.target(x0, noise, t)
    error = (path.to_x0(target, x_t, t) - x0) * path.levels(t, x0)[0]
    assert x_t.dtype == torch.float32 and error.abs().max() < 1e-5
    error = (path.to_noise(target, x_t, t) - noise) * path.levels(t, x0)[1]
    assert error.abs().max() < 1e-5


@pytest.mark.parametrize("path", ALL_PATHS, ids=str)
def test_noise_levels_grow_with_time(path):
    t = path.draw_time(torch.linspace(0.001, 0.999, 15, dtype=torch.float64))
    assert (path.sigma(t).diff() > 0).all() and (path.alpha(t).diff() < 0).all()
    assert path.weight(t).shape == t.shape and path.weight(t).dtype == torch.float32


@pytest.mark.parametrize("path", [*ALL_PATHS, DDPM(prediction="v")], ids=str)
def test_preconditioning_leaves_the_network_what_is_not_linear_in_the_noisy_image(path):
    """For normal data the best prediction is linear, so that an output of 0 is it, and what is left has scale 1."""
    std = 0.4
    path = replace(path, data_std=std)
    x0, noise = draws("x0", "noise", shape=(5, 1, 400, 400))
    x0 = x0 * std
    t = path.draw_time(torch.tensor([0.05, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64))
    x_t, target = path.add_noise(x0, noise, t), path.target(x0, noise, t)
    nothing, ones = torch.zeros_like(x_t), torch.ones_like(x_t)
    left = target - path.predicted(nothing, x_t, t)
    scale = (path.predicted(ones, x_t, t) - path.predicted(nothing, x_t, t)).flatten(1)[:, 0]
    assert ((left * x_t).flatten(1).mean(1).abs() < 0.01).all()
    torch.testing.assert_close(left.flatten(1).std(1), scale, rtol=0.02, atol=1e-3)


def test_without_a_deviation_of_the_data_an_output_is_the_prediction():
    output, x_t = draws("output", "x_t")
    assert RectifiedFlow().predicted(output, x_t, torch.full((5,), 0.5)) is output
    assert path_from_dict({"path": "flow"}).data_std == 0.0, "as runs of before have it"
    with pytest.raises(UserError, match="data_std -1"):
        DDPM(data_std=-1)


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_ddpm_noise_and_target_equal_diffusers(prediction):
    path = DDPM(prediction=prediction)
    theirs = DDPMScheduler(1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    x0, noise = draws("x0", "noise")
    t = torch.tensor([0, 10, 400, 800, 999])
    torch.testing.assert_close(path.add_noise(x0, noise, t), theirs.add_noise(x0, noise, t), atol=1e-5, rtol=0)
    expected = noise if prediction == "epsilon" else theirs.get_velocity(x0, noise, t)
    torch.testing.assert_close(path.target(x0, noise, t), expected, atol=1e-5, rtol=0)


def test_ddpm_times_are_equally_likely_steps():
    u = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    assert torch.equal(DDPM().draw_time(u), torch.arange(1000))
    assert torch.equal(DDPM(steps=10).draw_time(u).bincount(), torch.full((10,), 100))
    assert DDPM().draw_time(torch.tensor([1.0])).item() == 999


def test_flow_times_are_logit_normal_then_shifted():
    u = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    logits = torch.logit(RectifiedFlow(logit_mean=0.4, logit_std=0.8).draw_time(u).double())
    assert logits.mean().item() == pytest.approx(0.4, abs=1e-3) and logits.std().item() == pytest.approx(0.8, abs=1e-3)
    assert RectifiedFlow(shift=3).draw_time(torch.tensor([0.5])).item() == pytest.approx(3 * 0.5 / (1 + 2 * 0.5))


def test_some_flow_times_lie_evenly_near_the_data_where_errors_count_less():
    u, path = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000, RectifiedFlow(shift=4, near_data=0.2)
    near, others = path.draw_time(u)[:4000], path.draw_time(u)[4000:]
    assert [near[0].item(), near[-1].item()] == pytest.approx([0.005, 0.5], rel=2e-3)
    steps = torch.logit(near.double()).diff()
    torch.testing.assert_close(steps, steps[:1].expand_as(steps), rtol=2e-2, atol=0)
    plain = RectifiedFlow(shift=4).draw_time((torch.arange(16000, dtype=torch.float64) + 0.5) / 16000)
    torch.testing.assert_close(others, plain, atol=1e-4, rtol=0)
    assert (plain < 0.1).float().mean() < 1e-3, "which is why"
    weights = path.weight(torch.tensor([0.005, 0.01, 0.02, 0.9]))
    torch.testing.assert_close(weights, torch.tensor([0.25, 0.5, 1.0, 1.0]))
    assert (RectifiedFlow().weight(torch.tensor([0.005])) == 1).all()


def test_networks_get_the_time_that_diffusers_gives():
    flow = FlowMatchEulerDiscreteScheduler(1000)
    flow.set_timesteps(7)
    path = RectifiedFlow()
    torch.testing.assert_close(path.time_embedding_value(flow.sigmas[:-1]), flow.timesteps, atol=1e-3, rtol=0)
    solver = DPMSolverMultistepScheduler(1000, use_flow_sigmas=True, prediction_type="flow_prediction")
    solver.set_timesteps(7)
    assert torch.equal(path.time_embedding_value(solver.sigmas[:-1]).add(1e-3).long(), solver.timesteps)
    assert DDPM().time_embedding_value(torch.tensor([999])).item() == 999.0


def test_min_snr_weights_match_the_loss_on_x0():
    t = torch.tensor([1, 500, 999])
    snr = (DDPM().alpha(t) / DDPM().sigma(t)) ** 2
    weight = DDPM(min_snr_gamma=5.0).weight(t)
    torch.testing.assert_close(
        weight.double() * snr, snr.clamp(max=5), rtol=1e-5, atol=0
    )  # error of x0 times min(snr, 5)
    assert (DDPM().weight(t) == 1).all()


def test_noise_offset_moves_the_mean_of_each_channel():
    noise, offset = torch.zeros(2, 3, 4, 4), torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    moved = apply_noise_offset(noise, offset, 0.1)
    torch.testing.assert_close(moved.mean(dim=(2, 3)), 0.1 * offset)
    assert torch.equal(apply_noise_offset(moved, offset, 0.0), moved)


@pytest.mark.parametrize(
    "path", [*ALL_PATHS, DDPM(min_snr_gamma=5, beta_start=1e-3, beta_end=0.1), RectifiedFlow(near_data=0.2)], ids=str
)
def test_paths_survive_json(path):
    assert path_from_dict(json.loads(json.dumps(path.to_dict()))) == path


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"path": "dpm"}, "unknown path 'dpm', did you mean 'ddpm'?"),
        ({}, "unknown path"),
        ({"path": "flow", "steps": 3}, "unknown setting of RectifiedFlow"),
        ({"path": "ddpm", "schedule": "cosin"}, "did you mean 'cosine'"),
        ({"path": "ddpm", "prediction": "x0"}, "prediction x0: allowed are epsilon, v"),
        ({"path": "ddpm", "steps": 1}, "steps 1: it has"),
        ({"path": "ddpm", "beta_end": 1.5}, "beta_end 1.5"),
        ({"path": "ddpm", "schedule": "cosine", "beta_end": 0.5}, "cosine schedule has no beta_start"),
        ({"path": "ddpm", "min_snr_gamma": 0}, "min_snr_gamma 0"),
        ({"path": "flow", "shift": 0}, "shift 0"),
        ({"path": "flow", "noise_offset": -1}, "noise_offset -1"),
    ],
)
def test_bad_settings_are_named(settings, words):
    with pytest.raises(UserError, match=words.replace("?", r"\?")):
        path_from_dict(settings)
