"""The queue: jobs as pages see them, and as the worker does.

A job is a command line. It is queued, running, done, failed or cancelled. Whoever is killed leaves a store from which
the next start resumes: a job that was running is queued again, and its command resumes.
"""

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medloom.core.errors import UserError
from medloom.studio.store.database import Database

QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"
ENDED = (DONE, FAILED, CANCELLED)
# A job that ends its worker so often is not begun again.
MOST_STARTS = 3
ENDED_ITS_WORKER = (
    f"the worker ended {MOST_STARTS} times while it ran this job, for example because the memory was used up; ask for"
    " fewer or smaller images"
)
# No job has a larger number.
LAST = 2**62
# Jobs of one user that wait or run.
MOST_QUEUED = 50


@dataclass(frozen=True)
class Job:
    """A command line in the queue, or what became of it.

    Attributes:
        id: names its result folder; not to be guessed.
        number: counts all jobs of the store, for people.
        user: whose it is.
        command: words of the command: generate, edit, whatif, ...
        words: its arguments, without the output folder.
        form: what the user filled in, to be recalled.
        title: what it is, in a line.
        state: queued, running, done, failed or cancelled.
        queued: when, in seconds since 1970.
        started: when it was begun last, or None.
        ended: when it was done, failed or cancelled, or None.
        message: what went wrong, or what the command said last.
        progress: what, done, total, unit and seconds left, as far as known.
        starts: how often it was begun.
        cancelling: whether its user wants it ended.
    """

    id: str
    number: int
    user: str
    command: str
    words: tuple[str, ...]
    form: Mapping[str, Any]
    title: str
    state: str
    queued: float
    started: float | None = None
    ended: float | None = None
    message: str = ""
    progress: Mapping[str, Any] = field(default_factory=dict)
    starts: int = 0
    cancelling: bool = False

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ENDED


COLUMNS = ", ".join(Job.__dataclass_fields__)


