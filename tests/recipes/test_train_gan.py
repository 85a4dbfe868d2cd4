"""`medloom train gan`, and `generate` and `whatif` with what it makes, from the command line."""

import csv
import itertools
import json
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import nibabel
import numpy as np
import pytest
from conftest import draw, medloom
from PIL import Image

from medloom.core.config import configure, shipped
from medloom.core.files import hash_file
from medloom.data.images import read_image
from medloom.generators.gan.options import GANOptions
from medloom.generators.gan.options import MaskToImageGAN as Config
from medloom.generators.storage import load_generator
from medloom.recipes import compare, whatif
from medloom.recipes.commands import run_command

WORDS = (
    "--image-size 16 --network.widths 16 32 --network.attention false true --network.blocks 2 --network.patch 1"
    " --network.head-width 16 --network.condition-width 16 --network.style 8 --text.width 16 --text.layers 1"
    " --text.vocabulary 300 --text.max-tokens 24 --gan.width 8 --gan.layers 1 --loop.precision fp32 --loop.batch 8"
    " --loop.warmup 0 --loop.ema 0.9 --loop.log-every 1 --device cpu --validation 0.2"
).split()
SHORT = "--loop.steps 2 --loop.validate-every 2 --loop.checkpoint-every 2".split()
TEMPLATE = """
columns:
  kind: {values: {disc: a disc, square: a square}}
  level: {say: "", unit: grey levels}
"""
ROWS = 40


# Options of WORDS that another one rules out.
RULED_OUT = {
    ("--gan.adversary", "none"): ("--gan.width", "--gan.layers"),
    ("--network.kind", "unet"): ("--network.blocks",),
}


def words_for(*more: object) -> list[object]:
    """WORDS less the options that others rule out, which would be refused; and those others."""
    out = {flag for pair, flags in RULED_OUT.items() if pair in {*itertools.pairwise(more)} for flag in flags}
    out |= {"--image-size"} if "--patch" in more else set()
    kept, taken = list[object](), True
    for word in WORDS:
        taken = word not in out if word.startswith("--") else taken
        kept += [word] if taken else []
    return [*kept, *SHORT, *more]


def train(data: Path, out: Path, *more: object) -> Path:
    words = ["train", "gan", "--data", data, "--out", out, *words_for(*more)]
    assert medloom(words) == 0
    return out


