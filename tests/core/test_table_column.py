"""Cells of a clinical table as numbers that a model takes."""

import math

import pytest

from medloom.core.errors import UserError
from medloom.core.table_column import TableColumn

AGE = TableColumn("age", mean=60.0, std=10.0, low=20.0, high=89.0, cap=89.0, sentinels=("-999",))
SMOKING = TableColumn("smoking", ("current", "never", "none"))


@pytest.mark.parametrize(
    ("cell", "expected"),
    [(60, 0.0), ("70", 1.0), (0, -6.0), (95, 3.0), ("90+", 3.0), ("> 89", 3.0)],
)
def test_a_number_is_a_standard_score_and_zero_is_a_value(cell: object, expected: float) -> None:
    assert AGE.encode(cell) == expected


@pytest.mark.parametrize("cell", [None, "", "NA", "none", math.nan, -999, "-999.0"])
def test_what_stands_for_a_missing_number_is_missing(cell: object) -> None:
    assert math.isnan(AGE.encode(cell))
    assert AGE.read(cell) is None


def test_a_category_is_its_index_and_none_is_one_if_it_is_in_training() -> None:
    assert [SMOKING.encode(cell) for cell in ("current", "never", "none")] == [0.0, 1.0, 2.0]
    assert math.isnan(SMOKING.encode(""))


def test_codes_of_categories_are_the_same_however_the_table_held_them() -> None:
    code = TableColumn("sex", ("0", "1"))
    assert [code.encode(cell) for cell in (0, 1.0, "1", "0.0")] == [0.0, 1.0, 1.0, 0.0]


def test_a_category_that_training_never_saw_is_refused_with_those_it_saw() -> None:
    with pytest.raises(
        UserError, match=r"'curent' was never trained on, did you mean 'current'\? Seen: current, never"
    ):
        SMOKING.encode("curent")


def test_a_text_for_a_number_is_refused() -> None:
    with pytest.raises(UserError, match="column 'age': 'sixty' is not a number"):
        AGE.encode("sixty")
