"""`medloom train autoencoder` from the command line, and its run as the autoencoder of a latent generator."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image

from medloom.core.config import configure, shipped
from medloom.core.errors import UserError
from medloom.core.files import hash_folder
from medloom.generators.autoencoder.find import find_autoencoder
from medloom.generators.autoencoder.options import EncodeImages
from medloom.generators.preparation import Prepared, prepare
from medloom.recipes.commands import run_command

OPTIONS = {
    "image_size": [16],
    "validation": 0.25,
    "autoencoder.widths": [8, 16],
    "autoencoder.discriminator_width": 4,
    "autoencoder.discriminator_layers": 1,
    "autoencoder.adversarial_start": 1,
    "loop.steps": 2,
    "loop.batch": 4,
    "loop.precision": "fp32",
    "loop.warmup": 1,
    "loop.log_every": 1,
    "loop.validate_every": 2,
    "loop.checkpoint_every": 2,
    "device": "cpu",
}


def train(data: Path, out: Path, **changed: Any) -> Path:
    return run_command("train autoencoder", data=data, out=out, **{**OPTIONS, **changed})


def without_texts(manifest: Path) -> Path:
    lines = [line.split(",") for line in manifest.read_text().replace(", ", " ").splitlines()]
    target = manifest.with_name("no-texts.csv")
    target.write_text("\n".join(",".join([cells[0], *cells[2:]]) for cells in lines) + "\n")
    return target


def prepared_as(data: Path, **options: Any) -> Prepared:
    given = {"image_size": (16, 16), "validation": 0.25, **options}
    return prepare(EncodeImages(data=data, out=data.parent / "none", **given), verbose=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A manifest with a split column and a run on it, for tests that only read."""
    root = tmp_path_factory.mktemp("autoencoder")
    random = np.random.default_rng(0)
    lines = ["path,modality,patient_id,split"]
    for number in range(8):
        Image.fromarray(random.integers(0, 255, (16, 16), dtype=np.uint8)).save(root / f"{number}.png")
        lines.append(f"{number}.png,Disc,p{number},{('train', 'train', 'val', 'test')[number % 4]}")
    (root / "manifest.csv").write_text("\n".join(lines) + "\n")
    return root / "manifest.csv", train(root / "manifest.csv", root / "run")


def test_a_run_without_texts_is_described_and_reported(make_manifest: Callable[..., Path], tmp_path, capsys):
    out = train(without_texts(make_manifest()), tmp_path / "run")
    index = json.loads((out / "index.json").read_text())
    assert (index["family"], index["components"]) == ("autoencoder", {"autoencoder": "AutoencoderKL"})
    report = json.loads((out / "reconstruction.json").read_text())
    figures = report["modalities"]
    assert report["split"] == "validation"
    assert figures["all images"]["n"] == 3
    assert sum(entry["n"] for name, entry in figures.items() if name != "all images") == 3
    for name in ("reconstruction.png", "model_card.md", "samples/step-00000002.png", "model/autoencoder.json"):
        assert (out / name).is_file(), name
    shown = capsys.readouterr()
    assert not shown.out
    assert "PSNR" in shown.err
    AutoencoderKL.from_pretrained(out / "model" / "vae")


def test_the_same_command_says_that_it_is_finished(trained, capsys):
    data, out = trained
    before = hash_folder(out)
    assert train(data, out) == out
    assert "is finished" in capsys.readouterr().err
    assert hash_folder(out) == before


def test_other_options_are_refused(trained):
    data, out = trained
    with pytest.raises(UserError, match=r"autoencoder\.kl_weight was 1e-06, now 0\.1"):
        train(data, out, **{"autoencoder.kl_weight": 0.1})


def test_a_run_whose_report_is_missing_writes_it(trained, tmp_path):
    data, out = trained
    report = (out / "reconstruction.json").read_text()
    (out / "reconstruction.json").unlink()
    train(data, out)
    assert (out / "reconstruction.json").read_text() == report


def test_training_goes_on_from_a_diffusers_folder(trained, tmp_path):
    data, out = trained
    changed = {"loop.steps": 1, "loop.learning_rate": 1e-9}
    with pytest.raises(UserError, match=r"autoencoder\.widths would not be used: --base brings its own"):
        train(data, tmp_path / "tuned", base=out / "model", **changed)
    given = {name: value for name, value in OPTIONS.items() if name != "autoencoder.widths"}
    given |= {"data": data, "out": tmp_path / "tuned", "base": out / "model"}
    tuned = run_command("train autoencoder", **{**given, **changed})
    old, new = (AutoencoderKL.from_pretrained(folder / "model" / "vae") for folder in (out, tuned))
    for before, after in zip(old.parameters(), new.parameters(), strict=True):
        torch.testing.assert_close(before, after, atol=1e-6, rtol=0)


def test_a_run_is_found_for_a_generator(trained):
    data, out = trained
    autoencoder = find_autoencoder(out, prepared_as(data))
    assert autoencoder.latent_shape((16, 16)) == (4, 8, 8)
    assert find_autoencoder(out / "model", prepared_as(data)).factor == 2
    assert find_autoencoder(out / "model" / "vae", prepared_as(data)).factor == 2


def test_grey_data_fit_a_colour_autoencoder(make_manifest: Callable[..., Path], tmp_path):
    colour = make_manifest()
    out = train(colour, tmp_path / "run")
    lines = colour.read_text().splitlines()
    grey = colour.with_name("grey.csv")
    grey.write_text("\n".join([lines[0], *(line for line in lines if "Disc" in line)]) + "\n")
    prepared = prepared_as(grey)
    assert prepared.spec.channels == 1
    assert find_autoencoder(out, prepared).image_channels == 3


def test_an_autoencoder_of_another_image_space_is_refused(trained):
    data, out = trained
    with pytest.raises(UserError, match=r"size \(16, 16\) in the autoencoder .*, \(32, 32\) in the data"):
        find_autoencoder(out, prepared_as(data, image_size=(32, 32)))


def test_an_autoencoder_that_has_seen_the_test_set_is_refused(trained):
    data, out = trained
    swapped = data.with_name("swapped.csv")
    swapped.write_text(data.read_text().replace("test", "later").replace("train", "test").replace("later", "train"))
    with pytest.raises(UserError, match="4 of its 4 patients were in the training set of the autoencoder"):
        find_autoencoder(out, prepared_as(swapped))


def test_folders_without_an_autoencoder_are_refused(trained, tmp_path):
    data, _ = trained
    with pytest.raises(UserError, match="holds no AutoencoderKL"):
        find_autoencoder(tmp_path, prepared_as(data))


def test_images_that_the_networks_cannot_take_are_refused_and_leave_nothing(trained, tmp_path):
    data, _ = trained
    with pytest.raises(UserError, match="two axes"):
        train(data, tmp_path / "a", image_size=[16, 16, 16])
    with pytest.raises(UserError, match="not a multiple of 2"):
        train(data, tmp_path / "b", image_size=[15])
    with pytest.raises(UserError, match="too small for a discriminator of 3 layers"):
        train(data, tmp_path / "c", **{"autoencoder.discriminator_layers": 3})
    assert not [name for name in "abc" if (tmp_path / name).exists()]


@pytest.mark.parametrize("kind", ["size", "preset"])
def test_every_shipped_setting_is_read(kind):
    names = shipped(EncodeImages, kind)
    assert names
    for name in names:
        config = configure(EncodeImages, data="m.csv", out="run", **{kind: name})
        assert min(config.image_size) % 2 ** (len(config.autoencoder.widths) - 1) == 0