def make(command: str, model: Path, out: Path, *more: object) -> list[dict[str, str]]:
    words = [command, "--model", model, "--out", out, "--device", "cpu", *more]
    assert medloom(words) == 0
    with (out / "manifest.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path), np.float64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shapes with their masks and a table, of which the level is told by no text; and a run on them."""
    root = tmp_path_factory.mktemp("gan")
    rng = np.random.default_rng(0)
    lines = ["path,mask,patient_id,modality,Text,kind,level"]
    for number in range(ROWS):
        kind = ("disc", "square")[number % 2]
        shape = draw(rng, kind)
        mask = (shape if shape.ndim == 2 else shape.max(-1)) > 60
        level = int(rng.integers(100, 250))
        Image.fromarray(np.where(mask, level, 20).astype(np.uint8)).save(root / f"{number}.png")
        Image.fromarray(mask.astype(np.uint8) * 3).save(root / f"m{number}.png")
        lines.append(f"{number}.png,m{number}.png,p{number},X-ray,a {kind},{kind},{level}")
    (root / "data.csv").write_text("\n".join(lines) + "\n")
    (root / "template.yaml").write_text(TEMPLATE)
    rates = "--loop.learning-rate 4e-3 --gan.discriminator-learning-rate 4e-3 --loop.batch 16 --loop.steps 120".split()
    often = "--loop.validate-every 120 --loop.checkpoint-every 60 --loop.log-every 10".split()
    train(root / "data.csv", root / "run", "--table", "level", *rates, *often)
    return root


def test_a_run_folder_says_what_it_holds(folder: Path) -> None:
    index = json.loads((folder / "run" / "index.json").read_text())
    assert index["family"] == "gan" and index["components"]["network"] == "ResNetGenerator"
    description = json.loads((folder / "run" / "run.json").read_text())
    assert description["identity"]["options"]["gan"]["adversary"] == "lsgan"
    names = {row.split(",")[1] for row in (folder / "run/logs/metrics.csv").read_text().splitlines()}
    assert {"generator/adversarial", "discriminator/real", "validation/loss", "validation/correlation"} <= names
    assert (folder / "run/samples/step-00000120.png").is_file() and (folder / "run/model_card.md").is_file()
    generator = load_generator(folder / "run/model")
    assert generator.model.mask_classes == (3,) and generator.rules.needs == ("text", "mask")


def test_images_follow_their_masks_and_the_columns_of_the_table(folder: Path, tmp_path: Path) -> None:
    rows = make("generate", folder / "run", tmp_path, "--data", folder / "data.csv")
    masks = [pixels(folder / f"m{number}.png") for number in range(ROWS)]
    images = [pixels(tmp_path / row["path"]) for row in rows]
    follow = [np.corrcoef(image.ravel(), mask.ravel())[0, 1] for image, mask in zip(images, masks, strict=True)]
    assert np.mean(follow) > 0.9
    levels = [image[mask > 0].mean() for image, mask in zip(images, masks, strict=True)]
    assert np.corrcoef(levels, [float(row["level"]) for row in rows])[0, 1] > 0.8
    described = json.loads((tmp_path / "generation.json").read_text())["options"]
    assert described["steps"] is None and described["guidance"] == []


def test_an_image_is_its_seed_s_in_any_batch(folder: Path, tmp_path: Path) -> None:
    given = ["--mask", folder / "m1.png", "--prompt", "a square", "--modality", "X-ray", "--table", "level=150"]
    make("generate", folder / "run", tmp_path / "many", *given, "--n", 6)
    make("generate", folder / "run", tmp_path / "one", *given, "--seed", 4)
    many, alone = pixels(tmp_path / "many/000004.png"), pixels(tmp_path / "one/000000.png")
    assert np.abs(many - alone).max() <= 1
    picture = Image.open(tmp_path / "one/000000.png")
    assert picture.info["SYNTHETIC"] == "YES"


def test_what_if_changes_the_level_and_holds_the_mask(folder: Path, tmp_path: Path) -> None:
    given = ["--data", folder / "data.csv", "--rows", 6, "--n", 1]
    rows = make("whatif", folder / "run", tmp_path, *given, "--set", "level=120", "--set", "level=220")
    means = {arm: [] for arm in ("level=120", "level=220")}
    for row in rows:
        if row["arm"] in means:
            inside = pixels((tmp_path / row["mask"]).resolve()) > 0
            means[row["arm"]].append(pixels(tmp_path / row["path"])[inside].mean())
    assert np.mean(means["level=220"]) - np.mean(means["level=120"]) > 50
    assert json.loads((tmp_path / "whatif.json").read_text())["options"]["guidance"] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--guidance", "2"], "--guidance: a GAN generates an image in one step"),
        (["--steps", "20"], "--steps: a GAN generates an image in one step"),
        (["--sampler", "ddim"], "of the family gan, which has none"),
        (["--negative", "noise"], "--negative: a GAN"),
        (["--guidance", "mask=1", "text=2"], "--guidance mask=1, --guidance text=2: a GAN"),
    ],
)
def test_options_of_a_sampler_are_refused(folder: Path, words: list[str], message: str, fails: Callable) -> None:
    given = ["--data", folder / "data.csv"]
    assert message in fails("generate", "--model", folder / "run", *given, *words)
    assert message in fails("whatif", "--model", folder / "run", *given, "--set", "kind=disc", *words)


def test_diffusion_keeps_its_defaults_and_writes_them(
    make_manifest: Callable[..., Path], tmp_path: Path, tiny_options: dict[str, object]
) -> None:
    options = {name: value for name, value in tiny_options.items() if name != "sampling.steps"}
    options |= {"loop.steps": 1, "loop.warmup": 0}
    run = run_command("train text2image", data=make_manifest(), out=tmp_path / "run", **options)
    told = ["--prompt", "A disc.", "--modality", "Disc"]
    make("generate", run, tmp_path / "out", *told)
    described = json.loads((tmp_path / "out/generation.json").read_text())["options"]
    assert (described["steps"], described["guidance"]) == (20, ["2.0"])
    # The same, said: the folder is gone on with.
    make("generate", run, tmp_path / "out", *told, "--steps", 20, "--guidance", 2.0)
    for recipe in (compare.Config, whatif.Config):
        defaults = {entry.name: entry.default for entry in fields(recipe)}
        assert not defaults["steps"] and not defaults["guidance"]


