"""Files that users bring, as they are kept: without identifiers, each in its user's folder."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medloom.core.errors import UserError
from medloom.studio.store.database import Database


@dataclass(frozen=True)
class Upload:
    """A file that a user brought, as it is kept: without its identifiers.

    Attributes:
        id: not to be guessed.
        user: whose it is.
        name: what the user called it.
        kind: image or mask.
        file: path within the store's folder.
        facts: size, unit and so on, for the page.
        added: when, in seconds since 1970.
        kept: whether it stays beyond a day.
    """

    id: str
    user: str
    name: str
    kind: str
    file: str
    facts: Mapping[str, Any]
    added: float
    kept: bool = False


class Uploads:
    """The files of a studio.

    Args:
        database: where they are known.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, upload: Upload) -> None:
        """Keep what is known of a file."""
        with self._database.transaction() as connection:
            values = (
                upload.id,
                upload.user,
                upload.name,
                upload.kind,
                upload.file,
                json.dumps(upload.facts),
                upload.added,
            )
            connection.execute(
                "insert into uploads (id, user, name, kind, file, facts, added) values (?, ?, ?, ?, ?, ?, ?)", values
            )

    def of(self, user: str) -> list[Upload]:
        """A user's files, the newest first."""
        query = "select id, user, name, kind, file, facts, added, kept from uploads where user = ? order by added desc"
        return [_upload(row) for row in self._database.rows(query, user)]

    def get(self, user: str, identity: str) -> Upload:
        """A user's file by its name.

        Raises:
            UserError: the user has none of that name.
        """
        found = [upload for upload in self.of(user) if upload.id == identity]
        if not found:
            raise UserError("there is no such file; it was removed after a day or at logout: bring it again.")
        return found[0]

    def keep(self, user: str, identity: str, kept: bool) -> None:
        """Say whether a user's file stays beyond its time.

        Args:
            user: whose.
            identity: the file.
            kept: whether it stays.
        """
        with self._database.transaction() as connection:
            query = "update uploads set kept = ? where user = ? and id = ?"
            connection.execute(query, (int(kept), user, identity))

    def drop(self, user: str, identity: str) -> str:
        """Forget a user's file; returns its path within the store's folder.

        Raises:
            UserError: the user has none of that name.
        """
        file = self.get(user, identity).file
        with self._database.transaction() as connection:
            connection.execute("delete from uploads where user = ? and id = ?", (user, identity))
        return file

    def forget(self, before: float, user: str | None = None) -> list[str]:
        """Remove files that were added before a time and are not kept; returns their paths within the store's folder.

        Args:
            before: the time.
            user: whose; None for everybody's.
        """
        query = "select id, file from uploads where kept = 0 and added < ? and (user = ? or ? is null)"
        with self._database.transaction() as connection:
            found = connection.execute(query, (before, user, user)).fetchall()
            connection.executemany("delete from uploads where id = ?", [(name,) for name, _ in found])
        return [file for _, file in found]


def _upload(row: tuple[Any, ...]) -> Upload:
    identity, user, name, kind, file, facts, added, kept = row
    return Upload(identity, user, name, kind, file, json.loads(facts), added, bool(kept))
