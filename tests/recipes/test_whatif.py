"""`medloom whatif`: arms that share their noise, from a table through a template to images and what they estimate."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, draw
from PIL import Image

from medloom.cli.main import main
from medloom.data.images import read_provenance
from medloom.data.manifest import read_manifest
from medloom.data.prompts import read_template
from medloom.data.prompts.arms import factual_arm, read_arms
from medloom.generation.arm_plan import Plan, title_notes
from medloom.recipes.commands import run_command

TEMPLATE = """
columns:
  kind: {values: {disc: a disc, square: a square}}
  size: {unit: pixels, say: "size {value}", parents: [kind], follows: [{when: {kind: square}, value: 0}]}
  ward: {values: {north: north ward, south: south ward, none: ""}, parents: [kind]}
  died: {values: {yes: died, no: survived}, parents: [ward], outcome: true}
"""
ROWS = [
    ("disc", "3", "north", "no"),
    ("square", "0", "south", "yes"),
    ("disc", "", "south", "no"),
    ("disc", "7", "none", "no"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clinical manifest with masks, written by `data prompts`, and a run that was trained on it."""
    root = tmp_path_factory.mktemp("whatif")
    rng = np.random.default_rng(0)
    lines = ["path,patient_id,modality,view,mask,kind,size,ward,died,label"]
    for number in range(12):
        kind, size, ward, died = ROWS[number % 4]
        picture = draw(rng, kind)
        picture = picture if picture.ndim == 2 else picture.max(-1)
        Image.fromarray(picture).save(root / f"{number}.png")
        Image.fromarray((picture > 60).astype(np.uint8)).save(root / f"m{number}.png")
        lines.append(f"{number}.png,p{number},X-ray,PA,m{number}.png,{kind},{size},{ward},{died},{kind}")
    (root / "clinic.csv").write_text("\n".join(lines) + "\n")
    (root / "t.yaml").write_text(TEMPLATE)
    words = ["--template", str(root / "t.yaml"), "--out", str(root / "data.csv")]
    assert main(["data", "prompts", str(root / "clinic.csv"), *words]) == 0
    options = {**TINY, "network.mask": "channels", "network.mask_classes": [1], "loop.steps": 40}
    options |= {
        "loop.learning_rate": 1e-2,
        "loop.validate_every": 40,
        "loop.checkpoint_every": 40,
        "text.max_tokens": 48,
    }
    run_command("train text2image", data=root / "data.csv", out=root / "run", **options)
    return root


def make(folder: Path, out: Path, *arms: str, **options: object) -> list[dict[str, str]]:
    given = {"model": folder / "run", "data": folder / "data.csv", "rows": 2, "steps": 3, "device": "cpu", **options}
    manifest = run_command("whatif", out=out, set=arms, **given)
    with manifest.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def pixels(out: Path, row: dict[str, str]) -> np.ndarray:
    return np.asarray(Image.open(out / row["path"])).astype(int)


def test_arms_share_their_noise(folder: Path, tmp_path: Path) -> None:
    """The arm that sets what is true already gives the factual image, pixel for pixel; another one does not."""
    rows = make(folder, tmp_path, "kind=disc", "kind=square,ward=south", n=2, seed=5, guidance=["15.0"])
    assert [row["seed"] for row in rows] == [str(seed) for seed in (5, 6, 7, 8) for _ in range(3)]
    factual, same, other = rows[:3]
    np.testing.assert_array_equal(pixels(tmp_path, factual), pixels(tmp_path, same))
    assert np.abs(pixels(tmp_path, factual) - pixels(tmp_path, other)).max() > 1
    assert np.abs(pixels(tmp_path, factual) - pixels(tmp_path, rows[3])).max() > 1
    assert len({row["source_id"] for row in rows}) == 2 and "p0" not in {row["patient"] for row in rows}


@pytest.mark.slow
def test_effects_are_estimated_without_guidance_unless_it_is_asked_for(folder: Path, tmp_path: Path) -> None:
    """Guidance exaggerates what a change does; where it is asked for, the estimand says so."""
    rows = make(folder, tmp_path / "plain", "kind=square")
    one = make(folder, tmp_path / "one", "kind=square", guidance=["1"])
    guided = make(folder, tmp_path / "guided", "kind=square", guidance=["3", "text=2"])
    for row, same in zip(rows, one, strict=True):
        np.testing.assert_array_equal(pixels(tmp_path / "plain", row), pixels(tmp_path / "one", same))
    assert any(
        (pixels(tmp_path / "plain", a) != pixels(tmp_path / "guided", b)).any()
        for a, b in zip(rows, guided, strict=True)
    )
    for name, stated, said in (("plain", ["1.0"], ""), ("guided", ["3.0", "text=2.0"], "guidance 2 3 exaggerates it")):
        facts = json.loads((tmp_path / name / "whatif.json").read_text())
        assert facts["options"]["guidance"] == stated
        assert all((said or "exaggerates") in arm["estimand"] for arm in facts["arms"].values()) is bool(said)


