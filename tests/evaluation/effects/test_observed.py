"""The observed difference beside a generated shift: adjusted, of the right patients, in the right unit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medloom.core.errors import UserError
from medloom.core.image import Image
from medloom.core.spec import GREY, HU, ImageSpec, Intensity
from medloom.core.types import Condition, Sample
from medloom.data.images import write_image
from medloom.evaluation.effects.measure import Effects, MeasuredArm
from medloom.evaluation.effects.observed import Observed, observe, observed_metrics
from medloom.evaluation.effects.regions import Regions, RegionShift


def patients(count: int = 200) -> list[Observed]:
    """Smokers are older; the lung is 10 higher in a smoker and 2 a year with age, with some noise."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        age = float(rng.uniform(30, 80))
        smoker = rng.uniform() < (age - 20) / 80
        lung = 10.0 * smoker + 2.0 * age + rng.normal(0, 3)
        cells: dict[str, Any] = {
            "smoking": "current" if smoker else "never",
            "age": age,
            "view": ("PA", "AP")[number % 2],
        }
        rows.append(Observed(f"p{number}", cells, {"lung": lung}))
    return rows


def effects(arm: MeasuredArm, shift: float = 9.0) -> Effects:
    """Four patients, two of whom have what the arm sets already."""
    regions = Regions(Path(), None, {})
    for number in range(6):
        source, same = f"s{number}", number < 2
        regions.cells[source] = {"smoking": "current" if same else "never", "age": "60"}
        own = 0.0 if same and arm.name == "smoking=current" else shift + 0.1 * number
        regions.shifts.append(RegionShift(arm.name, "lung", source, own, 0.5))
    return Effects("HU", 1, {arm.name: arm}, regions)


SMOKING = MeasuredArm("smoking=current", {"smoking": "current"}, "in words")


def test_adjusting_takes_the_confounder_away_and_not_adjusting_leaves_it() -> None:
    (adjusted,), _ = observed_metrics(effects(SMOKING), patients(), ["age", "view"], 0)
    (plain,), _ = observed_metrics(effects(SMOKING), patients(), [], 0)
    assert adjusted.reference.value == pytest.approx(10.0, abs=1.0)
    assert adjusted.reference.low is not None and adjusted.reference.high is not None
    assert adjusted.reference.low < 10 < adjusted.reference.high
    assert plain.reference.value > 20
    assert "adjusted for age, view" in adjusted.reference.what and "not adjusted" in plain.reference.what


def test_patients_without_an_age_count_too() -> None:
    """Half of the ages are missing, of patients whose lungs are 50 denser; the effect of smoking stays what it is."""
    rows = []
    for number, row in enumerate(patients(400)):
        gone = number % 2 == 0
        cells = {**row.cells, "age": None if gone else row.cells["age"]}
        # A missing age says nothing of the lung, so that theirs is made not to depend on it.
        lung = row.regions["lung"] + (50 - 2.0 * float(row.cells["age"]) if gone else 0)
        rows.append(Observed(row.patient, cells, {"lung": lung}))
    (metric,), _ = observed_metrics(effects(SMOKING), rows, ["age", "view"], 0)
    assert metric.reference.n == 400 and metric.reference.value == pytest.approx(10.0, abs=1.0)


def test_only_patients_in_whom_it_is_a_change_count() -> None:
    (metric,), _ = observed_metrics(effects(SMOKING), patients(), ["age"], 0)
    assert metric.n == 4
    assert metric.value == pytest.approx(9.0 + 0.1 * 3.5)


def test_a_number_is_a_slope_times_the_change() -> None:
    arm = MeasuredArm("age=70", {"age": 70.0}, "in words")
    (metric,), _ = observed_metrics(effects(arm), patients(), ["smoking"], 0)
    assert metric.reference.value == pytest.approx(2.0 * 10, rel=0.05)


