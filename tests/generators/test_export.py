"""What medloom trains for diffusers opens there, and gives the same image from the same noise."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline, StableDiffusionPipeline
from stable_diffusion import OPTIONS, make_stable_diffusion

from medloom.core.errors import UserError
from medloom.core.image import Image
from medloom.core.seeds import sample_noise
from medloom.core.spec import COLOUR, ImageSpec, Intensity
from medloom.core.types import Condition
from medloom.generators.diffusion.base import find_base
from medloom.generators.diffusion.build import from_stable_diffusion
from medloom.generators.diffusion.options import DenoiserOptions, NoiseOptions
from medloom.generators.options import TextOptions
from medloom.generators.sampling import DiffusionSampling
from medloom.generators.storage import load
from medloom.generators.training_facts import TrainingFacts
from medloom.recipes.commands import run_command

PIPELINE = "StableDiffusionInstructPix2PixPipeline"


def same_in_diffusers(run: Path, steps: int = 6, scale: float = 3.0) -> float:
    """Largest difference, in grey levels of 255, between our image and the pipeline's from the same noise."""
    generator = load(run, "cpu")
    condition = Condition("A square, left.", "Square")
    ours = generator.sample([condition], [11], DiffusionSampling(steps=steps, guidance=scale))[0]
    pipeline = StableDiffusionPipeline.from_pretrained(run / "model", safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    noise = sample_noise([11], generator.latent_shape)
    theirs = pipeline(
        prompt="Square: A square, left.",
        height=16,
        width=16,
        latents=noise,
        num_inference_steps=steps,
        guidance_scale=scale,
        output_type="np",
    ).images[0]
    mine = ((ours + 1) / 2).clamp(0, 1).permute(1, 2, 0).numpy()
    assert mine.std() > 0.01
    return float(np.abs(mine - theirs).max() * 255)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("lora", [None, 4])
def test_fine_tuned_from_stable_diffusion(
    make_manifest: Callable[..., Path], tmp_path: Path, lora: int | None, prediction: str
) -> None:
    base = make_stable_diffusion(tmp_path / "sd", prediction)
    values = dict(OPTIONS, base=str(base), lora=lora)
    run = run_command("train text2image", data=make_manifest(), out=tmp_path / "run", **values)
    assert same_in_diffusers(run) < 0.5
    changed = StableDiffusionPipeline.from_pretrained(run / "model", safety_checker=None).unet.state_dict()
    before = StableDiffusionPipeline.from_pretrained(base, safety_checker=None).unet.state_dict()
    moved = {name for name in before if not torch.equal(before[name], changed[name])}
    assert moved if lora is None else moved and all(".to_" in name for name in moved)


def test_from_scratch_in_flow(make_manifest: Callable[..., Path], tmp_path: Path) -> None:
    base = make_stable_diffusion(tmp_path / "sd")
    values = {
        **OPTIONS,
        "autoencoder": str(base),
        "network.exportable": True,
        "network.widths": [16, 32],
        "network.head_width": 16,
        "text.width": 16,
        "text.layers": 1,
        "text.vocabulary": 600,
    }
    run = run_command("train text2image", data=make_manifest(), out=tmp_path / "run", **values)
    assert same_in_diffusers(run, steps=8) < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("more", [{"lora": 2}, {}])
def test_a_base_knows_the_empty_text_that_training_without_dropout_leaves_out(
    make_manifest: Callable[..., Path], tmp_path: Path, more: dict[str, object]
) -> None:
    """As the presets `minim` train it; a run that continues it knows it too."""
    base, data = str(make_stable_diffusion(tmp_path / "sd")), make_manifest()
    values = {**OPTIONS, "text.dropout": 0.0, "loop.steps": 1}
    run = run_command("train text2image", data=data, out=tmp_path / "run", base=base, **more, **values)
    generator, condition = load(run, "cpu"), Condition("A disc.", "Disc")
    assert generator.can_guide and generator.sampling.guidance == 2.0
    generator.check([condition], DiffusionSampling(steps=1, guidance=7.5))
    own = {"network.exportable": True, "network.widths": [16, 32], "network.head_width": 16, "text.width": 16}
    own |= {"text.layers": 1, "text.vocabulary": 600, "autoencoder": base}
    scratch = run_command("train text2image", data=data, out=tmp_path / "scratch", **values, **own)
    with pytest.raises(UserError, match="--text.dropout 0"):
        load(scratch, "cpu").check([condition], DiffusionSampling(steps=1, guidance=7.5))


def with_priors(manifest: Path) -> Path:
    """Each row's earlier image is the next row's of the same kind."""
    header, *rows = manifest.read_text(encoding="utf-8").splitlines()
    paths = [row.split(",")[0] for row in rows]
    lines = [f"{row},{paths[(number + 2) % len(rows)]}" for number, row in enumerate(rows)]
    manifest.write_text("\n".join([f"{header},prior", *lines]) + "\n", encoding="utf-8")
    return manifest


def image_of(values: np.ndarray) -> Image:
    """An image in colour levels of values in [-1, 1]."""
    return Image(((values + 1) * 127.5).astype(np.float32), COLOUR, 255.0)


@pytest.mark.parametrize("scratch", [True, False])
def test_an_editor_opens_in_instruct_pix2pix(make_manifest: Callable[..., Path], tmp_path: Path, scratch: bool) -> None:
    base = str(make_stable_diffusion(tmp_path / "sd"))
    own = {"network.widths": [16, 32], "network.head_width": 16, "text.width": 16, "text.layers": 1}
    own |= {"autoencoder": base, "network.exportable": True, "text.vocabulary": 600}
    values = {**OPTIONS, **(own if scratch else {"base": base})}
    data = with_priors(make_manifest())
    run = run_command("train edit", data=data, out=tmp_path / "run", **values)
    assert json.loads((run / "index.json").read_text())["exporter"] == f"diffusers.{PIPELINE}"
    generator = load(run, "cpu")
    # Two steps teach it little of the prior image, and a test on little would pass whatever the pipeline does.
    with torch.no_grad():
        generator.model.denoiser.unet.conv_in.weight[:, 4:] += 0.3
    (tmp_path / "model").mkdir()
    generator.save(tmp_path / "model")
    prior = np.linspace(-1, 1, 3 * 256, dtype=np.float32).reshape(3, 16, 16)
    condition = Condition("A square, left.", "Square", prior=image_of(prior))
    scales = DiffusionSampling(steps=6, guidance_by_part={"text": 5.0, "prior": 1.5})
    ours = generator.sample([condition], [11], scales)[0]
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(tmp_path / "model", safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        prompt="Square: A square, left.",
        image=torch.from_numpy(prior)[None] / 2 + 0.5,
        latents=sample_noise([11], generator.latent_shape),
        num_inference_steps=6,
        guidance_scale=5.0,
        image_guidance_scale=1.5,
        output_type="np",
    ).images[0]
    mine = ((ours + 1) / 2).clamp(0, 1).permute(1, 2, 0).numpy()
    assert mine.std() > 0.01 and float(np.abs(mine - theirs).max() * 255) < 0.5
    other = generator.sample([replace(condition, prior=image_of(-prior))], [11], scales)[0]
    assert float((other - ours).abs().max()) * 127.5 > 1


def test_a_base_widened_for_prior_images_starts_as_it_was(tmp_path: Path) -> None:
    base = find_base(str(make_stable_diffusion(tmp_path / "sd")), editing=True)
    spec = ImageSpec((16, 16), 3, "pad", {"Square": Intensity("window", COLOUR, 0, 255)})
    made = []
    for prior in ("none", "channels"):
        network = DenoiserOptions(prior=prior)
        text, noise = TextOptions("local", 24), NoiseOptions("ddpm")
        generator = from_stable_diffusion(base, spec, TrainingFacts([], ["Square"]), network, text, noise, None, 0)
        earlier = image_of(np.linspace(-1, 1, 768).reshape(3, 16, 16)) if prior == "channels" else None
        condition = Condition("A square, left.", "Square", prior=earlier)
        made.append(generator.sample([condition], [3], DiffusionSampling(steps=3, guidance=1.0)))
    assert torch.equal(*made)


def test_a_base_that_is_none_is_refused(make_manifest: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    values = dict(OPTIONS, base=str(tmp_path / "empty"))
    with pytest.raises(UserError, match=r"no model_index\.json"):
        run_command("train text2image", data=make_manifest(), out=tmp_path / "run", **values)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("network.pixel_width", 8),
        ("network.input_bands", True),
        ("network.region_slopes", True),
        ("noise.data_std", 0.5),
        ("shift", 1),
    ],
)
@pytest.mark.parametrize("scratch", [True, False])
def test_what_diffusers_does_not_know_is_refused(
    make_manifest: Callable[..., Path], tmp_path: Path, option: str, value: float, scratch: bool
) -> None:
    base = str(make_stable_diffusion(tmp_path / "sd"))
    how = {"autoencoder": base, "network.exportable": True} if scratch else {"base": base}
    values = {**OPTIONS, **how, option: value}
    with pytest.raises(UserError, match="in diffusers cannot have it|sees an autoencoder's latents|would not be used"):
        run_command("train text2image", data=make_manifest(), out=tmp_path / "run", **values)
    assert not (tmp_path / "run").exists()
