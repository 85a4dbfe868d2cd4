"""The days between an editor's two images: a condition where the triples have them, and refused where not."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, medloom
from PIL import Image

import medloom as library
from medloom.core.errors import UserError
from medloom.core.files import read_json
from medloom.recipes.commands import run_command

SOON, LATE = 3, 365
WORDS = "A spot has appeared."
# Steps after which the one thing that differs between the pairs is learnt.
LEARNT = {
    "loop.steps": 200,
    "loop.batch": 16,
    "loop.learning_rate": 3e-3,
    "loop.validate_every": 200,
    "loop.checkpoint_every": 200,
    "loop.ema": 0.98,
    "network.fusion": "affine",
}
TOKENS = {
    name: value
    for name, value in TINY.items()
    if name not in ("network.widths", "network.attention", "network.patch", "network.head_width", "image_size")
}
TOKENS |= {"network.width": 32, "network.layers": 2, "network.heads": 2, "network.prior": "channels"}


def write(root: Path, name: str, days: Callable[[int], object], split: str | None = None) -> Path:
    """Triples whose later image has a spot after many days, whatever the instruction."""
    lines = ["path,prior,instruction,reverse_instruction,modality,patient_id,days" + (",split" if split else "")]
    for number in range(16):
        late = number % 2
        picture = np.full((16, 16), 20 + number, np.uint8)
        picture[1:3, 1:9] = 90
        Image.fromarray(picture).save(root / f"prior{number}.png")
        picture[5:12, 5:12] = 230 if late else 20 + number
        Image.fromarray(picture).save(root / f"later{number}.png")
        row = f"later{number}.png,prior{number}.png,{WORDS},The spot has resolved.,X-ray,p{number},{days(late)}"
        lines.append(row + (f",{split}" if split else ""))
    (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / name


def between(late: int) -> object:
    return LATE if late else SOON


@pytest.fixture(scope="module")
def triples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("days"), "triples.csv", between)


@pytest.fixture(scope="module")
def model(triples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("editor") / "run"
    return run_command("train edit", data=triples, out=out, **{**TINY, **LEARNT})


@pytest.fixture(scope="module")
def without(triples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An editor that its user did not want to be conditioned on the days."""
    out = tmp_path_factory.mktemp("without") / "run"
    return run_command("train edit", data=triples, out=out, days=False, **TINY)


def columns(run: Path) -> list[str]:
    return [column.name for column in library.load(run, device="cpu").columns]


def edit(model: Path, out: Path, **options: object) -> list[dict[str, str]]:
    given = {"device": "cpu", "steps": 4, "guidance": ["1"], **options}
    manifest = run_command("edit", model=model, out=out, **given)
    with manifest.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def spot(folder: Path, row: dict[str, str]) -> float:
    return float(np.asarray(Image.open(folder / row["path"]))[5:12, 5:12].mean())


