"""Bounds of a template: linear comparisons, read without ever executing them."""

from pathlib import Path

import pytest

from medloom.core.errors import UserError
from medloom.data.prompts import Template, find_template, read_template
from medloom.data.prompts.arms import arm_row, read_arms
from medloom.data.prompts.bounds import read_bound
from medloom.phantom.causal import make_patient

COLUMNS = ("age", "pack_years", "height in m")


@pytest.mark.parametrize(
    ("text", "age", "packs", "broken"),
    [
        ("pack_years <= 3 * (age - 15)", 31.0, 48.0, False),
        ("pack_years <= 3 * (age - 15)", 31.0, 48.5, True),
        ("pack_years < 3*(age-15)", 31.0, 48.0, True),
        ("3 * age - 45 >= pack_years", 31.0, 48.0, False),
        ("(age - 15) * 3 > pack_years", 31.0, 48.0, True),
        ("pack_years / 2 + .5 <= age", 31.0, 61.0, False),
        ("pack_years / 2 + .5 <= age", 31.0, 61.1, True),
        ("-age <= -18", 18.0, 0.0, False),
        ("-(age - 2 * 9) <= 0", 17.0, 0.0, True),
        ("0.1 * age <= 0.3 * pack_years", 9.0, 3.0, False),
        ("age - 1e1 > +2", 12.5, 0.0, False),
    ],
)
def test_bounds_by_hand(text: str, age: float, packs: float, broken: bool) -> None:
    row = {"age": age, "pack_years": packs, "height in m": None}
    assert read_bound(text, COLUMNS).is_broken(row) is broken


def test_names_in_backticks_and_unknown_numbers() -> None:
    bound = read_bound("`height in m` * 100 <= 230", COLUMNS)
    assert bound.columns == {"height in m"}
    assert bound.is_broken({"height in m": 2.4}) and not bound.is_broken({"height in m": None})
    with pytest.raises(UserError, match="column 'height in m': 'tall' is not a number"):
        bound.is_broken({"height in m": "tall"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("age", "it has no comparison"),
        ("", "it ends too early"),
        ("age <=", "it ends too early"),
        ("<= 3", "a column or a number is expected, not '<='"),
        ("age = 3", "'=' cannot be read"),
        ("0 <= age <= 90", "'<=' follows the comparison"),
        ("age * pack_years < 3", "it multiplies columns"),
        ("3 / age < 1", "it divides by a column"),
        ("age / 0 < 1", "it divides by 0"),
        ("2 * (age < 3", "a parenthesis is not closed"),
        ("age 3 < 4", "a comparison is expected"),
        ("1 < 2", "it compares no column"),
        ("age - age < 2", "it compares no column"),
        ("1e999 < age", "a number is too large"),
        ("aeg < 3", "the template has no column 'aeg', did you mean 'age'"),
        ("__import__('os').system('true') < age", "cannot be read"),
        ("age ** 2 < 3", "a column or a number is expected"),
        ("age < " + "(" * 500, "it has more than 200 names"),
    ],
)
def test_what_is_no_bound(text: str, message: str) -> None:
    with pytest.raises(UserError, match="bounds: ") as error:
        read_bound(text, COLUMNS)
    assert message in str(error.value) and "as in pack_years <= 3 * (age - 15)." in str(error.value)


def template(tmp_path: Path, bounds: str) -> Template:
    (tmp_path / "t.yaml").write_text(
        "columns:\n"
        "  smoking: {values: {never: never, former: former}}\n"
        "  pack_years: {unit: pack-years, parents: [smoking, age], follows: [{when: {smoking: never}, value: 0}]}\n"
        "  age: {unit: years}\n"
        "  ward: {}\n"
        f"bounds: {bounds}\n"
    )
    return read_template(tmp_path / "t.yaml")


def test_a_template_states_bounds(tmp_path: Path) -> None:
    read = template(tmp_path, "[pack_years <= 3 * (age - 15), age >= 18]")
    assert [bound.text for bound in read.bounds] == ["pack_years <= 3 * (age - 15)", "age >= 18"]
    row = read.row({"smoking": "former", "pack_years": "20", "age": "31", "ward": "a"})
    arms = read_arms(["smoking=former,pack_years=70", "age=10", "smoking=never", "ward=b"], read)
    assert [arm_row(read, row, arm).broken for arm in arms] == [
        ("pack_years <= 3 * (age - 15)",),
        ("pack_years <= 3 * (age - 15)", "age >= 18"),
        (),
        (),
    ]
    # What the row breaks by itself is no fault of a change of something else.
    wrong = read.row({"smoking": "former", "pack_years": "90", "age": "31", "ward": "a"})
    assert arm_row(read, wrong, arms[3]).broken == ()


def test_bounds_of_words_and_other_mistakes(tmp_path: Path) -> None:
    for bounds, message in (
        ("[smoking <= 3]", "compares 'smoking', whose values are words"),
        ("[age <= ]", "t.yaml: bounds: 'age <=': it ends too early"),
        ("{a: b}", "bounds: give a list here"),
    ):
        with pytest.raises(UserError, match="t.yaml") as error:
            template(tmp_path, bounds)
        assert message in str(error.value)


@pytest.mark.parametrize("name", ["phantom", "phantom-findings"])
def test_virtual_patients_keep_the_bounds_of_their_templates(name: str) -> None:
    read = read_template(find_template(name))
    assert read.bounds
    for number in range(2000):
        values = make_patient(5, number).values
        row = {column: float(values[column]) for column in ("age", "pack_years")}
        assert not any(bound.is_broken(row) for bound in read.bounds), values
    assert read.bounds[0].is_broken({"age": 31.0, "pack_years": 70.0})
