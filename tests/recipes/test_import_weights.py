"""`medloom data import weights`: what it writes trains and generates, and nothing is written by halves."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import text_layouts as layouts
import torch
from conftest import medloom
from diffusers import StableDiffusionPipeline
from original_stable_diffusion import original_weights
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from stable_diffusion import OPTIONS, make_stable_diffusion
from torch import Tensor

from medloom.core.errors import UserError
from medloom.core.seeds import initial_weights, torch_generator
from medloom.core.types import Condition
from medloom.generators.sampling import DiffusionSampling
from medloom.generators.storage import load
from medloom.networks.text import embed_texts, load_text_encoder
from medloom.recipes.commands import run_command

COMMAND = ["data", "import", "weights"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "train_text"),
    [
        (layouts.clinical_bert, False),
        (layouts.cxr_bert, False),
        (layouts.medclip, True),
        (layouts.biomed_clip, False),
        (layouts.biomed_clip, True),
        (layouts.clip, False),
    ],
)
def test_an_imported_text_encoder_conditions_a_model(
    make_manifest: Callable[..., Path],
    tmp_path: Path,
    tiny_options: dict[str, object],
    write: Callable[[Path], Path],
    train_text: bool,
) -> None:
    published, out = write(tmp_path / "published"), tmp_path / "converted"
    words = [*COMMAND, "--text-encoder", published, "--out", out]
    words += ["--base-config", layouts.base_config(tmp_path / "base")] if write is layouts.medclip else []
    assert medloom(words) == 0
    # The encoder brings its own shape.
    own = ("text.width", "text.layers", "text.vocabulary")
    values = {name: value for name, value in tiny_options.items() if name not in own}
    values |= {"text.encoder": str(out), "text.max_tokens": 16, "text.train": train_text}
    values |= {"loop.steps": 5, "loop.validate_every": 5, "loop.checkpoint_every": 5}
    run = run_command("train text2image", data=make_manifest(), out=tmp_path / "run", **values)
    generator = load(run, "cpu")
    image = generator.sample([Condition("A disc, left.", "Disc")], [3], DiffusionSampling(steps=2, guidance=1.0))
    assert bool(torch.isfinite(image).all())
    own, trained = load_text_encoder(str(out), 16), generator.model.text
    assert trained.pooled_width == own.pooled_width
    # A run keeps how its encoder pools; trained with the generator, its projection moves.
    before, after = (embed_texts(each.eval(), ["a disc"], torch.device("cpu"))[0][1] for each in (own, trained))
    assert torch.equal(before, after) is not train_text
    assert (
        medloom(["generate", "--model", run, "--prompt", "A disc.", "--modality", "Disc", "--out", tmp_path / "x"]) == 0
    )


def test_the_message_says_what_was_found_and_what_to_do_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published = layouts.cxr_bert(tmp_path / "published")
    assert medloom([*COMMAND, "--text-encoder", published, "--out", tmp_path / "out"]) == 0
    printed = "".join(capsys.readouterr())
    assert "cxr-bert layout; token embeddings of width 128, pooled to a vector of its own, of width 8" in printed
    assert f"train text2image --text.encoder {tmp_path / 'out'}" in printed
    record = json.loads((tmp_path / "out" / "weights_import.json").read_text())
    assert record["layout"] == "cxr-bert" and len(record["hash"]) == 16
    # The same command may be given again, and another folder is left alone.
    assert medloom([*COMMAND, "--text-encoder", published, "--out", tmp_path / "out"]) == 0
    assert medloom([*COMMAND, "--text-encoder", published, "--out", published]) == 2
    assert "would replace" in capsys.readouterr().err
    assert medloom([*COMMAND, "--text-encoder", published, "--out", tmp_path]) == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert medloom([*COMMAND, "--text-encoder", published, "--out", tmp_path / "mine"]) == 2
    assert "already has other content" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.was_run"))


def images_of(pipeline: StableDiffusionPipeline) -> np.ndarray:
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 4, 8, 8, generator=torch_generator("test"))
    made = pipeline(
        prompt="a disc on the left", height=16, width=16, latents=noise, num_inference_steps=3, output_type="np"
    )
    return made.images[0]


def opened(folder: Path) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(folder, use_safetensors=True, local_files_only=True)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_stable_diffusion(tmp_path / "sd")


@pytest.mark.parametrize(("name", "version"), [("sd.safetensors", 1), ("sd.ckpt", 1), ("sd2.safetensors", 2)])
def test_a_single_file_becomes_a_base(
    make_manifest: Callable[..., Path], tmp_path: Path, base: Path, name: str, version: int
) -> None:
    expected, weights = images_of(opened(base)), original_weights(opened(base), version)
    if name.endswith(".ckpt"):
        torch.save({"state_dict": weights, "global_step": 1}, tmp_path / name)
    else:
        save_file(weights, tmp_path / name)
    # Only settings and the tokenizer are read of the other folder.
    config = tmp_path / "config"
    shutil.copytree(base, config, ignore=shutil.ignore_patterns("*.safetensors"))
    out = tmp_path / "out"
    assert medloom([*COMMAND, "--checkpoint", tmp_path / name, "--base-config", config, "--out", out]) == 0
    assert np.abs(images_of(opened(out)) - expected).max() < 1e-6
    values = {**OPTIONS, "base": str(out)}
    run = run_command("train text2image", data=make_manifest(), out=tmp_path / "run", **values)
    assert (run / "model" / "model_index.json").is_file()


def pickled(folder: Path, out: Path) -> Path:
    """A copy of a diffusers folder with .bin files, and a safety checker."""
    shutil.copytree(folder, out)
    for path in out.rglob("*.safetensors"):
        name = "pytorch_model.bin" if path.parent.name == "text_encoder" else "diffusion_pytorch_model.bin"
        torch.save(load_file(path), path.parent / name)
        path.unlink()
    index = json.loads((out / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (out / "model_index.json").write_text(json.dumps(index))
    (out / "safety_checker").mkdir()
    torch.save({"concept_embeds": torch.zeros(1)}, out / "safety_checker" / "pytorch_model.bin")
    return out


def test_a_pickled_folder_becomes_safetensors_without_the_safety_checker(tmp_path: Path, base: Path) -> None:
    folder, out = pickled(base, tmp_path / "pickled"), tmp_path / "out"
    assert medloom([*COMMAND, "--checkpoint", folder, "--out", out]) == 0
    assert np.array_equal(images_of(opened(out)), images_of(opened(base)))
    assert not list(out.rglob("*.bin")) and not (out / "safety_checker").exists()
    assert json.loads((out / "model_index.json").read_text())["safety_checker"] == [None, None]


@pytest.mark.parametrize("ending", [".safetensors", ".bin"])
def test_a_folder_of_half_precision_becomes_one_of_full(tmp_path: Path, base: Path, ending: str) -> None:
    folder = base if ending == ".safetensors" else pickled(base, tmp_path / "pickled")
    for path in (*folder.glob(f"*/diffusion*{ending}"), *folder.glob(f"text_encoder/*{ending}")):
        weights = load_file(path) if ending == ".safetensors" else torch.load(path, weights_only=True)
        halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
        named = path.with_name(f"{path.stem}.fp16{ending}")
        if ending == ".safetensors":
            save_file(halves, named, {"format": "pt"})
        else:
            torch.save(halves, named)
        path.unlink()
    assert medloom([*COMMAND, "--checkpoint", folder, "--out", tmp_path / "out"]) == 0
    for path in (tmp_path / "out").glob("*/*.safetensors"):
        assert ".fp16" not in path.name
        assert torch.float16 not in {tensor.dtype for tensor in load_file(path).values()}


class Runs:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.trace), "w")


def test_checkpoints_with_more_than_tensors_are_refused_and_not_run(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": {}, "callbacks": Runs(tmp_path / "trace")}, tmp_path / "sd.ckpt")
    folder = pickled(base, tmp_path / "pickled")
    torch.save({"weight": Runs(tmp_path / "trace")}, folder / "unet" / "diffusion_pytorch_model.bin")
    own = shutil.copytree(base, tmp_path / "own")
    index = json.loads((own / "model_index.json").read_text())
    (own / "model_index.json").write_text(json.dumps({**index, "unet": ["own_code", "Unet"]}))
    layouts.poison(own / "unet", "own_code.py")
    for words, said in (
        (["--checkpoint", tmp_path / "sd.ckpt", "--base-config", base], "holds more than tensors"),
        (["--checkpoint", folder], "holds more than tensors"),
        (["--checkpoint", own], "has its unet from 'own_code', code of its own, which is never run"),
    ):
        assert medloom([*COMMAND, *words, "--out", tmp_path / "out"]) == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    assert not (tmp_path / "trace").exists() and not list(tmp_path.rglob("*.was_run"))


def lora_weights(base: Path) -> dict[str, Tensor]:
    """Low-rank updates of the base's U-Net and text encoder, by diffusers' names."""
    pipeline, weights = opened(base), {}
    with initial_weights(7):
        for prefix, part, targets in (
            ("unet", pipeline.unet, ["to_q", "to_v", "to_out.0"]),
            ("text_encoder", pipeline.text_encoder, ["q_proj", "v_proj", "out_proj", "fc1"]),
        ):
            part.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=targets))
            for name, tensor in get_peft_model_state_dict(part).items():
                weights[f"{prefix}.{name}"] = torch.randn_like(tensor) * 0.3
    return weights


def as_kohya(weights: dict[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """The same by the names of kohya's scripts, with their alpha."""
    named: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        stem, _, kind = name.removesuffix(".weight").rpartition(".")
        stem = stem.replace("text_encoder.encoder", "text_encoder.text_model.encoder")
        part = stem.replace("text_encoder.", "te.", 1).replace(".", "_")
        named[f"lora_{part}.lora_{'down' if kind == 'lora_A' else 'up'}.weight"] = tensor
        named[f"lora_{part}.alpha"] = torch.tensor(alpha)
    return named


