from itertools import pairwise

import diffusers
import numpy as np
import pytest
import torch

from medloom.core.errors import UserError
from medloom.core.seeds import sample_noise
from medloom.processes.levels import NoiseLevel, from_strength, leading, log_snr, trailing, uniform
from medloom.processes.paths import DDPM, RectifiedFlow
from medloom.processes.samplers import SAMPLERS, SamplerRow, default_sampler, get_sampler, samplers_for
from medloom.processes.steps import ddim_step, flow_sde_step, log_probability

STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
LEADING = {"timestep_spacing": "leading", "steps_offset": 1}
SHAPE = (2, 3, 4, 5)


def sampled(name, denoise, x, path, steps, levels=None, **options):
    """What a sampler makes with the levels of its row, or with others."""
    row = SAMPLERS[name]
    return row.function(denoise, x, path, (levels or row.levels)(path, steps), **options)


def noise(*shape, name="x"):
    return sample_noise(range(shape[0]), shape[1:], name=name)


def network(x, t):
    """A fixed nonlinear function of sample and time on the network's scale, about as large as noise."""
    scaled = t.view(-1, *[1] * (x.ndim - 1)).to(x.dtype) / 1000
    return torch.tanh(1.3 * x + 0.5 * scaled) + 0.2 * torch.sin(3 * x.roll(1, 1) - 4 * scaled) * (0.5 + scaled)


def run_scheduler(scheduler, x, steps, **options):
    """What a diffusers pipeline does with a scheduler."""
    scheduler.set_timesteps(steps)
    x = x * scheduler.init_noise_sigma if hasattr(scheduler, "init_noise_sigma") else x
    for index, t in enumerate(scheduler.timesteps):
        given = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        extra = {name: value(index) if callable(value) else value for name, value in options.items()}
        x = scheduler.step(network(given, t.expand(len(x))), t, x, **extra).prev_sample
    return x


ORACLES = {
    "ddim": (diffusers.DDIMScheduler, LEADING | {"clip_sample": False, "set_alpha_to_one": False}),
    "pndm": (diffusers.PNDMScheduler, LEADING | {"skip_prk_steps": True, "set_alpha_to_one": False}),
    "euler": (diffusers.EulerDiscreteScheduler, LEADING),
    "dpm++2m-karras": (
        diffusers.DPMSolverMultistepScheduler,
        LEADING | {"use_karras_sigmas": True, "final_sigmas_type": "sigma_min"},
    ),
}
FLOW_ORACLES = {
    "flow-euler": (diffusers.FlowMatchEulerDiscreteScheduler, {}, "shift"),
    "flow-heun": (diffusers.FlowMatchHeunDiscreteScheduler, {}, "shift"),
    "flow-dpm++2m": (
        diffusers.DPMSolverMultistepScheduler,
        {"use_flow_sigmas": True, "prediction_type": "flow_prediction"},
        "flow_shift",
    ),
}


@pytest.mark.parametrize("steps", [2, 7, 20, 50])
@pytest.mark.parametrize("prediction", ["epsilon", "v"])
@pytest.mark.parametrize("name", ORACLES)
def test_ddpm_samplers_equal_diffusers(name, prediction, steps):
    theirs, settings = ORACLES[name]
    kind = "v_prediction" if prediction == "v" else "epsilon"
    expected = run_scheduler(theirs(1000, prediction_type=kind, **STABLE_DIFFUSION, **settings), noise(*SHAPE), steps)
    path = DDPM(prediction=prediction)
    got = sampled(name, lambda x, t: network(x, path.time_embedding_value(t)), noise(*SHAPE), path, steps)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 7, 20, 50])
@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("name", FLOW_ORACLES)
def test_flow_samplers_equal_diffusers(name, shift, steps):
    theirs, settings, option = FLOW_ORACLES[name]
    expected = run_scheduler(theirs(1000, **settings, **{option: shift}), noise(*SHAPE), steps)
    path = RectifiedFlow(shift=shift)
    got = sampled(name, lambda x, t: network(x, path.time_embedding_value(t)), noise(*SHAPE), path, steps)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_stochastic_ddim_equals_diffusers(eta):
    theirs, settings = ORACLES["ddim"]
    added = [noise(*SHAPE, name=f"step {index}") for index in range(11)]
    scheduler = theirs(1000, **STABLE_DIFFUSION, **settings)
    expected = run_scheduler(scheduler, noise(*SHAPE), 11, eta=eta, variance_noise=added.__getitem__)
    got = sampled("ddim", network, noise(*SHAPE), DDPM(), 11, noise_fn=added.__getitem__, eta=eta)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["ddim", "euler"])
