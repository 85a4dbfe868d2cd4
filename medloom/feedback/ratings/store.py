"""The store of ratings: one SQLite file to which ratings are only ever added."""

import json
import re
import secrets
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from medloom.core.cells import identifier
from medloom.core.database import Database
from medloom.core.errors import UserError
from medloom.core.file_system import require_local_disk
from medloom.core.files import hash_json
from medloom.feedback.ratings.entries import (
    RATING,
    SKIP,
    UNDO,
    Entry,
    Item,
    Plan,
    Presentation,
    Rater,
    Rating,
    Session,
)
from medloom.feedback.ratings.rubric import checked, checked_comment, checked_seconds, rubric_of

KIND, OPTION = "store of ratings", "--store"
REMEDY = f"name another file with {OPTION}"
# "mlra" in ASCII: what the header of such a file says that it is.
APPLICATION = 0x6D6C7261
DAY = 86400.0
LONGEST_NAME = 40
# What each version of the schema adds to the one before.
SCHEMAS = (
    """
create table raters (name text primary key, key text not null unique, link text not null unique, made real not null);
create table items (
    name text primary key, path text not null, content text not null, source text not null, text text not null,
    modality text not null, unit text, cells text not null
);
create table sessions (
    id integer primary key, rater text not null references raters, number integer not null, mode text not null,
    rubric text not null, version integer not null, round integer not null, seed integer not null,
    blind integer not null, manifests text not null, wait_days real not null, plan text not null, made real not null,
    unique (rater, number)
);
create table presentations (
    id integer primary key, session integer not null references sessions, place integer not null,
    item text not null references items, other text not null, repeat integer not null, unique (session, place)
);
create table ratings (
    number integer primary key, id text not null unique, presentation integer not null references presentations,
    kind text not null, answers text not null, flags text not null, comment text not null, seconds real not null,
    time real not null, supersedes text not null
);
create index ratings_by_presentation on ratings (presentation, number);
create trigger ratings_stay before update on ratings begin select raise(abort, 'ratings stay as they are'); end;
create trigger ratings_remain before delete on ratings begin select raise(abort, 'ratings are not removed'); end;
""",
)


