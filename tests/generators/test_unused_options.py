"""An option that was given and would change nothing is refused by name; run.json holds what the model is."""

from pathlib import Path

import pytest
from conftest import TINY, medloom, write_manifest
from stable_diffusion import make_stable_diffusion

from medloom.core.config import configure, given_options
from medloom.core.errors import UserError
from medloom.core.files import read_json
from medloom.generators.diffusion.options import TextToImage
from medloom.recipes.commands import run_command

MASKS_AS_PRIORS = {"prior": "mask"}
SHORT = {
    "image_size": [16],
    "validation": 0.2,
    "loop.steps": 1,
    "loop.batch": 2,
    "loop.precision": "fp32",
    "device": "cpu",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("unused")
    write_manifest(root / "data", masks=True)
    run_command("train text2image", data=root / "data/manifest.csv", out=root / "run", **{**TINY, "text.dropout": 0.2})
    make_stable_diffusion(root / "sd")
    return root


def options_of(run: Path) -> dict[str, object]:
    return dict(read_json(run / "run.json")["identity"]["options"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"network.widths": [8, 8]},
            r"network\.widths would not be used: the run of --from brings its own \(",
        ),
        (
            {"network.fusion": "affine"},
            r"--network\.fusion would not be used: .*fusion cross-attention\)",
        ),
        ({"network.mask": "channels"}, r"--network\.mask would not be used: .* \(--network\.mask none\)"),
        ({"noise.process": "ddpm"}, r"--noise\.process would not be used: .* \(--noise\.process flow\)"),
        ({"text.encoder": "somewhere"}, r"--text\.encoder would not be used: .* \(--text\.encoder local\)"),
        ({"text.max_tokens": 99}, r"--text\.max-tokens would not be used: .* \(--text\.max-tokens "),
        ({"text.modality_as": "token"}, r"--text\.modality-as would not be used"),
        ({"autoencoder": "somewhere"}, r"--autoencoder would not be used"),
        ({"hide_classes": ["a"]}, r"--hide-classes would not be used"),
        ({"table": ["label"]}, "--table label: the run of --from is conditioned on no columns"),
        ({"lora": 4}, "--lora needs --base"),
    ],
)
def test_what_a_run_that_is_continued_brings(given: dict[str, object], said: str, root: Path, tmp_path: Path) -> None:
    run = {"data": root / "data/manifest.csv", "out": tmp_path / "run", "from_run": root / "run"}
    with pytest.raises(UserError, match=said):
        run_command("train text2image", **SHORT, **run, **given)
    assert not (tmp_path / "run").exists()


def test_the_options_of_the_run_may_be_given_again(root: Path, tmp_path: Path) -> None:
    run = {"data": root / "data/manifest.csv", "from_run": root / "run"}
    same = run_command("train text2image", **{**TINY, "loop.steps": 1}, **run, out=tmp_path / "same")
    short = run_command("train text2image", **SHORT, **run, out=tmp_path / "short")
    # Of the network and the text encoder both say what the run has, however they were asked for.
    for name in ("network", "noise"):
        assert options_of(same)[name] == options_of(short)[name] == options_of(root / "run")[name]
    assert options_of(short)["text"]["width"] == TINY["text.width"]  # type: ignore[index]
    # What is taken anew is the new training's own.
    assert options_of(short)["text"]["dropout"] == 0.1  # type: ignore[index]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"network.widths": [8, 8]}, r"network\.widths would not be used: --base brings its own; leave it out"),
        (
            {"network.fusion": "none"},
            r"--network\.fusion would not be used: --base .*fusion cross-attention\)",
        ),
        ({"noise.process": "flow"}, r"--noise\.process would not be used: --base .* \(--noise\.process ddpm\)"),
        ({"noise.schedule": "cosine"}, r"noise\.schedule would not be used: .* \(noise\.schedule scaled-linear\)"),
        ({"text.modality_as": "token"}, r"--text\.modality-as would not be used"),
        ({"text.vocabulary": 300}, r"text\.vocabulary would not be used: --base brings its own"),
        ({"table": ["label"]}, "table by cross-attention in 2-D is not supported by the exportable network"),
        ({"network.mask": "channels"}, "mask by channels in 2-D is not supported by the exportable network"),
    ],
)
def test_what_a_base_brings(given: dict[str, object], said: str, root: Path, tmp_path: Path) -> None:
    run = {"data": root / "data/manifest.csv", "out": tmp_path / "run", "base": str(root / "sd"), "text.max_tokens": 24}
    with pytest.raises(UserError, match=said):
        run_command("train text2image", **SHORT, **run, **given)
    assert not (tmp_path / "run").exists()