class Jobs:
    """All jobs of a studio.

    Args:
        database: where they are kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def _found(self, condition: str, *values: object) -> list[Job]:
        return [_job(row) for row in self._database.rows(f"select {COLUMNS} from jobs {condition}", *values)]  # noqa: S608

    # Jobs, as pages see them.

    def add(
        self, user: str, command: str, words: Sequence[str], title: str, form: Mapping[str, Any] | None = None
    ) -> Job:
        """Queue a command line.

        Raises:
            UserError: the user has too many in the queue.
        """
        new = uuid.uuid4().hex
        with self._database.transaction() as connection:
            query = "select count(*) from jobs where user = ? and state in (?, ?)"
            (waiting,) = connection.execute(query, (user, QUEUED, RUNNING)).fetchone()
            if waiting >= MOST_QUEUED:
                raise UserError(f"{waiting} of your jobs are in the queue; wait for one of them, or cancel some.")
            (last,) = connection.execute("select coalesce(max(number), 0) from jobs").fetchone()
            connection.execute(
                "insert into jobs (id, number, user, command, words, form, title, state, queued)"
                " values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (new, last + 1, user, command, _text(list(words)), _text(form or {}), title, QUEUED, time.time()),
            )
        return self.get(new)

    def get(self, identity: str) -> Job:
        """A job by its name.

        Raises:
            UserError: there is none of that name.
        """
        found = self._found("where id = ?", identity)
        if not found:
            raise UserError("there is no such job; it may have been removed.")
        return found[0]

    def of(self, user: str, limit: int = 50, before: int | None = None) -> list[Job]:
        """A user's jobs, the newest first.

        Args:
            user: whose.
            limit: how many.
            before: a number; only jobs with a smaller one.
        """
        earlier = LAST if before is None else max(0, min(before, LAST))
        return self._found("where user = ? and number < ? order by number desc limit ?", user, earlier, limit)

    def queue(self) -> list[Job]:
        """What runs and what waits, in the order in which it will be begun: the users take turns."""
        return [*self._found("where state = ? order by started", RUNNING), *self._waiting()]

    def _waiting(self) -> list[Job]:
        turns: dict[str, int] = {}
        ordered = []
        for job in self._found("where state = ? order by number", QUEUED):
            turns[job.user] = turns.get(job.user, 0) + 1
            ordered.append((turns[job.user], job.number, job))
        # A job that was begun before is resumed first: its folder is half-written.
        return [job for _, _, job in sorted(ordered, key=lambda entry: (entry[2].starts == 0, *entry[:2]))]

    def place(self, job: Job) -> int:
        """How many jobs are before it in the queue."""
        return next((place for place, other in enumerate(self.queue()) if other.id == job.id), 0)

    def cancel(self, job: Job) -> None:
        """End a job: at once if it waits, else as soon as its worker sees it."""
        with self._database.transaction() as connection:
            connection.execute(
                "update jobs set state = ?, ended = ?, message = ? where id = ? and state = ?",
                (CANCELLED, time.time(), "cancelled before it was begun", job.id, QUEUED),
            )
            connection.execute("update jobs set cancelling = 1 where id = ? and state = ?", (job.id, RUNNING))

    def every(self, command: str, state: str) -> list[Job]:
        """All users' jobs of a command in a state, the oldest first."""
        return self._found("where command = ? and state = ? order by number", command, state)

    def remove(self, job: Job) -> None:
        """Forget a job that is over.

        Raises:
            UserError: it waits or runs.
        """
        if not self.get(job.id).is_over:
            raise UserError("the job is not over; cancel it first.")
        with self._database.transaction() as connection:
            connection.execute("delete from jobs where id = ?", (job.id,))

    # Jobs, as the worker sees them.

    def requeue(self) -> None:
        """Queue again what a worker was running that is no more; a job that ended it several times fails."""
        with self._database.transaction() as connection:
            connection.execute(
                "update jobs set state = ?, ended = ?, message = ? where state = ? and starts >= ?",
                (FAILED, time.time(), ENDED_ITS_WORKER, RUNNING, MOST_STARTS),
            )
            connection.execute(
                "update jobs set state = ?, ended = ?, message = ? where state = ? and cancelling = 1",
                (CANCELLED, time.time(), "cancelled", RUNNING),
            )
            connection.execute("update jobs set state = ? where state = ?", (QUEUED, RUNNING))

    def take(self) -> Job | None:
        """The next job, which is running from now on; None where none waits."""
        with self._database.transaction() as connection:
            waiting = self._waiting()
            if not waiting:
                return None
            connection.execute(
                "update jobs set state = ?, started = ?, starts = starts + 1, progress = '{}' where id = ?",
                (RUNNING, time.time(), waiting[0].id),
            )
        return self.get(waiting[0].id)

    def is_cancelling(self, job: Job) -> bool:
        """Whether its user wants it ended."""
        return self.get(job.id).cancelling

    def note(self, job: Job, progress: Mapping[str, Any]) -> None:
        """Say how far it is."""
        with self._database.transaction() as connection:
            connection.execute("update jobs set progress = ? where id = ?", (_text(progress), job.id))

    def finish(self, job: Job, state: str, message: str = "") -> None:
        """Say what became of it; queued again, it is resumed at the next start."""
        ended = None if state == QUEUED else time.time()
        # A job that is given back by a worker that ends was not its end.
        starts = job.starts - 1 if state == QUEUED else job.starts
        with self._database.transaction() as connection:
            connection.execute(
                "update jobs set state = ?, ended = ?, message = ?, starts = ?, cancelling = 0 where id = ?",
                (state, ended, message, starts, job.id),
            )


def _job(row: tuple[Any, ...]) -> Job:
    values = dict(zip(Job.__dataclass_fields__, row, strict=True))
    values["words"] = tuple(json.loads(values["words"]))
    for name in ("form", "progress"):
        values[name] = json.loads(values[name])
    values["cancelling"] = bool(values["cancelling"])
    return Job(**values)


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
