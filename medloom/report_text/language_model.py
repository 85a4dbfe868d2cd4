"""Progression texts from a language model: asked once each, checked, kept in an audit table, within a budget.

The audit table is JSON lines, one an answer, and holds the reports' words: it is as confidential as they are, is
readable by its owner alone, and belongs in no repository. It does not hold the key.
"""

import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from medloom.core.errors import UserError
from medloom.core.files import explained_disk_errors, hash_json
from medloom.core.progress import progress
from medloom.report_text.chat_server import AskAgain, ChatServer, NotAnswered, ask

INSTRUCTIONS = (
    "You compare two chest X-ray reports of one patient. Say in one to three short English sentences what changed from"
    " the earlier to the later one: what appeared, resolved, increased or decreased, with its side. Do not mention"
    ' dates, names, or findings that the reports do not state. If nothing changed, answer "No change."'
)
QUESTION = "Earlier report:\n{before}\n\nLater report:\n{after}"
AUDIT_KEYS = ("key", "prompt", "answer", "model", "time", "attempts")
CHARACTERS_A_TOKEN = 3  # on the careful side of what English has, where the server counts none
ECHO = 80  # characters: a shorter answer may well stand in a report word for word
Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Limits:
    """How much is asked, and how fast.

    Attributes:
        requests: in all, retries included; None for no limit.
        tokens: of questions and answers in all, as the server counts them or estimated; None for no limit.
        per_minute: requests.
        attempts: of one question.
        first_wait: seconds before the second attempt, doubled for each further one.
        longest_wait: seconds; where the server asks for more, the question is given up.
        answer_tokens: of one answer.
    """

    requests: int | None = None
    tokens: int | None = None
    per_minute: float = 60.0
    attempts: int = 4
    first_wait: float = 1.0
    longest_wait: float = 120.0
    answer_tokens: int = 200


@dataclass(frozen=True)
class Answers:
    """What was answered.

    Attributes:
        texts: one a pair, in order; None where there is no answer that can be used.
        problems: number of the pair, from 0, to what went wrong; run again to ask these once more.
        requests: sent now.
        tokens: used now.
    """

    texts: tuple[str | None, ...]
    problems: dict[int, str]
    requests: int
    tokens: int


@dataclass
class _Spent:
    """What has been used of the limits."""

    requests: int = 0
    tokens: int = 0
    last: float | None = None


@dataclass(frozen=True)
class _Asking:
    server: ChatServer
    limits: Limits
    audit: Path
    sleep: Callable[[float], None]
    spent: _Spent = field(default_factory=_Spent)


class _BudgetSpent(Exception):
    """Nothing more may be asked."""


def progression_texts(
    pairs: Sequence[tuple[str, str]],
    server: ChatServer,
    audit: Path,
    limits: Limits | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Answers:
    """Ask for the progression of each pair of reports.

    Args:
        pairs: the earlier and the later report of each.
        server: of `chat_server`.
        audit: the table; what it holds is not asked again, what is answered is appended at once.
        limits: the usual ones where None.
        sleep: waits so many seconds.

    Raises:
        UserError: the server refuses the key or the model, or the audit table is damaged or cannot be written.
    """
    asking = _Asking(server, limits or Limits(), Path(audit), sleep)
    known = read_audit(asking.audit)
    texts: list[str | None] = []
    problems: dict[int, str] = {}
    with progress("asking", len(pairs), "pairs") as advance:
        for number, (before, after) in enumerate(pairs):
            messages = _messages(before, after)
            key = hash_json([server.model, messages])
            if key not in known:
                try:
                    known[key] = _answered(asking, key, messages)
                except (AskAgain, NotAnswered, _BudgetSpent) as error:
                    problems[number] = str(error)
            texts.append(known.get(key))
            advance()
    return Answers(tuple(texts), problems, asking.spent.requests, asking.spent.tokens)


def read_audit(path: Path) -> dict[str, str]:
    """Key of each question in an audit table to its answer; a last line that was cut short is removed from the file.

    Raises:
        UserError: another line is no entry.
    """
    if not path.is_file():
        return {}
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        with explained_disk_errors(path), path.open("rb+") as stream:
            stream.truncate(len(whole))
    entries = [_entry(path, number, line) for number, line in enumerate(whole.splitlines(), 1)]
    return dict(entries)


def _entry(path: Path, number: int, line: bytes) -> tuple[str, str]:
    try:
        entry = json.loads(line)
        key, answer = entry["key"], entry["answer"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}, line {number} is no entry of an audit table; name another file, or remove it."
        ) from error
    if not isinstance(key, str) or not isinstance(answer, str) or not answer:
        raise UserError(f"{path}, line {number} has no key or no answer; name another file, or remove the line.")
    return key, answer


