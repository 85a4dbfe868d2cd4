"""`medloom train edit` and `medloom edit`: earlier images, instructions, and what becomes of them."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, medloom
from PIL import Image

from medloom.data.images import read_provenance
from medloom.recipes.commands import run_command
from medloom.report_text.progression import NO_CHANGE

WORDS = {True: "Spot.", False: NO_CHANGE}


def draw(folder: Path, number: int, spot: bool, name: str, shift: int = 0) -> None:
    """A frame of its own brightness and size for each patient, and a spot where there is one."""
    rng = np.random.default_rng(number)
    picture = np.full((16, 16), 20, np.uint8)
    picture[2 : 2 + rng.integers(8, 13), 2 : 2 + rng.integers(8, 13)] = rng.integers(70, 130)
    if spot:
        picture[4:12, 4:12] = 250
    Image.fromarray(np.roll(picture, shift, axis=1)).save(folder / f"{name}{number}.png")


@pytest.fixture(scope="module")
def triples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of which the later image has a spot where the instruction says so; half of the priors were registered."""
    root = tmp_path_factory.mktemp("triples")
    lines = ["path,prior,registered_prior,instruction,Text,modality,patient_id,label"]
    for number in range(32):
        spot = bool(number % 2)
        draw(root, number, spot, "later")
        draw(root, number, False, "prior", shift=1)
        draw(root, number, False, "aligned")
        aligned = f"aligned{number}.png" if number % 4 < 2 else ""
        lines.append(
            f"later{number}.png,prior{number}.png,{aligned},{WORDS[spot]},A report.,X-ray,p{number},{WORDS[spot][:-1]}"
        )
    (root / "triples.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / "triples.csv"


LONGER = {"loop.steps": 300, "loop.learning_rate": 3e-3, "loop.batch": 16, "loop.validate_every": 250}
LONGER |= {
    "loop.checkpoint_every": 250,
    "network.pixel_width": 8,
    "text.dropout": 0.05,
    "loop.ema": 0.98,
    "network.fusion": "affine",
}


@pytest.fixture(scope="module")
def model(triples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("editor") / "run"
    return run_command("train edit", data=triples, out=out, **{**TINY, **LONGER})


def make(model: Path, out: Path, **options: object) -> list[dict[str, str]]:
    manifest = run_command("edit", model=model, out=out, device="cpu", steps=10, guidance=["1.0"], **options)
    with manifest.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def test_the_instruction_changes_what_it_names_and_nothing_else(model: Path, triples: Path, tmp_path: Path) -> None:
    prior = triples.parent / "prior1.png"
    seen = pixels(prior)
    made = {}
    for spot, words in WORDS.items():
        (row,) = make(model, tmp_path / str(spot), image=prior, text=words)
        made[spot] = pixels(tmp_path / str(spot) / row["path"])
        assert (tmp_path / str(spot) / row["prior"]).resolve() == prior and row["text"] == words
        assert read_provenance(tmp_path / str(spot) / row["path"])["SYNTHETIC"] == "YES"
    assert made[True][4:12, 4:12].mean() > made[False][4:12, 4:12].mean() + 60
    # By default only the place of the spot is generated; the instruction for no change names none.
    assert json.loads((tmp_path / "True" / "edits.json").read_text())["options"]["region"] == "auto"
    np.testing.assert_array_equal(made[False], seen)
    far = np.ones((16, 16), bool)
    far[2:14, 2:14] = False
    np.testing.assert_array_equal(made[True][far], seen[far])


def test_an_edit_says_that_it_may_be_the_patients_image(model: Path, triples: Path, tmp_path: Path) -> None:
    prior = triples.parent / "prior1.png"
    (row,) = make(model, tmp_path, image=prior, text="no change", n=1)
    # In other words for the same, and nothing of rounding is drawn as a change.
    np.testing.assert_array_equal(pixels(tmp_path / row["path"]), pixels(prior))
    assert "pixels of that image" in read_provenance(tmp_path / row["path"])["DERIVED"]
    drawn = np.asarray(Image.open(tmp_path / "differences.png").convert("RGB")).astype(int)
    bar = (np.abs(drawn[..., 0] - drawn[..., 2]) > 40).any(axis=1)
    assert bar.sum() < 40, "colours in the colour bar alone"


def test_an_instruction_that_makes_no_difference_to_the_model_is_said(
    model: Path, triples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prior, said = triples.parent / "prior1.png", "1 of 1 edits that ask for a change are their prior images, 000000"
    # To the tokenizer the same words as those for no change.
    (row,) = make(model, tmp_path / "a", image=prior, text="No\tchange.")
    np.testing.assert_array_equal(pixels(tmp_path / "a" / row["path"]), pixels(prior))
    assert said in capsys.readouterr().err
    make(model, tmp_path / "b", image=prior, text=WORDS[True])
    make(model, tmp_path / "c", image=prior, text="no change")
    assert "prior images, " not in capsys.readouterr().err


def test_an_edit_of_the_whole_image_keeps_the_patient_too(model: Path, triples: Path, tmp_path: Path) -> None:
    prior = triples.parent / "prior1.png"
    (row,) = make(model, tmp_path, image=prior, text=WORDS[False], region="everywhere")
    seen, made = pixels(prior), pixels(tmp_path / row["path"])
    # The frame may lie where the registered earlier image has it, or where this one has.
    inside = seen > 40
    assert 0 < abs(made[inside].mean() - seen[inside].mean()) < 15


def test_an_edit_says_where_it_is_and_what_it_is(model: Path, triples: Path, tmp_path: Path) -> None:
    make(model, tmp_path, image=triples.parent / "prior1.png", text=WORDS[True])
    assert (tmp_path / "differences.png").is_file()
    facts = json.loads((tmp_path / "edits.json").read_text())
    assert facts["SYNTHETIC"] == "YES" and "spot" not in json.dumps(facts)


def test_another_prior_gives_another_image(model: Path, triples: Path, tmp_path: Path) -> None:
    rows = make(model, tmp_path, data=triples)
    assert [row["label"] for row in rows[:4]] == ["No change", "Spot", "No change", "Spot"] and len(rows) == 32
    gifs = sorted(path.name for path in (tmp_path / "differences").glob("*.gif"))
    assert gifs == [f"{number:06d}.gif" for number in range(8)], "of the rows that are shown"
    assert Image.open(tmp_path / "differences" / gifs[1]).n_frames == 2
    with (tmp_path / "differences" / "index.csv").open() as stream:
        index = list(csv.DictReader(stream))
    assert [(row["name"], row["seed"]) for row in index][:2] == [("000000", "0"), ("000002", "2")], "by instruction"
    # A brighter earlier image gives a brighter one, whatever the instruction.
    edited = np.stack([pixels(tmp_path / row["path"])[2:4, 2:8].mean() for row in rows])
    priors = np.stack([pixels(triples.parent / f"aligned{number}.png")[2:4, 2:8].mean() for number in range(32)])
    assert np.corrcoef(edited, priors)[0, 1] > 0.8


@pytest.mark.parametrize("start", [{"start": "prior", "strength": 0.3}, {"start": "inversion"}])
def test_other_starts_keep_the_earlier_image(
    model: Path, triples: Path, tmp_path: Path, start: dict[str, object]
) -> None:
    prior = triples.parent / "prior2.png"
    (row,) = make(model, tmp_path, image=prior, text=WORDS[False], region="everywhere", **start)
    assert np.abs(pixels(tmp_path / row["path"]) - pixels(prior)).mean() < 15


def test_an_inversion_by_no_change_changes_what_is_asked_for_alone(model: Path, triples: Path, tmp_path: Path) -> None:
    """The edit is compared with that of no change, so that none is left of the latter, however strong the text is."""
    prior = triples.parent / "prior2.png"
    given = {"image": prior, "start": "inversion", "guidance": ["1", "text=3"], "region": "everywhere"}
    changes = {}
    for name, spot, negative in (("null", False, NO_CHANGE), ("spot", True, NO_CHANGE), ("plain", False, None)):
        words = {"text": WORDS[spot], "negative": negative, **given}
        out = tmp_path / name
        manifest = run_command("edit", model=model, out=out, device="cpu", steps=20, **words)
        with manifest.open(encoding="utf-8") as stream:
            (row,) = csv.DictReader(stream)
        changes[name] = np.abs(pixels(out / row["path"]) - pixels(prior)).mean()
    assert min(changes["plain"], changes["spot"]) > 2 * changes["null"], changes


def test_nothing_changes_outside_of_the_region(model: Path, triples: Path, tmp_path: Path) -> None:
    region = np.zeros((16, 16), np.uint8)
    region[3:12, 3:12] = 1
    Image.fromarray(region).save(tmp_path / "region.png")
    prior = triples.parent / "prior3.png"
    options = {"image": prior, "text": WORDS[True], "region": tmp_path / "region.png"}
    (row,) = make(model, tmp_path / "out", **options)
    change = np.abs(pixels(tmp_path / "out" / row["path"]) - pixels(prior))
    assert change[region == 0].max() <= 1 and change[region == 1].mean() > 40


def test_a_grid_over_the_two_scales(model: Path, triples: Path, tmp_path: Path) -> None:
    make(model, tmp_path, image=triples.parent / "prior1.png", text=WORDS[True], grid=("text=1,3", "prior=1,2"))
    assert Image.open(tmp_path / "guidance_grid.png").size[0] > 100


def test_controls_and_the_baseline_that_sees_no_earlier_image(model: Path, triples: Path, tmp_path: Path) -> None:
    few = triples.with_name("few.csv")
    header, *lines = triples.read_text().splitlines()
    rows = [f"{line},{WORDS[index % 2 == 0]}" for index, line in enumerate(lines[:2])]
    few.write_text("\n".join([f"{header},reverse_instruction", *rows]) + "\n")
    made = make(
        model,
        tmp_path / "controls",
        data=few,
        with_text=True,
        controls=("nochange10", "back", "contradict"),
        nochange_text=WORDS[False],
    )
    arms = [row["arm"] for row in made]
    assert arms == ["edit", "nochange", *(f"nochange{turn}" for turn in range(2, 11)), "back", "contradict"] * 2
    assert {row["seed"] for row in made[:13]} == {"0"} and made[12]["text"] == made[13]["text"]
    by_arm = {row["arm"]: row for row in made[:13]}
    assert (
        by_arm["back"]["prior"] == by_arm["edit"]["path"]
        and by_arm["nochange3"]["prior"] == by_arm["nochange2"]["path"]
    )
    blind = [
        pixels(tmp_path / name / make(model, tmp_path / name, image=prior, text=WORDS[True], text_only=True)[0]["path"])
        for name, prior in (("a", triples.parent / "prior1.png"), ("b", triples.parent / "prior2.png"))
    ]
    np.testing.assert_array_equal(*blind)


def test_generate_follows_an_earlier_image_too(model: Path, triples: Path, tmp_path: Path) -> None:
    out = run_command("generate", model=model, data=triples, out=tmp_path, device="cpu", steps=2)
    with out.open(encoding="utf-8") as stream:
        made = list(csv.DictReader(stream))
    assert len(made) == 32 and all((tmp_path / row["prior"]).resolve().exists() for row in made)


def test_two_stages(triples: Path, tmp_path: Path) -> None:
    first = run_command("train edit", data=triples, out=tmp_path / "one", stage=1, **TINY)
    second = run_command("train edit", data=triples, out=tmp_path / "two", from_run=first, **TINY)
    assert make(second, tmp_path / "out", image=triples.parent / "prior1.png", text=WORDS[False])


def test_controls_from_the_command_line(model: Path, triples: Path, tmp_path: Path) -> None:
    words = ["--image", str(triples.parent / "prior1.png"), "--text", "Spot.", "--controls", "nochange", "--steps", "2"]
    assert medloom(["edit", "--model", str(model), "--out", str(tmp_path / "out"), "--device", "cpu", *words]) == 0
    with (tmp_path / "out" / "manifest.csv").open(encoding="utf-8") as stream:
        assert [row["arm"] for row in csv.DictReader(stream)] == ["edit", "nochange"]


def test_mistakes(
    model: Path, triples: Path, tmp_path: Path, make_manifest: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    plain = run_command("train text2image", data=make_manifest(), out=tmp_path / "plain", **TINY)
    same = triples.with_name("same.csv")
    same.write_text(triples.read_text().replace("later3.png,prior3.png", "later3.png,later3.png"))
    wide = tmp_path / "wide.png"
    Image.fromarray(np.ones((16, 32), np.uint8)).save(wide)
    small = ["--model", str(model), "--out", str(tmp_path / "o"), "--device", "cpu"]
    prior = str(triples.parent / "prior1.png")
    for words, message in (
        (["edit", *small, "--image", prior], "--image and --text, or a manifest"),
        (["edit", *small, "--image", prior, "--text", "x", "--strength", "0.5"], "goes with --start prior"),
        (
            ["edit", *small, "--image", prior, "--text", "x", "--grid", "text=1"],
            "give text=1,3,7.5 and prior=1,1.5",
        ),
        (["edit", *small, "--image", prior, "--text", "x", "--guidance", "mask=2"], "guidance scale 'mask'"),
        (["edit", *small, "--image", "none.png", "--text", "x"], "none.png"),
        (
            ["edit", *small, "--image", prior, "--text", "x", "--region", "Auto"],
            "give auto, everywhere, or a label map",
        ),
        (
            ["edit", *small, "--image", prior, "--text", "x", "--region", str(wide)],
            "region of 16 x 32 pixels and a prior",
        ),
        (["edit", "--model", str(plain), *small[2:], "--image", prior, "--text", "x"], "takes no prior image"),
        (
            [
                "generate",
                "--model",
                str(plain),
                *small[2:],
                "--prompt",
                "x",
                "--modality",
                "Disc",
                "--guidance",
                "prior=2",
            ],
            "prior",
        ),
        (["train", "edit", "--data", str(triples), "--out", str(tmp_path / "o"), "--stage", "3"], "--stage 3"),
        (["train", "text2image", "--data", str(triples), *small[2:4], "--network.prior", "channels"], "train edit"),
        (["train", "mask2image", "--data", str(triples), *small[2:4], "--network.prior", "channels"], "train edit"),
        (["train", "edit", "--data", str(same), "--out", str(tmp_path / "o")], "image itself"),
        (["train", "edit", "--data", str(triples), "--from", str(plain), "--out", str(tmp_path / "o")], "no editor"),
    ):
        capsys.readouterr()
        assert medloom(words) == 2, words
        error = capsys.readouterr().err
        assert message in error and "Traceback" not in error, (words, error)
    assert not (tmp_path / "o").exists()
