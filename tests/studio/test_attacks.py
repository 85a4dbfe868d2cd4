"""Attacks on the pages: names that lead elsewhere, scripts in texts, foreign sites, other users, and no password."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from studio_client import HOME, Browser, name_of, secret_of, sentences
from studio_server import model, table

from medloom.studio.pages import entry
from medloom.studio.store.sessions import Sessions
from medloom.studio.web.guard import COOKIE, SECRET, hash_of
from medloom.studio.web.passwords import hashed

SCRIPT = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
PASSWORDS = {"anna": hashed("correct horse"), "ben": hashed("battery staple")}
# What each of them holds, and no answer may.
OUTSIDE = {
    "/etc/passwd": "root:",
    "studio.sqlite": "SQLite format",
    "guard.py": "class Guard",
    "run.json": '"identity"',
}
ELSEWHERE = [
    "..%2f..%2fstudio.sqlite",
    "%252e%252e%252f%252e%252e%252fstudio.sqlite",
    "..%5c..%5cstudio.sqlite",
    "%2fetc%2fpasswd",
    "..%2fweb%2fguard.py",
    "..%2frun.json",
    "run.json%00.png",
    "%00",
    "a" * 5000,
]


@pytest.fixture(autouse=True)
def no_tries() -> Iterator[None]:
    entry._tries.clear()
    yield
    entry._tries.clear()


@pytest.fixture(scope="module")
def browser(model: Path, table: Path, tmp_path_factory: pytest.TempPathFactory) -> Browser:
    return Browser(tmp_path_factory.mktemp("attacked") / "studio", (model,), manifests=(table,))


def form_of(model: Path, **changed: str) -> dict[str, str]:
    own = {"modality": "Disc", "text": "A disc.", "column.age": "40", "column.smoking": "never", "steps": "2"}
    return {"model": model.name, **own, "mask": "row:manifest.csv:2", "n": "1", **changed}


@pytest.fixture(scope="module")
def job(browser: Browser, model: Path) -> str:
    """A job whose prompt is a script."""
    made = name_of(browser.post("/generate", data=form_of(model, text=SCRIPT)))
    assert [job.state for job in browser.run()] == ["done"]
    return made


PLACES = [
    "/jobs/{}",
    "/jobs/{}/events",
    "/jobs/JOB/images/{}",
    "/jobs/JOB/images/{}/picture.png",
    "/jobs/JOB/images/0/{}",
    "/jobs/JOB/previews/{}",
    "/jobs/JOB/files/{}",
    "/jobs/JOB/download?form={}",
    "/jobs/JOB/read?seed={}",
    "/jobs/JOB/prior/{}",
    "/jobs/JOB/truth/{}/facts",
    "/jobs/JOB/differences/{}/facts",
    "/cases/{}/2/image/facts",
    "/cases/0/{}/image/facts",
    "/cases/0/2/{}/facts",
    "/cases/0/2/{}/picture.png",
    "/cases/0/2/image/{}",
    "/cases?table={}",
    "/runs?run={}",
    "/runs/{}/samples/x.png",
    "/runs/0/samples/{}",
    "/reports/{}",
    "/uploads/{}/picture.png",
    "/uploads/{}/facts",
    "/static/{}",
    "/generate?job={}",
    "/generate?model={}",
    "/edit?model={}",
    "/whatif/form?case=row:{}:2",
    "/history?before={}",
]


@pytest.mark.parametrize("place", PLACES)
def test_names_that_lead_elsewhere(browser: Browser, job: str, place: str) -> None:
    for name in ELSEWHERE:
        answer = browser.get(place.replace("JOB", job).format(name))
        assert answer.status_code in (200, 307, 400, 404), f"{answer.status_code}: {name[:80]}"
        for held in OUTSIDE.values():
            assert held not in answer.text, name


@pytest.mark.parametrize(
    "address",
    [
        "/history?before=99999999999999999999999",
        "/history?before=-99999999999999999999999",
        "/cases?table=99999999999999999999999",
        "/cases?start=-99999999999999999999999",
        "/cases/0/99999999999999999999999/image/facts",
        "/runs/99999999999999999999999/samples/x",
        "/jobs/JOB/images/99999999999999999999999",
        "/jobs/JOB/images/0/picture.png?side=-5",
        "/jobs/JOB/images/0/picture.png?side=99999999999999999999999",
        "/jobs/JOB/images/0/picture.png?low=nan&high=inf",
        "/jobs/JOB/images/0/picture.png?plane=none&level=99999999999999999999999",
    ],
)
def test_numbers_that_are_none(browser: Browser, job: str, address: str) -> None:
    assert browser.get(address.replace("JOB", job)).status_code in (200, 400, 404)


def test_forms_that_name_files(browser: Browser, model: Path) -> None:
    wrong = {
        "/generate": [
            form_of(model, mask=name) for name in ("/etc/passwd", "row:../../etc:2", "row:manifest.csv:../2")
        ],
        "/edit": [{"model": model.name, "text": "a", "prior": "../../studio.sqlite"}],
        "/whatif": [{"model": model.name, "set.age": "50", "case": name} for name in ("/etc/passwd", "row:../x:2")],
    }
    for address, forms in wrong.items():
        for form in forms:
            assert browser.post(address, data=form).status_code == 422
    for name in ("../../x", "/etc", "%2e%2e", "\0"):
        assert browser.post("/generate", data={**form_of(model), "model": name}).status_code == 400
    assert browser.run() == []


def test_a_script_in_a_prompt_is_a_text(browser: Browser, job: str) -> None:
    pages = {
        "the job": f"/jobs/{job}",
        "its form": f"/generate?job={job}",
        "its image": f"/jobs/{job}/images/0",
        "its viewer": f"/jobs/{job}/read",
        "history": "/history",
    }
    for what, address in pages.items():
        page = browser.get(address).text
        assert "<script>alert" not in page and "<img src=x" not in page, what
    for what in ("the job", "its form", "history"):
        assert "&lt;script&gt;alert(1)" in browser.get(pages[what]).text, what
    assert "event: over" in browser.get(f"/jobs/{job}/events").text
    assert "<script>alert" not in browser.get(f"/jobs/{job}/events").text


def test_a_script_in_a_change_is_a_text(browser: Browser, model: Path) -> None:
    form = {"model": model.name, "case": "row:manifest.csv:2", "arm": f"age={SCRIPT}", "n": "1", "steps": "2"}
    answer = browser.post("/whatif", data=form)
    named = name_of(answer)
    (ended,) = browser.run()
    assert ended.state == "failed"
    for page in (answer, browser.get(f"/jobs/{named}"), browser.get(f"/whatif?job={named}"), browser.get("/history")):
        assert "&lt;script&gt;alert(1)" in page.text and "<script>alert" not in page.text


def test_characters_that_are_none(browser: Browser, model: Path) -> None:
    parts = "".join(
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in form_of(model, text="\\ud800").items()
    )
    headers = {"content-type": "multipart/form-data; boundary=b; charset=unicode_escape"}
    answer = browser.post("/generate", content=f"{parts}--b--\r\n".encode(), headers=headers)
    assert answer.status_code == 400 and "cannot be read" in sentences(answer)


@pytest.mark.parametrize("host", ["[", "[::1", "evil.example#@127.0.0.1", "127.0.0.1@evil.example", "127.0.0.1.evil"])
def test_hosts_that_are_none(browser: Browser, host: str) -> None:
    assert browser.get("/about", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("sent", ["a,b=c", "a[]{}=b", "=;;;", f'{COOKIE}="', "$Version=1; secure", "x" * 9000])
def test_cookies_of_others_do_no_harm(browser: Browser, sent: str) -> None:
    own = browser.client.cookies[COOKIE]
    fresh = Browser(browser.studio.store.folder)
    answer = fresh.get("/about", headers={"cookie": f"{sent}; {COOKIE}={own}"})
    assert answer.status_code == 200
    # The own cookie is found after them, and no other session is begun.
    assert "set-cookie" not in answer.headers


CHANGES = (
    "/generate",
    "/edit",
    "/whatif",
    "/demo",
    "/uploads/image",
    "/jobs/JOB/cancel",
    "/jobs/JOB/remove",
    "/logout",
)
FOREIGN = [
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:9999"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"host": "evil.example"},
    {SECRET: ""},
    {SECRET: "guessed"},
]


@pytest.mark.parametrize("address", CHANGES)
def test_every_change_needs_the_own_page(browser: Browser, job: str, address: str) -> None:
    for headers in FOREIGN:
        answer = browser.post(address.replace("JOB", job), headers=headers)
        assert answer.status_code in (403, 421), headers
    assert browser.get(f"/jobs/{job}").status_code == 200


ROUTES = [
    *(place.format(0) for place in PLACES if "/static" not in place),
    "/",
    "/about",
    "/runs",
    "/edit/form",
    "/nothing",
]


def test_without_a_password_there_is_nothing(tmp_path: Path) -> None:
    browser = Browser(tmp_path / "studio", passwords=PASSWORDS)
    for address in ROUTES:
        answer = browser.get(address)
        assert (answer.status_code, answer.headers["location"], answer.text) == (303, "/login", ""), address
        assert browser.get(address, headers={"hx-request": "true"}).status_code == 401
    for address in CHANGES:
        assert browser.client.post(address).headers["location"] == "/login"
    assert browser.get("/static/studio.css").status_code == 200
    assert COOKIE not in browser.client.cookies


@pytest.mark.parametrize("of_whom", ["local", "carl"])
def test_sessions_of_whoever_cannot_log_in_are_over(tmp_path: Path, of_whom: str) -> None:
    """A studio that had no passwords has them now; a user is in its file no more."""
    browser = Browser(tmp_path / "studio", passwords=PASSWORDS)
    sessions: Sessions = browser.studio.store.sessions
    for user in (of_whom, "anna"):
        sessions.add(hash_of(user), user, "secret")
    assert browser.get("/about", headers={"cookie": f"{COOKIE}=anna"}).status_code == 200
    assert browser.get("/about", headers={"cookie": f"{COOKIE}={of_whom}"}).status_code == 303


def test_a_studio_without_passwords_takes_none(tmp_path: Path) -> None:
    browser = Browser(tmp_path / "studio")
    answer = browser.client.post("/login", data={"name": "anna", "password": "correct horse"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    # What is open to all begins no session, which would be written to the disk.
    assert COOKIE not in answer.headers.get("set-cookie", "")


def log_in(browser: Browser, user: str, password: str) -> None:
    browser.client.cookies.clear()
    assert browser.client.post("/login", data={"name": user, "password": password}).headers["location"] == "/"


def test_what_others_have_is_not_there(model: Path, table: Path, tmp_path: Path) -> None:
    browser = Browser(tmp_path / "studio", (model,), manifests=(table,), passwords=PASSWORDS)
    log_in(browser, "anna", "correct horse")
    picture, mask = ((table.parent / name).read_bytes() for name in ("0.png", "m0.png"))
    file, region = name_of(browser.bring("x.png", picture)), name_of(browser.bring("m.png", mask, "mask"))
    made = name_of(browser.post("/generate", data=form_of(model, mask=region)))
    assert [job.state for job in browser.run()] == ["done"]
    own = [place.replace("JOB", made).format("0") for place in PLACES if "JOB" in place]
    own += [f"/jobs/{made}", f"/jobs/{made}/events", f"/generate?job={made}", f"/jobs/{made}/files/000000.png"]
    own += [f"/jobs/{made}/download", f"/uploads/{file}/picture.png", f"/uploads/{file}/pixels"]
    assert {browser.get(address).status_code for address in own[-7:]} == {200}
    log_in(browser, "ben", "battery staple")
    assert {
        address: browser.get(address).status_code for address in own if browser.get(address).status_code < 400
    } == {}
    for change in ("cancel", "remove"):
        assert browser.post(f"/jobs/{made}/{change}").status_code == 400
    answer = browser.post("/generate", data=form_of(model, mask=region))
    assert answer.status_code == 422 and "there is no such file" in sentences(answer)
    assert made not in browser.get("/history").text and file not in browser.get("/edit").text
    # A job of others is as one that never was.
    other = sentences(browser.get(f"/jobs/{made}"))
    assert other == sentences(browser.get("/jobs/none"))


def test_tries_of_passwords_are_counted_by_the_connection(tmp_path: Path) -> None:
    browser = Browser(tmp_path / "studio", passwords=PASSWORDS)
    states = [
        browser.client.post("/login", data={"name": name, "password": "x"}).status_code
        for name in ("anna", "ben", "carl") * 4
    ]
    assert states == [401] * entry.TRIES + [429] * (12 - entry.TRIES)
    assert re.search("wait a minute", browser.client.post("/login", data={"name": "anna"}).text)
    assert secret_of(browser.get("/login", headers={"origin": HOME}).text) == {SECRET: ""}
