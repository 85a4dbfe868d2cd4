"""`medloom train text-encoder`, and generators that read with what it made."""

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import medloom, with_settings

from medloom.core.errors import UserError
from medloom.core.files import hash_file, read_json
from medloom.data.splits import Split
from medloom.generators.contrastive.pairs import contrastive_loss, found_first
from medloom.generators.run_folder import RunFolder
from medloom.generators.storage import load_generator
from medloom.networks.image_encoder import ImageEncoder
from medloom.networks.text import load_text_encoder
from medloom.recipes.commands import run_command
from medloom.training.trackers import read_metrics

OPTIONS = {
    "image_size": [16],
    "validation": 0.3,
    "encoder.width": 16,
    "encoder.layers": 1,
    "encoder.vocabulary": 300,
    "encoder.max_tokens": 24,
    "encoder.joint": 16,
    "encoder.image_widths": [8, 16],
    "loop.precision": "fp32",
    "loop.batch": 16,
    "loop.warmup": 0,
    "loop.log_every": 10,
    "loop.ema": 0.9,
    "loop.learning_rate": 2e-3,
    "device": "cpu",
}
LOCAL = ("text.vocabulary", "text.width", "text.layers")


def without_local(options: dict[str, object]) -> dict[str, object]:
    """Options less those of a local text encoder."""
    return {name: value for name, value in options.items() if name not in LOCAL}


def train(data: Path, out: Path, steps: int = 4, **more: object) -> Path:
    loop = {"loop.steps": steps, "loop.validate_every": steps, "loop.checkpoint_every": steps}
    return run_command("train text-encoder", data=data, out=out, **{**OPTIONS, **loop, **more})


