"""The store of ratings: nothing acknowledged is lost or doubled, nothing is changed, and what it refuses."""

import sqlite3
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import medloom
from rating_series import begun, entry, plan_options, rate_all, write_images

from medloom.core import database
from medloom.core.errors import UserError
from medloom.core.file_system import file_system_of, require_local_disk
from medloom.feedback.ratings.export import ratings_table, snapshot
from medloom.feedback.ratings.series import begin_series
from medloom.feedback.ratings.store import RatingStore
from medloom.studio.store.store import Store


def count(store: RatingStore) -> int:
    with sqlite3.connect(store.path) as connection:
        return int(connection.execute("select count(*) from ratings").fetchone()[0])


def test_a_rating_sent_again_is_the_same_one(tmp_path: Path) -> None:
    store, (anna, _) = begun(tmp_path)
    sent = entry(flags=("artefact", "anatomy"), comment=" a line ")
    kept = store.post(anna, 0, sent)
    assert store.post(anna, 0, sent) == kept and count(store) == 1
    # Flags stand in the rubric's order, and the comment without its blanks.
    assert (kept.flags, kept.comment, kept.seconds, kept.supersedes) == (("anatomy", "artefact"), "a line", 2.5, "")
    for place, other in ((0, entry(name=sent.id)), (1, sent), (0, entry("undo", sent.id))):
        with pytest.raises(UserError, match="sent before with other content"):
            store.post(anna, place, other)
    assert count(store) == 1
    assert RatingStore(store.path).latest(anna) == {0: kept}


def test_an_undo_is_an_entry_like_others(tmp_path: Path) -> None:
    store, (anna, _) = begun(tmp_path)
    first = store.post(anna, 2, entry())
    undone = store.post(anna, 2, entry("undo"))
    assert undone.supersedes == first.id and store.latest(anna)[2] == undone
    # What was answered is known, so that the page can show it again.
    assert store.given(anna, 2) == first and len(ratings_table(store.path)) == 0
    second = store.post(anna, 2, entry(answers={"realism": 1, "match": 3}))
    assert second.supersedes == undone.id and count(store) == 3
    (row,) = ratings_table(store.path).to_dict("records")
    assert (row["rating_id"], row["realism"], row["match"], row["level"]) == (second.id, 1, 3, 1)


def test_what_is_in_the_store_stays(tmp_path: Path) -> None:
    store, (anna, _) = begun(tmp_path)
    store.post(anna, 0, entry())
    with sqlite3.connect(store.path) as connection:
        for change in ("update ratings set seconds = 0", "delete from ratings"):
            with pytest.raises(sqlite3.IntegrityError, match="ratings"):
                connection.execute(change)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"answers": {"realism": 2}}, "answers realism, match"),
        ({"answers": {"realism": 4, "match": 3}}, "realism 4: allowed are 1, 2, 3"),
        ({"answers": {"realism": True, "match": 3}}, "realism True: allowed"),
        ({"answers": {"realism": 2, "match": 3, "beauty": 1}}, "answers realism, match"),
        ({"answers": [2, 3]}, "answers realism, match"),
        ({"flags": ("funny",)}, "allowed are anatomy, mismatch, artefact"),
        ({"flags": "anatomy"}, "allowed are anatomy, mismatch, artefact"),
        ({"comment": "x" * 2001}, "at most 2000 characters"),
        ({"comment": None}, "at most 2000 characters"),
        ({"seconds": float("nan")}, "number of seconds"),
        ({"seconds": -1}, "number of seconds"),
        ({"seconds": "soon"}, "number of seconds"),
        ({"kind": "wish"}, "not 'wish'"),
        ({"name": "rating-1"}, "no UUID"),
    ],
)
def test_what_is_no_rating_is_refused(tmp_path: Path, changed: dict[str, object], said: str) -> None:
    store, (anna, _) = begun(tmp_path)
    with pytest.raises(UserError, match=said):
        store.post(anna, 0, entry(**changed))  # type: ignore[arg-type]
    assert count(store) == 0


def test_unknown_places_sessions_and_raters_are_refused(tmp_path: Path) -> None:
    store, (anna, _) = begun(tmp_path)
    with pytest.raises(UserError, match="session 1 of anna has no image 7"):
        store.post(anna, 6, entry())
    with pytest.raises(UserError, match="has no image 0"):
        store.post(anna, -1, entry())
    with pytest.raises(UserError, match="anna has no session 2"):
        store.session("anna", 2)
    with pytest.raises(UserError, match="no rater 'carl'; its raters: anna, ben"):
        store.rater("carl")
    with pytest.raises(UserError, match="no image of the name"):
        store.item("image")
    with pytest.raises(UserError, match="no rater's address"):
        store.rater_of_link("anna-0")
    assert store.rater_of_link(store.rater("ben").link).name == "ben"