def test_trailing_spacing_equals_diffusers(name):
    theirs, settings = ORACLES[name]
    settings = {**settings, "timestep_spacing": "trailing"}
    expected = run_scheduler(theirs(1000, **STABLE_DIFFUSION, **settings), noise(*SHAPE), 20)
    if name == "euler":  # its pipeline starts from sigma x instead of sqrt(sigma^2 + 1) x: linear, not in the network
        sigma = theirs(1000, **STABLE_DIFFUSION, **settings).sigmas[0]
        start = noise(*SHAPE) * sigma / (sigma**2 + 1) ** 0.5
    else:
        start = noise(*SHAPE)
    got = sampled(name, network, start, DDPM(), 20, trailing if name == "ddim" else trailing_to_data)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def trailing_to_data(path, steps):
    return [*trailing(path, steps)[:-1], NoiseLevel(0, 1.0, 0.0)]


def flow_level(time):
    return NoiseLevel(time, 1 - time, time)


MEAN, STD = 0.6, 0.25


def gaussian_denoiser(path):
    """The optimal network for x0 ~ Normal(MEAN, STD^2), by conditioning of Gaussians."""

    def denoise(x, t):
        alpha, sigma = path.levels(t, x)
        x0 = MEAN + alpha * STD**2 / (alpha**2 * STD**2 + sigma**2) * (x - alpha * MEAN)
        return path.target(x0, (x - alpha * x0) / sigma, t)

    return denoise


@pytest.mark.parametrize("shift", [1.0, 4.0])
@pytest.mark.parametrize(("steps", "within"), [(10, 0.2), (20, 0.07), (40, 0.07), (100, 0.07)])
def test_detail_of_any_contrast_keeps_its_variance_at_any_number_of_steps(steps, within, shift):
    path = RectifiedFlow(shift=shift, near_data=0.2)
    for std in np.geomspace(0.02, 0.6, 12):

        def denoise(x, t, variance=std**2):
            alpha, sigma = path.levels(t, x)
            return (sigma - alpha * variance) / (alpha**2 * variance + sigma**2) * x

        x = torch.ones(1, 1, 1, dtype=torch.float64)
        energy = (sampled(default_sampler(path), denoise, x, path, steps).item() / std) ** 2
        assert energy == pytest.approx(1, abs=within), (std, energy)
        if steps <= 20 and std < 0.1:
            assert (sampled("flow-dpm++2m", denoise, x, path, steps).item() / std) ** 2 < 0.8, "even levels lose it"


FIRST_ORDER = ("ddim", "euler", "flow-euler", "flow-sde")


@pytest.mark.parametrize(
    ("name", "path"),
    [(name, DDPM(prediction=kind)) for name in ORACLES for kind in ("epsilon", "v")]
    + [(name, RectifiedFlow()) for name in (*FLOW_ORACLES, "flow-sde")]
    + [("flow-dpm++2m", RectifiedFlow(shift=3.0))],
)
def test_samplers_give_the_known_distribution(name, path):
    x = noise(4, 1, 60, 60)
    x = (x - x.mean()) / x.std()
    steps = 250 if name in FIRST_ORDER else 40
    got = sampled(name, gaussian_denoiser(path), x, path, steps, noise_fn=lambda i: noise(*x.shape, name=f"step {i}"))
    assert got.mean().item() == pytest.approx(MEAN, abs=0.025)  # the leading grid starts a little below pure noise
    assert got.std().item() == pytest.approx(STD, abs=0.01)


def test_ddim_with_full_noise_approaches_the_known_distribution():
    x, path = noise(4, 1, 60, 60), DDPM()
    errors = []
    for steps in (125, 500):
        noise_fn = lambda i: noise(*x.shape, name=f"step {i}")  # noqa: E731
        got = sampled("ddim", gaussian_denoiser(path), x, path, steps, noise_fn=noise_fn, eta=1.0)
        assert got.mean().item() == pytest.approx(MEAN, abs=0.01)
        errors.append(abs(got.std().item() - STD))
    assert errors[1] < 0.01 and errors[1] < errors[0] / 3


