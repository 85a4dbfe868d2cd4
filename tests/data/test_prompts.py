"""Prompt templates: what is said, what is refused, and what a change of one column means for the others."""

import datetime
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medloom.core.errors import UserError
from medloom.data.prompts import Template, find_template, read_template
from medloom.data.prompts.arms import read_arms
from medloom.data.prompts.reading import READY

SMOKERS = """
columns:
  age: {say: "{value} years old", unit: years}
  smoking: {values: {never: never smoker, former: ex-smoker, current: current smoker}, missing: smoking unknown}
  pack_years:
    say: "{value} pack-years"
    sentinels: [-999, 9999]
    parents: [smoking]
    follows:
      - {when: {smoking: never}, value: 0}
      - {when: {smoking: [former, current]}, was: 0, unknown: true}
  emphysema: {values: {yes: emphysema, no: ""}, parents: [pack_years]}
  admission_day: {relative_days: true}
start: "CT chest. "
end: "."
"""
ROW = {"age": "61", "smoking": "former", "pack_years": "20.0", "emphysema": "no", "admission_day": ""}


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str], Template]:
    def of(text: str) -> Template:
        (tmp_path / "t.yaml").write_text(text, encoding="utf-8")
        return read_template(tmp_path / "t.yaml")

    return of


@pytest.fixture
def smokers(read: Callable[[str], Template]) -> Template:
    return read(SMOKERS)


def test_a_row_in_words(smokers: Template) -> None:
    assert smokers.render(ROW) == "CT chest. 61 years old, ex-smoker, 20 pack-years."
    assert smokers.render({**ROW, "age": 61.5, "emphysema": "yes"}).startswith(
        "CT chest. 61.5 years old, ex-smoker, 20"
    )
    assert smokers.render({**ROW, "emphysema": "yes"}).endswith("emphysema.")


@pytest.mark.parametrize("cell", ["-999", -999, -999.0, "9999.0", "", None, "NA", float("nan")])
def test_sentinels_are_missing(smokers: Template, cell: object) -> None:
    assert "pack-years" not in smokers.render({**ROW, "pack_years": cell})


@pytest.mark.parametrize("cell", ["0", 0, 0.0, "0.0", np.int64(0), np.float32(0)])
def test_zero_is_a_value(smokers: Template, cell: object) -> None:
    assert "0 pack-years" in smokers.render({**ROW, "pack_years": cell})


def test_what_is_missing_is_omitted_or_said(smokers: Template) -> None:
    assert smokers.render({**ROW, "smoking": None, "age": ""}) == "CT chest. smoking unknown, 20 pack-years."


@pytest.mark.parametrize(
    ("days", "said"),
    [(-3, "3 days before"), ("-1", "1 day before"), (0, "on the day"), (5.0, "5 days after"), (1, "1 day after")],
)
def test_relative_days(smokers: Template, days: object, said: str) -> None:
    assert smokers.render({**ROW, "admission_day": days}).endswith(f", {said}.")


def test_relative_days_to_an_event(read: Callable[[str], Template]) -> None:
    template = read("columns: {offset: {relative_days: symptom onset}}")
    texts = [template.render({"offset": days}) for days in (-2, 0, 1)]
    assert texts == ["2 days before symptom onset", "on the day of symptom onset", "1 day after symptom onset"]


def test_ages_above_89_are_capped(read: Callable[[str], Template]) -> None:
    """45 CFR 164.514(b)(2)(i)(C): all ages over 89 become one category, 90 or older."""
    template = read('columns: {age: {say: "{value} years old"}, PatientAge: {say: "aged {value}"}}')
    assert template.render({"age": "89", "PatientAge": 90.0}) == "89 years old, aged 90 or older"
    assert template.render({"age": 97, "PatientAge": "> 89"}) == "90 or older, aged 90 or older"
    column = template.columns["age"]
    assert column.capped(97.0) == 90 and column.capped(88.0) == 88 and column.capped(None) is None
    for capped in ("90+", ">= 90", ">89", "≥90"):
        assert template.render({"age": capped, "PatientAge": None}) == "90 or older"
    with pytest.raises(UserError, match="'65\\+' is not a number"):
        template.render({"age": "65+", "PatientAge": None})


def test_a_cap_says_otherwise(read: Callable[[str], Template]) -> None:
    template = read('columns: {age: {cap: none}, gestational_age: {cap: 40}, crp: {say: "CRP {value}", cap: 300}}')
    assert template.render({"age": 97, "gestational_age": 41, "crp": 301.5}) == "97, 41 or older, CRP over 300"


