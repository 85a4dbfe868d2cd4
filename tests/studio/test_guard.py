"""What stands before the pages: hosts, origins, secrets, sizes, passwords; and what every answer says."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from medloom.core.errors import UserError
from medloom.studio.command import Config, _settings
from medloom.studio.pages import entry
from medloom.studio.web.app import create_app
from medloom.studio.web.guard import COOKIE, FORM_BYTES, SECRET
from medloom.studio.web.passwords import add_user, hashed, read_passwords
from medloom.studio.web.studio import Settings

HOME = "http://127.0.0.1:8765"


def client(tmp_path: Path, **changed: object) -> TestClient:
    return TestClient(create_app(Settings(tmp_path / "studio", **changed)), base_url=HOME, follow_redirects=False)  # type: ignore[arg-type]


@pytest.fixture
def opened(tmp_path: Path) -> TestClient:
    return client(tmp_path)


def secret_of(page: str) -> dict[str, str]:
    return {SECRET: page.partition(f'"{SECRET}": "')[2].partition('"')[0]}


@pytest.fixture(autouse=True)
def no_tries() -> Iterator[None]:
    entry._tries.clear()
    yield
    entry._tries.clear()


def test_every_answer_has_its_headers(opened: TestClient) -> None:
    for address in ("/", "/about", "/static/studio.css", "/nothing", "/jobs/none"):
        headers = opened.get(address).headers
        assert "default-src 'self'" in headers["content-security-policy"], address
        assert "unsafe" not in headers["content-security-policy"]
        assert (headers["x-content-type-options"], headers["cross-origin-opener-policy"]) == ("nosniff", "same-origin")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8765", "", "a b"])
def test_a_name_of_another_site_is_no_name_of_the_studio(opened: TestClient, host: str) -> None:
    assert opened.get("/", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:8765", "[::1]:8765", "192.168.0.7"])
def test_addresses_in_numbers_and_the_computer_itself_are(opened: TestClient, host: str) -> None:
    assert opened.get("/about", headers={"host": host}).status_code == 200


def test_a_change_needs_the_own_origin_and_the_secret(opened: TestClient) -> None:
    secret = secret_of(opened.get("/about").text)
    assert opened.post("/demo", headers=secret).status_code == 200
    assert opened.post("/demo").status_code == 403
    assert opened.post("/demo", headers={SECRET: "guessed"}).status_code == 403
    for foreign in ({"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
        assert opened.post("/demo", headers={**secret, **foreign}).status_code == 403
    assert opened.post("/demo", headers={**secret, "origin": HOME, "sec-fetch-site": "same-origin"}).status_code == 200
    # The secret of one session is none of another.
    opened.cookies.clear()
    opened.get("/about")
    assert opened.post("/demo", headers=secret).status_code == 403


def test_cookies_are_for_the_server_alone(opened: TestClient) -> None:
    cookie = opened.get("/about").headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=") and "HttpOnly" in cookie and "SameSite=Strict" in cookie


def test_forms_are_small(opened: TestClient) -> None:
    secret = secret_of(opened.get("/about").text)
    answer = opened.post("/generate", headers=secret, data={"text": "x" * (FORM_BYTES + 1)})
    assert answer.status_code == 413 and "Too large" in answer.text
    lying = opened.post("/generate", headers={**secret, "content-length": "-5"}, content=b"x")
    assert lying.status_code == 413


@pytest.mark.parametrize(
    "address",
    [
        "/jobs/../../etc/passwd",
        "/jobs/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/jobs/x/files/..%2f..%2fstudio.sqlite",
        "/static/..%2f..%2f..%2fpyproject.toml",
        "/static/../web/guard.py",
        "/jobs/x/images/99999999999999999999/pixels",
        "/jobs/x/images/1/picture.png?side=x",
        "/history?before=%00",
    ],
)
def test_addresses_that_are_none(opened: TestClient, address: str) -> None:
    answer = opened.get(address)
    assert answer.status_code in (400, 404) and "passwd:" not in answer.text and "Traceback" not in answer.text


def test_a_script_in_a_name_is_a_text(opened: TestClient) -> None:
    answer = opened.get("/generate?model=<script>alert(1)</script>&modality=<img src=x>")
    assert "<script>alert" not in answer.text and "<img src=x" not in answer.text


PASSWORDS = {"anna": hashed("correct horse"), "ben": hashed("battery staple")}


def test_without_a_password_there_is_nothing(tmp_path: Path) -> None:
    studio = client(tmp_path, passwords=PASSWORDS)
    for address in ("/", "/generate", "/history", "/about", "/jobs/x/images/0/pixels"):
        assert studio.get(address).headers["location"] == "/login"
    assert studio.get("/history", headers={"hx-request": "true"}).status_code == 401
    assert studio.post("/demo").headers["location"] == "/login"
    wrong = studio.post("/login", data={"name": "anna", "password": "wrong horse"})
    assert wrong.status_code == 401 and "not the name or not the password" in wrong.text
    assert studio.post("/login", data={"name": "carl", "password": "correct horse"}).status_code == 401
    assert studio.post("/login", data={"name": "Anna ", "password": "correct horse"}).headers["location"] == "/"
    page = studio.get("/about").text
    assert "Log out anna" in page
    assert studio.post("/logout", headers=secret_of(page)).headers["hx-redirect"] == "/login"
    assert studio.get("/about").headers["location"] == "/login"


def test_jobs_are_their_users_own(tmp_path: Path) -> None:
    studio = client(tmp_path, passwords=PASSWORDS)
    studio.post("/login", data={"name": "anna", "password": "correct horse"})
    made = studio.post("/demo", headers=secret_of(studio.get("/about").text)).text
    job = made.partition('id="job-')[2].partition('"')[0]
    assert studio.get(f"/jobs/{job}").status_code == 200
    studio.post("/login", data={"name": "ben", "password": "battery staple"})
    ben = secret_of(studio.get("/about").text)
    assert studio.get(f"/jobs/{job}").status_code == 404
    assert studio.get(f"/jobs/{job}/events").status_code == 404
    assert studio.post(f"/jobs/{job}/cancel", headers=ben).status_code == 400
    assert "the demo" not in studio.get("/history").text


def test_passwords_cannot_be_tried_at_will(tmp_path: Path) -> None:
    studio = client(tmp_path, passwords=PASSWORDS)
    tries = [studio.post("/login", data={"name": "anna", "password": str(k)}).status_code for k in range(10)]
    assert tries == [401] * entry.TRIES + [429] * (10 - entry.TRIES)
    assert studio.post("/login", data={"name": "anna", "password": "correct horse"}).status_code == 429


def test_a_browser_has_one_session(opened: TestClient) -> None:
    assert {opened.get("/about").status_code for _ in range(50)} == {200}
    assert len(opened.cookies) == 1


def test_a_file_of_passwords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "passwords.txt"
    for name, password in {"anna": "correct horse", "ben": "battery staple"}.items():
        monkeypatch.setattr("sys.stdin", __import__("io").StringIO(f"{password}\n"))
        add_user(path, name)
    assert set(read_passwords(path)) == {"anna", "ben"}
    assert "horse" not in path.read_text() and path.stat().st_mode & 0o077 == 0
    monkeypatch.setattr("sys.stdin", __import__("io").StringIO("short\n"))
    with pytest.raises(UserError, match="the password has 5 characters; give at least 8"):
        add_user(path, "carl")
    path.write_text("anna:secret\n")
    with pytest.raises(UserError, match="line 1: it is not NAME:HASH"):
        read_passwords(path)


def test_other_computers_need_a_password(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--host 0\.0\.0\.0: others can reach this address, so users have to log in"):
        _settings(Config(host="0.0.0.0", out=tmp_path))
    with pytest.raises(UserError, match="--public https://a: others can reach this address"):
        _settings(Config(public="https://a", out=tmp_path))
    with pytest.raises(UserError, match="--public studio: give an address as https://"):
        _settings(Config(public="studio", out=tmp_path))