def test_scales_of_parts_are_written_and_are_not_mixed_in_one_folder(
    make_manifest: Callable[..., Path], tmp_path: Path, tiny_options: dict[str, object], fails: Callable
) -> None:
    options = {name: value for name, value in tiny_options.items() if name != "sampling.steps"}
    options |= {"loop.steps": 1, "loop.warmup": 0}
    run = run_command("train text2image", data=make_manifest(), out=tmp_path / "run", **options)
    prompt = ["--prompt", "A disc.", "--modality", "Disc", "--steps", 2]
    make("generate", run, tmp_path / "out", *prompt, "--guidance", "text=3")
    described = json.loads((tmp_path / "out/generation.json").read_text())["options"]
    assert described["guidance"] == ["2.0", "text=3.0"]
    # The same scales in other words.
    make("generate", run, tmp_path / "out", *prompt, "--guidance", "text=3.0", "2")
    words = ["generate", "--model", run, *prompt, "--device", "cpu", "--guidance"]
    assert "made with other options (--guidance)" in fails(*words, "text=5", out=tmp_path / "out")


def test_the_same_command_again_and_with_other_options(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fails: Callable
) -> None:
    out = train(folder / "data.csv", tmp_path / "run")
    before = hash_file(out / "logs" / "metrics.csv")
    train(folder / "data.csv", out)
    assert "is finished" in capsys.readouterr().err and hash_file(out / "logs" / "metrics.csv") == before
    words = ["train", "gan", "--data", folder / "data.csv", *WORDS, *SHORT]
    assert "network.fusion was affine, now none" in fails(*words, "--network.fusion", "none", out=out)


@pytest.mark.parametrize(
    "more",
    [
        ["--gan.adversary", "none", "--network.fusion", "none"],
        ["--gan.unpaired", "--network.fusion", "cross-attention", "--network.mask", "spade"],
        ["--gan.adversary", "hinge", "--gan.feature-weight", "1", "--network.kind", "unet", "--gan.norm", "spectral"],
        ["--gan.r1-every", "1", "--loop.precision", "bf16", "--loop.accumulate", "2", "--text.dropout", "0.1"],
    ],
)
def test_every_way_to_train_ends_in_images(folder: Path, tmp_path: Path, more: list[str], fails: Callable) -> None:
    run = train(folder / "data.csv", tmp_path / "run", *more)
    rows = make("generate", run, tmp_path / "out", "--data", folder / "data.csv")
    assert len(rows) == ROWS
    # Dropout for guidance makes no images without masks from a model that all images had masks for.
    error = fails("generate", "--model", run, "--modality", "X-ray", *prompted(run))
    assert "no mask, which every training image had; name one with --mask" in error


def prompted(run: Path) -> list[str]:
    """A prompt for a model that reads texts."""
    return ["--prompt", "a disc"] if load_generator(run / "model").reads_text else []


def without(data: Path, *columns: str) -> Path:
    """The manifest without some columns."""
    with data.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    target = data.with_name(f"without-{'-'.join(columns)}.csv".lower())
    kept = [name for name in rows[0] if name not in columns]
    with target.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, kept, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return target


def test_a_table_without_texts(folder: Path, tmp_path: Path, fails: Callable) -> None:
    data = without(folder / "data.csv", "Text")
    run = train(data, tmp_path / "run", "--table", "level")
    assert not load_generator(run / "model").reads_text
    assert len(make("generate", run, tmp_path / "out", "--data", data)) == ROWS
    given = ["--model", run, "--mask", folder / "m1.png", "--modality", "X-ray"]
    assert "leave the text (--prompt) out" in fails("generate", *given, "--prompt", "a disc")
    rows = make("whatif", run, tmp_path / "whatif", "--data", data, "--set", "level=200", "--rows", 2)
    assert len(rows) == 2 * 2 * 2
    mute = train(data, tmp_path / "mute")
    assert "takes neither text nor table" in fails("whatif", "--model", mute, "--data", data, "--set", "kind=disc")


