"""What a studio of ratings answers: to whom, what it refuses, and with which options it starts."""

import json
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from conftest import medloom
from PIL import Image
from rating_pages import options, rated, sent, studio, write_images, write_store
from starlette.testclient import TestClient
from studio_client import HOME, secret_of, sentences
from studio_server import Served

from medloom.core.errors import UserError
from medloom.feedback.ratings.export import ratings_table
from medloom.feedback.ratings.series import begin_series
from medloom.feedback.ratings.store import RatingStore
from medloom.studio.command import Config
from medloom.studio.pages import entry
from medloom.studio.rating_options import rating_series
from medloom.studio.web.app import create_app
from medloom.studio.web.passwords import hashed
from medloom.studio.web.ratings import Ratings
from medloom.studio.web.studio import Settings


class Rater:
    """A browser at a studio of ratings."""

    def __init__(self, folder: Path, store: RatingStore, **changed: Any) -> None:
        ratings = Ratings(store, tuple(store.raters()), any(session.blind for session in store.sessions()))
        app = create_app(Settings(folder, **changed), ratings)
        self.client = TestClient(app, base_url=HOME, follow_redirects=False, raise_server_exceptions=False)
        self.store = store

    def get(self, address: str) -> Any:
        return self.client.get(address)

    def post(self, address: str, body: object, secret: bool = True) -> Any:
        headers = secret_of(self.client.get("/about").text) if secret else {}
        return self.client.post(address, headers={**headers, "HX-Request": "true"}, json=body)


@pytest.fixture(scope="module")
def rater(tmp_path_factory: pytest.TempPathFactory) -> Rater:
    folder = tmp_path_factory.mktemp("requests")
    return Rater(folder / "studio", write_store(folder))


def base(rater: Rater, name: str, number: int = 1) -> str:
    return f"/rate/{rater.store.rater(name).link}/{number}"


def test_the_first_page_and_pages_that_would_say_too_much(rater: Rater) -> None:
    assert rater.get("/").headers["location"] == "/rate"
    page = rater.get("/rate").text
    assert all(f'href="/rate/{one.link}"' in page for one in rater.store.raters())
    for hidden in ("/generate", "/edit", "/whatif", "/cases", "/readings", "/phantom", "/runs", "/history", "/jobs/x"):
        assert rater.get(hidden).status_code == 404, hidden
    assert "Of images that are rated blind it is not said which are SYNTHETIC" in page


def test_a_rating_is_kept_and_sent_again(rater: Rater) -> None:
    body = sent(comment="sharp", flags=["anatomy"])
    first, again = (rater.post(f"{base(rater, 'anna')}/0", body) for _ in range(2))
    assert first.status_code == again.status_code == 200 and first.json() == again.json()
    assert first.json()["id"] == body["id"] and "truth" not in first.json()
    other = rater.post(f"{base(rater, 'anna')}/1", body)
    assert other.status_code == 400 and "sent before with other content" in sentences(other)
    case = rater.get(f"{base(rater, 'anna')}/0").json()
    assert case["given"] == {"answers": {"realism": 2, "match": 3}, "flags": ["anatomy"], "comment": "sharp"}
    assert rater.post(f"{base(rater, 'anna')}/0", sent(), secret=False).status_code == 403


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("/rate/anna-0000", "no rater's address"),
        ("/rate/anna-0000/1", "no rater's address"),
        ("{anna}", "nna has no session 9"),
        ("{anna1}/99", "no such image in this session"),
        ("{anna1}/-1", "no such image in this session"),
        ("{anna1}/0/b/facts", "no second image"),
        ("{anna1}/0/c/facts", "cannot be read"),
        ("{anna1}/0/a/name", "cannot be read"),
        ("{anna1}/first", "cannot be read"),
    ],
)
def test_addresses_of_nothing(rater: Rater, address: str, said: str) -> None:
    found = rater.get(address.replace("{anna1}", base(rater, "anna")).replace("{anna}", base(rater, "anna", 9)))
    assert found.status_code in (400, 404) and said in sentences(found)


@pytest.mark.parametrize(
    "body",
    [
        {}, [], "x", None, {"id": 7}, sent(id="no"), sent(kind="wish"), sent(answers=None),
        sent(answers={"realism": 2}),
        sent(answers={"realism": 2.0, "match": 3}), sent(flags=[["anatomy"]]), sent(flags=None), sent(comment=7),
        sent(comment="x\0"), sent(seconds="1"), sent(seconds=True), sent(seconds=-0.1),
    ],
)  # fmt: skip
def test_what_no_page_sends_is_refused(rater: Rater, body: object) -> None:
    before = len(ratings_table(rater.store.path))
    answer = rater.post(f"{base(rater, 'ben')}/0", body)
    assert answer.status_code == 400 and "unexpected" not in sentences(answer), answer.text
    assert len(ratings_table(rater.store.path)) == before


