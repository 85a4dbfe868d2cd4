"""Options: one dataclass is the command line, the YAML file and Python."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
import yaml

from medloom.core.config import configure, parse, plain, shipped
from medloom.core.errors import UserError
from medloom.core.options import options_of, repeated
from medloom.generators.diffusion.options import TextToImage as Config
from medloom.recipes import generate
from medloom.recipes.commands import commands, resolve
from medloom.recipes.whatif import Config as WhatIf

NEEDED = ["--data", "a.csv", "--out", "run"]
# Texts that YAML reads as something else.
TEXTS = ("null", "~", "# note", "[1, 2]", "1e-3", " x", "12", "off", "a: b", "{a}", "a,b", "--data", "", "none", "é\n")


@dataclass(frozen=True)
class Inner:
    """What is inside.

    Attributes:
        widths: of its parts.
        on: whether it is.
    """

    widths: tuple[int, ...] = (8, 16)
    on: bool = True


@dataclass(frozen=True, kw_only=True)
class Base:
    """Inherited.

    Attributes:
        text: said in the base,
            on two lines.
        names: what is called otherwise.
    """

    text: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Every(Base):
    """One option of each type.

    Attributes:
        path: of a file.
        n: how many.
        window: two numbers.
        limit: a number, or none.
        words: some.
        arms: given again.
        flags: for each.
        inner: a group.
    """

    settings: ClassVar[str | None] = None
    path: Path
    n: int = 1
    window: tuple[float, float] | None = None
    limit: float | None = 2.5
    words: tuple[str, ...] = ("a",)
    arms: tuple[str, ...] = repeated()
    flags: tuple[bool, ...] = ()
    inner: Inner = field(default_factory=lambda: Inner(widths=(1,)))


def every(*words: str) -> Every:
    return parse(Every, ["--path", "p", *words], "every")


def test_every_type_on_the_command_line() -> None:
    words = "--n 3 --window -1 2.5 --limit 1e-3 --words a,b c --arms x=1,y=2 --arms=z --flags true no"
    config = every(*words.split(), "--inner.widths", "2,3", "--no-inner.on", "--names", "text=A b=c", "path=P")
    assert (config.path, config.n, config.window, config.limit) == (Path("p"), 3, (-1.0, 2.5), 1e-3)
    assert (config.words, config.arms, config.flags) == (("a,b", "c"), ("x=1,y=2", "z"), (True, False))
    assert config.inner == Inner((2, 3), on=False) and config.names == {"text": "A b=c", "path": "P"}
    assert (
        every() == Every(path=Path("p"), inner=Inner((1,)))
        and every("--words", "").words == every("--words", "[]").words == ()
    )
    assert every("--limit", "none", "--window", "none") == configure(Every, path="p", limit="none", window="none")
    assert every("--limit", "none").limit is None and every("--text", "none").text == "none"
    assert every("--inner.on", "false") == every("--no-inner.on")


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_stays_what_it_is(text: str, tmp_path: Path) -> None:
    assert configure(Every, path="p", text=text).text == text
    assert every(f"--text={text}").text == text
    assert text.startswith("--") or every("--text", text).text == text
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"text": text}))
    assert every("--config", str(tmp_path / "mine.yaml")).text == text


def test_python_takes_values_of_python() -> None:
    given = {"n": 3, "window": [1, 2], "limit": 3, "words": ["a,b"], "arms": ("x=1,y=2",), "names": {"text": "A"}}
    config = configure(Every, path=Path("p"), inner={"widths": (4,)}, **{"inner.on": False}, text=None, **given)
    assert config.text is None and config.limit == 3.0 and isinstance(config.limit, float)
    assert (config.words, config.arms, config.names) == (("a,b",), ("x=1,y=2",), {"text": "A"})
    assert config.inner == Inner((4,), on=False) and config.window == (1.0, 2.0)
    assert configure(Every, path="p", text=Path("a") / "b").text == "a/b"
    assert configure(Every, path="p", words=2.5, text=12) == every("--words", "2.5", "--text", "12")
    assert configure(Every, path="p", names=["text=A"], words="a,b", flags=True) == every(
        *"--names text=A --words a,b --flags true".split()
    )


@pytest.mark.parametrize(
    ("name", "value", "words", "message"),
    [
        ("n", "x", ["--n", "x"], "--n: give a whole number, not 'x'."),
        ("n", 1.5, ["--n", "1.5"], "--n: give a whole number, not "),
        ("limit", "nan", ["--limit", "nan"], "--limit: give a number, not 'nan'."),
        ("limit", True, ["--limit", "true"], "--limit: give a number, not "),
        ("window", [1, 2, 3], ["--window", "1", "2", "3"], "--window: give 2 numbers, not 3."),
        ("window", ["1", "b"], ["--window", "1", "b"], "--window: give 2 numbers, not 'b'."),
        ("flags", ["yes", "maybe"], ["--flags", "yes", "maybe"], "--flags: give true or false for each, not 'maybe'."),
        ("inner.on", "perhaps", ["--inner.on", "perhaps"], "--inner.on: give true or false, not 'perhaps'."),
        (
            "names",
            ["text"],
            ["--names", "text"],
            "--names: give pairs NAME=TEXT, not 'text'; put a pair with spaces in",
        ),
        ("path", "", ["--path="], "--path: give a path, not ''."),
        ("inner", 3, ["--inner", "3"], "unknown option --inner; it is a group of options: --inner.widths, --inner.on."),
        ("wrds", 3, ["--wrds", "3"], "unknown option --wrds, did you mean '--words'? See --help-all."),
    ],
)
def test_mistakes_get_one_sentence(name: str, value: object, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        configure(Every, **{"path": "p", name: value})
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        every(*words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--n"], "--n needs a value: give a whole number."),
        (["--text", "two", "words"], "--text takes one value, but 2 were given: two words; put a value with spaces in"),
        (["--no-inner.on", "true"], "--no-inner.on takes no value."),
        (["--no-n"], "unknown option --no-n"),
        (["--config", "nowhere.yaml"], "--config nowhere.yaml: cannot be read: "),
    ],
)
def test_mistakes_of_the_command_line(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        every(*words)


def test_what_has_to_be_given() -> None:
    with pytest.raises(UserError, match="^--path has to be given; see --help.$"):
        configure(Every)
    with pytest.raises(UserError, match="^--data and --out have to be given; see --help.$"):
        parse(Config, [], "train text2image")
    with pytest.raises(UserError, match="^'a.csv' is not an option; options begin with --."):
        parse(Config, ["a.csv"], "train text2image")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n: many", "--n: give a whole number, not 'many'."),
        ("n:", "--n: give a whole number, not None."),
        ("inner: {widhts: 3}", "unknown option --inner.widhts, did you mean '--inner.widths'? See --help-all."),
        ("lr: 3", "unknown option --lr. See --help-all."),
        ("[1, 2]", "give options with their values, as `loop: {steps: 4000}`."),
        ("n: 1\nn: 2", "cannot be read: line 2: 'n' occurs twice; leave one out."),
    ],
)
def test_mistakes_in_a_file(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(f"--config {path}: {message}")):
        every("--config", str(path))


def test_yaml_says_none_for_an_option_that_has_a_default(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("limit: null\nwords: []\ninner:\n  widths: 3\nnames: {text: A}\n")
    config = configure(Every, path="p", config=tmp_path / "mine.yaml")
    assert config.limit is None and config.words == () and config.inner.widths == (3,) and config.names == {"text": "A"}


def test_help_texts_come_from_docstrings_of_all_classes() -> None:
    options = options_of(Every)
    assert options["text"].help == "said in the base, on two lines." and options["n"].help == "how many."
    assert options["inner.on"].help == "whether it is." and options["inner.on"].title == "What is inside."


def test_a_type_that_no_option_has() -> None:
    @dataclass
    class Odd:
        value: complex = 1j

    with pytest.raises(TypeError, match="no option has the type"):
        options_of(Odd)


def test_from_is_spoken_as_it_is_written() -> None:
    assert parse(Config, [*NEEDED, "--from", "old"], "x").from_run == Path("old")
    assert configure(Config, data="a.csv", out="run", **{"from": "old"}).from_run == Path("old")


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


def test_settings_of_a_class_lie_where_it_says() -> None:
    @dataclass(frozen=True)
    class Small:
        settings: ClassVar[str | None] = "medloom.generators.settings.text2image"
        size: str = "small"
        image_size: tuple[int, ...] = (8,)

    assert list(shipped(Small, "size")) == ["base", "small", "tiny"] and not shipped(Every, "size")
    with pytest.raises(UserError, match="^size small: unknown option --"):
        configure(Small)
    with pytest.raises(UserError, match="^unknown size 'smal', did you mean 'small'. Known: base, small, tiny"):
        configure(Small, size="smal")


def test_published_settings() -> None:
    minim = configure(Config, data="a.csv", out="run", preset="minim")
    assert (minim.loop.steps, minim.loop.batch, minim.loop.accumulate, minim.loop.learning_rate) == (20000, 80, 4, 1e-5)
    assert (minim.noise.process, minim.noise.schedule, minim.noise.prediction) == ("ddpm", "linear", "epsilon")
    before = configure(Config, data="a.csv", out="run", preset="minim-predecessor")
    assert (before.noise.schedule, before.text.modality_as) == ("scaled-linear", "text")
    assert before.loop.learning_rate == 1e-5


def test_abbreviations_are_refused() -> None:
    with pytest.raises(UserError, match="unknown option --loop.step, did you mean '--loop.steps'"):
        parse(Config, [*NEEDED, "--loop.step", "3"], "x")


@pytest.mark.parametrize("path", sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.yaml")), ids=str)
def test_every_example_is_valid(path: Path) -> None:
    config = parse(Config, [*NEEDED, "--config", str(path)], "train text2image")
    assert config.image_size in ((256,), (512,))


def printed(cls: type, words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        parse(cls, [*words, "--print-config"], "x")
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", sorted(commands()))
def test_printed_options_are_read_back(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cls, _ = resolve(command)
    samples = {bool: "true", int: "3", float: "0.001", str: "null", Path: "a: b"}
    words: list[str] = []
    for option in options_of(cls).values():
        chosen = option.name in ("size", "preset") and option.kind is str
        if option.is_required or (option.default in (None, (), {}) and not (chosen or option.setting)):
            value = "text=Report: # 1" if option.pairs else samples[option.kind]
            words += [option.flag, *([value] * (option.count or 1))]
    (tmp_path / "printed.yaml").write_text(printed(cls, words, capsys))
    read = parse(cls, ["--config", str(tmp_path / "printed.yaml")], command)
    assert read == parse(cls, words, command)


def test_printed_options_have_what_was_given_and_what_was_not(capsys: pytest.CaptureFixture[str]) -> None:
    values = yaml.safe_load(printed(Config, ["--size", "small", "--columns", "text=Report"], capsys))
    assert values["columns"] == {"text": "Report"} and values["image_size"] == [128] and "data" not in values


def test_plain_values() -> None:
    assert plain({"a": (Path("x"), None), "b": {"c": 1}}) == {"a": ["x", None], "b": {"c": 1}}