def test_images_find_the_texts_of_held_out_patients(
    make_manifest: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(make_manifest(60), tmp_path / "run", 240, columns={"text": "label"})
    told = capsys.readouterr()
    said = next(line for line in (told.out + told.err).splitlines() if "held-out images find their text" in line)
    found = float(said.split("text in ")[1].split("%")[0])
    assert "by chance in 50.0%" in said and found >= 85.0
    encoder = load_text_encoder(str(run / "model"), 24)
    ids, mask = encoder.tokenize(["disc", "square"])
    assert encoder(ids, mask)[1].shape == (2, 16)
    assert read_json(run / "index.json")["family"] == "text-encoder"
    kinds = {path.suffix for path in (run / "model").rglob("*") if path.is_file()}
    assert ".safetensors" in kinds and not kinds & {".bin", ".pt", ".pkl"}


def test_a_generator_reads_with_it_and_has_seen_its_patients(
    make_manifest: Callable[..., Path], tmp_path: Path, tiny_options: dict[str, object]
) -> None:
    data = make_manifest(20, masks=True)
    encoder = train(data, tmp_path / "encoder")
    options = {**without_local(tiny_options), "text.encoder": str(encoder)}
    run = run_command("train text2image", data=data, out=tmp_path / "run", **options)
    weights = load_generator(run / "model").model.text.model.state_dict()
    for name, value in load_text_encoder(str(encoder / "model"), 24).model.state_dict().items():
        torch.testing.assert_close(weights[name], value)
    inherited = RunFolder(run).splits()[1]
    assert inherited == Split.from_dict(RunFolder(encoder).description()["split"])
    own = {"network.widths": [16, 32], "network.attention": [False, True], "network.condition_width": 16}
    words = {
        "image_size": [16],
        "network.blocks": 1,
        "gan.width": 8,
        "gan.layers": 1,
        "gan.scales": 1,
        "network.patch": 1,
    }
    loop = {name: value for name, value in options.items() if name.startswith(("loop.", "device", "validation"))}
    words |= {**own, **loop, "text.encoder": str(encoder), "text.max_tokens": 24, "network.head_width": 16}
    gan = run_command("train gan", data=data, out=tmp_path / "gan", **words)
    assert RunFolder(gan).splits()[1] == inherited


def test_one_that_saw_the_test_set_or_is_no_text_encoder_is_refused(
    make_manifest: Callable[..., Path], tmp_path: Path, tiny_options: dict[str, object]
) -> None:
    data = make_manifest(20)
    encoder = train(data, tmp_path / "encoder")
    lines = data.read_text().splitlines()
    tested = [line + (",test" if number % 2 else ",train") for number, line in enumerate(lines[1:])]
    (data.parent / "split.csv").write_text("\n".join([lines[0] + ",split", *tested]) + "\n")
    options = {**without_local(tiny_options), "text.encoder": str(encoder)}
    with pytest.raises(UserError, match=r"the text encoder .*encoder"):
        run_command("train text2image", data=data.parent / "split.csv", out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").iterdir())
    other = run_command("train text2image", data=data, out=tmp_path / "other", **tiny_options)
    with pytest.raises(UserError, match="--text.encoder"):
        options = {**without_local(tiny_options), "text.encoder": str(other)}
        run_command("train text2image", data=data, out=tmp_path / "third", **options)


def test_the_same_seed_gives_the_same_encoder_and_a_finished_run_says_so(
    make_manifest: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_manifest()
    weights = [hash_file(train(data, tmp_path / name) / "model" / "model.safetensors") for name in ("a", "b")]
    assert weights[0] == weights[1]
    capsys.readouterr()
    train(data, tmp_path / "a")
    told = capsys.readouterr()
    assert "is finished: 4 steps. Continue with: medloom train text2image --text.encoder" in told.out + told.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--encoder.temperature", "0"], "the setting encoder.temperature is 0.0: it has to be at least 0.01"),
        (["--encoder.layers", "0"], "the setting encoder.layers is 0"),
        (["--encoder.image-widths", ""], "encoder.image_widths: give one width or more"),
        (["--encoder.image-widths", "4", "4", "4", "4", "4"], "halve images of at least 32 pixels"),
        (["--columns", "text=nothing"], "no column 'nothing' for text"),
        (["--columns", "text=modality_of"], "1 different texts"),
    ],
)
def test_mistakes_are_one_sentence(
    make_manifest: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    data = make_manifest()
    lines = data.read_text().splitlines()
    data.write_text("\n".join([lines[0] + ",modality_of", *(line + ",the same" for line in lines[1:])]) + "\n")
    command = [
        "train",
        "text-encoder",
        "--data",
        str(data),
        "--out",
        str(tmp_path / "run"),
        "--image-size",
        "16",
        *words,
    ]
    assert medloom(command) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_loss_is_that_of_a_uniform_guess_and_falls_to_that_of_shared_texts() -> None:
    """Equal vectors: log N. Perfect vectors: 0, or log 2 where each text stands twice, whose target is shared."""
    flat = torch.ones(4, 2) / math.sqrt(2)
    same = torch.eye(4, dtype=torch.bool)
    assert float(contrastive_loss(flat, flat, same, torch.tensor(10.0))) == pytest.approx(math.log(4))
    assert float(contrastive_loss(torch.eye(4), torch.eye(4), same, torch.tensor(100.0))) == pytest.approx(0, abs=1e-4)
    twice = torch.eye(2).repeat(2, 1)
    shared = twice @ twice.T > 0.5
    loss = contrastive_loss(twice, twice, shared, torch.tensor(100.0))
    assert float(loss) == pytest.approx(math.log(2), abs=1e-4)


def test_found_first_counts_images_whose_nearest_text_is_theirs() -> None:
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    texts = torch.eye(2)
    assert found_first(images, texts, torch.tensor([0, 1, 0])) == pytest.approx(2 / 3)


@pytest.mark.parametrize("dims", [2, 3])
def test_an_image_is_one_vector(dims: int) -> None:
    encoder = ImageEncoder(dims, 1, (8, 12))
    made = encoder(torch.randn(2, 1, *(8,) * dims))
    assert made.shape == (2, 12) and made.dtype == torch.float32


def losses(run: Path) -> list[float]:
    return [float(value) for _, name, value in read_metrics(run / "logs" / "metrics.csv") if name == "loss"]


def test_each_image_is_compared_with_the_whole_batch_however_it_is_divided(
    make_manifest: Callable[..., Path], tmp_path: Path
) -> None:
    """The loss and all that follows from its gradient."""
    data, own = make_manifest(), {"loop.batch": 8, "loop.log_every": 1}
    whole = train(data, tmp_path / "whole", steps=3, **own)
    for parts in (2, 8):
        divided = train(data, tmp_path / f"in-{parts}", steps=3, **own, **{"loop.accumulate": parts})
        assert losses(divided) == pytest.approx(losses(whole), abs=1e-5)


@pytest.mark.slow
def test_each_image_is_compared_with_those_of_all_processes(make_manifest: Callable[..., Path], tmp_path: Path) -> None:
    data, own = make_manifest(), {"loop.batch": 8, "loop.log_every": 1}
    whole = train(data, tmp_path / "whole", steps=3, **own)
    options = {**OPTIONS, **own, "loop.steps": 3, "loop.validate_every": 3, "loop.checkpoint_every": 3}
    words: list[object] = ["train", "text-encoder", "--data", data, "--out", tmp_path / "two"]
    for name, value in {**options, "loop.accumulate": 2}.items():
        words += [f"--{name}", *(value if isinstance(value, list) else [value])]
    several = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "medloom"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*several, "--", *with_settings(words, tmp_path)], capture_output=True, text=True, env=environment, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "two") == pytest.approx(losses(whole), abs=1e-5)


def test_a_batch_of_one_has_nothing_to_compare_with(make_manifest: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="each image is compared with the texts of the others in its batch"):
        train(make_manifest(), tmp_path / "run", **{"loop.batch": 1})
    assert not (tmp_path / "run").exists()
