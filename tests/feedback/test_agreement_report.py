import json

import numpy as np
import pandas as pd
import pytest
from rated_tables import ratings, write_ratings

from medloom.core.errors import UserError
from medloom.feedback.agreement.measure import matrix_of, measure_agreement
from medloom.feedback.agreement.origin import POOLED, measure_origin
from medloom.feedback.agreement.table import checked_ratings, read_ratings
from medloom.metrics import auroc, gwet_ac, percent_agreement
from medloom.recipes.commands import run_command


def table_of(tmp_path, **given):
    return read_ratings(write_ratings(tmp_path / "ratings.csv", ratings(**given)))


def one(rows, **wanted):
    """The row of the report with these values."""
    found = [
        row for row in rows if all({**row, **row.get("facts", {})}.get(name) == value for name, value in wanted.items())
    ]
    assert len(found) == 1, found
    return found[0]


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("agreement")
    table = write_ratings(folder / "ratings.csv", ratings(rounds=2))
    out = run_command("rate agreement", ratings=table, out=folder / "out", resamples=20)
    return table, out, json.loads((out / "report.json").read_text())


def test_report_has_the_measures_of_the_ratings(reported):
    table, _, report = reported
    frame = read_ratings(table)
    assert report["counts"] == {
        "ratings": 276, "raters": 3, "items": 40, "patients or items": 20, "repeats": 36, "rounds": 2,
    }  # fmt: skip
    by_hand = {}
    for row in frame[frame["repeat"] == 0].to_dict("records"):
        by_hand.setdefault((row["round"], row["item"]), []).append(row["realism"])
    matrix = np.array([by_hand[key] for key in sorted(by_hand)])
    agreement = one(report["between"], item="realism", name="percent agreement")
    assert agreement["value"] == pytest.approx(percent_agreement(matrix)) and agreement["n"] == 20
    ac = one(report["between"], item="realism", name="Gwet's AC2, quadratic")
    assert ac["value"] == pytest.approx(gwet_ac(matrix, "quadratic", (1, 2, 3)))
    assert ac["low"] < ac["value"] < ac["high"]
    assert {row["of"] for row in report["single"]} == {"anna", "ben", "chris"}


def test_levels_leave_hidden_real_images_out(reported):
    table, _, report = reported
    frame = read_ratings(table)
    own = frame[(frame["repeat"] == 0) & (frame["source"] == "synthetic") & (frame["rater"] == "ben")]
    for level in (1, 2, 3):
        found = one(report["levels"], item="level", of="ben", level=level)
        assert found["value"] == pytest.approx((own["level"] == level).mean()) and found["facts"]["ratings"] == len(own)
    rounds = [row for row in report["levels"] if row["facts"]["by"] == "round" and row["item"] == "realism"]
    assert {row["of"] for row in rounds} == {"round 1", "round 2"}
    assert {row["of"] for row in report["levels"] if row["facts"]["by"] == "modality"} == {"CT", "CXR"}


def test_repeats_are_compared_with_the_first_rating(reported):
    table, _, report = reported
    frame = read_ratings(table)
    hits = []
    for row in frame[(frame["repeat"] == 1) & (frame["rater"] == "anna")].to_dict("records"):
        same = (frame["rater"] == "anna") & (frame["item"] == row["item"]) & (frame["round"] == row["round"])
        hits.append(row["match"] == frame[same & (frame["repeat"] == 0)]["match"].item())
    assert one(report["within"], item="match", of="anna")["value"] == pytest.approx(np.mean(hits)) and len(hits) == 12


def test_hidden_real_images(reported):
    table, _, report = reported
    frame = read_ratings(table)
    own = frame[(frame["repeat"] == 0) & (frame["rater"] == "chris")]
    area = auroc((own["source"] == "synthetic").to_numpy(int), 4 - own["realism"].to_numpy())
    assert report["origin"]["score"] == "4 less realism"
    assert one(report["origin"]["areas"], of="chris")["value"] == pytest.approx(area)
    pooled = one(report["origin"]["areas"], of=POOLED)
    assert pooled["facts"]["method"] == "Obuchowski-Rockette" and pooled["low"] < pooled["value"] < pooled["high"]
    real = one(report["origin"]["confusion"], of="real", level=3)["value"]
    assert real > one(report["origin"]["confusion"], of="synthetic", level=3)["value"]


def test_times_and_flags(reported):
    _, _, report = reported
    for rater in ("anna", "ben", "chris"):
        assert 3 < one(report["times"], of=rater, name="median seconds")["value"] < 7
        assert one(report["times"], of=rater, name="last third over first third")["value"] < 0.95
    assert {row["facts"]["flag"] for row in report["flags"]} == {"anatomy", "artefact"}


def test_page_says_what_it_is_and_needs_no_network(reported):
    _, out, _ = reported
    page = (out / "report.html").read_text()
    assert "SYNTHETIC images, research use only" in page and "http" not in page.replace("http://www.w3.org", "")
    assert page.count("data:image/png") == 4


def test_origin_rubric_with_gaps(tmp_path):
    rows = ratings(rubric="origin", real=20, lead=1.5)
    table = read_ratings(write_ratings(tmp_path / "r.csv", rows[1:]))
    found = measure_origin(table, seed=0, resamples=20)
    assert found.score == "confidence" and found.areas[0].value > 0.6
    assert found.areas[-1].facts == {"method": "bootstrap"} and "bootstrap" in found.notes[0]
    assert measure_origin(table[table["source"] == "synthetic"], seed=0) is None


