"""Columns of a training table that condition a model, measured on its rows."""

from pathlib import Path
from typing import Any

import pytest

from medloom.core.errors import UserError
from medloom.core.types import Condition, Sample
from medloom.data.prompts import Column, Template
from medloom.data.table_columns import measure_columns


def rows(**columns: list[Any]) -> list[Sample]:
    """Samples with these columns, from line 2 on."""
    cells = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return [Sample(Path(str(n)), Condition(table=row), f"p{n}", n, n + 2) for n, row in enumerate(cells)]


def test_numbers_are_measured_without_missing_cells_and_sentinels() -> None:
    template = Template({"packs": Column("packs", unit="packs", sentinels=frozenset({"-999"}))})
    (column,) = measure_columns(["packs"], rows(packs=[0.0, 10.0, None, -999.0, 20.0]), template, "t.csv")
    assert (column.mean, column.low, column.high) == (10.0, 0.0, 20.0)
    assert column.std == pytest.approx((200 / 3) ** 0.5)
    assert column.sentinels == ("-999",)


def test_a_value_map_makes_codes_categories_and_a_plain_table_leaves_them_numbers() -> None:
    samples = rows(sex=[0.0, 1.0, 0.0])
    (coded,) = measure_columns(["sex"], samples, Template({"sex": Column("sex", values={"0": "f", "1": "m"})}), "t.csv")
    (plain,) = measure_columns(["sex"], samples, None, "t.csv")
    assert coded.categories == ("0", "1")
    assert plain.categories == () and plain.mean == pytest.approx(1 / 3)


def test_ages_are_capped_without_a_template_too() -> None:
    (column,) = measure_columns(["patient age"], rows(**{"patient age": [30.0, 94.0, 101.0]}), None, "t.csv")
    assert (column.cap, column.high) == (89.0, 90.0)


def test_none_is_a_category_among_words() -> None:
    (column,) = measure_columns(["finding"], rows(finding=["none", "mass", None]), None, "t.csv")
    assert column.categories == ("mass", "none")


@pytest.mark.parametrize(
    ("names", "columns", "message"),
    [
        (["agee"], {"age": [1.0, 2.0]}, r"unknown --table: clinical column of t.csv 'agee', did you mean 'age'\?"),
        (["age", "age"], {"age": [1.0, 2.0]}, "names 'age' twice"),
        (["ward"], {"ward": ["north", "north", None]}, "only 'north' in it"),
        (["ward"], {"ward": [None, None]}, "nothing in it"),
        (["mrn"], {"mrn": [1.0, 2.0]}, "is an identifier by its name"),
        (["seen"], {"seen": ["2020-01-02", "north"]}, "line 2: column 'seen': '2020-01-02' looks like a date"),
        (["note"], {"note": [f"text {n}" for n in range(101)]}, "101 different texts are not categories"),
    ],
)
def test_unusable_columns_are_refused(names: list[str], columns: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        measure_columns(names, rows(**columns), None, "t.csv")


def test_a_text_among_the_numbers_of_a_template_is_refused() -> None:
    template = Template({"size": Column("size", unit="mm")})
    with pytest.raises(UserError, match="'large' among its numbers"):
        measure_columns(["size"], rows(size=["3", "large"]), template, "t.csv")