@pytest.mark.parametrize("form", ["diffusers", "kohya"])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_lora_file_is_merged_into_its_base(tmp_path: Path, base: Path, form: str, scale: float) -> None:
    weights = lora_weights(base)
    # kohya's scripts scale by alpha over the rank, here one half.
    save_file(weights if form == "diffusers" else as_kohya(weights, 1.0), tmp_path / "lora.safetensors")
    out, factor = tmp_path / "out", scale * (1.0 if form == "diffusers" else 0.5)
    words = ["--lora", tmp_path / "lora.safetensors", "--base", base, "--scale", scale, "--out", out]
    assert medloom([*COMMAND, *words]) == 0
    before, after = opened(base), opened(out)
    for prefix, part in (("unet", "unet"), ("text_encoder", "text_encoder")):
        old, new = (getattr(each, part).state_dict() for each in (before, after))
        for name, tensor in old.items():
            stem = f"{prefix}.{name.removesuffix('.weight')}"
            update = 0.0
            if f"{stem}.lora_A.weight" in weights:
                update = factor * (weights[f"{stem}.lora_B.weight"] @ weights[f"{stem}.lora_A.weight"])
            torch.testing.assert_close(new[name], tensor + update, atol=1e-6, rtol=1e-5)
    assert not np.allclose(images_of(before), images_of(after), atol=1e-3)