def test_a_preset_and_a_base(root: Path, tmp_path: Path) -> None:
    """What a preset says of the noise is the base's; run.json has the base's."""
    run = {"data": root / "data/manifest.csv", "base": str(root / "sd"), "text.max_tokens": 24, "preset": "minim"}
    made = run_command("train text2image", **{**SHORT, "loop.accumulate": 1}, **run, out=tmp_path / "run")
    assert options_of(made)["noise"]["schedule"] == "scaled-linear"  # type: ignore[index]
    assert options_of(made)["text"]["modality_as"] == "text"  # type: ignore[index]
    assert "widths" not in options_of(made)["network"]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("task", "given", "said"),
    [
        (
            "text2image",
            {"noise.schedule": "cosine"},
            r"noise\.schedule would not be used: it is of --noise",
        ),
        ("text2image", {"noise.process": "ddpm", "noise.shift": 2.0}, r"noise\.shift would not be used: it is of"),
        ("text2image", {"network.mask_balance": 0.5}, r"network\.mask_balance would not be used: the network takes no"),
        ("text2image", {"stage": 1}, "--stage would not be used: only editors are trained in two stages"),
        ("text2image", {"unregistered": 0.5}, "unregistered would not be used: this model takes no prior image"),
        ("text2image", {"text.train": False}, r"--no-text\.train would not be used: a local text encoder is always"),
        ("text2image", {"foreground": 0.5}, "foreground would not be used: it draws patches, which --patch asks for"),
        ("mask2image", {"patch": [8], "image_size": [16]}, "--image-size would not be used: --patch is the size"),
        ("text2image", {"hu_window": [-100.0, 100.0]}, "--hu-window would not be used: no image is in HU"),
        ("gan", {"hu_window": [-100.0, 100.0]}, "--hu-window would not be used: no image is in HU"),
        (
            "edit",
            {"days": False, "columns": MASKS_AS_PRIORS},
            "--no-days would not be used: not every row has a column days",
        ),
        (
            "edit",
            {"unregistered": 0.5, "columns": MASKS_AS_PRIORS},
            "unregistered would not be used: no row has a registered prior image",
        ),
        ("gan", {"gan.mask_weight": 2.0}, r"gan\.mask_weight would not be used: it is of --gan\.unpaired"),
        ("gan", {"gan.adversary": "none", "gan.layers": 2}, r"gan\.layers would not be used: there is no adversary"),
        ("autoencoder", {"autoencoder.codes": 64}, r"autoencoder\.codes would not be used: it is of --kind vq"),
        ("autoencoder", {"kind": "vq", "autoencoder.levels": [3]}, r"autoencoder\.levels would not be used: .* fsq"),
        (
            "autoencoder",
            {"kind": "vq", "autoencoder.kl_weight": 1.0},
            r"kl_weight would not be used: it is of",
        ),
    ],
)
def test_what_a_family_does_not_use(task: str, given: dict[str, object], said: str, root: Path, tmp_path: Path) -> None:
    short = {name: value for name, value in SHORT.items() if name != "image_size"}
    with pytest.raises(UserError, match=said):
        run_command(f"train {task}", data=root / "data/manifest.csv", out=tmp_path / "run", **short, **given)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "given",
    [
        {"with_text": True},
        {"keep": ["label"]},
        {"columns": {"text": "Text"}},
        {"images_are_patients": True},
        {"skip_bad": True},
        {"frame": "0"},
    ],
)
def test_options_of_a_table_without_one(given: dict[str, object], root: Path, tmp_path: Path) -> None:
    asked = {"generate": {"prompt": "a disc"}, "edit": {"image": tmp_path / "prior.png", "text": "a disc"}}
    for command, condition in asked.items():
        with pytest.raises(UserError, match="would not be used: it is of a table of --data"):
            run_command(command, model=root / "run", out=tmp_path / "out", **condition, **given)
    assert not (tmp_path / "out").exists()


def test_on_the_command_line_and_in_a_file(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "train",
        "text2image",
        "--data",
        root / "data/manifest.csv",
        "--from",
        root / "run",
        "--out",
        tmp_path / "run",
    ]
    assert medloom([*words, "--image-size", 16, "--noise.process", "ddpm"]) == 2
    assert "--noise.process would not be used" in capsys.readouterr().err
    (tmp_path / "mine.yaml").write_text("network: {depth: 3}\n")
    assert medloom([*words, "--image-size", 16, "--config", tmp_path / "mine.yaml"]) == 2
    assert "network.depth would not be used" in capsys.readouterr().err


def test_a_file_is_no_rank(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "text2image", "--data", root / "data/manifest.csv", "--base", root / "sd"]
    words += ["--out", tmp_path / "run"]
    assert medloom([*words, "--lora", "kohya.safetensors"]) == 2
    assert "it is a rank; a LoRA file becomes a base with `medloom data import weights" in capsys.readouterr().err


def test_which_options_were_given(tmp_path: Path) -> None:
    given = {"data": tmp_path, "out": tmp_path, "noise.process": "flow", "loop": {"steps": 7}}
    assert given_options(configure(TextToImage, **given)) == {"data", "out", "noise.process", "loop.steps"}
    assert given_options(TextToImage(data=tmp_path, out=tmp_path, stage=1)) == {"data", "out", "stage"}
