"""`medloom train tokens` from the command line: tokenizer, generator, pictures of decoding, edits, two stages."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import medloom
from diffusers import VQModel
from PIL import Image
from safetensors.torch import load_file, save_file

from medloom.core.config import configure, shipped
from medloom.core.errors import UserError
from medloom.core.files import hash_folder
from medloom.generators.autoencoder.options import EncodeImages
from medloom.generators.storage import load_generator
from medloom.generators.tokens.options import GenerateTokens
from medloom.networks.tokenizer import load_tokenizer
from medloom.recipes.commands import run_command

LOOP = {
    "loop.steps": 2,
    "loop.batch": 4,
    "loop.precision": "fp32",
    "loop.warmup": 1,
    "loop.log_every": 1,
    "loop.validate_every": 2,
    "loop.checkpoint_every": 2,
    "device": "cpu",
}
VQ = {
    "kind": "vq",
    "validation": 0.25,
    "autoencoder.widths": [8, 8, 8],
    "autoencoder.codes": 16,
    "autoencoder.code_width": 4,
    "autoencoder.discriminator_width": 4,
    "autoencoder.discriminator_layers": 1,
    **LOOP,
}
TOKENS = {
    "validation": 0.25,
    "network.width": 32,
    "network.layers": 1,
    "network.heads": 2,
    "network.condition_width": 16,
    "text.width": 16,
    "text.layers": 1,
    "text.vocabulary": 600,
    **LOOP,
}


def fails(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert medloom(words) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


def options(values: dict[str, Any]) -> list[str]:
    words: list[str] = []
    for name, value in values.items():
        given = value if isinstance(value, list) else [value]
        words += [f"--{name.replace('_', '-')}", *map(str, given)]
    return words


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Squares on the left and on the right, each patient seen twice, the first time as prior."""
    root = tmp_path_factory.mktemp("tokens")
    rng = np.random.default_rng(0)
    lines = ["path,Text,modality,patient_id,prior"]
    for number in range(12):
        for time in (0, 1):
            picture = rng.integers(0, 60, (32, 32), dtype=np.uint8)
            left = 4 if (number + time) % 2 else 20
            picture[8:24, left : left + 8] = 220
            Image.fromarray(picture).save(root / f"{number}-{time}.png")
        side = "left" if (number + 1) % 2 else "right"
        lines.append(f"{number}-1.png,square on the {side},X-ray,p{number},{number}-0.png")
    (root / "data.csv").write_text("\n".join(lines) + "\n")
    return root / "data.csv"


@pytest.fixture(scope="module")
def vq(data: Path) -> Path:
    return run_command("train autoencoder", data=data, out=data.parent / "vq", **{**VQ, "image_size": [16]})


@pytest.fixture(scope="module")
def run(data: Path, vq: Path) -> Path:
    given = {**TOKENS, "network.prior": "channels"}
    return run_command("train tokens", data=data, tokenizer=vq, out=data.parent / "run", **given)


@pytest.fixture(scope="module")
def plain(data: Path, vq: Path) -> Path:
    """A run without prior images."""
    return run_command("train tokens", data=data, tokenizer=vq, out=data.parent / "plain", **TOKENS)


def test_a_tokenizer_says_how_many_codes_it_uses_and_opens_in_diffusers(vq: Path) -> None:
    report = json.loads((vq / "reconstruction.json").read_text())
    assert 0 < report["codebook"]["codes used"] <= 1 and report["codebook"]["perplexity"] >= 1
    index = json.loads((vq / "index.json").read_text())
    assert index["exporter"] == "diffusers.VQModel" and (vq / "reconstruction.png").is_file()
    assert VQModel.from_pretrained(vq / "model" / "vq").config.num_vq_embeddings == 16


def test_images_of_prompts_with_pictures_of_decoding(plain: Path, tmp_path: Path) -> None:
    words = ["generate", "--model", plain, "--prompt", "square on the left", "--n", 3, "--steps", 4]
    words += ["--sampling", "temperature=1.3"]
    pictures = ["--show-steps", "true", "--grid", "steps=1,4", "temperature=0.5,1.3", "guidance=1,2"]
    assert medloom([*words, *pictures, "--out", tmp_path / "out"]) == 0
    assert {"000000.png", "000002.png", "manifest.csv", "grid.png"} <= {p.name for p in (tmp_path / "out").iterdir()}
    steps = Image.open(tmp_path / "out" / "steps.png")
    # Four steps of three images, 16 pixels each, with lines between.
    assert steps.info["SYNTHETIC"] == "YES" and steps.width >= 64 and steps.height >= 48
    assert Image.open(tmp_path / "out" / "decoding_grid.png").info["SYNTHETIC"] == "YES"
    assert json.loads((tmp_path / "out" / "generation.json").read_text())["options"]["sampling"] == ["temperature=1.3"]