def test_ancestral_sampling_visits_all_levels_of_a_short_path_and_has_the_known_distribution():
    x, path, steps = noise(4, 1, 60, 60), DDPM("cosine", 250), []
    noise_fn = lambda i: noise(*x.shape, name=f"step {i}")  # noqa: E731
    got = sampled("ancestral", gaussian_denoiser(path), x, path, 250, noise_fn=noise_fn, callback=steps.append)
    assert [step.now.time for step in steps] == list(range(249, -1, -1))
    assert got.mean().item() == pytest.approx(MEAN, abs=0.01) and got.std().item() == pytest.approx(STD, abs=0.02)
    with pytest.raises(UserError, match="251 sampling steps; allowed: 1 to 250"):
        sampled("ancestral", gaussian_denoiser(path), x, path, 251, noise_fn=noise_fn)


def flow_error(name, steps):
    x, path = torch.linspace(-2, 2, 9, dtype=torch.float64).view(1, 1, 9), RectifiedFlow()
    exact = MEAN + STD * x  # the flow between Gaussians is affine
    return (sampled(name, gaussian_denoiser(path), x, path, steps) - exact).abs().max().item()


def test_orders_of_convergence():
    for name, least in (("flow-euler", 1.8), ("flow-heun", 3.0), ("flow-dpm++2m", 3.0)):
        assert flow_error(name, 8) / flow_error(name, 16) > least, name
    assert flow_error("flow-heun", 8) < flow_error("flow-euler", 15) / 3  # 15 evaluations each


def test_flow_sde_agrees_with_flow_grpo_to_first_order():
    x, velocity, path = noise(2, 1, 6, 6), noise(2, 1, 6, 6, name="v"), RectifiedFlow()
    t, eta, errors = 0.6, 0.7, []
    for dt in (0.02, 0.01):
        mean, std = flow_sde_step(velocity, x, path.kind, flow_level(t), flow_level(t - dt), eta)
        diffusion = eta * np.sqrt(t / (1 - t))
        drift = velocity + diffusion**2 / (2 * t) * (x + (1 - t) * velocity)
        errors.append((mean - (x - dt * drift)).abs().max().item())
        assert std == pytest.approx(diffusion * np.sqrt(dt))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)