def test_the_batch_changes_nothing(folder: Path, tmp_path: Path) -> None:
    for batch in (1, 12):
        rows = make(folder, tmp_path / str(batch), "kind=square", batch=batch)
    for row in rows:
        assert np.abs(pixels(tmp_path / "1", row) - pixels(tmp_path / "12", row)).max() <= 1


def test_the_rows_need_no_images(folder: Path, tmp_path: Path) -> None:
    with (folder / "data.csv").open(encoding="utf-8") as stream:
        rows = [{name: cell for name, cell in row.items() if name != "path"} for row in csv.DictReader(stream)]
    with (folder / "conditions.csv").open("w", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    alone = {"data": folder / "conditions.csv", "template": folder / "t.yaml"}
    with_images, without = (
        [pixels(tmp_path / name, row) for row in make(folder, tmp_path / name, "kind=square,ward=south", **options)]
        for name, options in (("with", {}), ("without", alone))
    )
    np.testing.assert_array_equal(with_images, without)


def test_the_manifest_tells_every_arm(folder: Path, tmp_path: Path) -> None:
    rows = make(folder, tmp_path / "out", "kind=square", "kind=disc,size=5", n=1, rows=0, with_text=True)
    assert list(rows[0]) == [
        *("sample_id", "path", "source_id", "condition", "arm", "attribute", "value", "seed", "patient"),
        *("modality", "view", "text", "mask", "kind", "size", "ward", "died", "label", "held", "support"),
    ]
    factual, square, both = rows[:3]
    assert [row["arm"] for row in rows[:3]] == ["factual", "kind=square", "kind=disc,size=5"]
    assert (factual["attribute"], square["attribute"], both["attribute"]) == ("", "kind", "kind,size")
    assert (square["value"], both["value"]) == ("square", "disc,5")
    assert factual["text"] == "a disc, size 3, north ward, survived"
    assert square["text"] == "a square, size 0, north ward, survived" and square["held"] == "ward,died"
    assert both["text"] == "a disc, size 5, north ward, survived" and both["held"] == ""
    assert (tmp_path / "out" / factual["mask"]).resolve() == folder / "m0.png" and factual["view"] == "PA"
    # What is missing stays so, and `none` is a value.
    assert rows[6]["text"] == "a disc, south ward, survived" and rows[9]["ward"] == "none"
    assert len(read_manifest(tmp_path / "out" / "manifest.csv", need_patients=False)) == 12 * 3
    assert (tmp_path / "out" / "manifest.template.yaml").read_text() == TEMPLATE
    assert read_provenance(tmp_path / "out" / square["path"])["SYNTHETIC"] == "YES"


def test_what_the_differences_estimate_is_written_and_said(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(folder, tmp_path, "kind=square", "died=yes", n=1, rows=3)
    told = json.loads((tmp_path / "whatif.json").read_text())
    assert told["SYNTHETIC"] == "YES" and len(told["model"]) == 16 and told["options"]["estimand"] == "direct"
    square, died = told["arms"]["kind=square"], told["arms"]["died=yes"]
    assert square["held"] == ["ward", "died"] and square["changes"] == {"kind": "square"}
    # The second row is a square already, and the third has no size: it gets the rule's.
    assert square["held_in_rows"] == {"ward": 2, "died": 2} and square["propagated_in_rows"] == {"size": 2}
    assert square["estimand"] == (
        "direct: difference of conditional means between kind=square and the factual; size (in 2 of 3 rows) changed"
        " by the template's rules; ward (in 2 of 3 rows), died (in 2 of 3 rows) held at factual values, which excludes"
        " effects through them; the mask held, which excludes effects through it"
    )
    assert died["estimand"].startswith("association: ") and "not a cause" in died["estimand"]
    assert square["estimand"] in capsys.readouterr().err
    picture = Image.open(tmp_path / "differences.png")
    assert picture.info["SYNTHETIC"] == "YES" and Image.open(tmp_path / "grid.png").width < picture.width
    assert picture.width > 5 * 192 and picture.mode == "RGB", "tiles of 16 pixels are enlarged"
    gifs = sorted(path.name for path in (tmp_path / "differences").glob("*.gif"))
    assert gifs == [f"{row:06d}-arm{arm}.gif" for row in (0, 3, 6) for arm in (1, 2)]


def test_titles_in_pictures_say_what_an_arm_is_not(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(TEMPLATE)
    template = read_template(tmp_path / "t.yaml")
    plan = Plan(template, [], [factual_arm(), *read_arms(["kind=square", "died=yes", "size=5"], template)], {}, [])
    assert title_notes(
        plan, {"died=yes": "training has not seen died=yes", "size=5": "training was not given size"}
    ) == {
        "kind=square": "",
        "died=yes": " (association, not seen in training)",
        "size=5": " (not seen in training)",
    }


def test_a_total_effect_needs_that_nothing_is_held(folder: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    error = fails("--set", "kind=square", "--estimand", "total")
    assert "ward, died follow from kind by the template and would be held" in error and "kind=square,ward=" in error
    make(folder, tmp_path, "died=yes", n=1, rows=1, estimand="total")
    assert json.loads((tmp_path / "whatif.json").read_text())["arms"]["died=yes"]["held"] == []


def test_it_goes_on_where_it_stopped_and_refuses_another(
    folder: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    out = tmp_path / "out"
    rows = make(folder, out, "kind=square", n=1)
    before = {row["path"]: (out / row["path"]).read_bytes() for row in rows}
    for name in ("manifest.csv", "differences.png", rows[1]["path"]):
        (out / name).unlink()
    kept = (out / rows[0]["path"]).stat().st_mtime_ns
    assert make(folder, out, "kind=square", n=1) == rows
    assert {row["path"]: (out / row["path"]).read_bytes() for row in rows} == before
    assert (out / rows[0]["path"]).stat().st_mtime_ns == kept and (out / "differences.png").is_file()
    words = ["--rows", "2", "--steps", "3", "--n", "1"]
    assert "made with other options (--set)" in fails("--set", "kind=disc", *words, out=out)
    (tmp_path / "t.yaml").write_text(TEMPLATE.replace("a disc", "one disc"))
    error = fails("--set", "kind=square", "--template", tmp_path / "t.yaml", *words, out=out)
    assert "made from other rows, files or options than are asked for now" in error


@pytest.fixture
def fails(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a what-if that has to fail; gives its sentence and checks that nothing was left behind."""

    def run(*words: object, out: Path | None = None) -> str:
        target = out or tmp_path / "bad"
        given = ["--model", folder / "run", "--data", folder / "data.csv", "--out", target, "--device", "cpu"]
        assert main(["whatif", *map(str, (*given, *words))]) == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error and (out is not None or not target.exists())
        return error[error.index("medloom: ") :]

    return run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "say what to change with --set COLUMN=VALUE"),
        (["--set", "knd=disc"], "unknown template column 'knd', did you mean 'kind'?"),
        (["--set", "kind=disk"], "'disk' is not in the value map, did you mean 'disc'? Allowed: disc, square."),
        (["--set", "kind"], "--set kind: 'kind' is not COLUMN=VALUE"),
        (["--set", "size=big"], "'big' is not a number (pixels)"),
        (["--set", "kind=disc", "--set", "kind=disc"], "the same arm as --set kind=disc"),
        (["--set", "kind=disc", "kind=square"], "--set takes one value, but 2 were given"),
        (["--set", "kind=square,size=4"], "line 2: size=4 contradicts kind=square by the template's rules"),
        (["--set", "kind=disc", "--estimand", "totl"], "unknown --estimand 'totl', did you mean 'total'?"),
        (["--set", "kind=disc", "--template", "phantom"], "unknown template column 'kind'"),
        (["--set", "smoking=never", "--template", "phantom"], "the template uses 'diagnosis', 'extent'"),
        (["--set", "kind=disc", "--rows", "-1"], "--rows -1"),
        (["--set", "kind=disc", "--keep", "lable"], "no clinical column 'lable'"),
    ],
)
def test_mistakes(fails: Callable[..., str], words: list[str], message: str) -> None:
    assert message in fails(*words)


def test_without_a_template(folder: Path, fails: Callable[..., str]) -> None:
    other = folder / "other.csv"
    other.write_bytes((folder / "data.csv").read_bytes())
    error = fails("--data", other, "--set", "kind=disc")
    assert "no template next to it (other.template.yaml or template.yaml)" in error and "--template" in error


def test_a_model_that_takes_no_text(folder: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    options = {**TINY, "network.fusion": "none", "network.mask": "channels", "network.mask_classes": [1]}
    options |= {"loop.steps": 1, "loop.warmup": 0}
    run = run_command("train text2image", data=folder / "data.csv", out=tmp_path / "mute", **options)
    assert "takes neither text nor table" in fails("--model", run, "--set", "kind=disc")


def test_held_out_patients_stand_beside_the_generated_shift(folder: Path, tmp_path: Path) -> None:
    """The last chain of a study: what-if, then its report with what real images of both groups show."""
    make(folder, tmp_path / "w", "ward=south", rows=8, n=1)
    given = ["evaluate", "whatif", str(tmp_path / "w" / "manifest.csv"), "--observed", str(folder / "data.csv")]
    assert main([*given, "--adjust", "kind", "view", "--out", str(tmp_path / "r")]) == 0
    scores = json.loads((tmp_path / "r" / "scores.json").read_text())
    assert scores["openings"] == {"count": 1, "plans": 0, "note": "", "lack": ""}
    assert '"evaluate whatif"' in (folder / "openings.json").read_text()
    beside = [figure for figure in scores["metrics"] if "observed" in figure["reference"]["what"]]
    assert [figure["subset"] for figure in beside] == ["ward=south | label 1"]
    assert "adjusted for kind, view" in beside[0]["reference"]["what"]
    assert "Compared with held-out patients" in (tmp_path / "r" / "report.html").read_text()


def test_adjusting_without_observing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "whatif", "w.csv", "--adjust", "age", "--out", str(tmp_path / "r")]) == 2
    assert "--adjust needs --observed" in capsys.readouterr().err