@pytest.mark.parametrize("names", [["Anna", "anna"], ["an na", "anna"], ["anna", "ben", "BEN"]])
def test_names_that_differ_by_case_or_spaces_alone_are_refused(tmp_path: Path, names: list[str]) -> None:
    store = RatingStore(tmp_path / "ratings.db")
    with pytest.raises(UserError, match="differ only by case or spaces"):
        store.add_raters(names)
    # One that the store has, too.
    store.add_raters(names[:1])
    with pytest.raises(UserError, match="differ only by case or spaces"):
        store.add_raters([*names[1:], names[0].swapcase()])
    assert [rater.name for rater in store.raters()] == names[:1]


@pytest.mark.parametrize("name", ["", " anna", "a/b", "a" * 41, "a\tb", "none"])
def test_what_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="no name of a rater"):
        RatingStore(tmp_path / "ratings.db").add_raters([name])


def test_links_are_not_to_be_guessed(tmp_path: Path) -> None:
    links = [rater.link for rater in RatingStore(tmp_path / "ratings.db").add_raters(["Anna B", "Ömer"])]
    assert links[0].startswith("annab-") and links[1].startswith("mer-")
    assert all(len(link.partition("-")[2]) == 24 for link in links)


def test_a_store_of_a_newer_version(tmp_path: Path) -> None:
    store, _ = begun(tmp_path)
    with sqlite3.connect(store.path) as connection:
        connection.execute("pragma user_version = 2")
    before = store.path.read_bytes()
    with pytest.raises(UserError, match=r"another version of medloom \(schema 2, this one has 1\).*--store"):
        RatingStore(store.path)
    with pytest.raises(UserError, match="another version of medloom"):
        ratings_table(store.path)
    assert store.path.read_bytes() == before


def test_what_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database at all, but long enough to be read as one" * 20)
    with pytest.raises(UserError, match="damaged or no store of ratings"):
        RatingStore(tmp_path / "text.db")
    with pytest.raises(UserError, match="is a folder; name a file"):
        RatingStore(tmp_path)
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("create table recipes (name text)")
    studio = Store(tmp_path / "studio").folder / "studio.sqlite"
    for path in (tmp_path / "other.db", studio):
        for reader in (RatingStore, ratings_table):
            with pytest.raises(UserError, match="is a database, but no store of ratings"):
                reader(path)
    with pytest.raises(UserError, match="no such store of ratings"):
        ratings_table(tmp_path / "none.db")


