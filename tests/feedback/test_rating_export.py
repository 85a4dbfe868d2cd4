"""The export of ratings: what it has, what it leaves out, and that it is a manifest."""

import csv
import time
from pathlib import Path

import pytest
from rating_series import begun, entry, plan_options, rate_all, write_images

from medloom.core.errors import UserError
from medloom.data.manifest import read_manifest
from medloom.feedback.ratings.export import FIRST, LAST, OF_PAIRS, pairs_table, ratings_table
from medloom.feedback.ratings.series import begin_series
from medloom.feedback.ratings.store import RatingStore
from medloom.generation.requests import origins
from medloom.recipes.commands import run_command


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_columns_and_cells(tmp_path: Path) -> None:
    store, (anna, ben) = begun(tmp_path, 4)
    rate_all(store, anna, flags=("anatomy", "artefact"), comment="A, b\nc")
    store.post(ben, 0, entry("skip"))
    store.post(ben, 1, entry(answers={"realism": 3, "match": 2}))
    out = run_command("rate export", store=store.path, out=tmp_path / "tables" / "ratings.csv")
    rows = rows_of(out)
    assert tuple(rows[0]) == (*FIRST, "patient_id", "seed", "row_source", *LAST)
    assert len(rows) == 5, "a skip is no rating"
    first, last = rows[0], rows[-1]
    assert (first["rater"], first["session"], first["round"], first["modality"]) == ("anna", "1", "1", "CXR")
    number = first["patient_id"].removeprefix("p")
    assert first["path"] == f"../images/{number}.png" and first["text"] == f"Prompt {number} of images."
    assert (first["seed"], first["row_source"], first["source"]) == (f"{100 + int(number)}", "a site", "")
    assert (first["realism"], first["match"], first["level"], first["confidence"]) == ("2", "3", "3", "")
    assert (first["flags"], first["comment"], first["seconds"]) == ("anatomy artefact", "A, b\nc", "2.5")
    assert (first["rubric"], first["repeat"]) == ("quality", "0")
    assert abs(time.time() - time.mktime(time.strptime(first["time"], "%Y-%m-%dT%H:%M:%SZ")) + time.timezone) < 60
    assert (last["rater"], last["realism"], last["level"], last["flags"]) == ("ben", "3", "2", "")
    assert not (tmp_path / "tables" / "ratings-pairs.csv").exists()
    # It is a manifest, in which an image may have several rows.
    manifest = read_manifest(out, repeated=True)
    assert len(manifest) == 5 and set(manifest.frame["path"]) <= {
        str(tmp_path / "images" / f"{k}.png") for k in range(4)
    }


def test_the_last_rating_counts_and_repeats_are_marked(tmp_path: Path) -> None:
    store, (anna, _) = begun(tmp_path, 4, repeats=0.5)
    rate_all(store, anna)
    again = rate_all(store, anna, answers={"realism": 1, "match": 1})
    frame = ratings_table(store.path)
    assert list(frame["rating_id"]) == [rating.id for rating in again]
    assert list(frame["repeat"]) == [each.repeat for each in anna.presentations] and frame["repeat"].sum() == 2
    assert str(frame["realism"].dtype) == "Int64" and frame["confidence"].isna().all()
    repeated = frame.loc[frame["repeat"] == 1, "item"]
    assert (frame["item"].value_counts()[repeated] == 2).all()


def test_practice_never_reaches_the_export(tmp_path: Path) -> None:
    data, real = write_images(tmp_path / "rated", 6), write_images(tmp_path / "real", 6, 1)
    store = RatingStore(tmp_path / "ratings.db")
    begin_series(store, ("anna",), [data], plan_options(practice=4, rubric="origin"), real=real)
    practice, series = store.sessions()
    rate_all(store, practice, answers={"confidence": 1})
    assert len(ratings_table(store.path)) == 0
    rate_all(store, series, answers={"confidence": 5})
    frame = ratings_table(store.path)
    assert set(frame["confidence"]) == {5} and frame["level"].isna().all() and set(frame["rubric"]) == {"origin"}
    assert frame["source"].value_counts().to_dict() == {"synthetic": 4, "real": 1}


def test_pairs_have_a_table_of_their_own(tmp_path: Path) -> None:
    data = write_images(tmp_path / "images", 6, prompts=3)
    store = RatingStore(tmp_path / "ratings.db")
    begin_series(store, ("anna",), [data], plan_options(pairs=True))
    (session,) = store.sessions()
    for place, preferred in enumerate(("first", "second", "equal")):
        store.post(session, place, entry(answers={"preferred": preferred}))
    out = run_command("rate export", store=store.path, out=tmp_path / "ratings.csv")
    rows = rows_of(tmp_path / "ratings-pairs.csv")
    assert rows_of(out) == [] and tuple(rows[0]) == OF_PAIRS
    assert [row["preferred"] for row in rows] == ["first", "second", "equal"]
    assert [row["other_item"] for row in rows] == [each.other for each in session.presentations]
    assert rows[0]["other_path"].startswith("images/") and rows[0]["path"] != rows[0]["other_path"]
    assert list(pairs_table(store.path)["rating_id"]) == [row["rating_id"] for row in rows]
    # An export without pairs leaves none of another store behind.
    other, (anna, _) = begun(tmp_path / "images")
    rate_all(other, anna)
    run_command("rate export", store=other.path, out=out)
    assert len(rows_of(out)) == 6 and not (tmp_path / "ratings-pairs.csv").exists()


def test_an_empty_store_gives_an_empty_table(tmp_path: Path) -> None:
    store = RatingStore(tmp_path / "ratings.db")
    assert list(ratings_table(store.path).columns) == [*FIRST, *LAST]
    out = run_command("rate export", store=store.path, out=tmp_path / "ratings.csv")
    assert out.read_text() == ",".join([*FIRST, *LAST]) + "\n"


def test_generated_images_take_the_texts_of_their_table(tmp_path: Path) -> None:
    """A manifest that `medloom generate --data` wrote has no texts; --conditions has them."""
    table, made = write_images(tmp_path / "table", 4), write_images(tmp_path / "made", 3, 1)
    sources = [origin.source for origin in origins(table, read_manifest(table).samples())]
    lines = [f"{number}.png,CXR,{source},7" for number, source in enumerate(sources[1:])]
    made.write_text("\n".join(["path,modality,source_id,seed", *lines]) + "\n")
    store = RatingStore(tmp_path / "ratings.db")
    begin_series(store, ("anna",), [made], plan_options(blind=False), conditions=table)
    rate_all(store, *store.sessions())
    frame = ratings_table(store.path)
    assert list(frame["text"]) == [f"Prompt {number} of table." for number in (1, 2, 3)]
    assert list(frame["source_id"]) == sources[1:] and "patient_id" not in frame
    with pytest.raises(UserError, match="no image of .* was generated from this table"):
        begin_series(RatingStore(tmp_path / "b.db"), ("anna",), [made], plan_options(), conditions=made)