def test_a_lora_file_of_another_network_is_refused(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = lora_weights(base)
    other = {name.replace("down_blocks.0", "down_blocks.7"): tensor for name, tensor in weights.items()}
    lost = sum("down_blocks.7" in name for name in other) // 2
    wide = {name: torch.cat([tensor, tensor], 1) for name, tensor in weights.items()}
    capsys.readouterr()
    for content, said in (
        (other, f"{lost} of its {len(other) // 2} updates are for layers that the base does not have"),
        (wide, "does not fit the base"),
        ({"a": torch.ones(2)}, "holds no low-rank updates"),
    ):
        save_file(content, tmp_path / "lora.safetensors")
        words = ["--lora", tmp_path / "lora.safetensors", "--base", base, "--out", tmp_path / "out"]
        assert medloom([*COMMAND, *words]) == 2
        message = capsys.readouterr().err
        assert said in message and message.count("\n") == 1
        assert not (tmp_path / "out").exists()


def spoiled(path: Path) -> str:
    """Puts a NaN into a weight of a safetensors file; returns the weight's name."""
    weights = load_file(path)
    name = max(weights, key=lambda each: weights[each].numel())
    weights[name].flatten()[0] = float("nan")
    save_file(weights, path, {"format": "pt"})
    return name


@pytest.mark.parametrize("option", ["--text-encoder", "--checkpoint", "--checkpoint file", "--lora", "--base"])
def test_weights_that_are_not_finite_are_refused_by_name(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    lora = tmp_path / "lora.safetensors"
    save_file(lora_weights(base), lora)
    if option == "--text-encoder":
        folder = layouts.clip(tmp_path / "published")
        assert medloom([*COMMAND, option, folder, "--out", tmp_path / "encoder"]) == 0
        name, words = spoiled(tmp_path / "encoder" / "model.safetensors"), [option, tmp_path / "encoder"]
    elif option == "--checkpoint file":
        save_file(original_weights(opened(base), 1), tmp_path / "sd.safetensors")
        spoiled(tmp_path / "sd.safetensors")
        name, words = "", ["--checkpoint", tmp_path / "sd.safetensors", "--base-config", base]
    elif option == "--lora":
        name, words = spoiled(lora), ["--lora", lora, "--base", base]
    else:
        name = spoiled(next((base / "vae").glob("*.safetensors")))
        words = ["--checkpoint", base] if option == "--checkpoint" else ["--lora", lora, "--base", base]
    capsys.readouterr()
    assert medloom([*COMMAND, *words, "--out", tmp_path / "out"]) == 2
    message = capsys.readouterr().err
    assert f"{name} hold values that are not finite (NaN or infinite)" in message and message.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_run_gives_its_lora_weights_alone(make_manifest: Callable[..., Path], tmp_path: Path, base: Path) -> None:
    values = {**OPTIONS, "base": str(base), "lora": 4, "loop.steps": 6, "loop.learning_rate": 1e-2}
    run = run_command("train text2image", data=make_manifest(), out=tmp_path / "run", **values)
    alone = opened(base)
    alone.load_lora_weights(run / "model" / "lora", weight_name="pytorch_lora_weights.safetensors")
    trained = opened(run / "model")
    # The exported scheduler is that of medloom's sampler.
    alone.scheduler = type(trained.scheduler).from_config(trained.scheduler.config)
    fused = images_of(trained)
    assert np.abs(images_of(alone) - fused).max() < 1e-4
    alone.unload_lora_weights()
    assert np.abs(images_of(alone) - fused).max() > 1e-3
    # It is a file that the import takes.
    words = ["--lora", run / "model" / "lora" / "pytorch_lora_weights.safetensors", "--base", base]
    assert medloom([*COMMAND, *words, "--out", tmp_path / "merged"]) == 0
    merged = opened(tmp_path / "merged").unet.state_dict()
    for name, tensor in trained.unet.state_dict().items():
        torch.testing.assert_close(merged[name], tensor)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give one of --text-encoder, --checkpoint, --lora, not none"),
        (["--text-encoder", "{0}", "--lora", "{0}"], "not --text-encoder and --lora"),
        (["--text-encoder", "{0}/missing"], "missing does not exist; name a downloaded folder"),
        (["--text-encoder", "{0}/empty"], "empty holds no weights"),
        (["--text-encoder", "{0}/file.bin"], "file.bin is no folder"),
        (["--checkpoint", "{0}/file.bin"], "name a diffusers folder of the same version"),
        (["--checkpoint", "{0}/file.bin", "--base-config", "{0}/sd"], "no complete file of torch"),
        (["--checkpoint", "{0}/empty"], "is not a diffusers folder of Stable Diffusion: it has no model_index.json"),
        (["--checkpoint", "{0}/other.safetensors", "--base-config", "{0}/sd"], "is no checkpoint of Stable Diffusion"),
        (["--lora", "{0}/file.bin"], "--lora needs --base"),
        (["--lora", "{0}/file.bin", "--base", "{0}/missing"], "--base {0}/missing does not exist"),
        (["--text-encoder", "{0}/empty", "--base", "{0}/sd"], "--base is for --lora; leave it out"),
        (["--checkpoint", "{0}/sd", "--scale", "2"], "--scale is for --lora; leave it out"),
        (["--checkpoint", "{0}/sd", "--scale", "0"], "--scale"),
        (["{0}/empty"], "--text-encoder"),
    ],
)
def test_mistakes_are_one_sentence(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.bin").write_bytes(b"PK\x03\x04 cut")
    save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    place = str(tmp_path)
    assert medloom([*COMMAND, *(word.replace("{0}", place) for word in words), "--out", tmp_path / "out"]) == 2
    message = capsys.readouterr().err
    assert said.replace("{0}", place) in message and message.count("\n") == 1
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_python_gives_the_same_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give one of"):
        run_command("data import weights", out=tmp_path / "out")
