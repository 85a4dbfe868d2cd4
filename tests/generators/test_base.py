"""What a training can start from, and what is refused before anything is cached."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from stable_diffusion import OPTIONS, make_stable_diffusion

from medloom.core.errors import UserError
from medloom.core.files import read_json
from medloom.generators.diffusion.base import find_base
from medloom.recipes.commands import run_command

PARTS = ("unet", "vae", "text_encoder")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_stable_diffusion(tmp_path_factory.mktemp("base") / "sd")


@pytest.fixture
def base(plain: Path, tmp_path: Path) -> Path:
    return shutil.copytree(plain, tmp_path / "sd")


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**read_json(path), **values}))


def with_channels(base: Path, channels: int) -> None:
    network = UNet2DConditionModel.from_pretrained(base / "unet")
    UNet2DConditionModel.from_config({**network.config, "in_channels": channels}).save_pretrained(base / "unet")


@pytest.mark.parametrize(
    ("file", "values", "said"),
    [
        (
            "model_index.json",
            {"_class_name": "StableDiffusionXLPipeline"},
            "is Stable Diffusion XL, which has",
        ),
        ("model_index.json", {"_class_name": "StableDiffusion3Pipeline"}, "is Stable Diffusion 3"),
        ("model_index.json", {"_class_name": "StableDiffusionInpaintPipeline"}, "is an inpainting model"),
        ("model_index.json", {"_class_name": "KandinskyPipeline"}, "is of the kind KandinskyPipeline"),
        ("unet/config.json", {"_class_name": "SD3Transformer2DModel"}, "its network is a SD3Transformer2DModel"),
        ("unet/config.json", {"addition_embed_type": "text_time"}, "addition_embed_type text_time"),
        ("unet/config.json", {"class_embed_type": "timestep"}, "takes classes"),
        ("unet/config.json", {"time_cond_proj_dim": 256}, "as distilled models do"),
        ("unet/config.json", {"in_channels": 5}, "takes 5 input channels; allowed are 4"),
        ("unet/config.json", {"out_channels": 8}, "makes latents of 8 channels, and its autoencoder takes 4"),
        ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, "prediction_type sample is not supported"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "exp"}, "beta_schedule exp is not supported"),
        ("scheduler/scheduler_config.json", {"variance_type": "learned"}, "variance_type learned is not supported"),
        ("scheduler/scheduler_config.json", {"_class_name": "FlowMatchEulerDiscreteScheduler"}, "cannot be trained on"),
        ("scheduler/scheduler_config.json", {"rescale_betas_zero_snr": True}, "needs prediction v"),
        ("scheduler/scheduler_config.json", {"trained_betas": ["a"]}, "its scheduler"),
    ],
)
def test_another_kind_of_model_is_refused_by_name(
    file: str, values: dict[str, object], said: str, base: Path, tmp_path: Path, make_manifest: Callable[..., Path]
) -> None:
    change(base / file, **values)
    with pytest.raises(UserError, match=said):
        run_command("train text2image", data=make_manifest(), out=tmp_path / "run", base=str(base), **OPTIONS)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("channels", "editing", "said"),
    [
        (9, False, "9 input channels .an inpainting model"),
        (9, True, "9 input channels"),
        (8, False, "use `medloom train edit`"),
    ],
)
def test_a_network_with_further_channels(channels: int, editing: bool, said: str, base: Path) -> None:
    with_channels(base, channels)
    with pytest.raises(UserError, match=said):
        find_base(str(base), editing)


def test_an_editor_starts_from_an_editor(base: Path) -> None:
    with_channels(base, 8)
    change(base / "model_index.json", _class_name="StableDiffusionInstructPix2PixPipeline")
    assert find_base(str(base), editing=True).load_unet().config.in_channels == 8


def half(path: Path, name: str) -> None:
    tensors = {key: value.half() if value.is_floating_point() else value for key, value in load_file(path).items()}
    save_file(tensors, path.with_name(name), metadata={"format": "pt"})


def weights(base: Path, part: str) -> Path:
    return next((base / part).glob("*.safetensors"))


def test_a_variant_of_half_precision_is_used(
    base: Path, plain: Path, tmp_path: Path, make_manifest: Callable[..., Path]
) -> None:
    for part in PARTS:
        path = weights(base, part)
        half(path, f"{path.stem}.fp16.safetensors")
        path.unlink()
    run = run_command("train text2image", data=make_manifest(), out=tmp_path / "run", base=str(base), **OPTIONS)
    trained = load_file(weights(run / "model", "unet"))
    assert {value.dtype for value in trained.values()} == {torch.float32}
    before = load_file(weights(plain, "unet"))
    assert all((trained[name] - before[name]).abs().max() < 0.01 for name in before)


@pytest.mark.parametrize("part", PARTS)
def test_weights_that_cannot_be_read_are_named(part: str, base: Path) -> None:
    path = weights(base, part)
    path.rename(path.with_suffix(".bin"))
    with pytest.raises(
        UserError, match=rf"{part} has weights as {path.stem}\.bin only, .* import weights --checkpoint"
    ):
        find_base(str(base), editing=False)
    path.with_suffix(".bin").unlink()
    with pytest.raises(UserError, match="has no weights"):
        find_base(str(base), editing=False)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(UserError, match="is a pointer of Git LFS and not the weights; fetch them"):
        find_base(str(base), editing=False)


@pytest.mark.parametrize("part", PARTS)
def test_weights_that_are_not_finite_are_named_before_the_training(
    part: str, base: Path, tmp_path: Path, make_manifest: Callable[..., Path]
) -> None:
    path = weights(base, part)
    tensors = load_file(path)
    name = max(tensors, key=lambda each: tensors[each].numel())
    tensors[name].flatten()[0] = float("inf")
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(UserError, match=rf"the weights {name} hold values that are not finite"):
        run_command("train text2image", data=make_manifest(), out=tmp_path / "run", base=str(base), **OPTIONS)
    assert not (tmp_path / "run").exists()


def test_a_file_and_a_path_that_is_none(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **more: object) -> None:
        raise AssertionError("a path is never looked for elsewhere")

    monkeypatch.setattr("socket.socket.connect", refuse)
    checkpoint = tmp_path / "v1-5-pruned.safetensors"
    save_file({"x": torch.zeros(1)}, checkpoint)
    with pytest.raises(UserError, match="is a single file; give a diffusers folder. `medloom data import weights`"):
        find_base(str(checkpoint), editing=False)
    for name in ("runway/missing", str(tmp_path / "none")):
        with pytest.raises(UserError, match="does not exist; give a Stable Diffusion folder, or hf:ORG/NAME"):
            find_base(name, editing=False)
    (base / "scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(UserError, match=r"not a whole .* folder: scheduler/scheduler_config\.json is missing"):
        find_base(str(base), editing=False)


def test_the_schedule_of_a_base_is_taken(base: Path, tmp_path: Path, make_manifest: Callable[..., Path]) -> None:
    """Zero terminal SNR with v-prediction, and betas of its own."""
    scheduler = base / "scheduler" / "scheduler_config.json"
    change(scheduler, prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing")
    path = find_base(str(base), editing=False).path
    theirs = DPMSolverMultistepScheduler.from_pretrained(base / "scheduler").alphas_cumprod
    assert torch.allclose(path.alpha_bar.float(), theirs, atol=1e-6) and float((1 - path.betas).prod()) == 0
    run = run_command("train text2image", data=make_manifest(), out=tmp_path / "run", base=str(base), **OPTIONS)
    saved = read_json(run / "model" / "scheduler" / "scheduler_config.json")
    assert saved["rescale_betas_zero_snr"] and saved["timestep_spacing"] == "trailing"
    assert saved["trained_betas"][-1] == 1 and saved["prediction_type"] == "v_prediction"
    made = run_command("generate", model=run, out=tmp_path / "out", prompt="A disc.", modality="Disc", steps=4)
    assert made.is_file()
    noise = read_json(run / "run.json")["identity"]["options"]["noise"]
    assert noise["process"] == "ddpm" and noise["prediction"] == "v" and "shift" not in noise
    betas = [0.001, *[0.02] * 9]
    change(scheduler, prediction_type="epsilon", rescale_betas_zero_snr=False, trained_betas=betas)
    path = find_base(str(base), editing=False).path
    assert path.steps == 10 and torch.allclose(path.betas, torch.tensor(betas, dtype=torch.float64))
