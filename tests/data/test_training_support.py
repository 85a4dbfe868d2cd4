"""Joint support: how many training patients are near a changed row."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medloom.core.cells import Cell
from medloom.core.table_column import TableColumn
from medloom.core.types import Condition, Sample
from medloom.data.prompts import Template, read_template
from medloom.data.prompts.support import LEAST_NEAR, TrainingSupport
from medloom.data.table_columns import measure_columns

TEMPLATE = """
columns:
  smoking: {values: {never: never, former: former, current: current}}
  pack_years: {unit: pack-years, parents: [age, smoking], sentinels: [-999]}
  age: {unit: years}
  sex: {values: {female: female, male: male}}
"""


@pytest.fixture
def template(tmp_path: Path) -> Template:
    (tmp_path / "t.yaml").write_text(TEMPLATE)
    return read_template(tmp_path / "t.yaml")


def sample(number: int, modality: str = "CT", patient: str = "", **cells: Cell) -> Sample:
    return Sample(Path(f"{number}.png"), Condition("x", modality, table=cells), patient or f"p{number}", number, number)


def people(count: int = 200) -> list[Sample]:
    """Heavy smokers are all older than 55; former smokers of 31 have smoked little."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        age = float(rng.integers(25, 85))
        smoking = ("never", "former", "current")[number % 3]
        packs = 0.0 if smoking == "never" else float(rng.integers(60, 80) if age >= 55 else rng.integers(1, 20))
        rows.append(sample(number, age=age, smoking=smoking, pack_years=packs, sex=("female", "male")[number % 2]))
    return rows


def columns_of(rows: list[Sample], template: Template) -> tuple[TableColumn, ...]:
    """What rows have in the columns that differ between them."""
    names = [name for name in template.columns if len({row.condition.table.get(name) for row in rows}) > 1]
    return measure_columns(names, rows, template, "table.csv")


def support_of(rows: list[Sample], template: Template | None) -> TrainingSupport:
    assert template is not None
    return TrainingSupport.measure(rows, columns_of(rows, template), template)


def near(support: TrainingSupport, before: dict[str, Cell], modality: str | None = "CT", **changes: Cell) -> int | None:
    return support.near(modality, before, {**before, **changes})


YOUNG: dict[str, Cell] = {"age": 31.0, "smoking": "current", "pack_years": 8.0, "sex": "male"}
OLD: dict[str, Cell] = {**YOUNG, "age": 66.0}


def test_single_values_that_training_has_may_not_occur_together(template: Template) -> None:
    support = support_of(people(), template)
    assert near(support, YOUNG, smoking="former", pack_years=70.0) == 0
    older = near(support, OLD, smoking="former", pack_years=70.0)
    assert older is not None and older >= LEAST_NEAR
    # A young light smoker is as many training patients are; held pack-years count with a changed age.
    assert (near(support, YOUNG, smoking="former") or 0) >= LEAST_NEAR
    assert near(support, {**OLD, "pack_years": 70.0}, age=31.0) == 0


def test_without_a_declared_graph_pairs_say_so_too(template: Template) -> None:
    rows = people()
    support = TrainingSupport.measure(rows, columns_of(rows, template), None)
    assert all(len(table.columns) <= 2 for table in support.tables)
    assert near(support, YOUNG, smoking="former", pack_years=70.0) == 0
    assert (near(support, OLD, smoking="former", pack_years=70.0) or 0) >= LEAST_NEAR


def test_causes_are_matched_together(template: Template) -> None:
    """Former smokers have smoked little when young, current ones much: no pair of columns is new, three are."""
    rows = []
    for number in range(120):
        smoking, young = ("former", "current")[number % 2], number % 4 < 2
        much = (smoking == "current") == young
        rows.append(sample(number, age=30.0 if young else 70.0, smoking=smoking, pack_years=60.0 if much else 5.0))
    whole = support_of(rows, template)
    before: dict[str, Cell] = {"age": 30.0, "smoking": "former", "pack_years": 5.0, "sex": None}
    assert near(whole, before, pack_years=60.0) == 0
    # A held effect of what changes is compared in pairs only, so that several effects do not leave every row alone.
    assert (near(whole, before, age=70.0) or 0) >= LEAST_NEAR
    assert (near(whole, before, pack_years=60.0, age=70.0) or 0) >= LEAST_NEAR
    pairs = TrainingSupport.measure(rows, columns_of(rows, template), None)
    assert (near(pairs, before, pack_years=60.0) or 0) >= LEAST_NEAR


def test_what_is_unknown_or_unchanged_takes_no_part(template: Template) -> None:
    support = support_of(people(), template)
    assert near(support, YOUNG) is None, "nothing changes"
    assert near(support, {**YOUNG, "ward": "a"}, ward="b") is None, "a column that the model is not conditioned on"
    # Never to current: the number of pack-years is unknown.
    never: dict[str, Cell] = {**YOUNG, "smoking": "never", "pack_years": 0.0}
    assert (near(support, never, smoking="current", pack_years=None) or 0) >= LEAST_NEAR
    missing = [
        replace(row, condition=replace(row.condition, table={**row.condition.table, "pack_years": -999.0}))
        for row in people()
    ]
    assert near(support_of([*people(), *missing], template), YOUNG, smoking="former", pack_years=70.0) == 0


def test_what_training_has_never_seen_has_no_support(template: Template) -> None:
    rows = [row for row in people() if row.condition.table["smoking"] != "current"]
    support = support_of(rows, template)
    assert near(support, YOUNG, smoking="never", pack_years=0.0) != 0
    assert near(support, {**YOUNG, "smoking": "former"}, smoking="current") == 0
    assert near(support, YOUNG, age=900.0) == 0
    assert near(support, YOUNG, smoking="former", modality="MRI") == 0


def test_patients_count_once_and_modalities_apart(template: Template) -> None:
    """Twenty images of one patient are one patient, at one visit or at many."""
    rare: dict[str, Cell] = {"age": 31.0, "smoking": "former", "pack_years": 70.0, "sex": "male"}
    for spread in (0.0, 0.4):
        own = [sample(300 + k, patient="one", **{**rare, "age": 30.0 + spread * k}) for k in range(20)]
        assert near(support_of([*people(), *own], template), YOUNG, smoking="former", pack_years=70.0) in (0, 1)
    three = [sample(400 + k, **rare) for k in range(3)]
    assert near(support_of([*people(), *three], template), YOUNG, smoking="former", pack_years=70.0) == 3
    other = [replace(row, condition=replace(row.condition, modality="MRI")) for row in three]
    both = support_of([*people(), *other], template)
    assert near(both, YOUNG, smoking="former", pack_years=70.0) == 0
    assert near(both, YOUNG, smoking="former", pack_years=70.0, modality="MRI") == 3


def test_the_file_holds_counts_of_coarse_bins_and_no_rows(template: Template, tmp_path: Path) -> None:
    rows = [replace(row, patient=f"secret-{row.patient}") for row in people()]
    support = support_of(rows, template)
    support.write(tmp_path / "support.json")
    text = (tmp_path / "support.json").read_text()
    assert "secret" not in text and ".png" not in text and len(text) < 60_000
    assert max(len(table["columns"]) for table in json.loads(text)["tables"]) <= 3
    again = TrainingSupport.read(tmp_path / "support.json")
    for before in (YOUNG, OLD):
        for changes in ({"smoking": "former", "pack_years": 70.0}, {"age": 45.0}, {"sex": "female"}):
            assert near(again, before, **changes) == near(support, before, **changes)
    again.write(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == text