def test_unpaired_rows_without_a_mask_or_a_text_are_used_and_counted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (folder / "data.csv").read_text().splitlines()
    lines[1:11] = [line.replace(f"m{number}.png", "") for number, line in enumerate(lines[1:11])]
    lines[15:30] = [line.replace("a square,square", ",square") for line in lines[15:30]]
    (folder / "some.csv").write_text("\n".join(lines) + "\n")
    run = train(folder / "some.csv", tmp_path / "run", "--gan.unpaired")
    said = capsys.readouterr().err
    counts = {part: re.search(rf"(\d+) of 32 training images have no {part}", said) for part in ("mask", "text")}
    assert counts["mask"] and 2 <= int(counts["mask"][1]) <= 10 and counts["text"]
    # Each image was generated from the mask of another row.
    assert load_generator(run / "model").rules.needs == ("mask",)


@pytest.mark.parametrize("patch", [False, True])
def test_volumes(tmp_path: Path, patch: bool) -> None:
    rng = np.random.default_rng(0)
    lines = ["path,mask,patient_id"]
    for number in range(6):
        mask = np.zeros((16, 16, 8), np.int16)
        x, y = rng.integers(2, 8, 2)
        mask[x : x + 6, y : y + 6, 2:6] = 1
        volume = np.where(mask > 0, 300.0, -700.0) + rng.normal(0, 20, mask.shape)
        for name, values in ((f"{number}", volume.astype(np.float32)), (f"m{number}", mask)):
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / f"{name}.nii.gz")
        lines.append(f"{number}.nii.gz,m{number}.nii.gz,p{number}")
    (tmp_path / "data.csv").write_text("\n".join(lines) + "\n")
    size = ["--patch", 8, 8, 8] if patch else ["--image-size", 16, 16, 8, "--shift", 1]
    words = ["--unit", "HU", *size, "--gan.scales", 1]
    run = train(tmp_path / "data.csv", tmp_path / "run", *words)
    rows = make("generate", run, tmp_path / "out", "--mask", tmp_path / "m0.nii.gz", "--n", 2)
    made = read_image(tmp_path / "out" / rows[1]["path"], unit="HU")
    assert made.size == (16, 16, 8) and made.pixels.min() >= -1000 and made.pixels.max() <= 1000


@pytest.mark.parametrize("way", [[], ["--gan.unpaired"]])
def test_patches_of_images_and_whole_images_of_any_size(folder: Path, tmp_path: Path, way: list[str]) -> None:
    words = ["--patch", 12, "--augment", "affine", "--foreground", 0.5]
    run = train(folder / "data.csv", tmp_path / "run", *words, *way)
    assert (run / "samples/step-00000002.png").is_file()
    generator = load_generator(run / "model")
    assert generator.spec.patch and generator.spec.size == (12, 12)
    labels = np.zeros((30, 21), np.uint8)
    labels[8:20, 5:15] = 3
    Image.fromarray(labels).save(tmp_path / "mask.png")
    given = ["--mask", tmp_path / "mask.png", "--prompt", "a disc", "--modality", "X-ray"]
    whole = make("generate", run, tmp_path / "whole", *given)
    assert pixels(tmp_path / "whole" / whole[0]["path"]).shape == (30, 21)
    crops = make("generate", run, tmp_path / "crops", *given, "--crops")
    assert pixels(tmp_path / "crops" / crops[0]["path"]).shape == (12, 12)


@pytest.mark.parametrize("kind", ["size", "preset"])
def test_every_shipped_file_is_valid(kind: str) -> None:
    names = shipped(Config, kind)
    assert names
    for name in names:
        config = configure(Config, data="a.csv", out="run", **{kind: name})
        divisor = config.network.patch * 2 ** (len(config.network.widths) - 1)
        assert config.image_size[0] % divisor == 0
        assert config.image_size[0] >= 3 * 2**config.gan.layers * 2 ** (config.gan.scales - 1)
        assert config.text.dropout == 0 and config.loop.weight_decay == 0


