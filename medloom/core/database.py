"""SQLite files: a connection for each thread, schemas that grow, and transactions that explain what fails."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from medloom.core.errors import UnwrittenError, UserError
from medloom.core.files import make_folder

# Seconds that a connection waits for another one's transaction.
PATIENCE = 10.0
FULL = ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE", "SQLITE_CANTOPEN", "SQLITE_READONLY")
DAMAGED = ("SQLITE_NOTADB", "SQLITE_CORRUPT")


class Database:
    """A SQLite file; what a transaction wrote is on the disk when it ends, even if the power fails then.

    Args:
        path: of the file; made where it is missing.
        schemas: what each version of the schema adds to the one before.
        kind: what the file is called in messages.
        remedy: what a user can do instead of putting the file back, e.g. `name another file`.
        application: number that such files have, and no others.

    Raises:
        UserError: a newer version of medloom wrote it, it is another kind of file or damaged, or it cannot be written.

    Examples:
        >>> from medloom.core.database import Database
        >>> schemas = ["create table notes (text text);"]
        >>> notes = Database(Path("notes.db"), schemas, "store of notes", "name another file")
        >>> with notes.transaction() as connection:
        ...     _ = connection.execute("insert into notes values ('sharp')")
        >>> notes.rows("select text from notes")
        [('sharp',)]
    """

    def __init__(self, path: Path, schemas: Sequence[str], kind: str, remedy: str, application: int = 0) -> None:
        make_folder(path.parent)
        self.path = path.resolve()
        self._schemas = schemas
        self._kind = kind
        self._remedy = remedy
        self._application = application
        self._local = threading.local()
        # Threads wait for each other here, since SQLite only tries again and again: one of many may have no luck.
        self._writing = threading.Lock()
        with self._explained():
            self._prepare()

    def _prepare(self) -> None:
        latest = len(self._schemas)
        (version,) = self._connection.execute("pragma user_version").fetchone()
        (tables,) = self._connection.execute("select count(*) from sqlite_schema").fetchone()
        if tables:
            require_application(self._connection, self.path, self._kind, self._remedy, self._application)
        if not 0 <= version <= latest:
            raise UserError(
                f"{self.path} was written by another version of medloom (schema {version}, this one has {latest});"
                f" use that version, or {self._remedy}."
            )
        if version < latest:
            with self.transaction() as connection:
                # Another process may have been faster.
                (version,) = connection.execute("pragma user_version").fetchone()
                for schema in self._schemas[version:]:
                    for statement in statements(schema):
                        connection.execute(statement)
                connection.execute(f"pragma application_id = {self._application}")
                connection.execute(f"pragma user_version = {latest}")

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
        with explained_database(self.path, self._kind, self._remedy):
            yield

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A block whose writes are all made or none; others wait for its end.

        Raises:
            UserError: no space is left.
        """
        with self._explained(), self._writing:
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


@contextmanager
def explained_database(path: Path, kind: str, remedy: str) -> Iterator[None]:
    """Say of a full disk and a damaged file what to do."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        # Errors of Python's own module, as of a closed connection, have no name.
        name = getattr(error, "sqlite_errorname", "")
        if name in FULL:
            raise UnwrittenError(
                f"{path.parent} cannot be written ({error}): free some space there and try again; nothing is lost."
            ) from error
        if name in DAMAGED:
            raise UserError(f"{path} is damaged or no {kind}; put it back, or {remedy}.") from error
        raise


def require_application(connection: sqlite3.Connection, path: Path, kind: str, remedy: str, application: int) -> None:
    """Refuse a SQLite file of another kind.

    Raises:
        UserError: names it.
    """
    if connection.execute("pragma application_id").fetchone() != (application,):
        raise UserError(f"{path} is a database, but no {kind}; {remedy}.")


def copy_database(path: Path, to: Path, kind: str, remedy: str, application: int = 0) -> None:
    """Copy a SQLite file as it is at one moment, also while others write it.

    Args:
        path: the file.
        to: the copy, which has no other files.
        kind: what the file is called in messages.
        remedy: as `Database`.
        application: number that such files have.

    Raises:
        UserError: the file is another kind of file or damaged, or cannot be read.
    """
    with (
        explained_database(path, kind, remedy),
        closing(sqlite3.connect(path, timeout=PATIENCE)) as live,
        closing(sqlite3.connect(to)) as copy,
    ):
        require_application(live, path, kind, remedy, application)
        live.backup(copy)
        # Read by one reader alone, without the files that writers share.
        copy.execute("pragma journal_mode = delete")


def statements(schema: str) -> list[str]:
    """The statements of a schema; those of a trigger are parts of one.

    >>> statements("create table a (b); create trigger c after insert on a begin delete from a; select 1; end;")[1]
    'create trigger c after insert on a begin delete from a; select 1; end;'
    """
    found, begun = [], ""
    for part in schema.split(";")[:-1]:
        begun += f"{part};"
        if sqlite3.complete_statement(begun):
            found.append(begun.strip())
            begun = ""
    return found
