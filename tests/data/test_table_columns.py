"""Columns of a training table that condition a model, measured on its rows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medloom.core.errors import UserError
from medloom.core.types import Condition, Sample
from medloom.data.identifying_columns import rare_note
from medloom.data.prompts import Column, Template
from medloom.data.table_columns import measure_columns, worded_columns


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
        (["note"], {"note": [f"text {n % 101}" for n in range(202)]}, "101 different texts are not categories"),
    ],
)
def test_unusable_columns_are_refused(names: list[str], columns: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        measure_columns(names, rows(**columns), None, "t.csv")


def test_a_text_among_the_numbers_of_a_template_is_refused() -> None:
    template = Template({"size": Column("size", unit="mm")})
    with pytest.raises(UserError, match="'large' among its numbers"):
        measure_columns(["size"], rows(size=["3", "large"]), template, "t.csv")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a.b@clinic.org", "north", "south"], "line 2: column 'note' holds an address, which may identify a patient"),
        (["north", "030 1234567", "030 1234567"], "line 3: column 'note' holds a telephone number"),
        (["north", "www.clinic.org/jane", "south"], "line 3: column 'note' holds an address"),
        (["north", "Dr. HUBER", "south"], "line 3: column 'note' holds a titled name"),
        (["north", "3. M\u00e4rz 2019", "south"], "line 3: column 'note': '3. M\u00e4rz 2019' looks like a date"),
        (["ZZSTUDY0001", "ZZSTUDY0002"], "2 of 2 different words look like identifiers of single patients"),
        (
            ["Anna", "Berta", "Carla", "Dora", "Emma", "north", "north"],
            "5 of 6 different words are of a single patient",
        ),
        ([f"{n} long sentences " + 60 * "x" for n in "abc"], "3 of 3 different words are free text of more than 60"),
    ],
)
def test_words_that_may_identify_patients_are_refused(values: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        measure_columns(["note"], rows(note=values), None, "t.csv")


def test_a_template_can_vouch_for_a_column() -> None:
    template = Template({"scanner": Column("scanner", allowed=True)})
    (column,) = measure_columns(["scanner"], rows(scanner=["DX9000", "DX9001"]), template, "t.csv")
    assert column.categories == ("DX9000", "DX9001")


def test_rare_categories_are_remarked_in_one_line_and_accepted() -> None:
    findings = ["none"] * 30 + ["mass"] * 6 + ["SARS", "MERS", "E. coli", "Legionella", "Varicella"]
    samples = rows(finding=findings, ward=["north"] * 40 + ["south"], sex=["f", "m"] * 20 + ["f"])
    columns = measure_columns(["finding", "ward", "sex"], samples, None, "t.csv")
    note = rare_note(columns, samples)
    assert note is not None and "(5 of 7 of 'finding', 1 of 2 of 'ward')" in note
    assert "SARS" not in note and rare_note(columns[2:], samples) is None


def test_a_value_of_several_images_of_one_patient_is_one_patients() -> None:
    samples = [replace(sample, patient="p0") for sample in rows(ward=["AB123"] * 6)] + rows(ward=["AB124"])
    with pytest.raises(UserError, match="2 of 2 different words look like identifiers"):
        measure_columns(["ward"], samples, None, "t.csv")


def test_worded_columns_of_identifying_words_are_not_recorded(tmp_path: Path) -> None:
    names = ["Anna", "Berta", "Carla", "Dora", "Emma", "Frida"]
    lines = [f"{name},{'north' if number % 2 else 'south'}" for number, name in enumerate(names)]
    (tmp_path / "t.csv").write_text("\n".join(["nurse,ward", *lines]) + "\n")
    template = Template({"nurse": Column("nurse"), "ward": Column("ward")})
    samples = rows(nurse=names, ward=[line.split(",")[1] for line in lines])
    worded = [
        replace(sample, condition=replace(sample.condition, text=template.render(template.row(sample.condition.table))))
        for sample in samples
    ]
    assert [column.name for column in worded_columns(worded, template, tmp_path / "t.csv")] == ["ward"]