def test_the_published_settings_are_the_defaults_of_the_losses() -> None:
    published = configure(Config, data="a.csv", out="run", preset="dgm-vlc")
    names = ("adversary", "reconstruction", "reconstruction_weight", "correlation_weight", "pool")
    assert [getattr(published.gan, name) for name in names] == [getattr(GANOptions(), name) for name in names]
    assert published.network.fusion == "affine" and published.network.style == 100 and published.gan.r1 == 0


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """Runs a command that has to fail; gives its sentence and checks that nothing was left behind."""

    def run(*words: object, out: Path | None = None) -> str:
        target = out or tmp_path / "bad"
        capsys.readouterr()
        assert medloom((*words, "--out", target)) == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error and (out is not None or not target.exists())
        return error[error.index("medloom: ") :]

    return run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--image-size", "17"], "images of 17 x 17 pixels: this network needs multiples of 2 on each axis"),
        (["--gan.layers", "3"], "gan.scales 2 with gan.layers 3 needs 48 or more on each axis"),
        (["--network.fusion", "film"], "--network.fusion film: allowed are cross-attention, affine, none"),
        (
            ["--network.fusion", "cross-attention", "--network.attention", "true", "false"],
            "at its last resolution of a resnet",
        ),
        (
            ["--network.fusion", "none", "--table", "level"],
            "table by none in 2-D is not supported by the resnet network",
        ),
        (["--network.kind", "dynunet"], "the setting network.kind is dynunet: allowed are resnet, unet"),
        (["--network.mask-classes", "1", "2"], "label 3 is not one of the mask classes (1 label 1, 2 label 2)"),
        (["--network.mask-classes", "3", "3"], "network.mask_classes: 3 occurs twice"),
        (["--gan.adversary", "none", "--gan.unpaired"], "--gan.unpaired needs an adversary"),
        (["--loop.compile"], "--loop.compile cannot follow the slope of R1"),
        (["--gan.scale", "1"], "unknown option --gan.scale, did you mean 'gan.scales'?"),
        (["--preset", "dgm"], "did you mean 'dgm-vlc'?"),
    ],
)
def test_mistakes_in_options(folder: Path, words: list[str], message: str, fails: Callable) -> None:
    assert message in fails("train", "gan", "--data", folder / "data.csv", *WORDS, *SHORT, *words)


def test_mistakes_in_masks(folder: Path, tmp_path: Path, fails: Callable) -> None:
    words = ["train", "gan", *WORDS, *SHORT, "--data"]
    assert "no mask column" in fails(*words, without(folder / "data.csv", "mask"))
    root = tmp_path / "data"
    root.mkdir()
    for name in (
        "data.csv",
        *(f"{number}.png" for number in range(ROWS)),
        *(f"m{number}.png" for number in range(ROWS)),
    ):
        (root / name).write_bytes((folder / name).read_bytes())
    many = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(many).save(root / "m7.png")
    assert "the masks have 255 labels, 1 to 255: a model takes at most 100" in fails(*words, root / "data.csv")
    error = fails(*words, root / "data.csv", "--network.mask-classes", "3")
    assert "m7.png: label 1 is not one of the mask classes (3 label 3)" in error
    Image.fromarray(np.stack([many, many, many[::-1]], -1)).save(root / "m7.png")
    assert "m7.png is not a label map: it is in colour" in fails(*words, root / "data.csv")
    for number in range(ROWS):
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(root / f"m{number}.png")
    assert "all masks are background (0)" in fails(*words, root / "data.csv")


def test_mistakes_at_generation(folder: Path, tmp_path: Path, fails: Callable) -> None:
    told = ["generate", "--model", folder / "run", "--modality", "X-ray", "--table", "level=150"]
    assert "the condition has no mask, which every training image had" in fails(*told, "--prompt", "a disc")
    Image.fromarray(np.full((16, 16), 9, np.uint8)).save(tmp_path / "other.png")
    given = ["--prompt", "a disc", "--mask", tmp_path / "other.png"]
    error = fails(*told, *given, out=tmp_path / "left")
    assert "other.png: label 9 is not one of the mask classes (3 label 3)" in error
    weights = tmp_path / "run/model/network/model.safetensors"
    run = train(folder / "data.csv", tmp_path / "run")
    weights.write_bytes(weights.read_bytes()[:2000])
    assert "cannot be loaded" in fails("generate", "--model", run, "--prompt", "a disc", "--mask", folder / "m1.png")
