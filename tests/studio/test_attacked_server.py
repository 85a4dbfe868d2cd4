"""A studio in its own processes: under load, under guesses of passwords, with too much at a time, on a full disk."""

import resource
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from conftest import medloom
from studio_client import name_of, secret_of, sentences
from studio_server import PATIENCE, Served, model, serving, table

from medloom.studio.pages import entry
from medloom.studio.store.jobs import DONE, FAILED, RUNNING, Job
from medloom.studio.store.store import Store
from medloom.studio.web.passwords import hashed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of other processes are set on Linux only")
MB = 2**20
# Requests, how many at a time, and what the page server may grow by.
REQUESTS, AT_ONCE, GROWTH = 1000, 8, 40 * MB


@pytest.fixture(scope="module")
def studio(model: Path, table: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("server")
    passwords = folder / "passwords.txt"
    passwords.write_text(f"anna:{hashed('correct horse')}\n")
    words = [f"--model={model}", f"--data={table}", f"--password-file={passwords}", "--device=cpu", "--upload-mb=8"]
    with serving(folder / "studio", *words) as served:
        yield served


@pytest.fixture(scope="module")
def anna(studio: Served) -> Iterator[httpx.Client]:
    """A browser that is logged in."""
    with httpx.Client(base_url=studio.address, timeout=PATIENCE) as client:
        client.post("/login", data={"name": "anna", "password": "correct horse"})
        client.headers.update(secret_of(client.get("/about").text))
        yield client


def test_a_second_server_of_the_folder(studio: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert medloom(["studio", f"--out={studio.folder}", "--no-open", "--port=0"]) == 2
    assert f"process {studio.process.pid} on " in (said := capsys.readouterr().err)
    assert "is writing it; wait until that has ended, or give another name" in said
    assert httpx.get(f"{studio.address}/static/studio.css").status_code == 200


def test_a_thousand_requests_at_once(studio: Served, anna: httpx.Client) -> None:
    cookies = "; ".join(f"{name}={value}" for name, value in anna.cookies.items())
    own = {"Cookie": cookies}
    form = {**own, "Content-Type": "application/x-www-form-urlencoded", "X-Studio-Secret": "guessed"}
    wanted: list[tuple[str, str, dict[str, str], int]] = [
        ("GET", "/about", own, 200),
        ("GET", "/cases/0/2/image/facts", own, 200),
        ("GET", "/history", own, 200),
        ("GET", "/cases/0/2/image/picture.png", own, 200),
        ("GET", "/static/studio.css", {}, 200),
        ("GET", "/about", {}, 303),
        ("GET", "/jobs/..%2f..%2fstudio.sqlite", own, 404),
        ("GET", "/about", {**own, "Host": "evil.example"}, 421),
        ("POST", "/generate", form, 403),
        ("POST", "/generate", {**form, "Content-Length": "999999999"}, 413),
    ]

    def ask(count: int) -> list[str]:
        """Requests over one connection; those that were answered in another way than they should be."""
        connection, wrong = HTTPConnection(urlsplit(studio.address).netloc, timeout=PATIENCE), []
        for number in range(count):
            method, address, headers, status = wanted[number % len(wanted)]
            connection.request(method, address, headers=headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != status:
                wrong.append(f"{method} {address}: {answer.status}")
            if status == 413:
                connection.close()
        connection.close()
        return wrong

    def load(count: int) -> list[str]:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            return [line for found in threads.map(ask, [count // AT_ONCE] * AT_ONCE) for line in found]

    server = psutil.Process(studio.process.pid)
    assert load(10 * AT_ONCE) == []
    memory, files = server.memory_info().rss, server.num_fds()
    assert load(REQUESTS) == []
    assert server.memory_info().rss - memory < GROWTH
    assert server.num_fds() <= files + 3 * AT_ONCE


def test_passwords_cannot_be_guessed_from_addresses_that_are_made_up(studio: Served) -> None:
    states = []
    for number in range(entry.TRIES + 4):
        headers = {
            "X-Forwarded-For": f"10.0.0.{number}",
            "Forwarded": f"for=10.0.0.{number}",
            "X-Real-IP": f"10.0.0.{number}",
        }
        answer = httpx.post(f"{studio.address}/login", data={"name": "anna", "password": "x"}, headers=headers)
        states.append(answer.status_code)
    assert states == [401] * entry.TRIES + [429] * 4


def test_what_is_too_large_is_refused_before_it_comes(studio: Served, anna: httpx.Client) -> None:
    lines = [
        "POST /uploads/image HTTP/1.1",
        f"Host: {urlsplit(studio.address).netloc}",
        f"Cookie: {'; '.join(f'{name}={value}' for name, value in anna.cookies.items())}",
        f"X-Studio-Secret: {anna.headers['X-Studio-Secret']}",
        "Content-Type: multipart/form-data; boundary=b",
    ]
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.png"\r\n\r\n'
    # The second does not say how long it is.
    announced = {f"Content-Length: {500 * MB}": [], "Transfer-Encoding: chunked": [head, *[b"x" * MB] * 12]}
    for length, pieces in announced.items():
        with socket.create_connection(("127.0.0.1", urlsplit(studio.address).port), timeout=PATIENCE) as connection:
            connection.sendall("\r\n".join([*lines, length, "", ""]).encode())
            # It may listen no more before all of it is sent.
            with suppress(OSError):
                for piece in pieces:
                    connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
            answer = HTTPResponse(connection)
            answer.begin()
            assert answer.status == 413 and b"at most 8 MB can be brought at a time" in answer.read()
    assert not list((studio.folder / "uploads").rglob("*.*"))


def until(store: Store, job: str, reached: Callable[[Job], bool]) -> Job:
    end = time.monotonic() + PATIENCE
    while not reached(now := store.jobs.get(job)):
        assert time.monotonic() < end, f"{now.state}: {now.message} {now.progress}"
        time.sleep(0.05)
    return now


@contextmanager
def full_disk(studio: Served) -> Iterator[None]:
    """No process of a studio can write a byte within the block."""
    processes = [studio.process.pid, studio.worker()]

    def limit(largest: int) -> None:
        for process in processes:
            resource.prlimit(process, resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))

    limit(0)
    try:
        yield
    finally:
        limit(resource.RLIM_INFINITY)


def test_a_full_disk(studio: Served, anna: httpx.Client, table: Path) -> None:
    store = Store(studio.folder)
    form = {"model": "run", "modality": "Disc", "text": "A disc.", "column.age": "40", "column.smoking": "never"}
    form |= {"mask": "row:manifest.csv:2", "n": "8", "steps": "300"}
    until_read = time.monotonic() + PATIENCE
    while "Reading the" in anna.get("/generate/form?model=run").text:
        assert time.monotonic() < until_read
        time.sleep(0.1)
    picture, worker = {"file": ("x.png", (table.parent / "0.png").read_bytes())}, studio.worker()
    job = name_of(anna.post("/generate", data=form))
    until(store, job, lambda now: now.state == RUNNING and now.progress.get("step", 0) > 0)
    space = "free some space there and try again; nothing is lost"
    with full_disk(studio):
        for address in ("/about", "/generate", "/history", f"/jobs/{job}", "/cases/0/2/image/picture.png"):
            assert anna.get(address).status_code == 200, address
        refused = anna.post("/generate", data=form)
        assert refused.status_code == 422 and space in sentences(refused)
        assert space in sentences(anna.post(f"/jobs/{job}/cancel"))
        for content in (picture["file"][1], b"\0" * 3 * MB):
            answer = anna.post("/uploads/image", files={"file": ("x.png", content)})
            assert answer.status_code == 400 and "The file cannot be kept" in sentences(answer)
            assert "free some space on the disk of the studio, and bring it again" in sentences(answer)
        time.sleep(1)
        assert [path for path in (studio.folder / "uploads").rglob("*") if path.is_file()] == []
    ended = until(store, job, lambda now: now.is_over)
    assert ended.state == FAILED and "free some space" in ended.message
    assert ended.message in sentences(anna.get(f"/jobs/{job}"))
    results = store.results(job)
    assert not results.exists() or not [path for path in results.rglob("*") if path.suffix == ".partial"]
    # All of it works again, in the same processes.
    assert anna.post("/uploads/image", files=picture).status_code == 200
    again = name_of(anna.post("/generate", data={**form, "n": "1", "steps": "2"}))
    assert until(store, again, lambda now: now.is_over).state == DONE
    assert studio.worker() == worker
    assert len(store.jobs.of("anna")) == 2
