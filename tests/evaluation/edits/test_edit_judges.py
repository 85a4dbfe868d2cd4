"""Judges of edits: classifiers of drawn images whose class and number can be seen."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medloom.core.errors import UserError
from medloom.core.spec import GREY, ImageSpec, Intensity
from medloom.core.types import Condition, Sample
from medloom.downstream.classifier import ClassifierOptions
from medloom.evaluation.edits.judges import composite, judge_edits, judged_metrics, refuse_known
from medloom.evaluation.images.cache import EvaluationCache
from medloom.evaluation.report.metrics import Metric, Reference

World = tuple[EvaluationCache, list[Sample], list[Sample]]
SPEC = ImageSpec((16, 16), 1, "pad", {"X-ray": Intensity("window", GREY, 0, 255)})


def draw(folder: Path, name: str, finding: str, age: float) -> Path:
    """A disc where there is a finding, on a ground as bright as the patient is old."""
    rng = np.random.default_rng(sum(map(ord, name)))
    picture = np.full((16, 16), 20 + age) + rng.normal(0, 3, (16, 16))
    if finding == "disc":
        picture[4:12, 4:12] = 220
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"{name}.png")
    return folder / f"{name}.png"


def sample(folder: Path, name: str, finding: str, age: float, prior: str | None = None) -> Sample:
    table = {"finding": finding, "age": age, "site": "one", **({"prior_finding": prior} if prior else {})}
    before = draw(folder, f"{name}-prior", prior, age) if prior else None
    condition = Condition("text", "X-ray", prior=before, table=table)
    return Sample(draw(folder, name, finding, age), condition, name, 0, 2)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A place to train in, patients to train on, and triples half of which changed."""
    kinds = ("disc", "none")
    ages = np.linspace(20, 90, 40)
    train = [sample(tmp_path, f"t{number}", kinds[number % 2], float(ages[number])) for number in range(40)]
    triples = [
        sample(tmp_path, f"p{number}", kinds[number % 2], float(ages[2 * number]), kinds[number // 2 % 2])
        for number in range(20)
    ]
    options = ClassifierOptions(network="small", steps=60, seed=0, device="cpu", verbose=False)
    return EvaluationCache(tmp_path / "cache", SPEC, options), train, triples


def edited(triples: list[Sample], kind: str) -> list[tuple[Sample, Sample]]:
    """Edits that are the later images, or copies of the earlier ones."""
    if kind == "later":
        return [(triple, triple) for triple in triples]
    return [
        (Sample(triple.condition.prior or triple.path, triple.condition, triple.patient, 0, 2), triple)
        for triple in triples
    ]


def test_right_edits_are_told_and_copies_are_told_apart(world: World) -> None:
    cache, train, triples = world
    found = {}
    for kind in ("later", "copies"):
        metrics, notes = judged_metrics(judge_edits(cache, train, edited(triples, kind), "finding"), 0)
        found[kind] = {metric.name: metric for metric in metrics}
        assert "mean recall on held-out real patients" in notes[0]
    area, flipped, shift = (
        "AUROC of the later image's class",
        "changed class recognised",
        "divergence of predicted classes",
    )
    assert found["later"][area].value == 1.0 and found["later"][flipped].value == 1.0
    assert found["later"][shift].value == pytest.approx(0, abs=1e-6)
    copies = found["copies"]
    assert copies[area].value == copies[area].reference.value < 0.8 and copies[flipped].value == 0.0


def quick(world: World) -> World:
    """The same with a judge of a few steps, where how well it judges does not matter."""
    cache, train, triples = world
    return replace(cache, options=replace(cache.options, steps=15)), train, triples


def test_a_class_of_one_patient_is_left_out(world: World, tmp_path: Path) -> None:
    cache, train, triples = quick(world)
    odd = [sample(tmp_path, "odd", "ring", 50), sample(tmp_path, "other", "ring", 60, "none")]
    judged = judge_edits(cache, [*train, odd[0]], edited([*triples, odd[1]], "later"), "finding")
    assert judged.left_out == ("ring",) and set(judged.classes) == {"disc", "none"} and len(judged.later) == 20
    assert "ring left out" in judged_metrics(judged, 0)[1][1]
    with pytest.raises(UserError, match="no edit is of a class that --train has 2 patients of; they are disc, none"):
        judge_edits(cache, train, edited([odd[1]], "later"), "finding")


def test_few_patients_have_no_interval(world: World) -> None:
    cache, train, triples = quick(world)
    for count, known in ((5, False), (8, True)):
        edits = edited(triples[:count], "later")
        metrics, _ = judged_metrics(judge_edits(cache, train, edits, "finding"), seed=0)
        assert {metric.low is not None for metric in metrics[:2]} == {known}
        assert all(("it needs 8 patients" in metric.note) is not known for metric in metrics[:2])


def test_a_number_is_told_by_its_correlation(world: World) -> None:
    cache, train, triples = world
    (metric,), _ = judged_metrics(judge_edits(cache, train, edited(triples, "later"), "age"), 0)
    assert metric.name == "correlation with the later image's number" and metric.value > 0.8


def test_mistakes(world: World) -> None:
    cache, train, triples = world
    with pytest.raises(UserError, match="2 patients of the edits are in --train"):
        refuse_known([*train, *triples[:2]], edited(triples, "later"))
    with pytest.raises(UserError, match="--judge weight: no row of --train has such a cell"):
        judge_edits(cache, train, edited(triples, "later"), "weight")
    with pytest.raises(UserError, match="class"):
        judge_edits(cache, train, edited(triples, "later"), "site")


def component(column: str, value: float) -> Metric:
    metric = "correlation with the later image's number" if column == "age" else "AUROC of the later image's class"
    return Metric(metric, column, value, None, None, 9, "patients", Reference("x", 0.0))


def test_the_composite_by_hand() -> None:
    parts = [component("finding", 0.8054), component("race", 0.9722), component("age", 0.7938)]
    (note,) = composite(parts)
    # The formula as quoted, of the quoted components; the paper states 83.23 for them.
    assert note.startswith("CMIG = 0.841")
    assert composite(parts[:2]) == []
    assert "not defined" in composite([*parts[:2], component("age", -0.1)])[0]