@pytest.mark.parametrize(
    "name",
    [
        *("patient_id", "PatientID", "subject", "Name", "last name", "MRN", "accession", "home_address", "phone"),
        *("e-mail", "email", "zip_code", "image_path", "study_date", "StudyDate", "date of birth", "DOB"),
    ],
)
def test_identifiers_and_dates_are_refused_by_name(read: Callable[[str], Template], name: str) -> None:
    with pytest.raises(UserError, match=f"column '{name}' is (an identifier|a date) by its name"):
        read(f"columns: {{age: , {name}: }}")
    assert name in read(f"columns: {{age: , {name}: }}\nallow: [{name}]").columns


@pytest.mark.parametrize("name", ["stage", "steroids", "covid", "hidden", "mandate", "age", "days_from_onset"])
def test_harmless_names(read: Callable[[str], Template], name: str) -> None:
    assert name in read(f"columns: {{{name}: }}").columns


@pytest.mark.parametrize(
    "cell",
    [
        *("2021-03-05", "5.3.2021", "03/05/21", "20210305", 20210305, "5 March 2021", "Mar 5, 2021"),
        *("seen on 2021-03-05", datetime.date(2021, 3, 5), np.datetime64("2021-03-05")),
    ],
)
def test_dates_are_refused_by_value(read: Callable[[str], Template], cell: object) -> None:
    with pytest.raises(UserError, match="looks like a date"):
        read("columns: {note: }").render({"note": cell})
    assert read("columns: {note: }\nallow: [note]").render({"note": cell})


@pytest.mark.parametrize("cell", ["T2 N1", "1/2", "12-34", 2021, "3.5-4.5", 120_000])
def test_harmless_values(read: Callable[[str], Template], cell: object) -> None:
    assert read("columns: {note: }").render({"note": cell})


