"""`generate`, `edit` and `whatif` answer nothing that training did not have, and continue no folder of other files."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, draw, medloom
from PIL import Image

from medloom.core.errors import UserError
from medloom.data.manifest import template_path
from medloom.generators.run_folder import RunFolder
from medloom.generators.storage import load_generator
from medloom.recipes.commands import run_command

ROWS = 16
LONG = " ".join(f"finding{number}" for number in range(40))
# The age lies beyond the 32 tokens that a model reads, where smoking is never.
TEMPLATE = """
columns:
  smoking: {values: {never: "never smoker%s", current: current smoker}}
  age: {say: "aged {value}", unit: years}
"""
WORDED, CUT = TEMPLATE % "", TEMPLATE % f", {LONG}"
QUICK = {
    **TINY,
    "text.max_tokens": 32,
    "text.vocabulary": 800,
    "loop.steps": 1,
    "loop.warmup": 0,
    "loop.validate_every": 1,
    "loop.checkpoint_every": 1,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with masks, priors, free texts and a table; ages are 40 to 55, and every fourth row has no text."""
    root = tmp_path_factory.mktemp("learnt")
    rng = np.random.default_rng(0)
    lines = ["path,Text,modality,patient_id,mask,prior,instruction,age,smoking,ward"]
    for number in range(ROWS):
        picture = draw(rng, "disc")
        Image.fromarray(picture).save(root / f"{number}.png")
        Image.fromarray((picture > 60).astype(np.uint8)).save(root / f"m{number}.png")
        kind, smoking = ("CT", "MRI")[number % 2], ("never", "current")[number // 2 % 2]
        parts = [
            f"{number}.png",
            ("a left disc", "a right disc")[number // 2 % 2],
            kind,
            f"p{number}",
            f"m{number}.png",
        ]
        parts += [f"{(number + 2) % ROWS}.png", "The disc moved.", str(40 + number), smoking]
        lines.append(",".join([*parts, ("north", "south", "")[number % 3]]))
    (root / "t.csv").write_text("\n".join(lines) + "\n")
    # Other columns decide what an editor reads.
    write(root / "texts.csv", [less(row, "prior", "instruction") for row in read(root / "t.csv")])
    bare = [
        {**row, "Text": "" if number % 4 == 0 else row["Text"]} for number, row in enumerate(read(root / "texts.csv"))
    ]
    write(root / "few_texts.csv", bare)
    for name, template in (("worded", WORDED), ("cut", CUT)):
        (root / f"{name}.yaml").write_text(template)
        given = {"data": root / "texts.csv", "template": str(root / f"{name}.yaml"), "replace": True}
        run_command("data prompts", out=root / f"{name}.csv", **given)
    return root


def read(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def write(table: Path, rows: list[dict[str, str]]) -> Path:
    with table.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return table


def less(row: dict[str, str], *names: str) -> dict[str, str]:
    return {name: cell for name, cell in row.items() if name not in names}


@pytest.fixture(scope="module")
def train(root: Path) -> Callable[..., Path]:
    """Trains a tiny model for one step, once for each name."""

    def run(name: str, data: str = "texts.csv", task: str = "text2image", **options: object) -> Path:
        out = root / "runs" / name
        if not out.exists():
            run_command(f"train {task}", data=root / data, out=out, **{**QUICK, **options})
        return out

    return run


@pytest.fixture
def runs(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command into `out`; gives what it said."""

    def run(*words: object, out: str = "out", code: int = 0) -> str:
        capsys.readouterr()
        assert medloom([*words, "--device", "cpu", "--out", tmp_path / out]) == code
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return said.out + said.err

    return run


@pytest.fixture
def fails(runs: Callable[..., str], tmp_path: Path) -> Callable[..., str]:
    """Runs a command that has to fail; gives its sentence and checks that nothing is left or touched."""

    def run(*words: object, out: str = "bad") -> str:
        folder = tmp_path / out
        before = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
        there = folder.exists()
        said = runs(*words, out=out, code=2)
        assert folder.exists() is there
        assert {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()} == before
        return said[said.index("medloom: ") :]

    return run


ONE = ["--steps", 1, "--batch", 4]
PROMPT = ["--prompt", "a left disc", "--modality", "CT", *ONE]


# What every training image had.


@pytest.mark.parametrize("family", ["diffusion", "gan"])
def test_a_model_of_masks_has_to_be_given_one(
    family: str, root: Path, train: Callable[..., Path], fails: Callable[..., str], runs: Callable[..., str]
) -> None:
    if family == "gan":
        own = {name: QUICK[name] for name in QUICK if not name.startswith(("network.", "sampling."))}
        small = {"network.widths": [8, 8], "network.attention": [False, False], "network.blocks": 1, "gan.width": 4}
        small |= {"gan.layers": 1, "gan.scales": 1, "text.dropout": 0.1}
        out = root / "runs" / "gan"
        run_command("train gan", data=root / "texts.csv", out=out, **{**own, **small})
        model, prompt = out, PROMPT[:4]
    else:
        model, prompt = train("masked", **{"network.mask": "channels", "text.dropout": 0.1}), PROMPT
    sentence = "the condition has no mask, which every training image had; name one with --mask, or in a column mask."
    assert fails("generate", "--model", model, *prompt) == f"medloom: {sentence}\n"
    assert "no text, which every training image had; give one with --prompt" in fails(
        "generate", "--model", model, "--modality", "CT", "--mask", root / "m1.png"
    )
    table = write(
        root / "half.csv", [{**row, "mask": ""} if n % 2 else row for n, row in enumerate(read(root / "texts.csv"))]
    )
    error = fails("generate", "--model", model, "--data", table)
    assert "8 of 16 rows cannot be used" in error and "line 3: column 'mask': no mask" in error
    runs("generate", "--model", model, "--data", table, "--skip-bad", *prompt[4:])


def test_rows_without_what_some_training_images_lacked_are_drawn_and_counted(
    root: Path, train: Callable[..., Path], runs: Callable[..., str], fails: Callable[..., str], tmp_path: Path
) -> None:
    """A table that was trained on can be generated from: no text is asked for that training did without."""
    model = train("few", "few_texts.csv", "mask2image", table=["ward"])
    generator = load_generator(model / "model")
    assert generator.rules.needs == ("mask",) and generator.rules.record.complete_columns == ()
    said = runs("generate", "--model", model, "--data", root / "few_texts.csv", *ONE, "--n", 2)
    assert "4 of 16 rows have no text: drawn as unknown." in said
    assert "5 of 16 rows have no value of ward: drawn as unknown." in said and "no mask" not in said
    assert len(read(tmp_path / "out" / "manifest.csv")) == 2 * ROWS
    said = runs("generate", "--model", model, "--modality", "CT", "--mask", root / "m1.png", *ONE, out="one")
    assert "the condition has no text: drawn as unknown." in said
    without = write(root / "no_masks.csv", [less(row, "mask") for row in read(root / "few_texts.csv")])
    assert "no mask column" in fails("generate", "--model", model, "--data", without)


def test_each_column_of_the_table_is_required_where_every_training_image_had_it(
    root: Path, train: Callable[..., Path], fails: Callable[..., str], runs: Callable[..., str]
) -> None:
    model = train("table", table=["age", "smoking", "ward"])
    error = fails("generate", "--model", model, *PROMPT, "--table", "age=45")
    assert "no value of smoking, which every training image had; give one with --table smoking=..." in error
    said = runs("generate", "--model", model, *PROMPT, "--table", "age=45,smoking=never")
    assert "the condition has no value of ward: drawn as unknown." in said
    rows = [
        {**row, "smoking": "" if number == 2 else row["smoking"]} for number, row in enumerate(read(root / "texts.csv"))
    ]
    error = fails("generate", "--model", model, "--data", write(root / "gap.csv", rows))
    assert "1 of 16 rows cannot be used" in error and "line 4: no value of smoking, which every training" in error
    without = write(root / "gone.csv", [less(row, "age") for row in read(root / "texts.csv")])
    error = fails("generate", "--model", model, "--data", without)
    assert "line 2: no column 'age', which conditions the model; add it" in error and error.count("no column") == 1


def test_an_editor_needs_the_instruction_that_it_was_trained_with(
    root: Path, train: Callable[..., Path], fails: Callable[..., str], runs: Callable[..., str]
) -> None:
    editor = train("editor", "t.csv", "edit")
    edit = ["edit", "--model", editor, "--image", root / "1.png", "--modality", "CT", *ONE]
    assert "the condition has no text, which every training image had" in fails(*edit, "--text", "")
    error = fails(*edit, "--text", "It moved.", "--controls", "nochange", "--nochange-text", "")
    assert "1 of 2 conditions have no text" in error
    assert "no prior image, which every training image had" in fails("generate", "--model", editor, *PROMPT)
    assert "drawn as unknown" in runs(*edit, "--text", "It moved.", "--text-only", "true")
    unpaired = train("stage-one", "t.csv", "edit", stage=1)
    error = fails(
        "edit", "--model", unpaired, "--image", root / "1.png", "--text", "It moved.", "--modality", "CT", *ONE
    )
    assert "no training image had a prior image: the model cannot follow one" in error


# Values outside training.


def test_numbers_outside_training_are_refused_unless_allowed(
    root: Path, train: Callable[..., Path], fails: Callable[..., str], runs: Callable[..., str], tmp_path: Path
) -> None:
    model = train("ages", table=["age"])
    for value in ("-5", "39", "56", "90+"):
        error = fails("generate", "--model", model, *PROMPT, "--table", f"age={value}")
        assert "training has not seen age=" in error and "; seen: 40 to 55" in error and "--allow-unseen" in error
    said = runs("generate", "--model", model, *PROMPT, "--table", "age=-5", "--allow-unseen")
    assert "the condition is outside what training has seen (training has not seen age=-5" in said
    assert read(tmp_path / "out" / "manifest.csv")[0]["age"] == "-5"
    rows = [{**row, "age": "-5" if number == 3 else row["age"]} for number, row in enumerate(read(root / "texts.csv"))]
    data = ["generate", "--model", model, "--data", write(root / "young.csv", rows), *ONE]
    error = fails(*data)
    assert "1 of 16 rows cannot be used" in error and "line 5: training has not seen age=-5; seen: 40 to 55" in error
    assert "1 of 16 rows are outside what training has seen" in runs(*data, "--allow-unseen", out="all")
    assert "1 of 16 rows were left out" in runs(*data, "--skip-bad", out="less")
    assert [len(read(tmp_path / name / "manifest.csv")) for name in ("all", "less")] == [ROWS, ROWS - 1]


def test_ages_above_the_cap_are_stored_as_the_cap_and_are_seen(
    root: Path, train: Callable[..., Path], runs: Callable[..., str], fails: Callable[..., str], tmp_path: Path
) -> None:
    old = [{**row, "age": str(80 + number)} for number, row in enumerate(read(root / "texts.csv"))]
    write(root / "old.csv", old)
    model = train("old", "old.csv", table=["age"])
    for value in ("89", "90", "94", "120", "90+"):
        runs("generate", "--model", model, *PROMPT, "--table", f"age={value}", out=value)
    assert read(tmp_path / "120" / "manifest.csv")[0]["age"] == "90"
    assert "seen: 80 to 90" in fails("generate", "--model", model, *PROMPT, "--table", "age=79")


# What-ifs of what training was not given.


def test_a_column_that_training_was_not_given_is_refused_unless_allowed(
    root: Path, train: Callable[..., Path], fails: Callable[..., str], runs: Callable[..., str], tmp_path: Path
) -> None:
    free = train("free")
    words = ["--data", root / "worded.csv", "--rows", 2, "--n", 1, *ONE]
    for change in ("age=45", "smoking=never"):
        name = change.partition("=")[0]
        error = fails("whatif", "--model", free, *words, "--set", change)
        assert f"--set {change}: training was not given {name}; it was given no columns" in error
        assert "--allow-unseen" in error
        runs("whatif", "--model", free, *words, "--set", change, "--allow-unseen", out=name)
        arm = json.loads((tmp_path / name / "whatif.json").read_text())["arms"][change]
        assert f"; an extrapolation: training was not given {name}" in arm["estimand"]
    # A template next to free texts words none of them.
    shutil.copy(root / "texts.csv", root / "beside.csv")
    (root / "beside.template.yaml").write_text(WORDED)
    beside = train("beside", "beside.csv")
    assert RunFolder(beside).worded_columns() == []
    assert "training was not given age" in fails("whatif", "--model", beside, *words, "--set", "age=45")


def test_what_the_texts_of_a_template_say_is_known(
    root: Path, train: Callable[..., Path], fails: Callable[..., str], runs: Callable[..., str]
) -> None:
    model = train("worded", "worded.csv")
    smoking, age = RunFolder(model).worded_columns()
    assert smoking.categories == ("current", "never") and (age.low, age.high) == (40, 55)
    words = ["whatif", "--model", model, "--data", root / "worded.csv", "--rows", 2, "--n", 1, *ONE]
    runs(*words, "--set", "age=45", "--set", "smoking=never")
    assert "training has not seen age=56; seen: 40 to 55" in fails(*words, "--set", "age=56")
    # A run that continues it keeps what it was given, and adds what is new.
    more = [{**row, "age": "70"} if number == 1 else row for number, row in enumerate(read(root / "texts.csv"))]
    run_command("data prompts", data=write(root / "more.csv", more), template=str(root / "worded.yaml"),
                out=root / "older.csv", replace=True)  # fmt: skip
    both = RunFolder(train("older", "older.csv", from_run=model)).worded_columns()
    assert [(column.name, column.high) for column in both][1] == ("age", 70)
    free = RunFolder(train("then-free", from_run=model)).worded_columns()
    assert [column.name for column in free] == ["smoking", "age"]


def test_a_text_that_is_cut_before_the_column_is_no_what_if(
    root: Path, train: Callable[..., Path], fails: Callable[..., str], runs: Callable[..., str]
) -> None:
    model = train("cut", "cut.csv")
    words = ["whatif", "--model", model, "--data", root / "cut.csv", "--n", 1, *ONE]
    # The first two rows never smoked, so that their ages lie beyond the 32 tokens.
    error = fails(*words, "--set", "age=50")
    assert (
        "--set age=50: " in error and "cut.csv, line 2: no image could change, because age lies beyond the 32" in error
    )
    assert "put it first in the template, or train with a larger --text.max-tokens" in error
    assert "age lies beyond the 32 tokens" in fails(*words, "--set", "age=99", "--allow-unseen")
    # Together with a change that is noticed, it is not either.
    rows = read(root / "cut.csv")
    write(root / "cut2.csv", rows[:2])
    shutil.copy(template_path(root / "cut.csv"), template_path(root / "cut2.csv"))
    words[4] = root / "cut2.csv"
    said = runs(*words, "--set", "smoking=current,age=50", "--set", "smoking=current")
    assert "texts are longer than the 32 tokens that the model reads" in said
    # A row that has the value already is no change.
    write(root / "cut2.csv", rows[:1])
    runs(*words, "--set", "age=40", "--set", "smoking=current", out="same")


def test_values_that_a_template_words_alike_are_said_and_a_column_without_words_is_refused(
    root: Path, train: Callable[..., Path], fails: Callable[..., str], runs: Callable[..., str]
) -> None:
    (root / "bands.yaml").write_text(
        "columns:\n  age: {bands: {0: young, 50: old}}\n  smoking: {say: '', values: {never: '', current: ''}}\n"
    )
    given = {"data": root / "texts.csv", "template": str(root / "bands.yaml"), "out": root / "bands.csv"}
    run_command("data prompts", replace=True, **given)
    model = train("bands", "bands.csv")
    words = ["whatif", "--model", model, "--data", root / "bands.csv", "--n", 1, *ONE, "--set"]
    said = runs(*words, "age=55")
    assert "--set age=55: in 5 of 16 rows age is worded, or capped, as it was, which is no change to the model." in said
    assert "training was not given smoking" in fails(*words, "smoking=never")
    error = fails(*words, "smoking=never", "--allow-unseen")
    assert "line 4: no image could change, because smoking is no column of the model's table, and the template" in error


def test_without_a_template_the_columns_of_the_table_are_set_and_the_texts_held(
    root: Path, train: Callable[..., Path], fails: Callable[..., str], runs: Callable[..., str], tmp_path: Path
) -> None:
    model = train("cells", "few_texts.csv", "mask2image", table=["smoking", "age"])
    words = ["whatif", "--model", model, "--data", root / "few_texts.csv", "--n", 1, *ONE, "--set"]
    said = runs(*words, "smoking=current", "--set", "age=45,smoking=never", "--with-text")
    assert "and the other columns of the table held, which excludes effects through them" in said
    assert "the mask" in said and "the texts" in said
    rows = read(tmp_path / "out" / "manifest.csv")
    arms = {arm: [row for row in rows if row["arm"] == arm] for arm in dict.fromkeys(row["arm"] for row in rows)}
    assert list(arms) == ["factual", "smoking=current", "age=45,smoking=never"]
    assert [row["text"] for row in arms["smoking=current"]] == [row["Text"] for row in read(root / "few_texts.csv")]
    assert {row["smoking"] for row in arms["smoking=current"]} == {"current"}
    assert [float(row["age"]) for row in arms["smoking=current"]] == [40.0 + number for number in range(ROWS)]
    pictures = [
        [(tmp_path / "out" / row["path"]).read_bytes() for row in arms[arm]] for arm in ("factual", "smoking=current")
    ]
    same = [before == after for before, after in zip(*pictures, strict=True)]
    assert same == [row["smoking"] == "current" for row in read(root / "few_texts.csv")]
    assert not (tmp_path / "out" / "manifest.template.yaml").exists()
    for more in ((), ("--observed", root / "few_texts.csv")):
        assert (
            medloom(
                ["evaluate", "whatif", tmp_path / "out" / "manifest.csv", *more, "--out", tmp_path / f"r{len(more)}"]
            )
            == 0
        )
    assert "unknown column of the model's table in --set 'agee', did you mean 'age'?" in fails(*words, "agee=45")
    assert "training has not seen age=80; seen: 40 to 55" in fails(*words, "age=80")
    assert "column 'smoking': 'former' was never trained on. Seen: current, never." in fails(*words, "smoking=former")
    without = write(root / "less.csv", [less(row, "age") for row in read(root / "few_texts.csv")])
    words[4] = without
    assert "no column 'age', which conditions the model; add it" in fails(*words, "smoking=current")
    assert "--estimand total: without a template nothing says what follows" in fails(
        *words, "smoking=current", "--estimand", "total"
    )
    words[2] = train("free")
    assert "has no template next to it" in fails(*words, "smoking=current")


def test_a_mask_that_the_model_does_not_take_is_not_held(
    root: Path, train: Callable[..., Path], runs: Callable[..., str], tmp_path: Path
) -> None:
    """Else regions of a mask would be measured that the images do not follow."""
    rows = [{**row, "mask": f"unread{number}.png"} for number, row in enumerate(read(root / "worded.csv"))]
    for number in range(len(rows)):
        Image.fromarray(np.eye(16, dtype=np.uint8)).save(root / f"unread{number}.png")
    write(root / "masked_words.csv", rows)
    shutil.copy(template_path(root / "worded.csv"), template_path(root / "masked_words.csv"))
    model = train("both", "worded.csv", table=["ward"])
    runs(
        "whatif",
        "--model",
        model,
        "--data",
        root / "masked_words.csv",
        "--rows",
        3,
        "--n",
        1,
        *ONE,
        "--set",
        "ward=south",
    )
    assert "mask" not in read(tmp_path / "out" / "manifest.csv")[0]


def test_a_number_above_the_cap_is_asked_for_as_its_group(
    root: Path, train: Callable[..., Path], runs: Callable[..., str], tmp_path: Path
) -> None:
    rows = [
        {**row, "Text": "a disc", "age": str(80 + number)} for number, row in enumerate(read(root / "few_texts.csv"))
    ]
    write(root / "old.csv", rows)
    model = train("old", "old.csv", "mask2image", table=["age"])
    said = runs("whatif", "--model", model, "--data", root / "old.csv", "--rows", 3, "--n", 1, *ONE, "--set", "age=200")
    assert "--set age=200: age above 89 is one group, which is asked for as 90." in said
    assert {row["arm"] for row in read(tmp_path / "out" / "manifest.csv")} == {"factual", "age=90"}


def test_a_template_may_leave_out_columns_of_the_table(
    root: Path, train: Callable[..., Path], runs: Callable[..., str], tmp_path: Path
) -> None:
    model = train("both", "worded.csv", table=["ward"])
    words = ["whatif", "--model", model, "--data", root / "worded.csv", "--n", 1, "--rows", 3, *ONE]
    said = runs(*words, "--set", "ward=south", "--set", "smoking=current,ward=north", "--with-text")
    assert "texts held" not in said
    rows = read(tmp_path / "out" / "manifest.csv")
    assert [row["ward"] for row in rows[:3]] == ["north", "south", "north"]
    assert rows[0]["text"] == rows[1]["text"] != rows[2]["text"]
    assert (tmp_path / "out" / "manifest.template.yaml").read_text() == WORDED


# Guidance.


def test_a_model_trained_without_dropout_is_not_guided(
    root: Path, train: Callable[..., Path], fails: Callable[..., str], runs: Callable[..., str], tmp_path: Path
) -> None:
    model = train("undropped", **{"text.dropout": 0.0})
    for scale in (["7.5"], ["text=3"], ["1", "modality=2"]):
        error = fails("generate", "--model", model, *PROMPT, "--guidance", *scale)
        assert "--guidance" in error and "the model was trained with --text.dropout 0" in error
    runs("generate", "--model", model, *PROMPT)
    assert json.loads((tmp_path / "out" / "generation.json").read_text())["options"]["guidance"] == ["1.0"]
    runs("generate", "--model", model, *PROMPT, "--guidance", "1", out="one")
    assert (tmp_path / "one" / "000000.png").read_bytes() == (tmp_path / "out" / "000000.png").read_bytes()
    # What an earlier run learnt of the empty condition is not unlearnt.
    further = train("further", **{"text.dropout": 0.0, "from_run": train("free")})
    runs("generate", "--model", further, *PROMPT, "--guidance", "3", out="further")


def test_an_editor_trained_without_dropout_has_neither_guidance_nor_inversion(
    root: Path, train: Callable[..., Path], fails: Callable[..., str], runs: Callable[..., str]
) -> None:
    model = train("undropped-editor", "t.csv", "edit", **{"text.dropout": 0.0})
    edit = ["edit", "--model", model, "--image", root / "1.png", "--text", "It moved.", "--modality", "CT", *ONE]
    for more in (["--guidance", "3"], ["--grid", "text=1,3", "prior=1"], ["--start", "inversion"], ["--text-only"]):
        error = fails(*edit, *more)
        assert more[0].replace("--grid", "--guidance") in error and "--text.dropout 0" in error
    runs(*edit, "--grid", "text=1", "prior=1")


def test_compare_samples_without_guidance_and_says_where_it_does_not(
    root: Path, train: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = {"before": train("free"), "after": train("undropped", **{"text.dropout": 0.0})}
    test = []
    for number, row in enumerate((read(root / "texts.csv") * 2)[:26]):
        image = np.asarray(Image.open(root / row["path"])).astype(int) + number // ROWS
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(root / f"test{number}.png")
        test.append({**row, "path": f"test{number}.png", "patient_id": f"new{number}"})
    given = {"data": write(root / "test.csv", test), "label": "none", "features": ["pixels"], "steps": 1}
    given |= {"image_size": [16], "device": "cpu", **models}
    run_command("compare", out=tmp_path / "plain", **given)
    assert json.loads((tmp_path / "plain/comparison.json").read_text())["guidance"] == {"before": 1.0, "after": 1.0}
    for side in models:
        options = json.loads((tmp_path / f"plain/{side}/generation.json").read_text())["options"]
        assert options["guidance"] == ["1.0"]
    assert "guidance" not in capsys.readouterr().out
    with pytest.raises(UserError, match="--guidance 3: the model was trained with --text.dropout 0"):
        run_command("compare", out=tmp_path / "guided", guidance=3.0, **given)
    given["after"] = train("free again", **{"loop.seed": 1})
    run_command("compare", out=tmp_path / "guided", guidance=3.0, **given)
    said = capsys.readouterr()
    assert "guidance 3 (1 is none" in said.err + said.out
    assert json.loads((tmp_path / "guided/comparison.json").read_text())["guidance"] == {"before": 3.0, "after": 3.0}

    # Rows that one of the models cannot follow are left out for both.
    given |= {
        "before": train("ages", table=["age"]),
        "data": write(root / "test.csv", [{**test[0], "age": "9"}, *test[1:]]),
    }
    with pytest.raises(UserError, match="1 of 26 rows cannot be used.*\n.*line 2: training has not seen age=9"):
        run_command("compare", out=tmp_path / "ages", **given)
    assert not (tmp_path / "ages").exists()
    run_command("compare", out=tmp_path / "ages", skip_bad=True, **given)
    assert [len(read(tmp_path / f"ages/{side}/manifest.csv")) for side in models] == [25, 25]


# Options of masks.


def test_options_of_masks_need_a_network_that_takes_masks(
    root: Path, train: Callable[..., Path], fails: Callable[..., str]
) -> None:
    (root / "classes.yaml").write_text("1: disc\n")
    words = ["train", "text2image", "--data", root / "texts.csv"]
    error = fails(*words, "--network.mask-classes", "1")
    assert "network.mask_classes 1: with --network.mask none the network takes no masks" in error
    for option in (["--classes", root / "classes.yaml"], ["--hide-classes", "1"], ["--resample-masks", "true"]):
        assert f"{option[0]}: the network takes no masks; give --network.mask channels" in fails(*words, *option)
    assert "trained without a mask" in fails("generate", "--model", train("free"), *PROMPT, "--mask", root / "m1.png")


# Contents of the files that images are made from.


def test_a_folder_is_not_continued_where_the_table_changed(
    root: Path, train: Callable[..., Path], fails: Callable[..., str], runs: Callable[..., str], tmp_path: Path
) -> None:
    table = tmp_path / "c.csv"
    rows = [
        {"Text": f"a {side} disc", "modality": "CT", "label": label} for side, label in (("left", "A"), ("right", "B"))
    ]
    words = ["generate", "--model", train("free"), "--data", write(table, rows), *ONE]
    runs(*words)
    runs(*words)
    write(table, [{"Text": "a new disc", "modality": "MRI", "label": "NEW"}, *rows])
    error = fails(*words, out="out")
    assert "other rows, files or options than are asked for now (2, 000000.png the first)" in error
    write(table, rows)
    runs(*words)
    assert [row["label"] for row in read(tmp_path / "out" / "manifest.csv")] == ["A", "B"]


@pytest.mark.parametrize(
    ("what", "command"),
    [
        ("masks", ["generate", "--model", "masked", *PROMPT, "--mask", "file.png"]),
        ("masks", ["generate", "--model", "masked", "--data", "rows.csv", *ONE]),
        ("prior images", ["edit", "--model", "editor", "--image", "file.png", "--text", "x", "--modality", "CT", *ONE]),
        ("prior images", ["edit", "--model", "editor", "--data", "rows.csv", *ONE]),
        ("--region", ["edit", "--model", "editor", "--data", "asked.csv", "--region", "file.png", *ONE]),
        ("masks", ["whatif", "--model", "masks-and-table", "--data", "rows.csv", "--set", "age=45", "--n", 1, *ONE]),
    ],
)
def test_a_folder_is_not_continued_where_a_file_changed(
    what: str,
    command: list[object],
    root: Path,
    train: Callable[..., Path],
    fails: Callable[..., str],
    runs: Callable[..., str],
    tmp_path: Path,
) -> None:
    models = {
        "masked": lambda: train("masked", **{"network.mask": "channels", "text.dropout": 0.1}),
        "editor": lambda: train("editor", "t.csv", "edit"),
        "masks-and-table": lambda: train("masks-and-table", table=["age"], **{"network.mask": "channels"}),
    }
    files = [root / "m1.png", root / "m2.png"] if what != "prior images" else [root / "1.png", root / "2.png"]
    shutil.copy(files[0], tmp_path / "file.png")
    row = {"Text": "a disc", "modality": "CT", "mask": "file.png", "prior": "file.png", "age": "44"}
    write(tmp_path / "rows.csv", [row if what == "prior images" else less(row, "prior")])
    shutil.copy(root / "3.png", tmp_path / "prior.png")
    write(tmp_path / "asked.csv", [{**less(row, "mask"), "prior": "prior.png"}])
    words = [tmp_path / word if str(word).endswith((".csv", ".png")) else word for word in command]
    words[2] = models[str(command[2])]()
    runs(*words)
    runs(*words)
    shutil.copy(files[1], tmp_path / "file.png")
    error = fails(*words, out="out")
    assert "images made from other rows, files or options than are asked for now" in error
    shutil.copy(files[0], tmp_path / "file.png")
    runs(*words)


def test_a_missing_file_is_one_sentence(
    root: Path, train: Callable[..., Path], fails: Callable[..., str], tmp_path: Path
) -> None:
    edit = ["edit", "--model", train("editor", "t.csv", "edit"), "--text", "x", "--modality", "CT", *ONE, "--image"]
    assert "none.png is missing" in fails(*edit, tmp_path / "none.png")
    error = fails(*edit, root / "1.png", "--region", tmp_path / "none.png")
    assert "none.png: the file does not exist; give auto, everywhere, or a label map" in error
