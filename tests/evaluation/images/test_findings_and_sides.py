"""Findings with sides by the texts of images: labels by hand, and what swapped sides and missing findings change."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medloom.core.errors import UserError
from medloom.data.tables import row_ids
from medloom.downstream.classifier import ClassifierOptions
from medloom.downstream.multilabel import best_threshold, hold_out_labels, load_multilabel, train_multilabel
from medloom.evaluation.images import findings
from medloom.evaluation.images.findings import Scored, finding_metrics, unknown_sides
from medloom.evaluation.images.text_findings import Output, truth_of
from medloom.evaluation.report.metrics import EVERYTHING, Metric
from medloom.recipes.evaluate_images import Config, run

sys.path.insert(0, str(Path(__file__).parent))
from drawn import read

SIZE = 16
EFFUSION = "pleural effusion"
LEFT, RIGHT, ANY = Output(EFFUSION, "left"), Output(EFFUSION, "right"), Output(EFFUSION)
KINDS = ("left", "right", "both", "none")
TEXTS = {
    "left": "Large left pleural effusion.",
    "right": "Large right pleural effusion.",
    "both": "Bilateral pleural effusions.",
    "none": "No pleural effusion.",
}
OTHER = {"left": "right", "right": "left", "both": "both", "none": "none"}
QUICK: dict[str, Any] = {"image_size": (SIZE,), "steps": 60, "device": "cpu", "label": "none", "only": ("findings",)}


def chest(rng: np.random.Generator, kind: str) -> np.ndarray:
    """Two dark lungs; the lower part of one or both is bright. The patient's left is on the right of the image."""
    image = rng.normal(90, 8, (SIZE, SIZE))
    for side, columns in (("right", slice(2, 7)), ("left", slice(9, 14))):
        image[2:14, columns] -= 60
        if kind in (side, "both"):
            image[rng.integers(8, 10) : 14, columns] += rng.uniform(90, 130)
    return np.clip(image, 0, 255).astype(np.uint8)