def test_what_has_no_counterpart_is_said() -> None:
    both = MeasuredArm("smoking=current,age=70", {"smoking": "current", "age": 70.0}, "in words")
    metrics, notes = observed_metrics(effects(both), patients(), [], 0)
    assert not metrics and "changes several columns" in notes[0]
    metrics, notes = observed_metrics(effects(SMOKING), patients(6), [], 0)
    assert not metrics and "too few patients" in notes[0]
    with pytest.raises(UserError, match="unknown --adjust: column 'aeg', did you mean 'age'"):
        observed_metrics(effects(SMOKING), patients(), ["aeg"], 0)


def test_the_fewest_are_patients_not_images() -> None:
    """Twelve images of two smokers are two patients."""
    rows = [row for row in patients(60) if row.cells["smoking"] == "never"]
    smokers = [row for row in patients(60) if row.cells["smoking"] == "current"]
    few = [*rows, *(Observed(f"q{number % 2}", row.cells, row.regions) for number, row in enumerate(smokers[:12]))]
    metrics, notes = observed_metrics(effects(SMOKING), few, [], 0)
    assert not metrics and "too few patients on one side (2 and" in notes[0]
    arm = MeasuredArm("age=70", {"age": 70.0}, "in words")
    same = [
        Observed(row.patient, {**row.cells, "age": 60.0 + 9 * (number < 3)}, row.regions)
        for number, row in enumerate(rows)
    ]
    metrics, notes = observed_metrics(effects(arm), same, [], 0)
    assert not metrics and "too few patients on one side (3 and" in notes[0]


@pytest.mark.parametrize("adjust", [[], ["age", "view"]])
def test_a_patient_with_many_images_counts_once(adjust: list[str]) -> None:
    rows = patients(60)
    (once,), _ = observed_metrics(effects(SMOKING), rows, adjust, 0)
    for often in ([*rows, *rows], [*rows, *[rows[7]] * 9]):
        (again,), _ = observed_metrics(effects(SMOKING), often, adjust, 0)
        for name in ("value", "low", "high", "n"):
            assert getattr(again.reference, name) == pytest.approx(getattr(once.reference, name))


def test_what_the_observed_difference_cannot_tell_is_said() -> None:
    """Few noisy patients: an interval that includes zero is within every shift's reach, and agrees with none."""
    rng = np.random.default_rng(1)
    noisy = [Observed(row.patient, row.cells, {"lung": float(rng.normal(0, 40))}) for row in patients(40)]
    (metric,), _ = observed_metrics(effects(SMOKING, shift=1.0), noisy, [], 0)
    assert metric.reading.startswith("the reference cannot tell") and metric.tone == ""
    (opposite,), _ = observed_metrics(effects(SMOKING, shift=-9.0), patients(), ["age"], 0)
    assert opposite.reading.startswith("opposite sign")


@pytest.mark.parametrize(("unit", "low", "high", "value"), [(HU, -1000.0, 1000.0, -300.0), (GREY, 0.0, 255.0, 90.0)])
def test_images_are_measured_in_the_unit_of_generated_ones(
    tmp_path: Path, unit: str, low: float, high: float, value: float
) -> None:
    spec = ImageSpec((16, 16), 1, "pad", {"CT": Intensity("window", unit, low, high)})
    values = np.full((16, 16), 20.0, np.float32)
    values[:8] = value
    suffix = "dcm" if unit == HU else "png"
    write_image(tmp_path / f"i.{suffix}", Image(values[None], unit, 255.0), {})
    labels = np.full((1, 16, 16), 2, np.float32)
    labels[:, :8] = 1
    write_image(tmp_path / "m.png", Image(labels, GREY, 255.0), {})
    condition = Condition(None, "CT", mask=tmp_path / "m.png")
    sample = Sample(tmp_path / f"i.{suffix}", condition, "p", 0, 2)
    (row,) = observe([sample], [{}], spec, {1: "upper"})
    assert row.regions["upper"] == pytest.approx(value, abs=1.0)
    assert row.regions["label 2"] == pytest.approx(20.0, abs=1.0)
