"""The studio's SQLite file: its schema, a connection for each thread, and transactions that explain themselves."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medloom.core.errors import UserError
from medloom.core.files import make_folder

FILE = "studio.sqlite"
# Seconds that a connection waits for another one's transaction.
PATIENCE = 10.0
# What each version of the schema adds to the one before.
SCHEMAS = (
    """
create table jobs (
    id text primary key, number integer not null, user text not null, command text not null, words text not null,
    form text not null, title text not null, state text not null, queued real not null, started real, ended real,
    message text not null default '', progress text not null default '{}', starts integer not null default 0,
    cancelling integer not null default 0
);
create index jobs_by_state on jobs (state, queued);
create index jobs_by_user on jobs (user, number);
create table models (path text primary key, stamp text not null, facts text not null, refusal text not null);
create table sessions (token text primary key, user text not null, secret text not null, used real not null);
create table uploads (
    id text primary key, user text not null, name text not null, kind text not null, file text not null,
    facts text not null, added real not null, kept integer not null default 0
);
""",
    """
create table readings (
    id text primary key, user text not null, title text not null, question text not null, choices text not null,
    items text not null, seed integer not null, reveals integer not null, made real not null
);
create index readings_by_user on readings (user, made);
create table answers (
    reading text not null, place integer not null, answer text not null, comment text not null, seconds real not null,
    locked real not null, primary key (reading, place)
);
""",
)
VERSION = len(SCHEMAS)
FULL = ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE", "SQLITE_CANTOPEN")
DAMAGED = ("SQLITE_NOTADB", "SQLITE_CORRUPT")


class Database:
    """The database of a studio's folder.

    Args:
        folder: of the studio; the file is made where it is missing.

    Raises:
        UserError: another version of medloom wrote it, or it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self.folder = folder.resolve()
        self.path = self.folder / FILE
        self._local = threading.local()
        with self._explained():
            self._prepare()

    def _prepare(self) -> None:
        (version,) = self._connection.execute("pragma user_version").fetchone()
        if not 0 <= version <= VERSION:
            raise UserError(
                f"{self.path} was written by another version of medloom (schema {version}, this one has {VERSION});"
                " use that version, or name another folder with --out."
            )
        if version < VERSION:
            with self.transaction() as connection:
                # Another process may have been faster.
                (version,) = connection.execute("pragma user_version").fetchone()
                for statement in ";".join(SCHEMAS[version:]).split(";"):
                    connection.execute(statement)
                connection.execute(f"pragma user_version = {VERSION}")

    @property
    def _connection(self) -> sqlite3.Connection:
        known: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if known is None:
            known = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
            known.execute("pragma journal_mode = wal")
            # What was acknowledged is on the disk, even if the power fails.
            known.execute("pragma synchronous = full")
            self._local.connection = known
        return known

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say of a full disk and a damaged file what to do."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            name = error.sqlite_errorname
            if name in FULL:
                raise UserError(
                    f"{self.folder} cannot be written ({error}): free some space there and try again; nothing is lost."
                ) from error
            if name in DAMAGED:
                raise UserError(
                    f"{self.path} is damaged or no job store; put it back, or name another folder with --out."
                ) from error
            raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A block whose writes are all made or none; others wait for its end.

        Raises:
            UserError: no space is left.
        """
        with self._explained():
            connection = self._connection
            connection.execute("begin immediate")
            try:
                yield connection
                connection.execute("commit")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("rollback")
                raise

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What a query finds."""
        with self._explained():
            return self._connection.execute(query, values).fetchall()
