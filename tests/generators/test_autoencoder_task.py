"""The autoencoder's Task: what each phase changes, what it learns, what it writes, and that it resumes exactly."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from medloom.core.errors import UserError
from medloom.core.files import hash_file, hash_folder
from medloom.core.seeds import numpy_generator
from medloom.core.spec import ImageSpec, Intensity
from medloom.generators.autoencoder.build import build_autoencoder, build_tokenizer
from medloom.generators.autoencoder.losses import AutoencoderLosses, balance, divergence
from medloom.generators.autoencoder.options import KL, VQ, AutoencoderOptions, EncodeImages
from medloom.generators.autoencoder.quality import ALL, ImageData, reconstruct, reconstruction_quality
from medloom.generators.autoencoder.storage import load_spec
from medloom.generators.autoencoder.task import AutoencoderTask
from medloom.networks.autoencoder import load_autoencoder
from medloom.training.devices import make_accelerator
from medloom.training.loop import Loop, train
from medloom.training.options import LoopOptions

CPU = torch.device("cpu")
SPEC = ImageSpec((16, 16), 1, "none", {"CT": Intensity("window", "HU", -1000, 1000)})
OPTIONS = AutoencoderOptions(
    widths=(8, 16), latent_channels=3, adversarial_start=0, discriminator_width=4, discriminator_layers=1
)
TOKENS = replace(OPTIONS, codes=16, code_width=4)
LOOP = LoopOptions(
    steps=6, batch=4, learning_rate=2e-3, warmup=1, precision="fp32", log_every=1, validate_every=6, checkpoint_every=3
)


def discs(count: int) -> np.ndarray:
    """Bright discs of differing place, size and level on a dark ground."""
    random = numpy_generator(0, "discs")
    axis = np.arange(16)
    images = np.full((count, 1, 16, 16), -0.8, np.float32)
    for image in images:
        x, y, radius, level = random.uniform((4, 4, 2, -0.2), (12, 12, 5, 0.9))
        image[0][(axis[:, None] - x) ** 2 + (axis[None] - y) ** 2 < radius**2] = level
    return images


def make_task(loop: LoopOptions = LOOP, options: AutoencoderOptions = OPTIONS, kind: str = KL) -> AutoencoderTask:
    images = discs(12)
    train_data = ImageData(images, ["CT"] * 12, range(8))
    validation = ImageData(images, ["CT", "MRI"] * 6, range(8, 12))
    autoencoder = build_tokenizer(2, 1, options, loop.seed) if kind == VQ else build_autoencoder(1, options, loop.seed)
    losses = AutoencoderLosses(options, SPEC, loop.seed, CPU)
    return AutoencoderTask(autoencoder, losses, train_data, validation, images[8:], SPEC, loop, CPU)


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(before: dict[str, torch.Tensor], module: torch.nn.Module) -> bool:
    return all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def psnr_of_training(task: AutoencoderTask) -> float:
    return reconstruction_quality(task.module.autoencoder, task.data, task.data.usable, CPU)[ALL].psnr


@pytest.mark.parametrize("norm", ["spectral", "group"])
def test_each_phase_changes_its_own_network_and_only_that(tmp_path, norm):
    task = make_task(options=replace(OPTIONS, discriminator_norm=norm))
    loop = Loop(task, LOOP, tmp_path, make_accelerator(LOOP, "cpu"))
    batches = next(task.batches(0, 0, 1))
    networks = task.module, task.losses.discriminator
    for number, entry in enumerate(loop.prepared):
        own, other = networks[number], networks[1 - number]
        own_before, other_before = weights(own), weights(other)
        loop._phase_step(entry, batches, 1.0)
        assert not same(own_before, own)
        assert same(other_before, other)
        assert all(parameter.grad is None for parameter in other.parameters())


def test_the_discriminator_runs_at_its_own_pace(tmp_path):
    task = make_task(options=replace(OPTIONS, discriminator_every=2))
    train(task, replace(LOOP, steps=4, validate_every=4), tmp_path, make_accelerator(LOOP, "cpu"))
    rows = (tmp_path / "logs" / "metrics.csv").read_text().splitlines()
    assert [int(row.split(",")[0]) for row in rows if ",discriminator," in row] == [2, 4]
    assert [int(row.split(",")[0]) for row in rows if ",autoencoder," in row] == [1, 2, 3, 4]


@pytest.mark.slow
def test_it_overfits_eight_images():
    options = replace(OPTIONS, adversarial_weight=0.05)
    loop = replace(LOOP, steps=120, batch=8, ema=0.9, log_every=60, validate_every=120, checkpoint_every=120)
    task = make_task(loop, options)
    before = psnr_of_training(task)
    optimizers = [torch.optim.Adam(phase.module.parameters(), 4e-3, phase.betas) for phase in task.phases()]
    for _, (batch,) in zip(range(120), task.batches(0, 0, 1), strict=False):
        for phase, optimizer in zip(task.phases(), optimizers, strict=True):
            optimizer.zero_grad()
            phase.loss(phase.module, batch)[0].backward()
            optimizer.step()
    assert psnr_of_training(task) > before + 10


@pytest.mark.slow
def test_a_tokenizer_learns_with_codes_in_use(tmp_path):
    options = replace(TOKENS, adversarial_weight=0.0, perceptual="none")
    loop = replace(LOOP, steps=150, batch=8, learning_rate=4e-3, ema=0.9, log_every=50, validate_every=150)
    task = make_task(loop, options, VQ)
    before = psnr_of_training(task)
    train(task, replace(loop, checkpoint_every=150), tmp_path, make_accelerator(loop, "cpu"))
    assert psnr_of_training(task) > before + 6
    figures = task.validate(tmp_path, 150)
    assert figures["validation/codes used"] >= 0.5 and figures["validation/perplexity"] > 3


class Killed(BaseException):
    pass


def train_and_kill(task: AutoencoderTask, loop: LoopOptions, out: Path, at: int) -> None:
    def after_step(step: int) -> None:
        AutoencoderTask.after_step(task, step)
        if step == at:
            raise Killed

    task.after_step = after_step
    with pytest.raises(Killed):
        train(task, loop, out, make_accelerator(loop, "cpu"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "options"), [(KL, OPTIONS), (VQ, TOKENS), (VQ, replace(TOKENS, quantizer="gradient"))]
)
def test_a_killed_run_resumes_to_the_same_bits(tmp_path, kind, options):
    loop = replace(LOOP, accumulate=2, validate_every=3)
    accelerator = make_accelerator(loop, "cpu")
    train(make_task(loop, options, kind), loop, tmp_path / "whole", accelerator)
    train_and_kill(make_task(loop, options, kind), loop, tmp_path / "killed", at=5)
    assert [path.name for path in (tmp_path / "killed" / "state").iterdir()] == ["step-00000003"]
    train(make_task(loop, options, kind), loop, tmp_path / "killed", accelerator)
    for folder in ("state", "model"):
        assert hash_folder(tmp_path / "whole" / folder) == hash_folder(tmp_path / "killed" / folder)
    metrics = "logs/metrics.csv"
    assert hash_file(tmp_path / "whole" / metrics) == hash_file(tmp_path / "killed" / metrics)


def test_batches_are_functions_of_seed_step_and_row():
    first, second = make_task(), make_task()
    stream = first.batches(0, 0, 1)
    next(stream)
    (expected,) = next(stream)
    (jumped,) = next(second.batches(1, 0, 1))
    assert expected.rows == jumped.rows
    assert torch.equal(expected.noise, jumped.noise)
    halves = [next(second.batches(1, rank, 2))[0] for rank in range(2)]
    assert halves[0].rows + halves[1].rows == expected.rows
    assert torch.equal(torch.cat([half.noise for half in halves]), expected.noise)


def test_the_saved_model_opens_in_diffusers_with_latents_of_unit_deviation(tmp_path):
    task = make_task()
    before = weights(task.module)
    task.save_model(tmp_path)
    theirs = AutoencoderKL.from_pretrained(tmp_path / "vae").eval()
    ours = load_autoencoder(tmp_path / "vae").eval()
    images = torch.from_numpy(task.data.take(range(8)))
    with torch.no_grad():
        expected = theirs(images).sample.clamp(-1, 1)
        drawn = torch.from_numpy(reconstruct(ours, images.numpy(), CPU))
        moments = ours.moments(images)
        latents = ours.sample(moments, torch.zeros_like(moments[:, :3]))
        latents += (0.5 * moments[:, 3:]).exp() * ours.vae.config.scaling_factor * task.batch(range(8), 0).noise
    torch.testing.assert_close(drawn, expected, atol=1e-5, rtol=0)
    assert 0.8 < float(latents.std()) < 1.25
    assert load_spec(tmp_path) == SPEC
    assert json.loads((tmp_path / "vae" / "config.json").read_text())["scaling_factor"] != 1.0
    assert task.module.autoencoder.vae.config.scaling_factor == 1.0
    assert same(before, task.module)
    assert task.module.training


def test_validation_names_every_modality_and_draws_the_fixed_images(tmp_path):
    figures = make_task().validate(tmp_path, 3)
    assert {"validation/psnr/CT", "validation/ssim/MRI", f"validation/l1/{ALL}", "validation/loss"} <= set(figures)
    assert (tmp_path / "step-00000003.png").is_file()


@pytest.mark.parametrize("perceptual", ["none", "discriminator"])
@pytest.mark.parametrize("adversarial", [0.0, 0.1])
def test_every_choice_of_losses_gives_gradients(perceptual, adversarial):
    task = make_task(options=replace(OPTIONS, perceptual=perceptual, adversarial_weight=adversarial))
    assert len(task.phases()) == 1 + (perceptual == "discriminator" or adversarial > 0)
    (batch,) = next(task.batches(0, 0, 1))
    for phase in task.phases():
        loss, _ = phase.loss(phase.module, batch)
        loss.backward()
        assert all(parameter.grad is not None for parameter in phase.module.parameters())
        phase.module.zero_grad()


def test_the_autoencoder_does_not_hear_the_discriminator_before_its_step():
    task = make_task(options=replace(OPTIONS, adversarial_start=1))
    phase = task.phases()[0]
    _, silent = phase.loss(phase.module, task.batch(range(4), 0))
    _, heard = phase.loss(phase.module, task.batch(range(4), 1))
    assert set(heard) - set(silent) == {
        f"autoencoder/{name}" for name in ("adversarial", "adversarial weight", "perceptual")
    }


def test_latents_start_with_little_noise():
    task = make_task()
    log_variance = task.module.autoencoder.moments(torch.from_numpy(task.data.take([0]))).chunk(2, dim=1)[1]
    assert float(log_variance.detach().mean()) == pytest.approx(-5, abs=0.5)


def test_the_adaptive_weight_balances_gradients():
    x = torch.linspace(-1, 1, 24).view(1, 1, 4, 6).requires_grad_()
    assert float(balance(x.abs().mean(), 0.1 * x.mean(), x)) == pytest.approx(10, rel=0.01)


def test_the_divergence_by_hand():
    mean, log_variance = torch.full((1, 1, 2, 2), 2.0), torch.full((1, 1, 2, 2), 1.0)
    expected = 4 * 0.5 * (4 + np.e - 1 - 1) / 16
    assert float(divergence(torch.cat([mean, log_variance], 1), 16)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("quantizer", "rvq", "allowed are ema, gradient, fsq"),
        ("levels", (8, 1), "at least 2"),
        ("codes", 1, "at least 2"),
        ("error", "l3", "allowed are l1, l2"),
        ("depth", 0, "at least 1"),
        ("kl_weight", -1.0, "at least 0"),
        ("widths", (), "one or more widths"),
        ("widths", (32, 36), "multiples of 8"),
    ],
)
def test_options_out_of_range_are_refused(name, value, message):
    with pytest.raises(UserError, match=message):
        AutoencoderOptions(**{name: value})


def test_an_unknown_kind_is_refused():
    with pytest.raises(UserError, match="--kind vae: allowed are kl, vq"):
        EncodeImages(data=Path("data.csv"), out=Path("run"), kind="vae")
