"""One request to a chat server that speaks the OpenAI protocol (vLLM, llama.cpp, Ollama, a hosted one)."""

import http.client
import ipaddress
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from medloom.core.errors import UserError

URL, KEY, MODEL = "MEDLOOM_LLM_URL", "MEDLOOM_LLM_KEY", "MEDLOOM_LLM_MODEL"
PATH = "/chat/completions"
LARGEST_REPLY = 1 << 20  # bytes
TRY_AGAIN = (408, 429, 500, 502, 503, 504)
# Of these no other prompt fares better.
REFUSED = (401, 403, 404)


@dataclass(frozen=True)
class ChatServer:
    """Where to ask.

    Attributes:
        url: up to and without `/chat/completions`, e.g. http://127.0.0.1:8000/v1.
        model: its name as the server knows it.
        key: sent as a bearer token; empty where the server needs none. It stands in no message and in no file.
        timeout: seconds without a byte after which a request is given up.
    """

    url: str
    model: str
    key: str = field(default="", repr=False)
    timeout: float = 60.0


@dataclass(frozen=True)
class Reply:
    """An answer, and the tokens that the server counted for question and answer; None where it counts none."""

    text: str
    tokens: int | None


class AskAgain(Exception):
    """A request that may succeed later.

    Attributes:
        wait: seconds that the server asked to wait, or None.
    """

    def __init__(self, what: str, wait: float | None = None) -> None:
        super().__init__(what)
        self.wait = wait


class NotAnswered(Exception):
    """A request that this server will not answer, however often it is sent."""


def chat_server(
    url: str | None = None,
    model: str | None = None,
    key: str | None = None,
    acknowledge: bool = False,
    timeout: float = 60.0,
    environment: Mapping[str, str] = os.environ,
) -> ChatServer:
    """The server to ask: from the arguments, else from MEDLOOM_LLM_URL, MEDLOOM_LLM_MODEL and MEDLOOM_LLM_KEY.

    Args:
        url: up to and without `/chat/completions`.
        model: its name as the server knows it.
        key: empty where the server needs none.
        acknowledge: the user accepts that the texts leave this machine.
        timeout: seconds without a byte after which a request is given up.
        environment: where what is not given is looked up.

    Raises:
        UserError: no address or model, an address that is none, a key that cannot be sent, or an address on another
            machine without `acknowledge`.
    """
    url = (environment.get(URL, "") if url is None else url).rstrip("/").removesuffix(PATH)
    model = environment.get(MODEL, "") if model is None else model
    key = environment.get(KEY, "") if key is None else key
    if not url or not model:
        raise UserError(f"no {'model' if url else 'address'} of a language model; set {MODEL if url else URL}.")
    host = _host(url)
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UserError(f"the key in {KEY} has characters that cannot be sent; give it without spaces or line breaks.")
    if not acknowledge and not _is_loopback(host):
        raise UserError(
            f"the language model at {host} is on another machine, so that the reports would leave this one; run one at"
            " 127.0.0.1, or say --reports-may-leave where that is allowed for these reports."
        )
    return ChatServer(url, model, key, timeout)


def ask(server: ChatServer, messages: Sequence[Mapping[str, str]], most_tokens: int) -> Reply:
    """Send one request.

    Args:
        server: where to.
        messages: role and content of each.
        most_tokens: of the answer.

    Raises:
        AskAgain: no connection, a timeout, a server that is busy or fails, or a reply that is not as the protocol says.
        NotAnswered: the server will not have this prompt.
        UserError: the server refuses the key or the model, is not there, or sends elsewhere.
    """
    body = {"model": server.model, "messages": list(messages), "temperature": 0, "max_tokens": most_tokens}
    try:
        status, headers, content = _post(server, json.dumps(body).encode())
    except (OSError, http.client.HTTPException) as error:
        raise AskAgain(f"no reply ({type(error).__name__})") from error
    _check_status(server, status, headers)
    return _reply(content)


def _post(server: ChatServer, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
    """Status, headers in lower case and content; `http.client` follows no redirect and asks no proxy."""
    parts = urlsplit(server.url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=server.timeout)
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if server.key:
        headers["Authorization"] = f"Bearer {server.key}"
    try:
        connection.request("POST", f"{parts.path}{PATH}", body, headers)
        response = connection.getresponse()
        named = {name.lower(): value for name, value in response.getheaders()}
        return response.status, named, response.read(LARGEST_REPLY + 1)
    finally:
        connection.close()


def _check_status(server: ChatServer, status: int, headers: Mapping[str, str]) -> None:
    """What a status means; a reply's own words are not repeated, as they may hold the key or the report."""
    host = urlsplit(server.url).hostname
    if 300 <= status < 400:
        raise UserError(
            f"the language model at {host} sends elsewhere ({status}), which is not followed; correct {URL}."
        )
    if status in REFUSED:
        raise UserError(
            f"the language model at {host} refused (status {status}); check the key in {KEY}, the model"
            f" {server.model!r} and the address in {URL}."
        )
    if status in TRY_AGAIN:
        raise AskAgain(f"status {status}", _retry_after(headers.get("retry-after", "")))
    if status != 200:
        raise NotAnswered(f"status {status}")


def _retry_after(text: str) -> float | None:
    """Seconds of a Retry-After header: a number, or a date (RFC 9110, 10.2.3)."""
    if text.strip().isdigit():
        return float(text)
    try:
        then = parsedate_to_datetime(text)
    except ValueError:
        return None
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max((then - datetime.now(UTC)).total_seconds(), 0.0)


def _reply(content: bytes) -> Reply:
    if len(content) > LARGEST_REPLY:
        raise AskAgain(f"a reply of more than {LARGEST_REPLY} bytes")
    try:
        value: Any = json.loads(content)
        choice = value["choices"][0]
        text = choice["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise AskAgain("a reply that is not as the protocol says") from error
    if not isinstance(text, str):
        raise AskAgain("a reply without text")
    if choice.get("finish_reason") == "length":
        raise AskAgain("an answer that was cut short")
    usage = value.get("usage")
    tokens = usage.get("total_tokens") if isinstance(usage, dict) else None
    return Reply(text, tokens if isinstance(tokens, int) and not isinstance(tokens, bool) and tokens >= 0 else None)


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.query or parts.fragment:
        raise UserError(
            f"the address of the language model in {URL} is none; give one as http://127.0.0.1:8000/v1, without a name,"
            " a password or a question mark in it."
        )
    return host


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
