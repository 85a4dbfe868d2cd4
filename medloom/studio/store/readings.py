"""Blind readings: which images a reader sees in which order, and the answers, of which none is ever changed."""

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from medloom.core.errors import UserError
from medloom.studio.store.database import Database


@dataclass(frozen=True)
class Plan:
    """What a reader sees, and is asked.

    Attributes:
        title: in a line.
        question: that is asked of each image.
        choices: the answers to choose from.
        items: the images in their order: `row:TABLE:LINE@MARK` or `job:ID:NUMBER`.
        seed: of the choice and the order.
        reveals: whether the origin is said after each answer; else after the last one.
    """

    title: str
    question: str
    choices: tuple[str, ...]
    items: tuple[str, ...]
    seed: int
    reveals: bool


@dataclass(frozen=True)
class Reading(Plan):
    """A series of images that a reader sees one after the other, without their origin.

    Attributes:
        id: names it in addresses; not to be guessed.
        user: the reader.
        made: when, in seconds since 1970.
    """

    id: str
    user: str
    made: float


@dataclass(frozen=True)
class Answer:
    """What a reader answered.

    Attributes:
        place: of the image in the reading, from 0.
        answer: one of the choices.
        comment: free text.
        seconds: from the page to the answer, as the browser counted them.
        locked: when, in seconds since 1970.
    """

    place: int
    answer: str
    comment: str
    seconds: float
    locked: float


class Readings:
    """All readings of a studio.

    Args:
        database: where they are kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, user: str, plan: Plan) -> Reading:
        """Begin one."""
        identity, lists = uuid.uuid4().hex, [_text(own) for own in (plan.choices, plan.items)]
        values = (identity, user, plan.title, plan.question, *lists, plan.seed, int(plan.reveals), time.time())
        with self._database.transaction() as connection:
            connection.execute("insert into readings values (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
        return self.get(user, identity)

    def of(self, user: str) -> list[Reading]:
        """A user's readings, the newest first."""
        rows = self._database.rows("select * from readings where user = ? order by made desc", user)
        return [_reading(row) for row in rows]

    def get(self, user: str, identity: str) -> Reading:
        """A user's reading by its name.

        Raises:
            UserError: the user has none of that name.
        """
        rows = self._database.rows("select * from readings where user = ? and id = ?", user, identity)
        if not rows:
            raise UserError("there is no such reading; it may have been removed.")
        return _reading(rows[0])

    def with_images_of(self, job: str) -> list[Reading]:
        """The readings that have images of a job."""
        rows = self._database.rows("select * from readings where items like ?", f"%:{job}:%")
        return [_reading(row) for row in rows]

    def answers(self, reading: Reading) -> dict[int, Answer]:
        """The answers so far, by the place of their image."""
        query = "select place, answer, comment, seconds, locked from answers where reading = ? order by place"
        return {row[0]: Answer(*row) for row in self._database.rows(query, reading.id)}

    def lock(self, reading: Reading, place: int, answer: str, comment: str, seconds: float) -> None:
        """Keep an answer, from now on unchanged; the same one again is no second one.

        Raises:
            UserError: another answer was locked before.
        """
        with self._database.transaction() as connection:
            values = (reading.id, place, answer, comment, seconds, time.time())
            connection.execute("insert or ignore into answers values (?, ?, ?, ?, ?, ?)", values)
            query = "select answer from answers where reading = ? and place = ?"
            (kept,) = connection.execute(query, (reading.id, place)).fetchone()
        if kept != answer:
            raise UserError(f"image {place + 1} was answered with {kept!r} before; an answer that is locked stays.")

    def remove(self, reading: Reading) -> None:
        """Forget a reading and its answers."""
        with self._database.transaction() as connection:
            connection.execute("delete from answers where reading = ?", (reading.id,))
            connection.execute("delete from readings where id = ?", (reading.id,))


def _reading(row: tuple[Any, ...]) -> Reading:
    identity, user, title, question, choices, items, seed, reveals, made = row
    chosen, seen = tuple(json.loads(choices)), tuple(json.loads(items))
    return Reading(title, question, chosen, seen, seed, bool(reveals), identity, user, made)


def _text(values: Sequence[str]) -> str:
    return json.dumps(list(values), ensure_ascii=False)
