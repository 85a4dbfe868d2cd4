"""Progression texts from a chat server that speaks the protocol, and misbehaves."""

import json
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from medloom.core.errors import UserError
from medloom.report_text.chat_server import ChatServer, chat_server
from medloom.report_text.language_model import RequestLimits, progression_texts, read_audit

KEY = "sk-secret-5f2a"
PAIR = ("Small right effusion.", "No effusion.")
FAST = RequestLimits(per_minute=1e6, first_wait=0.5, attempts=3)
Act = Callable[["Handler", dict[str, Any]], None]


class Handler(BaseHTTPRequestHandler):
    """Does what the next act of the script says; answers as the protocol says once the script is over."""

    script: list[Act] = []  # noqa: RUF012 - one a test, set by the fixture
    asked: list[dict[str, Any]] = []  # noqa: RUF012
    keys: list[str | None] = []  # noqa: RUF012

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        self.keys.append(self.headers.get("Authorization"))
        assert self.path == "/v1/chat/completions"
        (self.script.pop(0) if self.script else says("The effusion has resolved."))(self, body)

    def send(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Silent."""


def says(text: str | None, finish: str = "stop") -> Act:
    value = {"choices": [{"message": {"content": text}, "finish_reason": finish}], "usage": {"total_tokens": 50}}
    return lambda handler, _: handler.send(200, json.dumps(value).encode())


def status(number: int, **headers: str) -> Act:
    return lambda handler, _: handler.send(number, KEY.encode(), **headers)


def raw(content: bytes) -> Act:
    return lambda handler, _: handler.send(200, content)


def echo(handler: Handler, body: dict[str, Any]) -> None:
    says(body["messages"][-1]["content"])(handler, body)


def late(handler: Handler, body: dict[str, Any]) -> None:
    time.sleep(1.5)
    handler.close_connection = True


@pytest.fixture
def server() -> Iterator[ChatServer]:
    Handler.script, Handler.asked, Handler.keys = [], [], []
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield chat_server(f"http://127.0.0.1:{running.server_port}/v1", "tiny", KEY, timeout=1)
    running.shutdown()
    thread.join()
    running.server_close()


class Waits(list[float]):
    """Keeps how long it was asked to wait, and does not wait."""

    def __call__(self, seconds: float) -> None:
        if seconds >= 0.1:
            self.append(seconds)


def test_answers_are_stored_and_never_requested_twice(server: ChatServer, tmp_path: Path) -> None:
    audit = tmp_path / "deep" / "audit.jsonl"
    answers = progression_texts([PAIR, PAIR, ("a", "b")], server, audit, FAST)
    assert answers.texts == ("The effusion has resolved.",) * 3
    assert (answers.requests, answers.tokens, answers.problems) == (2, 100, {})
    again = progression_texts([PAIR, ("a", "b")], server, audit, FAST)
    assert again.texts == answers.texts[:2]
    assert (again.requests, len(Handler.asked)) == (0, 2)
    entry = json.loads(audit.read_text().splitlines()[0])
    assert list(entry) == ["key", "prompt", "answer", "model", "time", "attempts"]
    assert (entry["model"], entry["attempts"]) == ("tiny", 1)
    assert PAIR[0] in entry["prompt"][1]["content"]
    assert Handler.keys == [f"Bearer {KEY}"] * 2
    assert KEY not in audit.read_text() + repr(server)
    assert stat.S_IMODE(audit.stat().st_mode) == 0o600


BAD: dict[str, Act] = {
    "status 500": status(500),
    "status 429": status(429),
    "does not follow the protocol": raw(b'{"choices": ['),
    "does not follow the protocol ": raw(b'{"choices": []}'),
    "without text": says(None),
    "empty": says('  ""\n'),
    "repeats the prompt": echo,
    "cut short": says("The eff", "length"),
    "contains the key": says(f"Use {KEY}"),
    "not text": says("It \ud800"),
    "no reply": late,
}


@pytest.mark.parametrize("problem", BAD)
def test_a_bad_answer_is_asked_again(problem: str, server: ChatServer, tmp_path: Path) -> None:
    Handler.script[:] = [BAD[problem], BAD[problem]]
    waits = Waits()
    answers = progression_texts([PAIR], server, tmp_path / "audit.jsonl", FAST, waits)
    assert answers.texts == ("The effusion has resolved.",)
    assert waits == [0.5, 1.0]
    assert json.loads((tmp_path / "audit.jsonl").read_text())["attempts"] == 3


@pytest.mark.parametrize("problem", BAD)
def test_a_bad_answer_is_never_used(problem: str, server: ChatServer, tmp_path: Path) -> None:
    Handler.script[:] = [BAD[problem]] * 3
    answers = progression_texts([PAIR, ("a", "b")], server, tmp_path / "audit.jsonl", FAST, Waits())
    assert answers.texts == (None, "The effusion has resolved.")
    assert problem.strip() in answers.problems[0]
    assert "attempt 3" in answers.problems[0]
    assert KEY not in str(answers)
    assert list(read_audit(tmp_path / "audit.jsonl").values()) == ["The effusion has resolved."]


def test_a_server_says_how_long_to_wait(server: ChatServer, tmp_path: Path) -> None:
    past = "Wed, 21 Oct 2015 07:28:00 GMT"
    Handler.script[:] = [status(429, Retry_After="7"), status(503, Retry_After=past)]
    waits = Waits()
    assert progression_texts([PAIR], server, tmp_path / "a", FAST, waits).texts[0]
    assert waits == [7.0, 1.0]
    Handler.script[:] = [status(429, Retry_After="7200")]
    given_up = progression_texts([("a", "b")], server, tmp_path / "a", FAST, waits)
    assert "status 429 at attempt 1" in given_up.problems[0]


@pytest.mark.parametrize("header", ["²", "soon", "Wed, 99 Oct 2015", "1e400", "-1", ""])
def test_a_wait_that_is_none_is_not_taken(header: str, server: ChatServer, tmp_path: Path) -> None:
    def act(handler: Handler, body: dict[str, Any]) -> None:
        handler.send_response(429)
        handler.send_header("Content-Length", "0")
        handler._headers_buffer.append(f"Retry-After: {header}\r\n".encode())  # type: ignore[attr-defined]
        handler.end_headers()

    Handler.script[:] = [act]
    waits = Waits()
    assert progression_texts([PAIR], server, tmp_path / "a", FAST, waits).texts[0]
    assert waits == [0.5]


def test_a_server_that_sends_a_byte_now_and_then_is_stopped(server: ChatServer, tmp_path: Path) -> None:
    def drip(handler: Handler, body: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b" ")
            time.sleep(0.05)

    Handler.script[:] = [drip]
    started = time.monotonic()
    answers = progression_texts([PAIR], replace(server, longest=0.4), tmp_path / "a", FAST, Waits())
    assert answers.texts[0] and time.monotonic() - started < 4 and not answers.problems


def test_without_openai_one_sentence_says_how_to_install_it(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(UserError, match=r"pip install 'medloom\[llm\]'"):
        progression_texts([PAIR], server, tmp_path / "a", FAST)


def test_errors_that_no_prompt_can_fix_stop(server: ChatServer, tmp_path: Path) -> None:
    Handler.script[:] = [status(401)]
    with pytest.raises(UserError, match="MEDLOOM_LLM_KEY") as refused:
        progression_texts([PAIR], server, tmp_path / "a", FAST)
    assert KEY not in str(refused.value)
    Handler.script[:] = [status(307, Location="http://192.0.2.1/")]
    with pytest.raises(UserError, match="redirects"):
        progression_texts([PAIR], server, tmp_path / "a", FAST)
    Handler.script[:] = [status(400)]
    assert progression_texts([PAIR], server, tmp_path / "a", FAST).problems == {0: "status 400"}
    assert len(Handler.asked) == 3


def test_limits(server: ChatServer, tmp_path: Path) -> None:
    pairs = [(f"{number}", "x") for number in range(4)]
    some = progression_texts(pairs, server, tmp_path / "a", RequestLimits(requests=2, per_minute=1e6))
    assert [text is not None for text in some.texts] == [True, True, False, False]
    assert "limit of 2 requests" in some.problems[2]
    few = progression_texts(pairs, server, tmp_path / "b", RequestLimits(tokens=430, per_minute=1e6))
    assert 0 < few.tokens <= 430
    assert "430 tokens" in few.problems[3]
    waits = Waits()
    progression_texts(pairs, server, tmp_path / "c", RequestLimits(per_minute=60), waits)
    assert [round(wait) for wait in waits] == [1, 1, 1]


def test_a_truncated_audit_table_is_fixed_and_a_damaged_one_refused(tmp_path: Path) -> None:
    audit = tmp_path / "audit.jsonl"
    line = '{"key": "k", "answer": "No change."}\n'
    audit.write_text(line + line[:12])
    assert read_audit(audit) == {"k": "No change."}
    assert audit.read_text() == line
    audit.write_text("broken\n" + line)
    with pytest.raises(UserError, match="line 1"):
        read_audit(audit)
    assert read_audit(tmp_path / "missing") == {}


def test_texts_leave_the_machine_only_where_that_is_acknowledged() -> None:
    for url in ("http://localhost:1/v1", "http://127.0.0.2/v1/chat/completions", "http://[::1]:8000/v1"):
        assert not chat_server(url, "m", environment={}).url.endswith("/completions")
    for url in ("https://api.example.org/v1", "http://127.0.0.1.example.org/v1", "http://10.0.0.1/v1"):
        with pytest.raises(UserError, match="another machine"):
            chat_server(url, "m", environment={})
        assert chat_server(url, "m", acknowledge=True, environment={}).url == url
    odd = (
        "http://a..b/v1",
        f"http://{'a' * 70}.org/v1",
        "http://127.0.0.1/é",
        "http://bücher.example/v1",
        "http://a b/v1",
    )
    usual = ("ftp://localhost", "localhost:8000", "http://me:word@localhost", "http://localhost:x", "http://[::1")
    for url in (*usual, *odd):
        with pytest.raises(UserError, match="is not valid"):
            chat_server(url, "m", environment={})


def test_the_environment_says_what_is_not_given() -> None:
    environment = {"MEDLOOM_LLM_URL": "http://127.0.0.1/v1/", "MEDLOOM_LLM_MODEL": "m", "MEDLOOM_LLM_KEY": KEY}
    assert chat_server(environment=environment) == ChatServer("http://127.0.0.1/v1", "m", KEY)
    with pytest.raises(UserError, match="MEDLOOM_LLM_URL"):
        chat_server(environment={})
    with pytest.raises(UserError, match="MEDLOOM_LLM_MODEL"):
        chat_server("http://127.0.0.1", environment={})
    with pytest.raises(UserError, match="cannot be sent") as wrong:
        chat_server("http://127.0.0.1", "m", f"{KEY}\n", environment={})
    assert KEY not in str(wrong.value)