def test_what_is_no_number_is_refused(rater: Rater) -> None:
    text = json.dumps(sent()).replace("1.5", "NaN")
    headers = {**secret_of(rater.get("/about").text), "Content-Type": "application/json"}
    answer = rater.client.post(f"{base(rater, 'ben')}/0", headers=headers, content=text)
    assert answer.status_code == 400 and len(rater.store.latest(rater.store.session("ben", 1))) == 0


def test_a_file_that_is_another_one_or_gone(tmp_path: Path) -> None:
    rater = Rater(tmp_path / "studio", write_store(tmp_path))
    first = rater.store.item(rater.store.session("anna", 1).presentations[0].item)
    assert rater.get(f"{base(rater, 'anna')}/0/a/facts").json()["shape"] == [1, 48, 40]
    Image.fromarray(np.zeros((48, 40), np.uint8)).save(first.path)
    for asked in ("facts", "pixels"):
        answer = rater.get(f"{base(rater, 'anna')}/0/a/{asked}")
        assert answer.status_code == 404 and "another one than when the series was begun" in sentences(answer)
    first.path.unlink()
    answer = rater.get(f"{base(rater, 'anna')}/0/a/pixels")
    assert answer.status_code == 404 and "does not exist" in sentences(answer)


def test_a_session_that_waits(tmp_path: Path) -> None:
    write_images(tmp_path / "made", 2, 0)
    rows = [f"made/made{k}.png,anna,{session},1,{k},{wait}" for k, session, wait in ((0, 1, 0), (1, 2, 14))]
    (tmp_path / "list.csv").write_text("\n".join(["path,rater,session,place,item,not_before_days", *rows]) + "\n")
    store = RatingStore(tmp_path / "ratings.db")
    begin_series(store, (), [tmp_path / "list.csv"], options())
    rater = Rater(tmp_path / "studio", store)
    assert "opens 14 days after the session before it is over" in rater.get(f"/rate/{store.rater('anna').link}").text
    assert rater.post(f"{base(rater, 'anna')}/0", sent()).status_code == 200
    assert "opens on 20" in rater.get(f"/rate/{store.rater('anna').link}").text
    for answer in (rater.get(base(rater, "anna", 2)), rater.post(f"{base(rater, 'anna', 2)}/0", sent())):
        assert answer.status_code in (400, 404) and "not open yet" in sentences(answer)


def test_without_blindness_the_origin_is_shown(tmp_path: Path) -> None:
    store = RatingStore(tmp_path / "ratings.db")
    data = write_images(tmp_path / "made", 2, 0)
    data.write_text(data.read_text().replace("seed\n", "seed,source\n").replace(",0\n", ",0,synthetic\n"))
    data.write_text("\n".join(line if line.count(",") == 5 else f"{line}," for line in data.read_text().splitlines()))
    begin_series(store, ("anna",), [data], options(blind=False))
    rater = Rater(tmp_path / "studio", store)
    first, second = (rater.get(f"{base(rater, 'anna')}/{place}").json() for place in (0, 1))
    assert first["about"] == "made0.png, synthetic, seed 0" and second["about"] == "made1.png, seed 1"
    assert [one["study"]["arms"][0]["generated"] for one in (first, second)] == [True, False]
    assert rater.get("/generate").status_code == 200 and not first["study"]["blind"]


