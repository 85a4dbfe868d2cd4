"""From the rating pages to a report: a study that was designed, opened as a series, rated and analysed."""

import json
from pathlib import Path

from rating_series import entry, plan_options, rate_all, write_images

from medloom.feedback.ratings.series import begin_series
from medloom.feedback.ratings.store import RatingStore
from medloom.recipes.commands import run_command


def test_a_store_is_read_by_agreement(tmp_path: Path) -> None:
    data = write_images(tmp_path / "images", 12)
    store = RatingStore(tmp_path / "ratings.db")
    begin_series(store, ("anna", "ben"), [data], plan_options())
    for session in store.sessions():
        for place, shown in enumerate(session.presentations):
            # Both raters say the same of an image, wherever it stands in their series.
            level = 1 + sum(shown.item.encode()) % 3
            store.post(session, place, entry(answers={"realism": level, "match": 3}))
    out = run_command("rate agreement", store=store.path, out=tmp_path / "agreement", resamples=50)
    found = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert found["counts"]["ratings"] == 24 and found["counts"]["raters"] == 2
    percent = [row for row in found["between"] if row["name"] == "percent agreement" and row["item"] == "realism"]
    assert percent[0]["value"] == 1


def test_a_blinded_package_is_rated_and_analysed_with_its_key(tmp_path: Path) -> None:
    synthetic = write_images(tmp_path / "synthetic", 12)
    real = write_images(tmp_path / "real", 12, seed=1)
    run_command(
        "rate design", synthetic=synthetic, real=real, raters="anna,ben", cases=20, sessions=1, rubric="origin",
        out=tmp_path / "study",
    )  # fmt: skip
    packages = sorted((tmp_path / "study").rglob("readings.csv"))
    store = RatingStore(tmp_path / "ratings.db")
    begin_series(store, ("anna", "ben"), packages, plan_options(rubric="origin"))
    for session in store.sessions():
        rate_all(store, session, answers={"confidence": 3})
    key = tmp_path / "study" / "key.csv"
    run_command("rate analyse", store=store.path, key=key, out=tmp_path / "analysis", resamples=50)
    found = json.loads((tmp_path / "analysis" / "report.json").read_text(encoding="utf-8"))
    # Raters who say the same of all images cannot tell.
    assert found["cases"] == 20 and found["bootstrap"][0]["value"] == 0.5
