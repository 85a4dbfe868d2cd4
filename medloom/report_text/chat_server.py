"""One request to a chat server that speaks the OpenAI protocol (vLLM, llama.cpp, Ollama, or a hosted one)."""

import ipaddress
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from medloom.core.errors import UserError

URL, KEY, MODEL = "MEDLOOM_LLM_URL", "MEDLOOM_LLM_KEY", "MEDLOOM_LLM_MODEL"
PATH = "/chat/completions"
TRY_AGAIN = (408, 429, 500, 502, 503, 504)
# No other prompt would succeed.
REFUSED = (401, 403, 404)


@dataclass(frozen=True)
class ChatServer:
    """A chat server.

    Attributes:
        url: address without `/chat/completions`, e.g. http://127.0.0.1:8000/v1.
        model: its name on the server.
        key: sent as a bearer token; empty if the server needs none. It never appears in a message or a file.
        timeout: seconds without a byte after which a request is abandoned.
        longest: seconds after which a request is abandoned even if bytes still come.
    """

    url: str
    model: str
    key: str = field(default="", repr=False)
    timeout: float = 60.0
    longest: float = 600.0


class AskAgain(Exception):
    """A request that may succeed later.

    Attributes:
        wait: seconds that the server asked to wait, or None.
    """

    def __init__(self, what: str, wait: float | None = None) -> None:
        super().__init__(what)
        self.wait = wait


class NotAnswered(Exception):
    """A question that is not answered: the server rejects it, or the budget is spent."""


def chat_server(
    url: str | None = None,
    model: str | None = None,
    key: str | None = None,
    acknowledge: bool = False,
    timeout: float = 60.0,
    environment: Mapping[str, str] = os.environ,
) -> ChatServer:
    """The server from the arguments, or from MEDLOOM_LLM_URL, MEDLOOM_LLM_MODEL and MEDLOOM_LLM_KEY.

    Args:
        url: address without `/chat/completions`.
        model: its name on the server.
        key: empty if the server needs none.
        acknowledge: the user accepts that the texts leave this machine.
        timeout: seconds without a byte after which a request is abandoned.
        environment: where to look up missing arguments.

    Raises:
        UserError: no address or model, an invalid address, a key that cannot be sent, or an address on another machine
            without `acknowledge`.
    """
    url = (environment.get(URL, "") if url is None else url).rstrip("/").removesuffix(PATH)
    model = environment.get(MODEL, "") if model is None else model
    key = environment.get(KEY, "") if key is None else key
    if not url or not model:
        raise UserError(f"no {'model' if url else 'address'} of a language model; set {MODEL if url else URL}.")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
        # Labels that are empty or too long, which no name has; and letters that an address spells otherwise.
        (host or "").encode("idna")
        if not (parts.path + parts.netloc).isascii() or not url.isprintable() or " " in url:
            host = None
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.query or parts.fragment:
        raise UserError(
            f"the address of the language model in {URL} is not valid; give one like http://127.0.0.1:8000/v1, without"
            " a user name, a password or a question mark."
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UserError(f"the key in {KEY} has characters that cannot be sent; give it without spaces or line breaks.")
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not acknowledge and not loopback:
        raise UserError(
            f"the language model at {host} is on another machine, so that the reports would leave this one; run one at"
            " 127.0.0.1, or give --reports-may-leave if these reports are allowed to leave."
        )
    return ChatServer(url, model, key, timeout)


def ask(server: ChatServer, messages: Sequence[Mapping[str, str]], most_tokens: int) -> tuple[str, int | None]:
    """Send one request by the `openai` package, without retries, redirects or proxies.

    Args:
        server: where to send it.
        messages: role and content of each.
        most_tokens: of the answer.

    Returns:
        The answer, and the tokens that the server counted for question and answer, or None if it counts none.

    Raises:
        AskAgain: no connection, a timeout, a busy or failing server, or a reply that does not follow the protocol.
        NotAnswered: the server rejects this prompt.
        UserError: `openai` is not installed; or the server rejects the key or the model, is not found, or redirects.
    """
    try:
        from openai import APIConnectionError, APIStatusError, DefaultHttpxClient, OpenAI
    except ImportError as error:
        raise UserError("a language model needs the package openai: pip install 'medloom[llm]'.") from error
    http = DefaultHttpxClient(follow_redirects=False, trust_env=False, timeout=server.timeout)
    host = urlsplit(server.url).hostname
    try:
        with OpenAI(base_url=server.url, api_key=server.key or "none", http_client=http, max_retries=0) as client:
            completion = _within(
                server.longest,
                lambda: client.chat.completions.create(
                    model=server.model, messages=list(messages), temperature=0, max_tokens=most_tokens
                ),
                client.close,
            )
        choice = completion.choices[0]
        text, finish, usage = choice.message.content, choice.finish_reason, completion.usage
    except APIConnectionError as error:
        raise AskAgain(f"no reply ({type(error).__name__})") from error
    except APIStatusError as error:
        # The server's own words are not repeated: they may contain the key or the report.
        status = error.status_code
        if 300 <= status < 400:
            raise UserError(
                f"the language model at {host} redirects ({status}), which is not followed; correct {URL}."
            ) from None
        if status in REFUSED:
            raise UserError(
                f"the language model at {host} refused (status {status}); check the key in {KEY}, the model"
                f" {server.model!r} and the address in {URL}."
            ) from None
        if status in TRY_AGAIN:
            raise AskAgain(f"status {status}", _retry_after(error.response.headers.get("retry-after", ""))) from None
        raise NotAnswered(f"status {status}") from None
    except (AttributeError, IndexError, TypeError, ValueError, RecursionError) as error:
        raise AskAgain("a reply that does not follow the protocol") from error
    if not isinstance(text, str):
        raise AskAgain("a reply without text")
    if finish == "length":
        raise AskAgain("an answer that was cut short")
    tokens = getattr(usage, "total_tokens", None)
    return text, tokens if isinstance(tokens, int) and not isinstance(tokens, bool) and tokens >= 0 else None


def _within(seconds: float, call: Callable[[], Any], abandon: Callable[[], None]) -> Any:
    """What a call returns or raises; one that takes longer is abandoned, which ends it.

    Raises:
        AskAgain: it took longer.
    """
    pool = ThreadPoolExecutor(1, "language model")
    future = pool.submit(call)
    try:
        return future.result(seconds)
    except TimeoutError as error:
        if future.done():
            raise
        # Without its connections the call ends too.
        abandon()
        raise AskAgain(f"no whole reply within {seconds:g} s") from error
    finally:
        pool.shutdown(wait=False)


def _retry_after(text: str) -> float | None:
    """Seconds of a Retry-After header: a number, or a date (RFC 9110, 10.2.3)."""
    if text.strip().isascii() and text.strip().isdigit():
        return float(text)
    try:
        then = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max((then - datetime.now(UTC)).total_seconds(), 0.0)