def test_who_logs_in_sees_the_own_sessions_alone(tmp_path: Path) -> None:
    entry._tries.clear()
    store = write_store(tmp_path)
    passwords = {name: hashed("correct horse") for name in ("anna", "ben", "carl", "dora")}
    rater = Rater(tmp_path / "studio", store, passwords=passwords)
    own = store.rater("anna").link
    assert rater.get(f"/rate/{own}").headers["location"] == "/login"
    rater.client.post("/login", data={"name": "anna", "password": "correct horse"})
    assert rater.get("/rate").headers["location"] == f"/rate/{own}"
    assert rater.get(f"/rate/{own}/1").status_code == 200
    for address in (f"/rate/{store.rater('ben').link}", f"{base(rater, 'ben')}/0", f"{base(rater, 'ben')}/0/a/pixels"):
        answer = rater.get(address)
        assert answer.status_code == 404 and "no rater's address" in sentences(answer)
    assert rater.post(f"{base(rater, 'ben')}/0", sent()).status_code == 400
    assert rater.store.latest(store.session("ben", 1)) == {}
    rater.client.post("/login", data={"name": "dora", "password": "correct horse"})
    answer = rater.get("/rate")
    assert answer.status_code == 404 and "ora is none of the raters" in sentences(answer)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--rate=none.csv --raters=anna", "none.csv does not exist"),
        ("--rate=made/manifest.csv", "--raters names who rates"),
        ("--rate=made/manifest.csv --raters=anna,Anna", "differ only by case or spaces"),
        ("--rate=made/manifest.csv --raters=anna,", "'' is no name of a rater"),
        ("--rate=made/manifest.csv --raters=anna --rubric=beauty", "--rubric beauty: allowed are quality, origin"),
        ("--rate=made/manifest.csv --raters=anna --repeats=0.6", "--repeats 0.6"),
        ("--rate=made/manifest.csv --raters=anna --round=0", "--round 0"),
        ("--rate=made/manifest.csv --raters=anna --real-fraction=0.3", "--real-fraction needs --rating-real"),
        ("--rate=made/manifest.csv --raters=anna --blind --practice=4", "--practice needs --rating-real"),
        ("--rate=made/manifest.csv --raters=anna --rubric=origin", "are not blinded: give --blind"),
        ("--rate=made/manifest.csv --raters=anna --pairs --repeats=0.1", "leave --rating-real and --repeats out"),
        ("--rate=made/manifest.csv --raters=anna --pairs", "no prompt has two images"),
        ("--rate=made/manifest.csv --raters=anna --store=made", "is a folder; name a file"),
        ("--rate=made/manifest.csv --raters=anna --store=made/made0.png", "damaged or no store of ratings"),
        ("--rate=made/manifest.csv --raters=anna --seed=-1", "seed"),
        ("--rate=made/manifest.csv --raters=anna --blind --data=made/manifest.csv", "by another studio"),
        ("--rate=made/manifest.csv --raters=anna --password-file=passwords.txt", "--password-file has no user anna"),
        ("--store=ratings.db --raters=anna", "has no session yet; name the images that are rated with --rate"),
        ("--store=ratings.db --rating-real=made/manifest.csv", "no session yet"),
        ("--blind", "--blind needs --rate"),
        ("--pairs", "--pairs needs --rate"),
    ],
)
def test_options_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "made", 2, 0)
    (tmp_path / "passwords.txt").write_text(f"ben:{hashed('correct horse')}\n")
    assert medloom(["studio", "--out=studio", "--port=0", "--no-open", *words.split()]) == 2
    assert said in (printed := capsys.readouterr().err) and "Traceback" not in printed


def test_where_the_store_is_and_that_it_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "made", 4, 0)
    config = Config(rate=("made/manifest.csv",), raters="anna, ben", blind=True, out=Path("runs/studio"))
    with rating_series(config, config.out, {}) as ratings:
        assert ratings is not None and ratings.blind and ratings.store.path == tmp_path / "runs" / "ratings.db"
        assert [rater.name for rater in ratings.raters] == ["anna", "ben"]
    resumed = Config(store=Path("runs/ratings.db"), raters="ben")
    with rating_series(resumed, resumed.out, {}) as ratings:
        assert ratings is not None and ratings.blind and [rater.name for rater in ratings.raters] == ["ben"]
    with rating_series(Config(), Path("runs/studio"), {}) as ratings:
        assert ratings is None


def test_a_second_studio_of_a_store_is_refused(rated: RatingStore, studio: Served, tmp_path: Path) -> None:
    config = Config(store=rated.path, out=tmp_path / "other")
    refused = pytest.raises(UserError, match=rf"--store .*: process {studio.process.pid} on .* is writing it")
    with refused, rating_series(config, config.out, {}):
        pass
    # An export does not wait.
    assert len(ratings_table(rated.path)) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="limits of other processes are set on Linux only")
def test_a_disk_that_is_full_is_said_and_the_same_rating_kept_later(rated: RatingStore, studio: Served) -> None:
    import resource

    address, body = f"/rate/{rated.rater('carl').link}/1/0", sent()
    with httpx.Client(base_url=studio.address, timeout=60) as client:
        client.headers.update(secret_of(client.get("/about").text))
        usual = resource.prlimit(studio.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(studio.process.pid, resource.RLIMIT_FSIZE, (0, usual[1]))
        full = client.post(address, json=body)
        resource.prlimit(studio.process.pid, resource.RLIMIT_FSIZE, usual)
        assert full.status_code == 507 and "free some space there and try again; nothing is lost" in sentences(full)
        assert rated.latest(rated.session("carl", 1)) == {}
        assert client.post(address, json=body).status_code == 200
    assert [entry.id for entry in rated.latest(rated.session("carl", 1)).values()] == [body["id"]]