def chests(folder: Path, count: int, seed: int, *, shown: dict[str, str] | None = None, texts: bool = True) -> Path:
    """Write images of all kinds; `shown` maps what a text says to what its image shows."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    lines = ["path,text,modality,patient_id,sex"]
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        Image.fromarray(chest(rng, (shown or {}).get(kind, kind))).save(folder / f"{number}.png")
        text = f"{TEXTS[kind]} Patient {number}." if texts else ""
        lines.append(f"{number}.png,{text},X-ray,{folder.name}-{number},{'MF'[number // 4 % 2]}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("chests")
    return {
        "train": chests(root / "train", 120, 0),
        "real": chests(root / "real", 80, 1),
        "good": chests(root / "good", 80, 2),
        "swapped": chests(root / "swapped", 80, 3, shown=OTHER),
        "healthy": chests(root / "healthy", 80, 4, shown=dict.fromkeys(KINDS, "none")),
        "wordless": chests(root / "wordless", 80, 5, texts=False),
    }


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def evaluate(sets: dict[str, Path], name: str, out: Path, **options: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """Metrics by name and subset."""
    given: dict[str, Any] = {**QUICK, "train": sets.get("train"), **options}
    run(Config(real=sets["real"], synthetic=(sets[name],), out=out, **given))
    return {(m["name"], m["subset"]): m for m in json.loads((out / "scores.json").read_text())["metrics"]}


@pytest.mark.parametrize(
    ("text", "any_side", "left", "right"),
    [
        ("Small left pleural effusion.", 1, 1, 0),
        ("Bilateral pleural effusions.", 1, 1, 1),
        ("Pleural effusion.", 1, None, None),
        ("No pleural effusion.", 0, 0, 0),
        ("The heart is enlarged.", 0, 0, 0),
        ("Possible left pleural effusion.", None, None, 0),
        ("Possible left pleural effusion. Right pleural effusion.", 1, None, 1),
        ("No large pleural effusion.", None, None, None),
        ("No right pleural effusion. Left pleural effusion.", 1, 1, 0),
    ],
)
def test_what_texts_say(text: str, any_side: int | None, left: int | None, right: int | None) -> None:
    found = [truth_of(text, output) for output in (ANY, LEFT, RIGHT)]
    assert [None if value != value else value for value in found] == [any_side, left, right]


def scored(truth: np.ndarray, scores: np.ndarray) -> Scored:
    return Scored(truth, scores, np.arange(len(truth)), "patients")


def by_name(metrics: list[Metric]) -> dict[tuple[str, str], Metric]:
    return {(metric.name, metric.subset): metric for metric in metrics}


def test_metrics_by_hand() -> None:
    """Ten effusions on the left, ten on the right, ten without and two left open."""
    truth = np.repeat([[1, 1, 0], [1, 0, 1], [0, 0, 0], [np.nan, np.nan, np.nan]], [10, 10, 10, 2], axis=0)
    scores = np.nan_to_num(truth * 2 - 1, nan=9)
    outputs, thresholds = (ANY, LEFT, RIGHT), (0.0, 0.0, 0.0)
    real = scored(truth, scores)
    worse = scores.copy()
    # Two of the left are seen on the right, one without is seen as an effusion.
    worse[:2, 1:] = worse[:2, :0:-1]
    worse[20, 0] = 5
    found = by_name(finding_metrics(outputs, thresholds, scored(truth, worse), real))
    assert found[findings.SENSITIVITY, EFFUSION].value == 1 and found[findings.SPECIFICITY, EFFUSION].value == 0.9
    assert found[findings.SENSITIVITY, LEFT.name].value == 0.8
    assert found[findings.SPECIFICITY, RIGHT.name].value == pytest.approx(18 / 20)
    side = found[findings.SIDE, EFFUSION]
    assert side.value == pytest.approx((0.8 + 1) / 2) and (side.reference.value, side.n) == (1, 20)
    assert found[findings.AUROC, EFFUSION].value == pytest.approx(1 - 20 / 200)
    assert found[findings.AUROC, EVERYTHING].value == found[findings.AUROC, EFFUSION].value
    assert not any(metric.blind for metric in found.values())


def test_both_sides_count_equally() -> None:
    """A classifier that always says left is right by half, however many are on the left."""
    truth = np.repeat([[1, 0], [0, 1]], [40, 10], axis=0).astype(float)
    always = np.tile([1.0, 0.0], (50, 1))
    own, real = scored(truth, always), scored(truth, truth)
    found = by_name(finding_metrics((LEFT, RIGHT), (0.5, 0.5), own, real))[findings.SIDE, EFFUSION]
    assert found.value == 0.5 and found.reference.value == 1 and found.reading.endswith("worse")


def test_sides_that_are_not_measured_are_named_with_what_they_need() -> None:
    truth = np.repeat([[1, 1, 0], [1, 0, 1], [0, 0, 0]], [10, 2, 10], axis=0).astype(float)
    few, outputs = scored(truth, truth), (ANY, LEFT, RIGHT)
    (note,) = unknown_sides(outputs, finding_metrics(outputs, (0.5,) * 3, few, few), few, few)
    assert note == (
        f"findings: the side of {EFFUSION} was not measured: held-out 10 and 2 patients have it on the left and on the"
        " right alone, synthetic 10 and 2 patients; it needs 5 of each."
    )
    (note,) = unknown_sides((ANY, LEFT), [], few, few)
    assert "too few images of some set have it on the left or on the right" in note
    enough = scored(np.tile(truth, (5, 1)), np.tile(truth, (5, 1)))
    metrics = finding_metrics(outputs, (0.5,) * 3, enough, enough)
    assert unknown_sides(outputs, metrics, enough, enough) == []


def test_a_finding_that_is_not_seen_in_real_images_says_so() -> None:
    truth = np.repeat([[1.0], [0.0]], 20, axis=0)
    rng = np.random.default_rng(0)
    real, own = scored(truth, rng.normal(size=(40, 1))), scored(truth, truth)
    for metric in finding_metrics((ANY,), (0.5,), own, real):
        assert metric.reading == f"cannot tell: {findings.UNSEEN}"


def test_patients_are_held_out_of_every_group() -> None:
    rng = np.random.default_rng(0)
    patients = np.repeat([f"p{number}" for number in range(60)], 2).tolist()
    truth = np.repeat((rng.random((60, 4)) < [0.5, 0.15, 0.85, 0.3]).astype(float), 2, axis=0)
    held = np.isin(np.arange(120), hold_out_labels(patients, truth, 0.25, 0))
    assert not {p for p, h in zip(patients, held, strict=True) if h} & {
        p for p, h in zip(patients, held, strict=True) if not h
    }
    for column in truth.T:
        for state in (0, 1):
            share = held[column == state].mean()
            assert 0.1 < share < 0.45
    assert 20 <= held.sum() <= 44


def test_thresholds_and_what_is_kept(tmp_path: Path) -> None:
    assert best_threshold(np.array([0, 0, 1, 1, np.nan]), np.array([1, 2, 4, 5, 9])) == 3
    rng = np.random.default_rng(0)
    kinds = [KINDS[number % 4] for number in range(80)]
    images = np.stack([chest(rng, kind) for kind in kinds])[:, None].astype(np.float32) / 127.5 - 1
    truth = np.array([[kind != "none", kind in ("left", "both")] for kind in kinds], float)
    patients = [str(number) for number in range(80)]
    options = ClassifierOptions(steps=40, batch=32, validate_every=20, verbose=False)
    held = hold_out_labels(patients, truth, 0.25, 0)
    trained = train_multilabel(images, truth, ("any", "left"), patients, held, options)
    assert trained.validation["auroc"] > 0.9
    trained.save(tmp_path / "kept")
    again = load_multilabel(tmp_path / "kept")
    np.testing.assert_array_equal(again.scores(images), trained.scores(images))
    assert (again.outputs, again.thresholds) == (trained.outputs, trained.thresholds)
    with pytest.raises(UserError, match="'left' is not both present and absent in the images to select on"):
        train_multilabel(images, truth, ("any", "left"), patients, np.array([1, 3]), options)
    with pytest.raises(UserError, match="images of shape"):
        trained.scores(images[:, :, :8])


@pytest.mark.slow
def test_right_sides_are_within_the_reference(
    sets: dict[str, Path], cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluate(sets, "good", tmp_path / "out", cache=cache, by=("sex",))
    for what in (findings.AUROC, findings.SENSITIVITY, findings.SPECIFICITY, findings.SIDE):
        metric = found[what, EFFUSION]
        assert metric["value"] > 0.85 and metric["reference"]["value"] > 0.85 and not metric["blind"], what
        assert not metric["reading"].endswith("worse") and metric["low"] <= metric["value"] <= metric["high"]
    # A mean image with noise has no side.
    assert abs(found[findings.SIDE, EFFUSION]["control"] - 0.5) < 0.25 and found[findings.AUROC, "sex M"]["n"] == 40
    assert {subset for name, subset in found if name == findings.SPECIFICITY} == {
        EVERYTHING,
        EFFUSION,
        LEFT.name,
        RIGHT.name,
    }
    page = (tmp_path / "out" / "report.html").read_text()
    assert findings.SECTION.question in page and "without left-right flips" in page
    assert all(meaning.split(";")[0] in page for meaning in findings.SECTION.metrics.values())
    assert "training classifier" in capsys.readouterr().err
    assert evaluate(sets, "good", tmp_path / "again", cache=cache, by=("sex",)) == found
    assert "training classifier" not in capsys.readouterr().err


def test_swapped_sides_are_seen(sets: dict[str, Path], cache: Path, tmp_path: Path) -> None:
    found = evaluate(sets, "swapped", tmp_path / "out", cache=cache)
    side = found[findings.SIDE, EFFUSION]
    assert side["value"] < 0.15 and side["reading"].endswith("worse") and side["reference"]["value"] > 0.85
    # The finding itself is there.
    assert found[findings.AUROC, EFFUSION]["value"] > 0.85
    assert found[findings.SENSITIVITY, LEFT.name]["reading"].endswith("worse")


def test_findings_that_are_not_shown_are_seen(sets: dict[str, Path], cache: Path, tmp_path: Path) -> None:
    found = evaluate(sets, "healthy", tmp_path / "out", cache=cache)
    assert found[findings.SENSITIVITY, EFFUSION]["value"] < 0.2
    assert found[findings.AUROC, EFFUSION]["reading"].endswith("worse")


@pytest.mark.slow
def test_half_of_real_is_trained_on_and_a_gate_and_a_plan_know_the_metrics(
    sets: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = "- {metric: side of the finding, of: pleural effusion, lower_at_least: 0.7"
    (tmp_path / "gate.yaml").write_text(f"{rule}}}\n")
    (tmp_path / "plan.yaml").write_text(f"{rule}, reason: a reader said so, n: 40, power: guessed}}\n")
    options = {"gate": tmp_path / "gate.yaml", "plan": tmp_path / "plan.yaml"}
    found = evaluate(sets, "good", tmp_path / "out", train=None, **options)
    assert found[findings.SIDE, EFFUSION]["value"] > 0.8 and not found[findings.SIDE, EFFUSION]["exploratory"]
    assert found[findings.AUROC, EFFUSION]["reference"]["n"] == 40
    assert "PASS: side of the finding of pleural effusion" in capsys.readouterr().err


def test_texts_come_from_the_table_of_conditions(sets: dict[str, Path], cache: Path, tmp_path: Path) -> None:
    table = tmp_path / "conditions.csv"
    table.write_text("Text,modality\n" + "".join(f"{TEXTS[kind]},X-ray\n" for kind in KINDS))
    head, *lines = sets["wordless"].read_text().splitlines()
    names = row_ids(table, [2, 3, 4, 5])
    rows = [f"{line},{names[number % 4]}" for number, line in enumerate(lines)]
    made = sets["wordless"].with_name("named.csv")
    made.write_text("\n".join([f"{head},source_id", *rows]) + "\n")
    found = evaluate({**sets, "named": made}, "named", tmp_path / "out", conditions=table, cache=cache)
    assert found[findings.SIDE, EFFUSION]["value"] > 0.8
    # Four prompts are a fixed list.
    assert found[findings.SIDE, EFFUSION]["counted"] == "images" and "prompts" in found[findings.SIDE, EFFUSION]["note"]


def test_what_is_lacking(sets: dict[str, Path], tmp_path: Path) -> None:
    def refused(name: str, **options: Any) -> str:
        with pytest.raises(UserError) as caught:
            evaluate(options.pop("of", sets), name, tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()
        return str(caught.value)

    assert "findings cannot be measured: no synthetic image has a text; name the table" in refused("wordless")
    wordless = {**sets, "real": sets["wordless"]}
    assert "no held-out real image has a text" in refused("good", of=wordless)
    few = chests(tmp_path / "few", 8, 6)
    message = refused("few", of={**sets, "few": few})
    assert "of 'pleural effusion', 90 and 30 patients to train on have and lack it, 60 and 20 held-out" in message
    assert read(few).samples()[0].condition.text == f"{TEXTS['left']} Patient 0."


def test_a_report_without_texts_says_so(tmp_path: Path) -> None:
    few = {
        "real": chests(tmp_path / "few", 16, 6),
        "wordless": chests(tmp_path / "made", 12, 7, texts=False),
    }
    found = evaluate(few, "wordless", tmp_path / "out", only=(), features=("pixels",), train=None)
    notes = json.loads((tmp_path / "out" / "scores.json").read_text())["left_out"]
    # Of the joint encoder nobody asked, so that nothing is said.
    assert "no synthetic image has a text" in notes["findings"] and "texts" not in notes
    assert {metric["section"] for metric in found.values()} == {"identifiers"}