def test_a_network_disk_is_refused(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    lines = ["/dev/sda / ext4 rw 0 0", "server:/team /team nfs4 rw 0 0", "/dev/sdb /team/local xfs rw 0 0"]
    lines += ["host:/home /with\\040blank fuse.sshfs rw 0 0", "box /disk fuse.gocryptfs rw 0 0"]
    mounts.write_text("\n".join(lines) + "\n")
    found = {
        place: file_system_of(Path(place), mounts)
        for place in ("/x.db", "/team/a/b.db", "/team/local/b.db", "/with blank/b.db", "/teams/b.db", "/disk/b.db")
    }
    assert list(found.values()) == ["ext4", "nfs4", "xfs", "fuse.sshfs", "ext4", "fuse.gocryptfs"]
    for place in ("/team/a/b.db", "/with blank/b.db"):
        with pytest.raises(UserError, match=r"--store .* lies on a network disk \((nfs4|fuse.sshfs)\)"):
            require_local_disk(Path(place), "--store", mounts)
    require_local_disk(Path("/disk/b.db"), "--store", mounts)
    # Where the computer does not say it, nothing is claimed.
    assert file_system_of(tmp_path, tmp_path / "none") is None
    require_local_disk(Path("/team/b.db"), "--store", tmp_path / "none")


def test_many_raters_at_once(tmp_path: Path) -> None:
    """Threads of one server, each with its own connection, and every entry sent twice."""
    names = tuple(f"rater{number}" for number in range(8))
    store, sessions = begun(tmp_path, 10, names)
    acknowledged: list[str] = []

    def rate(number: int) -> None:
        for place in range(10):
            sent = entry(name=str(uuid.UUID(int=number * 100 + place)))
            acknowledged.extend({store.post(sessions[number], place, sent).id for _ in range(2)})

    threads = [threading.Thread(target=rate, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = ratings_table(store.path)["rating_id"]
    assert len(acknowledged) == 80 and sorted(kept) == sorted(acknowledged) and count(store) == 80


def test_threads_take_turns_without_sqlites_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite lets those who wait try again: under load one of them has no luck for ten seconds, and fails."""
    monkeypatch.setattr(database, "PATIENCE", 0.0)
    store, sessions = begun(tmp_path, 10, tuple(f"rater{number}" for number in range(12)))
    with ThreadPoolExecutor(12) as pool:
        kept = list(pool.map(lambda session: rate_all(store, session), sessions))
    assert sum(map(len, kept)) == count(store) == 120


def test_a_snapshot_is_one_moment(tmp_path: Path) -> None:
    store, (anna, ben) = begun(tmp_path)
    rate_all(store, anna)
    copy = snapshot(store.path, tmp_path / "copy.db")
    rate_all(store, ben)
    assert (len(ratings_table(copy)), len(ratings_table(store.path))) == (6, 12)
    # One file alone, without those that writers share.
    assert sorted(path.name for path in tmp_path.glob("copy*")) == ["copy.db"]
    with pytest.raises(UserError, match="is there already"):
        snapshot(store.path, tmp_path / "copy.db")


def test_the_same_series_is_resumed_and_another_one_refused(tmp_path: Path) -> None:
    store, before = begun(tmp_path)
    store.post(before[0], 0, entry())
    again, after = begun(tmp_path)
    assert after == before and list(again.latest(after[0])) == [0]
    for changed in ({"rubric": "origin"}, {"repeats": 0.5}, {"seed": 1}):
        with pytest.raises(UserError, match="another session 1 of anna"):
            begun(tmp_path, **changed)
    # A rater more, and another round, are welcome.
    _, sessions = begun(tmp_path, raters=("anna", "carl"))
    assert [(session.rater, session.number) for session in sessions] == [("anna", 1), ("ben", 1), ("carl", 1)]
    _, sessions = begun(tmp_path, raters=("anna",), round=2)
    assert [(session.rater, session.number, session.round) for session in sessions[:2]] == [
        ("anna", 1, 1),
        ("anna", 2, 2),
    ]
    assert sessions[0].presentations != sessions[1].presentations


def test_resuming_needs_no_images_and_moved_images_are_found(tmp_path: Path) -> None:
    store, (anna, _) = begun(tmp_path)
    assert [rater.name for rater in begin_series(store, (), [], plan_options())] == ["anna", "ben"]
    with pytest.raises(UserError, match="no rater 'carl'"):
        begin_series(store, ("carl",), [], plan_options())
    moved = (tmp_path / "images").rename(tmp_path / "moved")
    begin_series(store, ("anna", "ben"), [moved / "manifest.csv"], plan_options())
    assert store.item(anna.presentations[0].item).path.parent == moved
    with pytest.raises(UserError, match="no session yet"):
        begin_series(RatingStore(tmp_path / "new.db"), ("anna",), [], plan_options())


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 1)):
        data = write_images(tmp_path / name, 2, seed)
        lines = data.read_text().splitlines()
        head, *rows = [
            f"{line},{more}"
            for line, more in zip(lines, ("rater,session,place,item", "anna,1,1,a", "anna,1,2,b"), strict=True)
        ]
        data.write_text("\n".join([head, *rows]) + "\n")
    store = RatingStore(tmp_path / "ratings.db")
    begin_series(store, (), [tmp_path / "one" / "manifest.csv"], plan_options())
    with pytest.raises(UserError, match="another image of the name 'a'"):
        begin_series(store, (), [tmp_path / "two" / "manifest.csv"], plan_options())


def test_export_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, (anna, _) = begun(tmp_path)
    rate_all(store, anna)
    words = ["rate", "export", "--store", str(store.path), "--out"]
    assert medloom([*words, str(tmp_path / "out" / "ratings.csv")]) == 0
    assert "6 ratings of 1 raters" in capsys.readouterr().err
    for out, said in (("ratings.txt", "ends in .csv"), ("images", "ends in .csv")):
        assert medloom([*words, str(tmp_path / out)]) == 2 and said in capsys.readouterr().err
    assert medloom(["rate", "export", "--store", str(tmp_path / "no.db"), "--out", str(tmp_path / "x.csv")]) == 2
    assert "no such store" in capsys.readouterr().err and not (tmp_path / "x.csv").exists()
