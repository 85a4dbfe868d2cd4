"""A user's mistake gets one clear sentence and exit status 2, and leaves nothing behind."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import medloom, with_settings
from PIL import Image

TINY_WORDS = (
    "--image-size 16 --network.widths 16 32 --network.attention false true --network.patch 2 --network.head-width 16"
    " --network.condition-width 16 --text.width 16 --text.layers 1 --text.vocabulary 300 --text.max-tokens 24"
    " --loop.precision fp32 --loop.batch 4 --loop.steps 2 --loop.warmup 0 --loop.validate-every 2"
    " --loop.checkpoint-every 2 --device cpu --validation 0.2"
).split()


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """Runs a command that has to fail; gives its sentence and checks that `--out` was not left behind."""

    def run(*words: object, out: Path | None = tmp_path / "out") -> str:
        existed = out is not None and out.exists()
        arguments = [str(word) for word in words] + (["--out", str(out)] if out else [])
        assert medloom(arguments) == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error
        if out is not None and not existed:
            assert not out.exists(), list(out.rglob("*"))
        sentence = next(line for line in error.splitlines() if line.startswith("medloom: "))
        return error[error.index(sentence) :]

    return run


@pytest.fixture
def manifest(make_manifest: Callable[..., Path]) -> Path:
    return make_manifest(8)


def rewrite(manifest: Path, *changes: tuple[str, str]) -> Path:
    text = manifest.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    manifest.write_text(text)
    return manifest


def train_words(manifest: Path, *more: str) -> list[str]:
    return ["train", "text2image", "--data", str(manifest), *TINY_WORDS, *more]


def test_empty_manifest(fails: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    assert "is empty: a manifest has a header and at least one row" in fails(*train_words(tmp_path / "empty.csv"))


def test_no_text_column(fails: Callable[..., str], manifest: Path) -> None:
    error = fails(*train_words(rewrite(manifest, ("Text", "captoin"))))
    assert "no text column (column 'captoin', did you mean 'caption'?)" in error
    assert "--columns text=NAME" in error


def test_not_utf8(fails: Callable[..., str], manifest: Path) -> None:
    manifest.write_bytes(manifest.read_bytes().replace(b"A disc, left.", "Läsion".encode("latin-1"), 1))
    assert "line 2, byte 9: not UTF-8; save the table as UTF-8" in fails(*train_words(manifest))


def test_unquoted_comma_by_line(fails: Callable[..., str], manifest: Path) -> None:
    error = fails(*train_words(rewrite(manifest, ('"A square, left."', "A square, left."))))
    assert "line 3: 7 fields where the header has 6: a text with a comma must be in double quotes" in error
    assert "1 of 8 rows cannot be used" in error and "--skip-bad" in error


def test_missing_file_empty_text_and_duplicate_by_line(fails: Callable[..., str], manifest: Path) -> None:
    rewrite(manifest, ("0.png", "gone.png"), ('"A square, left."', ""), ("3.png", "2.png"))
    error = fails(*train_words(manifest))
    assert "3 of 8 rows cannot be used" in error
    assert "line 2: column 'path': file missing" in error
    assert "line 3: column 'Text': empty text" in error
    assert "line 5: column 'path': the same path as line 4" in error


@pytest.mark.parametrize("kind", ["constant", "truncated", "not finite"])
def test_unusable_image(fails: Callable[..., str], manifest: Path, kind: str) -> None:
    target = manifest.parent / "2.png"
    if kind == "constant":
        Image.new("L", (16, 16), 40).save(target)
    elif kind == "truncated":
        target.write_bytes(target.read_bytes()[:-40])
    else:
        import tifffile

        values = np.random.default_rng(0).random((16, 16)).astype(np.float32)
        values[3, 3] = np.nan
        tifffile.imwrite(manifest.parent / "2.tif", values)
        rewrite(manifest, ("2.png", "2.tif"))
        for other in ("0", "4", "6"):
            tifffile.imwrite(manifest.parent / f"{other}.tif", np.nan_to_num(values))
            rewrite(manifest, (f"{other}.png", f"{other}.tif"))
    error = fails(*train_words(manifest))
    assert "1 of " in error and "line 4: " in error and "2." in error


def test_bad_images_are_left_out_only_when_asked(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (16, 16), 40).save(manifest.parent / "2.png")
    assert medloom([*train_words(manifest, "--skip-bad"), "--out", str(tmp_path / "run")]) == 0
    assert "1 unusable images were left out (--skip-bad)" in capsys.readouterr().err


def test_two_sizes_without_a_rule(fails: Callable[..., str], manifest: Path) -> None:
    Image.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20)).save(manifest.parent / "0.png")
    error = fails(*train_words(manifest, "--resize", "none"))
    assert "sizes 16 x 16 (7 images), 20 x 20 (1 images)" in error and "--resize pad, crop or stretch" in error


def test_a_column_of_patients_is_no_condition(fails: Callable[..., str], manifest: Path) -> None:
    head, *lines = manifest.read_text().splitlines()
    named = [f"{head},study", *(f"{line},ZZSTUDY{number:04}" for number, line in enumerate(lines))]
    manifest.write_text("\n".join(named) + "\n")
    error = fails(*train_words(manifest, "--table", "study"))
    assert "look like identifiers of single patients" in error and "leave the column out" in error


def test_no_patients(fails: Callable[..., str], manifest: Path) -> None:
    error = fails(*train_words(rewrite(manifest, ("patient_id", "number"))))
    assert "names no patients" in error and "--images-are-patients" in error


def test_options(fails: Callable[..., str], manifest: Path, tmp_path: Path) -> None:
    error = fails(*train_words(manifest, "--loop.stepz", "3"))
    assert "unknown option --loop.stepz, did you mean '--loop.steps'?" in error
    assert "--loop.steps: give a whole number, not 'many'." in fails(*train_words(manifest, "--loop.steps", "many"))
    assert "--loop.steps 0: it has to be at least 1" in fails(*train_words(manifest, "--loop.steps", "0"))
    (tmp_path / "options.yaml").write_text("loop:\n  batchh: 3\n")
    error = fails(*train_words(manifest, "--config", str(tmp_path / "options.yaml")))
    assert "unknown option --loop.batchh, did you mean '--loop.batch'?" in error
    assert "unknown size 'tyni', did you mean 'tiny'?" in fails(*train_words(manifest, "--size", "tyni"))
    assert "--data has to be given" in fails("train", "text2image")
    assert "did you mean 'train text2image'?" in fails("train", "text2imag", out=None)


def test_cuda_where_there_is_none(fails: Callable[..., str], manifest: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is CUDA here")
    assert "no CUDA device is available" in fails(*train_words(manifest, "--device", "cuda"))


def test_out_that_holds_something_else(fails: Callable[..., str], manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    assert "already has other content" in fails(*train_words(manifest), out=tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


@pytest.mark.slow
@pytest.mark.parametrize("limit", [pytest.param(4000, id="caching"), pytest.param(30_000, id="saving")])
def test_disk_too_small(limit: int, manifest: Path, tmp_path: Path) -> None:
    """A limit on file size makes the system refuse writes, as a full disk does."""
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));"
        "from medloom.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    words = [
        sys.executable,
        "-c",
        script,
        *with_settings([*train_words(manifest), "--out", tmp_path / "out"], tmp_path),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 2, done.stderr
    assert "no space left for writing" in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.partial*"))


@pytest.fixture
def run(manifest: Path, tmp_path: Path) -> Path:
    assert medloom([*train_words(manifest), "--out", str(tmp_path / "run")]) == 0
    return tmp_path / "run"


def test_generate(fails: Callable[..., str], run: Path, manifest: Path, tmp_path: Path) -> None:
    words = ["generate", "--model", run, "--prompt", "A disc."]
    assert "--n 0" in fails(*words, "--modality", "Disc", "--n", "0")
    assert "--seed -1 is out of range" in fails(*words, "--modality", "Disc", "--seed", "-1")
    assert "modality 'MRI' was never trained on; known: Disc, Square" in fails(*words, "--modality", "MRI")
    assert "name a modality; known: Disc, Square" in fails(*words)
    assert "view 'top' was never trained on; known: left, right" in fails(*words, "--modality", "Disc", "--view", "top")
    assert "unknown sampler 'eulr'" in fails(*words, "--modality", "Disc", "--sampler", "eulr")
    assert "sampler of a RectifiedFlow path 'ddim'" in fails(*words, "--modality", "Disc", "--sampler", "ddim")
    assert "guidance" in fails(*words, "--modality", "Disc", "--guidance", "-2")
    assert "--model" in fails("generate", "--model", tmp_path / "nowhere", "--prompt", "x")
    assert "is not a run folder: it has no index.json" in fails("generate", "--model", manifest.parent, "--prompt", "x")
    (run / "model").rename(run / "gone")
    assert "has no model yet" in fails(*words, "--modality", "Disc")


def test_a_run_of_another_kind_or_cut_short(fails: Callable[..., str], run: Path) -> None:
    words = ["generate", "--model", run, "--prompt", "A disc.", "--modality", "Disc"]
    weights = run / "model" / "denoiser" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert "cannot be loaded" in fails(*words)
    index = (run / "index.json").read_text()
    (run / "index.json").write_text(index.replace("diffusion", "autoencoder"))
    assert "holds a run of the family autoencoder, which generates no images" in fails(*words)
    (run / "index.json").write_text(index[:20])
    assert "is not valid JSON" in fails(*words)


def test_resume_with_other_options(fails: Callable[..., str], run: Path, manifest: Path) -> None:
    error = fails(*train_words(manifest, "--loop.learning-rate", "0.1"), out=run)
    assert "loop.learning_rate was 0.0005, now 0.1" in error
    assert "columns.text was" in fails(*train_words(manifest, "--columns", "text=label"), out=run)