class RatingStore:
    """Raters, what they are shown, and what they said.

    Attributes:
        path: of the file.

    Args:
        path: of the file; made where it is missing.

    Raises:
        UserError: it lies on a network disk, a newer version of medloom wrote it, it is damaged, or it cannot be
            written.

    Examples:
        >>> from pathlib import Path
        >>> from medloom.feedback.ratings.store import RatingStore
        >>> store = RatingStore(Path("ratings.db"))
        >>> [rater.name for rater in store.add_raters(["anna", "ben"])]
        ['anna', 'ben']
    """

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            raise UserError(f"{OPTION} {path} is a folder; name a file, for example {path / 'ratings.db'}.")
        require_local_disk(path, OPTION)
        self._database = Database(path, SCHEMAS, KIND, REMEDY, APPLICATION)
        self.path = self._database.path

    def raters(self) -> list[Rater]:
        """All raters, in the order in which they came."""
        return [Rater(*row) for row in self._database.rows("select name, link from raters order by made, rowid")]

    def add_raters(self, names: Sequence[str]) -> list[Rater]:
        """The raters of some names, added where they are new.

        Raises:
            UserError: a name that is none, or that differs from another one only by case or spaces.
        """
        keys = {name: rater_key(name) for name in names}
        known = {rater_key(rater.name): rater.name for rater in self.raters()}
        for place, (name, key) in enumerate(keys.items()):
            alike = known.get(key) or next((other for other in list(keys)[:place] if keys[other] == key), name)
            if alike != name:
                raise UserError(
                    f"the raters {alike!r} and {name!r} differ only by case or spaces; give one rater one name, and"
                    " another rater a name that is not mistaken for it."
                )
        with self._database.transaction() as connection:
            for name, key in keys.items():
                slug = re.sub("[^a-z0-9]+", "-", key).strip("-") or "rater"
                values = (name, key, f"{slug}-{secrets.token_urlsafe(18)}", time.time())
                connection.execute("insert or ignore into raters values (?, ?, ?, ?)", values)
        found = {rater.name: rater for rater in self.raters()}
        return [found[name] for name in keys]

    def rater(self, name: str) -> Rater:
        """A rater by name.

        Raises:
            UserError: the store has none of that name.
        """
        known = self.raters()
        for rater in known:
            if rater.name == name:
                return rater
        listed = ", ".join(rater.name for rater in known) or "none"
        raise UserError(f"{self.path} has no rater {name!r}; its raters: {listed}.")

    def rater_of_link(self, link: str) -> Rater:
        """A rater by the last part of the own address.

        Raises:
            UserError: it is none's.
        """
        for rater in self.raters():
            if secrets.compare_digest(rater.link.encode(), link.encode()):
                return rater
        raise UserError("this is no rater's address; open the one that was printed when the studio was started.")

    def add(self, plans: Sequence[Plan], items: Iterable[Item]) -> list[Session]:
        """Add sessions with their items, all or none; those that the store has already stay as they are.

        Raises:
            UserError: the store has another session of that rater and number, another item of that name, or not the
                rater.
        """
        with self._database.transaction() as connection:
            for item in items:
                row = (item.name, str(item.path), item.content, item.source, item.text, item.modality, item.unit)
                query = "select content, text, source from items where name = ?"
                found = connection.execute(query, (item.name,)).fetchone()
                if found is None:
                    connection.execute("insert into items values (?, ?, ?, ?, ?, ?, ?, ?)", (*row, _json(item.cells)))
                elif found[:2] != (item.content, item.text):
                    raise UserError(
                        f"{self.path} has another image of the name {item.name!r}; give the images of another study"
                        f" another store with {OPTION}."
                    )
                elif item.source and found[2] and item.source != found[2]:
                    raise UserError(
                        f"{self.path} has {item.path.name} as {found[2]}, and now it is given as {item.source}; name it"
                        " either with --rate or with --rating-real."
                    )
                else:
                    # The same image may lie elsewhere now, and its origin may be known only now.
                    values = (str(item.path), found[2] or item.source, item.name)
                    connection.execute("update items set path = ?, source = ? where name = ?", values)
            for plan in plans:
                query = "select plan from sessions where rater = ? and number = ?"
                known = connection.execute(query, (plan.rater, plan.number)).fetchone()
                if known is None:
                    self._insert(connection, plan)
                elif known[0] != plan_hash(plan):
                    raise UserError(
                        f"{self.path} has another session {plan.number} of {plan.rater}: other images, options or seed;"
                        f" give the same ones to resume it, or another {OPTION} or --round."
                    )
        return [self.session(plan.rater, plan.number) for plan in plans]

    def _insert(self, connection: Any, plan: Plan) -> None:
        rubric = rubric_of(plan.rubric)
        values = (plan.rater, plan.number, plan.mode, rubric.name, rubric.version, plan.round, plan.seed)
        more = (int(plan.blind), _json(plan.manifests), plan.wait_days, plan_hash(plan), time.time())
        if not connection.execute("select 1 from raters where name = ?", (plan.rater,)).fetchone():
            raise UserError(f"{self.path} has no rater {plan.rater!r}; add it with --raters.")
        query = "insert into sessions values (null, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        made = connection.execute(query, (*values, *more))
        shown = [
            (made.lastrowid, place, each.item, each.other, each.repeat) for place, each in enumerate(plan.presentations)
        ]
        connection.executemany("insert into presentations values (null, ?, ?, ?, ?, ?)", shown)

    def session(self, rater: str, number: int) -> Session:
        """A session of a rater.

        Raises:
            UserError: the rater has none of that number.
        """
        rows = self._database.rows("select * from sessions where rater = ? and number = ?", rater, number)
        if not rows:
            raise UserError(f"{rater} has no session {number}.")
        return self._session(rows[0])

    def sessions(self, rater: str | None = None) -> list[Session]:
        """The sessions of a rater, or of all, in order."""
        query = "select * from sessions where ? in (rater, '') order by rater, number"
        rows = self._database.rows(query, rater or "")
        return [self._session(row) for row in rows]

    def _session(self, row: tuple[Any, ...]) -> Session:
        identity, rater, number, mode, rubric, version, turn, seed, blind, manifests, wait, _, made = row
        query = "select item, other, repeat from presentations where session = ? order by place"
        shown = tuple(Presentation(*each) for each in self._database.rows(query, identity))
        known = (rater, number, mode, rubric, turn, seed, bool(blind), tuple(json.loads(manifests)), wait, shown)
        return Session(*known, identity, version, made)

    def item(self, name: str) -> Item:
        """An item by its name.

        Raises:
            UserError: there is none.
        """
        rows = self._database.rows("select * from items where name = ?", name)
        if not rows:
            raise UserError(f"{self.path} has no image of the name {name!r}.")
        return item_of(rows[0])

    def latest(self, session: Session) -> dict[int, Rating]:
        """The last entry of each place of a session that has one, an entry that something was undone among them."""
        query = (
            "select p.place, r.* from presentations p join ratings r on r.presentation = p.id"
            " where p.session = ? and r.number ="
            " (select max(number) from ratings where presentation = p.id) order by p.place"
        )
        return {row[0]: rating_of(row[1:]) for row in self._database.rows(query, session.id)}

    def given(self, session: Session, place: int) -> Rating | None:
        """The last rating of a place, whether it was undone or not; None where there was none."""
        query = (
            "select r.* from presentations p join ratings r on r.presentation = p.id"
            " where p.session = ? and p.place = ? and r.kind = ? order by r.number desc limit 1"
        )
        rows = self._database.rows(query, session.id, place, RATING)
        return rating_of(rows[0]) if rows else None

    def opens(self, session: Session) -> float | None:
        """When a session may begin, in seconds since 1970; None while the session that it waits for is not over."""
        before = [other for other in self.sessions(session.rater) if 0 < other.number < session.number]
        if not session.wait_days or not before:
            return 0.0
        entries = self.latest(before[-1])
        if sum(entry.kind != UNDO for entry in entries.values()) < len(before[-1].presentations):
            return None
        return max(entry.time for entry in entries.values()) + session.wait_days * DAY

    def post(self, session: Session, place: int, entry: Entry) -> Rating:
        """Keep what a rater did; when this returns, it is on the disk. The same entry again is no second one.

        Raises:
            UserError: the session has no such place, the entry's id is no UUID or was used for another entry, or the
                answers are none of the rubric.
        """
        entry = _checked(session, entry)
        with self._database.transaction() as connection:
            query = "select id from presentations where session = ? and place = ?"
            presentation = connection.execute(query, (session.id, place)).fetchone()
            if presentation is None:
                raise UserError(f"session {session.number} of {session.rater} has no image {place + 1}.")
            known = connection.execute("select * from ratings where id = ?", (entry.id,)).fetchone()
            if known is not None:
                kept = rating_of(known)
                if known[2] == presentation[0] and _says(kept) == _says(entry):
                    return kept
                raise UserError(f"the rating {entry.id} was sent before with other content; what was kept first stays.")
            query = "select id from ratings where presentation = ? order by number desc limit 1"
            before = connection.execute(query, presentation).fetchone()
            superseded = before[0] if before else ""
            words = (_json(entry.answers), " ".join(entry.flags), entry.comment, entry.seconds, now := time.time())
            values = (entry.id, presentation[0], entry.kind, *words, superseded)
            connection.execute("insert into ratings values (null, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
        return Rating(**_fields(entry), time=now, supersedes=superseded)


def rating_of(row: Sequence[Any]) -> Rating:
    """A rating from its row in the store."""
    _, identity, _, kind, answers, flags, comment, seconds, moment, supersedes = row
    return Rating(identity, kind, json.loads(answers), tuple(flags.split()), comment, seconds, moment, supersedes)


def item_of(row: Sequence[Any]) -> Item:
    """An item from its row in the store."""
    name, path, content, source, text, modality, unit, cells = row
    return Item(name, Path(path), content, source, text, modality, unit, json.loads(cells))


def rater_key(name: str) -> str:
    """What two names of one rater have in common.

    Raises:
        UserError: no name of a rater.

    >>> rater_key("Anna B"), rater_key("annab")
    ('annab', 'annab')
    """
    if not name or identifier(name) != name or len(name) > LONGEST_NAME or set(name) & set(",/\\"):
        raise UserError(
            f"--raters: {name!r} is no name of a rater; it has 1 to {LONGEST_NAME} characters, without commas, slashes"
            " and blanks at its ends."
        )
    return "".join(name.split()).casefold()


def plan_hash(plan: Plan) -> str:
    """What differs between two sessions: what is shown, in which order, and how."""
    shown = [[each.item, each.other, each.repeat] for each in plan.presentations]
    return hash_json([plan.mode, plan.rubric, plan.round, plan.blind, plan.wait_days, shown])


def _checked(session: Session, entry: Entry) -> Entry:
    try:
        identity = str(uuid.UUID(entry.id))
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{entry.id!r} is no UUID, by which a rating is known when it is sent again.") from error
    if entry.kind in (SKIP, UNDO):
        return Entry(identity, entry.kind, {}, (), checked_comment(entry.comment), checked_seconds(entry.seconds))
    if entry.kind != RATING:
        raise UserError(f"an entry is a {RATING}, a {SKIP} or an {UNDO}, not {entry.kind!r}.")
    answers = checked(rubric_of(session.rubric), entry.answers, entry.flags, entry.comment, entry.seconds)
    return Entry(identity, RATING, answers.values, answers.flags, answers.comment, answers.seconds)


def _says(entry: Entry) -> tuple[Any, ...]:
    return (entry.kind, dict(entry.answers), entry.flags, entry.comment, entry.seconds)


def _fields(entry: Entry) -> dict[str, Any]:
    return {field.name: getattr(entry, field.name) for field in fields(Entry)}


def _json(value: Mapping[str, Any] | Sequence[str]) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