def test_a_balanced_set_says_what_each_row_was_sampled_for(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "rows.csv"
    lines = ["Text,modality,patient_id,size"]
    lines += [f"square on the left,X-ray,p{n},{'large' if n == 4 else 'small'}" for n in range(5)]
    table.write_text("\n".join(lines) + "\n")
    words = ["generate", "--model", plain, "--data", table, "--steps", 2, "--count", 6]
    assert medloom([*words, "--balance", "size", "--out", tmp_path / "out"]) == 0
    rows = list(csv.DictReader((tmp_path / "out" / "manifest.csv").open()))
    assert [row["size"] for row in rows] == [row["sampled_for"] for row in rows] == ["large", "small"] * 3
    assert len({row["seed"] for row in rows}) == 6 and len({row["source_id"] for row in rows}) == 4
    asked = ["--balance", "size", "--classes", "small", "medium", "--out", tmp_path / "none"]
    assert "no row to balance size=medium from" in fails(capsys, *words, *asked)
    assert "column of" in fails(capsys, *words, "--balance", "sizes", "--out", tmp_path / "none")
    assert "--balance needs --count" in fails(capsys, *words[:-2], "--balance", "size", "--out", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_the_same_command_says_that_it_is_finished(
    data: Path, vq: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = hash_folder(run)
    words = ["train", "tokens", "--data", data, "--tokenizer", vq, "--out", run, "--network.prior", "channels"]
    assert medloom([*map(str, words), *options(TOKENS)]) == 0
    assert "is finished" in capsys.readouterr().err and hash_folder(run) == before


@pytest.mark.slow
def test_edits_by_the_same_command(run: Path, data: Path, tmp_path: Path) -> None:
    # Of these texts none asks for no change; another one stands in for it.
    (tmp_path / "settings.yaml").write_text("nochange_text: square on the left\n")
    edit = ["edit", "--model", run, "--data", data, "--n", "1", "--steps", "3", "--controls", "nochange"]
    assert medloom([*edit, "--out", tmp_path / "none"]) == 2
    edit += ["--config", tmp_path / "settings.yaml"]
    assert medloom([*edit, "--start", "prior", "--strength", 0.5, "--out", tmp_path / "half"]) == 0
    rows = (tmp_path / "half" / "manifest.csv").read_text().splitlines()
    assert len(rows) == 25 and (tmp_path / "half" / "differences.png").is_file()
    evaluate = ["evaluate", "edits", tmp_path / "half" / "manifest.csv", "--reference", data, "--out", tmp_path / "r"]
    assert medloom([str(word) for word in evaluate]) == 0
    region = np.zeros((32, 32), np.uint8)
    region[:, 16:] = 1
    Image.fromarray(region).save(tmp_path / "region.png")
    prior = data.parent / "0-0.png"
    words = [
        "--image",
        prior,
        "--text",
        "square on the left",
        "--region",
        tmp_path / "region.png",
        "--residual",
        "true",
    ]
    assert medloom(["edit", "--model", run, *words, "--steps", 3, "--out", tmp_path / "in"]) == 0


def test_registered_earlier_images_take_part(data: Path, vq: Path, tmp_path: Path) -> None:
    lines = data.read_text().splitlines()
    # What stands for a registered image is the first patient's.
    rows = [f"{line},{'registered_prior' if number == 0 else '0-0.png'}" for number, line in enumerate(lines)]
    (data.parent / "registered.csv").write_text("\n".join(rows) + "\n")
    given = {"data": data.parent / "registered.csv", "tokenizer": vq, **TOKENS, "network.prior": "channels"}

    def trained(name: str, share: float | None) -> str:
        run = run_command("train tokens", out=tmp_path / name, unregistered=share, **given)
        return hash_folder(run / "model" / "transformer")

    by_default, none, half, all_of_them = (trained(f"share-{share}", share) for share in (None, 1.0, 0.5, 0.0))
    assert len({none, half, all_of_them}) == 3 and by_default == all_of_them


def test_a_second_stage_makes_larger_images(data: Path, vq: Path, tmp_path: Path) -> None:
    first = run_command("train tokens", data=data, tokenizer=vq, out=tmp_path / "first", **TOKENS)
    large = run_command("train autoencoder", data=data, out=tmp_path / "large", **{**VQ, "image_size": [32]})
    given = {"from_run": first, "upscale": True, **TOKENS}
    second = run_command("train tokens", data=data, tokenizer=large, out=tmp_path / "second", **given)
    words = ["generate", "--model", second, "--prompt", "square on the right", "--out", tmp_path / "out"]
    assert medloom([*words, "--show-steps", "true"]) == 0
    assert Image.open(tmp_path / "out" / "000000.png").size == (32, 32)


def test_a_run_goes_on_with_larger_images_and_another_modality(data: Path, vq: Path, tmp_path: Path) -> None:
    first = run_command("train tokens", data=data, tokenizer=vq, out=tmp_path / "first", **TOKENS)
    more = data.parent / "more.csv"
    more.write_text(data.read_text().replace(",X-ray,p1", ",MRI,p1"))
    own = {**VQ, "image_size": [32], "from_run": vq, "loop.learning_rate": 1e-9}
    larger = run_command("train autoencoder", data=more, out=tmp_path / "larger", **own)
    before, after = (load_tokenizer(run / "model" / "vq").coder.decoder.conv_in.weight for run in (vq, larger))
    # It went on from the weights that were there.
    torch.testing.assert_close(before, after, atol=1e-4, rtol=0)
    given = {**TOKENS, "from_run": first, "loop.learning_rate": 1e-9}
    second = run_command("train tokens", data=more, tokenizer=larger, out=tmp_path / "second", **given)
    small, large = (load_generator(run / "model") for run in (first, second))
    assert (small.grid, large.grid) == ((4, 4), (8, 8))
    places, others = (generator.model.network.positions[0] for generator in (small, large))
    # Each place of the smaller grid is between two of the larger one.
    torch.testing.assert_close((others[2::2] + others[1::2][:-1]) / 2, (places[:-1] + places[1:]) / 2)
    torch.testing.assert_close(small.model.network.head.weight, large.model.network.head.weight, atol=1e-4, rtol=0)
    for name, modality in (("old", "X-ray"), ("new", "MRI")):
        words = ["generate", "--model", second, "--prompt", "square on the left", "--modality", modality]
        assert medloom([*words, "--steps", 2, "--out", tmp_path / name]) == 0
        assert Image.open(tmp_path / name / "000000.png").size == (32, 32)


def test_what_a_run_cannot_go_on_with(
    data: Path, vq: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "tokens", "--data", data, "--tokenizer", vq, "--from", run, "--out", tmp_path / "x"]
    assert "prior was True, now False" in fails(capsys, *words, *options(TOKENS))
    prior = {**TOKENS, "network.prior": "channels"}
    assert "width was 32, now 48" in fails(capsys, *words, *options({**prior, "network.width": 48}))
    aged = data.parent / "aged.csv"
    lines = data.read_text().splitlines()
    aged.write_text("\n".join(f"{line},{'age' if number == 0 else number}" for number, line in enumerate(lines)) + "\n")
    with_age = [aged if word == data else word for word in words]
    assert "is conditioned on no columns" in fails(capsys, *with_age, *options(prior), "--table", "age")
    masked = {**prior, "network.mask": "channels", "network.mask_classes": [1]}
    Image.fromarray(np.ones((32, 32), np.uint8)).save(data.parent / "mask.png")
    rows = [f"{line},{'mask_path' if number == 0 else 'mask.png'}" for number, line in enumerate(lines)]
    (data.parent / "masked.csv").write_text("\n".join(rows) + "\n")
    with_masks = [data.parent / "masked.csv" if word == data else word for word in words]
    assert "those of the run of --from are none" in fails(capsys, *with_masks, *options(masked))
    other = run_command(
        "train autoencoder", data=data, out=tmp_path / "v", **{**VQ, "autoencoder.codes": 8, "image_size": 16}
    )
    words[5] = other
    assert "tokens are 16 codes on 2 axes, those of --tokenizer 8 on 2" in fails(capsys, *words, *options(prior))
    again = ["train", "autoencoder", "--data", data, "--out", tmp_path / "x", "--from"]
    assert "is of --kind vq, not kl" in fails(capsys, *again, vq, "--kind", "kl")
    assert "--base and --from exclude each other" in fails(capsys, *again, vq, "--kind", "vq", "--base", vq)
    assert "holds a run of the family tokens" in fails(capsys, *again, run, "--kind", "vq")
    assert not (tmp_path / "x").exists()


def test_mistakes(data: Path, vq: Path, plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = ["train", "tokens", "--data", data, "--out", tmp_path / "x", *options(TOKENS)]
    wrong = "--image-size 32 x 32: the tokenizer"
    assert wrong in fails(capsys, *train, "--tokenizer", vq, "--image-size", 32)
    assert "--upscale needs --from RUN" in fails(capsys, *train, "--tokenizer", vq, "--upscale", "true")
    assert "holds no VQModel" in fails(capsys, *train, "--tokenizer", data.parent)
    assert "no mask column" in fails(capsys, *train, "--tokenizer", vq, "--network.mask", "channels")
    wrong = "the setting unregistered is 2.0: it has to be at least 0 and at most 1"
    assert wrong in fails(capsys, *train, "--tokenizer", vq, "--unregistered", 2)
    generate = ["generate", "--model", plain, "--prompt", "square", "--out", tmp_path / "y"]
    assert "--steps 17: each step decodes at least one of 16 tokens" in fails(capsys, *generate, "--steps", 17)
    assert "--sampling temperature=0.0: it has to be above 0" in fails(capsys, *generate, "--sampling", "temperature=0")
    assert "--sampler" in fails(capsys, *generate, "--sampler", "ddim")
    assert "--grid needs steps=..." in fails(capsys, *generate, "--grid", "guidance=1,2")
    wrong = "--steps 17: each step decodes at least one of 16 tokens"
    assert wrong in fails(capsys, *generate, "--steps", 4, "--grid", "steps=4,17")
    latent = ["train", "text2image", "--data", data, "--autoencoder", vq, "--out", tmp_path / "z", "--image-size", 16]
    assert "gives tokens, for `medloom train tokens`" in fails(capsys, *latent)
    assert not (tmp_path / "x").exists() and not (tmp_path / "y").exists() and not (tmp_path / "z").exists()


def test_settings_are_read() -> None:
    for recipe, given in ((GenerateTokens, {"tokenizer": "vq"}), (EncodeImages, {})):
        for name in shipped(recipe, "preset"):
            configure(recipe, data="data.csv", out="out", preset=name, **given)
    published = configure(GenerateTokens, data="data.csv", out="out", preset="raygen", tokenizer="vq")
    assert (published.network.width, published.network.layers, published.text.max_tokens) == (1024, 6, 256)


def test_the_window_of_ct_is_the_tokenizers_unless_another_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--patients", 12, "--size", 16, "--seed", 0, "--workers", 1]
    assert medloom(["data", "phantom", "--out", str(tmp_path / "cohort"), *map(str, words)]) == 0
    given = {"data": tmp_path / "cohort" / "train.csv", "cache": tmp_path / "cache"}
    own = {**VQ, "image_size": [16], "hu_window": [-1024, 476]}
    tokenizer = run_command("train autoencoder", out=tmp_path / "vq", **given, **own)
    run = run_command("train tokens", out=tmp_path / "run", tokenizer=tokenizer, **given, **TOKENS)
    identity = json.loads((run / "run.json").read_text())["identity"]
    assert identity["options"]["hu_window"] == [-1024, 476]
    assert identity["spec"]["intensity"]["CT"]["low"] == -1024
    asked = {"data": given["data"], "tokenizer": tokenizer, "out": tmp_path / "other", "hu_window": [-1000, 1000]}
    error = fails(capsys, "train", "tokens", *options({**asked, **TOKENS}))
    assert "window -1024 to 476 (HU)" in error
    assert not (tmp_path / "other").exists()


def test_a_collapsed_codebook_is_not_trained_on(data: Path, vq: Path, tmp_path: Path) -> None:
    """Codes that are all far away but one."""
    collapsed = shutil.copytree(vq, tmp_path / "vq")
    weights = next((collapsed / "model" / "vq").glob("*.safetensors"))
    tensors = load_file(weights)
    name = next(name for name in tensors if "embedding" in name or "codebook" in name or name.endswith("codes"))
    tensors[name][1:] = 1e6
    save_file(tensors, weights, metadata={"format": "pt"})
    given = {"data": data, "tokenizer": collapsed, "out": tmp_path / "tok", **TOKENS}
    with pytest.raises(UserError, match="its codebook has collapsed: the tokens of .* take 1 codes"):
        run_command("train tokens", **given)
    assert not (tmp_path / "tok").exists()
