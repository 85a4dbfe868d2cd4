"""Progression texts from a language model: requested once each, checked, stored in an audit table, within a budget.

The audit table has one JSON line per answer and contains the text of the reports. It is as confidential as they are,
readable by its owner only, and belongs in no repository. It does not contain the key.
"""

import json
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from medloom.core.errors import UserError
from medloom.core.files import explained_disk_errors, hash_json, make_folder
from medloom.core.progress import progress
from medloom.report_text.chat_server import AskAgain, ChatServer, NotAnswered, ask

INSTRUCTIONS = (
    "You compare two chest X-ray reports of one patient. Say in one to three short English sentences what changed from"
    " the earlier to the later one: what appeared, resolved, increased or decreased, with its side. Do not mention"
    ' dates, names, or findings that the reports do not state. If nothing changed, answer "No change."'
)
QUESTION = "Earlier report:\n{before}\n\nLater report:\n{after}"
CHARACTERS_A_TOKEN = 3  # a conservative estimate for English, used if the server counts no tokens
ECHO = 80  # characters: a shorter answer may well be a sentence of the report
Messages = list[dict[str, str]]


@dataclass(frozen=True)
class RequestLimits:
    """Budget and rate of requests.

    Attributes:
        requests: total number, retries included; None for no limit.
        tokens: total of questions and answers, counted by the server or estimated; None for no limit.
        per_minute: requests per minute.
        attempts: per question.
        first_wait: seconds before the second attempt, doubled for each further one.
        longest_wait: seconds; if the server asks for more, the question is abandoned.
        answer_tokens: most tokens of one answer.
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
    """The answers.

    Attributes:
        texts: one per pair, in order; None without a usable answer.
        problems: number of the pair, from 0, to what went wrong; run again to repeat these questions.
        requests: sent in this call.
        tokens: used in this call.
    """

    texts: tuple[str | None, ...]
    problems: dict[int, str]
    requests: int
    tokens: int


@dataclass
class _Session:
    """A server with its limits, and what has been used of them."""

    server: ChatServer
    limits: RequestLimits
    audit: Path
    sleep: Callable[[float], None]
    requests: int = 0
    tokens: int = 0
    last: float | None = None


def progression_texts(
    pairs: Sequence[tuple[str, str]],
    server: ChatServer,
    audit: Path,
    limits: RequestLimits | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Answers:
    """Request the progression of each pair of reports.

    Args:
        pairs: the prior and the current report of each.
        server: from `chat_server`.
        audit: the table; questions that it answers are not repeated, new answers are appended at once.
        limits: the default limits if None.
        sleep: waits a number of seconds.

    Raises:
        UserError: the server refuses the key or the model, or the audit table is damaged or cannot be written.
    """
    session = _Session(server, limits or RequestLimits(), Path(audit), sleep)
    known = read_audit(session.audit)
    texts: list[str | None] = []
    problems: dict[int, str] = {}
    with progress("asking", len(pairs), "pairs") as advance:
        for number, (before, after) in enumerate(pairs):
            question = QUESTION.format(before=before.strip(), after=after.strip())
            messages = [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": question}]
            key = hash_json([server.model, messages])
            if key not in known:
                try:
                    known[key] = _answered(session, key, messages)
                except (AskAgain, NotAnswered) as error:
                    problems[number] = str(error)
            texts.append(known.get(key))
            advance()
    return Answers(tuple(texts), problems, session.requests, session.tokens)


def read_audit(path: Path) -> dict[str, str]:
    """Answers of an audit table by the key of their question; an incomplete last line is removed from the file.

    Raises:
        UserError: another line is not an entry.
    """
    if not path.is_file():
        return {}
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        with explained_disk_errors(path), path.open("rb+") as stream:
            stream.truncate(len(whole))
    known: dict[str, str] = {}
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            entry = json.loads(line)
            key, answer = entry["key"], entry["answer"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}, line {number} is not an entry of an audit table; name another file, or remove it."
            ) from error
        if not isinstance(key, str) or not isinstance(answer, str) or not answer:
            raise UserError(f"{path}, line {number} has no key or no answer; name another file, or remove the line.")
        known[key] = answer
    return known


def _answered(session: _Session, key: str, messages: Messages) -> str:
    """Ask until there is a usable answer, and append it to the audit table.

    Raises:
        AskAgain: no attempt gave one; states the problem of the last attempt.
    """
    limits = session.limits
    for attempt in range(1, limits.attempts + 1):
        try:
            answer = _attempt(session, messages)
        except AskAgain as problem:
            wait = max(problem.wait or 0.0, limits.first_wait * 2 ** (attempt - 1))
            if attempt == limits.attempts or (problem.wait or 0.0) > limits.longest_wait:
                raise AskAgain(f"{problem} at attempt {attempt}, given up") from problem
            session.sleep(min(wait, limits.longest_wait))
            continue
        entry = {
            "key": key,
            "prompt": messages,
            "answer": answer,
            "model": session.server.model,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "attempts": attempt,
        }
        with explained_disk_errors(session.audit):
            make_folder(session.audit.parent)
            descriptor = os.open(session.audit, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(json.dumps(entry, ensure_ascii=False) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
        return answer
    raise AskAgain("no attempt is allowed")


def _attempt(session: _Session, messages: Messages) -> str:
    """Send one request within the limits and check its answer.

    Raises:
        AskAgain: the request failed, or the answer is empty, not text, repeats the prompt, or contains the key.
        NotAnswered: the server rejects this prompt, or the budget allows no further request.
    """
    limits, key = session.limits, session.server.key
    estimate = sum(len(message["content"]) for message in messages) // CHARACTERS_A_TOKEN + 1 + limits.answer_tokens
    if limits.requests is not None and session.requests >= limits.requests:
        raise NotAnswered(f"not asked: the limit of {limits.requests} requests is reached")
    if limits.tokens is not None and session.tokens + estimate > limits.tokens:
        raise NotAnswered(f"not asked: the limit of {limits.tokens} tokens would be exceeded")
    if session.last is not None:
        session.sleep(max(session.last + 60 / limits.per_minute - time.monotonic(), 0.0))
    session.last = time.monotonic()
    session.requests += 1
    # The cost of a failed request is unknown; it counts in full, so that the limit holds.
    session.tokens += estimate
    reply, counted = ask(session.server, messages, limits.answer_tokens)
    session.tokens += (estimate if counted is None else counted) - estimate
    answer = " ".join(reply.split()).strip('"').strip()
    prompts = [" ".join(message["content"].split()) for message in messages]
    repeats = [asked[:ECHO] in answer or (len(answer) > ECHO and answer in asked) for asked in prompts]
    faults = (
        (not re.search(r"\w", answer), "an empty answer"),
        (any("\ud800" <= letter <= "\udfff" for letter in reply), "an answer that is not text"),
        (key != "" and key in reply, "an answer that contains the key"),
        (any(repeats), "an answer that repeats the prompt"),
    )
    for present, what in faults:
        if present:
            raise AskAgain(what)
    return answer