def test_words_of_yaml_stay_words(read: Callable[[str], Template]) -> None:
    template = read("columns: {a: {values: {no: off, 1: one, none: nothing}}, b: {missing: unknown}}")
    assert template.render({"a": "no", "b": None}) == "off, unknown"
    assert template.render({"a": 1.0, "b": "x"}) == "one, x" and template.render({"a": "none", "b": "NULL"}) == (
        "nothing, unknown"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colums: {}", "unknown key 'colums', did you mean 'columns'"),
        ("columns: {age: {mising: omit}}", "unknown key 'mising' of column 'age', did you mean 'missing'"),
        ("columns: {}", "`columns` is empty"),
        ("[1", "cannot be read as a template"),
        ("columns: &a [*a]", "cannot be read as a template: an anchor contains itself"),
        ("columns:\n  age:\n  age:", "line 3: 'age' occurs twice"),
        ("columns: {age: {say: '{vlaue}'}}", "must contain {value} once"),
        ("columns: {age: {values: {1: a}, unit: years}}", "a value map and unit exclude each other"),
        ("columns: {a: {values: {1: x}, sentinels: [1.0]}}", "'1' is both a value and a sentinel"),
        ("columns: {a: {parents: [bee]}, bees: }", "a: parents: the template has no column 'bee', did you mean 'bees'"),
        ("columns: {a: {parents: [b]}, b: {parents: [a]}}", "form a cycle: (a -> b -> a|b -> a -> b)"),
        ("columns: {a: , b: {follows: [{when: {a: 1}, value: 2}]}}", "'a', which is not among its parents"),
        ("columns: {a: , b: {parents: [a], follows: [{when: {a: 1}}]}}", "one of `value: V` or `unknown: true`"),
        (
            "columns: {a: {values: {x: y}}, b: {parents: [a], follows: [{when: {a: z}, value: 1}]}}",
            "column 'a': 'z' is not in the value map",
        ),
        ("columns: {a: }\nallow: [b]", "allow: the template has no column 'b'"),
    ],
)
def test_mistakes_in_a_template(read: Callable[[str], Template], text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(text)


def test_values_and_columns_that_the_table_gets_wrong(smokers: Template) -> None:
    with pytest.raises(UserError, match="'nevr' is not in the value map, did you mean 'never'. Allowed: never, former"):
        smokers.render({**ROW, "smoking": "nevr"})
    with pytest.raises(UserError, match="column 'age': 'old' is not a number \\(years\\)"):
        smokers.render({**ROW, "age": "old"})
    with pytest.raises(UserError, match="uses 'smoking', which the table lacks, did you mean 'smokin'.* Columns: age"):
        smokers.check_columns(["age", "smokin", "pack_years", "emphysema", "admission_day"])


def test_descendants(smokers: Template) -> None:
    assert smokers.descendants("smoking") == ("pack_years", "emphysema")
    assert smokers.descendants("emphysema") == ()


def test_a_rule_carries_a_change_on_and_what_has_none_is_held(smokers: Template) -> None:
    row, held = smokers.changed(ROW, {"smoking": "never"})
    assert row["pack_years"] == 0 and held == ("emphysema",)
    assert smokers.render(row) == "CT chest. 61 years old, never smoker, 0 pack-years."
    row, held = smokers.changed({**ROW, "smoking": "never", "pack_years": 0}, {"smoking": "current"})
    assert row["pack_years"] is None and held == ("emphysema",)
    row, held = smokers.changed(ROW, {"smoking": "current"})
    assert row["pack_years"] == 20 and held == ("pack_years", "emphysema")


def test_no_change_moves_nothing_and_what_is_missing_is_not_held(smokers: Template) -> None:
    odd = {**ROW, "smoking": "never", "pack_years": 5}
    assert smokers.changed(odd, {"smoking": "never"}) == (smokers.row(odd), ())
    assert smokers.changed({**ROW, "pack_years": None, "emphysema": ""}, {"smoking": "current"})[1] == ()


def test_causes_do_not_act_on_what_is_set(smokers: Template) -> None:
    row, held = smokers.changed(ROW, {"smoking": "current", "pack_years": "40"})
    assert row["pack_years"] == 40 and held == ("emphysema",)
    assert smokers.changed(ROW, {"smoking": "current", "pack_years": "20"})[1] == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"smoking": "never", "pack_years": "3"}, "pack_years=3 contradicts smoking=never .*pack_years is 0 then"),
        ({"smoking": "current", "pack_years": "0"}, "pack_years=0 contradicts smoking=current"),
        ({"smokin": "never"}, "unknown template column 'smokin', did you mean 'smoking'"),
        ({"smoking": "nver"}, "'nver' is not in the value map, did you mean 'never'"),
        ({"pack_years": "-999"}, "'-999' means missing"),
        ({"pack_years": "many"}, "the column holds numbers \\(20\\); give a number"),
    ],
)
def test_changes_that_cannot_be(smokers: Template, changes: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        smokers.changed(ROW, changes)


def test_arms(smokers: Template) -> None:
    arms = read_arms(["smoking=never", " age = 24 , smoking=current"], smokers)
    assert [arm.name for arm in arms] == ["smoking=never", "age=24,smoking=current"]
    assert arms[1].values == {"age": 24.0, "smoking": "current"}
    for given, message in (
        (["smoking"], "'smoking' is not COLUMN=VALUE"),
        (["age=24", "age=24.0"], "--set age=24.0: the same arm as --set age=24"),
        (["age=1,age=2"], "age is set twice"),
    ):
        with pytest.raises(UserError, match=message):
            read_arms(given, smokers)


@pytest.mark.parametrize("path", sorted(READY.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_ready_template_is_valid(path: Path) -> None:
    assert read_template(find_template(path.stem)).columns


def test_the_virtual_cohort_is_worded_briefly() -> None:
    template = read_template(find_template("phantom"))
    row = {"diagnosis": "effusion", "extent": "severe", "side": "left", "smoking": "former", "pack_years": 31}
    row |= {"age": 64, "sex": "male", "coffee": "daily"}
    text = "pleural effusion, severe, on the left, ex-smoker, heavy smoking history, in the sixties, male, coffee daily"
    assert template.render(row) == text
    healthy, held = template.changed(row, {"diagnosis": "none"})
    text = "ex-smoker, heavy smoking history, in the sixties, male, coffee daily"
    assert template.render(healthy) == text and held == ()
    ill, _ = template.changed(healthy, {"diagnosis": "effusion"})
    assert ill["extent"] is None and ill["side"] is None
    assert template.descendants("coffee") == ()


def test_bands_say_a_range_and_no_number(read: Callable[[str], Template]) -> None:
    bands = "{0: '', 1: light, 15: moderate, 30: heavy}"
    template = read(f"columns: {{dose: {{say: '{{value}} exposure', bands: {bands}}}}}")
    said = [template.render({"dose": dose}) for dose in ("0", "1", 14.9, "15", 200, None)]
    assert said == ["", "light exposure", "light exposure", "moderate exposure", "heavy exposure", ""]
    with pytest.raises(UserError, match="-3 lies below the lowest band"):
        template.render({"dose": -3})
    with pytest.raises(UserError, match="'much' is not a number"):
        template.render({"dose": "much"})


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("bands: {low: few}", "band 'low' is not a number"),
        ("bands: {0: few}, cap: 3", "excludes cap"),
        ("bands: {0: few}, values: {a: b}", "a value map and bands exclude each other"),
    ],
)
def test_bands_that_cannot_be(read: Callable[[str], Template], column: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read(f"columns: {{dose: {{{column}}}}}")
