"""Options: one dataclass is the command line, the YAML file and Python."""

from pathlib import Path

import pytest

from medloom.core.config import configure, parse, shipped
from medloom.core.errors import UserError
from medloom.generators.diffusion.options import TextToImage as Config
from medloom.recipes import generate
from medloom.recipes.whatif import Config as WhatIf

NEEDED = ["--data", "a.csv", "--out", "run"]


def test_dashes_flags_and_lists() -> None:
    words = ["--skip-bad", "--network.widths", "8", "16", "--image-size", "32,48", "--loop.learning-rate=0.5"]
    config = parse(Config, [*NEEDED, *words], "train text2image")
    assert config.skip_bad and config.network.widths == (8, 16) and config.image_size == (32, 48)
    assert config.loop.learning_rate == 0.5


def test_from_is_spoken_as_it_is_written() -> None:
    assert parse(Config, [*NEEDED, "--from", "old"], "x").from_run == Path("old")


def test_an_option_that_is_given_again_and_again() -> None:
    words = ["--data", "a.csv", "--model", "m", "--out", "o", "--set", "a=1,b=2", "--set=c='x y'"]
    config = parse(WhatIf, words, "whatif")
    assert config.set == ("a=1,b=2", "c='x y'") and parse(WhatIf, words[:6], "whatif").set == ()
    assert configure(WhatIf, data="a.csv", model="m", out="o", set=config.set) == config


def test_precedence(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("loop:\n  steps: 7\n  batch: 5\npreset: minim\n")
    config = parse(Config, [*NEEDED, "--config", str(tmp_path / "mine.yaml"), "--loop.batch", "3"], "x")
    assert config.loop.batch == 3  # the command line
    assert config.loop.steps == 7  # the file, over the preset's 20,000
    assert config.loop.learning_rate == 1e-5  # the preset, over the size
    assert config.network.widths == (64, 128, 192, 256)  # the size


def test_an_empty_list_takes_the_place_of_a_default() -> None:
    kept = configure(generate.Config, model="run", out="out", keep=[])
    assert kept.keep == () != generate.Config(model=Path("run"), out=Path("out")).keep


def test_python_is_the_same_as_the_command_line() -> None:
    words = ["--size", "small", "--loop.steps", "9"]
    assert configure(Config, data="a.csv", out="run", size="small", loop={"steps": 9}) == parse(
        Config, [*NEEDED, *words], "text2image"
    )


@pytest.mark.parametrize("kind", ["size", "preset"])
def test_every_shipped_file_is_valid(kind: str) -> None:
    names = shipped(Config, kind)
    assert names
    for name in names:
        configure(Config, data="a.csv", out="run", **{kind: name})


def test_published_settings() -> None:
    minim = configure(Config, data="a.csv", out="run", preset="minim")
    assert (minim.loop.steps, minim.loop.batch, minim.loop.accumulate, minim.loop.learning_rate) == (20000, 80, 4, 1e-5)
    assert (minim.noise.process, minim.noise.schedule, minim.noise.prediction) == ("ddpm", "linear", "epsilon")
    before = configure(Config, data="a.csv", out="run", preset="minim-predecessor")
    assert (before.noise.schedule, before.text.modality_as) == ("scaled-linear", "text")
    assert before.loop.learning_rate == 1e-5


def test_every_option_has_a_line_of_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(Config, ["--help"], "train text2image")
    text = capsys.readouterr().out
    assert "--loop.learning-rate" in text and "peak learning rate" in text and "_rate" not in text


def test_abbreviations_are_refused() -> None:
    with pytest.raises(UserError, match="unknown option --loop.step, did you mean '--loop.steps'"):
        parse(Config, [*NEEDED, "--loop.step", "3"], "x")


@pytest.mark.parametrize("path", sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.yaml")), ids=str)
def test_every_example_is_valid(path: Path) -> None:
    config = parse(Config, [*NEEDED, "--config", str(path)], "train text2image")
    assert config.image_size in ((256,), (512,))
