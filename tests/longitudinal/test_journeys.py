"""Pairs of a patient's images by rules that are counted."""

from datetime import date
from pathlib import Path

import pytest

from medloom.core.errors import UserError
from medloom.data.manifest import read_manifest
from medloom.longitudinal.journeys import Journeys, Rules, choose_pairs, read_days

# patient, time, view, study
STUDIES = [
    ("a", "2020-01-01", "PA", "1"),
    ("a", "2020-02-01", "PA", "2"),
    ("a", "2020-02-01", "PA", "2"),
    ("a", "2020-02-15", "AP", "3"),
    ("a", "2022-01-01", "PA", "4"),
    ("b", "2019-05-05", "PA", "5"),
    ("c", "2020-03-01", "LATERAL", "6"),
    ("c", "2020-03-09", "AP", "7"),
    ("c", "2020-03-02", "AP", "8"),
]


def journeys(tmp_path: Path, rules: Rules, studies: list[tuple[str, ...]] = STUDIES, **options: bool) -> Journeys:
    lines = ["path,Text,modality,patient_id,time,view,study"]
    for number, (patient, time, view, study) in enumerate(studies):
        (tmp_path / f"{number}.png").touch()
        lines.append(f"{number}.png,text,X-ray,{patient},{time},{view},{study}")
    (tmp_path / "studies.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return choose_pairs(read_manifest(tmp_path / "studies.csv"), rules, **options)


def found(result: Journeys) -> list[tuple[int, int, float]]:
    return [(pair.before, pair.after, pair.days) for pair in result.pairs]


def test_consecutive_images_of_one_view_in_the_order_of_time(tmp_path: Path) -> None:
    result = journeys(tmp_path, Rules())
    assert found(result) == [(0, 1, 31), (1, 4, 700), (8, 7, 7)]
    assert result.rejected == [
        ("a time that can be read", 0, "images"),
        ("one image per study", 1, "images"),
        ("another image of the patient in the same modality and view", 3, "images"),
        ("at least 0 days between", 0, "pairs"),
    ]


def test_each_rule_and_what_it_leaves_out(tmp_path: Path) -> None:
    result = journeys(tmp_path, Rules(("pa",), 1, 365, "all"))
    assert found(result) == [(0, 1, 31)]
    assert ("view pa", 4, "images") in result.rejected and ("at most 365 days between", 2, "pairs") in result.rejected
    assert found(journeys(tmp_path, Rules(pairs="all"))) == [(0, 1, 31), (0, 4, 731), (1, 4, 700), (8, 7, 7)]
    assert (6, 8, 1) in found(journeys(tmp_path, Rules(mixed_views=True)))
    # Rows 1 and 2 are of one study, and of one day.
    assert found(journeys(tmp_path, Rules(study="study"))) == found(journeys(tmp_path, Rules()))


def test_what_leaves_nothing_says_which_rule_took_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no pair is left; .*at most 2 days between: 3 pairs left out"):
        journeys(tmp_path, Rules(max_days=2))
    with pytest.raises(UserError, match=r"--view oblique: no image has it; views: AP, LATERAL, PA"):
        journeys(tmp_path, Rules(("oblique",)))
    with pytest.raises(UserError, match="--study-column visit: .* has columns study"):
        journeys(tmp_path, Rules(study="visit"))


def test_times_that_cannot_be_read_are_listed(tmp_path: Path) -> None:
    studies = [*STUDIES, ("d", "soon", "PA", "9"), ("d", "2020-13-01", "PA", "10")]
    with pytest.raises(UserError, match=r"(?s)2 of 11 rows .*line 11: column of times: 'soon'.*line 12"):
        journeys(tmp_path, Rules(), studies)
    assert found(journeys(tmp_path, Rules(), studies, skip_bad=True))[0] == (0, 1, 31)


def test_times_of_day_order_a_days_images(tmp_path: Path) -> None:
    studies = [
        ("a", "2020-01-01T18:00", "PA", "2"),
        ("a", "2020-01-01 06:00:00.5", "PA", "1"),
        ("a", "2020-01-03T06:00", "PA", "3"),
    ]
    ((before, after, days),) = found(journeys(tmp_path, Rules(), studies))
    # The images of a day are one study, of which the first is taken, unless a column says that they are two.
    assert (before, after) == (1, 2) and days == 2
    two = found(journeys(tmp_path, Rules(study="study"), studies))
    assert two == [(1, 0, 0), (0, 2, 2)]


def test_dates_and_days() -> None:
    days = [date(2020, month, 1).toordinal() for month in (1, 2)]
    assert read_days(["20200101", "20200201"], [2, 3])[0] == days
    assert read_days(["2020-01-01", "2020-02-01 08:00"], [2, 3])[0] == [days[0], pytest.approx(days[1] + 1 / 3)]
    assert read_days(["2020-01-01", "2020-02-01 in the morning"], [2, 3])[0] == days
    assert read_days([0, -3.5, "12"], [2, 3, 4]) == ([0.0, -3.5, 12.0], [])
    days, problems = read_days(["0", None, float("nan")], [2, 3, 4])
    assert days == [0.0, None, None] and [problem.line for problem in problems] == [3, 4]


@pytest.mark.parametrize("options", [{"pairs": "some"}, {"min_days": -1}, {"min_days": 5, "max_days": 2}])
def test_rules_that_cannot_be(options: dict[str, object]) -> None:
    with pytest.raises(UserError):
        Rules(**options)
