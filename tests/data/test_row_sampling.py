"""Draws of rows that synthetic images are made of."""

from collections import Counter
from pathlib import Path

import pytest

from medloom.core.errors import UserError
from medloom.core.types import Condition, Sample
from medloom.data.row_sampling import draw_rows, rows_by_class


def rows(*cells: dict[str, float | str | None]) -> list[Sample]:
    return [
        Sample(Path(), Condition("a text", "CXR", table=table), f"p{row}", row, row + 2)
        for row, table in enumerate(cells)
    ]


def test_as_many_of_each_value_and_no_row_two_times_more_than_another() -> None:
    samples = rows(*[{"label": "common"}] * 20, *[{"label": "rare"}] * 3, {"label": None})
    classes = rows_by_class(samples, ["label"], [], "a.csv")
    drawn = draw_rows(classes, 40, seed=1)
    assert Counter(name for _, name in drawn) == {"common": 20, "rare": 20}
    times = Counter(row for row, name in drawn if name == "rare")
    assert set(times) == {20, 21, 22} and set(times.values()) == {6, 7}
    assert Counter(row for row, name in drawn if name == "common") == dict.fromkeys(range(20), 1)
    assert drawn == draw_rows(classes, 40, seed=1) != draw_rows(classes, 40, seed=2)


def test_as_they_come_takes_each_row_before_any_again() -> None:
    drawn = [row for row, _ in draw_rows([("", range(5))], 12, seed=0)]
    assert sorted(drawn[:5]) == sorted(drawn[5:10]) == list(range(5))


def test_findings_in_columns_count_where_they_are_present_alone() -> None:
    samples = rows(
        {"Edema": 1.0, "Mass": None}, {"Edema": -1.0, "Mass": "1"}, {"Edema": 0.0, "Mass": "yes"}, {"Mass": "no"}
    )
    assert rows_by_class(samples, ["Edema", "Mass"], [], "a.csv") == [("Edema", [0]), ("Mass", [1, 2])]


def test_a_class_with_no_row_to_balance_from() -> None:
    samples = rows({"label": 1.0, "Edema": 1.0}, {"label": 0.0, "Edema": -1.0})
    assert rows_by_class(samples, ["label"], ["0", "1"], "a.csv") == [("0", [1]), ("1", [0])]
    with pytest.raises(UserError, match=r"a\.csv: no row to balance label=2 from.*Values in the column: 0, 1"):
        rows_by_class(samples, ["label"], ["0", "2"], "a.csv")
    with pytest.raises(UserError, match="no row to balance Mass from"):
        rows_by_class(samples, ["Edema", "Mass"], [], "a.csv")
    with pytest.raises(UserError, match="'empty' is empty in every row"):
        rows_by_class(samples, ["empty"], [], "a.csv")