def test_all_of_one_level_is_said(tmp_path):
    rows = [{**row, "realism": 3, "match": 3, "level": 3} for row in ratings()]
    found = measure_agreement(read_ratings(write_ratings(tmp_path / "r.csv", rows)), 0, 20)
    kappa = next(row for row in found.between if row.name == "Fleiss' kappa")
    assert kappa.value is None and kappa.note.startswith("all ratings are 3")
    assert next(row for row in found.between if row.name == "Gwet's AC2, quadratic").value == 1
    out = run_command("rate agreement", ratings=tmp_path / "r.csv", out=tmp_path / "out", resamples=20)
    assert "all ratings are 3" in (out / "report.html").read_text()


def test_few_images_have_no_interval(tmp_path):
    found = measure_agreement(table_of(tmp_path, items=10, real=2, repeats=2), 0, 20)
    assert all(row.low is None and "it needs 8" in row.note for row in found.between if row.value is not None)


def test_a_patient_is_the_unit(tmp_path):
    table = table_of(tmp_path)
    _, _, units = matrix_of(table[table["repeat"] == 0], "realism")
    assert len(units) == 40 and len(set(units)) == 20
    apart = table.assign(unit=table["item"])
    first, second = (measure_agreement(own, 0, 40).between[2] for own in (table, apart))
    assert first.value == second.value and (first.n, second.n) == (20, 40)


def test_two_raters_and_one(tmp_path, capsys):
    two = measure_agreement(table_of(tmp_path, raters=("anna", "ben")), 0, 20)
    assert "hold for these two raters" in two.notes[0]
    alone = measure_agreement(table_of(tmp_path, raters=("anna",)), 0, 20)
    assert not alone.between and alone.within and "agreement between raters is not measured" in alone.notes[0]
    with pytest.raises(UserError, match="all ratings are by 'anna' and none is a repeat"):
        measure_agreement(table_of(tmp_path, raters=("anna",), repeats=0), 0, 20)


def test_only_what_was_rated_is_needed(tmp_path):
    rows = [{name: row[name] for name in ("rater", "item", "realism")} for row in ratings(repeats=0)]
    out = run_command(
        "rate agreement", ratings=write_ratings(tmp_path / "r.csv", rows), out=tmp_path / "o", resamples=20
    )
    report = json.loads((out / "report.json").read_text())
    assert "origin" not in report and not report["times"] and not report["flags"]


def test_tables_of_a_store_have_missing_values_of_pandas(tmp_path):
    """As `ratings_table` gives them: whole numbers with gaps."""
    rows = ratings()
    frame = pd.DataFrame(rows).replace("", None)
    whole = dict.fromkeys(("realism", "match", "level", "confidence", "repeat", "round"), "Int64")
    stored = checked_ratings(frame.astype(whole).assign(line=range(2, len(frame) + 2)), "ratings.db")
    table = read_ratings(write_ratings(tmp_path / "r.csv", rows))
    pd.testing.assert_frame_equal(stored, table, check_dtype=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"realism": 4}, "line 3: realism is '4'; allowed are 1, 2, 3"),
        ({"realism": "good"}, "line 3: realism is 'good'; allowed are 1, 2, 3"),
        ({"confidence": 0}, "line 3: confidence is '0'; allowed are 1, 2, 3, 4, 5"),
        ({"rater": ""}, "line 3: no rater"),
        ({"item": ""}, "line 3: no item"),
        ({"rater": "Anna "}, "the raters 'Anna' and 'anna' differ by capital letters or spaces only"),
        ({"seconds": -1}, "line 3: seconds is '-1'; allowed are numbers from 0"),
        ({"seconds": "inf"}, "line 3: seconds is 'inf'"),
        ({"repeat": 2}, "line 3: repeat is '2'; allowed are 0, 1"),
        ({"source": "fake"}, "line 3: source is 'fake'; allowed are synthetic and real"),
    ],
)
def test_bad_rows_are_named(tmp_path, change, message):
    rows = ratings()
    rows[1] = {**rows[1], **change}
    with pytest.raises(UserError, match=message):
        read_ratings(write_ratings(tmp_path / "r.csv", rows))


def test_bad_tables_are_refused_and_nothing_is_written(tmp_path):
    def refused(message, **given):
        with pytest.raises(UserError, match=message):
            run_command("rate agreement", out=tmp_path / "out", **given)
        assert not (tmp_path / "out").exists()

    (tmp_path / "renamed.csv").write_text("ratr,item,realism\nanna,1,2\n")
    refused("no column 'rater', did you mean 'ratr'", ratings=tmp_path / "renamed.csv")
    (tmp_path / "other.csv").write_text("rater,item,score\nanna,1,2\n")
    refused("none of the columns realism, match, level, confidence", ratings=tmp_path / "other.csv")
    (tmp_path / "empty.csv").write_text("rater,item,realism\n")
    refused("is empty", ratings=tmp_path / "empty.csv")
    refused("does not exist", ratings=tmp_path / "none.csv")
    refused("give --ratings, a table", seed=0)
    refused("not both", ratings=tmp_path / "r.csv", store=tmp_path / "r.db")