def fails(words: Sequence[object], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert medloom(words) == 2, words
    return capsys.readouterr().err


def test_the_same_instruction_gives_another_edit_after_more_days(model: Path, triples: Path, tmp_path: Path) -> None:
    assert columns(model) == ["days"] and read_json(model / "run.json")["identity"]["options"]["table"] == ["days"]
    prior = triples.parent / "prior0.png"
    seen = {}
    for days in (SOON, LATE):
        out = tmp_path / str(days)
        (row,) = edit(model, out, image=prior, text=WORDS, days=days)
        assert float(row["days"]) == days and json.loads((out / "edits.json").read_text())["options"]["days"] == days
        seen[days] = spot(out, row)
    assert seen[LATE] > seen[SOON] + 60
    editor = library.load(model, device="cpu")
    soon, late = (editor.edit(prior, WORDS, days=days, seed=0).pixels[0, 0, 5:12, 5:12].mean() for days in seen)
    assert late > soon + 60


def test_a_manifest_brings_its_days_and_controls_keep_them(model: Path, triples: Path, tmp_path: Path) -> None:
    lines = triples.read_text().splitlines()
    few = triples.with_name("few.csv")
    few.write_text("\n".join([lines[0], lines[1], lines[2].replace(WORDS, "Nothing is new.")]) + "\n")
    controls = ("nochange", "back", "contradict")
    rows = edit(model, tmp_path, data=few, controls=controls, nochange_text="Nothing is new.")
    assert [row["arm"] for row in rows[:4]] == ["edit", *controls]
    # The way back takes as many days as the way there.
    assert [float(row["days"]) for row in rows] == [SOON] * 4 + [LATE] * 4
    assert spot(tmp_path, rows[4]) > spot(tmp_path, rows[0]) + 60


def test_what_the_days_may_be(
    model: Path, without: Path, triples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prior, out = triples.parent / "prior0.png", tmp_path / "out"
    one = ["edit", "--model", model, "--image", prior, "--text", WORDS, "--out", out, "--device", "cpu", "--steps", "2"]
    error = fails(one, capsys)
    assert "no value of days, which every training image had; give the days between the two images with --days" in error
    error = fails([*one, "--days", "400"], capsys)
    assert "training has not seen days=400; seen: 3 to 365" in error and "--allow-unseen" in error
    assert "training has not seen days=-3" in fails([*one, "--days", "-3"], capsys)
    assert "--days: give a number" in fails([*one, "--days", "nan"], capsys)
    assert "--days: give a number" in fails([*one, "--days", "a week"], capsys)
    other = [*one[:2], without, *one[3:], "--days", "30"]
    assert "--days 30: the model was trained without the days between two images" in fails(other, capsys)
    error = fails(["edit", "--model", model, "--data", triples, "--days", "9", "--out", out], capsys)
    assert "--data brings its own prior images" in error
    bare = triples.with_name("bare.csv")
    bare.write_text(triples.read_text().replace(",days", ",weeks"))
    assert "no column 'days', which conditions the model" in fails(
        ["edit", "--model", model, "--data", bare, "--out", out], capsys
    )
    empty = triples.with_name("empty.csv")
    empty.write_text(triples.read_text().replace(f",{SOON}\n", ",\n"))
    assert "no value of days, which every training image had" in fails(
        ["edit", "--model", model, "--data", empty, "--out", out], capsys
    )
    assert not out.exists()
    assert medloom([*one, "--days", "400", "--allow-unseen"]) == 0


def test_what_the_days_may_be_from_python(model: Path, without: Path, triples: Path) -> None:
    prior, editor = triples.parent / "prior0.png", library.load(model, device="cpu")
    with pytest.raises(UserError, match=r"no value of days, .*\(from Python, days=...\)"):
        editor.edit(prior, WORDS, seed=0)
    with pytest.raises(UserError, match="training has not seen days=400; seen: 3 to 365"):
        editor.edit(prior, WORDS, days=400, seed=0)
    with pytest.warns(UserWarning, match="outside what training has seen"):
        assert len(editor.edit(prior, WORDS, days=400, seed=0, allow_unseen=True)) == 1
    with pytest.raises(UserError, match="^days=30: the model was trained without the days between two images"):
        library.load(without, device="cpu").edit(prior, WORDS, days=30, seed=0)


def test_an_editor_without_days_edits_as_before(without: Path, triples: Path, tmp_path: Path) -> None:
    assert columns(without) == []
    # Days that do not condition it are no option of a run: one that was begun before there were any is resumed.
    assert "days" not in read_json(without / "run.json")["identity"]["options"]
    (row,) = edit(without, tmp_path / "one", image=triples.parent / "prior0.png", text=WORDS)
    assert "days" not in row
    assert len(edit(without, tmp_path / "all", data=triples)) == 16


@pytest.mark.parametrize(
    ("days", "said"),
    [
        (lambda late: 30, "they are 30 in every training row"),
        (lambda late: "", "they are unknown in every training row"),
    ],
    ids=["constant", "empty"],
)
def test_days_that_do_not_differ_teach_nothing(
    triples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], days: Callable[[int], object], said: str
) -> None:
    data = write(triples.parent, "same.csv", days)
    capsys.readouterr()
    run = run_command("train edit", data=data, out=tmp_path / "run", **{**TINY, "loop.steps": 1})
    output = capsys.readouterr()
    assert f"the days between the two images do not condition the editor: {said}" in output.out + output.err
    assert columns(run) == []


def test_days_that_some_pairs_lack_are_not_required(triples: Path, tmp_path: Path) -> None:
    lines = triples.read_text().splitlines()
    some = triples.with_name("some.csv")
    some.write_text("\n".join([lines[0], lines[1].rsplit(",", 1)[0] + ",", *lines[2:]]) + "\n")
    run = run_command("train edit", data=some, out=tmp_path / "run", **{**TINY, "validation": 0.0})
    assert columns(run) == ["days"]
    assert edit(run, tmp_path / "out", image=triples.parent / "prior0.png", text=WORDS)[0]["days"] == ""


def test_days_that_are_no_numbers_are_refused(
    triples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(triples.parent, "words.csv", lambda late: "a year" if late else "3")
    words = ["train", "edit", "--data", data, "--out", tmp_path / "run", "--image-size", "16"]
    error = fails(words, capsys)
    assert "words.csv, line 3, column 'days': 'a year' is not a number of days" in error and "--no-days" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_second_stage_learns_the_days(triples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run_command("train edit", data=triples, out=tmp_path / "one", stage=1, **TINY)
    assert columns(first) == []
    second = run_command("train edit", data=triples, out=tmp_path / "two", from_run=first, **TINY)
    assert columns(second) == ["days"]
    third = run_command("train edit", data=triples, out=tmp_path / "three", from_run=second, **TINY)
    assert columns(third) == ["days"]
    # The first stage had none, and no input for them: what the others learnt always had them.
    prior = triples.parent / "prior0.png"
    assert edit(third, tmp_path / "out", image=prior, text=WORDS, days=SOON)[0]["days"]
    ask = ["edit", "--model", third, "--image", prior, "--text", WORDS, "--device", "cpu", "--out", tmp_path / "no"]
    assert "no value of days, which every training image had" in fails(ask, capsys)
    words = ["train", "edit", "--data", triples, "--from", second, "--out", tmp_path / "x", "--image-size", "16"]
    assert "--no-days: the run of --from is conditioned on the days" in fails([*words, "--no-days"], capsys)
    weeks = triples.with_name("weeks.csv")
    weeks.write_text(triples.read_text().replace(",days", ",weeks"))
    words = ["train", "edit", "--data", weeks, "--from", first, "--out", tmp_path / "x", "--image-size", "16"]
    words += ["--table", "weeks"]
    assert "--table weeks: the run of --from is conditioned on no columns" in fails(words, capsys)


def test_a_network_without_a_table_is_not_conditioned_on_days(
    triples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    given = {**TINY, "loop.steps": 1, "network.fusion": "none"}
    run = run_command("train edit", data=triples, out=tmp_path / "run", **given)
    output = capsys.readouterr()
    assert "this network takes no columns of a table" in output.out + output.err and columns(run) == []


@pytest.mark.slow
def test_tokens_are_conditioned_on_days_too(triples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coder = {"autoencoder.widths": [8, 8, 8], "autoencoder.codes": 16, "loop.steps": 2, "loop.batch": 4}
    vq = run_command(
        "train autoencoder", kind="vq", data=triples, out=tmp_path / "vq", image_size=[16], device="cpu", **coder
    )
    given = {"data": triples, "tokenizer": vq, **TOKENS}
    run = run_command("train tokens", out=tmp_path / "run", **given)
    assert columns(run) == ["days"]
    plain = run_command("train tokens", out=tmp_path / "plain", days=False, **given)
    assert columns(plain) == []
    prior = triples.parent / "prior0.png"
    assert edit(run, tmp_path / "out", image=prior, text=WORDS, days=SOON, steps=2)[0]["days"]
    words = ["edit", "--image", prior, "--text", WORDS, "--out", tmp_path / "x", "--device", "cpu", "--steps", "2"]
    assert "no value of days" in fails([*words, "--model", run], capsys)
    assert "not seen days=4000" in fails([*words, "--model", run, "--days", "4000"], capsys)
    assert "trained without the days" in fails([*words, "--model", plain, "--days", "3"], capsys)
    further = run_command("train tokens", out=tmp_path / "further", from_run=plain, **given)
    assert columns(further) == ["days"]
    # A model of tokens that takes no prior image has no two images.
    alone = run_command("train tokens", out=tmp_path / "alone", **{**given, "network.prior": "none"})
    assert columns(alone) == []
