"""Effects come from what was trained: they are there with the attribute, and gone when it is dealt to others."""

import csv
from pathlib import Path

import numpy as np
import pytest

from medloom.cli.main import main
from medloom.data.images import read_image
from medloom.evaluation.effects.measure import measure_effects
from medloom.metrics.effects import dose_line
from medloom.metrics.uncertainty import Interval, equivalent
from medloom.phantom.thorax import LABELS
from medloom.phantom.truth import Cohort
from medloom.recipes.commands import run_command

TEMPLATE = """
columns:
  smoking: {values: {never: never smoker, former: ex-smoker, current: current smoker}}
  pack_years: {say: "{value} smoking history", bands: {0: "", 1: light, 15: moderate, 30: heavy, 50: very heavy},
    parents: [smoking], follows: [{when: {smoking: never}, value: 0},
    {when: {smoking: [former, current]}, was: 0, unknown: true}]}
"""
TRAINING = {
    "size": "tiny",
    "image_size": [32],
    "hu_window": [-1024, 476],
    "network.widths": [32, 64],
    "network.attention": [False, False],
    "network.patch": 4,
    "network.fusion": "affine",
    "network.mask": "channels",
    "network.mask_classes": [1, 2, 3],
    "text.vocabulary": 560,
    "text.max_tokens": 16,
    "text.layers": 1,
    "text.width": 32,
    "text.learning_rate_factor": 0.2,
    "sampling.steps": 6,
    "loop.precision": "fp32",
    "loop.batch": 32,
    "loop.learning_rate": 3e-3,
    "loop.steps": 360,
    "loop.validate_every": 360,
    "loop.checkpoint_every": 360,
    "device": "cpu",
}
# Of the slope: what half a minute of training reaches at least, and what chance must stay within.
MARGIN = 0.08
ARMS = ["smoking=never", "smoking=former,pack_years=70", "smoking=current,pack_years=5"]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patients in whom smoking does five times what it does."""
    root = tmp_path_factory.mktemp("controls")
    (root / "t.yaml").write_text(TEMPLATE)
    words = ["--patients", "400", "--size", "32", "--amplify", "5", "--complete", "--template", str(root / "t.yaml")]
    assert main(["data", "phantom", "--out", str(root / "cohort"), *words]) == 0
    return root / "cohort"


def slope(cohort: Path, data: Path, out: Path) -> Interval:
    """The slope over doses of a generator that was trained on `data`."""
    model = run_command("train text2image", data=data, out=out / "run", **TRAINING)
    settings = {"rows": 24, "n": 1, "device": "cpu"}
    made = run_command("whatif", model=model, data=cohort / "test.csv", set=ARMS, out=out / "w", **settings)
    effects = measure_effects(made, Cohort(cohort), verbose=False)
    columns = {name: effects.column(name, "smoking") for name in ("true", "estimated", "dose", "source")}
    return dose_line(columns["true"], columns["estimated"], columns["dose"].tolist(), columns["source"], 0).slope


def dealt(cohort: Path) -> Path:
    """The training table with the texts, and so all that is told of smoking, dealt to other patients."""
    with (cohort / "train.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    texts = [row["Text"] for row in rows]
    for row, place in zip(rows, np.random.default_rng(0).permutation(len(rows)), strict=True):
        row["Text"] = texts[place]
    with (cohort / "permuted.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return cohort / "permuted.csv"


@pytest.mark.slow
def test_the_effect_is_there_with_the_attribute(cohort: Path, tmp_path: Path) -> None:
    taught = slope(cohort, cohort / "train.csv", tmp_path / "taught")
    assert taught.low > MARGIN, taught


@pytest.mark.slow
def test_the_effect_is_gone_without_the_attribute(cohort: Path, tmp_path: Path) -> None:
    permuted = slope(cohort, dealt(cohort), tmp_path / "permuted")
    assert equivalent(permuted, MARGIN), permuted


def told_by_table(cohort: Path, out: Path, columns: list[str]) -> dict[str, float]:
    """Arm -> mean change of bone in HU, as a generator that is told these columns of the table answers it."""
    options = {
        **TRAINING,
        "loop.steps": 1200,
        "loop.learning_rate": 2e-3,
        "noise.shift": 4.0,
        "network.mask_balance": 0.5,
    }
    model = run_command("train text2image", data=cohort / "train.csv", out=out / "run", table=columns, **options)
    settings = {"rows": 24, "n": 1, "device": "cpu"}
    made = run_command("whatif", model=model, data=cohort / "test.csv", set=ARMS, out=out / "w", **settings)
    truth, changes = Cohort(cohort), dict[str, list[float]]()
    with made.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        bone = truth.twins(row["source_id"], {}).factual.labels == LABELS["bone"]
        changes.setdefault(row["arm"], []).append(float(read_image(made.parent / row["path"]).pixels[0][bone].mean()))
    return {arm: float(np.mean(changes[arm])) - float(np.mean(changes["factual"])) for arm in ARMS}


def confounding(cohort: Path) -> dict[str, float]:
    """Arm -> by how much bone differs between such patients and those asked about: a line through the training images.

    Smoking does nothing to bone: all of it is age, which goes with smoking.
    """

    def rows_of(name: str) -> list[dict[str, str]]:
        with (cohort / name).open(encoding="utf-8") as stream:
            return list(csv.DictReader(stream))

    def told(smoking: str, packs: float) -> list[float]:
        return [1.0, smoking == "former", smoking == "current", packs]

    train, asked = rows_of("train.csv"), rows_of("test.csv")[:24]
    bone = [
        read_image(cohort / row["path"]).pixels[read_image(cohort / row["labels"]).pixels == LABELS["bone"]].mean()
        for row in train
    ]
    known = np.array([told(row["smoking"], float(row["pack_years"])) for row in train])
    line = np.linalg.lstsq(known, np.array(bone), rcond=None)[0]
    before = np.array([told(row["smoking"], float(row["pack_years"])) for row in asked]).mean(axis=0)
    arms = {ARMS[0]: told("never", 0), ARMS[1]: told("former", 70), ARMS[2]: told("current", 5)}
    return {arm: float((np.array(after) - before) @ line) for arm, after in arms.items()}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_confounder_that_nobody_measured_biases_the_effect_by_the_known_amount(tmp_path: Path) -> None:
    """Bone, which smoking leaves alone: with age in the table it stays, with age hidden it changes as age would."""
    words = ["--patients", "800", "--size", "32", "--complete", "--template", "phantom-findings"]
    for name, more in (("told", []), ("hidden", ["--hide", "age"])):
        assert main(["data", "phantom", "--out", str(tmp_path / name), *words, *more]) == 0
    told = told_by_table(tmp_path / "told", tmp_path / "a", ["smoking", "pack_years", "age"])
    hidden = told_by_table(tmp_path / "hidden", tmp_path / "b", ["smoking", "pack_years"])
    known = confounding(tmp_path / "hidden")
    assert abs(known[ARMS[1]]) > 10, known
    assert 0.5 < share(hidden, known) < 1.5, (hidden, known)
    assert abs(share(told, known)) < 0.25, (told, known)


def share(answered: dict[str, float], known: dict[str, float]) -> float:
    """How much of the known changes is in the answered ones: the slope through 0 over arms."""
    return sum(answered[arm] * known[arm] for arm in ARMS) / sum(known[arm] ** 2 for arm in ARMS)