def _messages(before: str, after: str) -> Messages:
    question = QUESTION.format(before=before.strip(), after=after.strip())
    return [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": question}]


def _answered(asking: _Asking, key: str, messages: Messages) -> str:
    """Ask until an answer can be used.

    Raises:
        AskAgain: no attempt brought one; it says what the last one brought.
    """
    attempts = asking.limits.attempts
    for attempt in range(1, attempts + 1):
        try:
            text = _attempt(asking, messages)
        except AskAgain as problem:
            wait = max(problem.wait or 0.0, asking.limits.first_wait * 2 ** (attempt - 1))
            if attempt == attempts or (problem.wait or 0.0) > asking.limits.longest_wait:
                raise AskAgain(f"{problem} at attempt {attempt}, given up") from problem
            asking.sleep(min(wait, asking.limits.longest_wait))
        else:
            _append(asking, key, messages, text, attempt)
            return text
    raise AskAgain("no attempt is allowed")


def _attempt(asking: _Asking, messages: Messages) -> str:
    """One request within the limits, its answer checked."""
    limits, spent = asking.limits, asking.spent
    estimate = sum(len(message["content"]) for message in messages) // CHARACTERS_A_TOKEN + 1 + limits.answer_tokens
    if limits.requests is not None and spent.requests >= limits.requests:
        raise _BudgetSpent(f"not asked: the limit of {limits.requests} requests is reached")
    if limits.tokens is not None and spent.tokens + estimate > limits.tokens:
        raise _BudgetSpent(f"not asked: the limit of {limits.tokens} tokens would be passed")
    if spent.last is not None:
        asking.sleep(max(spent.last + 60 / limits.per_minute - time.monotonic(), 0.0))
    spent.last = time.monotonic()
    spent.requests += 1
    # What a failed request has used is not known; it is counted in full, so that the limit holds.
    spent.tokens += estimate
    reply = ask(asking.server, messages, limits.answer_tokens)
    spent.tokens += (estimate if reply.tokens is None else reply.tokens) - estimate
    return _checked(reply.text, messages, asking.server.key)


def _checked(text: str, messages: Sequence[Mapping[str, str]], key: str) -> str:
    """An answer in one line.

    Raises:
        AskAgain: it is empty or no text, repeats the prompt, or holds the key.
    """
    answer = " ".join(text.split()).strip('"').strip()
    if not re.search(r"\w", answer):
        raise AskAgain("an empty answer")
    if not text.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise AskAgain("an answer that is no text")
    if key and key in text:
        raise AskAgain("an answer that holds the key")
    for message in messages:
        asked = " ".join(message["content"].split())
        if asked[:ECHO] in answer or (len(answer) > ECHO and answer in asked):
            raise AskAgain("an answer that repeats the prompt")
    return answer


def _append(asking: _Asking, key: str, messages: Messages, answer: str, attempts: int) -> None:
    """One line at the end of the audit table, on the disk before the next question."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    values = (key, messages, answer, asking.server.model, now, attempts)
    line = json.dumps(dict(zip(AUDIT_KEYS, values, strict=True)), ensure_ascii=False) + "\n"
    with explained_disk_errors(asking.audit):
        asking.audit.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(asking.audit, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