def test_flow_sde_without_noise_is_euler_and_its_steps_can_be_scored():
    x, path, steps = noise(*SHAPE), RectifiedFlow(), []
    plain = sampled("flow-sde", network, x, path, 8, eta=0.0)
    torch.testing.assert_close(plain, sampled("flow-euler", network, x, path, 8), atol=1e-5, rtol=0)
    sampled("flow-sde", network, x, path, 8, noise_fn=lambda i: noise(*SHAPE, name=f"s{i}"), callback=steps.append)
    assert [step.index for step in steps] == list(range(8)) and steps[-1].then.time == 0 and steps[-1].std == 0
    assert all(0 < step.std <= step.then.sigma for step in steps[:-1])
    for step in steps[:-1]:
        t = torch.full((2,), step.now.time)
        mean, std = flow_sde_step(network(step.x, t), step.x, path.kind, step.now, step.then)
        assert torch.equal(mean, step.mean) and std == step.std
        expected = torch.distributions.Normal(mean, std).log_prob(step.x_next).flatten(1).mean(1)
        torch.testing.assert_close(log_probability(step.x_next, mean, std), expected)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_do_not_depend_on_the_batch(name):
    path = DDPM() if name in samplers_for(DDPM()) else RectifiedFlow()
    x, seen = noise(*SHAPE), []
    options = {"noise_fn": lambda i: noise(*SHAPE, name=f"s{i}")[: seen[-1]]}
    seen.append(2)
    both = sampled(name, network, x, path, 6, **options)
    seen.append(1)
    torch.testing.assert_close(sampled(name, network, x[:1], path, 6, **options), both[:1], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_reports_a_connected_path(name):
    path, steps = (DDPM() if name in samplers_for(DDPM()) else RectifiedFlow()), []
    noise_fn = lambda i: noise(*SHAPE, name=f"s{i}")  # noqa: E731
    x = sampled(name, network, noise(*SHAPE), path, 5, noise_fn=noise_fn, callback=steps.append)
    # Karras' levels end where the sampler ends, so that the last one needs no evaluation.
    assert len(steps) == (4 if name == "dpm++2m-karras" else 5)
    assert torch.equal(steps[-1].x_next, x) and steps[-1].then.time == 0
    for here, after in pairwise(steps):
        assert torch.equal(here.x_next, after.x) and here.then == after.now and after.now.time < here.now.time


def test_defaults_and_misuse():
    assert default_sampler(DDPM()) == "dpm++2m-karras" and default_sampler(RectifiedFlow()) == "flow-dpm++2m"
    assert default_sampler(RectifiedFlow(near_data=0.2)) == "flow-dpm++2m-log", "levels that training visited"
    assert get_sampler("pndm", DDPM()) is SAMPLERS["pndm"]
    with pytest.raises(UserError, match=r"sampler of a RectifiedFlow path 'ddim'.*flow-dpm\+\+2m-log, flow-euler"):
        get_sampler("ddim", RectifiedFlow())
    with pytest.raises(UserError, match=r"Known: dpm\+\+2m-karras, ddim, pndm, euler"):
        get_sampler("flow-heun", DDPM())
    with pytest.raises(UserError, match="did you mean 'flow-heun'"):
        get_sampler("flow-huen", RectifiedFlow())
    with pytest.raises(UserError, match="give noise_fn"):
        sampled("flow-sde", network, noise(*SHAPE), RectifiedFlow(), 5)
    for name, path in (("ddim", DDPM()), ("dpm++2m-karras", DDPM()), ("flow-euler", RectifiedFlow())):
        with pytest.raises(UserError, match="0 sampling steps"):
            sampled(name, network, noise(*SHAPE), path, 0)
    with pytest.raises(UserError, match="deterministic step has no density"):
        log_probability(noise(*SHAPE), noise(*SHAPE), 0.0)


def test_grids_by_hand():
    path = DDPM()
    assert [level.time for level in leading(path, 4)] == [751, 501, 251, 1, 0]
    assert [level.time for level in trailing(path, 4)] == [999, 749, 499, 249, 0]
    assert [level.sigma for level in uniform(RectifiedFlow(), 2)] == pytest.approx([1, 0.001, 0])
    assert [level.sigma for level in log_snr(RectifiedFlow(), 1)] == pytest.approx([0.999, 0])
    levels = log_snr(RectifiedFlow(), 6)
    assert [levels[place].sigma for place in (0, 1, 5, 6)] == pytest.approx([0.999, 0.95, 0.005, 0])
    steps = [np.log(now.alpha / now.sigma) - np.log(then.alpha / then.sigma) for now, then in pairwise(levels[1:6])]
    assert steps == pytest.approx([steps[0]] * 4)
    for level in leading(path, 4):
        assert level.alpha**2 == pytest.approx(float(path.alpha_bar[level.time]))
        assert level.alpha**2 + level.sigma**2 == pytest.approx(1)


def test_a_start_from_an_image_takes_the_last_levels():
    levels = uniform(RectifiedFlow(), 11)
    assert [level.sigma for level in levels[:3]] == pytest.approx([1, 0.9001, 0.8002])
    assert from_strength(levels, RectifiedFlow(), 1.0) == levels
    assert from_strength(levels, RectifiedFlow(), 0.9) == levels[2:]
    # However little of the way to noise: one step at least.
    assert from_strength(levels, RectifiedFlow(), 1e-9) == levels[-2:]
    assert [level.time for level in from_strength(leading(DDPM(), 4), DDPM(), 0.5)] == [251, 1, 0]


def test_ddim_step_by_hand():
    path, x, epsilon = DDPM(), torch.full((1, 1, 2), 2.0), torch.full((1, 1, 2), 0.5)
    now, then = float(path.alpha_bar[500]), float(path.alpha_bar[250])
    x0 = (2.0 - (1 - now) ** 0.5 * 0.5) / now**0.5
    levels = (NoiseLevel(500, now**0.5, (1 - now) ** 0.5), NoiseLevel(250, then**0.5, (1 - then) ** 0.5))
    mean, std = ddim_step(epsilon, x, path.kind, *levels)
    assert std == 0 and mean[0, 0, 0].item() == pytest.approx(then**0.5 * x0 + (1 - then) ** 0.5 * 0.5, rel=1e-6)


def test_a_sampler_from_outside_is_a_function_and_a_row(monkeypatch):
    def one_jump(denoise, x, path, levels, *, noise_fn=None, callback=None):
        return x - denoise(x, torch.ones(len(x)))

    monkeypatch.setitem(SAMPLERS, "flow-jump", SamplerRow(RectifiedFlow, one_jump, uniform))
    path, x = RectifiedFlow(), noise(*SHAPE)
    assert samplers_for(path)[-1] == "flow-jump" and default_sampler(path) == "flow-dpm++2m"
    made = sampled("flow-jump", gaussian_denoiser(path), x, path, 1)
    torch.testing.assert_close(made, torch.full_like(made, MEAN), atol=1e-5, rtol=0)
    with pytest.raises(UserError, match="Known: dpm"):
        get_sampler("flow-jump", DDPM())
